"""File objects, such as BytesIO, an open file or a pipe, as paths: readers open files by name, and more than once."""

from __future__ import annotations

import io
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

_CHUNK = 2**20  # bytes copied at once


class BinaryFile(Protocol):
    """What is taken for a file object: it gives bytes, from where it stands."""

    def read(self, size: int, /) -> bytes: ...


def is_file(item: Any) -> bool:
    """Whether an argument is a path or a file object."""
    return isinstance(item, str | os.PathLike) or _is_file_object(item)


def _is_file_object(item: Any) -> bool:
    if isinstance(item, io.IOBase):  # even if it has a path, as files of fsspec do
        return True
    return not isinstance(item, str | os.PathLike | type) and callable(getattr(item, "read", None))


def name_of(file: Any) -> str:
    """Return what errors and warnings call a path or a file object: its name, or the name of its type."""
    if not _is_file_object(file):
        return str(file) if isinstance(file, Path) else os.fsdecode(file)
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name else f"<{type(file).__name__}>"


def described(item: Any) -> str:
    """Return the type of an argument that isn't a file, and how to make a file object of it if that is known."""
    kind = type(item).__name__
    if isinstance(item, bytes | bytearray | memoryview):
        return f"{kind}: if it is the content of a file, pass io.BytesIO(...)"
    if hasattr(type(item), "makefile"):  # a socket
        return f"{kind}: pass its makefile('rb')"
    if hasattr(type(item), "open"):  # a file in an archive or on a server
        return f"{kind}: open it, and pass the open file"
    return kind


@contextmanager
def as_path(source: Any) -> Iterator[Any]:
    """Give the path under which a file object can be read, until the end of the context; pass on anything else.

    What is left of the object, from where it stands, is copied to a temporary file, which is then removed. The object
    stays open, at its end. The text of the path is the name of the object.

    Raises
    ------
    TypeError
        If the object gives text, or anything else but bytes.
    ValueError
        If it is closed.
    OSError
        If it can't be read, gives nothing, or can't be copied.
    """
    if not _is_file_object(source):
        yield source
        return
    name = name_of(source)
    _check_readable(source, name)
    with tempfile.TemporaryDirectory(prefix="openavc-", ignore_cleanup_errors=True) as folder:
        suffix = re.search(r"(\.\w{1,9})?\Z", name, re.ASCII)[0]  # type: ignore[index]
        copy = _Copy(folder, f"copy{suffix}")  # an ending helps FFmpeg where content doesn't tell the format
        copy.shown = name
        try:
            with open(copy, "wb") as file:
                for chunk in _chunks(source, name):
                    file.write(chunk)
        except OSError as error:
            if error.errno is None:  # one of the object's
                raise
            where = f"{tempfile.gettempdir()} (TMPDIR in the environment names another folder)"
            raise OSError(f"{name} can't be copied to {where}: {error.strerror}") from error
        yield copy


class _Copy(type(Path())):  # type: ignore[misc]  # Path itself can't be inherited from before Python 3.12
    """A path of a copy, whose text is the name of what was copied: readers open the one and tell of the other."""

    shown: str | None = None  # None for paths that are derived from it

    def __str__(self) -> str:
        return super().__str__() if self.shown is None else self.shown

    def __fspath__(self) -> str:
        return super().__str__()


def _check_readable(file: Any, name: str) -> None:
    """Raise an error unless a file object is open, binary and not a device, which could go on for ever."""
    if getattr(file, "closed", False):
        raise ValueError(f"{name} is closed, or was read to its end: pass it open")
    if hasattr(file, "encoding"):
        raise TypeError(f"{name} gives text, not bytes: open it with open(..., 'rb'), or pass the .buffer below it")
    raw = getattr(file, "raw", file)  # below a buffer
    if isinstance(raw, io.FileIO) and stat.S_IFMT(os.fstat(raw.fileno()).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
        raise OSError(f"{name} is a device; copy what it gives into a file")


def _chunks(file: Any, name: str) -> Iterator[bytes | bytearray | memoryview]:
    """Yield what is left of a file object; raise an error if that is nothing, or not all."""
    from http.client import HTTPResponse

    empty = True
    while True:
        try:
            chunk = file.read(_CHUNK)
        except Exception as error:  # archives, responses and other people's objects raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OSError(f"{name} can't be read: {reason}") from error
        if chunk is None:
            raise OSError(f"{name} doesn't wait for data (it is non-blocking): read it into io.BytesIO first")
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"{name} isn't a binary file: its read() gives {type(chunk).__name__}, not bytes")
        if not len(chunk):
            break
        empty = False
        yield chunk
    if empty:
        raise OSError(f"{name} gave no bytes: it is empty, or stands at its end (seek(0) goes to its start)")
    if isinstance(file, HTTPResponse) and file.length:  # which its read() doesn't tell
        raise OSError(f"{name} can't be read: the connection ended {file.length} bytes early")
