"""The one exception of OpenL3's interface."""

from __future__ import annotations

from contextlib import contextmanager


class OpenL3Error(Exception):
    """Input, options or files that can't be embedded."""


@contextmanager
def as_openl3_error():
    """Turn the built-in exceptions that openavc raises for its input into OpenL3Error, with their message."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise OpenL3Error(str(error)) from error
