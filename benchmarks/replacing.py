"""Searches of a library while its vectors are replaced, kills of `openavc index`, and the space that many runs take.

    python benchmarks/replacing.py

Random vectors of recordings, 100 each, are indexed from .npz results. Then, again and again, a share of the results is
written anew, with as many vectors, and indexed by the command in a process of its own, first to its end and then killed
by SIGKILL after a random time. Meanwhile, other processes search without a pause. Each search counts all vectors and
asks for a vector of a recording that doesn't change, by the approximate index or exactly, in turn. In the end, the
library is compared with the results, vector by vector. The seed is printed.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout

from openavc.extraction import results
from openavc.library.search import nearest
from openavc.library.table import open_library

PROJECT = Path(__file__).parents[1]
WINDOWS, DIMENSIONS = 100, 128


def draw(recording: int, edition: int) -> np.ndarray:
    """Draw the vectors of a recording, (WINDOWS, DIMENSIONS), of length 1; another edition has others."""
    vectors = np.random.default_rng((recording, edition)).normal(size=(WINDOWS, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write(folder: Path, recording: int, edition: int) -> None:
    """Write the result of a recording, as `openavc audio` does."""
    metadata = {
        "model": "drawn",
        "weights_sha256": "0" * 64,
        "parameters": {"modality": "audio", "embedding": "joint"},
        "source": {"name": f"{recording}.wav", "path": f"/recordings/{recording}.wav", "sha256": "0" * 64},
    }
    arrays = {"embedding": draw(recording, edition), "timestamps": np.arange(WINDOWS) / 10}
    results.write_result(folder / f"{recording}.npz", arrays, metadata)


def start_index(folder: Path) -> subprocess.Popen:
    """Start the command."""
    command = [sys.executable, "-m", "openavc", "index", str(folder / "results"), "--db", str(folder / "library")]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def megabytes(folder: Path) -> float:
    """Measure what a library takes."""
    return sum(path.stat().st_size for path in (folder / "library").rglob("*") if path.is_file()) / 1e6


def search_on(folder: Path, unchanged: int, recordings: int, seed: int, over: Event) -> Counter:
    """Search until it is over; count searches, those that missed vectors, and those that failed."""
    counts, draws = Counter(), random.Random(seed)
    while not over.is_set():
        recording = draws.randrange(unchanged, recordings)
        try:
            table = open_library(folder / "library")
            missing = recordings * WINDOWS - table.count_rows()
            hit = nearest(table, draw(recording, 0)[0], k=1, exact=bool(counts["searches"] % 2))[0]
        except Exception as error:  # of any kind: it is what is counted
            counts["failed"] += 1
            click.echo(f"{type(error).__name__}: {error}", err=True)
            continue
        counts["searches"] += 1
        if missing or hit.source != f"/recordings/{recording}.wav":
            counts["missed vectors"] += 1
            counts["most missing"] = max(counts["most missing"], missing)
    return counts


def differing(folder: Path, editions: list[int]) -> int:
    """Count the vectors in which a library differs from the last edition of its recordings."""
    rows = open_library(folder / "library").search().select(["source", "timestamp", "vector"]).to_arrow()
    there = {(row["source"], round(10 * row["timestamp"])): row["vector"] for row in rows.to_pylist()}
    wrong = abs(len(rows) - len(editions) * WINDOWS)
    for recording, edition in enumerate(editions):
        for window, vector in enumerate(draw(recording, edition)):
            found = there.get((f"/recordings/{recording}.wav", window))
            wrong += found is None or not np.allclose(found, vector, atol=1e-6)
    return wrong


@click.command(help=__doc__.split("\n")[0])
@click.option("--recordings", type=click.IntRange(min=2), default=2040, show_default=True)
@click.option("--share", type=click.FloatRange(0, 1, max_open=True), default=0.375, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--kills", type=click.IntRange(min=0), default=30, show_default=True)
@click.option("--searchers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(recordings: int, share: float, runs: int, kills: int, searchers: int, seed: int) -> None:
    """Print what searches found, how long runs took, and how large the library became."""
    changed = round(share * recordings)
    editions, moments = [0] * recordings, random.Random(seed)
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as name, context.Manager() as manager, context.Pool(searchers) as pool:
        folder, over = Path(name), manager.Event()
        for recording in range(recordings):
            write(folder / "results", recording, 0)

        def index() -> float:
            began, process = time.perf_counter(), start_index(folder)
            output, _ = process.communicate()
            if process.returncode:
                raise click.ClickException(output)
            return time.perf_counter() - began

        def change() -> None:
            for recording in range(changed):
                editions[recording] += 1
                write(folder / "results", recording, editions[recording])

        first, size = index(), megabytes(folder)
        click.echo(f"{recordings * WINDOWS} vectors: {first:.1f} s to index, {size:.0f} MB; seed {seed}")
        searching = [
            pool.apply_async(search_on, (folder, changed, recordings, seed + number, over))
            for number in range(searchers)
        ]
        times, sizes = [], []
        for _ in range(runs):
            change()
            times.append(index())
            sizes.append(megabytes(folder))
        click.echo(
            f"{runs} runs, each of which replaced {changed * WINDOWS} vectors: {np.median(times):.1f} s each "
            f"(at most {max(times):.1f}); {max(sizes):.0f} MB at most after one of them, {sizes[-1]:.0f} MB after all"
        )
        for _ in range(kills):
            change()
            process = start_index(folder)
            time.sleep(moments.uniform(0, 1.2 * np.median(times)))
            process.kill()
            process.communicate()
        last = index()
        over.set()
        counts = sum((each.get() for each in searching), Counter())
        click.echo(
            f"{kills} runs killed, the next {last:.1f} s; {megabytes(folder):.0f} MB in the end; "
            f"vectors that differ from the results: {differing(folder, editions)}"
        )
    click.echo(
        f"{counts['searches']} searches meanwhile: {counts['missed vectors']} missed vectors (at most "
        f"{counts['most missing']}), {counts['failed']} failed"
    )


if __name__ == "__main__":
    main()
