"""Arrays that grow block by block, in temporary files and constant memory, until they are closed into a result."""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..atomic import name_full_disk, write_atomically
from ..progress import step
from . import parquet

_IN_MEMORY = 1 << 20  # bytes of an array before it goes to a file
_BLOCK = 1 << 20  # bytes copied at once


class GrowingArrays:
    """Named arrays, (T, ...) each, that belong to one result; use it as a context manager.

    Their files lie beside the result, as other folders may lie in memory, and have no names where the system allows
    that: a killed process leaves none.

    Parameters
    ----------
    target : Path
        Of the result, an .npz or .parquet. Its folder is created with the first block.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._files: dict[str, Any] = {}
        self._like: dict[str, np.ndarray] = {}  # an empty array of each one's shape and dtype
        self._lengths: dict[str, int] = {}

    def __enter__(self) -> GrowingArrays:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, block: dict[str, np.ndarray]) -> None:
        """Add rows (n, ...) to each array; the first block tells their names, shapes and dtypes.

        Raises
        ------
        ValueError
            If a later block has others.
        OSError
            If the disk is full, with the name of the result.
        """
        if not self._files:
            self._begin(block)
        found = {name: (rows.dtype, rows.shape[1:]) for name, rows in block.items()}
        begun = {name: (like.dtype, like.shape[1:]) for name, like in self._like.items()}
        if found != begun:
            raise ValueError(f"blocks of {self._target} must be alike, got {found} after {begun}")
        with name_full_disk(self._target):
            for name, rows in block.items():
                self._files[name].write(np.ascontiguousarray(rows).data.cast("B") if rows.size else b"")
                self._lengths[name] += len(rows)

    def close_into_result(self, metadata: dict) -> None:
        """Write the result, completely or not at all: `metadata` (JSON) and the arrays.

        In an .npz the metadata comes first, and it has the bytes that `numpy.savez` would give it.
        """
        if self._target.suffix == parquet.ENDING:
            parquet.write_table(self._target, self._read_back(), metadata)
        else:
            self._write_npz(metadata)

    def _write_npz(self, metadata: dict) -> None:
        with write_atomically(self._target) as partial, zipfile.ZipFile(partial, "w") as archive:
            with _member(archive, "metadata") as member:
                np.lib.format.write_array(member, np.array(json.dumps(metadata)), allow_pickle=False)
            for name, file in self._files.items():
                with _member(archive, name) as member:
                    np.lib.format.write_array_header_1_0(member, self._header(name))
                    file.seek(0)
                    for block in iter(lambda file=file: file.read(_BLOCK), b""):  # type: ignore[misc]
                        member.write(block)
                        step()

    def _read_back(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays in blocks of as many rows as make about a MiB."""
        for file in self._files.values():
            file.seek(0)
        widest = max(like.itemsize * math.prod(like.shape[1:]) for like in self._like.values())
        number, left = max(1, _BLOCK // widest), next(iter(self._lengths.values()))
        while left:
            number = min(number, left)
            yield {name: self._read_rows(name, number) for name in self._files}
            left -= number

    def _read_rows(self, name: str, number: int) -> np.ndarray:
        like = self._like[name]
        shape = (number, *like.shape[1:])
        return np.frombuffer(self._files[name].read(like.itemsize * math.prod(shape)), like.dtype).reshape(shape)

    def _begin(self, block: dict[str, np.ndarray]) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        folder = os.path.realpath(self._target.parent)
        for name, rows in block.items():
            self._files[name] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # noqa: SIM115  # __exit__ closes it
            self._like[name] = np.empty((0, *rows.shape[1:]), rows.dtype)
            self._lengths[name] = 0

    def _header(self, name: str) -> dict:
        header: dict = np.lib.format.header_data_from_array_1_0(self._like[name])
        return header | {"shape": (self._lengths[name], *self._like[name].shape[1:]), "fortran_order": False}


def _member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    return archive.open(f"{name}.npy", "w", force_zip64=True)  # type: ignore[return-value]


def joined(blocks: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the whole arrays (T, ...) of which these are blocks (n, ...), by name."""
    parts = list(blocks)
    return {name: np.concatenate([block[name] for block in parts]) for name in parts[0]}
