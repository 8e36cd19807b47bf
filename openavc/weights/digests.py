"""Digests that identify files, and the refusal of what has none: FIFOs and devices."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_regular(path: str | Path) -> None:
    """Raise OSError unless `path` is a regular file: a FIFO or a device could keep its reader waiting for ever."""
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise OSError(f"{path} is {_KINDS.get(kind, 'of a special kind')}, not a regular file, and is not read")


def sha256_of(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file, which is read in blocks.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        If the file can't be read, or isn't a regular file.
    """
    check_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_blob_sha1(content: bytes) -> str:
    """Return the hexadecimal SHA-1 by which git, and so GitHub, identifies a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
