"""`weights_manifest.json`: the list of models, and what is known about each."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# A wheel carries the manifest inside the package, a checkout keeps it beside the package.
MANIFEST = next(
    (path for path in (_PACKAGE / "weights_manifest.json", _PACKAGE.parent / "weights_manifest.json") if path.exists()),
    _PACKAGE / "weights_manifest.json",
)


def read_manifest() -> list[dict]:
    """Return the entries of the manifest, the default model first, as copies that the caller may change."""
    return json.loads(MANIFEST.read_text(encoding="utf-8"))["models"]


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
