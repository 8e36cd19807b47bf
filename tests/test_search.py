"""A library finds what NumPy finds among all vectors, keeps up with its results, and survives what is broken."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import openavc
from openavc import files
from openavc import search as library
from openavc.cli import main
from openavc.search import Hit, index_embeddings, nearest, open_library
from openavc.search_page import write_page

EXAMPLE = Path(__file__).parent.parent / "examples" / "freedoom.mp4"
WEIGHTS = {"model": "drawn", "weights_sha256": "0" * 64}


@pytest.fixture
def lancedb():
    return pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def vectors(seed, number=5, size=8):
    return unit(np.random.default_rng(seed).normal(size=(number, size))).astype(np.float32)


def write(path, embedding, kind="audio", source=None, weights=WEIGHTS, space="joint"):
    """A result as the commands write them, of a source that need not exist; for videos, of (sound, pictures)."""
    name = source or f"{path.stem}.wav"
    about = {"path": f"/data/{name}", "name": name, "sha256": "1" * 64}
    parameters = {"modality": kind, "embedding": space}
    arrays = {"audio": embedding[0], "image": embedding[1]} if kind == "video" else {"embedding": embedding}
    times = np.arange(len(next(iter(arrays.values())))) / 10
    files.write_result(path, arrays | {"timestamps": times}, weights | {"parameters": parameters, "source": about})


def scores(hits):
    return [hit.score for hit in hits]


def found(db, query, **options):
    return nearest(open_library(db), query, **{"k": 1000, "moments": True} | options)


# ----------------------------------------------------------------------------------------------------------- search


def test_hits_are_those_of_all_scalar_products(lancedb, tmp_path):
    sounds, pictures = vectors(0, 50), vectors(1, 50)
    write(tmp_path / "emb/clip.npz", (3 * sounds, pictures), "video")  # of any length
    write(tmp_path / "emb/photo.npz", vectors(2, 1), "image")
    assert index_embeddings(tmp_path / "emb", tmp_path / "db") == (2, 0, {}, 0, 101)
    query = vectors(3, 1)[0]
    for modality, there in (
        ("audio", sounds),
        ("image", np.concatenate([pictures, vectors(2, 1)])),
        (None, np.concatenate([sounds, pictures, vectors(2, 1)])),
    ):
        hits = found(tmp_path / "db", query, modality=modality, k=20)
        np.testing.assert_allclose(scores(hits), np.sort(there @ query)[::-1][:20], atol=1e-6)
        assert modality is None or {hit.modality for hit in hits} == {modality}
    best = found(tmp_path / "db", sounds[7], k=1)[0]
    assert best == Hit("/data/clip.wav", "audio", pytest.approx(0.7), pytest.approx(1, abs=1e-6))
    assert found(tmp_path / "db", vectors(2, 1)[0], k=1)[0][:3] == ("/data/photo.wav", "image", None)


def test_each_source_is_found_once_at_its_best_moment(lancedb, tmp_path):
    """One recording holds more of the nearest moments than are fetched at first."""
    query = vectors(9, 1)[0]
    near = unit(query + 0.01 * vectors(0, 300))
    write(tmp_path / "emb/near.npz", near)
    far = {f"/data/far{seed}.wav": vectors(seed, 3) for seed in range(4)}
    for source, there in far.items():
        write(tmp_path / "emb" / f"{Path(source).stem}.npz", there)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    hits = found(tmp_path / "db", query, moments=False, k=3)
    expected = sorted([near, *far.values()], key=lambda there: -(there @ query).max())
    np.testing.assert_allclose(scores(hits), [(there @ query).max() for there in expected[:3]], atol=1e-6)
    assert len({hit.source for hit in hits}) == 3
    assert {hit.source for hit in found(tmp_path / "db", query, k=30)} == {"/data/near.wav"}


def test_an_index_is_built_when_it_pays_and_new_rows_are_found_beside_it(lancedb, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "_EXACT_BELOW", 500)
    there = [vectors(seed, 300) for seed in range(3)]
    for number, part in enumerate(there[:2]):
        write(tmp_path / f"emb/{number}.npz", part)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert [index.name for index in open_library(tmp_path / "db").list_indices()] == ["trained_on_600"]
    write(tmp_path / "emb/2.npz", there[2])
    monkeypatch.setattr(library._Writer, "organize", lambda self: None)  # as if killed before
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert open_library(tmp_path / "db").index_stats("trained_on_600").num_unindexed_rows == 300
    for exact in (False, True):
        hits = found(tmp_path / "db", there[2][5], exact=exact, k=10)
        np.testing.assert_allclose(scores(hits), np.sort(np.concatenate(there) @ there[2][5])[::-1][:10], atol=1e-6)
    monkeypatch.undo()
    monkeypatch.setattr(library, "_EXACT_BELOW", 500)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert open_library(tmp_path / "db").index_stats("trained_on_600").num_unindexed_rows == 0
    write(tmp_path / "emb/3.npz", vectors(3, 900))
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert [index.name for index in open_library(tmp_path / "db").list_indices()] == ["trained_on_1800"]


def test_few_partitions_are_probed_unless_they_hold_too_few(lancedb, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "_EXACT_BELOW", 500)
    monkeypatch.setattr(library, "_PARTITIONS_PROBED", 1)
    there, queries = vectors(0, 600), vectors(1, 20)
    write(tmp_path / "a.npz", there)
    index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    truth = np.sort(there @ queries.T, axis=0)[::-1].T  # (queries, vectors)
    exact = [scores(found(tmp_path / "db", query, k=10, exact=True)) for query in queries]
    np.testing.assert_allclose(exact, truth[:, :10], atol=1e-6)
    approximate = [scores(found(tmp_path / "db", query, k=10)) for query in queries]
    assert np.sum(np.array(approximate) < truth[:, :10] - 1e-6) > 0
    np.testing.assert_allclose(scores(found(tmp_path / "db", queries[0], k=500)), truth[0, :500], atol=1e-6)


def test_queries_that_make_no_sense_are_refused(tmp_path):
    for options, said in (
        ({}, "either image or audio"),
        ({"image": "a.png", "audio": "a.wav"}, "either image or audio"),
        ({"image": "a.png", "modality": "smell"}, "'smell'"),
        ({"image": "a.png", "k": 0}, "got 0"),
    ):
        with pytest.raises(ValueError, match=said):
            openavc.search(tmp_path, **options)


def test_a_library_that_is_not_there_is_named_and_not_made(lancedb, tmp_path):
    result = run("search", "--db", tmp_path / "nothing", "--image", "dog.jpg")
    assert (result.exit_code, (tmp_path / "nothing").exists()) == (1, False)
    assert f"openavc index EMBEDDINGS --db {tmp_path / 'nothing'}" in result.stderr
    assert run("search", "--db", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    "code",
    [
        "import openavc; call = openavc.search",
        "from openavc.search import Hit; import openavc; call = openavc.search",
        "from openavc import search as call, search; import openavc.search",
        "import openavc.search as call",
        "import openavc; openavc.index_embeddings; call = openavc.search; assert call.Hit",
    ],
)
def test_the_function_is_called_like_its_module_whichever_is_imported_first(code):
    call = "\ntry:\n    call('db')\nexcept ValueError as error:\n    print(error)"
    said = subprocess.run([sys.executable, "-c", code + call], capture_output=True, text=True, check=True).stdout
    assert said.startswith("give either image or audio")


def test_without_lancedb_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(ImportError, match=r'pip install "openavc\[search\]"'):
        openavc.search(tmp_path, image=np.zeros((8, 8, 3)))
    write(tmp_path / "a.npz", vectors(0))
    for arguments in (("index", tmp_path / "a.npz"), ("search", "--image", "a.png")):
        result = run(*arguments, "--db", tmp_path / "db")
        assert result.exit_code == 1
        assert 'pip install "openavc[search]"' in result.stderr
    assert not (tmp_path / "db").exists()


# ------------------------------------------------------------------------------------------------------------ index


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
    np.testing.assert_allclose(scores(found(db, query)), np.sort(there @ query)[::-1], atol=1e-6)
    (emb / "it's.npz").unlink()
    assert run(*command).stdout == f"0 added, 3 skipped, 0 failed; 22 vectors in {db}/\n"
    assert run(*command, "--prune").stdout == f"0 added, 3 skipped, 0 failed, 1 removed; 17 vectors in {db}/\n"
    assert "/data/it's.wav" not in {hit.source for hit in found(db, query)}


def test_of_two_results_of_one_source_the_newer_counts(lancedb, tmp_path):
    for place, seed, seconds in (("old", 0, 100), ("new", 1, 200)):
        write(tmp_path / place / "clip.npz", vectors(seed))
        os.utime(tmp_path / place / "clip.npz", (seconds, seconds))
    for order in (("old", "new"), ("new", "old")):
        db = tmp_path / order[0] / "db"
        index_embeddings([tmp_path / place / "clip.npz" for place in order], db)
        for place in order:
            assert index_embeddings(tmp_path / place / "clip.npz", db).added == 0
        np.testing.assert_allclose(found(db, vectors(1)[0], k=1)[0].score, 1, atol=1e-6)
        assert len(found(db, vectors(1)[0])) == 5


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

    original = tqdm.tqdm
    monkeypatch.setattr("tqdm.tqdm", lambda *given, **options: original(*given, **options | {"disable": False}))
    for seed in range(3):
        write(tmp_path / f"emb/{seed}.npz", vectors(seed))
    command = ("index", tmp_path / "emb", "--db", tmp_path / "db", "--prune")
    run(*command)
    (tmp_path / "emb/0.npz").unlink()
    result = run(*command)
    assert result.stdout == f"0 added, 2 skipped, 0 failed, 1 removed; 10 vectors in {tmp_path / 'db'}/\n"
    assert "100%" in result.stderr and "2/2" in result.stderr


def test_what_was_replaced_is_kept_for_a_while_and_then_deleted(lancedb, tmp_path, monkeypatch):
    for seed in range(3):
        write(tmp_path / "a.npz", vectors(seed))
        index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    before = len(open_library(tmp_path / "db").list_versions())
    monkeypatch.setattr(library, "_KEPT", library.timedelta(milliseconds=1))
    write(tmp_path / "a.npz", vectors(4))
    index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    assert before > 3 > len(open_library(tmp_path / "db").list_versions())
    np.testing.assert_allclose(found(tmp_path / "db", vectors(4)[0], k=1)[0].score, 1, atol=1e-6)


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
    monkeypatch.setattr(library, "_BATCH_RESULTS", 2)
    commit, commits = library._Writer.commit, []

    def killed(self):
        commits.append(1)
        if len(commits) == 2:
            raise KeyboardInterrupt
        return commit(self)

    monkeypatch.setattr(library._Writer, "commit", killed)
    result = run("index", tmp_path / "emb", "--db", tmp_path / "db")
    assert result.exit_code == 130
    assert "stopped with 2 added" in result.stderr
    assert len(found(tmp_path / "db", vectors(0)[0])) == 10
    monkeypatch.undo()
    assert index_embeddings(tmp_path / "emb", tmp_path / "db") == (3, 2, {}, 0, 25)
    there = np.concatenate([vectors(seed) for seed in range(5)])
    np.testing.assert_allclose(scores(found(tmp_path / "db", there[13])), np.sort(there @ there[13])[::-1], atol=1e-6)


def test_a_replacement_killed_halfway_is_made_by_the_next_run(lancedb, tmp_path, monkeypatch):
    write(tmp_path / "a.npz", vectors(0))
    write(tmp_path / "b.npz", vectors(1))
    index_embeddings([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "db")
    write(tmp_path / "a.npz", vectors(2))
    remove = library._Writer._remove

    def killed(self, paths):
        remove(self, paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(library._Writer, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    monkeypatch.undo()
    assert len(found(tmp_path / "db", vectors(1)[0])) == 5
    assert index_embeddings([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "db") == (1, 1, {}, 0, 10)


def test_a_library_is_written_by_one_process_at_a_time(lancedb, tmp_path):
    write(tmp_path / "a.npz", vectors(0))
    (tmp_path / "db").mkdir()
    with library._only_writer(tmp_path / "db"):
        result = run("index", tmp_path / "a.npz", "--db", tmp_path / "db")
    assert result.exit_code == 1
    assert "another openavc index" in result.stderr
    assert run("index", tmp_path / "a.npz", "--db", tmp_path / "db").exit_code == 0


# ------------------------------------------------------------------------------------------- end to end, and the page


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A library of the example video at 1 frame a second, a sound with a hostile name and a picture, by ave-small."""
    pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")
    import cv2

    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    soundfile.write(folder / "<img src=x onerror=alert(1)>&'.wav", rng.uniform(-0.5, 0.5, 32_000), 16_000)
    cv2.imwrite(str(folder / "red.png"), np.tile(np.uint8([0, 0, 255]), (90, 120, 1)))
    emb = folder / "emb"
    for kind, source, *options in (
        ("video", EXAMPLE, "--frame-rate", 1),
        ("audio", folder, "--hop-size", 0.5),
        ("image", folder / "red.png"),
    ):
        assert run(kind, source, "--output", emb, "--embedding", "joint", *options).exit_code == 0
    assert run("index", emb, "--db", folder / "db").exit_code == 0
    return folder


def test_a_sound_is_searched_for_by_the_mean_of_its_windows(example):
    sound = example / "<img src=x onerror=alert(1)>&'.wav"
    windows, _ = openavc.get_audio_embedding(sound, embedding="joint", hop_size=0.5, center=False)
    query = unit(windows.mean(axis=0))
    clip = openavc.get_video_embedding(EXAMPLE, embedding="joint", frame_rate=1)
    expected = np.sort(clip.image @ query)[::-1]
    hits = openavc.search(example / "db", audio=sound, modality="image", moments=True, k=100)
    mine = [hit for hit in hits if hit.source == str(EXAMPLE.absolute())]
    np.testing.assert_allclose(scores(mine), expected, atol=1e-4)
    assert openavc.search(example / "db", audio=sound, k=1)[0].source == str(sound)
    waveform, sample_rate = soundfile.read(sound)
    assert scores(openavc.search(example / "db", audio=waveform, sr=sample_rate)) == pytest.approx(
        scores(openavc.search(example / "db", audio=sound)), abs=1e-4
    )


def test_a_frame_finds_its_moment(example):
    from openavc.video import read_frame, read_frames

    frames = dict(read_frames(EXAMPLE, 1))
    time = list(frames)[3]
    np.testing.assert_array_equal(read_frame(EXAMPLE, time), frames[time])
    assert openavc.search(example / "db", image=frames[time], k=1) == [
        (str(EXAMPLE.absolute()), "image", pytest.approx(time), pytest.approx(1, abs=1e-5))
    ]
    with pytest.raises(ValueError, match="got 2"):
        openavc.search(example / "db", image=np.zeros((2, 8, 8, 3)))
    with pytest.raises(TypeError, match="list"):
        openavc.search(example / "db", image=[frames[time]])


def test_another_model_is_refused(example, model):
    with pytest.raises(ValueError, match="was made with ave-small"):
        openavc.search(example / "db", image=np.zeros((8, 8, 3)), model=model)


def test_a_library_of_a_weights_file_asks_for_it(lancedb, tmp_path, model):
    write(tmp_path / "a.npz", vectors(0), weights={"model": model.name, "weights_sha256": model.sha256})
    index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    with pytest.raises(ValueError, match="give that weights file"):
        openavc.search(tmp_path / "db", image=np.zeros((8, 8, 3)))
    expected = openavc.get_image_embedding(np.zeros((8, 8, 3)), model, embedding="joint")[0]
    hits = openavc.search(tmp_path / "db", image=np.zeros((8, 8, 3)), model=model)
    assert scores(hits) == pytest.approx([(vectors(0) @ unit(expected)).max()], abs=1e-5)


def test_the_command_prints_a_table_and_writes_a_page(example, tmp_path):
    page = tmp_path / "results.html"
    result = run("search", "--db", example / "db", "--image", example / "red.png", "--html", page)
    assert result.exit_code == 0
    rows = [line.split(maxsplit=3) for line in result.stdout.splitlines()]
    assert rows[0] == ["1", "1.000", "image", str(example / "red.png")]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert page.read_text().count("data:image/jpeg;base64,") == 3  # the query, itself and the video's frame
    result = run("search", "--db", example / "db", "--image", example / "gone.png")
    assert result.exit_code == 1
    assert "gone.png" in result.stderr


def test_hits_are_printed_before_the_page_whose_folder_is_made(example, tmp_path):
    command = ("search", "--db", example / "db", "--image", example / "red.png", "--html")
    assert run(*command, tmp_path / "new/folder/results.html").exit_code == 0
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["results.html"]
    (tmp_path / "file").write_text("")
    result = run(*command, tmp_path / "file/results.html")
    assert result.exit_code == 1 and "results.html can't be written" in result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_the_page_escapes_names_shows_pictures_and_plays_moments(example, tmp_path):
    import base64

    import cv2

    sound = example / "<img src=x onerror=alert(1)>&'.wav"
    hits = [
        Hit(str(example / "red.png"), "image", None, 0.9),
        Hit(str(EXAMPLE), "image", 3.0, 0.8),
        Hit(str(sound), "audio", 0.5, 0.7),
        Hit('/gone/"><script>.wav', "audio", 0.5, 0.6),
    ]
    write_page(tmp_path / "page.html", sound, hits)
    page = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#x27;.wav" in page
    assert f'<audio controls preload="none" src="{sound.as_uri()}"></audio>' in page  # the query
    assert f'src="{sound.as_uri()}#t=0.00,2.50"' in page
    assert f'src="{EXAMPLE.as_uri()}#t=2.00,5.00"' in page
    assert page.count("missing: the file") == 1
    assert [float(score) for score in re.findall(r"<strong>(.*?)</strong>", page)] == [0.9, 0.8, 0.7, 0.6]
    jpegs = [base64.b64decode(text) for text in re.findall(r'data:image/jpeg;base64,([^"]+)"', page)]
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
    assert pictures[0].shape == (90, 120, 3)
    np.testing.assert_allclose(pictures[0].mean(axis=(0, 1)), [0, 0, 255], atol=3)
    assert pictures[1].shape[:2] == (180, 240) or max(pictures[1].shape) <= 240


def test_a_page_tells_of_pictures_that_cannot_be_read_and_of_no_hits(tmp_path):
    (tmp_path / "broken.png").write_text("text")
    (tmp_path / "broken.mp4").write_text("text")
    hits = [Hit(str(tmp_path / f"broken{ending}"), "image", 1.0, 0.5) for ending in (".png", ".mp4")]
    write_page(tmp_path / "page.html", tmp_path / "gone.png", hits)
    assert (tmp_path / "page.html").read_text().count("no picture: ") == 2
    write_page(tmp_path / "page.html", tmp_path / "gone.png", [])
    assert "nothing was found" in (tmp_path / "page.html").read_text()
