"""The threads that networks compute with.

A process that is forked off one that has computed inherits its threads' state, but not the threads, and would wait for
them forever. So importing this module makes forked processes compute with one thread.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "OPENAVC_THREADS"  # of the environment: their number for commands that aren't given --threads
MOST_THREADS = 8  # by default


def default_threads() -> int:
    """Return OPENAVC_THREADS or OMP_NUM_THREADS if it is set; otherwise half of this process's cores, 1 to 8.

    Raises
    ------
    ValueError
        If OPENAVC_THREADS isn't a number of threads.
    """
    if given := os.environ.get(VARIABLE):
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"{VARIABLE} must be a number of threads such as 2, got {given!r}")
        return int(given)
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    return max(1, min(MOST_THREADS, usable_cores() // 2))


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # missing on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def use_threads(number: int | None = None) -> None:
    """Let networks compute with so many threads, by default `default_threads()`.

    Before torch is imported, this also makes threads sleep while they wait for each other. By default they spin, and
    where other programs keep the cores busy, two threads that spin are many times slower than one.
    """
    number = number or default_threads()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(number)
    else:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ["OMP_NUM_THREADS"] = str(number)


def _use_one_thread() -> None:
    """Let a process that was just forked compute without the threads that it lacks."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # Windows doesn't fork
    os.register_at_fork(after_in_child=_use_one_thread)
