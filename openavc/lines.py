"""Messages on the terminal: each fits one line, whatever stands in the name of a file."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def one_line(text: object) -> str:
    """Return a text with what a terminal doesn't print, such as line breaks and bytes that aren't UTF-8, as escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def say(text: object) -> None:
    """Write a line to the standard output, above a progress bar if one is shown."""
    from tqdm import tqdm

    tqdm.write(one_line(text), file=sys.stdout)
    sys.stdout.flush()


def tell(text: object) -> None:
    """Write a line to the standard error, above a progress bar if one is shown."""
    from tqdm import tqdm

    tqdm.write(one_line(text), file=sys.stderr)


def tell_warnings(beginning: str = "warning: ") -> None:
    """Let this process show its warnings as lines, without their place in the code."""
    warnings.showwarning = lambda message, *_, **__: tell(f"{beginning}{message}")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Give a warning whose place is the line that called openavc."""
    frame, level, above = sys._getframe(), 1, 1
    while frame.f_back:
        frame, above = frame.f_back, above + 1
        if frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
            level = above
    warnings.warn(message, category, stacklevel=level + 1)


@contextmanager
def naming(*paths: str | os.PathLike) -> Iterator[None]:
    """Put a path before the warnings that this process shows meanwhile, unless they name one of the paths."""
    show = warnings.showwarning

    def named(message: Any, *place: Any, **more: Any) -> None:
        known = any(os.fspath(path) in str(message) for path in paths)
        show(message if known else f"{os.fspath(paths[0])}: {message}", *place, **more)

    warnings.showwarning = named
    try:
        yield
    finally:
        warnings.showwarning = show


def print_any_letter() -> None:
    """Let this process write letters as escapes that the encoding of its output doesn't have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
