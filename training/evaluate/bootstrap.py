"""How sure a mean is: intervals by drawing anew."""

from __future__ import annotations

import numpy as np


def interval(values: np.ndarray, places: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `values` (n,), drawn by whole `places` (n,): what is of one is alike."""
    _, number = np.unique(places, return_inverse=True)
    totals, counts = np.bincount(number, values), np.bincount(number)
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
    low, high = np.percentile((drawn @ totals) / (drawn @ counts), [2.5, 97.5])
    return float(low), float(high)
