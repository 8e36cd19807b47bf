"""Search among many vectors: an approximate index against exact search and against NumPy, in one run.

    python benchmarks/search.py

The vectors are drawn from a seed and clustered like embeddings of recordings: 200 directions stand for kinds of sound,
recordings lie around them (cosine about 0.8), and 100 windows around each recording (0.9). They are indexed from .npz
results, as by `openavc index`. Queries are windows of recordings that aren't in the library. They ask for every moment
and are answered one at a time, after one that isn't counted.

With `--isotropic`, the vectors have no clusters, the worst case for an approximate index.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout

from openavc.extraction import results
from openavc.library.index import index_embeddings
from openavc.library.search import nearest
from openavc.library.table import open_library

KINDS, WINDOWS = 200, 100
RECORDING, WINDOW = 0.75, 0.48  # length of the noise around a direction of length 1, for cosines of 0.8 and 0.9
K = 10


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw(vectors: int, queries: int, dimensions: int, isotropic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Draw the vectors of a library and of queries: (vectors, D) and (queries, D), float32, of length 1."""
    rng = np.random.default_rng(0)
    if isotropic:
        both = unit(rng.normal(size=(vectors + queries, dimensions))).astype(np.float32)
        return both[:vectors], both[vectors:]

    def around(centres: np.ndarray, noise: float) -> np.ndarray:
        return unit(centres + noise * rng.normal(size=centres.shape) / np.sqrt(dimensions))

    kinds = unit(rng.normal(size=(KINDS, dimensions)))
    recordings = around(kinds[rng.integers(KINDS, size=-(-vectors // WINDOWS) + queries)], RECORDING)
    library = around(np.repeat(recordings[queries:], WINDOWS, axis=0)[:vectors], WINDOW)
    return library.astype(np.float32), around(recordings[:queries], WINDOW).astype(np.float32)


def write_results(vectors: np.ndarray, folder: Path) -> None:
    """Write an .npz for each recording, as `openavc audio` does."""
    for number, start in enumerate(range(0, len(vectors), WINDOWS)):
        part = vectors[start : start + WINDOWS]
        metadata = {
            "model": "drawn",
            "weights_sha256": "0" * 64,
            "parameters": {"modality": "audio", "embedding": "joint"},
            "source": {"name": f"{number}.wav", "path": f"/recordings/{number}.wav", "sha256": "0" * 64},
        }
        times = np.arange(len(part)) / 10
        results.write_result(folder / f"{number}.npz", {"embedding": part, "timestamps": times}, metadata)


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """Search with only NumPy; return the scores of the `k` nearest, the best first."""
    scores = vectors @ query
    return np.sort(scores[np.argpartition(-scores, k - 1)[:k]])[::-1]


def timed(function: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[list, float]:
    """Ask queries one at a time, the first one twice; return the answers, and the mean time per query in ms."""
    function(queries[0])
    started = time.perf_counter()
    answers = [function(query) for query in queries]
    return answers, 1000 * (time.perf_counter() - started) / len(queries)


def recall(answers: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Return the recall: the share of answers whose score is, up to rounding, at least that of the last true one."""
    good = [np.sum(np.asarray(scores) >= true[-1] - 1e-6) for scores, true in zip(answers, truth, strict=True)]
    return float(np.sum(good) / np.sum([len(true) for true in truth]))


def measure(vectors: int, queries: int, dimensions: int, folder: Path, isotropic: bool = False) -> dict:
    """Index vectors and search among them.

    Returns
    -------
    dict
        `index` (seconds it took), `kind` (of the approximate index), and `ways`: recall and milliseconds per query for
        each way of searching.
    """
    library, asked = draw(vectors, queries, dimensions, isotropic)
    k = min(K, vectors)
    write_results(library, folder / "results")
    started = time.perf_counter()
    index_embeddings(folder / "results", folder / "library")
    took = time.perf_counter() - started
    table = open_library(folder / "library")

    def search(query: np.ndarray, exact: bool) -> list[float]:
        return [hit.score for hit in nearest(table, query, k=k, moments=True, exact=exact)]

    ways = {
        "as `openavc search`": partial(search, exact=False),
        "`openavc search --exact`": partial(search, exact=True),
        "NumPy, all in memory": partial(brute_force, library, k=k),
    }
    answers = {name: timed(way, asked) for name, way in ways.items()}
    truth, _ = answers["NumPy, all in memory"]
    return {
        "index": took,
        "kind": next((table.index_stats(index.name).index_type for index in table.list_indices()), "none: all exact"),
        "ways": {name: (recall(scores, truth), milliseconds) for name, (scores, milliseconds) in answers.items()},
    }


@click.command(help=__doc__.split("\n")[0])
@click.option("--vectors", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--queries", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--dimensions", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--isotropic", is_flag=True, help="Vectors without clusters.")
def main(vectors: int, queries: int, dimensions: int, isotropic: bool) -> None:
    """Print recall and time of each way of searching."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            measured = measure(vectors, queries, dimensions, Path(folder), isotropic)
        except ImportError as error:
            raise click.ClickException(str(error)) from None
    click.echo(
        f"{vectors} vectors of {dimensions} values, from {-(-vectors // WINDOWS)} .npz: "
        f"{measured['index']:.1f} s to index; approximate index: {measured['kind']}; {queries} queries\n"
    )
    click.echo(f"| search | recall@{K} | ms a query |\n|---|---|---|")
    for name, (share, milliseconds) in measured["ways"].items():
        click.echo(f"| {name} | {share:.4f} | {milliseconds:.1f} |")


if __name__ == "__main__":
    main()
