"""Adding results to a library.

Results are committed in batches, each in one step for those who search, so a killed run leaves a library that can be
searched, and the next run continues there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..extraction import parquet
from ..extraction.planning import Job, expand
from ..extraction.results import Outcome, counted, failure_reason
from ..lines import warn
from ..locks import only_user
from .rows import Result, Rows, joint_metadata, read_rows, too_quiet, vector_size
from .table import TABLE, check_name, count_vectors, import_lancedb, open_table, quoted, recorded_model
from .versions import begin, compact, delete_replaced, show

if TYPE_CHECKING:
    import pyarrow
    from lancedb.db import DBConnection
    from lancedb.table import Table

ENDINGS = {".npz", parquet.ENDING}
BATCH_VALUES, BATCH_RESULTS = 2**24, 10_000  # kept in memory before a commit; 64 MB of vectors
# Searches are exact below this; above, they use IVF_FLAT, which doesn't quantize: a search misses only vectors in
# partitions that aren't probed. Comparing all of 20,000 vectors takes about twice as long as searching their index, all
# of 100,000 more than ten times as long (benchmarks/search.py --vectors 20000, and without options).
EXACT_BELOW = 20_000  # vectors
KEEP_REPLACED = timedelta(minutes=1)  # for searches that are still reading what was replaced


class Indexed(NamedTuple):
    """Counts of what `index_embeddings` did."""

    added: int  # results, new or replacing older ones
    skipped: int
    failed: dict[str, str]  # path to reason
    removed: int
    vectors: int  # in the library


def index_embeddings(
    inputs: str | os.PathLike | list[str | os.PathLike],
    db: str | os.PathLike,
    *,
    prune: bool = False,
    progress: bool = False,
) -> Indexed:
    """Add joint embeddings, as `openavc audio | image | video --embedding joint` wrote them, to a library.

    Results that are already there are skipped; a newer result of the same source, or a changed result, replaces the old
    one. A result that can't be used doesn't affect the others.

    Parameters
    ----------
    inputs : path, or list of paths
        Results, .npz or .parquet, folders of them (searched recursively), or glob patterns.
    db : str or path
        Folder of the library; created if it doesn't exist.
    prune : bool
        Whether to remove the vectors whose result is gone.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Indexed
        Numbers of results `added`, `skipped` and `removed`, the reasons of those that `failed`, by path, and the
        number of `vectors` in the library.

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
    paths = find_results(map(Path, inputs) if isinstance(inputs, list | tuple) else [Path(inputs)])
    outcomes = counted(add_results(paths, db, prune), counts, len(paths), progress)
    failed = {str(outcome.job.source): outcome.reason for outcome in outcomes if outcome.status == "failed"}
    return Indexed(counts["added"], counts["skipped"], failed, counts["removed"], count_vectors(db))


def find_results(inputs: Iterable[str | Path]) -> list[Path]:
    """Find the results, by their endings, that paths, folders and globs stand for.

    Parameters
    ----------
    inputs : iterable of str or Path

    Returns
    -------
    paths : list of Path
        Absolute, without repetition.
    """
    matches = (path for item in inputs for path, _ in expand(item, ENDINGS))
    return list(dict.fromkeys(Path(os.path.abspath(path)) for path in matches))


def add_results(paths: Iterable[Path], db: str | os.PathLike, prune: bool = False) -> Iterator[Outcome]:
    """Add results to a library in batches; "added" is reported only once the batch is safe on disk.

    Parameters
    ----------
    paths : iterable of Path
        Of results, absolute.
    db : str or path
        Folder of the library; created if it doesn't exist.
    prune : bool
        Whether to remove the vectors whose result is gone, once all others are added.

    Yields
    ------
    Outcome
        "added", "skipped" or "failed" for each path, and "removed" for each missing result whose vectors `prune`
        removed; those that a result of the same source replaced don't count as removed.

    Raises
    ------
    OSError, ValueError, ImportError
        As `index_embeddings` does.
    """
    lancedb, folder = import_lancedb(), Path(db)
    check_name(folder)

    def outcomes(status: str, done: Iterable[str | Path], reason: str = "") -> list[Outcome]:
        return [Outcome(Job(Path(path), folder), status, reason) for path in done]

    with only_user(folder):
        writer = Writer(lancedb.connect(folder), folder)
        if prune:
            writer.take_any_model_if_all_are_gone()
        for path in paths:
            try:
                new = writer.read(path)
            except Exception as error:  # damaged files raise anything; the others go on
                yield from outcomes("failed", [path], failure_reason(error))
                continue
            if new is None:
                yield from outcomes("skipped", [path])
                continue
            result, rows = new
            if writer.is_full() or writer.awaits(result):
                yield from outcomes("added", writer.commit())
            writer.enqueue(result, rows)
        yield from outcomes("added", writer.commit())
        if prune:  # last, so that searches find what was renamed at its old path until they find it at its new one
            yield from outcomes("removed", writer.remove_gone())
        writer.organize()


class Writer:
    """Adds results to a library.

    The results already stored are known from one row of each. New results wait until `commit` writes them together.

    Parameters
    ----------
    connection : DBConnection
        To the library's folder, which may be empty.
    folder : Path
        Of the library.
    """

    def __init__(self, connection: DBConnection, folder: Path):
        self.connection, self.folder = connection, folder
        self.table: Any = open_table(connection)  # a Table, or None until there is one
        if self.table is not None:
            begin(self.table)
        self.stored_model = None if self.table is None else recorded_model(self.table)
        self.model = self.stored_model  # what new results must be of; any, if None
        self.given_up: list[str] = []  # paths of results that those of another model replaced
        self.results: dict[str, Result] = {}  # by path
        self.paths: dict[tuple[str, str], str] = {}  # by source and kind
        self.waiting: dict[tuple[str, str], tuple[Result, Rows]] = {}  # by source and kind
        self.values = 0  # numbers in the waiting vectors that are in memory
        for result in _stored_results(self.table) if self.stored_model else ():
            self._remember(result)

    def read(self, path: Path) -> tuple[Result, Rows] | None:
        """Read a file; return None if it, or a newer result of the same source, is already in the library or waiting.

        Of a recording that is too quiet throughout to be searched for, there is nothing to return either.

        Raises
        ------
        OSError, ValueError
            If the file can't be used.
        """
        status = path.stat()
        check_name(path)
        known = self.results.get(str(path))
        if known and (known.modified_ns, known.bytes) == (status.st_mtime_ns, status.st_size):
            return None
        metadata = joint_metadata(path)
        self._check_model(path, metadata)
        source, kind = metadata["source"]["path"], metadata["parameters"]["modality"]
        check_name(source)
        result = Result(str(path), status.st_mtime_ns, status.st_size, source, kind)
        if self._has_newer(result):
            return None
        rows = read_rows(result, metadata)
        if not rows.count:
            warn(f"{path} is left out: {too_quiet(source)}")
            self.remove(self.results.keys() & {result.path})
            return None
        self._check_size(path, rows)
        self.model = self.model or {key: metadata[key] for key in ("model", "weights_sha256")}
        return result, rows

    def _has_newer(self, result: Result) -> bool:
        """Whether another file that still exists holds a result of the same source that is as new or newer."""
        key = (result.source, result.kind)
        other = self.waiting[key][0] if key in self.waiting else self.results.get(self.paths.get(key, ""))
        if other is None or other.path == result.path:
            return False
        return other.modified_ns >= result.modified_ns and Path(other.path).exists()

    def _check_model(self, path: Path, metadata: dict) -> None:
        """Raise ValueError if a result was made with another model than the library."""
        if self.model and metadata["weights_sha256"] != self.model["weights_sha256"]:
            raise ValueError(
                f"{path} was made with {metadata['model']} (weights {metadata['weights_sha256']}), the library with "
                f"{self.model['model']} (weights {self.model['weights_sha256']}): vectors of two models can't be "
                "compared; give it another --db"
            )

    def _check_size(self, path: Path, rows: Rows) -> None:
        """Raise ValueError if vectors have another size than those waiting, or those of the library if none wait."""
        stored = vector_size(self.table) if self.table is not None and self.model else rows.size
        size = next((others.size for _, others in self.waiting.values()), stored)
        if size != rows.size:
            raise ValueError(f"{path} has vectors of {rows.size} values, the library of {size}")

    def enqueue(self, result: Result, rows: Rows) -> None:
        """Keep a result for the next `commit`."""
        self.waiting[result.source, result.kind] = result, rows
        self.values += BATCH_VALUES if rows.whole is None else rows.count * rows.size

    def awaits(self, result: Result) -> bool:
        """Whether another result of the same source and kind is waiting for the next `commit`."""
        return (result.source, result.kind) in self.waiting

    def is_full(self) -> bool:
        """Whether so many results are waiting that they should be committed."""
        return self.values >= BATCH_VALUES or len(self.waiting) >= BATCH_RESULTS

    def commit(self) -> list[str]:
        """Write the waiting results, replacing older ones in the same step, and return their paths."""
        if not self.waiting:
            return []
        done = [result.path for result, _ in self.waiting.values()]
        older = {self.paths[key] for key in self.waiting if key in self.paths}
        replaced = (older | set(done)) & self.results.keys()
        if self._is_of_another_model():
            self.given_up += sorted(self.results.keys() - replaced)
            replaced = set(self.results)
        parts = self._waiting_parts()
        if self.table is None:
            first = next(parts)
            parts = itertools.chain([first], parts)
            self.table = self.connection.create_table(TABLE, schema=first.schema)
            show(self.table)  # empty: what comes in steps is seen at once
        elif replaced == self.results.keys():  # nothing remains; an emptied table may be another model's
            self.table = self.connection.create_table(TABLE, next(parts), mode="overwrite")
        else:
            self._delete(replaced)
        for part in parts:
            self.table.add(part)
        show(self.table)
        for path in replaced:
            self._forget(path)
        for result, _ in self.waiting.values():
            self._remember(result)
        self.waiting, self.values, self.stored_model = {}, 0, self.model
        return done

    def _waiting_parts(self) -> Iterator[pyarrow.Table]:
        """Yield the waiting rows: those of all short results together, those of long ones in parts."""
        import pyarrow

        waiting = [rows for _, rows in self.waiting.values()]
        if whole := [rows.whole for rows in waiting if rows.whole is not None]:
            yield pyarrow.concat_tables(whole).combine_chunks()
        for rows in waiting:
            if rows.whole is None:
                yield from rows.parts()

    def take_any_model_if_all_are_gone(self) -> None:
        """Let results of another model replace all that are stored, if the files of all of those are gone."""
        if not any(Path(path).exists() for path in self.results):
            self.model = None

    def _is_of_another_model(self) -> bool:
        """Whether the waiting results are of another model than the stored ones, which can't remain beside them."""
        if self.model is None or self.stored_model is None:
            return False
        return self.model["weights_sha256"] != self.stored_model["weights_sha256"]

    def remove_gone(self) -> list[str]:
        """Remove the rows of results whose files no longer exist, and return the paths of all that were removed."""
        gone = [path for path in self.results if not Path(path).exists()]
        self.remove(gone)
        return self.given_up + gone

    def remove(self, paths: Iterable[str]) -> None:
        """Remove the rows of results, which must be in the library."""
        paths = list(paths)
        if not paths:
            return
        self._delete(paths)
        show(self.table)
        for path in paths:
            self._forget(path)

    def _delete(self, paths: Iterable[str]) -> None:
        """Delete the rows of results in a version that isn't shown yet."""
        paths = sorted(paths)
        for start in range(0, len(paths), 1000):
            self.table.delete(f"result IN ({', '.join(map(quoted, paths[start : start + 1000]))})")

    def _forget(self, path: str) -> None:
        """Forget a result, which is no longer in the library."""
        result = self.results.pop(path)
        self.paths.pop((result.source, result.kind), None)

    def _remember(self, result: Result) -> None:
        """Remember that a result is in the library."""
        self.results[result.path] = result
        self.paths[result.source, result.kind] = result.path

    def organize(self) -> None:
        """Compact the files of the table, update its approximate index if it is large enough, and delete old versions.

        An index is trained anew once the library has more than twice as many vectors; until then, new ones are added to
        its partitions. Rows that aren't in it yet, after a killed run, are still found: searches compare with all of
        them.
        """
        if self.table is None:
            return
        compact(self.table)
        vectors = self.table.count_rows()
        trained_on = {index.name: int(index.name.rpartition("_")[2]) for index in self.table.list_indices()}
        outdated = [name for name, rows in trained_on.items() if vectors > 2 * rows]
        if vectors >= EXACT_BELOW and len(outdated) == len(trained_on):
            self._train(vectors, outdated)
        show(self.table)
        delete_replaced(self.table, self.folder, KEEP_REPLACED)

    def _train(self, vectors: int, outdated: list[str]) -> None:
        """Train an index on all vectors, replacing outdated ones."""
        from lancedb.index import IvfFlat

        for old in outdated:
            self.table.drop_index(old)
        # Not the number of partitions: LanceDB, when rows come in, joins those below the size that it aims for.
        config = IvfFlat(distance_type="dot", target_partition_size=round(vectors**0.5))
        self.table.create_index("vector", config=config, name=f"trained_on_{vectors}")


def _stored_results(table: Table) -> Iterator[Result]:
    """Yield the results in a table, from one row of each."""
    columns = ["result", "result_modified_ns", "result_bytes", "source", "kind"]
    for batch in table.search().where("first").select(columns).to_batches():
        yield from (Result(*row.values()) for row in batch.select(columns).to_pylist())
