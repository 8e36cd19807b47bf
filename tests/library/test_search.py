"""A library finds what NumPy finds among all vectors."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from joint_results import find, run, scores, unit, vectors, write
from videos import write_video

import openavc
from openavc.library import index, search
from openavc.library.index import index_embeddings
from openavc.library.search import Hit
from openavc.library.table import open_library
from openavc.media.video import read_frame, read_frames

pytestmark = pytest.mark.usefixtures("in_this_process")

EXAMPLE = Path(__file__).parents[2] / "examples" / "freedoom.mp4"


@pytest.fixture
def lancedb():
    return pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")


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
        hits = find(tmp_path / "db", query, modality=modality, k=20)
        np.testing.assert_allclose(scores(hits), np.sort(there @ query)[::-1][:20], atol=1e-6)
        assert modality is None or {hit.modality for hit in hits} == {modality}
    best = find(tmp_path / "db", sounds[7], k=1)[0]
    assert best == Hit("/data/clip.wav", "audio", pytest.approx(0.7), pytest.approx(1, abs=1e-6))
    assert find(tmp_path / "db", vectors(2, 1)[0], k=1)[0][:3] == ("/data/photo.wav", "image", None)


def test_each_source_is_found_once_at_its_best_moment(lancedb, tmp_path):
    """One recording has more of the nearest moments than are fetched at first."""
    query = vectors(9, 1)[0]
    near = unit(query + 0.01 * vectors(0, 300))
    write(tmp_path / "emb/near.npz", near)
    far = {f"/data/far{seed}.wav": vectors(seed, 3) for seed in range(4)}
    for source, there in far.items():
        write(tmp_path / "emb" / f"{Path(source).stem}.npz", there)
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    hits = find(tmp_path / "db", query, moments=False, k=3)
    expected = sorted([near, *far.values()], key=lambda there: -(there @ query).max())
    np.testing.assert_allclose(scores(hits), [(there @ query).max() for there in expected[:3]], atol=1e-6)
    assert len({hit.source for hit in hits}) == 3
    assert {hit.source for hit in find(tmp_path / "db", query, k=30)} == {"/data/near.wav"}


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("k", [10**9, 10**30])
def test_more_hits_may_be_wanted_than_any_library_has(lancedb, tmp_path, moments, k):
    for seed in range(3):
        write(tmp_path / f"emb/{seed}.npz", vectors(seed, 5))
    index_embeddings(tmp_path / "emb", tmp_path / "db")
    assert len(find(tmp_path / "db", vectors(9, 1)[0], moments=moments, k=k)) == (15 if moments else 3)


@pytest.mark.parametrize("again", [False, True])
def test_few_partitions_are_probed_unless_they_hold_too_few(lancedb, tmp_path, monkeypatch, again):
    monkeypatch.setattr(index, "EXACT_BELOW", 500)
    monkeypatch.setattr(search, "PARTITIONS_PROBED", 1)
    there, queries = vectors(0, 600), vectors(1, 20)
    write(tmp_path / "a.npz", there)
    index_embeddings(tmp_path / "a.npz", tmp_path / "db")
    if again:  # its partitions stay when vectors come in
        there = np.concatenate([there, vectors(2, 60)])
        write(tmp_path / "b.npz", there[600:])
        index_embeddings(tmp_path / "b.npz", tmp_path / "db")
    library = open_library(tmp_path / "db")
    assert [its.name for its in library.list_indices()] == ["trained_on_600"]
    counts = library.index_stats("trained_on_600")
    assert (counts.num_indexed_rows, counts.num_unindexed_rows) == (len(there), 0)
    truth = np.sort(there @ queries.T, axis=0)[::-1].T  # (queries, vectors)
    exact = [scores(find(tmp_path / "db", query, k=10, exact=True)) for query in queries]
    np.testing.assert_allclose(exact, truth[:, :10], atol=1e-6)
    approximate = [scores(find(tmp_path / "db", query, k=10)) for query in queries]
    assert np.sum(np.array(approximate) < truth[:, :10] - 1e-6) > 0
    np.testing.assert_allclose(scores(find(tmp_path / "db", queries[0], k=500)), truth[0, :500], atol=1e-6)


def test_queries_that_make_no_sense_are_refused(tmp_path):
    for options, said in (
        ({}, "one of image, audio and text"),
        ({"image": "a.png", "audio": "a.wav"}, "one of image, audio and text"),
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
        "import openavc",
        "from openavc.library.search import Hit; import openavc",
        "from openavc import search; import openavc.library.search",
        "import openavc; openavc.index_embeddings",
    ],
)
def test_the_public_name_is_the_function_whatever_is_imported_first(code):
    call = "\ntry:\n    openavc.search('db')\nexcept ValueError as error:\n    print(error)"
    said = subprocess.run([sys.executable, "-c", code + call], capture_output=True, text=True, check=True).stdout
    assert said.startswith("give one of image, audio and text")


def test_without_lancedb_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "lancedb.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path / "stub")  # worker processes search there, too
    monkeypatch.delitem(sys.modules, "lancedb", raising=False)
    with pytest.raises(ImportError, match=r'pip install "openavc\[search\]"'):
        openavc.search(tmp_path, image=np.zeros((8, 8, 3)))
    write(tmp_path / "a.npz", vectors(0))
    for arguments in (("index", tmp_path / "a.npz"), ("search", "--image", "a.png")):
        result = run(*arguments, "--db", tmp_path / "db")
        assert result.exit_code == 1
        assert 'pip install "openavc[search]"' in result.stderr
    assert not (tmp_path / "db").exists()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Make a library of the example video at 1 frame per second, an oddly named sound and a picture."""
    pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")
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


def test_a_file_object_finds_what_its_path_finds(example):
    for kind, path in (("audio", example / "<img src=x onerror=alert(1)>&'.wav"), ("image", example / "red.png")):
        with open(path, "rb") as file:
            assert openavc.search(example / "db", **{kind: file}) == openavc.search(example / "db", **{kind: path})


@pytest.fixture(scope="module")
def mostly_silent(tmp_path_factory):
    """Make a library of a beep in silence, of silence, of hum below -42 dBFS, and of two loud sounds."""
    pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")
    folder = tmp_path_factory.mktemp("silence")
    rng, silence = np.random.default_rng(1), np.zeros(4 * 16_000)
    beep = silence.copy()
    beep[8_000:24_000] = 0.3 * np.sin(np.arange(16_000) / 5)
    low, hiss = 0.3 * np.sin(np.arange(64_000) / 20), rng.normal(0, 0.1, 64_000)
    sounds = {"beep": beep, "silent": silence, "hum": low / 60, "low": low, "hiss": hiss}
    for name, samples in sounds.items():
        soundfile.write(folder / f"{name}.wav", samples, 16_000)
    write_video(folder / "dark.mkv", [0, 0.5, 1.0], sound=np.zeros(12_000))
    command = ("--output", folder / "emb", "--embedding", "joint")
    assert run("audio", *folder.glob("*.wav"), *command).exit_code == 0
    assert run("video", folder / "dark.mkv", *command).exit_code == 0
    return folder


def test_silence_is_neither_found_nor_searched_for(mostly_silent):
    folder = mostly_silent
    result = run("index", folder / "emb", "--db", folder / "db")
    assert "4 added, 2 skipped, 0 failed" in result.stdout
    for name in ("silent", "hum"):
        assert f"warning: {folder / 'emb' / name}.npz is left out" in result.stderr
    hits = openavc.search(folder / "db", audio=folder / "beep.wav", moments=True, k=1000)
    assert {Path(hit.source).stem for hit in hits if hit.modality == "audio"} == {"beep", "low", "hiss"}
    beeps = [hit for hit in hits if Path(hit.source).stem == "beep"]
    assert all(-0.01 < hit.timestamp < 2.01 for hit in beeps)  # 0.5 to 1.5 s sound, and windows are 1 s
    assert hits[0].source == str(folder / "beep.wav")
    assert {hit.modality for hit in hits if hit.source.endswith("dark.mkv")} == {"image"}
    for name in ("silent", "hum"):
        with pytest.raises(ValueError, match=rf"{name}\.wav has no window of sound as loud as -42 dBFS"):
            openavc.search(folder / "db", audio=folder / f"{name}.wav")
        with pytest.raises(ValueError, match=r"^<BytesIO> has no window of sound"):
            openavc.search(folder / "db", audio=io.BytesIO((folder / f"{name}.wav").read_bytes()))
    with pytest.raises(ValueError, match="the sound to search for has no window"):
        openavc.search(folder / "db", audio=np.zeros(32_000), sr=16_000)
    told = run("search", "--db", folder / "db", "--audio", folder / "silent.wav")
    assert told.exit_code == 1
    assert "silent.wav has no window of sound" in told.stderr


def test_a_query_hears_only_its_loud_windows(mostly_silent):
    folder = mostly_silent
    run("index", folder / "emb", "--db", folder / "db")
    windows, times = openavc.get_audio_embedding(folder / "beep.wav", embedding="joint", hop_size=0.5, center=False)
    query = unit(windows[times <= 1.0].mean(axis=0))
    found = openavc.search(folder / "db", audio=folder / "beep.wav", moments=True, k=1000)
    np.testing.assert_allclose(scores(found), scores(find(folder / "db", query)), atol=1e-4)


def test_a_result_that_became_silent_leaves_the_library(lancedb, tmp_path):
    for loud in (True, False):
        soundfile.write(tmp_path / "a.wav", np.sin(np.arange(32_000) / 5) * (0.3 if loud else 0), 16_000)
        assert run("audio", tmp_path / "a.wav", "--output", tmp_path / "emb", "--embedding", "joint").exit_code == 0
        told = run("index", tmp_path / "emb", "--db", tmp_path / "db").stdout
        assert ("1 added" if loud else "1 skipped, 0 failed; 0 vectors") in told


def test_a_frame_finds_its_moment(example):
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
    with pytest.raises(ValueError, match="was made with ave-natural"):
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
