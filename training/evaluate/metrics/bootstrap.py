"""The uncertainty of means: 95 % intervals by bootstrapping.

Samples of one group are correlated, so groups are resampled whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def interval(values: np.ndarray, groups: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float]:
    """Bootstrap the 95 % interval of a mean.

    Parameters
    ----------
    values : ndarray, shape (n,)
    groups : ndarray, shape (n,)
        Group of each value.
    seed : int
    draws : int
        Number of resamplings.

    Returns
    -------
    low, high : float
    """
    _, number = np.unique(groups, return_inverse=True)
    totals, counts = np.bincount(number, values), np.bincount(number)
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
    low, high = np.percentile((drawn @ totals) / (drawn @ counts), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Share:
    """A percentage, or the difference of two, with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def share(values: np.ndarray, groups: np.ndarray, seed: int) -> Share:
    """Return the mean of `values` (n,) in percent, and its interval by bootstrapping over `groups` (n,)."""
    values = 100 * np.asarray(values, np.float64)
    return Share(float(np.mean(values)), *interval(values, groups, seed))
