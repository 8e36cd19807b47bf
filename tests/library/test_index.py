"""A library keeps up with its results, and survives broken files and killed runs."""

import json
import os
from datetime import timedelta

import numpy as np
import pytest
from joint_results import WEIGHTS, find, run, scores, vectors, write

from openavc.extraction import results
from openavc.library import index, rows
from openavc.library.index import index_embeddings
from openavc.library.table import open_library
from openavc.locks import only_user

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def lancedb():
    return pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")


def test_an_index_is_built_when_it_pays_and_new_rows_are_found_beside_it(lancedb, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "EXACT_BELOW", 500)
    there = [vectors(seed, 300) for seed in range(3)]
    for number, part in enumerate(there[:2]):
        write(tmp_path / f"emb/{number}.npz", part)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert [its.name for its in open_library(tmp_path / "db").list_indices()] == ["trained_on_600"]
    write(tmp_path / "emb/2.npz", there[2])
    monkeypatch.setattr(index.Writer, "organize", lambda self: None)  # as if killed before
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert open_library(tmp_path / "db").index_stats("trained_on_600").num_unindexed_rows == 300
    for exact in (False, True):
        hits = find(tmp_path / "db", there[2][5], exact=exact, k=10)
        np.testing.assert_allclose(scores(hits), np.sort(np.concatenate(there) @ there[2][5])[::-1][:10], atol=1e-6)
    monkeypatch.undo()
    monkeypatch.setattr(index, "EXACT_BELOW", 500)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert open_library(tmp_path / "db").index_stats("trained_on_600").num_unindexed_rows == 0
    write(tmp_path / "emb/3.npz", vectors(3, 900))
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert [its.name for its in open_library(tmp_path / "db").list_indices()] == ["trained_on_1800"]


def test_a_second_run_skips_adds_replaces_and_removes_nothing_unasked(lancedb, tmp_path):
    emb, db = tmp_path / "emb", tmp_path / "db"
    for seed in range(3):
        write(emb / f"{seed}.npz", vectors(seed))
    command = ("index", emb, "--db", db)
    assert run(*command).stdout == f"3 added, 0 skipped, 0 failed; 15 vectors in {db}/\n"
    assert run(*command).stdout == f"0 added, 3 skipped, 0 failed; 15 vectors in {db}/\n"
    write(emb / "1.npz", vectors(11, 7))
    write(emb / "it's.npz", vectors(4))
    assert run(*command).stdout == f"2 added, 2 skipped, 0 failed; 22 vectors in {db}/\n"
    there = np.concatenate([vectors(0), vectors(11, 7), vectors(2), vectors(4)])
    query = vectors(20, 1)[0]
    np.testing.assert_allclose(scores(find(db, query)), np.sort(there @ query)[::-1], atol=1e-6)
    (emb / "it's.npz").unlink()
    assert run(*command).stdout == f"0 added, 3 skipped, 0 failed; 22 vectors in {db}/\n"
    assert run(*command, "--prune").stdout == f"0 added, 3 skipped, 0 failed, 1 removed; 17 vectors in {db}/\n"
    assert "/data/it's.wav" not in {hit.source for hit in find(db, query)}


@pytest.mark.parametrize("kind", ["audio", "image", "video"])
def test_a_table_gives_the_rows_of_an_archive(lancedb, tmp_path, monkeypatch, kind):
    parts = vectors(1, 40), vectors(2, 40)
    for ending in ("npz", "parquet"):
        write(tmp_path / ending / f"a.{ending}", parts if kind == "video" else parts[0], kind)
    monkeypatch.setattr(rows, "PART_VALUES", 24)  # three rows of eight values are read at once
    found = []
    for ending in ("npz", "parquet"):
        assert index_embeddings(tmp_path / ending, tmp_path / f"db-{ending}").failed == {}
        hits = find(tmp_path / f"db-{ending}", vectors(3, 1)[0])
        found.append([(hit.score, hit.timestamp, hit.source) for hit in hits])
    assert found[0] == found[1] and len(found[0]) == (80 if kind == "video" else 40)


def test_a_damaged_table_and_a_strangers_are_named_and_cost_nothing_else(lancedb, tmp_path):
    import pyarrow
    from pyarrow.parquet import write_table

    emb = tmp_path / "emb"
    for name in ("good", "cut", "changed"):
        write(emb / f"{name}.parquet", vectors(1, 40), source=f"{name}.wav")
    whole = (emb / "cut.parquet").read_bytes()
    (emb / "cut.parquet").write_bytes(whole[:-20])
    start = whole.find(vectors(1, 40)[3].tobytes())
    assert start > 0
    (emb / "changed.parquet").write_bytes(whole[:start] + b"\0\0" + whole[start + 2 :])
    write_table(pyarrow.table({"a": [1]}), emb / "strange.parquet")
    result = index_embeddings(emb, tmp_path / "db")
    assert result.added == 1 and result.vectors == 40
    assert {path.rpartition("/")[2] for path in result.failed} == {"cut.parquet", "changed.parquet", "strange.parquet"}


def test_a_table_that_unpacks_to_far_more_than_its_file_is_refused(lancedb, tmp_path, monkeypatch):
    write(tmp_path / "emb/constant.parquet", np.ones((50_000, 8), np.float32))
    assert (tmp_path / "emb/constant.parquet").stat().st_size < 50_000 * 8  # of 40 bytes a row
    monkeypatch.setattr(results, "_MOST_UNPACKED", (1000, 4))
    (reason,) = index_embeddings(tmp_path / "emb", tmp_path / "db").failed.values()
    assert "unpacks to 2,000,000 bytes, the limit is" in reason


def test_of_two_results_of_one_source_the_newer_counts(lancedb, tmp_path):
    for place, seed, seconds in (("old", 0, 100), ("new", 1, 200)):
        write(tmp_path / place / "clip.npz", vectors(seed))
        os.utime(tmp_path / place / "clip.npz", (seconds, seconds))
    for order in (("old", "new"), ("new", "old")):
        db = tmp_path / order[0] / "db"
        index_embeddings([tmp_path / place / "clip.npz" for place in order], db)
        for place in order:
            assert index_embeddings(tmp_path / place / "clip.npz", db).added == 0
        np.testing.assert_allclose(find(db, vectors(1)[0], k=1)[0].score, 1, atol=1e-6)
        assert len(find(db, vectors(1)[0])) == 5


def test_models_are_never_mixed(lancedb, tmp_path):
    other = {"model": "another", "weights_sha256": "f" * 64}
    write(tmp_path / "a.npz", vectors(0))
    write(tmp_path / "b.npz", vectors(1), weights=other)
    result = run("index", tmp_path / "a.npz", tmp_path / "b.npz", "--db", tmp_path / "db")
    assert result.exit_code == 1
    assert result.stdout.startswith("1 added, 0 skipped, 1 failed; 5 vectors")
    assert all(said in result.stderr for said in ("b.npz", "another", "f" * 64, "drawn", "0" * 64, "--db"))
    assert "b.npz" in run("index", tmp_path / "b.npz", "--db", tmp_path / "db").stderr
    (tmp_path / "a.npz").unlink()  # an empty library is any model's
    write(tmp_path / "b.npz", vectors(1, size=4), weights=other)
    assert index_embeddings(tmp_path / "b.npz", tmp_path / "db", prune=True) == (1, 0, {}, 1, 5)


def test_names_that_are_not_utf8_are_told_with_what_to_do(lancedb, tmp_path):
    bad = os.fsdecode(b"caf\xe9")
    write(tmp_path / "emb/good.npz", vectors(0))
    write(tmp_path / "emb/source.npz", vectors(1), source=f"{bad}.wav")
    write(tmp_path / f"emb/{bad}.npz", vectors(2), source="cafe.wav")
    result = run("index", tmp_path / "emb", "--db", tmp_path / "db")
    assert result.exit_code == 1
    assert result.stdout.startswith("1 added, 0 skipped, 2 failed; 5 vectors")
    asked = "a library takes names in UTF-8 alone, and {!r} isn't: rename it"
    by_source, by_name = asked.format(f"/data/{bad}.wav"), asked.format(str(tmp_path / f"emb/{bad}.npz"))
    assert sorted(result.stderr.splitlines()) == [
        f"failed: {tmp_path}/emb/source.npz: {by_source}",
        f"failed: {by_name}",
    ]
    (tmp_path / f"{bad}-there").mkdir()
    for *arguments, db in (("index", tmp_path / "emb", bad), ("search", "--image", "a.png", f"{bad}-there")):
        result = run(*arguments, "--db", tmp_path / db)
        assert (result.exit_code, result.stderr) == (1, f"Error: {asked.format(str(tmp_path / db))}\n")
    assert not (tmp_path / bad).exists()


def test_the_bar_counts_files_and_not_what_is_removed(lancedb, tmp_path, monkeypatch):
    import tqdm

    class Shown(tqdm.tqdm):
        def __init__(self, *given, **options):
            super().__init__(*given, **options | {"disable": False})

    monkeypatch.setattr("tqdm.tqdm", Shown)
    for seed in range(3):
        write(tmp_path / f"emb/{seed}.npz", vectors(seed))
    command = ("index", tmp_path / "emb", "--db", tmp_path / "db", "--prune")
    run(*command)
    (tmp_path / "emb/0.npz").unlink()
    result = run(*command)
    assert result.stdout == f"0 added, 2 skipped, 0 failed, 1 removed; 10 vectors in {tmp_path / 'db'}/\n"
    assert "100%" in result.stderr and "2/2" in result.stderr


def test_what_was_replaced_is_kept_for_a_while_and_then_deleted(lancedb, tmp_path, monkeypatch):
    write(tmp_path / "b.npz", vectors(5))
    index_embeddings(tmp_path / "b.npz", tmp_path / "db")
    for seed in range(3):
        write(tmp_path / "a.npz", vectors(seed))
        index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    before = len(open_library(tmp_path / "db").list_versions())
    monkeypatch.setattr(index, "KEEP_REPLACED", timedelta(milliseconds=1))
    write(tmp_path / "a.npz", vectors(4))
    index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    assert before > 3 > len(open_library(tmp_path / "db").list_versions())
    np.testing.assert_allclose(find(tmp_path / "db", vectors(4)[0], k=1)[0].score, 1, atol=1e-6)


def test_what_is_broken_is_named_and_costs_nothing_else(lancedb, tmp_path):
    emb = tmp_path / "emb"
    write(emb / "good.npz", vectors(0))
    write(emb / "features.npz", vectors(1), space="features")
    write(emb / "zero.npz", np.zeros((3, 8)))
    write(emb / "size.npz", vectors(1, size=4))
    write(emb / "nothing.npz", vectors(1)[:0])
    (emb / "cut.npz").write_bytes((emb / "good.npz").read_bytes()[:-200])
    (emb / "text.npz").write_text("text")
    np.savez(emb / "other.npz", x=np.zeros(3), metadata=np.array(json.dumps({"source": "x"})))
    write(emb / "kind.npz", vectors(1), "smell")
    write(emb / "number.npz", vectors(1), weights=WEIGHTS | {"model": 5})
    result = run("index", emb, emb / "missing.npz", "--db", tmp_path / "db")
    assert result.exit_code == 1
    assert result.stdout.startswith("1 added, 0 skipped, 10 failed; 5 vectors")
    for name in ("features", "zero", "size", "nothing", "cut", "text", "other", "missing", "kind", "number"):
        assert sum(f"{name}.npz" in line for line in result.stderr.splitlines()) == 1
    assert f"openavc audio /data/features.wav --output {emb}-joint --embedding joint" in result.stderr
    assert "vectors of 4 values, the library of 8" in result.stderr


def test_a_run_killed_between_batches_leaves_a_library_and_the_next_goes_on(lancedb, tmp_path, monkeypatch):
    for seed in range(5):
        write(tmp_path / f"emb/{seed}.npz", vectors(seed))
    monkeypatch.setattr(index, "BATCH_RESULTS", 2)
    commit, commits = index.Writer.commit, []

    def killed(self):
        commits.append(1)
        if len(commits) == 2:
            raise KeyboardInterrupt
        return commit(self)

    monkeypatch.setattr(index.Writer, "commit", killed)
    result = run("index", tmp_path / "emb", "--db", tmp_path / "db")
    assert result.exit_code == 130
    assert "stopped with 2 added" in result.stderr
    assert len(find(tmp_path / "db", vectors(0)[0])) == 10
    monkeypatch.undo()
    assert index_embeddings(tmp_path / "emb", tmp_path / "db") == (3, 2, {}, 0, 25)
    there = np.concatenate([vectors(seed) for seed in range(5)])
    np.testing.assert_allclose(scores(find(tmp_path / "db", there[13])), np.sort(there @ there[13])[::-1], atol=1e-6)


def test_a_replacement_stopped_halfway_is_made_by_the_next_run(lancedb, tmp_path, monkeypatch):
    write(tmp_path / "a.npz", vectors(0))
    write(tmp_path / "b.npz", vectors(1))
    index_embeddings([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "db")
    write(tmp_path / "a.npz", vectors(2))
    delete = index.Writer._delete

    def stopped(self, paths):
        delete(self, paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(index.Writer, "_delete", stopped)
    with pytest.raises(KeyboardInterrupt):
        index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    monkeypatch.undo()
    assert len(find(tmp_path / "db", vectors(1)[0])) == 10
    assert index_embeddings([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "db") == (1, 1, {}, 0, 10)


def test_a_folder_without_results_beside_good_ones_is_named(lancedb, tmp_path):
    write(tmp_path / "a.npz", vectors(0))
    (tmp_path / "sounds").mkdir()
    result = run("index", tmp_path / "a.npz", tmp_path / "sounds", "--db", tmp_path / "db")
    assert result.exit_code == 0 and result.stdout.startswith("1 added, 0 skipped, 0 failed")
    assert result.stderr == f"warning: no .npz or .parquet found in {tmp_path / 'sounds'}\n"


def test_a_library_is_written_by_one_process_at_a_time(lancedb, tmp_path):
    write(tmp_path / "a.npz", vectors(0))
    (tmp_path / "db").mkdir()
    with only_user(tmp_path / "db"):
        result = run("index", tmp_path / "a.npz", "--db", tmp_path / "db")
    assert result.exit_code == 1
    assert f"{tmp_path / 'db'} is in use by process" in result.stderr
    assert run("index", tmp_path / "a.npz", "--db", tmp_path / "db").exit_code == 0


def test_vectors_of_sound_and_pictures_together_are_refused_with_a_reason(tmp_path):
    write(tmp_path / "emb/a.npz", (vectors(0), vectors(1)), kind="video")
    with np.load(tmp_path / "emb/a.npz") as archive:
        arrays = {"joint": archive["audio"], "timestamps": archive["timestamps"], "metadata": archive["metadata"]}
    np.savez(tmp_path / "emb/a.npz", **arrays)
    indexed = index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert (indexed.added, len(indexed.failed)) == (0, 1)
    assert "sound and pictures together" in next(iter(indexed.failed.values()))


def test_a_long_result_comes_in_parts_with_the_rows_of_a_short_one(lancedb, tmp_path, monkeypatch):
    sound, pictures = vectors(0, 50), vectors(1, 50)
    write(tmp_path / "emb/clip.npz", (sound, pictures), kind="video")
    write(tmp_path / "emb/short.npz", vectors(2))
    stored = []
    for name, values in (("whole", 2**22), ("parts", 7 * 8)):
        monkeypatch.setattr(rows, "PART_VALUES", values)
        assert index_embeddings(tmp_path / "emb", tmp_path / name).vectors == 105
        assert index_embeddings(tmp_path / "emb", tmp_path / name).skipped == 2
        table = open_library(tmp_path / name).search().limit(1000).to_list()
        stored.append(sorted(table, key=lambda row: (row["source"], row["modality"], row["timestamp"])))
    assert stored[0] == stored[1]
    assert [row["first"] for row in stored[1]].count(True) == 2


@pytest.mark.parametrize("before", [0, 1], ids=["new", "old"])
def test_a_long_result_is_seen_whole_or_not_at_all(lancedb, tmp_path, monkeypatch, before):
    monkeypatch.setattr(rows, "PART_VALUES", 10 * 8)
    write(tmp_path / "emb/a.npz", vectors(0, 30))
    for seed in range(before):
        index_embeddings(tmp_path / "emb", tmp_path / "db")
        write(tmp_path / "emb/a.npz", vectors(5 + seed, 40))
    parts, read = rows._parts, []

    def stopped(*arguments):
        read.append(1)
        for number, part in enumerate(parts(*arguments)):
            if len(read) == 2 and number == 2:  # at the second reading, in the middle
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(rows, "_parts", stopped)
    with pytest.raises(KeyboardInterrupt):
        index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert len(find(tmp_path / "db", vectors(0)[0])) == 30 * before
    monkeypatch.setattr(rows, "_parts", parts)
    assert index_embeddings(tmp_path / "emb", tmp_path / "db").added == 1
    expected = vectors(5, 40) if before else vectors(0, 30)
    query = vectors(9)[0]
    np.testing.assert_allclose(scores(find(tmp_path / "db", query)), np.sort(expected @ query)[::-1], atol=1e-6)
