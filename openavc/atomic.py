"""Files that are written whole or not at all.

The content goes to a temporary name beside the target, reaches the disk, and only then takes the target's name. Whoever
is killed meanwhile leaves the file that was there before, and whoever reads meanwhile sees that one. The temporary name
of a target is always the same, so that the next writer takes over what a killed one left; those who write one file at
the same time wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: without locks, each process takes a name of its own
    _OWN = f"-{os.getpid()}"
else:
    _OWN = ""


@contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name to write to; the file written there takes the name `path` if the block succeeds.

    Parameters
    ----------
    path : str or path
        The file to write, or to replace; its folder is made.

    Yields
    ------
    partial : Path
        A hidden name in the same folder. If the block raises, Ctrl-C included, this file is removed and `path` is left
        as it was.

    Raises
    ------
    OSError
        If the folder can't be made, or the file can't be written or isn't.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial{_OWN}")
    with _only_writer(partial):
        try:
            yield partial
            with open(partial, "rb+") as file:
                if os.fstat(file.fileno()).st_mtime_ns == 0:
                    raise FileNotFoundError(f"nothing was written to {partial}")
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:  # a full disk, Ctrl-C
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _only_writer(partial: Path) -> Iterator[None]:
    """Make an empty file and hold its lock, which the system releases when a process dies."""
    if _OWN:
        yield
        return
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is(file, partial):  # not renamed or removed by the writer before
                os.utime(file, ns=(0, 0))  # until something is written
                yield
                return
        finally:
            os.close(file)


def _is(file: int, path: Path) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file of this content, whole or not at all; its folder is made.

    Parameters
    ----------
    path : str or path
        The file to write, or to replace.
    content : bytes
        All that it holds.

    Raises
    ------
    OSError
        If it can't be written.
    """
    with write_atomically(path) as partial:
        partial.write_bytes(content)
