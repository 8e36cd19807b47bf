"""A library of joint embeddings, searched by sound or by picture (LanceDB).

One row is one moment: a vector of length 1, so that scalar products are cosine similarities, with its source and its
time in seconds. A library holds vectors of one model. Results go in whole, in batches that are committed at once, so a
killed run leaves a library that can be searched, and the next run goes on.
"""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from . import files
from .inference import get_audio_embedding, get_image_embedding, get_model
from .weights import list_models

MODALITIES = ("audio", "image")
_TABLE = "moments"
_BATCH_VALUES, _BATCH_RESULTS = 2**24, 10_000  # held in memory before they are committed; 64 MB of vectors
# Exact below this, above by IVF_FLAT, which doesn't quantize: a search loses only what lies in partitions that aren't
# probed. Comparing all of 20,000 vectors takes about twice as long as searching their index, of 100,000 more than ten
# times (benchmarks/search.py --vectors 20000, and without options).
_EXACT_BELOW = 20_000  # vectors
# Of as many partitions as the square root of the number of vectors: more than 99 % of the true 10 nearest of 100,000
# clustered vectors are found, less than half of vectors without any clusters (benchmarks/search.py --isotropic).
_PARTITIONS_PROBED = 40
_KEPT = timedelta(days=1)  # of what was replaced, for searches that are still reading it
_MOMENTS_A_SOURCE = 20  # fetched for each hit wanted, where one source gives one hit


class Hit(NamedTuple):
    """A moment that `search` found."""

    source: str  # path of the recording, picture or video
    modality: str  # "audio" or "image"
    timestamp: float | None  # seconds; None for a picture
    score: float  # cosine similarity, in [-1, 1]


class Indexed(NamedTuple):
    """What `index_embeddings` did."""

    added: int  # results, new or in the place of older ones
    skipped: int
    failed: dict[str, str]  # path to reason
    removed: int
    vectors: int  # in the library


# ------------------------------------------------------------------------------------------------------------ search


def search(
    db,
    *,
    image=None,
    audio=None,
    sr=None,
    modality=None,
    k=10,
    moments=False,
    exact=False,
    model=None,
    device=None,
) -> list[Hit]:
    """Find the moments of a library that are nearest to a picture or to a sound.

    Parameters
    ----------
    db : str or path
        Folder of the library, which `index_embeddings` or `openavc index` made.
    image : array or tensor (H, W, 3), or path
        The picture to search for; either this or `audio`.
    audio : array or tensor (n,) or (n, channels), or path
        The sound to search for. One longer than the model's window is searched for by the mean of the joint embeddings
        of its windows, half overlapping, scaled to length 1.
    sr : int or None
        Sample rate in Hz; None for a path.
    modality : {"audio", "image"}, optional
        What to search; both by default. Vectors of the query's own modality are usually nearer than the other's.
    k : int
        Hits wanted; there are fewer if the library has fewer.
    moments : bool
        Whether every moment counts; by default a source is found once, at its best moment.
    exact : bool
        Whether to compare with every vector, even if the library has an approximate index.
    model : str, path, model or None
        The model the library was made with; needed only if that was a weights file of your own.
    device : optional
        As in `load_model`.

    Returns
    -------
    hits : list of Hit
        The best first.

    Raises
    ------
    ValueError, TypeError
        For queries and options that make no sense, and for another model than the library's.
    FileNotFoundError, OSError
        If there is no library, or the query is missing or can't be decoded.
    ImportError
        If LanceDB isn't installed.
    """
    if (image is None) == (audio is None):
        raise ValueError("give either image or audio to search for")
    if modality is not None and modality not in MODALITIES:
        raise ValueError(f"modality must be 'audio', 'image' or None for both, got {modality!r}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
    table = open_library(db)
    vector = _query_vector(image, audio, sr, _model_of_library(table, db, model, device))
    return nearest(table, vector, modality, int(k), moments, exact)


def nearest(table, vector: np.ndarray, modality=None, k: int = 10, moments=False, exact=False) -> list[Hit]:
    """The `k` hits nearest to a vector (D,) of length 1."""
    hits: list[Hit] = []
    limit = k if moments else k * _MOMENTS_A_SOURCE
    conditions = [f"modality = {_quoted(modality)}"] if modality else []
    while True:
        seen = {hit.source for hit in hits}
        others = [f"source NOT IN ({', '.join(map(_quoted, sorted(seen)))})"] if seen else []
        found = _fetch(table, vector, conditions + others, limit, exact)
        if len(found) < limit and not exact:  # the partitions probed hold too few that are asked for
            found = _fetch(table, vector, conditions + others, limit, exact=True)
        for hit in found:
            if moments or hit.source not in seen:
                seen.add(hit.source)
                hits.append(hit)
        if len(hits) >= k or len(found) < limit:
            return sorted(hits, key=lambda hit: -hit.score)[:k]


def _fetch(table, vector: np.ndarray, conditions: list[str], limit: int, exact: bool) -> list[Hit]:
    query = table.search(np.asarray(vector, dtype=np.float32)).distance_type("dot").limit(limit)
    if conditions:
        query = query.where(" AND ".join(conditions))
    query = query.bypass_vector_index() if exact else query.nprobes(_PARTITIONS_PROBED)
    rows = query.select(["source", "modality", "timestamp", "_distance"]).to_arrow().to_pylist()
    # LanceDB's distance is 1 - the scalar product.
    return [Hit(row["source"], row["modality"], row["timestamp"], 1 - row["_distance"]) for row in rows]


def _query_vector(image, audio, sr, model) -> np.ndarray:
    """(D,), of length 1."""
    if isinstance(image if audio is None else audio, list):
        raise TypeError("one picture or recording is searched for at a time, got a list: call search for each")
    if image is not None:
        vectors = get_image_embedding(image, model, embedding="joint")
        if len(vectors) != 1:
            raise ValueError(f"one picture is searched for at a time, got {len(vectors)}: call search for each")
    else:
        hop = model.window_seconds / 2
        vectors, _ = get_audio_embedding(audio, sr, model, embedding="joint", hop_size=hop, center=False)
    return _unit(vectors.mean(axis=0, keepdims=True))[0]


def _model_of_library(table, db, model, device):
    """The model that a library was made with; ValueError if it needs to be named, or is another one."""
    recorded = _first(table)
    if recorded is None:
        raise ValueError(f"the library in {db} is empty: openavc index EMBEDDINGS --db {db}")
    made_with = f"the library in {db} was made with {recorded['model']} (weights {recorded['weights_sha256']})"
    if model is None and recorded["model"] not in list_models():
        raise ValueError(f"{made_with}: give that weights file as model, --model on the command line")
    loaded = get_model(recorded["model"] if model is None else model, device)
    if loaded.sha256 != recorded["weights_sha256"]:
        raise ValueError(f"{made_with}, not with {loaded.name} (weights {loaded.sha256}): give that one as model")
    return loaded


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to length 1; ValueError if one can't be."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a vector of zeros, or of numbers that aren't finite, has no direction")
    return vectors / lengths


# ------------------------------------------------------------------------------------------------------------- index


def index_embeddings(inputs, db, *, prune=False, progress=False) -> Indexed:
    """Put joint embeddings, as `openavc audio | image | video --embedding joint` wrote them, into a library.

    What is there already is skipped; a newer result of the same source, or a result that changed, takes the place of
    the old one. One that can't be used costs nothing else.

    Parameters
    ----------
    inputs : path, or list of paths
        .npz files, folders of them (searched recursively), or glob patterns.
    db : str or path
        Folder of the library; made if it isn't there.
    prune : bool
        Whether to remove the vectors whose .npz is gone.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Indexed

    Raises
    ------
    OSError
        If the library can't be written, or another process is writing to it.
    ValueError
        If the name of its folder isn't UTF-8.
    ImportError
        If LanceDB isn't installed.
    """
    counts = dict.fromkeys(("added", "skipped", "failed", "removed"), 0)
    paths = find_results(inputs if isinstance(inputs, list | tuple) else [inputs])
    outcomes = files.counted(add_results(paths, db, prune), counts, len(paths), progress)
    failed = {str(outcome.job.source): outcome.reason for outcome in outcomes if outcome.status == "failed"}
    return Indexed(counts["added"], counts["skipped"], failed, counts["removed"], count_vectors(db))


def find_results(inputs: Iterable[str | Path]) -> list[Path]:
    """The .npz behind files, folders and globs, each once, as absolute paths."""
    found = (path for item in inputs for path, _ in files.expand(item, {".npz"}))
    return list(dict.fromkeys(Path(os.path.abspath(path)) for path in found))


def add_results(paths: Iterable[Path], db, prune: bool = False) -> Iterator[files.Outcome]:
    """Put results into a library, in batches; "added" is told once the batch is safe on disk.

    Yields
    ------
    files.Outcome
        "added", "skipped" or "failed" for each path, and "removed" for each that `prune` found gone.
    """
    connect, folder = _lancedb().connect, Path(db)
    _check_name(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def outcomes(status: str, done: Iterable[str | Path], reason: str = "") -> list[files.Outcome]:
        return [files.Outcome(files.Job(Path(path), folder), status, reason) for path in done]

    with _only_writer(folder):
        writer = _Writer(connect(folder))
        if prune:
            yield from outcomes("removed", writer.remove_gone())
        for path in paths:
            try:
                result = writer.read(path)
            except Exception as error:  # whatever a damaged file raises, the others go on
                expected = isinstance(error, OSError | ValueError) and str(error)
                yield from outcomes("failed", [path], str(error) if expected else f"{type(error).__name__}: {error}")
                continue
            if result is None:
                yield from outcomes("skipped", [path])
                continue
            if writer.is_full() or writer.holds(result):
                yield from outcomes("added", writer.commit())
            writer.hold(result)
        yield from outcomes("added", writer.commit())
        writer.organize()


class _Result(NamedTuple):
    """What is known of an .npz; its rows are let go once they are committed."""

    path: str
    modified_ns: int
    bytes: int
    source: str
    kind: str  # "audio", "image" or "video", which command wrote it
    rows: object = None  # pyarrow.Table


class _Writer:
    """A library while results are put into it; what is there is known by one row of each result."""

    def __init__(self, connection):
        self.connection = connection
        self.table = _open(connection)
        first = _first(self.table) if self.table is not None else None
        self.model = first and {key: first[key] for key in ("model", "weights_sha256")}
        self.results: dict[str, _Result] = {}  # by path
        self.paths: dict[tuple[str, str], str] = {}  # by source and kind
        self.waiting: dict[tuple[str, str], _Result] = {}  # by source and kind, with their rows
        self.values = 0  # of the vectors that wait
        self.changed = False
        for result in _known(self.table) if first else ():
            self._note(result)

    def read(self, path: Path) -> _Result | None:
        """The result in a file with its rows, or None if it, or a newer one of the same source, is there already."""
        status = path.stat()
        _check_name(path)
        known = self.results.get(str(path))
        if known and (known.modified_ns, known.bytes) == (status.st_mtime_ns, status.st_size):
            return None
        metadata = _read_metadata(path)
        self._check_model(path, metadata)
        source, kind = metadata["source"]["path"], metadata["parameters"]["modality"]
        _check_name(source)
        other = self.waiting.get((source, kind)) or self.results.get(self.paths.get((source, kind)))
        if other and other.path != str(path) and other.modified_ns >= status.st_mtime_ns and Path(other.path).exists():
            return None
        about = _Result(str(path), status.st_mtime_ns, status.st_size, source, kind)
        rows = _read_rows(about, metadata)
        self._check_size(path, rows)
        self.model = self.model or {key: metadata[key] for key in ("model", "weights_sha256")}
        return about._replace(rows=rows)

    def _check_model(self, path: Path, metadata: dict) -> None:
        if self.model and metadata["weights_sha256"] != self.model["weights_sha256"]:
            raise ValueError(
                f"{path} was made with {metadata['model']} (weights {metadata['weights_sha256']}), the library with "
                f"{self.model['model']} (weights {self.model['weights_sha256']}): vectors of two models can't be "
                "compared; give it another --db"
            )

    def _check_size(self, path: Path, rows) -> None:
        waiting = next(iter(self.waiting.values()), None)
        there = waiting.rows if waiting else self.table if self.model else None
        if there is not None and there.schema.field("vector").type != rows.schema.field("vector").type:
            wanted, got = (schema.field("vector").type.list_size for schema in (there.schema, rows.schema))
            raise ValueError(f"{path} has vectors of {got} values, the library of {wanted}")

    def hold(self, result: _Result) -> None:
        """Keep a result for the next `commit`."""
        self.waiting[result.source, result.kind] = result
        self.values += len(result.rows) * result.rows.schema.field("vector").type.list_size

    def holds(self, result: _Result) -> bool:
        """Whether another of the same source and kind is waiting."""
        return (result.source, result.kind) in self.waiting

    def is_full(self) -> bool:
        return self.values >= _BATCH_VALUES or len(self.waiting) >= _BATCH_RESULTS

    def commit(self) -> list[str]:
        """Write what waits in the place of what it replaces; the paths of the results."""
        import pyarrow

        if not self.waiting:
            return []
        rows = pyarrow.concat_tables([result.rows for result in self.waiting.values()]).combine_chunks()
        done = [result.path for result in self.waiting.values()]
        older = {self.paths[key] for key in self.waiting if key in self.paths}
        self._remove((older | set(done)) & self.results.keys())
        if not self.results:  # what is empty may have been another model's
            mode = "create" if self.table is None else "overwrite"
            self.table = self.connection.create_table(_TABLE, schema=rows.schema, mode=mode)
        self.table.add(rows)
        for result in self.waiting.values():
            self._note(result._replace(rows=None))
        self.waiting, self.values, self.changed = {}, 0, True
        return done

    def remove_gone(self) -> list[str]:
        """Remove the rows of the .npz that aren't there any more; the paths of these."""
        gone = [path for path in self.results if not Path(path).exists()]
        self._remove(gone)
        if not self.results:
            self.model = None
        return gone

    def _note(self, result: _Result) -> None:
        self.results[result.path] = result
        self.paths[result.source, result.kind] = result.path

    def _remove(self, paths: Iterable[str]) -> None:
        paths = sorted(paths)
        for start in range(0, len(paths), 1000):
            self.table.delete(f"result IN ({', '.join(map(_quoted, paths[start : start + 1000]))})")
            self.changed = True
        for path in paths:
            result = self.results.pop(path)
            self.paths.pop((result.source, result.kind), None)

    def organize(self) -> None:
        """Compact the files of the table, delete old versions, and keep its approximate index up to date if one pays.

        An index is trained anew once the library has twice the vectors; in between, new ones are put into its
        partitions. Rows that aren't in it yet, after a killed run, are found all the same: searches compare them all.
        """
        if self.table is None:
            return
        vectors = self.table.count_rows()
        trained_on = {index.name: int(index.name.rpartition("_")[2]) for index in self.table.list_indices()}
        outdated = [name for name, rows in trained_on.items() if vectors > 2 * rows]
        if vectors >= _EXACT_BELOW and len(outdated) == len(trained_on):
            self._train(vectors, outdated)
        elif self.changed or any(self.table.index_stats(name).num_unindexed_rows for name in trained_on):
            self.table.optimize(cleanup_older_than=_KEPT)

    def _train(self, vectors: int, outdated: list[str]) -> None:
        from lancedb.index import IvfFlat

        self.table.optimize(cleanup_older_than=_KEPT)
        for old in outdated:
            self.table.drop_index(old)
        config = IvfFlat(distance_type="dot", num_partitions=round(vectors**0.5))
        self.table.create_index("vector", config=config, name=f"trained_on_{vectors}")


def _read_metadata(path: Path) -> dict:
    """The metadata of a result of joint embeddings; OSError or ValueError otherwise."""
    metadata = files.read_metadata(path)
    try:
        source, kind = metadata["source"]["path"], metadata["parameters"]["modality"]
        embedding, _ = metadata["parameters"]["embedding"], metadata["weights_sha256"]
        known = kind in (*MODALITIES, "video")
    except (TypeError, KeyError):
        known = False
    if not known:
        raise OSError(f"{path} can't be read as a result of openavc audio, image or video")
    if embedding != "joint":
        command = ["openavc", kind, source, "--output", f"{path.parent}-joint", "--embedding", "joint"]
        raise ValueError(
            f"{path} holds {embedding}, which don't tell what sounds and pictures have in common; make joint ones: "
            + shlex.join(command)
        )
    return metadata


def _read_rows(result: _Result, metadata: dict):
    """The rows of a result, a pyarrow.Table; OSError if it is damaged, ValueError if it holds no directions."""
    try:
        with np.load(result.path, allow_pickle=False) as archive:
            names = {"audio": "audio", "image": "image"} if result.kind == "video" else {result.kind: "embedding"}
            parts = {modality: archive[name] for modality, name in names.items()}
            timestamps = np.asarray(archive["timestamps"], dtype=np.float64)
    except Exception as error:  # whatever zipfile, zlib or numpy raise
        raise OSError(f"{result.path} can't be read: {type(error).__name__}: {error}") from error
    if any(vectors.ndim != 2 or len(vectors) != len(timestamps) for vectors in parts.values()) or not len(timestamps):
        shapes = {name: vectors.shape for name, vectors in parts.items()} | {"timestamps": timestamps.shape}
        raise ValueError(f"{result.path} doesn't hold a vector (D,) for each timestamp: {shapes}")
    try:
        vectors = np.concatenate([_unit(part) for part in parts.values()])
    except ValueError as error:
        raise ValueError(f"{result.path}: {error}") from None
    modalities = [modality for modality, part in parts.items() for _ in part]
    times = np.tile(timestamps, len(parts)) if result.kind != "image" else [None] * len(vectors)
    return _to_table(vectors, modalities, times, result, metadata)


def _to_table(vectors: np.ndarray, modalities: list[str], timestamps, result: _Result, metadata: dict):
    """A pyarrow.Table of vectors (N, D) of length 1, their modalities and times, and what all have in common."""
    import pyarrow

    rows, size = vectors.shape
    flat = pyarrow.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = {
        "vector": pyarrow.FixedSizeListArray.from_arrays(flat, size),
        "modality": pyarrow.array(modalities, pyarrow.string()),
        "timestamp": pyarrow.array(timestamps, pyarrow.float64()),  # seconds
        "first": pyarrow.array([True] + [False] * (rows - 1)),  # stands for the result
    }
    same = {
        "source": result.source,
        "name": metadata["source"]["name"],
        "source_sha256": metadata["source"]["sha256"],
        "model": metadata["model"],
        "weights_sha256": metadata["weights_sha256"],
        "kind": result.kind,
        "result": result.path,
        "result_modified_ns": result.modified_ns,
        "result_bytes": result.bytes,
    }
    for name, value in same.items():
        kind = pyarrow.int64() if name.startswith("result_") else pyarrow.string()
        columns[name] = pyarrow.repeat(pyarrow.scalar(value, kind), rows)
    return pyarrow.table(columns)


# ------------------------------------------------------------------------------------------------------------- table


def open_library(db):
    """The LanceDB table of a library; FileNotFoundError if there is none."""
    lancedb = _lancedb()
    _check_name(db)
    table = _open(lancedb.connect(db)) if Path(db).is_dir() else None  # connecting would make the folder
    if table is None:
        raise FileNotFoundError(f"there is no library in {db}: make one with openavc index EMBEDDINGS --db {db}")
    return table


def count_vectors(db) -> int:
    """Vectors in a library; 0 if nothing was put into it yet."""
    table = _open(_lancedb().connect(db))
    return 0 if table is None else table.count_rows()


def _lancedb():
    try:
        import lancedb
    except ImportError as error:
        raise ImportError('searching needs LanceDB: pip install "openavc[search]"') from error
    return lancedb


def _open(connection):
    """The table, or None if there is none yet."""
    try:
        return connection.open_table(_TABLE)
    except ValueError as error:
        if "not found" not in str(error):
            raise
        return None


def _check_name(path: str | Path) -> None:
    """ValueError for a path that LanceDB can't take, or hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"a library takes names in UTF-8 alone, and {str(path)!r} isn't: rename it") from None


def _first(table) -> dict | None:
    """One row without its vector, or None if the table is empty."""
    rows = table.search().limit(1).select(["model", "weights_sha256"]).to_arrow().to_pylist()
    return rows[0] if rows else None


def _known(table) -> Iterator[_Result]:
    """What a table has results of, from one row each."""
    columns = ["result", "result_modified_ns", "result_bytes", "source", "kind"]
    for batch in table.search().where("first").select(columns).to_batches():
        yield from (_Result(*row.values()) for row in batch.select(columns).to_pylist())


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """OSError if another process is writing to the library; a killed one lets go."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise OSError(f"another openavc index is writing to {folder}: wait until it is done") from None


def _quoted(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"


class _Callable(ModuleType):
    """Importing this module makes it `openavc.search`, where users expect the function: it is called like it."""

    def __call__(self, *arguments, **options):
        return search(*arguments, **options)


__signature__ = inspect.signature(search)
sys.modules[__name__].__class__ = _Callable
