"""Several processes do the same as one: batches, gradients, losses, and stopping when asked to."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_training import PLATEAU, assert_same_end, checkpoint, recipe_file, steps_of
from tones import RECIPE, recipe
from torch import nn
from torch.nn.functional import normalize

from training import distributed
from training.objectives import Contrastive
from training.recipe import merge, to_recipe
from training.record import read_lines
from training.steps import train_step
from training.train import main, train

ROOT = Path(distributed.__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch"])

pytestmark = pytest.mark.usefixtures("one_thread")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def in_a_group(rank: int, port: int, function, arguments: tuple) -> None:
    """Call the function in a process that is set up as one of two from torchrun."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= address | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    function(*arguments)


def in_two_processes(function, *arguments) -> None:
    port = free_port()
    group = [PROCESSES.Process(target=in_a_group, args=(rank, port, function, arguments)) for rank in (0, 1)]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
    assert [process.exitcode for process in group] == [0, 0]


# ---------------------------------------------------------------------------------------------------- gradients


class Towers(nn.Module):
    """A network without BatchNorm, with the objective to test: a step as in the training loop."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image_tower, self.audio_tower, self.fc3 = nn.Linear(5, 4), nn.Linear(3, 4), nn.Linear(1, 2)
        self.objective = Contrastive(temperature=0.2, windows_per_clip=2)

    def represent_frames(self, frames):
        return normalize(self.image_tower(frames), dim=1)

    def represent_audio(self, audio):
        return normalize(self.audio_tower(audio), dim=1)

    def similarity(self, frames, audio):
        return frames @ audio.T

    def compare(self, frames, audio):
        return self.fc3((frames - audio).norm(dim=1, keepdim=True))

    def forward(self, batch):
        return self.objective(self, batch["frames"], batch["audio"], batch)


def pairs(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    vectors = {name: torch.randn(count, size, generator=generator) for name, size in (("frames", 5), ("audio", 3))}
    return vectors | {"group": torch.arange(count) % 2}  # of which each process has some


def part(number: int, parts: int) -> dict[str, torch.Tensor]:
    return {name: tensor.chunk(parts)[number] for name, tensor in pairs(24).items()}


def gradients(towers: nn.Module, step: nn.Module, parts: list[dict]) -> dict:
    """Return the gradient of every parameter, and what the log shows, for a step that doesn't clip or move."""
    optimizer = torch.optim.SGD(towers.parameters(), lr=0.0)
    shown = train_step(step, optimizer, torch.amp.GradScaler("cpu", enabled=False), parts)
    return {"shown": shown} | {name: p.grad.clone() for name, p in towers.named_parameters()}


def work_in_a_group(folder: Path) -> None:
    distributed.start("cpu")
    rank = distributed.rank()
    towers = Towers()
    step = distributed.parallel(towers, sync_batch_norm=False)
    rows = torch.full((2, 3), float(rank))
    found = {
        "whole": gradients(towers, step, [part(rank, 2)]),
        "accumulated": gradients(towers, step, [part(2 * rank, 4), part(2 * rank + 1, 4)]),
        "gathered": distributed.gather(rows),
        "own": distributed.own_rows(torch.arange(4.0)),
        "mean": distributed.mean(torch.tensor([float(rank), 3.0])),
        "first": distributed.from_first({"figures": [rank, 0.5]}),
    }
    torch.save(found, folder / f"{rank}.pt")
    distributed.wait_for_all()
    distributed.stop()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the results of two processes."""
    folder = tmp_path_factory.mktemp("group")
    in_two_processes(work_in_a_group, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_contrastive_gradients_of_two_processes_are_those_of_one_with_the_whole_batch(found):
    towers = Towers()
    expected = gradients(towers, towers, [part(0, 1)])
    assert all(gradient.abs().max() > 1e-3 for name, gradient in expected.items() if name != "shown")
    assert "objective.log_scale" in expected
    for rank in (0, 1):
        torch.testing.assert_close(found[rank]["whole"], expected, rtol=0, atol=1e-6)


def test_accumulated_gradients_of_two_processes_are_the_means_of_the_parts(found):
    """Each part of a process takes its negatives also from the same part of the other: 0 with 2 and 1 with 3."""

    def both(first, second):
        return {name: torch.cat([part(first, 4)[name], part(second, 4)[name]]) for name in ("frames", "audio", "group")}

    towers = Towers()
    expected = gradients(towers, towers, [both(0, 2), both(1, 3)])
    torch.testing.assert_close(found[0]["accumulated"], expected, rtol=0, atol=1e-6)


def test_rows_are_gathered_in_the_order_of_ranks(found):
    for rank in (0, 1):
        assert found[rank]["gathered"][:, 0].tolist() == [0, 0, 1, 1]
        assert found[rank]["own"].tolist() == [2 * rank, 2 * rank + 1]
        assert found[rank]["mean"].tolist() == [0.5, 3.0]
        assert found[rank]["first"] == {"figures": [0, 0.5]}


def test_every_function_answers_in_a_single_process():
    rows = torch.arange(4.0)
    assert distributed.gather(rows) is rows
    assert torch.equal(distributed.own_rows(rows), rows)
    assert torch.equal(distributed.mean(rows), rows)
    assert distributed.from_first([1, 2]) == [1, 2]
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    distributed.wait_for_all()
    distributed.stop()


# ----------------------------------------------------------------------------------------------------- torchrun

CONFIG = RECIPE | {"steps": 60, "checkpoint_every": 7, "data": {"workers": 1, "gain": [0.5, 2.0]}}


def arguments(shards: Path, run: Path, tables: dict = CONFIG) -> list[str]:
    run.mkdir(parents=True, exist_ok=True)
    return [
        str(recipe_file(run, tables)),
        "--data",
        str(shards),
        "--output",
        str(run),
        "--threads",
        "1",
        "--device",
        "cpu",
    ]


def torchrun(shards: Path, run: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), "-m", "training.train", *arguments(shards, run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """Return a run of two processes that nothing stopped."""
    run = tmp_path_factory.mktemp("torchrun")
    process = torchrun(shards, run)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert output.count("60 of 60 steps done") == 1  # the first process alone speaks
    return run


def test_two_processes_train_as_one_that_accumulates(shards, whole, tmp_path):
    train(to_recipe(CONFIG | {"accumulate": 2}), [shards], tmp_path)
    ours, alone = read_lines(whole / "log.jsonl"), read_lines(tmp_path / "log.jsonl")
    assert steps_of(whole) == list(range(1, 61))
    for name in ("loss", "right", "gradient_norm"):
        assert [line[name] for line in ours[:20]] == pytest.approx([line[name] for line in alone[:20]], abs=1e-4), name
    after, expected = checkpoint(whole), checkpoint(tmp_path)
    for name, value in after["model"].items():
        if "running" not in name and "batches" not in name:  # of those, each process has its own part's
            torch.testing.assert_close(value, expected["model"][name], rtol=0, atol=1e-3, msg=name)


def worker_of(torchrun_pid: int, rank: int) -> int:
    for pid in Path(f"/proc/{torchrun_pid}/task/{torchrun_pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError(f"torchrun has no process of rank {rank}")


def test_sigterm_to_one_process_ends_all_cleanly_and_they_resume(shards, whole, tmp_path):
    process = torchrun(shards, tmp_path)
    until = time.monotonic() + 240
    while not (tmp_path / "checkpoint.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(worker_of(process.pid, rank=1), signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    stopped = checkpoint(tmp_path)["step"]
    assert stopped < 60
    assert steps_of(tmp_path) == list(range(1, stopped + 1))
    in_two_processes(call_main, arguments(shards, tmp_path))
    assert_same_end(tmp_path, whole)


def call_main(arguments: list[str]) -> None:
    main(arguments, standalone_mode=False)


def test_two_processes_follow_the_same_plateau_as_one_that_accumulates(shards, tmp_path):
    """Only the first process validates; the second receives its figures."""
    tables = merge(RECIPE, PLATEAU)
    in_two_processes(call_main, [*arguments(shards, tmp_path / "two", tables), "--validation", str(shards)])
    train(recipe(**PLATEAU, accumulate=2), [shards], tmp_path / "one", validation=shards)
    figures = [line["threshold"] for line in read_lines(tmp_path / "two/validation.jsonl")]
    assert len(figures) == PLATEAU["steps"]
    for run in ("one", "two"):
        rates = [line["learning_rate"] for line in read_lines(tmp_path / run / "log.jsonl")]
        assert min(rates) < rates[0]


STAGES = [{"steps": 2}, {"steps": 2, "frozen": ["image_head"], "negatives": [{"kind": "same_clip"}]}]


def test_two_processes_go_from_stage_to_stage(shards, tmp_path):
    tables = {key: value for key, value in RECIPE.items() if key != "steps"} | {"stages": STAGES}
    path = tmp_path / "stages.toml"
    own = recipe_file(tmp_path, {key: value for key, value in tables.items() if key != "stages"}).read_text()
    path.write_text(
        own + "\n[[stages]]\nsteps = 2\n\n[[stages]]\nsteps = 2\nfrozen = ['image_head']\n"
        "negatives = [{kind = 'same_clip'}]\n"
    )
    command = [str(path), "--data", str(shards), "--output", str(tmp_path / "two"), "--threads", "1", "--device", "cpu"]
    in_two_processes(call_main, command)
    train(to_recipe(tables | {"accumulate": 2}), [shards], tmp_path / "one")
    ours, alone = read_lines(tmp_path / "two/log.jsonl"), read_lines(tmp_path / "one/log.jsonl")
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in alone], abs=1e-4)
