"""DCASE2014: 10 acoustic scenes, 100 clips of 30 s to train on and 100 to test."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from .recordings import Recordings

TRAIN, TEST = "scenes_stereo", "scenes_stereo_testset"
PARTS = 5  # folds of the training clips, to choose C
_SPLITS = {"train": True, "1": True, "test": False, "2": False}


def read_dcase(folder: Path) -> Recordings:
    """Read DCASE2014's folders `scenes_stereo` and `scenes_stereo_testset`, or `meta.csv` if there is one.

    Files of the folders are named after their scene, as `bus01.wav`. `meta.csv` has the columns filename, split or
    fold (train or 1, test or 2) and class. Test clips are fold 0; the training clips of each class are dealt into folds
    1 to 5.

    Raises
    ------
    FileNotFoundError
        If there are neither folders nor `meta.csv`, or a file is missing.
    ValueError
        If a file isn't named after its scene, a split is unknown, or a scene isn't in both splits.
    """
    clips = _listed(folder) if (folder / "meta.csv").exists() else _named(folder)
    classes = sorted({name for _, name, _ in clips})
    for split in (True, False):
        missing = set(classes) - {name for _, name, train in clips if train is split}
        if missing:
            raise ValueError(f"{folder}: no {'training' if split else 'test'} clips of {', '.join(sorted(missing))}")
    labels = np.array([classes.index(name) for _, name, _ in clips])
    folds = np.zeros(len(clips), dtype=int)
    train = np.array([split for _, _, split in clips])
    for label in range(len(classes)):
        chosen = np.flatnonzero(train & (labels == label))
        folds[chosen] = 1 + np.arange(len(chosen)) % PARTS
    return Recordings([path for path, _, _ in clips], labels, folds, classes)


def _named(folder: Path) -> list[tuple[Path, str, bool]]:
    """List (path, scene, whether to train on it) of each clip, from the data set's own folders."""
    clips = []
    for name, train in ((TRAIN, True), (TEST, False)):
        paths = sorted(path for path in (folder / name).rglob("*.wav") if not path.name.startswith("."))
        if not paths:
            raise FileNotFoundError(
                f"{folder} has neither meta.csv nor sounds (*.wav) in both {TRAIN} and {TEST}; none are in {name}"
            )
        clips += [(path, _scene(path), train) for path in paths]
    return clips


def _scene(path: Path) -> str:
    match = re.fullmatch(r"([A-Za-z]+)_?\d+", path.stem)
    if not match:
        raise ValueError(f"{path} isn't named after its scene and a number, such as bus01.wav")
    return match[1]


def _listed(folder: Path) -> list[tuple[Path, str, bool]]:
    """List (path, scene, whether to train on it) of each clip, from `meta.csv`."""
    with open(folder / "meta.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    clips = []
    for row in rows:
        split = row.get("split") or row.get("fold") or ""
        if "filename" not in row or not row.get("class") or split not in _SPLITS:
            raise ValueError(
                f"{folder / 'meta.csv'} needs filename, class, and split or fold of {', '.join(_SPLITS)}: {row}"
            )
        path = folder / row["filename"]
        if not path.exists():
            raise FileNotFoundError(f"{path}, named in {folder / 'meta.csv'}, doesn't exist")
        clips.append((path, row["class"], _SPLITS[split]))
    return clips
