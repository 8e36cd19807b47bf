"""Results of many files: skipping finished ones, writing the others, reporting failures.

Each result is written under a temporary name and renamed, so a killed run leaves no partial files, and the next run
continues where it stopped.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..media.container import existing_file
from ..memory import ran_out_of_memory
from ..progress import step
from ..version import package_version
from ..weights import sha256_of
from . import parquet
from .extraction import Extraction
from .growing import GrowingArrays
from .planning import Job

_MARK = "weights_sha256"  # in the metadata of every result
_BLOCK = 1 << 20  # bytes read at once
_PART = 1 << 16  # bytes at the start of an .npz, or the end of a .parquet, that hold the metadata
_MOST_UNPACKED = 2**26, 10  # bytes of a result, and times the size of its file; ours aren't packed


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: "done", "skipped" or "failed", the last with its reason."""

    job: Job
    status: str
    reason: str = ""


def embed_files(jobs: Iterable[Job], extraction: Extraction, overwrite: bool = False) -> Iterator[Outcome]:
    """Embed files one by one; a failure doesn't affect the others.

    Parameters
    ----------
    jobs : iterable of Job
    extraction : Extraction
        Its model and parameters are recorded with each result.
    overwrite : bool
        Whether to recompute results that already exist.

    Yields
    ------
    Outcome
        One for each job, in order.
    """
    for job in jobs:
        yield embed_file(job, extraction, overwrite)


def embed_file(job: Job, extraction: Extraction, overwrite: bool = False) -> Outcome:
    """Embed one file, or skip it if that is done; see `embed_files`."""
    try:
        wanted = extraction.record()
        if not overwrite and is_done(job, wanted):
            return Outcome(job, "skipped")
        if not overwrite:
            check_replaceable(job, extraction.parameters)
        _embed_unchanging(job, extraction, wanted | {"version": package_version()})
        return Outcome(job, "done")
    except Exception as error:  # decoders raise anything; the other files go on
        return Outcome(job, "failed", failure_reason(error))


def _embed_unchanging(job: Job, extraction: Extraction, about: dict) -> None:
    """Write the result of a file, with its description, which is the same before and after it is read.

    A file that changes meanwhile is read once more; one that goes on changing raises OSError.
    """
    before = describe(job.source)
    for _ in range(2):
        with GrowingArrays(job.target) as arrays:
            for block in extraction.blocks(job.source):
                arrays.append(block)
            after = describe(job.source)
            if after == before:
                arrays.close_into_result(about | {"source": after})
                return
        before = after
    raise OSError(f"{job.source} changes while it is read; embed it when whatever writes it has ended")


def failure_reason(error: Exception) -> str:
    """Return what went wrong with a file: the message of an expected error, with the type for any other."""
    if ran_out_of_memory(error):
        return f"there isn't enough memory for it ({_with_type(error)})"
    expected = isinstance(error, OSError | ValueError) and str(error)
    return str(error) if expected else _with_type(error)


def _with_type(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"  # libraries write several lines


def counted(
    outcomes: Iterable[Outcome], counts: dict[str, int], total: int, progress: bool | None = None
) -> Iterator[Outcome]:
    """Pass outcomes on, counting them by status, with a progress bar; "removed" ones don't belong to the `total`.

    Parameters
    ----------
    outcomes : iterable of Outcome
    counts : dict
        Status -> number, with a key for every possible status; updated in place.
    total : int
        Number of files.
    progress : bool, optional
        Whether to show the bar; by default, if the standard error is a terminal.
    """
    from tqdm import tqdm

    with tqdm(total=total, unit="file", disable=None if progress is None else not progress) as bar:
        for outcome in outcomes:
            counts[outcome.status] += 1
            bar.update(outcome.status != "removed")
            yield outcome


def is_done(job: Job, wanted: dict) -> bool:
    """Whether the result exists, undamaged, for the same source, model and parameters."""
    metadata = read_metadata(job.target)
    if metadata is None or any(metadata.get(key) != value for key, value in wanted.items()):
        return False
    return is_described(job.source, metadata.get("source", {})) and _is_whole(job.target)


def _is_whole(path: Path) -> bool:
    """Whether every array of a result has the checksum that it was written with."""
    if path.suffix == parquet.ENDING:
        return parquet.is_whole_table(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:  # which compares the checksum at the end
                    while file.read(_BLOCK):
                        step()
            return True
    except Exception:  # as with np.load: damage raises any error
        return False


def is_described(source: Path, description: dict) -> bool:
    """Whether a source file is still the one that `describe` described, maybe moved or touched."""
    now = source.stat()
    if description.get("bytes") != now.st_size:
        return False
    untouched = (description.get("path"), description.get("modified_ns")) == (str(source), now.st_mtime_ns)
    return untouched or description.get("sha256") == sha256_of(source)


def check_replaceable(job: Job, parameters: dict) -> None:
    """Raise FileExistsError if what is there shouldn't be lost: a file of another kind, or another file's result."""
    if not os.path.lexists(job.target):
        return
    metadata = read_metadata(job.target)
    if metadata is None and _was_result(job.target):
        return
    what = "isn't a result of openavc"
    if metadata is not None and _MARK in metadata:
        path, kind = metadata.get("source", {}).get("path"), metadata.get("parameters", {}).get("modality")
        if (path, kind) == (str(job.source), parameters.get("modality")):
            return
        what = f"holds the {kind} embedding of {path}"
    raise FileExistsError(f"{job.source}: {job.target} {what}; choose another --output, or --overwrite")


def _was_result(path: Path) -> bool:
    """Whether a file that can't be read as a result is one that was damaged, or empty, so that nothing is lost."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        if path.suffix == parquet.ENDING:
            file.seek(max(0, path.stat().st_size - _PART))
            mark = _MARK.encode()
        else:
            mark = np.array(_MARK).tobytes()
        part = file.read(_PART)
    return not part or mark in part


def describe(source: Path) -> dict:
    """Return name, path, size, time and digest of a source file; raise OSError if it can't be read."""
    status = existing_file(source).stat()
    return {
        "name": source.name,
        "path": str(source),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "sha256": sha256_of(source),
    }


def read_metadata(path: Path) -> dict | None:
    """Return the metadata of a result, or None if there is none that can be read."""
    try:
        if path.suffix == parquet.ENDING:
            metadata = parquet.read_table_metadata(path)
        else:
            with opened_result(path) as archive:
                metadata = json.loads(str(archive["metadata"]))
    except Exception:  # what is damaged raises any error of zipfile, zlib, numpy or pyarrow
        return None
    return metadata if isinstance(metadata, dict) else None


@contextmanager
def opened_result(path: Path) -> Iterator[Any]:
    """Open an .npz for reading; nothing is unpacked yet.

    Raises
    ------
    FileNotFoundError, OSError
        If it isn't a regular file, isn't a zip, or would unpack to far more than the file's size.
    """
    with open(existing_file(path), "rb") as file:
        if file.read(4) != b"PK\3\4":
            raise OSError(f"{path} isn't an .npz")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            check_unpacked(sum(member.file_size for member in archive.zip.infolist()), path)
            yield archive


def check_unpacked(size: int, path: Path) -> None:
    """Raise OSError if what is read from a result takes so many bytes that its file must be made to take memory."""
    least, times = _MOST_UNPACKED
    most = least + times * path.stat().st_size
    if size > most:
        raise OSError(f"{path} ({path.stat().st_size} bytes) unpacks to {size:,} bytes, the limit is {most:,}")


def write_result(path: Path, arrays: dict[str, np.ndarray], metadata: dict) -> None:
    """Write an .npz of `metadata` (JSON) and the arrays.

    The metadata comes first, so that a file which is damaged further on still tells what it was.
    """
    with GrowingArrays(path) as growing:
        growing.append(arrays)
        growing.close_into_result(metadata)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz completely or not at all; its folder is created."""
    with write_atomically(path) as partial, open(partial, "wb") as file:
        save: Any = np.savez
        save(file, **arrays)
