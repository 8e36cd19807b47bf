"""The LanceDB table of a library: opening it, and helpers for its readers and writers."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from .versions import ask, to_seen

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table

MODALITIES = ("audio", "image")
TABLE = "moments"  # the name of the only table in a library


def open_library(db: str | os.PathLike) -> Table:
    """Open the table of a library, at the version that searches see.

    Parameters
    ----------
    db : str or path
        Folder of the library.

    Returns
    -------
    table : Table

    Raises
    ------
    FileNotFoundError
        If there is no library.
    ValueError
        If the name of its folder isn't UTF-8.
    ImportError
        If LanceDB isn't installed.
    """
    lancedb = import_lancedb()
    check_name(db)
    table = open_table(lancedb.connect(db)) if Path(db).is_dir() else None  # connecting would make the folder
    if table is None:
        raise FileNotFoundError(f"there is no library in {db}: make one with openavc index EMBEDDINGS --db {db}")
    return to_seen(table)


def count_vectors(db: str | os.PathLike) -> int:
    """Return the number of vectors in a library; 0 if it is still empty."""
    table = open_table(import_lancedb().connect(db)) if Path(db).is_dir() else None  # connecting would make the folder
    return 0 if table is None else ask(to_seen(table), lambda seen: seen.count_rows())


def import_lancedb() -> ModuleType:
    """Return the module `lancedb`; raise ImportError with advice if it isn't installed."""
    try:
        import lancedb
    except ImportError as error:
        raise ImportError('searching needs LanceDB: pip install "openavc[search]"') from error
    return lancedb


def open_table(connection: DBConnection) -> Table | None:
    """Return the table of a connected library, or None if it has none yet."""
    try:
        return connection.open_table(TABLE)
    except ValueError as error:
        if "not found" not in str(error):
            raise
        return None


def recorded_model(table: Table) -> dict | None:
    """Return `model` and `weights_sha256` of the model that made a table's vectors, or None if it is empty."""
    columns = ["model", "weights_sha256"]
    rows = ask(table, lambda seen: seen.search().limit(1).select(columns).to_arrow().to_pylist())
    return {key: rows[0][key] for key in columns} if rows else None


def check_name(path: str | os.PathLike) -> None:
    """Raise ValueError for a path that LanceDB can neither open nor store."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"a library takes names in UTF-8 alone, and {str(path)!r} isn't: rename it") from None


def quoted(text: str) -> str:
    """Return text as a string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def to_unit_length(vectors: np.ndarray) -> np.ndarray:
    """Scale rows (N, D) to length 1, as float32; raise ValueError if one of them has no direction."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a vector of zeros, or of numbers that aren't finite, has no direction")
    return vectors / lengths
