"""Processes that end with the one that started them, however that was: also if it alone was killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

_PULSE = 0.5  # seconds between two looks at the parent


def end_with(parent: int) -> None:
    """Watch the parent process from a thread, and end this one as soon as it has ended.

    Parameters
    ----------
    parent : int
        Process number of the parent, noted by itself or while it was certainly alive.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    caller = multiprocessing.parent_process()  # on Windows, the number of the parent doesn't tell when it has ended
    while os.getppid() == parent and (caller is None or caller.is_alive()):
        time.sleep(_PULSE)
    os._exit(1)
