"""Ratios measured in one run: resampling against resampy, hops against each other, and the start of the command line.

python benchmarks/speed.py
"""

import subprocess
import sys
import time

import numpy as np
import resampy

import openavc
from openavc.audio import resample


def seconds(function, repeats: int = 5) -> float:
    """Best time of a call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    rng = np.random.default_rng(0)
    for source, target in ((44_100, 24_000), (48_000, 24_000), (16_000, 48_000)):
        waveform = rng.uniform(-1, 1, 30 * source).astype(np.float32)
        theirs = seconds(lambda w=waveform, s=source, t=target: resampy.resample(w, s, t, filter="kaiser_best"))
        ours = seconds(lambda w=waveform, s=source, t=target: resample(w, s, t))
        print(f"resampling {source} to {target} Hz: {theirs / ours:.0f} times faster than resampy")
    waveform = rng.uniform(-1, 1, 30 * 24_000).astype(np.float32)
    model = openavc.load_model()
    for hop in (1.0, 0.5, 0.1):
        took = seconds(lambda h=hop: openavc.get_audio_embedding(waveform, 24_000, model, hop_size=h))
        print(f"embedding at hop {hop} s: {30 / took:.0f} times real time on {model.name}")
    took = seconds(lambda: subprocess.run([sys.executable, "-m", "openavc", "--help"], capture_output=True, check=True))
    bare = seconds(lambda: subprocess.run([sys.executable, "-c", "import click"], capture_output=True, check=True))
    print(f"openavc --help: {took:.2f} s, importing click alone {bare:.2f} s")


if __name__ == "__main__":
    main()
