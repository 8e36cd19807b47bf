"""Shards are written by several processes at once, each of which may die without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from openavc.worker import Worker, WorkerDied, patience
from openavc.workers import spread


def write_in_processes(
    write: Callable[[tuple], None], jobs: Sequence[tuple], number: int
) -> list[tuple[tuple, WorkerDied]]:
    """Write shards in so many processes, which end with this one, and share the memory that they may take.

    Parameters
    ----------
    write : callable
        Writes the shard of a job; like the jobs, it must be picklable.
    jobs : sequence of tuple
    number : int
        Of processes.

    Returns
    -------
    died : list of (tuple, WorkerDied)
        Jobs whose process died, hung, took too much memory or was killed from outside (`WorkerKilled`), and how; a new
        one took its place for the others.

    Raises
    ------
    ValueError
        If `OPENAVC_PATIENCE` or `OPENAVC_MEMORY` makes no sense.
    """
    from tqdm import tqdm

    limit = patience()

    def call(worker: Worker, job: tuple) -> tuple[tuple, WorkerDied] | None:
        try:
            worker.call(write, job, limit=limit)
        except WorkerDied as death:
            return job, death
        return None

    number = max(1, min(number, len(jobs)))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(workers=number)) for _ in range(number)]
        ends = tqdm(spread(call, jobs, workers), total=len(jobs), unit="shard", disable=None)
        return [end for end in ends if end is not None]
