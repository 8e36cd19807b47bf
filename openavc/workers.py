"""Work spread over several workers at once, and how many of them a machine carries."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from .memory import most_memory
from .threads import default_threads, usable_cores
from .worker import Worker

_ROOM = 2 * 2**30  # bytes of memory that each worker should find

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def carried_workers() -> int:
    """Return how many workers, each with the threads that networks compute with, fit the cores and the memory.

    Raises
    ------
    ValueError
        If `OPENAVC_THREADS` or `OPENAVC_MEMORY` makes no sense.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")  # which workers inherit
    threads = int(given) if given.isdecimal() else default_threads()
    memory = most_memory()
    fitting = usable_cores() // max(1, threads)
    return max(1, fitting if memory is None else min(fitting, memory // _ROOM))


def spread(
    work: Callable[[Worker, Item], Answer], items: Iterable[Item], workers: Sequence[Worker]
) -> Iterator[Answer]:
    """Do work on items with several workers at once, and yield the answers as they come.

    Items are taken as workers are free, so there may be any number of them.

    Parameters
    ----------
    work : callable
        Calls a worker, from a thread of its own unless there is only one.
    items : iterable
    workers : sequence of Worker
        They are stopped if this is given up: by an error of `work`, by Ctrl-C, or as no further answers are wanted.
    """
    if len(workers) == 1:
        yield from (work(workers[0], item) for item in items)
        return
    items, idle = iter(items), list(workers)
    running: dict[Future[Answer], Worker] = {}
    with ThreadPoolExecutor(len(workers)) as callers:
        try:
            while True:
                for item in itertools.islice(items, len(idle)):
                    worker = idle.pop()
                    running[callers.submit(work, worker, item)] = worker
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    idle.append(running.pop(future))
                    yield future.result()
        except BaseException:
            for worker in running.values():
                worker.stop()
            raise
