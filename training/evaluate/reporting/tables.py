"""Figures as text: aligned tables, means with their spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def table(title: str, rows: dict[str, dict[str, str]]) -> str:
    """Align rows of named cells as text; cells that a row lacks stay blank."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[title, *columns]] + [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def spread(values: Sequence[float]) -> str:
    """Format the mean and the standard deviation of some values, or only the value if there is one."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} +- {np.std(values, ddof=1):.1f}"


def all_tables(tables: dict[str, dict[str, dict[str, str]]]) -> str:
    """Format tables by their titles, with a line between them."""
    return "\n\n".join(table(title, rows) for title, rows in tables.items())
