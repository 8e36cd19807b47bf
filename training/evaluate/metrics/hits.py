"""Hits: whether the middle of a map's highest cell lies in a box (Objects that Sound, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..datasets.boxes import Box, inside


def highest(heatmap: np.ndarray) -> tuple[float, float]:
    """Find the middle of the highest cell of a map (h, w): x and y, fractions of the picture."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return (column + 0.5) / heatmap.shape[1], (row + 0.5) / heatmap.shape[0]


def box_hits(heatmaps: Sequence[np.ndarray], boxes: Sequence[Box]) -> np.ndarray:
    """Return 1 for each map (h, w) whose highest cell lies in its box, else 0: (n,)."""
    return np.array([inside(highest(heatmap), box) for heatmap, box in zip(heatmaps, boxes, strict=True)], float)


def reachable(heatmap: np.ndarray, box: Box) -> bool:
    """Whether the middle of some cell of a map (h, w) lies in the box."""
    height, width = heatmap.shape
    return any(inside(((k + 0.5) / width, (j + 0.5) / height), box) for j in range(height) for k in range(width))
