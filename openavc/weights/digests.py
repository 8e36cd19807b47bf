"""Digests that identify files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..progress import step
from ..regular import check_regular


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
            step()
    return digest.hexdigest()


def digests_of(content: bytes) -> dict[str, str]:
    """Return the digests of a file's content that a manifest may give, by their names there."""
    return {"git_blob_sha1": git_blob_sha1(content), "sha256": hashlib.sha256(content).hexdigest()}


def git_blob_sha1(content: bytes) -> str:
    """Return the hexadecimal SHA-1 by which git, and so GitHub, identifies a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
