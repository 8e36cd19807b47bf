"""The list of models, and what is known about each: `weights_manifest.json`, then the user's own models.

A model of the user's own is two files in the folder that `own_folder` returns: NAME.json, its entry, and the weights,
NAME.safetensors. `training.export` writes both; to remove the model, delete them.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

from ..lines import warn
from ..regular import check_regular
from .entries import check_entry

_PACKAGE = Path(__file__).parents[1]
# A wheel carries the manifest inside the package, a checkout keeps it beside the package.
MANIFEST = next(
    (path for path in (_PACKAGE / "weights_manifest.json", _PACKAGE.parent / "weights_manifest.json") if path.exists()),
    _PACKAGE / "weights_manifest.json",
)


def read_manifest() -> list[dict]:
    """Return the entries of all models, the default first and the user's own last, as copies that may be changed.

    Entries of the user's own that can't be used are left out with a warning.
    """
    entries = read_shipped()
    shipped = {entry["name"] for entry in entries}
    for path in sorted(own_folder().glob("*.json")):
        try:
            entry = read_own(path.stem)
            if path.stem in shipped:
                raise ValueError("openavc has a model of that name; load yours by the path of its weights")
        except (OSError, ValueError) as error:
            warn(f"{path} is left out of the models: {error}")
            continue
        if (path.parent / entry["file"]).exists() or any(source["type"] != "own" for source in entry["sources"]):
            entries.append(entry)
    return entries


def read_shipped(path: Path | None = None) -> list[dict]:
    """Return the entries of the models that openavc comes with, the default first.

    Parameters
    ----------
    path : Path, optional
        The manifest, if it isn't openavc's.

    Raises
    ------
    OSError
        If the manifest is missing, damaged, or holds an entry that can't be used; the message names it.
    """
    path = MANIFEST if path is None else path
    try:
        manifest = _read_json(path)
        entries = manifest.get("models") if isinstance(manifest, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ValueError("it holds no list of models")
        for entry in entries:
            check_entry(entry, ("package", "hub", "url", "hub-folder"))
        if len({entry["name"] for entry in entries}) < len(entries):
            raise ValueError("it holds two models of one name")
    except ValueError as error:
        raise OSError(f"the manifest {path} can't be used: {error}; install openavc again") from None
    return entries


def own_folder() -> Path:
    """Return the folder of the user's own models: OPENAVC_HOME/models if that is set, otherwise ~/.openavc/models."""
    return Path(os.path.expanduser(os.environ.get("OPENAVC_HOME") or "~/.openavc")) / "models"


def read_own(name: str) -> dict:
    """Return the entry of a model of the user's own.

    Raises
    ------
    OSError
        If there is none, or it can't be read.
    ValueError
        If it isn't an entry.
    """
    entry = _read_json(own_folder() / f"{name}.json")
    check_entry(entry, ("own", "hub"))
    if (entry["name"], entry["file"]) != (name, f"{name}.safetensors"):
        raise ValueError(f"its name or its file isn't {name!r}")
    return entry


def _read_json(path: Path) -> Any:
    """Return what a file of JSON holds; raise OSError if it can't be read, ValueError if it isn't JSON."""
    check_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None


def list_models() -> list[str]:
    """Return the names of the models that can be loaded.

    Returns
    -------
    names : list of str
        The default first.
    """
    return [entry["name"] for entry in read_manifest()]


def model_info(name: str) -> dict:
    """Return a model's entry in the manifest: architecture, sizes, file, licence, training data, measured figures.

    Parameters
    ----------
    name : str
        One of `list_models()`.

    Returns
    -------
    entry : dict
        A copy, which the caller may change.

    Raises
    ------
    TypeError
        If `name` isn't a string.
    ValueError
        If there is no such model; the message lists the nearest names.
    """
    if not isinstance(name, str):
        raise TypeError(f"a model's name must be a str, got {type(name).__name__}")
    entries = {entry["name"]: entry for entry in read_manifest()}
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "give a path to use a file of your own."
    raise ValueError(f"there is no model {name!r}; the models are {', '.join(map(repr, entries))}; {hint}")
