"""Results as Parquet: one row a window, for pandas, Polars, DuckDB and whatever else reads tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import write_atomically
from ..media.container import existing_file
from ..progress import step

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

ENDING = ".parquet"
_KEY = b"openavc"  # of the metadata, in those of the file
_TIMES = "timestamps"  # the array that becomes the column `timestamp`


def check_parquet() -> None:
    """Raise ImportError unless what reads and writes Parquet is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ImportError('Parquet needs pyarrow: pip install "openavc[parquet]"') from None


def write_table(path: Path, blocks: Iterator[dict[str, np.ndarray]], metadata: dict) -> None:
    """Write a result, completely or not at all.

    Columns are `source`, the path of the file that was embedded, `timestamp`, and what else the blocks hold: numbers,
    or vectors as lists of one length. The metadata of the result, JSON, is that of the file under the key "openavc".

    Parameters
    ----------
    path : Path
    blocks : iterator of dict
        Name -> rows (n,) or (n, D), at least one block; all are alike.
    metadata : dict
    """
    from pyarrow.parquet import ParquetWriter

    source = metadata["source"]["path"]
    first = _to_table(next(blocks), source)
    schema = first.schema.with_metadata({_KEY: json.dumps(metadata)})
    with (
        write_atomically(path) as partial,
        open(partial, "wb") as file,
        ParquetWriter(file, schema, write_page_checksum=True) as writer,
    ):
        writer.write_table(first)
        for block in blocks:
            writer.write_table(_to_table(block, source))
            step()


def _to_table(block: dict[str, np.ndarray], source: str) -> pyarrow.Table:
    """Turn a block of rows into a table."""
    import pyarrow

    columns: dict[str, Any] = {"source": pyarrow.array([source] * len(block[_TIMES])), "timestamp": block[_TIMES]}
    for name, rows in block.items():
        if rows.ndim == 2:
            columns[name] = pyarrow.FixedSizeListArray.from_arrays(np.ascontiguousarray(rows).ravel(), rows.shape[1])
        elif name != _TIMES:
            columns[name] = rows
    return pyarrow.table(columns)


def read_table_metadata(path: Path) -> dict:
    """Return the metadata of a result; any error if it is none."""
    from pyarrow.parquet import read_metadata

    return json.loads(read_metadata(existing_file(path)).metadata[_KEY])


def column_of(name: str) -> str:
    """Return the column that holds an array of a result."""
    return "timestamp" if name == _TIMES else name


def opened_table(path: Path) -> ParquetFile:
    """Open a result for reading, by `with`; reading raises any error where a page isn't what was written."""
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path, page_checksum_verification=True)


def unpacked_size(file: ParquetFile) -> int:
    """Return how many bytes the numbers and vectors of a result unpack to, in however few they are encoded."""
    return file.metadata.num_rows * sum(map(_bits, file.schema_arrow.types)) // 8


def _bits(kind: Any) -> int:
    from pyarrow import types

    if types.is_fixed_size_list(kind):
        return kind.list_size * _bits(kind.value_type)
    return kind.bit_width if types.is_primitive(kind) else 0


def is_whole_table(path: Path) -> bool:
    """Whether every page of a result has the checksum that it was written with."""
    try:
        with opened_table(path) as file:
            for _ in file.iter_batches():
                step()
        return True
    except Exception:  # damage raises any error
        return False
