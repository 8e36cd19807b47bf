"""Peak memory of embedding one hour of sound.

    python benchmarks/memory.py

Writes an hour of noise at 44.1 kHz in stereo, embeds it with the command line at a hop of 0.1 s in its own process, and
prints the peak of that process beside the peak for ten seconds of noise, nearly all of which is due to libraries.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 44_100


def write_noise(path: Path, seconds: int) -> None:
    """Write a stereo file of noise."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for _ in range(seconds // 10):
            file.write(rng.uniform(-0.5, 0.5, (10 * RATE, 2)))


def embed(path: Path, output: Path) -> tuple[float, float]:
    """Run `openavc audio`; return (peak resident memory in MB, seconds).

    The peak is that of all processes so far, so the smaller job must be measured first.
    """
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "openavc", "audio", str(path), "--output", str(output)], check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, time.monotonic() - started


def main() -> None:
    """Print the peak for both lengths."""
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in (("ten seconds", 10), ("one hour", 3600)):
            path = Path(folder) / f"{seconds}.wav"
            write_noise(path, seconds)
            peak, took = embed(path, Path(folder) / "out")
            print(f"{name}: peak {peak:.0f} MB, {took:.1f} s, {seconds / took:.0f} times real time", flush=True)


if __name__ == "__main__":
    main()
