"""Results of `openavc audio`, `image` and `video` as rows of a library's table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..extraction import parquet
from ..extraction.results import check_unpacked, opened_result
from ..media.loudness import QUIETEST
from .table import MODALITIES, to_unit_length

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import Table

PART_VALUES = 2**22  # numbers read at once: 16 MB of vectors


class Result(NamedTuple):
    """The identity of a result, an .npz or a table."""

    path: str
    modified_ns: int
    bytes: int
    source: str  # path of what was embedded
    kind: str  # the command that wrote it: "audio", "image" or "video"


def joint_metadata(path: Path) -> dict:
    """Return the metadata of a result of joint embeddings.

    Raises
    ------
    OSError
        If the file isn't a result of openavc, is damaged, or unpacks to far more than its size.
    ValueError
        If its embeddings aren't joint ones; the message gives the command that makes those.
    """
    if path.suffix == parquet.ENDING:
        parquet.check_parquet()
    try:
        if path.suffix == parquet.ENDING:
            metadata = parquet.read_table_metadata(path)
        else:
            with opened_result(path) as archive:
                metadata = json.loads(str(archive["metadata"]))
    except OSError:
        raise
    except Exception:  # any error of zipfile, zlib, numpy, pyarrow or json
        metadata = {}
    try:
        source, kind = metadata["source"]["path"], metadata["parameters"]["modality"]
        embedding, _ = metadata["parameters"]["embedding"], metadata["weights_sha256"]
        complete = kind in (*MODALITIES, "video")
    except (TypeError, KeyError):
        complete = False
    if not complete:
        raise OSError(f"{path} can't be read as a result of openavc audio, image or video")
    if embedding != "joint":
        command = ["openavc", kind, source, "--output", f"{path.parent}-joint", "--embedding", "joint"]
        raise ValueError(
            f"{path} holds {embedding}, which don't tell what sounds and pictures have in common; make joint ones: "
            + shlex.join(command)
        )
    return metadata


@dataclass(frozen=True)
class Rows:
    """The rows of a result, for a table; those of a long one are read from its file in parts, each time anew.

    Parameters
    ----------
    count : int
        Number of rows.
    size : int
        Number of values of a vector; 0 without rows.
    whole : pyarrow.Table or None
        All rows, unless they are many.
    parts : callable
        Returns an iterator of tables of some rows each; raises OSError if the file was damaged meanwhile.
    """

    count: int
    size: int
    whole: pyarrow.Table | None
    parts: Callable[[], Iterator[pyarrow.Table]]


def read_rows(result: Result, metadata: dict) -> Rows:
    """Read the rows of a result, without the sounds that are too quiet to be searched for.

    Parameters
    ----------
    result : Result
    metadata : dict
        Metadata of the same file, from `joint_metadata`.

    Returns
    -------
    rows : Rows
        One for each moment; for videos, those of the sound before those of the frames. Windows of sound below
        `QUIETEST` are left out, except in results of earlier versions, which don't hold their loudness.

    Raises
    ------
    OSError
        If the file is damaged.
    ValueError
        If its embeddings aren't vectors with a direction, one for each timestamp.
    """
    import pyarrow

    count, size, held = 0, 0, []
    for part in _parts(result, metadata):
        count, size = count + len(part), vector_size(part)
        if count * size <= PART_VALUES:
            held.append(part)
    whole = pyarrow.concat_tables(held) if held and count * size <= PART_VALUES else None
    return Rows(count, size, whole, partial(_parts, result, metadata))


def _parts(result: Result, metadata: dict) -> Iterator[pyarrow.Table]:
    """Yield the rows of a result in tables of at most `PART_VALUES` values."""
    path = Path(result.path)
    with ExitStack() as stack:
        with _damage_told(path):
            stored = stack.enter_context(_opened(path))
            names = {"audio": "audio", "image": "image"} if result.kind == "video" else {result.kind: "embedding"}
            fused = "joint" in stored  # one vector for sound and pictures together
            embeddings = {} if fused else {modality: stored.vectors(name) for modality, name in names.items()}
            timestamps = np.asarray(stored.array("timestamps"), dtype=np.float64)
            loud = stored.array("loudness") >= QUIETEST if "loudness" in stored else np.ones(len(timestamps), bool)
        if fused:
            raise ValueError(
                f"{path} holds vectors of sound and pictures together, which neither alone can search: index the "
                "results of a model that embeds each"
            )
        check_unpacked(len(timestamps) * len(json.dumps(metadata)), path)  # which is repeated in each row
        _check_shapes(path, embeddings, timestamps, loud)
        first = True  # one row stands for the result
        for modality, vectors in embeddings.items():
            rows = max(1, PART_VALUES // vectors.shape[1])
            for start in range(0, len(timestamps), rows):
                part = slice(start, start + rows)
                unit, times = _read_unit_vectors(path, vectors, rows), timestamps[part]
                kept = loud[part] if modality == "audio" else np.ones(len(times), dtype=bool)
                if kept.any():
                    times = times[kept] if result.kind != "image" else np.full(len(times), None)
                    yield _to_table(unit[kept], modality, times, result, metadata, first)
                    first = False


@contextmanager
def _opened(path: Path) -> Iterator[_Archive | _Table]:
    """Open a result for reading; its vectors are read later, row after row."""
    if path.suffix == parquet.ENDING:
        with parquet.opened_table(path) as file:
            check_unpacked(parquet.unpacked_size(file), path)
            yield _Table(file)
    else:
        with opened_result(path) as archive:
            yield _Archive(archive)


class _Archive:
    """The arrays of an .npz."""

    def __init__(self, archive: Any) -> None:
        self._archive = archive

    def __contains__(self, name: str) -> bool:
        return name in self._archive

    def array(self, name: str) -> np.ndarray:
        """Read an array."""
        return self._archive[name]

    def vectors(self, name: str) -> _Vectors:
        """Open an array (N, D)."""
        file = self._archive.zip.open(f"{name}.npy")
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, in_columns, dtype = read_header[version](file)
        if in_columns:
            raise ValueError(f"{name} is stored column by column")

        def read(rows: int) -> np.ndarray:
            return np.frombuffer(file.read(rows * shape[1] * dtype.itemsize), dtype).reshape(-1, shape[1])

        return _Vectors(shape, dtype, read)


class _Table:
    """The columns of a Parquet file, whose times are called `timestamp`."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __contains__(self, name: str) -> bool:
        return parquet.column_of(name) in self._file.schema_arrow.names

    def array(self, name: str) -> np.ndarray:
        """Read a column of numbers."""
        return self._file.read([parquet.column_of(name)]).column(0).to_numpy()

    def vectors(self, name: str) -> _Vectors:
        """Open a column of vectors of one length."""
        kind = self._file.schema_arrow.field(name).type
        batches = self._file.iter_batches(max(1, PART_VALUES // kind.list_size), columns=[name])
        waiting = np.empty((0, kind.list_size), np.float32)

        def read(rows: int) -> np.ndarray:
            nonlocal waiting
            held = [waiting]
            while sum(map(len, held)) < rows and (batch := next(batches, None)) is not None:
                held.append(batch.column(0).flatten().to_numpy().reshape(-1, kind.list_size))
            wanted, waiting = np.split(np.concatenate(held), [rows])
            return wanted

        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        return _Vectors((self._file.metadata.num_rows, kind.list_size), dtype, read)


class _Vectors(NamedTuple):
    """An array (N, D) of a result, read row after row."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[int], np.ndarray]  # the next so many rows


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Raise OSError with the name of a result for whatever its damage makes zipfile, zlib, numpy or pyarrow raise."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{path} can't be read: {type(error).__name__}: {error}") from error


def _check_shapes(path: Path, embeddings: dict[str, _Vectors], timestamps: np.ndarray, loud: np.ndarray) -> None:
    """Raise ValueError unless there is a vector of one size and a loudness for each time."""
    fits = all(len(v.shape) == 2 and v.dtype.kind == "f" and len(timestamps) == v.shape[0] for v in embeddings.values())
    one_size = len({vectors.shape[1:] for vectors in embeddings.values()}) == 1
    if not (fits and one_size and len(timestamps) and loud.shape == timestamps.shape):
        shapes = {name: vectors.shape for name, vectors in embeddings.items()} | {"timestamps": timestamps.shape}
        raise ValueError(f"{path} doesn't hold a vector (D,) for each timestamp: {shapes}")


def _read_unit_vectors(path: Path, vectors: _Vectors, rows: int) -> np.ndarray:
    with _damage_told(path):
        read = vectors.read(rows)
    try:
        return to_unit_length(read)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def too_quiet(source: str) -> str:
    """Say that a recording is too quiet throughout to be searched for."""
    return f"{source} has no window of sound as loud as {QUIETEST:g} dBFS, and silence resembles all silence"


def vector_size(rows: pyarrow.Table | Table) -> int:
    """Return the size of the vectors in a table of pyarrow or LanceDB."""
    return rows.schema.field("vector").type.list_size


def _to_table(
    vectors: np.ndarray, modality: str, timestamps: np.ndarray, result: Result, metadata: dict, first: bool
) -> pyarrow.Table:
    """Return a table of vectors (N, D) of length 1, their times, and what all rows of their result have in common."""
    import pyarrow

    rows, size = vectors.shape
    flat = pyarrow.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = {
        "vector": pyarrow.FixedSizeListArray.from_arrays(flat, size),
        "modality": pyarrow.repeat(pyarrow.scalar(modality, pyarrow.string()), rows),
        "timestamp": pyarrow.array(timestamps, pyarrow.float64()),  # seconds
        "first": pyarrow.array((np.arange(rows) == 0) & first),
    }
    same = {
        "source": result.source,
        "name": metadata["source"]["name"],
        "source_sha256": metadata["source"]["sha256"],
        "model": metadata["model"],
        "weights_sha256": metadata["weights_sha256"],
        "kind": result.kind,
        "result": result.path,
        "result_modified_ns": result.modified_ns,
        "result_bytes": result.bytes,
    }
    for name, value in same.items():
        kind = pyarrow.int64() if name.startswith("result_") else pyarrow.string()
        columns[name] = pyarrow.repeat(pyarrow.scalar(value, kind), rows)
    return pyarrow.table(columns)
