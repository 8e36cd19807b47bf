"""What a model's entry in a manifest must hold before anything is read, downloaded or written by it.

Files stay inside their folders, and each has a digest: in the entry itself, or, if openavc converts it from others, in
the source that names those. Folders of the Hub alone have none here: their files have those that the Hub states.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PureWindowsPath
from typing import Any

_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE)  # of Windows
DIGESTS = {"git_blob_sha1": re.compile("[0-9a-f]{40}"), "sha256": re.compile("[0-9a-f]{64}")}  # of files to convert
_Rules = dict[str, tuple[Callable[[Any], bool], str]]  # key -> (whether a value is right, what is expected)


# ----------------------------------------------------------------------------------------------------------- values


def is_plain(name: Any) -> bool:
    """Whether this names a file, without a folder, a drive, a device or a step upwards on any system.

    Names that only some systems take, such as those with a colon, are plain: earlier exports wrote them.
    """
    if not isinstance(name, str) or not name.isprintable():
        return False
    if _DEVICES.fullmatch(name):
        return False
    return name != "" and name == PureWindowsPath(name).name == name.rstrip(". ")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_dicts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(one, dict) for one in value)


def _is_inside(value: Any) -> bool:
    return isinstance(value, str) and all(map(is_plain, value.split("/")))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and re.match("https?://[^/]", value) is not None and is_plain(value.rsplit("/", 1)[1])


# ------------------------------------------------------------------------------------------------------------ rules

_NAME: _Rules = {"name": (is_plain, "a file's name, without folders")}
_ENTRY: _Rules = {
    "file": (is_plain, "a file's name, without folders"),
    "modalities": (_are_texts, "a list of names"),
    "embedding_size": (lambda value: isinstance(value, dict), "sizes by name"),
    "license": (_is_text, "a text"),
    "sources": (_are_dicts, "a list of sources"),
}
_INSIDE = (_is_inside, "names without steps upwards")
_FOLDER: _Rules = {"repo": _INSIDE, "revision": _INSIDE}
_HUB: _Rules = _FOLDER | {"filename": _INSIDE}
_CONVERSION: _Rules = {  # of an entry whose file openavc converts
    "file": (lambda value: value.endswith(".safetensors"), "a name that ends with .safetensors"),
    "attribution": (_is_text, "a text"),
    "options": (lambda value: isinstance(value, dict) and _is_text(value.get("input_repr")), "options with input_repr"),
}
_URL: _Rules = {"files": (_are_dicts, "a list of files")}
_FILE: _Rules = {"url": (_is_address, "a web address that ends with a file's name")}


def check_entry(entry: Any, kinds: tuple[str, ...] = ("package", "own", "hub", "url", "hub-folder")) -> None:
    """Check a model's entry in a manifest.

    Parameters
    ----------
    entry : Any
        What the manifest holds.
    kinds : tuple of str
        The types of sources that it may name.

    Raises
    ------
    ValueError
        If it lacks a value, has a wrong one, or names a file without a digest; the message gives the model and the key.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{_short(entry)} is not a model's entry")
    _check(entry, _NAME, "a model")
    name = repr(entry["name"])
    _check(entry, _ENTRY, name)
    for source in entry["sources"]:
        _check(source, {"type": (kinds.__contains__, " or ".join(kinds))}, f"a source of {name}")
        if source["type"] == "hub":
            _check(source, _HUB, f"a source of {name}")
        if source["type"] == "hub-folder":
            _check(source, _FOLDER, f"a source of {name}")
        if source["type"] == "url":
            _check(entry, _CONVERSION, name)
            _check_files(source, name)
    kinds_given = {source["type"] for source in entry["sources"]}
    if kinds_given == {"hub-folder"}:
        return  # sizes and digests are those that the Hub states
    _check(entry, {"bytes": (_is_size, "a number of bytes")}, name)
    converted = kinds_given == {"url"}
    if not (converted and entry.get("sha256", "") is None):
        _check(entry, {"sha256": (_is_digest("sha256"), "64 hexadecimal digits")}, name)


def _check_files(source: dict, name: str) -> None:
    """Raise ValueError unless a source names files with addresses and digests."""
    _check(source, _URL, f"a source of {name}")
    for file in source["files"]:
        _check(file, _FILE, f"a source of {name}")
        given = DIGESTS.keys() & file.keys()
        if not given:
            raise ValueError(f"{name} has no digest of {file['url']}: give its {' or '.join(DIGESTS)}")
        _check(file, {kind: (_is_digest(kind), "hexadecimal digits") for kind in sorted(given)}, file["url"])


def _is_digest(kind: str) -> Callable[[Any], bool]:
    """Return a function that tells whether a value is a digest of this kind."""
    return lambda value: isinstance(value, str) and DIGESTS[kind].fullmatch(value) is not None


def _check(holder: dict, rules: _Rules, name: str) -> None:
    """Raise ValueError, which begins with the name, unless the values follow the rules."""
    for key, (is_right, expected) in rules.items():
        if not is_right(holder.get(key)):
            given = _short(holder[key]) if key in holder else "nothing"
            raise ValueError(f"{name} has a missing or wrong {key}: {given} instead of {expected}")


def _short(value: Any) -> str:
    """Quote a value within a line."""
    quoted = repr(value)
    return quoted if len(quoted) <= 80 else f"{quoted[:80]}..."
