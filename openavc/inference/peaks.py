"""The highest values of a video's maps, by which videos are ranked.

PyTorch isn't imported here, as processes that only tell peaks don't need it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Peaks(NamedTuple):
    """The highest value of each map of a video."""

    quantity: str  # "probability", or "activation" of networks that fuse clips
    timestamps: np.ndarray  # (T,) seconds
    values: np.ndarray  # (T,)

    @property
    def highest(self) -> tuple[float, float]:
        """The highest value of all, and its time."""
        index = int(self.values.argmax())
        return float(self.values[index]), float(self.timestamps[index])


def peaks_of_frames(peaks: Iterable[tuple[float, float]]) -> Peaks:
    """Return the (time, highest probability) pairs of frames as `Peaks`; objects for the pairs aren't kept."""
    times, values = np.fromiter(peaks, dtype=np.dtype((np.float64, 2))).T
    return Peaks("probability", times, values)
