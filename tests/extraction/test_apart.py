"""Files that end their decoder: each fails alone, by name, and isn't tried more than twice."""

import ctypes
import dataclasses
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openavc.extraction.apart import embed_files_apart
from openavc.extraction.extraction import Extraction
from openavc.extraction.planning import plan_jobs
from openavc.extraction.results import embed_files
from openavc.progress import step
from openavc.worker import Worker


@dataclasses.dataclass(frozen=True)
class Fragile(Extraction):
    """Writes down what it is given, and reads files of some names as a broken decoder would."""

    def blocks(self, path):
        with open(path.parent.parent / "tried.txt", "a") as file:
            file.write(path.name + "\n")
        if path.name == "segfault.wav":
            ctypes.string_at(0)
        if path.name == "abort.wav":
            os.write(2, b"double free or corruption (out)\n")
            os.abort()
        if path.name == "hang.wav":
            time.sleep(600)
        if path.name == "greedy.wav":
            held = []
            while len(held) < 1280:
                held.append(bytes([len(held) % 256]) * 2**24)
                step()
        if path.name == "killed.wav":
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name == "refused.wav":
            raise OSError(f"{path} can't be decoded")
        yield {"embedding": np.full((1, 2), float(path.read_text())), "timestamps": np.zeros(1)}

    def load(self):
        return None

    def record(self):
        return {"model": "fragile", "weights_sha256": "0", "parameters": self.parameters}


def ready():
    """Import what this file imports before a process is timed."""


DEADLY = {
    "segfault.wav": "SIGSEGV",
    "abort.wav": "SIGABRT: double free",
    "hang.wav": "nothing happened for 2 s",
    "greedy.wav": "it took more than 0.586 GiB of memory",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write 100 files that can be read, one that can't, and four that end their decoder, spread among them."""
    monkeypatch.setenv("OPENAVC_PATIENCE", "2")
    monkeypatch.setenv("OPENAVC_MEMORY", "600M")
    (tmp_path / "sounds").mkdir()
    for number in range(100):
        (tmp_path / "sounds" / f"{chr(97 + number % 26)}{number}.wav").write_text(str(number))
    for name in [*DEADLY, "refused.wav"]:
        (tmp_path / "sounds" / name).write_text("deadly")
    return tmp_path


def embed(folder, overwrite=False, number=1):
    """Embed the files with some workers; return the outcomes by file name, and the names of what was decoded."""
    (folder / "tried.txt").unlink(missing_ok=True)
    jobs = plan_jobs([folder / "sounds"], folder / "out", {".wav"})
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(ready, number)) for _ in range(number)]
        outcomes = list(embed_files_apart(jobs, Fragile("audio", hop_size=0.1), overwrite, workers))
    assert sorted(str(outcome.job.source) for outcome in outcomes) == [str(job.source) for job in jobs]
    tried = folder / "tried.txt"
    return {o.job.source.name: o for o in outcomes}, tried.read_text().split() if tried.exists() else []


def count(outcomes):
    statuses = [outcome.status for outcome in outcomes.values()]
    return {status: statuses.count(status) for status in ("done", "skipped", "failed")}


def test_files_that_end_their_decoder_cost_only_themselves_and_are_remembered(folder):
    outcomes, _ = embed(folder, number=3)
    assert count(outcomes) == {"done": 100, "skipped": 0, "failed": 5}
    for name, reason in DEADLY.items():
        assert reason in outcomes[name].reason
    for name, outcome in outcomes.items():
        if outcome.status == "done":
            with np.load(outcome.job.target) as result:
                assert result["embedding"][0, 0] == float(Path(folder / "sounds" / name).read_text())

    again, tried = embed(folder, number=3)
    assert count(again) == {"done": 0, "skipped": 100, "failed": 5}
    assert sorted(tried) == sorted([*DEADLY, "refused.wav"])
    for name, reason in DEADLY.items():
        assert reason in again[name].reason

    third, tried = embed(folder)
    assert count(third) == {"done": 0, "skipped": 100, "failed": 5}
    assert tried == ["refused.wav"]
    for name in DEADLY:
        assert third[name].reason == f"{again[name].reason} (in 2 earlier runs; --overwrite tries again)"


@pytest.mark.parametrize("change", ["content", "version", "overwrite", "record"])
def test_a_file_is_tried_again_when_something_has_changed(folder, monkeypatch, change):
    for path in (folder / "sounds").iterdir():
        if path.name != "segfault.wav":
            path.unlink()
    monkeypatch.setattr("openavc.extraction.apart._MOST_DEATHS", 1)
    embed(folder)
    [record] = (folder / "out").glob(".*.died")
    if change == "content":
        (folder / "sounds" / "segfault.wav").write_text("another")
    if change == "version":
        monkeypatch.setattr("openavc.extraction.apart.package_version", lambda: "999")
    if change == "record":
        record.write_text("{")
    outcomes, tried = embed(folder, overwrite=change == "overwrite")
    assert tried == ["segfault.wav"]
    assert "earlier runs" not in outcomes["segfault.wav"].reason


def test_a_file_is_not_blamed_for_a_process_killed_from_outside(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "killed.wav").write_text("")
    for _ in range(2):
        outcomes, tried = embed(tmp_path)
        assert outcomes["killed.wav"].reason == "the process at work on it was killed by SIGKILL (out of memory?)"
        assert tried == ["killed.wav"]


def test_a_file_that_can_be_read_after_all_is_forgotten(folder, monkeypatch):
    for path in (folder / "sounds").iterdir():
        if path.name != "hang.wav":
            path.unlink()
    embed(folder)
    assert list((folder / "out").glob(".*.died"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    (folder / "sounds" / "hang.wav").rename(folder / "sounds" / "mended.wav")
    (folder / "sounds" / "mended.wav").write_text("5")
    assert count(embed(folder)[0]) == {"done": 1, "skipped": 0, "failed": 0}


def test_results_are_those_of_the_same_process(tmp_path):
    sounds = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for seed, path in enumerate(sounds):
        soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 20_000), 16_000)
    extraction = Extraction("audio", "ave-small", hop_size=0.5)
    with Worker() as worker, Worker() as other:
        apart = list(embed_files_apart(plan_jobs(sounds, tmp_path / "apart", set()), extraction, False, [worker]))
        jobs = plan_jobs(sounds, tmp_path / "beside", set())
        assert all(outcome.status == "done" for outcome in embed_files_apart(jobs, extraction, False, [worker, other]))
    for job in jobs:
        assert job.target.read_bytes() == (tmp_path / "apart" / job.target.name).read_bytes()
    here = list(embed_files(plan_jobs(sounds, tmp_path / "here", set()), extraction))
    for one, other in zip(apart, here, strict=True):
        with np.load(one.job.target) as first, np.load(other.job.target) as second:
            assert list(first) == list(second)
            np.testing.assert_allclose(first["embedding"], second["embedding"], atol=1e-6)
            np.testing.assert_array_equal(first["timestamps"], second["timestamps"])
