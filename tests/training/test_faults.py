"""What second processes, damaged checkpoints and full disks do to the commands of training."""

import contextlib
import errno
import importlib
import io
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from disks import mounted
from test_training import recipe_file
from tones import RECIPE

from benchmarks import kills
from training.checkpoint import steps_done
from training.corpora.shards import Shards
from training.record import Log, open_log, read_lines

ROOT = Path(kills.__file__).parents[1]

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments, timeout=120, **environment):
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


def run_here(command):
    """Run a command in this process, which has imported what it needs."""
    return CliRunner().invoke(importlib.import_module(command[1]).main, list(map(str, command[2:])))


def training(folder, shards, output):
    """Return the command that trains on the CPU."""
    options = ["--data", shards, "--output", output, "--threads", "1", "--device", "cpu"]
    return ["-m", "training.train", recipe_file(folder, RECIPE | {"steps": 9}), *options]


@pytest.fixture
def videos(tmp_path):
    """Make a folder of videos for two shards."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(21):
        os.link(kills.EXAMPLE, folder / f"video{number:02d}.mp4")
    return folder


def preparing(videos, output):
    return ["-m", "training.prepare", videos, "--output", output, "--workers", "2", "--size", "64"]


# ------------------------------------------------------------------------------------------------ second processes

HOLD = """
import sys
from openavc.locks import only_user
with only_user(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_changes_nothing(shards, videos, tmp_path):
    output = tmp_path / "output"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    rendering = ["-m", "training.simulate", "--output", output, "--episodes", "1"]
    for command in (preparing(videos, output), training(tmp_path, shards, output), rendering):
        done = run_here(command)
        assert done.exit_code != 0
        if "ViZDoom can't be imported" not in done.stderr:
            assert done.stderr.startswith(f"Error: {output} is in use by process {holder.pid} on")
            assert len(done.stderr.splitlines()) == 1
        assert [path.name for path in output.iterdir()] == [".lock"]
    holder.communicate("")
    assert not output.exists()


def test_an_output_without_a_name_is_refused(videos, shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rendering = ["-m", "training.simulate", "--output", "", "--episodes", "1"]
    commands = [preparing(videos, ""), training(tmp_path, shards, ""), rendering]
    before = sorted(tmp_path.iterdir())
    for command in commands:
        done = run_here(command)
        assert done.exit_code == 2 and "--output': the name is empty" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_log_that_cannot_be_opened_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    before, files = threading.excepthook, []
    monkeypatch.setattr("training.record.open_log", lambda *given: files.append(open_log(*given)) or files[0])
    (tmp_path / "tensorboard").write_text("not a folder")
    with pytest.raises(OSError), Log(tmp_path, 0):
        pass
    assert threading.excepthook is before
    assert files[0].closed


def test_curves_are_closed_though_the_log_cannot_be(tmp_path):
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="log"), contextlib.ExitStack() as stack:
        log = stack.enter_context(Log(tmp_path, 0))
        close, log.file.close, board = log.file.close, fail, log.board
    close()
    assert board.file_writer is None  # as SummaryWriter.close leaves it


# -------------------------------------------------------------------------------------------- damaged checkpoints


def damaged(content: bytes) -> dict[str, bytes]:
    """Return what may stand in the place of a checkpoint."""

    def saved(state):
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    middle = len(content) // 2
    return {
        "empty": b"",
        "junk": b"junk" * 1000,
        "cut": content[:middle],
        "changed": content[:middle] + bytes(64) + content[middle + 64 :],
        "a pickle that runs code": pickle.dumps(print),
        "a list": saved([1]),
        "without a step": saved({"model": {}}),
        "a step that is a word": saved({"step": "one"}),
        "a step below 0": saved({"step": -5}),
        "of no network": saved({"step": 1, "model": {}, "objective": {}, "optimizer": {}}),
        "of another network": saved({"step": 1, "model": {"a": torch.ones(2)}}),
        "of no parts": saved({"step": 1, "model": 3}),
    }


def test_a_damaged_checkpoint_is_named_and_stays(shards, tmp_path):
    command = [*training(tmp_path, shards, tmp_path / "run"), "--stop-after", "1"]
    assert run_here(command).exit_code == 0
    path = tmp_path / "run/checkpoint.pt"
    content = path.read_bytes()
    for kind, changed in damaged(content).items():
        path.write_bytes(changed)
        done = run_here(command)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        said = f"{path} isn't of this recipe's" if kind.startswith("of") else "is damaged, or no checkpoint"
        assert done.exit_code == 1 and str(path) in line and said in line, kind
        assert path.read_bytes() == changed
    path.write_bytes(content)
    assert run_here([*command[:-1], "2"]).exit_code == 0


@pytest.mark.parametrize("error", [PermissionError("no right"), MemoryError("none left")])
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(shards, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    (tmp_path / "checkpoint.pt").write_bytes(b"whole")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error), match=str(error)):
        steps_done(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_checkpoint_that_is_a_pipe_is_refused(shards, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    os.mkfifo(run / "checkpoint.pt")
    done = run_here(training(tmp_path, shards, run))
    assert done.exit_code == 1 and "checkpoint.pt" in done.stderr.splitlines()[-1]


# ------------------------------------------------------------------------------------------------------ full disks


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of 2 MB; return its path."""
    with mounted(tmp_path / "disk", "size=2m") as folder:
        yield folder


def fill(disk, left):
    """Fill a disk so that so many bytes are left."""
    filling = disk / "filling"
    filling.unlink(missing_ok=True)
    free = os.statvfs(disk)
    filling.write_bytes(bytes(free.f_bavail * free.f_frsize - left))


@pytest.mark.parametrize("left", [0, 8192, 65_536])
def test_a_full_disk_ends_a_training_in_a_line_and_it_goes_on_when_there_is_room(shards, tmp_path, disk, left):
    command = training(tmp_path, shards, disk / "run")
    fill(disk, left)
    done = run(*command)
    assert done.returncode == 1
    last, *more = [line for line in done.stderr.splitlines() if not line.startswith("step ")]
    assert last.startswith("Error: ") and f"No space left on device: '{disk}" in last and not more
    (disk / "filling").unlink()
    assert run_here(command).exit_code == 0
    assert [line["step"] for line in read_lines(disk / "run/log.jsonl")] == list(range(1, 10))


def test_a_disk_that_is_full_in_the_middle_of_a_training_costs_no_line_and_no_checkpoint(shards, tmp_path, disk):
    command = training(tmp_path, shards, disk / "run")
    assert run_here([*command, "--stop-after", 4]).exit_code == 0
    before = {path.name: path.read_bytes() for path in (disk / "run").glob("*.*")}
    fill(disk, 12_288)
    assert run_here(command).exit_code == 1
    for name in ("checkpoint.pt", "config.json", "weights.safetensors"):
        assert (disk / "run" / name).read_bytes() == before[name]
    assert (disk / "run/log.jsonl").read_bytes().startswith(before["log.jsonl"])
    (disk / "filling").unlink()
    assert run_here(command).exit_code == 0
    assert run_here(training(tmp_path, shards, tmp_path / "whole")).exit_code == 0
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (disk / "run", tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_a_full_disk_keeps_the_shards_that_are_written(videos, tmp_path, disk):
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    assert run_here(preparing(videos, disk / "output")).exit_code == 0
    for path in (disk / "output").glob("000000.*"):
        path.unlink()
    written = (disk / "output/000001.tar").read_bytes()
    subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
    done = run(*preparing(videos, disk / "output"))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"Error: [Errno 28] No space left on device: '{disk}/output/000000.tar'"]
    assert [path.name for path in (disk / "output").glob("*.tar")] == ["000001.tar"]
    assert (disk / "output/000001.tar").read_bytes() == written
    with pytest.warns(UserWarning, match=r"lacks 1 of 2 shards \(000000\.tar\)"):
        assert len({clip.source for clip in Shards(disk / "output").clips}) == 1
    assert sorted(path.suffix for path in (disk / "output").iterdir()) == [".failed", ".json", ".jsonl", ".tar"]
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    assert run_here(preparing(videos, disk / "output")).exit_code == 0
    assert len({clip.source for clip in Shards(disk / "output").clips}) == 21


def test_a_file_that_may_not_grow_is_named(shards, tmp_path):
    """As on a full disk, but nobody needs to be root for it."""
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    command = training(tmp_path, shards, tmp_path / "run")
    done = run("-c", f"{limit}; from training.train import main; main()", *command[2:])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"Error: [Errno 27] File too large: '{tmp_path}/run/checkpoint.pt'"
    assert run_here(command).exit_code == 0
