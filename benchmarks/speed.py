"""Ratios of times, measured in one run.

    python benchmarks/speed.py

Compares resampling with resampy, embedding in one pass with embedding window by window at several hops, and the start
of the command line with importing only click.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import resampy

import openavc
from openavc.media.resample import resample


def seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Time a function; return the best of some calls, in seconds, after one that warms up."""
    return in_turn(function, repeats=repeats)[0]


def in_turn(*functions: Callable[[], Any], repeats: int = 5) -> list[float]:
    """Time functions that take turns, so that other load slows all of them alike; return the best time of each."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(1 + repeats):
        for taken, function in zip(times, functions, strict=True):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
    return [min(taken[1:]) for taken in times]


def main() -> None:
    """Print the ratios."""
    rng = np.random.default_rng(0)
    for source, target in ((44_100, 24_000), (48_000, 24_000), (16_000, 48_000)):
        noise = rng.uniform(-1, 1, 30 * source).astype(np.float32)
        theirs = seconds(partial(resampy.resample, noise, source, target, filter="kaiser_best"))
        ours = seconds(partial(resample, noise, source, target))
        print(f"resampling {source} to {target} Hz: {theirs / ours:.0f} times faster than resampy")
    noise = rng.uniform(-1, 1, 30 * 24_000).astype(np.float32)
    model = openavc.load_model()
    apart = copy.copy(model)
    apart.slice_samples = None  # window by window
    hops = (1.0, 0.5, 0.1)
    ways = [
        partial(openavc.get_audio_embedding, noise, 24_000, network, hop_size=hop)
        for hop in hops
        for network in (model, apart)
    ]
    times = in_turn(*ways)
    for hop, one_pass, windows in zip(hops, times[::2], times[1::2], strict=True):
        print(
            f"embedding at hop {hop} s on {model.name}: {30 / one_pass:.0f} times real time, "
            f"window by window {30 / windows:.0f} ({windows / one_pass:.1f} times as long)"
        )
    print(f"hop {hops[-1]} s takes {times[-2] / times[0]:.2f} times as long as hop {hops[0]} s")
    start = partial(subprocess.run, capture_output=True, check=True)
    took = seconds(partial(start, [sys.executable, "-m", "openavc", "--help"]))
    bare = seconds(partial(start, [sys.executable, "-c", "import click"]))
    print(f"openavc --help: {took:.2f} s, importing click alone {bare:.2f} s")


if __name__ == "__main__":
    main()
