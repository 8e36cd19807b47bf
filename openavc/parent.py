"""Processes that end with the one that started them, however that was: also if it alone was killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

_PULSE = 0.5  # seconds between two looks at the parent


def end_with_parent(number: int | None = None) -> None:
    """Watch from a thread whether the parent process lives, and end this one as soon as it doesn't.

    Parameters
    ----------
    number : int, optional
        What `os.getppid()` returned earlier. By default the parent is the one that multiprocessing knows.
    """
    threading.Thread(target=_watch, args=(number or _parent(),), daemon=True).start()


def _parent() -> int:
    caller = multiprocessing.parent_process()
    if caller is None or caller.pid is None or multiprocessing.get_start_method() == "forkserver":
        return os.getppid()
    return caller.pid  # also if it has ended already


def _watch(parent: int) -> None:
    caller = multiprocessing.parent_process()  # tells it on Windows and under a fork server, where the number stays
    while os.getppid() == parent and (caller is None or caller.is_alive()):
        time.sleep(_PULSE)
    os._exit(1)
