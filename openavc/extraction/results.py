"""Results of many files: which ones, under which name, skipped when done, reported when broken.

Each result is written under a temporary name and renamed, so a killed run leaves nothing half done, and the next run
goes on where it was.
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
    """One file to embed, and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "skipped" or "failed", the last with its reason."""

    job: Job
    status: str
    reason: str = ""


def plan_jobs(inputs: Iterable[str | Path], output: Path, extensions: set[str]) -> list[Job]:
    """Find the files behind files, folders and globs, and give each its own .npz below `output`.

    A folder keeps its structure, a file its name. Where two results would have one name, all are placed by their
    path below the folder common to all sources, and files that differ in their extension alone keep it.

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


def _result_names(targets: dict[Path, Path]) -> dict[Path, Path]:
    """Name results `clip.npz`, and `clip.wav.npz` where that would be one name for two."""
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
    """Give (file, its path below the folder given) of the files behind a file, a folder or a glob."""
    path = Path(item)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in extensions and file.is_file() and not file.name.startswith("."):
                yield file, file.relative_to(path)
    elif not path.exists() and glob.has_magic(str(item)):
        for match in sorted(glob.glob(str(item), recursive=True)):
            yield from expand(match, extensions)
    else:
        yield path, Path(path.name)  # missing ones too: they are reported as failed


def embed_files(jobs: Iterable[Job], extraction: Extraction, overwrite: bool = False) -> Iterator[Outcome]:
    """Embed file after file; one that fails costs nothing but itself.

    Parameters
    ----------
    jobs : iterable of Job
    extraction : Extraction
        Its model and parameters are recorded.
    overwrite : bool
        Whether to recompute results that already exist.

    Yields
    ------
    Outcome
        One for each job, in order.
    """
    for job in jobs:
        try:
            wanted = extraction.record()
            if not overwrite and is_done(job, wanted):
                yield Outcome(job, "skipped")
                continue
            if not overwrite:
                check_replaceable(job, extraction.parameters)
            arrays = extraction(job.source)
            write_result(job.target, arrays, wanted | {"version": package_version(), "source": describe(job.source)})
            yield Outcome(job, "done")
        except Exception as error:  # whatever a decoder raises on one file, the others go on
            yield Outcome(job, "failed", failure_reason(error))


def failure_reason(error: Exception) -> str:
    """Say what went wrong with a file: the message of an error that openavc raises, others with their type."""
    expected = isinstance(error, OSError | ValueError) and str(error)
    return str(error) if expected else f"{type(error).__name__}: {error}"


def counted(
    outcomes: Iterable[Outcome], counts: dict[str, int], total: int, progress: bool | None = None
) -> Iterator[Outcome]:
    """Pass outcomes on, counting them by status, under a progress bar; "removed" ones aren't among the `total`.

    Parameters
    ----------
    outcomes : iterable of Outcome
    counts : dict
        Status -> number, with all that may come.
    total : int
        Files.
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
    """Whether the result is there, whole, of the same source, model and parameters."""
    metadata = read_metadata(job.target)
    if metadata is None or any(metadata.get(key) != value for key, value in wanted.items()):
        return False
    before, now = metadata.get("source", {}), job.source.stat()
    if before.get("bytes") != now.st_size:
        return False
    untouched = (before.get("path"), before.get("modified_ns")) == (str(job.source), now.st_mtime_ns)
    return untouched or before.get("sha256") == sha256_of(job.source)


def check_replaceable(job: Job, parameters: dict) -> None:
    """Raise FileExistsError if the result there is of another file or modality, which it would be wrong to lose."""
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
    except Exception:  # a damaged archive raises whatever zipfile, zlib or numpy raise; it is made anew
        return None


def write_result(path: Path, arrays: dict[str, np.ndarray], metadata: dict) -> None:
    """Write an .npz of the arrays and `metadata` (JSON)."""
    write_arrays(path, {**arrays, "metadata": np.array(json.dumps(metadata))})


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz whole or not at all; its folder is made."""
    with write_atomically(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
