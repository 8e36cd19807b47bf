"""The times of a recording that are loud enough to learn from, or to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from openavc.media.loudness import loudness

Time = TypeVar("Time")


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
