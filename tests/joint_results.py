"""Results of joint embeddings, with random vectors, as the commands write them; and searches among them."""

import numpy as np
from click.testing import CliRunner, Result

from openavc.cli import main
from openavc.extraction.parquet import write_table
from openavc.extraction.results import write_result
from openavc.library.search import Hit, nearest
from openavc.library.table import open_library

WEIGHTS = {"model": "drawn", "weights_sha256": "0" * 64}


def run(*arguments) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (..., D) to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def vectors(seed: int, number: int = 5, size: int = 8) -> np.ndarray:
    """Draw vectors of length 1: (number, size)."""
    return unit(np.random.default_rng(seed).normal(size=(number, size))).astype(np.float32)


def write(path, embedding, kind="audio", source=None, weights=WEIGHTS, space="joint") -> None:
    """Write a result as the commands do, of a source that need not exist; a video has (sound, pictures) vectors."""
    name = source or f"{path.stem}.wav"
    about = {"path": f"/data/{name}", "name": name, "sha256": "1" * 64}
    parameters = {"modality": kind, "embedding": space}
    arrays = {"audio": embedding[0], "image": embedding[1]} if kind == "video" else {"embedding": embedding}
    times = np.arange(len(next(iter(arrays.values())))) / 10
    arrays, metadata = arrays | {"timestamps": times}, weights | {"parameters": parameters, "source": about}
    if path.suffix == ".parquet":
        halves = ({name: rows[part] for name, rows in arrays.items()} for part in np.array_split(range(len(times)), 2))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, halves, metadata)
    else:
        write_result(path, arrays, metadata)


def scores(hits: list[Hit]) -> list[float]:
    """Return the scores of hits, in order."""
    return [hit.score for hit in hits]


def find(db, query: np.ndarray, **options) -> list[Hit]:
    """Search a library for a vector, by default for 1000 moments."""
    return nearest(open_library(db), query, **{"k": 1000, "moments": True} | options)
