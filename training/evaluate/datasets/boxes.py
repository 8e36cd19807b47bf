"""Boxes (x, y, width, height) and points (x, y), as fractions of the picture."""

from __future__ import annotations

Box = tuple[float, float, float, float]


def area(box: Box) -> float:
    """Return the share of the picture that a box covers."""
    return box[2] * box[3]


def overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes share, as a fraction of the smaller box's."""
    sides = [
        max(0.0, min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k])) for k in (0, 1)
    ]  # width and height
    return sides[0] * sides[1] / min(area(one), area(other))


def inside(point: tuple[float, float], box: Box) -> bool:
    """Whether a point lies in a box; the box's right and lower edges are excluded."""
    x, y, width, height = box
    return x <= point[0] < x + width and y <= point[1] < y + height
