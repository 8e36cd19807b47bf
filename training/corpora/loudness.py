"""Loudness, and the times of a recording that are loud enough to learn from, or to measure on.

Loudness is the root mean square of samples in [-1, 1], in dBFS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

Time = TypeVar("Time")


def loudness(samples: np.ndarray) -> float:
    """Measure the root mean square of samples (n,) or (n, channels) in dBFS; silence is -200."""
    return float(10 * np.log10(np.mean(np.square(samples.ravel(), dtype=np.float64)) + 1e-20))


def loud_moments(
    read: Callable[[Time], np.ndarray], times: Iterable[Time], quietest: float
) -> Iterator[tuple[Time, np.ndarray]]:
    """Keep the times at which a recording is loud enough.

    Parameters
    ----------
    read : callable
        Returns the samples around a time, (n,) or (n, channels).
    times : iterable
        Times, or objects that stand for them; each is read only when its turn comes.
    quietest : float
        Least loudness, in dBFS.

    Yields
    ------
    time, samples
        In the order of `times`.
    """
    for time in times:
        samples = read(time)
        if loudness(samples) >= quietest:
            yield time, samples
