"""Plans of many files: what they stand for in order, in little memory."""

import os
import tracemalloc
from pathlib import Path

from openavc.extraction import planning
from openavc.extraction.planning import Job, find_files, passed_over, plan_jobs


def test_a_folder_is_planned_in_the_order_of_its_paths(tmp_path):
    names = ["b.wav", "a/z.wav", "a/b/c.wav", "a-/x.wav", "a.wav", "c/.hidden.wav", ".d/e.WAV", "f.", "g.mid"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    os.symlink(tmp_path / "b.wav", tmp_path / "linked.wav")
    os.symlink(tmp_path / "a", tmp_path / "linked_folder")
    os.symlink(tmp_path / "loop.wav", tmp_path / "loop.wav")
    found = [job.source for job in plan_jobs([tmp_path], Path("out"), {".wav"})]
    expected = [name for name in names[:5] if name] + [".d/e.WAV", "linked.wav"]
    assert found == sorted(tmp_path / name for name in expected)


def test_names_without_an_extension_and_unusual_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_jobs(["clip", ".clip", "other.", "x.y.z", "a/../b.wav"], Path("out"), set())
    names = ["clip.npz", ".clip.npz", "other..npz", "x.y.npz", "b.npz"]
    assert [job.target for job in plan] == [Path("out", name) for name in names]
    assert list(plan)[4] == Job(tmp_path / "b.wav", Path("out/b.npz"))
    assert [str(job.target) for job in plan_jobs(["a/clip.mp4"], Path("out"), set(), ending="")] == ["out/clip"]


def test_files_are_named_as_they_were_given(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert find_files(["."], {".wav"}) == [Path("a.wav")]
    assert find_files([tmp_path, "."], {".wav"}) == [tmp_path / "a.wav", Path("a.wav")]


def test_a_plan_of_many_files_takes_little_memory(tmp_path, monkeypatch):
    """A million of them take some 200 bytes each; objects would take ten times as much."""
    number = 10_000
    names = [f"clip-{k:07d}.wav" for k in range(number)]
    (tmp_path / "in").mkdir()

    class Entry:
        def __init__(self, name):
            self.name = name

        def is_dir(self, follow_symlinks):
            return False

        def is_file(self):
            return True

    class Listing(list):
        def __enter__(self):
            return (Entry(name) for name in names)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(planning.os, "scandir", lambda place: Listing())
    tracemalloc.start()
    plan = plan_jobs([tmp_path / "in"], Path("out"), {".wav"})
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(plan) == number
    assert held < 300 * number and peak < 500 * number
    assert passed_over([tmp_path / "in"], plan, {".wav"}).total() == 0
    first = next(iter(plan))
    assert first == Job(tmp_path / "in" / names[0], Path("out", "clip-0000000.npz"))
