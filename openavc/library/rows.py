"""Results of `openavc audio`, `image` and `video` as rows of a library's table."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..extraction.results import check_unpacked, opened_result
from ..media.loudness import QUIETEST
from .table import MODALITIES, to_unit_length

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import Table


class Result(NamedTuple):
    """The identity of a result, an .npz."""

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
    try:
        with opened_result(path) as archive:
            metadata = json.loads(str(archive["metadata"]))
    except OSError:
        raise
    except Exception:  # any error of zipfile, zlib, numpy or json
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


def read_rows(result: Result, metadata: dict) -> pyarrow.Table:
    """Read the rows of a result, without the sounds that are too quiet to be searched for.

    Parameters
    ----------
    result : Result
    metadata : dict
        Metadata of the same file, from `joint_metadata`.

    Returns
    -------
    rows : pyarrow.Table
        A row for each moment; for videos, those of the sound before those of the frames. Windows of sound below
        `QUIETEST` are left out, except in results of earlier versions, which don't hold their loudness.

    Raises
    ------
    OSError
        If the file is damaged.
    ValueError
        If its embeddings aren't vectors with a direction, one for each timestamp.
    """
    try:
        with opened_result(Path(result.path)) as archive:
            names = {"audio": "audio", "image": "image"} if result.kind == "video" else {result.kind: "embedding"}
            fused = "joint" in archive  # one vector for sound and pictures together
            embeddings = {modality: archive[name] for modality, name in names.items() if not fused}
            timestamps = np.asarray(archive["timestamps"], dtype=np.float64)
            loud = archive["loudness"] >= QUIETEST if "loudness" in archive else np.ones(len(timestamps), dtype=bool)
    except Exception as error:  # any error of zipfile, zlib or numpy
        raise OSError(f"{result.path} can't be read: {type(error).__name__}: {error}") from error
    if fused:
        raise ValueError(
            f"{result.path} holds vectors of sound and pictures together, which neither alone can search: index the "
            "results of a model that embeds each"
        )
    check_unpacked(len(timestamps) * len(json.dumps(metadata)), Path(result.path))  # which is repeated in each row
    fits = all(v.ndim == 2 and v.dtype.kind == "f" and len(v) == len(timestamps) for v in embeddings.values())
    if not fits or not len(timestamps) or loud.shape != timestamps.shape:
        shapes = {name: vectors.shape for name, vectors in embeddings.items()} | {"timestamps": timestamps.shape}
        raise ValueError(f"{result.path} doesn't hold a vector (D,) for each timestamp: {shapes}")
    try:
        vectors = np.concatenate([to_unit_length(part) for part in embeddings.values()])
    except ValueError as error:
        raise ValueError(f"{result.path}: {error}") from None
    modalities = np.repeat(list(embeddings), len(timestamps))
    times = np.tile(timestamps, len(embeddings)) if result.kind != "image" else np.full(len(vectors), None)
    kept = np.tile(loud, len(embeddings)) | (modalities != "audio")
    return _to_table(vectors[kept], modalities[kept].tolist(), times[kept], result, metadata)


def too_quiet(source: str) -> str:
    """Say that a recording is too quiet throughout to be searched for."""
    return f"{source} has no window of sound as loud as {QUIETEST:g} dBFS, and silence resembles all silence"


def vector_size(rows: pyarrow.Table | Table) -> int:
    """Return the size of the vectors in a table of pyarrow or LanceDB."""
    return rows.schema.field("vector").type.list_size


def _to_table(
    vectors: np.ndarray, modalities: list[str], timestamps: np.ndarray, result: Result, metadata: dict
) -> pyarrow.Table:
    """Return a table of vectors (N, D) of length 1, their modalities and times, and what their result has in common."""
    import pyarrow

    rows, size = vectors.shape
    flat = pyarrow.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = {
        "vector": pyarrow.FixedSizeListArray.from_arrays(flat, size),
        "modality": pyarrow.array(modalities, pyarrow.string()),
        "timestamp": pyarrow.array(timestamps, pyarrow.float64()),  # seconds
        "first": pyarrow.array(np.arange(rows) == 0),  # one row stands for the result
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
