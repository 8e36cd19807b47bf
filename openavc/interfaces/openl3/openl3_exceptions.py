"""The one exception of OpenL3's interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class OpenL3Error(Exception):
    """Raised for input, options and files that can't be embedded."""


@contextmanager
def as_openl3_error() -> Iterator[None]:
    """Turn the built-in exceptions that openavc raises for bad input into OpenL3Error, with the same message."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise OpenL3Error(str(error)) from error
