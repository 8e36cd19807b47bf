"""What a manifest's entry must hold before anything is read, downloaded or written by it.

Names of files stay inside their folders, and whatever comes over a network has a digest.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

_SHA256, _SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
DIGESTS = {"git_blob_sha1": _SHA1, "sha256": _SHA256}  # that a file of upstream's may have
_DESCRIPTION = {"architecture": str, "options": dict, "modalities": list, "embedding_size": dict, "license": str}


def check_entry(entry: Any, kinds: Container[str] = ("package", "own", "hub", "url")) -> None:
    """Check an entry of a manifest.

    Parameters
    ----------
    entry : Any
        What the manifest holds.
    kinds : container of str
        The types of sources that it may name.

    Raises
    ------
    ValueError
        If it has a missing or wrong value; the message gives the value's key, and the value.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{_short(entry)} is not a model's entry")
    for key in ("name", "file"):
        _require(is_plain(entry.get(key)), entry, key, "a name without folders")
    size = entry.get("bytes")
    _require(isinstance(size, int) and not isinstance(size, bool) and size >= 0, entry, "bytes", "a number of bytes")
    for key in _DESCRIPTION.keys() & entry.keys():
        _require(isinstance(entry[key], _DESCRIPTION[key]), entry, key, f"a {_DESCRIPTION[key].__name__}")
    sources = entry.get("sources")
    if not isinstance(sources, list) or not sources:
        raise ValueError(f"{entry['name']!r} has a missing or wrong sources: {_short(sources)}")
    for source in sources:
        _check_source(entry, source, kinds)
    converted = all(source["type"] == "url" for source in sources)  # here, from files that have digests of their own
    if not (converted and "sha256" in entry and entry["sha256"] is None):
        local = all(source["type"] in ("package", "own") for source in sources)
        digest = entry.get("sha256")
        right = isinstance(digest, str) and (local or _SHA256.fullmatch(digest) is not None)
        _require(right, entry, "sha256", "the SHA-256 of its file, 64 hexadecimal digits")


def is_plain(name: Any) -> bool:
    """Whether this is the name of a file, on any system, without a folder, a drive or a step upwards."""
    return isinstance(name, str) and name.isprintable() and not set(name) & set("/\\:") and name not in ("", ".", "..")


def _check_source(entry: dict, source: Any, kinds: Container[str]) -> None:
    """Raise ValueError unless a source of an entry is complete."""
    if not isinstance(source, dict) or not isinstance(source.get("type"), str) or source["type"] not in kinds:
        raise ValueError(f"{entry['name']!r} has a missing or wrong type of a source: {_short(source)}")
    if source["type"] == "hub":
        for key in ("repo", "revision", "filename"):
            value = source.get(key)
            right = isinstance(value, str) and all(map(is_plain, value.split("/")))
            _require(right, source, key, "names without steps upwards", entry["name"])
    if source["type"] == "url":
        _check_conversion(entry, source)


def _check_conversion(entry: dict, source: dict) -> None:
    """Raise ValueError unless an entry has what the download and the conversion of upstream's files take."""
    _require(entry["file"].endswith(".safetensors"), entry, "file", "a name that ends with .safetensors")
    for key in ("attribution", "license"):
        _require(isinstance(entry.get(key), str), entry, key, "a text")
    options = entry.get("options", {})
    _require(isinstance(options.get("input_repr"), str), options, "input_repr", "a spectrogram's name", entry["name"])
    files = source.get("files")
    if not isinstance(files, list) or not files or not all(isinstance(file, dict) for file in files):
        raise ValueError(f"{entry['name']!r} has a missing or wrong files: {_short(files)}")
    for file in files:
        url = file.get("url")
        right = isinstance(url, str) and bool(re.match("https?://[^/]", url)) and is_plain(url.rpartition("/")[2])
        _require(right, file, "url", "a web address that ends with a file's name", entry["name"])
        if not file.keys() & DIGESTS.keys():
            raise ValueError(f"{entry['name']!r} has no digest for {url}: give its {' or '.join(DIGESTS)}")
        for key in file.keys() & DIGESTS.keys():
            right = isinstance(file[key], str) and bool(DIGESTS[key].fullmatch(file[key]))
            _require(right, file, key, "a digest in hexadecimal digits", entry["name"])


def _require(right: bool, holder: dict, key: str, expected: str, name: str | None = None) -> None:
    """Raise ValueError unless a value is right."""
    if not right:
        given = _short(holder[key]) if key in holder else "nothing"
        name = holder.get("name") if name is None else name
        raise ValueError(f"{_short(name)} has a missing or wrong {key}: {given} instead of {expected}")


def _short(value: Any) -> str:
    """Quote a value within a line."""
    quoted = repr(value)
    return quoted if len(quoted) <= 80 else f"{quoted[:80]}..."
