"""Embedding in a worker: a file that ends its decoder fails alone, and the next run doesn't try it again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..atomic import hidden_beside, write_bytes
from ..lines import naming
from ..version import package_version
from ..worker import LIMITS, Worker, WorkerDied, WorkerKilled, patience
from .extraction import Extraction
from .results import Job, Outcome, describe, embed_file, is_described


def embed_files_apart(
    jobs: Iterable[Job], extraction: Extraction, overwrite: bool, worker: Worker
) -> Iterator[Outcome]:
    """Embed files one by one in a worker, as `embed_files` does.

    A file at which the worker died by itself, hung or took too much memory is recorded beside its result, as
    `.NAME.npz.died`. Until the file, the limits or the version of the package change, it fails at once, unless results
    are to be overwritten.
    """
    limit = patience()
    for job in jobs:
        reason = None if overwrite else _recorded(job)
        if reason is not None:
            yield Outcome(job, "failed", f"{reason} (in an earlier run; --overwrite tries again)")
            continue
        try:
            with naming(job.source):
                outcome = worker.call(embed_file, job, extraction, overwrite, limit=limit)
            with contextlib.suppress(OSError):  # it stays where nothing can be written, as no result then can
                _record_path(job).unlink()
        except WorkerDied as error:
            if not isinstance(error, WorkerKilled):
                with contextlib.suppress(OSError):  # a full disk: the next run finds out anew
                    _record(job, str(error))
            outcome = Outcome(job, "failed", str(error))
        yield outcome


def _record_path(job: Job) -> Path:
    return hidden_beside(job.target, ".died")


def _recorded(job: Job) -> str | None:
    """Return how the worker died at this file in an earlier run, or None if it didn't."""
    path = _record_path(job)
    try:
        record = json.loads(path.read_text())
        same = (record["version"], record["limits"]) == (package_version(), _limits())
        if same and is_described(job.source, record["source"]):
            return record["reason"]
        path.unlink()
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours: the file is tried
        pass
    return None


def _record(job: Job, reason: str) -> None:
    record = {"reason": reason, "version": package_version(), "limits": _limits(), "source": describe(job.source)}
    write_bytes(_record_path(job), (json.dumps(record) + "\n").encode())


def _limits() -> dict[str, str | None]:
    return {name: os.environ.get(name) or None for name in LIMITS}
