"""Whoever searches a library while results in it are replaced sees the former vectors or the new ones, never fewer."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from joint_results import find, run, scores, vectors, write

import openavc
from openavc.library import index
from openavc.library.index import index_embeddings
from openavc.library.search import nearest
from openavc.library.table import count_vectors, open_library

pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")

SEARCH = """
import json, sys
import numpy as np
from openavc.library.search import nearest
from openavc.library.table import open_library
query = np.array(json.loads(sys.argv[2]), dtype=np.float32)
print(json.dumps([hit.score for hit in nearest(open_library(sys.argv[1]), query, k=1000, moments=True)]))
"""

# Indexes like the command, and dies by SIGKILL instead of a step that changes the library, counted from 0.
INDEX_AND_DIE = """
import os, signal, sys
import lancedb.table
from openavc.library import index

left = int(sys.argv[3])

def dying(step):
    def do(*given, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*given, **options)
    return do

for owner, names in {
    lancedb.table.LanceTable: ("add", "delete", "optimize", "create_index", "drop_index"),
    lancedb.table.Tags: ("update", "create"),
}.items():
    for name in names:
        setattr(owner, name, dying(getattr(owner, name)))
index.EXACT_BELOW = 20
index.index_embeddings(sys.argv[1], sys.argv[2])
"""


def start(code: str, *arguments) -> subprocess.CompletedProcess:
    """Run code in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(openavc.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def expected(there: list[np.ndarray], query: np.ndarray) -> np.ndarray:
    """Return the scores of all vectors, the best first."""
    return np.sort(np.concatenate(there) @ query)[::-1]


@pytest.fixture
def replaced(tmp_path):
    """Index two results of 30 vectors, then change the first on disk; return (former, new) vectors of both."""
    former = [vectors(0, 30), vectors(1, 30)]
    for number, part in enumerate(former):
        write(tmp_path / f"emb/{number}.npz", part)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    write(tmp_path / "emb/0.npz", vectors(2, 40))
    return former, [vectors(2, 40), former[1]]


def test_a_search_between_two_steps_of_a_replacement_finds_all_former_vectors(replaced, tmp_path, monkeypatch):
    import lancedb.table

    former, new = replaced
    query, add, found = vectors(3, 1)[0], lancedb.table.LanceTable.add, []

    def add_after_a_search(*given):
        answer = start(SEARCH, tmp_path / "db", json.dumps(query.tolist()))
        found.extend(json.loads(answer.stdout))
        return add(*given)

    monkeypatch.setattr(lancedb.table.LanceTable, "add", add_after_a_search)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    np.testing.assert_allclose(found, expected(former, query), atol=1e-6)
    np.testing.assert_allclose(scores(find(tmp_path / "db", query)), expected(new, query), atol=1e-6)


def test_results_whose_folder_was_renamed_are_found_at_every_step_of_a_run_with_prune(tmp_path, monkeypatch):
    import lancedb.table

    kept, query, found = [vectors(seed, 30) for seed in range(3)], vectors(4, 1)[0], []
    for number, part in enumerate([*kept, vectors(3, 30)]):
        write(tmp_path / f"emb/{number}.npz", part)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    (tmp_path / "emb/3.npz").unlink()
    (tmp_path / "emb").rename(tmp_path / "renamed")

    def after_a_search(step):
        def do(*given, **options):
            found.append(scores(find(tmp_path / "db", query)))
            return step(*given, **options)

        return do

    table, tags = lancedb.table.LanceTable, lancedb.table.Tags
    for owner, name in ((table, "add"), (table, "delete"), (table, "optimize"), (tags, "update")):
        monkeypatch.setattr(owner, name, after_a_search(getattr(owner, name)))
    monkeypatch.setattr(index, "BATCH_RESULTS", 1)  # so that there are steps between the first result and the last
    indexed = index_embeddings(tmp_path / "renamed", tmp_path / "db", prune=True)
    assert len(found) > 10
    for there in found:
        assert np.isclose(expected(kept, query)[:, None], there, atol=1e-6).any(axis=1).all()
    assert indexed == (3, 0, {}, 1, 90)
    np.testing.assert_allclose(scores(find(tmp_path / "db", query)), expected(kept, query), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])  # of about ten: in the replacement, in compaction, in a new index
def test_after_a_kill_at_any_step_all_former_or_all_new_vectors_are_found(replaced, tmp_path, steps):
    query = vectors(3, 1)[0]
    former, new = (expected(there, query) for there in replaced)
    killed = start(INDEX_AND_DIE, tmp_path / "emb", tmp_path / "db", steps)
    assert killed.returncode == -9, killed.stderr
    found = scores(find(tmp_path / "db", query))
    np.testing.assert_allclose(found, former if len(found) == len(former) else new, atol=1e-6)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    np.testing.assert_allclose(scores(find(tmp_path / "db", query)), new, atol=1e-6)
    assert index_embeddings(tmp_path / "emb", tmp_path / "db").skipped == 2


def test_a_second_index_is_refused_by_name_while_one_works(replaced, tmp_path, monkeypatch):
    import lancedb.table

    add, results = lancedb.table.LanceTable.add, []

    def add_after_another(*given):
        results.append(run("index", tmp_path / "emb", "--db", tmp_path / "db"))
        return add(*given)

    monkeypatch.setattr(lancedb.table.LanceTable, "add", add_after_another)
    assert index_embeddings(tmp_path / "emb", tmp_path / "db").added == 1
    [result] = results
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path / 'db'} is in use by process {os.getpid()} on ")
    assert count_vectors(tmp_path / "db") == 70


def test_a_search_whose_version_was_deleted_goes_on_with_the_last(replaced, tmp_path, monkeypatch):
    _, new = replaced
    monkeypatch.setattr(index, "KEEP_REPLACED", timedelta(milliseconds=1))
    table, query = open_library(tmp_path / "db"), vectors(3, 1)[0]
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    for number in range(2):
        write(tmp_path / f"emb/{number}.npz", new[number])
        index_embeddings(tmp_path / "emb", tmp_path / "db")
    hits = nearest(table, query, k=1000, moments=True)
    np.testing.assert_allclose(scores(hits), expected(new, query), atol=1e-6)


def test_a_version_seen_for_long_is_kept_for_those_who_read_it_when_it_is_replaced(replaced, tmp_path, monkeypatch):
    keep = timedelta(seconds=1)
    monkeypatch.setattr(index, "KEEP_REPLACED", keep)
    time.sleep(1.1 * keep.total_seconds())
    table = open_library(tmp_path / "db")
    write(tmp_path / "emb/1.npz", vectors(4, 40))  # so that nothing of it remains in the new version
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert len(table.search(vectors(3, 1)[0]).limit(100).to_arrow()) == 60


def test_many_runs_take_no_more_than_twice_the_librarys_size(tmp_path):
    def size() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "db").rglob("*") if path.is_file())

    for number in range(10):
        write(tmp_path / f"emb/{number}.npz", vectors(number, 100, 512))
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    once = size()
    for repetition in range(1, 9):
        for number in range(0, 10, 3):
            write(tmp_path / f"emb/{number}.npz", vectors(100 * repetition + number, 100, 512))
        index_embeddings(tmp_path / "emb", tmp_path / "db")
        assert size() <= 2 * once
