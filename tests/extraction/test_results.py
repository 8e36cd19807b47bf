"""Many files: names that never collide, resuming, failures that don't affect other files."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from disks import mounted

import openavc
from openavc.cli import main
from openavc.extraction.extraction import Extraction
from openavc.extraction.planning import Job, plan_jobs
from openavc.extraction.results import embed_file, write_result
from openavc.weights import sha256_of

pytestmark = pytest.mark.usefixtures("in_this_process")


def write_sound(path: Path, seed: int, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, round(16_000 * seconds)), 16_000)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def targets(inputs, output=Path("out")):
    return {job.source.name: str(job.target.relative_to(output)) for job in plan_jobs(inputs, output, {".wav", ".mp3"})}


def test_a_folder_keeps_its_structure(tmp_path):
    for name in ("a/clip.wav", "b/clip.wav", "b/deep/x.WAV", "b/notes.txt", ".hidden.wav"):
        write_sound(tmp_path / name, 0) if not name.endswith("txt") else (tmp_path / name).write_text("")
    jobs = plan_jobs([tmp_path], Path("out"), {".wav"})
    assert sorted(str(job.target) for job in jobs) == ["out/a/clip.npz", "out/b/clip.npz", "out/b/deep/x.npz"]


@pytest.mark.parametrize(
    ("names", "inputs", "expected"),
    [
        (["x/clip.wav"], ["x/clip.wav"], ["clip.npz"]),
        (["a/clip.wav", "b/clip.wav"], ["a/clip.wav", "b/clip.wav"], ["a/clip.npz", "b/clip.npz"]),
        (["a/clip.wav", "b/clip.wav"], ["a", "b"], ["a/clip.npz", "b/clip.npz"]),
        (["a/clip.wav", "a/clip.mp3"], ["a"], ["clip.mp3.npz", "clip.wav.npz"]),
        (["a/y.z.wav"], ["a"], ["y.z.npz"]),
        (["a/x.wav", "a/x.mp3", "a/x.wav.mp3"], ["a"], ["x.mp3.npz", "x.wav.mp3.npz", "x.wav.npz"]),
        (["a/clip.wav", "a/other.wav"], ["a/*.wav"], ["clip.npz", "other.npz"]),
        (["a/clip.wav"], ["a", "a/clip.wav"], ["clip.npz"]),
        (["a/clip.odd"], ["a/clip.odd"], ["clip.npz"]),
        (["a/b/c/clip.wav"], ["a/**/*.wav"], ["clip.npz"]),
    ],
)
def test_results_never_share_a_name(tmp_path, monkeypatch, names, inputs, expected):
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    jobs = plan_jobs(inputs, Path("out"), {".wav", ".mp3"})
    assert sorted(str(job.target.relative_to("out")) for job in jobs) == expected


def test_two_bad_files_among_good_ones_are_named_and_cost_nothing_else(tmp_path):
    for k in range(3):
        write_sound(tmp_path / f"in/{k}.wav", k)
    (tmp_path / "in/bad.wav").write_bytes(b"RIFF nonsense")
    (tmp_path / "in/empty.mp3").write_bytes(b"")
    result = run("audio", tmp_path / "in", tmp_path / "missing.wav", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "3 done, 0 skipped, 3 failed" in result.stdout
    for name in ("bad.wav", "empty.mp3", "missing.wav"):
        assert sum(name in line for line in result.stderr.splitlines() if line.startswith("failed")) == 1
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["0.npz", "1.npz", "2.npz"]


def test_media_that_are_passed_over_are_counted_by_their_endings(tmp_path):
    write_sound(tmp_path / "in/deep/a.wav", 0)
    for name in ("song.mid", "deep/SONG.MID", "book.aax", "notes.txt", "cover.jpg", ".hidden.mid"):
        (tmp_path / "in" / name).write_bytes(b"MThd")
    result = run("audio", tmp_path / "in", "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 done, 0 skipped, 0 failed, 3 passed over (1 .aax, 2 .mid); results in" in result.stdout
    named = run("audio", tmp_path / "in", tmp_path / "in/song.mid", "--output", tmp_path / "out")
    assert "0 done, 1 skipped, 1 failed, 2 passed over (1 .aax, 1 .mid)" in named.stdout
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.heic").write_bytes(b"")
    none = run("image", tmp_path / "photos", "--output", tmp_path / "out")
    assert none.exit_code == 2
    assert "1 passed over (1 .heic)" in none.stderr


def test_a_folder_without_fitting_files_beside_good_ones_is_named(tmp_path):
    good = write_sound(tmp_path / "good.wav", 0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"")
    given = (good, tmp_path / "photos", tmp_path / "phot*", tmp_path)
    result = run("audio", *given, "--output", tmp_path / "out")
    assert (result.exit_code, result.stdout.split(";")[0]) == (0, "1 done, 0 skipped, 0 failed")
    named = [f"warning: no files found in {item}" for item in given[1:3]]
    assert result.stderr.splitlines() == named


def test_many_short_files_are_told_in_one_line(tmp_path):
    for k in range(5):
        write_sound(tmp_path / f"in/{k}.wav", k, 0.3)
    soundfile.write(tmp_path / "in/silent.wav", np.zeros(32_000), 16_000)
    result = run("audio", tmp_path / "in", "--output", tmp_path / "out")
    assert "6 done, 0 skipped, 0 failed" in result.stdout
    silent, short = sorted(result.stderr.splitlines(), key=lambda line: "shorter" in line)
    assert silent.endswith("silent.wav is silent; it is embedded all the same")
    assert "0.wav is 0.3 s long, shorter than one window of 1 s; zeros are added (4 more such files)" in short
    alone = write_sound(tmp_path / "alone.wav", 9, 0.3)
    assert run("audio", alone, "--output", tmp_path / "one").stderr.splitlines() == [
        f"warning: {alone} is 0.3 s long, shorter than one window of 1 s; zeros are added"
    ]


def test_a_result_holds_embedding_timestamps_and_metadata(tmp_path):
    source = write_sound(tmp_path / "clip.wav", 0, 2.0)
    assert run("audio", source, "--output", tmp_path / "out", "--hop-size", 0.5).exit_code == 0
    with np.load(tmp_path / "out/clip.npz") as archive:
        assert set(archive.files) == {"embedding", "timestamps", "metadata"}
        assert archive["embedding"].shape[0] == archive["timestamps"].shape[0] == 4  # centred: 2.5 s counted
        metadata = json.loads(str(archive["metadata"]))
    assert metadata["source"]["name"] == "clip.wav"
    assert metadata["source"]["bytes"] == source.stat().st_size
    assert metadata["source"]["sha256"] == sha256_of(source)
    assert metadata["parameters"] == {"modality": "audio", "embedding": "features", "hop_size": 0.5, "center": True}
    assert len(metadata["weights_sha256"]) == 64
    assert {"model", "version"} <= metadata.keys()


def test_a_second_run_skips_what_is_done_and_recomputes_what_differs(tmp_path):
    sources = [write_sound(tmp_path / f"in/{k}.wav", k) for k in range(3)]
    command = ("audio", tmp_path / "in", "--output", tmp_path / "out")
    assert "3 done, 0 skipped" in run(*command).stdout
    assert "0 done, 3 skipped" in run(*command).stdout
    os.utime(sources[0])  # touched, not changed
    assert "0 done, 3 skipped" in run(*command).stdout
    write_sound(sources[0], 7)  # of the same size
    assert "1 done, 2 skipped" in run(*command).stdout
    assert "3 done, 0 skipped" in run(*command, "--embedding", "joint").stdout
    assert "3 done, 0 skipped" in run(*command).stdout
    (tmp_path / "out/1.npz").write_bytes((tmp_path / "out/1.npz").read_bytes()[:500])
    assert "1 done, 2 skipped" in run(*command).stdout
    assert "3 done, 0 skipped" in run(*command, "--overwrite").stdout


def test_a_result_of_another_file_or_kind_is_never_replaced_unasked(tmp_path):
    for k, name in enumerate(("a/clip.wav", "b/clip.wav")):
        os.utime(write_sound(tmp_path / name, k), ns=(0, 0))  # of one size and time
    command = ("audio", tmp_path / "a/clip.wav", "--output", tmp_path / "out")
    assert run(*command).exit_code == 0
    before = (tmp_path / "out/clip.npz").read_bytes()
    other = ("audio", tmp_path / "b/clip.wav", "--output", tmp_path / "out")
    result = run(*other)
    assert result.exit_code == 1
    assert "a/clip.wav" in result.stderr
    assert "--overwrite" in result.stderr
    assert (tmp_path / "out/clip.npz").read_bytes() == before
    assert "1 done" in run(*other, "--overwrite").stdout
    video = Path(__file__).parents[2] / "examples/freedoom.mp4"
    assert run("audio", video, "--output", tmp_path / "out").exit_code == 0
    result = run("video", video, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "audio embedding" in result.stderr


@pytest.mark.parametrize("content", [b"", b"my notes", None], ids=["empty", "text", "arrays"])
def test_a_file_that_is_not_ours_is_never_replaced_unasked(tmp_path, content):
    source, target = write_sound(tmp_path / "clip.wav", 0), tmp_path / "out/clip.npz"
    target.parent.mkdir()
    if content is None:
        np.savez(target, embedding=np.ones((2, 3)), metadata=np.array('{"source": "mine"}'))
    else:
        target.write_bytes(content)
    before = target.read_bytes()
    result = run("audio", source, "--output", tmp_path / "out")
    if not content and content is not None:  # nothing is lost
        assert "1 done" in result.stdout
        return
    assert result.exit_code == 1
    assert f"{target} isn't a result of openavc; choose another --output, or --overwrite" in result.stderr
    assert target.read_bytes() == before
    assert "1 done" in run("audio", source, "--output", tmp_path / "out", "--overwrite").stdout


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")


@needs_pipes
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_a_pipe_of_a_results_name_is_left_alone(tmp_path, ending, overwrite):
    source, target = write_sound(tmp_path / "clip.wav", 0), tmp_path / f"out/clip.{ending}"
    target.parent.mkdir()
    os.mkfifo(target)
    result = run("audio", source, "--output", tmp_path / "out", "--format", ending, *overwrite)
    assert result.exit_code == 1
    assert str(target) in result.stderr
    assert target.is_fifo()


@pytest.fixture
def read_only(tmp_path):
    """Mount a disk that can't be written; return its path."""
    with mounted(tmp_path / "disk", "ro") as folder:
        yield folder


@pytest.mark.parametrize(("output", "status"), [("", 1), ("emb/", 2)])
def test_an_output_that_cannot_be_written_is_named_in_one_line(tmp_path, read_only, output, status):
    source = write_sound(tmp_path / "clip.wav", 0)
    result = run("audio", source, "--output", f"{read_only}/{output}")
    assert result.exit_code == status
    (line,) = [line for line in result.stderr.splitlines() if "Read-only file system" in line]
    assert str(read_only) in line and "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["犬が吠える.wav", "собака и кошка.wav", "كلب.wav", "🐕 dog.wav"])
def test_names_in_any_script_are_read_and_written(tmp_path, name):
    (tmp_path / "sounds").mkdir()
    write_sound(tmp_path / "sounds" / name, 0)
    assert "1 done" in run("audio", tmp_path / "sounds", "--output", tmp_path / "out").stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name.replace(".wav", ".npz")]


@needs_pipes
def test_a_pipe_of_the_name_of_a_record_is_not_waited_for(tmp_path):
    source, record = write_sound(tmp_path / "clip.wav", 0), tmp_path / "out/.clip.npz.died"
    record.parent.mkdir()
    os.mkfifo(record)
    assert "1 done" in run("audio", source, "--output", tmp_path / "out").stdout


@pytest.mark.parametrize("seed", range(5))
def test_a_result_with_a_changed_byte_is_made_anew(tmp_path, seed):
    job = Job(write_sound(tmp_path / "clip.wav", 0), tmp_path / "clip.npz")
    assert embed_file(job, Extraction("audio")).status == "done"
    whole = job.target.read_bytes()
    place = random.Random(seed).randrange(4000, len(whole) - 1000)
    job.target.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    print(f"seed {seed}: byte {place} of {len(whole)}")
    assert embed_file(job, Extraction("audio")).status == "done"
    assert job.target.read_bytes() == whole
    assert embed_file(job, Extraction("audio")).status == "skipped"


@pytest.mark.parametrize("times", [1, 9])
def test_a_source_that_changes_while_it_is_read_never_gives_a_result_of_what_it_was(tmp_path, monkeypatch, times):
    source, changes, embed = write_sound(tmp_path / "clip.wav", 0), iter(range(1, times + 1)), Extraction.blocks

    def embed_and_change(extraction, path):
        yield from embed(extraction, path)
        for seed in itertools.islice(changes, 1):
            write_sound(path, seed)  # of the same size

    monkeypatch.setattr(Extraction, "blocks", embed_and_change)
    job = Job(source, tmp_path / "clip.npz")
    outcome = embed_file(job, Extraction("audio"))
    if times == 1:
        assert outcome.status == "done"
        expected = openavc.get_audio_embedding(source)[0]
        np.testing.assert_array_equal(np.load(job.target)["embedding"], expected)
        assert json.loads(str(np.load(job.target)["metadata"]))["source"]["sha256"] == sha256_of(source)
    else:
        assert outcome.status == "failed"
        assert f"{source} changes while it is read" in outcome.reason
        assert not job.target.exists()


LIST_AS_NOBODY = """
import os, sys
from pathlib import Path
from openavc.extraction.planning import plan_jobs
from openavc.extraction.results import describe
if os.getuid() == 0:
    os.setuid(65534)
for job in plan_jobs(sys.argv[1:], Path("out"), {".wav"}):
    try:
        print(describe(job.source)["name"])
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such permissions")
@pytest.mark.parametrize("mode", [0o000, 0o744], ids=["nothing", "names alone"])
@pytest.mark.parametrize("given", ["", "private", "private/*.wav", "*", "*/*.wav", "open/../*/*.wav"])
def test_a_folder_that_cannot_be_listed_is_named(given, mode):
    with tempfile.TemporaryDirectory() as folder:  # not below a folder that is root's alone
        os.chmod(folder, 0o755)
        for name in ("clip.wav", "private/other.wav", "open/clip.wav"):
            write_sound(Path(folder, name), 0)
        private = Path(folder, "private")
        private.chmod(mode)
        told = subprocess.run(
            [sys.executable, "-c", LIST_AS_NOBODY, Path(folder, given)], capture_output=True, text=True
        )
        private.chmod(0o755)
    lines = told.stdout.splitlines()
    if given == "private/*.wav":
        name = "other.wav" if mode else "*.wav"  # whose name can be read
        assert len(lines) == 1 and f"{private}/{name}" in lines[0]
    else:
        named = [line for line in lines if "can't be listed: permission denied" in line]
        assert len(named) == 1 and "private is a folder that" in named[0]
        files = {"": 2, "private": 0, "*": 2}.get(given, 1)
        assert [line for line in lines if line == "clip.wav"] == ["clip.wav"] * files


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    write_sound(tmp_path / "clip.wav", 0)
    monkeypatch.chdir(tmp_path)
    for command in (["audio", "", "--output", "out"], ["index", "", "--db", "library"]):
        result = run(*command)
        assert result.exit_code == 2
        assert 'an empty name was given; "." names the current folder' in result.stderr


def test_names_of_any_bytes_and_any_length_are_read_and_written(tmp_path):
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    names = [b"caf\xe9.wav", b"\xff.mp4", b"n" * (longest - 4) + b".wav"]
    try:
        for name in names:
            (tmp_path / os.fsdecode(name)).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    video, sound = Path(__file__).parents[2] / "examples/freedoom.mp4", write_sound(tmp_path / "sound.wav", 0)
    for name in names:
        shutil.copy(video if name.endswith(b".mp4") else sound, tmp_path / os.fsdecode(name))
    result = run("audio", *(tmp_path / os.fsdecode(name) for name in names), "--output", tmp_path / "out")
    assert "3 done, 0 skipped, 0 failed" in result.stdout
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(name[:-4] + b".npz" for name in names)
    bare = run("audio", *(tmp_path / os.fsdecode(name) for name in names), "--output", tmp_path / "out")
    assert "0 done, 3 skipped, 0 failed" in bare.stdout
    run("video", tmp_path / os.fsdecode(names[1]), "--output", tmp_path / "video", "--frame-rate", 1)
    assert os.listdir(os.fsencode(tmp_path / "video")) == [b"\xff.npz"]


@pytest.mark.parametrize("path", ["n" * 300 + ".wav", "folder/" * 700 + "clip.wav"])
def test_names_that_no_file_can_have_fail_like_any_other_file(tmp_path, path):
    good = write_sound(tmp_path / "clip.wav", 0)
    result = run("audio", tmp_path / path, good, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "1 done, 0 skipped, 1 failed" in result.stdout
    assert len(result.stderr.splitlines()) == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_result(tmp_path / "a.npz", {"x": np.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_loses_nothing_it_had_finished(seed, tmp_path):
    chosen = random.Random(seed)
    results, delay = chosen.randint(1, 25), chosen.uniform(0, 0.1)
    print(f"seed {seed}: killed {delay:.3f} s after {results} results")
    for k in range(40):
        write_sound(tmp_path / f"in/{k:02d}.wav", k, 4.0)
    command = [sys.executable, "-m", "openavc", "audio", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(tmp_path.glob("out/*.npz"))) < results:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # until its worker has ended, too
    done = sorted(tmp_path.glob("out/*.npz"))
    assert results <= len(done) < 40
    before = {path: (path.stat().st_mtime_ns, np.load(path)["embedding"]) for path in done}  # none is damaged
    result = run("audio", tmp_path / "in", "--output", tmp_path / "out")
    assert f"{40 - len(done)} done, {len(done)} skipped, 0 failed" in result.stdout
    assert sorted(path.name for path in tmp_path.glob("out/*")) == sorted(
        path.name for path in tmp_path.glob("out/*.npz")
    )
    assert len(list(tmp_path.glob("out/*.npz"))) == 40
    assert all(path.stat().st_mtime_ns == stamp for path, (stamp, _) in before.items())  # none was done twice


def test_results_are_the_same_alone_and_in_company(tmp_path):
    for k in range(3):
        write_sound(tmp_path / f"in/{k}.wav", k)
    run("audio", tmp_path / "in", "--output", tmp_path / "all")
    run("audio", tmp_path / "in/1.wav", "--output", tmp_path / "one", "--batch-size", 3)
    together, alone = (np.load(tmp_path / place / "1.npz")["embedding"] for place in ("all", "one"))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).max())
