"""Search among many vectors: an approximate index against exact search and against NumPy, in one run.

    python benchmarks/search.py

The vectors are drawn, from a seed, clustered as embeddings of recordings are: 200 directions stand for kinds of sound,
recordings lie around them (cosine about 0.8), and 100 windows around each recording (0.9). Queries are windows of
recordings that aren't in the library. They go into it by way of .npz results, as with `openavc index`. Searches are for
every moment, one query at a time, after one that isn't counted.

`--isotropic` draws vectors without any clusters instead, the worst case of an approximate index.
"""

import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout

from openavc import files
from openavc.search import index_embeddings, nearest, open_library

KINDS, WINDOWS = 200, 100
RECORDING, WINDOW = 0.75, 0.48  # length of the noise around a direction of length 1: cosines of 0.8 and 0.9
K = 10


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw(vectors: int, queries: int, dimensions: int, isotropic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(library (vectors, D), queries (queries, D)), float32, of length 1."""
    rng = np.random.default_rng(0)
    if isotropic:
        both = unit(rng.normal(size=(vectors + queries, dimensions))).astype(np.float32)
        return both[:vectors], both[vectors:]

    def around(centres, noise):
        return unit(centres + noise * rng.normal(size=centres.shape) / np.sqrt(dimensions))

    kinds = unit(rng.normal(size=(KINDS, dimensions)))
    recordings = around(kinds[rng.integers(KINDS, size=-(-vectors // WINDOWS) + queries)], RECORDING)
    library = around(np.repeat(recordings[queries:], WINDOWS, axis=0)[:vectors], WINDOW)
    return library.astype(np.float32), around(recordings[:queries], WINDOW).astype(np.float32)


def write_results(vectors: np.ndarray, folder: Path) -> None:
    """One .npz a recording, as `openavc audio` writes them."""
    for number, start in enumerate(range(0, len(vectors), WINDOWS)):
        part = vectors[start : start + WINDOWS]
        metadata = {
            "model": "drawn",
            "weights_sha256": "0" * 64,
            "parameters": {"modality": "audio", "embedding": "joint"},
            "source": {"name": f"{number}.wav", "path": f"/recordings/{number}.wav", "sha256": "0" * 64},
        }
        times = np.arange(len(part)) / 10
        files.write_result(folder / f"{number}.npz", {"embedding": part, "timestamps": times}, metadata)


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """Scores of the `k` nearest, the best first."""
    scores = vectors @ query
    return np.sort(scores[np.argpartition(-scores, k - 1)[:k]])[::-1]


def timed(function, queries: np.ndarray) -> tuple[list, float]:
    """What a function returns for each query, and the mean time of one in ms; the first query is asked twice."""
    function(queries[0])
    started = time.perf_counter()
    results = [function(query) for query in queries]
    return results, 1000 * (time.perf_counter() - started) / len(queries)


def recall(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Share of the true nearest that were found: those with a score as good as the last true one's, up to rounding."""
    good = [np.sum(np.asarray(scores) >= true[-1] - 1e-6) for scores, true in zip(found, truth, strict=True)]
    return float(np.sum(good) / np.sum([len(true) for true in truth]))


def measure(vectors: int, queries: int, dimensions: int, folder: Path, isotropic: bool = False) -> dict:
    """Seconds to `index`; for each way of searching its recall and ms a query."""
    library, asked = draw(vectors, queries, dimensions, isotropic)
    k = min(K, vectors)
    write_results(library, folder / "results")
    started = time.perf_counter()
    index_embeddings(folder / "results", folder / "library")
    took = time.perf_counter() - started
    table = open_library(folder / "library")

    def search(exact: bool):
        return lambda query: [hit.score for hit in nearest(table, query, k=k, moments=True, exact=exact)]

    ways = {
        "as `openavc search`": search(exact=False),
        "`openavc search --exact`": search(exact=True),
        "NumPy, all in memory": lambda query: brute_force(library, query, k),
    }
    found = {name: timed(way, asked) for name, way in ways.items()}
    truth, _ = found["NumPy, all in memory"]
    return {
        "index": took,
        "kind": next((table.index_stats(index.name).index_type for index in table.list_indices()), "none: all exact"),
        "ways": {name: (recall(scores, truth), milliseconds) for name, (scores, milliseconds) in found.items()},
    }


@click.command(help=__doc__.split("\n")[0])
@click.option("--vectors", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--queries", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--dimensions", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--isotropic", is_flag=True, help="Vectors without clusters.")
def main(vectors, queries, dimensions, isotropic):
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = measure(vectors, queries, dimensions, Path(folder), isotropic)
        except ImportError as error:
            raise click.ClickException(str(error)) from None
    click.echo(
        f"{vectors} vectors of {dimensions} values, from {-(-vectors // WINDOWS)} .npz: {found['index']:.1f} s to index"
        f"; approximate index: {found['kind']}; {queries} queries\n"
    )
    click.echo(f"| search | recall@{K} | ms a query |\n|---|---|---|")
    for name, (share, milliseconds) in found["ways"].items():
        click.echo(f"| {name} | {share:.4f} | {milliseconds:.1f} |")


if __name__ == "__main__":
    main()
