"""Versions of a library's table: the one that searches see, what is being written, and what was replaced.

Every step of a writer makes a new version. A tag names the version that searches see; it moves, in one step, once a
change is complete. So a search sees all of the former vectors or all of the new ones, whenever a writer works or is
killed, and the next writer begins again from the tag.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lancedb.table import Table

Answer = TypeVar("Answer")

SEEN = "seen"  # the tag
ALLOWED = 2  # times its own size that a library may take for the sake of searches that still read what was replaced
_SMALL = 2**20  # bytes, of a library in which nothing needs to be deleted early


def to_seen(table: Table) -> Table:
    """Turn a table to the version that searches see; in a library of earlier versions of openavc, to the last one."""
    while SEEN in table.tags.list():
        version = table.tags.get_version(SEEN)
        try:
            table.checkout(version)
            return table
        except ValueError:
            if table.tags.get_version(SEEN) == version:
                raise  # otherwise the tag moved on, and the version was deleted, since it was read
    table.checkout_latest()
    return table


def ask(table: Table, question: Callable[[Table], Answer]) -> Answer:
    """Ask a table something, again if the version that it holds was replaced and deleted meanwhile.

    Parameters
    ----------
    table : Table
        From `open_library`; it turns to the version that is seen then.
    question : callable
        Given the table.

    Returns
    -------
    answer
        Of one version.
    """
    while True:
        version = table.version
        try:
            return question(table)
        except (OSError, RuntimeError, ValueError):  # LanceDB's errors for a missing file are any of these
            if to_seen(table).version == version:
                raise


def show(table: Table) -> None:
    """Let searches see the last version of a table."""
    tags = table.tags
    change = tags.update if SEEN in tags.list() else tags.create
    change(SEEN, table.version)


def begin(table: Table) -> None:
    """Prepare a table for writing: what a killed writer left incomplete is undone."""
    if SEEN in table.tags.list() and table.tags.get_version(SEEN) != table.version:
        table.checkout(SEEN)
        table.restore()
    show(table)


def compact(table: Table) -> None:
    """Merge small files, leave removed rows out, and add new rows to the index; no version is deleted."""
    before = None
    while before != table.version:  # rows that have come into the index may be merged with others in the next round
        before = table.version
        table.optimize(cleanup_older_than=datetime.timedelta(days=36_500))


def delete_replaced(table: Table, folder: Path, keep: datetime.timedelta) -> None:
    """Delete versions that are no longer seen, and files that killed writers left.

    Parameters
    ----------
    table : Table
        Whose last version is seen.
    folder : Path
        Of the library.
    keep : timedelta
        Time since they were replaced for which versions are kept, unless the library would take more than `ALLOWED`
        times its own size.
    """
    now = datetime.datetime.now()
    ages = sorted(now - version["timestamp"] for version in table.list_versions())
    seen_then = next((age for age in ages if age > keep), ages[-1])  # of the version that was replaced since
    for age in (seen_then + keep, datetime.timedelta(milliseconds=1)):  # ages grow until the deletion begins
        table.optimize(cleanup_older_than=age, delete_unverified=True)
        if _bytes_of_files(folder) <= max(ALLOWED * table.stats()["total_bytes"], _SMALL):
            return


def _bytes_of_files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
