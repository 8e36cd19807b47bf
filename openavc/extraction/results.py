"""Results of many files: finding and naming them, skipping finished ones, reporting failures.

Each result is written under a temporary name and renamed, so a killed run leaves no partial files, and the next run
continues where it stopped.
"""

from __future__ import annotations

import glob
import json
import os
import zipfile
from collections import Counter
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
from .extraction import Extraction

_MARK = "weights_sha256"  # in the metadata of every result
_BLOCK = 1 << 20  # bytes read at once
_START = 1 << 16  # bytes, in which the metadata of a result begins
_MOST_UNPACKED = 2**26, 10  # bytes of a result, and times the size of its file; ours aren't packed


@dataclass(frozen=True)
class Job:
    """One file to embed, and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: "done", "skipped" or "failed", the last with its reason."""

    job: Job
    status: str
    reason: str = ""


def plan_jobs(inputs: Iterable[str | Path], output: Path, extensions: set[str]) -> list[Job]:
    """Find the files that paths, folders and globs stand for, and give each its own .npz below `output`.

    A folder keeps its structure, a file its name. If two results would share a name, all are placed by their path below
    the folder common to all sources, and files that differ only in their extension keep it.

    Parameters
    ----------
    inputs : iterable of str or Path
        Files of any name, folders (searched recursively for `extensions`), or glob patterns.
    """
    targets: dict[Path, Path] = {}  # absolute source -> relative path of its result
    for item in inputs:
        for source, relative in expand(item, extensions):
            targets.setdefault(Path(os.path.abspath(source)), relative)
    if _collide(relative.with_suffix("") for relative in targets.values()):
        common = Path(os.path.commonpath([source.parent for source in targets]))
        targets = {source: source.relative_to(common) for source in targets}
    return [Job(source, output / name) for source, name in _result_names(targets).items()]


def standing_for_nothing(inputs: Iterable[str | Path], extensions: set[str]) -> list[str]:
    """Return the inputs in which no file is found: folders, or globs of folders, that hold none of the extensions."""
    return [str(item) for item in inputs if next(expand(item, extensions), None) is None]


def find_files(inputs: Iterable[str | Path], extensions: set[str]) -> list[Path]:
    """Find the files that paths, folders and globs stand for, each once, named as they were given."""
    return list(dict.fromkeys(file for item in inputs for file, _ in expand(item, extensions)))


def passed_over(inputs: Iterable[str | Path], jobs: Iterable[Job], extensions: set[str]) -> Counter[str]:
    """Count, by extension, the files in folders that look like media and that no job is for.

    Parameters
    ----------
    inputs : iterable of str or Path
        As given to `plan_jobs`.
    jobs : iterable of Job
        What it planned.
    extensions : set of str
        Of files that look like media and aren't searched for.
    """
    planned = {job.source for job in jobs}
    media = {Path(os.path.abspath(source)) for item in inputs for source, _ in expand(item, extensions)}
    return Counter(source.suffix.lower() for source in media - planned)


def _result_names(targets: dict[Path, Path]) -> dict[Path, Path]:
    """Name results `clip.npz`, or `clip.wav.npz` where two would share that name."""
    kept: set[Path] = set()  # sources whose result keeps their extension
    while True:
        names = {
            source: relative.with_name(f"{relative.name}.npz") if source in kept else relative.with_suffix(".npz")
            for source, relative in targets.items()
        }
        times = Counter(names.values())
        clashing = {source for source, name in names.items() if times[name] > 1} - kept
        if not clashing:
            return names
        kept |= clashing


def _collide(paths: Iterable[Path]) -> bool:
    return any(number > 1 for number in Counter(paths).values())


def expand(item: str | Path, extensions: set[str]) -> Iterator[tuple[Path, Path]]:
    """Yield (file, its path below the given folder) for the files that a path, a folder or a glob stands for.

    What is missing, a glob that matches nothing, and a folder that can't be listed are yielded like files: reading them
    fails by name. An empty `item` raises ValueError.
    """
    if str(item) == "":
        raise ValueError('an empty name was given; "." names the current folder')
    path = Path(item)
    if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
        for file in _files_below(path, extensions):
            yield file, file.relative_to(path)
    elif not os.path.lexists(path) and (matches := glob.glob(str(item), recursive=True)):
        for match in sorted([*matches, *_closed_to(path)]):
            yield from expand(match, extensions)
    else:
        yield path, Path(path.name)


def _closed_to(pattern: Path) -> set[str]:
    """Return the folders into which the wildcards of a pattern lead, and that can't be listed."""
    leading = [str(parent) for parent in pattern.parents if glob.has_magic(str(parent))]
    found = {folder for parent in leading for folder in glob.glob(parent, recursive=True) if os.path.isdir(folder)}
    return {folder for folder in found if not os.access(folder, os.R_OK | os.X_OK)}


def _files_below(folder: Path, extensions: set[str]) -> list[Path]:
    """Return the files of these extensions that aren't hidden, and the folders that can't be listed."""
    found: list[Path] = []
    for place, _, names in os.walk(folder, onerror=lambda error: found.append(Path(error.filename))):
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        files = [path for path in paths if path.suffix.lower() in extensions and os.path.isfile(path)]
        found.extend(files if os.access(place, os.X_OK) else [Path(place)])  # without it, only names can be read
    return sorted(found)


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
        arrays, source = _embed_unchanging(job.source, extraction)
        write_result(job.target, arrays, wanted | {"version": package_version(), "source": source})
        return Outcome(job, "done")
    except Exception as error:  # decoders raise anything; the other files go on
        return Outcome(job, "failed", failure_reason(error))


def _embed_unchanging(source: Path, extraction: Extraction) -> tuple[dict[str, np.ndarray], dict]:
    """Return the arrays of a file and its description, which is the same before and after it is read.

    A file that changes meanwhile is read once more; one that goes on changing raises OSError.
    """
    before = describe(source)
    for _ in range(2):
        arrays = extraction.measured(source)
        after = describe(source)
        if after == before:
            return arrays, after
        before = after
    raise OSError(f"{source} changes while it is read; embed it when whatever writes it has ended")


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
        start = file.read(_START)
    return not start or np.array(_MARK).tobytes() in start


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
        with opened_result(path) as archive:
            metadata = json.loads(str(archive["metadata"]))
    except Exception:  # a damaged archive raises any error of zipfile, zlib or numpy
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
    write_arrays(path, {"metadata": np.array(json.dumps(metadata)), **arrays})


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz completely or not at all; its folder is created."""
    with write_atomically(path) as partial, open(partial, "wb") as file:
        save: Any = np.savez
        save(file, **arrays)
