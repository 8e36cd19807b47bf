"""Results of many files: finding and naming them, skipping finished ones, reporting failures.

Each result is written under a temporary name and renamed, so a killed run leaves no partial files, and the next run
continues where it stopped.
"""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..version import package_version
from ..weights import sha256_of
from .extraction import Extraction


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
    """Yield (file, its path below the given folder) for the files that a path, a folder or a glob stands for."""
    path = Path(item)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in extensions and file.is_file() and not file.name.startswith("."):
                yield file, file.relative_to(path)
    elif not path.exists() and glob.has_magic(str(item)):
        for match in sorted(glob.glob(str(item), recursive=True)):
            yield from expand(match, extensions)
    else:
        yield path, Path(path.name)  # also if it is missing: it is reported as failed


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
        arrays = extraction.measured(job.source)
        write_result(job.target, arrays, wanted | {"version": package_version(), "source": describe(job.source)})
        return Outcome(job, "done")
    except Exception as error:  # decoders raise anything; the other files go on
        return Outcome(job, "failed", failure_reason(error))


def failure_reason(error: Exception) -> str:
    """Return what went wrong with a file: the message of an expected error, with the type for any other."""
    expected = isinstance(error, OSError | ValueError) and str(error)
    return str(error) if expected else f"{type(error).__name__}: {error}"


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
    return is_described(job.source, metadata.get("source", {}))


def is_described(source: Path, description: dict) -> bool:
    """Whether a source file is still the one that `describe` described, maybe moved or touched."""
    now = source.stat()
    if description.get("bytes") != now.st_size:
        return False
    untouched = (description.get("path"), description.get("modified_ns")) == (str(source), now.st_mtime_ns)
    return untouched or description.get("sha256") == sha256_of(source)


def check_replaceable(job: Job, parameters: dict) -> None:
    """Raise FileExistsError if the existing result is of another file or modality and so shouldn't be lost."""
    metadata = read_metadata(job.target) or {}
    path, kind = metadata.get("source", {}).get("path"), metadata.get("parameters", {}).get("modality")
    if metadata and (path, kind) != (str(job.source), parameters.get("modality")):
        raise FileExistsError(
            f"{job.source}: {job.target} holds the {kind} embedding of {path}; choose another --output, or --overwrite"
        )


def describe(source: Path) -> dict:
    """Return name, path, size, time and digest of a source file."""
    status = source.stat()
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
        with np.load(path, allow_pickle=False) as archive:
            return json.loads(str(archive["metadata"]))
    except FileNotFoundError:
        return None
    except Exception:  # a damaged archive raises any error of zipfile, zlib or numpy; it is made anew
        return None


def write_result(path: Path, arrays: dict[str, np.ndarray], metadata: dict) -> None:
    """Write an .npz of the arrays and `metadata` (JSON)."""
    write_arrays(path, {**arrays, "metadata": np.array(json.dumps(metadata))})


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz completely or not at all; its folder is created."""
    with write_atomically(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
