"""Ratios measured in one run: resampling against resampy, hops and one pass against window by window, the start.

python benchmarks/speed.py
"""

import copy
import subprocess
import sys
import time

import numpy as np
import resampy

import openavc
from openavc.audio import resample


def seconds(function, repeats: int = 5) -> float:
    """Best time of a call, after one that warms up."""
    return in_turn(function, repeats=repeats)[0]


def in_turn(*functions, repeats: int = 5) -> list[float]:
    """Best time of each; they take turns, so that what else the machine does is spread over all."""
    times = [[] for _ in functions]
    for _ in range(1 + repeats):
        for taken, function in zip(times, functions, strict=True):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
    return [min(taken[1:]) for taken in times]


def main() -> None:
    rng = np.random.default_rng(0)
    for source, target in ((44_100, 24_000), (48_000, 24_000), (16_000, 48_000)):
        waveform = rng.uniform(-1, 1, 30 * source).astype(np.float32)
        theirs = seconds(lambda w=waveform, s=source, t=target: resampy.resample(w, s, t, filter="kaiser_best"))
        ours = seconds(lambda w=waveform, s=source, t=target: resample(w, s, t))
        print(f"resampling {source} to {target} Hz: {theirs / ours:.0f} times faster than resampy")
    waveform = rng.uniform(-1, 1, 30 * 24_000).astype(np.float32)
    model = openavc.load_model()
    apart = copy.copy(model)
    apart.slice_samples = None  # window by window
    hops = (1.0, 0.5, 0.1)
    ways = [
        lambda m=m, h=h: openavc.get_audio_embedding(waveform, 24_000, m, hop_size=h)
        for h in hops
        for m in (model, apart)
    ]
    times = in_turn(*ways)
    for hop, one_pass, windows in zip(hops, times[::2], times[1::2], strict=True):
        print(
            f"embedding at hop {hop} s on {model.name}: {30 / one_pass:.0f} times real time, "
            f"window by window {30 / windows:.0f} ({windows / one_pass:.1f} times as long)"
        )
    print(f"hop {hops[-1]} s takes {times[-2] / times[0]:.2f} times as long as hop {hops[0]} s")
    took = seconds(lambda: subprocess.run([sys.executable, "-m", "openavc", "--help"], capture_output=True, check=True))
    bare = seconds(lambda: subprocess.run([sys.executable, "-c", "import click"], capture_output=True, check=True))
    print(f"openavc --help: {took:.2f} s, importing click alone {bare:.2f} s")


if __name__ == "__main__":
    main()
