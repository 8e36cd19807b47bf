"""Write files completely or not at all.

The content goes to a temporary name beside the target, reaches the disk, and only then takes the target's name. If the
writer is killed, the previous file remains, and readers see the previous file until then. Where files can be locked,
the temporary name of a target is always the same, so the next writer takes over what a killed one left, and writers of
the same file wait for each other. The first write into a folder removes what killed writers of other files left there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PARTIAL = ".openavc-partial"  # ending of temporary names
_LONGEST_NAME = 200  # bytes: most file systems allow 255, endings included
_DAY = 86_400.0  # seconds
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # on the disk, in the user's share of it, for one file


@contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path to write to; the file written there is renamed to `path` if the block succeeds.

    Parameters
    ----------
    path : str or path
        The file to write or to replace; its folder is created. A link is followed, as `open` follows it.

    Yields
    ------
    partial : Path
        A hidden file in the same folder. If the block raises, also on Ctrl-C, it is removed and `path` stays as it was.

    Raises
    ------
    OSError
        If the folder can't be created, or the file can't be written or wasn't, or `path` is a folder, a device or
        whatever else isn't a regular file.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a folder, a device or something else that no file can take the place of")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    with name_full_disk(path), _only_writer(path) as partial:
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


def hidden_beside(path: Path, ending: str) -> Path:
    """Return the path of a hidden file in the same folder, named after `path` as far as a name may be long."""
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}{ending}")


@contextmanager
def name_full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Have errors of a full disk say which file was written, which the system's own don't."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def _only_writer(path: Path) -> Iterator[Path]:
    """Yield a temporary path that no other process writes to meanwhile.

    It is that of an empty, locked file; the system releases the lock if the process dies. On file systems without
    locks, each process uses its own name.
    """
    partial = hidden_beside(path, _PARTIAL)
    while fcntl is not None:
        file = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(file):
                partial.unlink(missing_ok=True)
                break
            if _is_same_file(file, partial):  # the previous writer hasn't renamed or removed it
                os.utime(file, ns=(0, 0))  # marks that nothing is written yet
                yield partial
                return
        finally:
            os.close(file)
    yield partial.with_name(f"{partial.name}-{os.getpid()}")


@functools.lru_cache(maxsize=1024)  # once a process is enough: what it leaves itself, it still owns
def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of a folder that no living process writes to."""
    for partial in folder.glob(f".*{_PARTIAL}*"):
        with contextlib.suppress(OSError):  # it is locked, or was removed meanwhile
            if fcntl is not None and partial.name.endswith(_PARTIAL):
                _remove_unlocked(partial)
            elif time.time() - partial.stat().st_mtime > _DAY:  # without locks, only age tells
                partial.unlink()


def _remove_unlocked(partial: Path) -> None:
    """Remove a temporary file; raise OSError if its writer lives."""
    file = os.open(partial, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial.unlink()
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    """Wait for the lock of an open file; return False if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_same_file(file: int, path: Path) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def write_bytes(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write bytes to a file, completely or not at all; its folder is created.

    Parameters
    ----------
    path : str or path
        The file to write or to replace.
    content : bytes or memoryview
        The entire content.

    Raises
    ------
    OSError
        If the file can't be written.
    """
    with write_atomically(path) as partial:
        partial.write_bytes(content)
