"""Loudness: the root mean square of samples in [-1, 1], in dBFS; silence is -200."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUIETEST = -42.0  # dBFS, least loudness of the windows that the networks here learn from, are measured on and find
_SILENCE = 1e-20  # power, -200 dBFS


def loudness(samples: np.ndarray) -> float:
    """Measure the root mean square of samples (n,) or (n, channels) in dBFS; silence is -200."""
    return float(10 * np.log10(np.mean(np.square(samples.ravel(), dtype=np.float64)) + _SILENCE))


def windows_loudness(samples: np.ndarray, starts: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    """Measure windows of `length` samples that begin at `starts` in samples (n, channels): (len(starts),) dBFS."""
    power = np.square(samples, dtype=np.float64).mean(axis=1)
    energy = np.concatenate([[0.0], np.cumsum(power)])  # up to each sample
    first = np.asarray(starts)
    mean = (energy[first + length] - energy[first]) / length
    return 10 * np.log10(np.maximum(mean, 0) + _SILENCE)  # differences of sums may round to just below 0
