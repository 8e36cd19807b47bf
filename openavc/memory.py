"""The memory that another process may take, and how much it takes now. In bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_VARIABLE = "OPENAVC_MEMORY"
_SHARE = 0.75  # of this machine's memory, or of what its containers allow
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def most_memory() -> int | None:
    """Return how much a process that decodes may take: `OPENAVC_MEMORY`, such as 4G, or three quarters of all memory.

    None is returned where the system doesn't tell how much that is.

    Raises
    ------
    ValueError
        If the variable isn't a size.
    """
    given = os.environ.get(_VARIABLE)
    if not given:
        there_is = _memory_of_machine()
        return None if there_is is None else int(_SHARE * there_is)
    number, unit = (given[:-1], given[-1:].upper()) if given[-1:].upper() in _UNITS else (given, "")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{_VARIABLE} must be a size in bytes, or such as 1500M or 4G, got {given!r}")
    return int(number) * _UNITS.get(unit, 1)


def resident(process: int) -> int | None:
    """Return how much memory a process takes; None if it has ended, or the system doesn't tell (it must be Linux)."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an allocation, by Python, PyTorch or OpenCV."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError | ValueError):  # whose messages name files, which may be called anything
        return False
    words = ("can't allocate memory", "out of memory", "Insufficient memory", "std::bad_alloc")
    return any(part in str(error) for part in words)


def _memory_of_machine() -> int | None:
    try:
        sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    for limit in _group_limits():
        text = limit.read_text().strip() if limit.is_file() else "max"
        sizes += [int(text)] if text.isdecimal() else []
    return min(sizes)


def _group_limits() -> Iterator[Path]:
    """Yield the files that hold limits of this process's control groups (of version 2 and 1), if they have any."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, own in (line.split(":", 2) for line in groups):
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CONTROL_GROUPS / "memory" if controllers else _CONTROL_GROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        folder = root / own.lstrip("/")
        yield from (place / name for place in (folder, *folder.parents) if place.is_relative_to(root))
