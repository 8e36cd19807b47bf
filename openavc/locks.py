"""One process a folder: the second one that would write there is refused, with the name of the first."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import name_full_disk

if TYPE_CHECKING:
    from filelock import BaseFileLock

NAME = ".lock"
_PATIENCE = 2.0  # seconds; the processes of a killed run, which end soon after it, may have inherited its lock


@contextmanager
def only_user(folder: str | os.PathLike) -> Iterator[None]:
    """Keep other processes from using a folder in the same way meanwhile; the lock of a killed process is released.

    Parameters
    ----------
    folder : str or path
        Is created; if it stays empty, it is removed again.

    Raises
    ------
    OSError
        If another process uses the folder; the message says which one, on which machine, and since when.
    """
    folder = Path(folder)
    new = [made for made in (folder, *folder.parents) if not made.exists()]
    lock = _acquire(folder)
    path = folder / NAME
    try:
        _sign(path)
        yield
    finally:
        with contextlib.suppress(PermissionError):  # Windows keeps files that are open
            path.unlink(missing_ok=True)
        lock.release()
        for made in new:
            with contextlib.suppress(OSError):  # it isn't empty
                made.rmdir()


def _acquire(folder: Path) -> BaseFileLock:
    """Return the lock of a folder, which is made, again if another process removes its own meanwhile."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / NAME, timeout=_PATIENCE)
    until = time.monotonic() + _PATIENCE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
            return lock
        except Timeout:
            holder = _holder(folder / NAME)
            raise OSError(f"{folder} is in use by {holder}: wait until it is done, or take another folder") from None
        except FileNotFoundError:
            if time.monotonic() > until:
                raise


def _sign(path: Path) -> None:
    """Write into the lock's file who holds it."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    with name_full_disk(path), contextlib.suppress(PermissionError):  # Windows lets nobody write to a locked file
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since}")


def _holder(path: Path) -> str:
    """Return who holds the lock, as far as it can be read."""
    try:
        return path.read_text() or "another process"
    except OSError:  # released by now, or locked on Windows
        return "another process"
