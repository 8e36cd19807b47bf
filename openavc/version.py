"""The version of the package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the version of openavc, or "unknown" in a checkout that isn't installed."""
    try:
        return version("openavc")
    except PackageNotFoundError:
        return "unknown"
