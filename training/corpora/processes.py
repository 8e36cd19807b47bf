"""Shards are written by several processes at once, each of which may die without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

from openavc.worker import Worker, WorkerDied


def write_in_processes(write: Callable[[tuple], None], jobs: Sequence[tuple], number: int) -> list[tuple]:
    """Write shards in so many processes, which end with this one.

    Parameters
    ----------
    write : callable
        Writes the shard of a job; like the jobs, it must be picklable.
    jobs : sequence of tuple
    number : int
        Of processes.

    Returns
    -------
    died : list of tuple
        Jobs whose process died; a new one took its place for the others.
    """
    from tqdm import tqdm

    died: list[tuple] = []
    number = max(1, min(number, len(jobs)))
    with ExitStack() as stack, ThreadPoolExecutor(number) as callers:
        idle: SimpleQueue[Worker] = SimpleQueue()
        for _ in range(number):
            idle.put(stack.enter_context(Worker()))

        def call(job: tuple) -> None:
            worker = idle.get()
            try:
                worker.call(write, job)
            except WorkerDied:
                died.append(job)
            finally:
                idle.put(worker)

        for _ in tqdm(callers.map(call, jobs), total=len(jobs), unit="shard", disable=None):
            pass
    return died
