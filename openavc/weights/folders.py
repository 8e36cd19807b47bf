"""Models that are folders in transformers' layout: what is read of one, its digest, and the network that it is of.

Only files at the top of a folder are read, and of these only JSON, text, tokenizers and safetensors: no code is run,
and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regular import check_regular
from .digests import sha256_of
from .tensors import check_numbers

if TYPE_CHECKING:
    import torch

    from ..models.contract import AudioVisualModel

ENDINGS = (".json", ".safetensors", ".txt", ".model", ".jinja")  # of the files that are read
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_NEEDED = (  # one of each
    ("config.json",),
    (_WEIGHTS, _INDEX),
    ("processor_config.json", "preprocessor_config.json"),
    ("tokenizer.json", "tokenizer_config.json"),
)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder in transformers' layout, complete or not."""
    return (path / "config.json").is_file()


def is_read(name: str) -> bool:
    """Whether a file of this name, its path below a folder, is read from it."""
    return "/" not in name and name.endswith(ENDINGS)


def check_complete(folder: Path) -> None:
    """Raise FileNotFoundError if a folder lacks a file that a model is read from, OSError if one is damaged JSON."""
    for names in _NEEDED:
        if not any((folder / name).is_file() for name in names):
            raise FileNotFoundError(f"{folder} lacks {' or '.join(names)}, which a model in transformers' layout has")
    for path in sorted(folder.glob("*.json")):
        _parsed(path)
    if not (folder / _WEIGHTS).is_file():
        for name in sorted(set(_json(folder / _INDEX).get("weight_map", {}).values())):
            if not (folder / str(name)).is_file():
                raise FileNotFoundError(f"{folder} lacks {name}, which {_INDEX} names")


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of the list of SHA-256 that `sha256sum` prints for all files that are read, sorted by name."""
    names = sorted(path.name for path in folder.iterdir() if is_read(path.name))
    return hashlib.sha256("".join(f"{sha256_of(folder / name)}  {name}\n" for name in names).encode()).hexdigest()


def commit_of(folder: Path) -> str:
    """Return the commit that a folder in a cache of the Hub is of; empty for another folder."""
    return folder.name if folder.parent.name == "snapshots" else ""


def read_folder(folder: Path, dtype: torch.dtype, options: dict[str, Any]) -> AudioVisualModel:
    """Build the network of a folder in transformers' layout, with its weights and the options of its class.

    Raises
    ------
    ImportError
        If the packages that the network needs aren't installed.
    ValueError
        If openavc doesn't know the network, an option is unknown or wrong, or the tensors aren't those of the network
        or hold numbers that it can't compute with.
    OSError
        If a file is missing or damaged.
    """
    from safetensors import SafetensorError

    from ..models import FOLDERS

    check_complete(folder)
    kind = _json(folder / "config.json").get("model_type")
    if kind not in list(FOLDERS):
        raise ValueError(f"{folder} holds a model of type {kind!r}; openavc knows {', '.join(map(repr, FOLDERS))}")
    known = list(inspect.signature(FOLDERS[kind]).parameters)[2:]  # after network and processor
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{kind} has no option {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    try:
        model = FOLDERS[kind].from_folder(folder, **options)
    except SafetensorError as error:
        raise OSError(f"the weights in {folder} are not safetensors, or are cut short: {error}") from error
    except (ImportError, OSError, ValueError):
        raise
    except Exception as error:  # files that aren't what transformers expects raise errors of any type
        reason = " ".join(f"{type(error).__name__}: {error}".split()[:100])
        raise ValueError(f"{folder} can't be read as a model: {reason}") from error
    check_numbers(folder, model.state_dict(), dtype)
    model.architecture = {"architecture": kind} | options
    return model


def _parsed(path: Path) -> Any:
    """Return what a file of JSON holds; raise OSError if it isn't JSON."""
    check_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OSError(f"{path} is damaged: it is not JSON: {error}") from None


def _json(path: Path) -> dict:
    """Return the object in a file of JSON; raise OSError if it isn't one."""
    found = _parsed(path)
    if not isinstance(found, dict):
        raise OSError(f"{path} is damaged: it holds no JSON object")
    return found
