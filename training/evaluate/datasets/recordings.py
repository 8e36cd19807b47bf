"""Labelled recordings in folds, as ESC and DCASE read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Recordings:
    """Labelled sound files in folds."""

    paths: list[Path]
    labels: np.ndarray  # (n,) int
    folds: np.ndarray  # (n,) int
    classes: list[str]
