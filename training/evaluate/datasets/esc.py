"""ESC-10, ESC-50 and folders like them: environmental sounds with a table of folds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from .recordings import Recordings


def read_esc(folder: Path) -> Recordings:
    """Read a table (filename, fold, class or category); files lie in the folder, `audio/` or a folder per class.

    The table is `meta.csv`, or `meta/esc50.csv` as in ESC-50 as it is downloaded.

    If all clips are in one fold, `deal_folds` makes three folds by the column src_file.

    Raises
    ------
    FileNotFoundError
        If there is no table, or a file that it names is missing.
    """
    table = next((path for path in (folder / "meta.csv", folder / "meta" / "esc50.csv") if path.exists()), None)
    if table is None:
        raise FileNotFoundError(
            f"{folder} has neither meta.csv nor meta/esc50.csv with the columns filename, fold and class or category"
        )
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [row.get("class") or row["category"] for row in rows]
    paths = [_locate(folder, table, row["filename"], name) for row, name in zip(rows, names, strict=True)]
    classes = sorted(set(names))
    folds = np.array([int(row["fold"]) for row in rows])
    if len(set(folds)) == 1:
        folds = np.array(deal_folds([row["src_file"] for row in rows], names))
    return Recordings(paths, np.array([classes.index(name) for name in names]), folds, classes)


def deal_folds(sources: list[str], names: list[str]) -> list[int]:
    """Deal clips into three folds that have no recording in common.

    The recordings of each class are dealt in turn, so each class is in all folds if it has three recordings.

    Parameters
    ----------
    sources, names : list of str
        The recording that each clip was cut from, and its class.

    Returns
    -------
    folds : list of int
        0, 1 or 2 for each clip.
    """
    fold: dict[str, int] = {}
    for name in sorted(set(names)):
        recordings = sorted({source for source, other in zip(sources, names, strict=True) if other == name})
        for number, source in enumerate(recordings):
            fold.setdefault(source, number % 3)
    return [fold[source] for source in sources]


def _locate(folder: Path, table: Path, name: str, label: str) -> Path:
    for path in (folder / name, folder / "audio" / name, folder / label / name):
        if path.exists():
            return path
    raise FileNotFoundError(f"{name}, named in {table}, is neither in {folder}, nor in audio/ or {label}/")
