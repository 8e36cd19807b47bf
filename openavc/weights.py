"""Manifest to verified local file to loaded model.

A model's file is searched in the sources that `weights_manifest.json` names, in their order: inside the package, on the
Hugging Face Hub at a pinned revision, or, for OpenL3's own files, where their authors published them. Every file is
checked against its digest before it is read; files are safetensors, or converted to it; nothing is unpickled.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import json
import os
from pathlib import Path

from . import openl3_weights

_PACKAGE = Path(__file__).parent
PRETRAINED = _PACKAGE / "pretrained"
# options that the weights are of; no other value fits
_HELD = ("input_repr", "widths", "modalities", "rectified", "motion", "frames")


@functools.cache
def manifest() -> list[dict]:
    """The entries of `weights_manifest.json`, the default model first.

    A wheel carries the file inside the package, a checkout keeps it beside the package.
    """
    inside, beside = _PACKAGE / "weights_manifest.json", _PACKAGE.parent / "weights_manifest.json"
    return json.loads((inside if inside.exists() else beside).read_text(encoding="utf-8"))["models"]


def list_models() -> list[str]:
    """Names of the models that can be loaded, the default first."""
    return [entry["name"] for entry in manifest()]


def model_info(name: str) -> dict:
    """The manifest entry of a model: architecture, sizes, file, licence, training data, measured figures.

    Raises
    ------
    ValueError
        If there is no such model, with the nearest names.
    """
    return json.loads(json.dumps(_entry(name)))  # a copy: the caller may change it


def _entry(name: str) -> dict:
    if not isinstance(name, str):
        raise TypeError(f"a model's name must be a str, got {type(name).__name__}")
    for entry in manifest():
        if entry["name"] == name:
            return entry
    near = difflib.get_close_matches(name, list_models(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "give a path to use a file of your own."
    raise ValueError(f"there is no model {name!r}; the models are {', '.join(map(repr, list_models()))}; {hint}")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(path: Path, entry: dict, advice: str) -> Path:
    """`path`, if it has the entry's SHA-256; otherwise OSError with what to do about it."""
    actual = sha256_of(path)
    if actual != entry["sha256"]:
        raise OSError(
            f"{path} is damaged or was replaced and is not used: it has {path.stat().st_size} bytes and SHA-256 "
            f"{actual}, expected are {entry['bytes']} bytes and {entry['sha256']}. {advice}"
        )
    return path


def fetch(name: str) -> Path:
    """Path of a model's verified file, downloaded on first use.

    Raises
    ------
    ValueError
        If there is no such model.
    OSError
        If no source has the right file, with the reason of each and what to do.
    """
    return fetch_entry(_entry(name))


def fetch_entry(entry: dict) -> Path:
    """What `fetch` does, of an entry that the manifest need not hold yet."""
    failures = []
    for source in entry["sources"]:
        try:
            return _FETCHERS[source["type"]](entry, source)
        except OSError as error:
            failures.append(str(error))
    raise OSError(f"the weights of {entry['name']!r} can't be had: " + "; ".join(failures))


def verify_local(name: str) -> Path | None:
    """The verified file of a model if it is on this machine already, else None; OSError if it is damaged.

    A file that only the package has, and that is missing there, is damage too.
    """
    entry = _entry(name)
    for source in entry["sources"]:
        try:
            return _FETCHERS[source["type"]](entry, source, local_only=True)
        except FileNotFoundError:
            if all(other["type"] == "package" for other in entry["sources"]):
                raise
    return None


def _from_package(entry: dict, source: dict, local_only: bool = False) -> Path:
    path = PRETRAINED / entry["file"]
    if not path.exists():
        raise FileNotFoundError(f"{path}, which the package should hold, is missing: install openavc again")
    return verify(path, entry, "Install openavc again: pip install --force-reinstall --no-deps openavc.")


def _from_hub(entry: dict, source: dict, local_only: bool = False) -> Path:
    """Downloads, or takes from the cache; what is damaged there is deleted and downloaded once more."""
    if local_only:
        path = Path(_download(entry, source, local_only=True))
        return verify(path, entry, f"Run: openavc download {entry['name']}, which replaces it.")
    damage = ""
    for _ in range(2):
        try:
            path = Path(_download(entry, source))
        except OSError as error:
            raise OSError(damage + str(error)) from error
        try:
            return verify(path, entry, "It was deleted.")
        except OSError as error:
            damage = f"{error} "
            path.resolve().unlink(missing_ok=True)  # the blob
            path.unlink(missing_ok=True)  # the link to it
    raise OSError(f"{damage}Try again: openavc download {entry['name']}.")


def _download(entry: dict, source: dict, local_only: bool = False) -> str:
    """hf_hub_download locks, resumes and renames, so two processes may fetch the same file at once."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    where = f"{source['repo']}/{source['filename']} at {constants.ENDPOINT}"
    place = {"revision": source["revision"], "cache_dir": cache_folder(), "local_files_only": local_only}
    try:
        return hf_hub_download(source["repo"], source["filename"], **place)
    except LocalEntryNotFoundError as error:
        state = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub can't be reached"
        raise FileNotFoundError(
            f"{where} is not in the cache and {state}: run `openavc download {entry['name']}` with a network, "
            f"or copy the cache of another machine ({error})"
        ) from error
    except HfHubHTTPError as error:
        raise OSError(f"{where} can't be downloaded: {error}") from error
    except Exception as error:  # a connection that breaks raises whatever the HTTP library raises
        raise OSError(f"{where} can't be downloaded: {type(error).__name__}: {error}. Try again.") from error


def _from_url(entry: dict, source: dict, local_only: bool = False) -> Path:
    """OpenL3's files of sound and of pictures, converted to one."""
    return openl3_weights.fetch_openl3(entry, source, converted_folder(), local_only)


_FETCHERS = {"package": _from_package, "hub": _from_hub, "url": _from_url}


def cache_folder() -> Path | None:
    """Where downloads are kept: OPENAVC_HOME/hub if that is set, else None, for the Hub's own (HF_HOME)."""
    home = os.environ.get("OPENAVC_HOME")
    return Path(home).expanduser() / "hub" if home else None


def converted_folder() -> Path:
    """Where conversions of others' files are kept: OPENAVC_HOME/converted if that is set, else HF_HOME/openavc."""
    from huggingface_hub import constants

    home = os.environ.get("OPENAVC_HOME")
    return Path(home).expanduser() / "converted" if home else Path(constants.HF_HOME) / "openavc"


def locate(name_or_path=None) -> tuple[str, Path]:
    """(name, verified file) of a manifest name, a path, or None for the default."""
    if name_or_path is None:
        name_or_path = list_models()[0]
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"model must be a name, a path or a loaded model, got {type(name_or_path).__name__}")
    path = Path(name_or_path)
    endings = (".safetensors", *openl3_weights.ENDINGS)
    looks_like_path = isinstance(name_or_path, os.PathLike) or path.name.endswith(endings) or len(path.parts) > 1
    if name_or_path in list_models() or not (looks_like_path or path.is_file()):
        return name_or_path, fetch(name_or_path)  # a name that doesn't exist is told with the nearest ones
    if path.is_file():
        ending = next((ending for ending in endings if path.name.endswith(ending)), path.suffix)
        return path.name.removesuffix(ending), path
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the weights file in it")
    raise FileNotFoundError(f"there is no weights file {path}; named models are {', '.join(list_models())}")


def load_model(name_or_path=None, *, device=None, dtype=None, **options):
    """Load a model in evaluation mode; pass it as `model=` to keep it between calls.

    Parameters
    ----------
    name_or_path : str, path or None
        A name of `list_models()`, fetched and verified on first use; a safetensors file that `training` or
        `openavc import-openl3` wrote; an .h5 or .h5.gz file of OpenL3 or EdgeL3; or None for the default, which ships
        with the package.
    device : str or torch.device, optional
        CUDA if there is one, else the CPU.
    dtype : torch.dtype or str, optional
        float32 by default.
    **options
        The architecture's own, such as `embedding_size=512` for L3-Net and OpenL3, `frontend="kapre-0.3.5"` for
        OpenL3, and `input_repr="mel256"` for a file of OpenL3's whose name doesn't tell it. What the weights are of
        (`input_repr`, `widths`, `modalities`, `rectified`, `motion`, `frames`) must be as in the file.

    Raises
    ------
    ValueError
        For an unknown name or option, or a file that doesn't fit.
    FileNotFoundError, OSError
        If the file is missing, damaged or can't be downloaded.
    """
    from .models.layers import weights_channels_last

    device, dtype = choose_device(device), to_dtype(dtype)
    name, path = locate(name_or_path)
    if path.name.endswith(openl3_weights.ENDINGS):
        architecture, tensors = openl3_weights.read_openl3(path, input_repr=options.get("input_repr"))
    else:
        architecture, tensors = _read_safetensors(path)
    _check_held(path, architecture, options)
    architecture |= options
    model = build_model(architecture)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path} doesn't fit {type(model).__name__}: {error}") from error
    model.name, model.sha256, model.architecture = name, sha256_of(path), architecture
    model = weights_channels_last(model.to(device=device, dtype=dtype))
    return model.eval().requires_grad_(False)


def _check_held(path: Path, architecture: dict, options: dict) -> None:
    """ValueError if another of `_HELD` is asked than the file has; what there is no such option of isn't judged."""
    from .models import ARCHITECTURES

    kind = ARCHITECTURES.get(architecture.get("architecture"))
    known = inspect.signature(kind).parameters if kind else {}
    for option in options.keys() & known.keys() & set(_HELD):
        if option == "input_repr" and "audio" not in architecture.get("modalities", ("audio",)):
            continue  # of sound, which the file has none of
        held, asked = architecture.get(option, known[option].default), options[option]
        if json.dumps(held) != json.dumps(asked, default=repr):  # a tuple and a list are the same
            raise ValueError(f"{path} doesn't fit: its {option} is {held!r}, not {asked!r}: leave {option} out")


def modalities_of(path: Path) -> list[str]:
    """Whose towers a file has, by its header or by its first layer."""
    if path.name.endswith(openl3_weights.ENDINGS):
        return [openl3_weights.read_modality(path)]
    return _read_safetensors(path)[0].get("modalities", ["audio", "image"])


def _read_safetensors(path: Path) -> tuple[dict, dict]:
    """The architecture that a file's header names, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise OSError(f"{path} is not a safetensors file, or is cut short: {error}") from error
    if "architecture" not in metadata:
        raise ValueError(f"{path} doesn't name its architecture in its header; only files written by openavc load")
    return _read_architecture(path, metadata["architecture"]), tensors


def _read_architecture(path: Path, header: str) -> dict:
    try:
        architecture = json.loads(header)
    except json.JSONDecodeError:
        architecture = header
    if not isinstance(architecture, dict):
        raise ValueError(
            f"{path} has {header!r} for its architecture; a JSON object of a network's options was expected"
        )
    return architecture


def build_model(architecture: dict):
    """An untrained network from `architecture`, one of `models.ARCHITECTURES`, and its options.

    Raises
    ------
    ValueError
        If there is no such architecture or option.
    """
    from .models import ARCHITECTURES

    options = dict(architecture)
    kind = options.pop("architecture", None)
    if kind not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {kind!r}; known: {', '.join(ARCHITECTURES)}")
    known = list(inspect.signature(ARCHITECTURES[kind]).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{kind} has no option {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    return ARCHITECTURES[kind](**options)


def choose_device(device=None):
    """The torch device asked for, or CUDA if there is one, else the CPU; ValueError if it can't be used here."""
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", torch.cuda.current_device())  # as tensors name it
    except (RuntimeError, AssertionError, TypeError, ImportError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} can't be used here: {str(error).splitlines()[0]}") from error
    return chosen


def to_dtype(dtype=None):
    """The torch dtype asked for by itself or by name, float32 for None; ValueError for others."""
    import torch

    if dtype is None:
        return torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        return found
    raise ValueError(f"dtype must be float32, float16, bfloat16 or float64, got {dtype!r}")
