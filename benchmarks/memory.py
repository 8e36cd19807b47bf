"""Peak memory of the command line, for little and for ten times as much; a ratio of 1.0 says that it doesn't grow.

    python benchmarks/memory.py                     one hour of sound and ten, at hop 0.1 s
    python benchmarks/memory.py --hop-size 1
    python benchmarks/memory.py picture             a JPEG of 67 megapixels and one of 280
    python benchmarks/memory.py index               results of one hour of sound and of ten, for a library
    python benchmarks/memory.py plan                a million files

Writes files of noise, or of one colour, embeds each with `openavc audio` or `image`, and prints the peak of the largest
of the command's processes. With `index`, results of random vectors are added to a library. With `plan`, so many empty
files, 10,000 a folder, are planned in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import soundfile

from openavc.extraction.results import write_result

RATE = 44_100  # Hz
PLAN = """
import resource, sys, time
from pathlib import Path
from openavc.extraction.extraction import EXTENSIONS, UNREAD
from openavc.extraction.planning import passed_over, plan_jobs, standing_for_nothing
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
plan = plan_jobs(sys.argv[1:], Path("out"), EXTENSIONS["audio"])
passed_over(sys.argv[1:], plan, UNREAD["audio"]), standing_for_nothing(sys.argv[1:], EXTENSIONS["audio"])
took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
busy = time.process_time()
print(f"{len(plan):,} files planned in {took:.1f} s ({busy:.1f} s of the CPU)")
print(f"peak {after / 1024:.0f} MB, {before / 1024:.0f} MB before")
"""


def write_noise(path: Path, hours: float) -> None:
    """Write a mono file that repeats ten seconds of noise."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 10 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16", format="RF64") as file:
        for _ in range(round(360 * hours)):
            file.write(noise)


def peak_of(*arguments: object) -> tuple[float, float]:
    """Run `openavc`; return (peak resident memory of the larger of it and its worker in MB, seconds)."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "openavc", *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"openavc {' '.join(map(str, arguments))} failed")
    return usage.ru_maxrss / 1024, time.monotonic() - started


def compare(names: tuple[str, str], runs: list[tuple[float, float]]) -> None:
    """Print peaks and times of two runs, and what the second has of the first."""
    for name, (peak, took) in zip(names, runs, strict=True):
        print(f"{name}: peak {peak:.0f} MB, {took:.1f} s")
    (small, quick), (large, slow) = runs
    print(f"ratio of peaks {large / small:.2f}, of times {slow / quick:.1f}")


@click.group(invoke_without_command=True)
@click.option("--hop-size", type=float, default=0.1, show_default=True)
@click.option("--hours", type=float, default=1.0, show_default=True, help="The other file has ten times as many.")
@click.pass_context
def main(context: click.Context, hop_size: float, hours: float) -> None:
    """Measure sound, unless a command is given."""
    if context.invoked_subcommand:
        return
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 10):
            path = Path(folder, "noise.wav")
            write_noise(path, times * hours)
            runs.append(peak_of("audio", path, "--output", Path(folder, str(times)), "--hop-size", hop_size))
            size = Path(folder, str(times), "noise.npz").stat().st_size
            print(f"{times * hours:g} h: a result of {size / 1e6:.0f} MB", flush=True)
    compare((f"{hours:g} h", f"{10 * hours:g} h"), runs)


@main.command()
def picture() -> None:
    """Measure pictures."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("67", (8192, 8192)), ("280", (16_732, 16_732))):
            path = Path(folder, f"{name}.jpg")
            drawn = f"Image.new('RGB', {size}, (200, 40, 90)).save({str(path)!r}, quality=50)"
            subprocess.run([sys.executable, "-c", f"from PIL import Image; {drawn}"], check=True)  # peaks are inherited
            runs.append(peak_of("image", path, "--output", folder))
    compare(("67 megapixels, the most that are decoded whole", "280 megapixels, decoded at an eighth"), runs)


@main.command()
@click.option("--hours", type=int, default=1, show_default=True, help="The other result is of ten times as many.")
def index(hours: int) -> None:
    """Measure a library that a long result is added to."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 10):
            path = Path(folder, f"{times}.npz")
            vectors = np.random.default_rng(0).normal(size=(36_000 * times * hours, 128)).astype(np.float32)
            about = {"path": f"/{times}.wav", "name": f"{times}.wav", "sha256": "1" * 64}
            parameters = {"modality": "audio", "embedding": "joint"}
            metadata = {"model": "drawn", "weights_sha256": "0" * 64, "parameters": parameters, "source": about}
            write_result(path, {"embedding": vectors, "timestamps": np.arange(len(vectors)) / 10}, metadata)
            runs.append(peak_of("index", path, "--db", Path(folder, f"library-{times}")))
    compare((f"{hours} h", f"{10 * hours} h"), runs)


@main.command()
@click.option("--number", type=int, default=1_000_000, show_default=True)
def plan(number: int) -> None:
    """Measure planning."""
    with tempfile.TemporaryDirectory() as folder:
        for k in range(number):
            if k % 10_000 == 0:
                inner = Path(folder, f"recordings-{k // 10_000:04d}")
                inner.mkdir()
            (inner / f"recording-{k:09d}.wav").touch()
        subprocess.run([sys.executable, "-c", PLAN, folder], check=True)


if __name__ == "__main__":
    main()
