"""Embedding in workers: a file that ends its decoder fails alone, and isn't tried more than twice."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..atomic import hidden_beside, write_bytes
from ..lines import naming
from ..media.container import existing_file
from ..version import package_version
from ..worker import LIMITS, Worker, WorkerDied, WorkerKilled, give_warnings, patience
from ..workers import spread
from .extraction import Extraction
from .planning import Job
from .results import Outcome, describe, embed_file, is_described

_MOST_DEATHS = 2  # of workers at a file, after which it isn't tried again


def embed_files_apart(
    jobs: Iterable[Job], extraction: Extraction, overwrite: bool, workers: Sequence[Worker]
) -> Iterator[Outcome]:
    """Embed files in workers, as `embed_files` does, as many at once as there are workers; outcomes come as they end.

    A file at which a worker died by itself, hung or took too much memory is recorded beside its result, as
    `.NAME.npz.died`. The next run tries it once more. If it ends its worker again, it fails at once in further runs,
    until the file, the limits or the version of the package change, or results are to be overwritten.
    """
    limit = patience()

    def attempt(worker: Worker, job: Job) -> tuple[Outcome, list[dict]]:
        warned: list[dict] = []
        record = _recorded(job)
        if record and record["deaths"] >= _MOST_DEATHS and not overwrite:
            reason = f"{record['reason']} (in {record['deaths']} earlier runs; --overwrite tries again)"
            return Outcome(job, "failed", reason), warned
        try:
            worker.call(_load, extraction)
            outcome = worker.call(embed_file, job, extraction, overwrite, limit=limit, warned=warned)
            with contextlib.suppress(OSError):  # it stays where nothing can be written, as no result then can
                _record_path(job).unlink()
        except WorkerDied as error:
            if not isinstance(error, WorkerKilled):
                with contextlib.suppress(OSError):  # a full disk: the next run finds out anew
                    _record(job, str(error), 1 + (record["deaths"] if record else 0))
            outcome = Outcome(job, "failed", str(error))
        return outcome, warned

    given: dict = {}
    for outcome, warned in spread(attempt, jobs, workers):
        with naming(outcome.job.source):
            give_warnings(warned, given)
        yield outcome


def _load(extraction: Extraction) -> None:
    """Load the model in a new process, whose time doesn't count as that of a file."""
    with contextlib.suppress(Exception):  # the file fails with what it was
        extraction.load()


def _record_path(job: Job) -> Path:
    return hidden_beside(job.target, ".died")


def _recorded(job: Job) -> dict | None:
    """Return how often and why workers died at this file in earlier runs, or None if none did."""
    path = _record_path(job)
    try:
        record = json.loads(existing_file(path).read_text())
        same = (record["version"], record["limits"]) == (package_version(), _limits())
        if same and is_described(job.source, record["source"]):
            return {"deaths": int(record["deaths"]), "reason": str(record["reason"])}
        path.unlink()
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours: the file is tried
        pass
    return None


def _record(job: Job, reason: str, deaths: int) -> None:
    """Record that workers have died at this file so many times, the last time for this reason."""
    record = {"deaths": deaths, "reason": reason, "version": package_version(), "limits": _limits()}
    write_bytes(_record_path(job), (json.dumps(record | {"source": describe(job.source)}) + "\n").encode())


def _limits() -> dict[str, str | None]:
    return {name: os.environ.get(name) or None for name in LIMITS}
