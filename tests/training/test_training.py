"""The loop in one process: recipes, stages, resuming as if never stopped, what a run stores and what it refuses."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tones import FRAME_RATE, RECIPE, recipe, write_tones

import openavc
import training
from openavc.weights import sha256_of
from training.checkpoint import save_weights
from training.corpora.shards import Shards
from training.evaluate.datasets.held_out import load_pairs
from training.evaluate.metrics.correspondence import avc, represent
from training.export import export
from training.recipe import Optimizer, Recipe, merge, read_tables, to_recipe
from training.record import Progress, read_lines
from training.state import build
from training.steps import count_plateaus, learning_rate, train_step
from training.train import main, train, warn_if_cold, warn_if_slow

CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.toml"))
CPU = torch.device("cpu")
PROCESSES = multiprocessing.get_context("forkserver")  # forked off a process that has torch, but no threads yet
PROCESSES.set_forkserver_preload(["torch"])

pytestmark = pytest.mark.usefixtures("one_thread")


def steps_of(run: Path) -> list[int]:
    return [line["step"] for line in read_lines(run / "log.jsonl")]


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def assert_same_end(run: Path, other: Path) -> None:
    """Assert that two runs are equal bit by bit: steps, weights, statistics, optimizer; and logs, except for times."""
    torch.testing.assert_close(checkpoint(run), checkpoint(other), rtol=0, atol=0)
    assert (run / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    logs = [[(line["step"], line["loss"]) for line in read_lines(folder / "log.jsonl")] for folder in (run, other)]
    assert logs[0] == logs[1]


# ----------------------------------------------------------------------------------------------------- recipes


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Write clips of two kinds, whose pictures are noise in blue, so that something moves."""
    folder = tmp_path_factory.mktemp("labelled")
    blue = np.random.default_rng(0).integers(0, 256, (20, 24, 32))
    for clip in range(4):
        kind, masks = ("cat", "dog")[clip % 2], {"no_large_projectile": [True] * 20}
        write_tones(folder / f"{clip}.tar", [clip], labels=[kind], group=clip // 2, blue=blue, masks=masks)
    return folder


def tiny(path: Path) -> Recipe:
    """Return the recipe at a reduced size, for one process."""
    tables = read_tables(path)
    small = {"model": {"widths": [4, 4, 8, 8], "image_size": 32}, "data": {"workers": 0}}
    if "motion" in tables["model"]:
        small["model"] |= {"frames": 7, "frame_rate": FRAME_RATE}
    if tables["model"]["architecture"].startswith("multisensory"):
        small["model"] |= {"frames": 8, "frame_rate": FRAME_RATE}
        small["model"] |= {} if "frontend" in tables["model"] else {"sample_rate": 8000}
    if tables["model"]["architecture"].startswith("avts"):
        small["model"] |= {"frames": 3, "frame_rate": FRAME_RATE}
        small["model"] |= {"time_parts": 2} if "time_parts" in tables["model"] else {}
    if tables["model"]["architecture"] == "avts":
        small["model"] |= {"sound_widths": [4, 4, 4, 8, 8], "joint_size": 6}
    if tables["objective"]["name"] == "alignment":
        small["objective"] = {"channels": [4, 4]}
    if tables["model"]["architecture"] == "separation":
        small["model"] |= {} if "frontend" in tables["model"] else {"sample_rate": 8000}
        sound = {"window": 512, "hop": 256, "fft_size": 512}
        small["model"] |= {"sync_widths": [4, 4, 8, 8], "frames": 8, "frame_rate": FRAME_RATE, **sound}
    if tables["objective"]["name"] == "classification":
        small["objective"] = {"features": 8}
    if "classes" in tables["objective"]:
        small.setdefault("objective", {})["classes"] = 2
    if tables["objective"]["name"] == "recognition":
        small["model"]["classes"] = ["cat", "dog"]
    small["batch_size"] = 4 * tables["data"].get("windows_per_clip", 1) * tables.get("accumulate", 1)
    return to_recipe(merge(tables, small))


def has_no_effect(part: torch.nn.Module, name: str) -> bool:
    """Whether a parameter is a bias before BatchNorm, whose gradient is 0 except for rounding."""
    module = part.get_submodule(name.rpartition(".")[0])
    if name.endswith(("second.bias", "fusion.out.bias")):  # of Multisensory's blocks
        return True
    return "_tower." in name and name.endswith("bias") and isinstance(module, torch.nn.Conv2d)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_makes_a_step_that_moves_every_parameter_but_the_frozen(path, labelled, tmp_path):
    small = tiny(path)
    model, objective, _ = build(small, CPU)
    given = None
    if small.needs_weights:
        given = tmp_path / "given.safetensors"
        save_weights(given, model, small.model, torch.float32)
    held = labelled if small.optimizer.schedule == "plateau" else None
    assert train(small, [labelled], tmp_path, validation=held, start_from=given, stop_after=1) == 1
    (line,) = read_lines(tmp_path / "log.jsonl")
    assert math.isfinite(line["loss"])
    frozen = tuple(f"{name}." for name in small.frozen)
    for kind, part in (("model", model), ("objective", objective)):
        after = checkpoint(tmp_path)[kind]
        for name, value in part.named_parameters():
            stays = name.startswith(frozen) or (kind == "model" and name in model.constants)
            if stays or not has_no_effect(part, name):
                assert torch.equal(value, after[name]) == stays, name
    loaded = openavc.load_model(tmp_path / "weights.safetensors").state_dict()
    for name, value in checkpoint(tmp_path)["model"].items():
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-4)  # kept in 16 bits


HALF = merge(RECIPE, {"objective": {"name": "contrastive"}})


def half(**changes) -> Recipe:
    return to_recipe(merge(HALF, changes))


def test_bf16_follows_float32(shards, tmp_path):
    losses = []
    for precision in ("float32", "bf16"):
        train(half(precision=precision), [shards], tmp_path / precision, stop_after=2)
        losses.append([line["loss"] for line in read_lines(tmp_path / precision / "log.jsonl")])
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_fp16_scales_the_loss_and_leaves_out_steps_that_overflow(shards, tmp_path):
    model, _, _ = build(half(), CPU)
    before, left_out = dict(model.named_parameters()), 0
    full = tmp_path / "float32"
    train(half(), [shards], full, stop_after=1)
    for step in range(1, 9):
        train(half(precision="fp16", steps=8), [shards], tmp_path / "fp16", stop_after=step)
        line, state = read_lines(tmp_path / "fp16/log.jsonl")[-1], checkpoint(tmp_path / "fp16")
        if step == 1:  # what is logged isn't scaled
            assert line["loss"] == pytest.approx(read_lines(full / "log.jsonl")[0]["loss"], rel=0.01)
        overflowed = line["gradient_norm"] is None
        assert all(torch.equal(state["model"][name], value) for name, value in before.items()) == overflowed
        left_out += overflowed
        assert state["scaler"]["scale"] == 2.0 ** (16 - left_out)
        assert overflowed or line["gradient_norm"] < 500
        before = {name: state["model"][name] for name in before}
    assert 0 < left_out < 8


class Still(torch.nn.Module):
    """A step without BatchNorm, whose loss is a mean over the batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, batch):
        return (self.layer(batch["x"]) ** 2).mean(), torch.zeros(())


def test_accumulated_parts_make_the_step_of_the_whole_batch():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for parts in (1, 2, 4):
        step, scaler = Still(), torch.amp.GradScaler("cpu", enabled=False)
        shown = train_step(step, torch.optim.SGD(step.parameters(), 0.1), scaler, [{"x": p} for p in x.chunk(parts)])
        found.append([*step.layer.weight.flatten().tolist(), shown["loss"], shown["gradient_norm"]])
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-5)
    torch.testing.assert_close(found[0][3], Still()({"x": x})[0].item())


def test_gradients_beyond_the_largest_are_scaled_down_to_it(shards, tmp_path):
    step, scaler = Still(), torch.amp.GradScaler("cpu", enabled=False)
    before = step.layer.weight.clone()
    shown = train_step(step, torch.optim.SGD(step.parameters(), 1.0), scaler, [{"x": torch.ones(2, 3)}], 0.01)
    assert shown["gradient_norm"] > 0.01  # as it was
    moved = torch.cat([(step.layer.weight - before).flatten(), step.layer.bias - Still().layer.bias])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)
    moves = []
    for limit in ({}, {"largest_gradient": 1e-3}):
        run = tmp_path / str(len(limit))
        slow = recipe(optimizer={"name": "sgd", "momentum": 0.0, "learning_rate": 1.0} | limit)
        train(slow, [shards], run, stop_after=1)
        start = dict(build(slow, CPU)[0].named_parameters())
        moves.append(sum((checkpoint(run)["model"][k] - v).square().sum().item() for k, v in start.items()) ** 0.5)
    assert moves[0] > 2e-3
    assert moves[1] == pytest.approx(1e-3, rel=0.05)  # beside the decay of weights


def settings(**options) -> Optimizer:
    return Optimizer(**{"name": "adam", "learning_rate": 1.0, "weight_decay": 0.0, "schedule": "constant"} | options)


def test_the_learning_rate_warms_up_and_follows_half_a_cosine():
    cosine = settings(schedule="cosine", warmup_steps=10)
    assert learning_rate(0, 1000, cosine) == pytest.approx(0.1)
    assert learning_rate(500, 1000, cosine) == pytest.approx(0.5)
    assert learning_rate(999, 1000, cosine) < 1e-5
    assert learning_rate(700, 1000, settings(warmup_steps=10)) == 1.0


def test_the_learning_rate_falls_in_steps(shards, tmp_path):
    """As in Objects that Sound: it is multiplied by 0.94 every 16 epochs, here of 2 steps each."""
    train(recipe(optimizer={"schedule": "step", "decay": 0.94, "decay_steps": 2}), [shards], tmp_path)
    rates = [line["learning_rate"] for line in read_lines(tmp_path / "log.jsonl")]
    assert rates == pytest.approx([1e-3, 1e-3, 9.4e-4, 9.4e-4, 8.836e-4], rel=1e-9)


@pytest.mark.parametrize(
    ("figures", "plateaus"),
    [
        ([], 0),
        ([50, 60, 70], 0),
        ([50, 50], 0),
        ([50, 50, 50], 1),  # two in a row that are no better
        ([50, 49, 51, 50], 0),
        ([50, 49, 51, 50, 51], 1),
        ([50, 49, 49, 49, 49], 2),
        ([50, 49, 49, 49.5, 50.5, 50, 50], 2),
    ],
)
def test_a_plateau_is_as_many_figures_that_are_no_better_than_the_best(figures, plateaus):
    assert count_plateaus(figures, patience=2) == plateaus
    plateau = settings(schedule="plateau", decay=0.1, patience=2)
    assert learning_rate(7, 100, plateau, figures) == pytest.approx(0.1**plateaus)


def test_sgd_moves_with_momentum(shards, tmp_path):
    """The same gradient, twice, moves by 1 and by 1.9 times the learning rate, with a momentum of 0.9."""
    sgd = {"optimizer": {"name": "sgd", "momentum": 0.9, "learning_rate": 0.5, "weight_decay": 0.0}}
    train(recipe(**sgd), [shards], tmp_path, stop_after=1)
    assert "momentum_buffer" in str(checkpoint(tmp_path)["optimizer"]["state"][0])
    model, _, optimizer = build(recipe(**sgd), CPU)
    weight, before = model.fc3.weight, model.fc3.weight.detach().clone()
    for moved in (0.5, 0.5 + 0.95):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        torch.testing.assert_close(before - weight.detach(), torch.full_like(weight, moved))


def test_what_is_frozen_stays_with_its_statistics(shards, tmp_path):
    still = recipe(frozen=["image_tower"], steps=2, validate_every=1)
    model, _, _ = build(still, CPU)
    before = model.state_dict()
    train(still, [shards], tmp_path, validation=shards)
    for name, value in checkpoint(tmp_path)["model"].items():
        assert torch.equal(value, before[name]) == name.startswith("image_tower."), name


# ------------------------------------------------------------------------------------------------------- plateaus

PLATEAU = {
    "steps": 12,
    "validate_every": 1,
    "optimizer": {"schedule": "plateau", "decay": 0.5, "patience": 2, "learning_rate": 0.01},
}


def test_the_learning_rate_falls_where_validations_bring_nothing_better(shards, tmp_path):
    train(recipe(**PLATEAU), [shards], tmp_path, validation=shards)
    figures = [line["threshold"] for line in read_lines(tmp_path / "validation.jsonl")]
    rates = [line["learning_rate"] for line in read_lines(tmp_path / "log.jsonl")]
    assert rates == [0.01 * 0.5 ** count_plateaus(figures[:step], 2) for step in range(12)]
    assert rates[-1] < 0.01


def test_a_run_on_a_plateau_resumes_anywhere(shards, tmp_path):
    train(recipe(**PLATEAU), [shards], tmp_path / "whole", validation=shards)
    for steps in (1, 2, 5, 6, None):
        train(recipe(**PLATEAU), [shards], tmp_path / "parts", validation=shards, stop_after=steps)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    assert read_lines(tmp_path / "parts/validation.jsonl") == read_lines(tmp_path / "whole/validation.jsonl")


def test_figures_of_steps_that_are_done_again_are_not_looked_at_before(shards, tmp_path):
    """The situation is that after a kill between a validation and the next checkpoint."""
    train(recipe(**PLATEAU), [shards], tmp_path / "whole", validation=shards)
    train(recipe(**PLATEAU), [shards], tmp_path / "killed", validation=shards, stop_after=4)
    later = (tmp_path / "whole/validation.jsonl").read_text()
    (tmp_path / "killed/validation.jsonl").write_text(later)
    train(recipe(**PLATEAU), [shards], tmp_path / "killed", validation=shards)
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def test_a_plateau_is_measured_on_the_same_shards_as_often(shards, labelled, tmp_path):
    with pytest.raises(ValueError, match="give held-out shards with --validation"):
        train(recipe(**PLATEAU), [shards], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(recipe(**PLATEAU), [shards], tmp_path, validation=shards, stop_after=1)
    with pytest.raises(ValueError, match="other values of validation"):
        train(recipe(**PLATEAU), [shards], tmp_path, validation=labelled)
    with pytest.raises(ValueError, match="other values of validate_every"):
        train(recipe(**PLATEAU | {"validate_every": 2}), [shards], tmp_path, validation=shards)


# --------------------------------------------------------------------------------------------------------- stages

CURRICULUM = {
    "steps": 7,
    "objective": {"name": "contrastive", "temperature": 0.2},
    "stages": [
        {"steps": 3},
        {"steps": 2, "seed": 9, "optimizer": {"learning_rate": 1e-2, "schedule": "cosine"}, "frozen": ["audio_tower"]},
        {
            "steps": 2,
            "objective": {"name": "correspondence"},
            "negatives": [{"kind": "other_clip", "share": 0.5}, {"kind": "same_clip", "share": 0.5}],
            "data": {"windows_per_clip": 2},
        },
    ],
}


@pytest.fixture(scope="module")
def curriculum(shards, tmp_path_factory):
    """Return a run of CURRICULUM that nothing stopped."""
    run, threads = tmp_path_factory.mktemp("curriculum"), torch.get_num_threads()
    torch.set_num_threads(1)
    train(recipe(**CURRICULUM), [shards], run)
    torch.set_num_threads(threads)
    return run


@pytest.mark.parametrize("stops", [(3,), (5,), (2, 3, 4, 5, 6), (1, 7)])
def test_a_curriculum_resumes_anywhere_also_between_two_stages(shards, curriculum, tmp_path, stops):
    for steps in (*stops, None):
        train(recipe(**CURRICULUM), [shards], tmp_path, stop_after=steps)
    assert_same_end(tmp_path, curriculum)


def test_a_stage_has_its_own_schedule_and_optimizer(curriculum):
    rates = [line["learning_rate"] for line in read_lines(curriculum / "log.jsonl")]
    assert rates == pytest.approx([1e-3] * 3 + [1e-2, 0.5e-2] + [1e-3] * 2)
    steps = {int(state["step"]) for state in checkpoint(curriculum)["optimizer"]["state"].values()}
    assert steps == {2}  # Adam's, which began anew with the last stage


def test_from_stage_to_stage_weights_carry_on_and_the_objective_unless_it_is_new(shards, tmp_path):
    train(recipe(**CURRICULUM), [shards], tmp_path, stop_after=3)
    before = checkpoint(tmp_path)
    assert before["objective"]["log_scale"] != -math.log(0.2)
    train(recipe(**CURRICULUM), [shards], tmp_path, stop_after=4)
    after = checkpoint(tmp_path)
    moved = after["objective"]["log_scale"] - before["objective"]["log_scale"]
    assert 0 < abs(moved) < 0.011  # a step of Adam's with a learning rate of 0.01
    for name, value in before["model"].items():
        assert torch.equal(value, after["model"][name]) == name.startswith("audio_tower."), name
    train(recipe(**CURRICULUM), [shards], tmp_path, stop_after=6)
    assert not checkpoint(tmp_path)["objective"]  # that of correspondence has no parameters


def test_a_new_objective_of_the_same_name_begins_anew(shards, tmp_path):
    stages = [{"steps": 2}, {"steps": 1, "objective": {"temperature": 0.5}}]
    train(half(steps=3, stages=stages), [shards], tmp_path)
    assert checkpoint(tmp_path)["objective"]["log_scale"] == pytest.approx(-math.log(0.5), abs=2e-3)


def test_one_stage_is_the_recipe_without_stages(shards, tmp_path):
    train(recipe(), [shards], tmp_path / "plain")
    train(recipe(stages=[{"steps": 5}]), [shards], tmp_path / "staged")
    assert_same_end(tmp_path / "staged", tmp_path / "plain")


def test_a_run_refuses_to_go_on_with_other_stages(shards, tmp_path):
    train(recipe(**CURRICULUM), [shards], tmp_path, stop_after=1)
    other = [*CURRICULUM["stages"][:2], CURRICULUM["stages"][2] | {"seed": 3}]
    with pytest.raises(ValueError, match="other values of stages:"):
        train(recipe(**CURRICULUM | {"stages": other}), [shards], tmp_path)
    workers = [{"steps": 3, "data": {"workers": 1}}, *CURRICULUM["stages"][1:]]
    train(recipe(**CURRICULUM | {"stages": workers}), [shards], tmp_path, stop_after=2)


def test_what_a_later_stage_lacks_is_told_before_anything_is_written(shards, tmp_path):
    for change, said in (
        ({"data": {"grouped": True}}, "needs clips in groups"),
        ({"negatives": [{"kind": "same_clip", "gap": 9.0}]}, "hold two windows at least 9 s apart"),
        ({"objective": {"name": "classification", "classes": 2, "features": 8}}, "the shards have 0"),
        ({"data": {"windows_per_clip": 8}}, "at least two clips a part"),
        ({"frozen": ["image_towr"]}, "such as image_tower"),
    ):
        with pytest.raises(ValueError, match=said):
            stages = [{"steps": 3}, {"steps": 2} | change]
            train(recipe(stages=stages), [shards], tmp_path / "run")
        assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------------------- resuming

LONG = recipe(steps=60, checkpoint_every=7, data={"workers": 1})


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """Return a run of LONG that nothing stopped."""
    run, threads = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    torch.set_num_threads(1)
    train(LONG, [shards], run)
    torch.set_num_threads(threads)
    return run


def in_a_session_of_its_own(long: Recipe, data: Path, run: Path) -> None:
    os.setsid()
    torch.set_num_threads(1)
    train(long, [data], run)


def begin(data: Path, run: Path, steps: int):
    """Start a process that trains LONG; return it once it has a checkpoint of at least so many steps."""
    process = PROCESSES.Process(target=in_a_session_of_its_own, args=(LONG, data, run))
    process.start()
    until = time.monotonic() + 120
    while not (run / "checkpoint.pt").exists() or checkpoint(run)["step"] < steps:
        assert process.is_alive(), "it ended before it could be stopped"
        assert time.monotonic() < until, "it made no checkpoint"
        time.sleep(0.005)
    return process


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(shards, whole, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seed = time.time_ns()  # a random moment: any must do
    print(f"the moment is that of seed {seed}")
    rng = np.random.default_rng(seed)
    process = begin(shards, tmp_path, steps=7 * rng.integers(1, 4))
    time.sleep(rng.uniform(0, 0.1))
    os.killpg(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoint(tmp_path)["step"] < LONG.steps
    time.sleep(1.01 - time.time() % 1)  # TensorBoard's files are read in the order of their names: seconds
    assert train(LONG, [shards], tmp_path) == LONG.steps
    assert_same_end(tmp_path, whole)
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert set(board.Tags()["scalars"]) == read_lines(whole / "log.jsonl")[0].keys() - {"step"}
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 61))
    losses = [line["loss"] for line in read_lines(whole / "log.jsonl")]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses, rel=1e-6)


def test_sigterm_ends_a_run_with_a_checkpoint_of_the_step_last_logged(shards, whole, tmp_path):
    process = begin(shards, tmp_path, steps=7)
    os.killpg(process.pid, signal.SIGTERM)  # as clusters do, to the loader's workers, too
    process.join(60)
    assert process.exitcode == 0
    stopped = checkpoint(tmp_path)["step"]
    assert steps_of(tmp_path) == list(range(1, stopped + 1))
    assert stopped < LONG.steps
    assert train(LONG, [shards], tmp_path) == LONG.steps
    assert_same_end(tmp_path, whole)


def test_a_run_in_parts_equals_an_uninterrupted_one(shards, tmp_path):
    paired = half(precision="bf16", data={"windows_per_clip": 2})
    train(paired, [shards], tmp_path / "whole")
    for steps in (1, 4, None, None):
        train(paired, [shards], tmp_path / "parts", stop_after=steps)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    assert steps_of(tmp_path / "parts") == [1, 2, 3, 4, 5]


# ------------------------------------------------------------------------------------------------ what is kept


def test_validation_measures_on_time_and_keeps_the_best(shards, tmp_path):
    often = recipe(validate_every=2, optimizer={"learning_rate": 0.01})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(often, [shards], whole, validation=shards)
    found = read_lines(whole / "validation.jsonl")
    assert [line["step"] for line in found] == [2, 4, 5]
    model, _, _ = build(often, CPU)
    stored = {}
    for step in (2, 4, 5):  # without a validation: the one that was due is made up for below
        train(often, [shards], parts, stop_after=step, validation=None if step == 4 else shards)
        stored[step] = (parts / "weights.safetensors").read_bytes()
        model.load_state_dict(checkpoint(parts)["model"])
        pairs = represent(model.eval(), load_pairs(model, shards, per_clip=4, seed=0))
        assert {"step": step, **avc(model, pairs, seed=0)} in found
    best = max(found, key=lambda line: line["threshold"])["step"]  # the first of equals
    assert (whole / "best.safetensors").read_bytes() == stored[best]
    assert read_lines(parts / "validation.jsonl") == found
    assert (parts / "best.safetensors").exists()


@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_networks_that_see_motion_are_trained_validated_and_resumed_as_others(motion, shards, tmp_path):
    moving = recipe(model={"motion": motion, "frames": 7, "frame_rate": FRAME_RATE}, data={"workers": 1})
    train(moving, [shards], tmp_path / "whole", validation=shards)
    assert [line["step"] for line in read_lines(tmp_path / "whole/validation.jsonl")] == [5]
    for steps in (2, None):
        train(moving, [shards], tmp_path / "parts", stop_after=steps, validation=shards)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    model = openavc.load_model(tmp_path / "whole/best.safetensors")
    figures = avc(model, represent(model, load_pairs(model, shards, per_clip=4, seed=0)), seed=0)
    assert set(figures) == read_lines(tmp_path / "whole/validation.jsonl")[0].keys() - {"step"}
    assert all(math.isfinite(value) for value in figures.values())


def test_a_run_begins_with_the_weights_it_is_given(shards, tmp_path):
    train(recipe(seed=7), [shards], tmp_path / "first", stop_after=1)
    given = tmp_path / "first/weights.safetensors"
    still = recipe(optimizer={"learning_rate": 0.0})
    train(still, [shards], tmp_path / "second", start_from=given, stop_after=1)
    before, after = load_file(given), checkpoint(tmp_path / "second")["model"]
    parameters = [name for name, _ in build(still, CPU)[0].named_parameters()]
    assert all(torch.equal(before[name].float(), after[name]) for name in parameters)
    with pytest.raises(ValueError, match="other values of start_from"):
        train(still, [shards], tmp_path / "second")
    other = recipe(optimizer={"learning_rate": 0.0}, model={"joint_size": 4})
    with pytest.raises(ValueError, match=r"weights\.safetensors doesn't fit the configuration's \[model\]"):
        train(other, [shards], tmp_path / "third", start_from=given)
    assert not (tmp_path / "third").exists()


def test_a_classifier_begins_with_the_weights_of_the_pretext_but_for_its_fresh_part(labelled, tmp_path, capsys):
    pretext, actions = (tiny(CONFIGS[0].with_name(f"multisensory_small{name}.toml")) for name in ("", "_actions"))
    model, _, _ = build(pretext, CPU)
    given = tmp_path / "given.safetensors"
    save_weights(given, model, pretext.model, torch.float32)
    still = to_recipe(merge(actions.to_json(), {"seed": 5, "optimizer": {"learning_rate": 0.0}}))
    train(still, [labelled], tmp_path / "run", start_from=given, stop_after=1)
    assert f"begins with {given}, except logit, which begins anew" in capsys.readouterr().err
    after, fresh = checkpoint(tmp_path / "run")["model"], dict(build(still, CPU)[0].named_parameters())
    for name, before in model.named_parameters():
        expected = fresh[name] if name.startswith("logit.") else before
        assert torch.equal(after[name], expected), name
    assert openavc.load_model(tmp_path / "run/weights.safetensors").classes == ("cat", "dog")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["fresh"], config["start_from"]) == (["logit"], sha256_of(given))
    for change, said in (
        ({"fresh": []}, r"(?s)given\.safetensors doesn't fit .*\[model\].*logit.*to begin anew .* in fresh"),
        ({"fresh": ["head"]}, "fresh must name parts of the network, such as frames_first, .* got 'head'"),
    ):
        with pytest.raises(ValueError, match=said):
            train(to_recipe(merge(still.to_json(), change)), [labelled], tmp_path / "other", start_from=given)


def test_a_classifier_needs_clips_of_its_classes_and_cannot_be_validated_by_correspondence(labelled, shards, tmp_path):
    actions = tiny(CONFIGS[0].with_name("multisensory_small_actions.toml"))
    other = to_recipe(merge(actions.to_json(), {"model": {"classes": ["cat", "owl"]}}))
    with pytest.raises(ValueError, match=r"a label among the network's classes \(cat, owl\); the shards have dog"):
        train(other, [labelled], tmp_path)
    with pytest.raises(ValueError, match="the shards have clips without"):
        train(actions, [shards], tmp_path)
    with pytest.raises(ValueError, match="doesn't compare sounds with pictures"):
        train(actions, [labelled], tmp_path / "run", validation=labelled)


def test_a_run_of_before_some_settings_were_there_goes_on(shards, tmp_path):
    train(recipe(), [shards], tmp_path, stop_after=1)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["fresh"], config["data"]["shorter"]
    path.write_text(json.dumps(config))
    assert train(recipe(), [shards], tmp_path, stop_after=2) == 2
    with pytest.raises(ValueError, match="other values of fresh:"):
        train(recipe(fresh=["image_tower"]), [shards], tmp_path)


def test_a_part_of_a_network_begins_with_the_weights_of_one_of_its_kind(labelled, tmp_path):
    whole = tiny(CONFIGS[0].with_name("separation_small_frame.toml"))
    part = tiny(CONFIGS[0].with_name("multisensory_small.toml"))
    given = tmp_path / "given.safetensors"
    save_weights(given, build(part, CPU)[0], part.model, torch.float32)
    still = to_recipe(merge(json.loads(json.dumps(whole.to_json())), {"optimizer": {"learning_rate": 0.0}}))
    train(still, [labelled], tmp_path / "run", start_from=given, stop_after=1)
    before, after = load_file(given), checkpoint(tmp_path / "run")["model"]
    learned = [name for name, _ in build(part, CPU)[0].named_parameters()]
    assert all(torch.equal(before[name], after[f"sync.{name}"]) for name in learned)
    deaf = tiny(CONFIGS[0].with_name("separation_small_sound.toml"))
    with pytest.raises(ValueError, match="doesn't fit the configuration's"):
        train(deaf, [labelled], tmp_path / "deaf", start_from=given, stop_after=1)


def test_a_run_begins_with_a_model_that_was_exported_by_its_name(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAVC_HOME", str(tmp_path / "home"))
    train(recipe(seed=7), [shards], tmp_path / "first", stop_after=1)
    export(tmp_path / "first", "my-grid", trained_on="", recipe="", metrics=[])
    config = recipe_file(tmp_path, RECIPE | {"optimizer": RECIPE["optimizer"] | {"learning_rate": 0.0}})
    options = ["--data", shards, "--output", tmp_path / "second", "--stop-after", 1, "--threads", 1, "--start-from"]
    result = CliRunner().invoke(main, [str(config), *map(str, options), "my-grid"])
    assert result.exit_code == 0, result.output
    before = load_file(tmp_path / "home/models/my-grid.safetensors")
    after = checkpoint(tmp_path / "second")["model"]
    assert torch.equal(before["audio_head.0.weight"].float(), after["audio_head.0.weight"])
    kept = json.loads((tmp_path / "second/config.json").read_text())
    assert kept["start_from"] == sha256_of(tmp_path / "home/models/my-grid.safetensors")
    assert kept["began_with"] == "my-grid"
    [lengths] = kept["clip_seconds"]
    assert lengths["clips"] == 6 and 0 < lengths["shortest"] <= lengths["mean"] <= lengths["longest"]
    result = CliRunner().invoke(main, [str(config), *map(str, options), "my-gird"])
    assert result.exit_code == 2 and "did you mean 'my-grid'" in result.stderr


def recipe_file(folder: Path, tables: dict) -> Path:
    """Write tables as TOML, which writes numbers, strings and lists like JSON."""
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in plain.items())
    for table in tables.keys() - plain.keys():
        text += f"\n[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in tables[table].items())
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_the_command_takes_several_folders_of_shards(shards, tmp_path):
    write_tones(tmp_path / "more/0.tar", [6, 7])
    file, run = recipe_file(tmp_path, RECIPE), tmp_path / "run"
    arguments = [str(file), "--data", str(shards), "--data", str(tmp_path / "more"), "--output", str(run)]
    result = CliRunner().invoke(main, [*arguments, "--steps", "2", "--batch-size", "16", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert f"2 of 2 steps done; weights in {run / 'weights.safetensors'}" in result.output
    config = json.loads((run / "config.json").read_text())
    assert [name for name, _ in config["shards"]] == ["00000.tar", "00001.tar", "0.tar"]
    assert (config["batch_size"], config["steps"], config["recipe"]) == (16, 2, file.as_posix())
    expected = tmp_path / "expected"
    train(recipe(steps=2, batch_size=16), [shards, tmp_path / "more"], expected)
    assert_same_end(run, expected)
    result = CliRunner().invoke(main, [*arguments, "--steps", "3"])
    assert result.exit_code == 2
    assert "was started with other values of batch_size, steps" in " ".join(result.output.split())


def test_progress_and_loss_are_told_with_and_without_a_terminal(shards, tmp_path, capfd, monkeypatch):
    train(recipe(steps=2), [shards], tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    first, last = capfd.readouterr().err.splitlines()
    assert first.startswith(f"step 1 of 2: loss {log[0]['loss']:.4f}, {log[0]['right']:.1%} right")
    assert last.startswith(f"step 2 of 2: loss {log[1]['loss']:.4f}")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(recipe(steps=2), [shards], tmp_path / "other")
    told = capfd.readouterr().err
    assert "step 2 of 2" not in told
    assert f"loss={log[1]['loss']:.4f}" in told


def test_lines_of_progress_come_now_and_then(capfd):
    figures = {"loss": 0.7, "right": 0.5, "pairs_per_second": 100.0}
    with Progress(0, 100) as progress:
        for step in range(1, 101):
            progress.show(step, figures)
    assert [line.split(":")[0] for line in capfd.readouterr().err.splitlines()] == ["step 1 of 100", "step 100 of 100"]
    with Progress(0, 3, every=0.0) as progress:
        for step in (1, 2, 3):
            progress.show(step, figures)
    assert len(capfd.readouterr().err.splitlines()) == 3


def test_steps_that_end_within_the_warm_up_are_warned_of(shards, tmp_path):
    with pytest.warns(UserWarning, match=r"2 steps end within the 200 of the warm-up: .* at most 1e-05 of 0\.001"):
        train(recipe(steps=2, optimizer={"warmup_steps": 200}), [shards], tmp_path / "run")
    file = recipe_file(tmp_path, merge(RECIPE, {"optimizer": {"warmup_steps": 200}}))
    command = [str(file), "--data", str(shards), "--output", str(tmp_path / "other"), "--steps", "2"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0
    assert "warning: 2 steps end within the 200 of the warm-up" in result.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_cold(recipe(steps=5, optimizer={"warmup_steps": 4}))


def test_a_processor_that_imitates_bfloat16_is_warned_of(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    file = recipe_file(tmp_path, merge(RECIPE, {"precision": "bf16"}))
    command = [str(file), "--data", str(shards), "--output", str(tmp_path / "run"), "--steps", "1"]
    result = CliRunner().invoke(main, [*command, "--precision", "float32"])
    assert result.exit_code == 0 and "bf16" not in result.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "float32"
    with pytest.warns(UserWarning, match="no instructions for bf16.* give --precision float32"):
        warn_if_slow(recipe(precision="bf16"), torch.device("cpu"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_slow(recipe(precision="bf16"), torch.device("cpu"))


def test_labels_that_are_missing_are_told(shards, labelled, tmp_path):
    named = recipe(objective={"name": "classification", "classes": 3, "features": 8})
    with pytest.raises(ValueError, match=r"wants 3 classes .* the shards have 2 \(cat, dog\)"):
        train(named, [labelled], tmp_path / "run")
    with pytest.raises(ValueError, match=r"the shards have 0 \(no labels\)"):
        train(named, [shards], tmp_path / "run")


# ----------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 1}, "at least two clips a part, got 1"),
        ({"batch_size": 6, "accumulate": 4}, "multiple of 4 "),
        ({"batch_size": 6, "data": {"windows_per_clip": 4}}, "multiple of 4 "),
        ({"frozen": ["image_towr"]}, "such as image_tower.* got 'image_towr'"),
        ({"needs_weights": True}, "give them with --start-from"),
        (
            {"objective": {"name": "contrastive"}, "model": {"architecture": "l3", "frontend": "mel64"}},
            "'contrastive' works with networks that are Compares and HasSimilarity, got L3Net: it isn't HasSimilarity",
        ),
        (
            {
                "objective": {"name": "classification", "classes": 2, "features": 8},
                "model": {"architecture": "avol", "frontend": "mel64"},
            },
            "'classification' works with networks that are Compares, got AVOLNet: it represents pictures by maps",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_is_written(labelled, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        train(recipe(**change), [labelled], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_and_changes_nothing(shards, tmp_path, monkeypatch):
    train(recipe(), [shards], tmp_path, stop_after=1)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    sound = Shards.sound
    monkeypatch.setattr(Shards, "sound", lambda *arguments: np.full_like(sound(*arguments), np.inf))
    with pytest.raises(FloatingPointError, match="norm is nan: look at the data"):
        train(recipe(), [shards], tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_batch_that_would_cut_groups_is_refused(labelled, tmp_path):
    train(half(batch_size=6, data={"grouped": True}), [labelled], tmp_path / "good", stop_after=1)  # groups of two
    with pytest.raises(ValueError, match=r"a multiple of 2 \(2 clips a group"):
        train(half(batch_size=7, data={"grouped": True}), [labelled], tmp_path / "bad", stop_after=1)


def test_an_error_ends_the_command_though_workers_wait(shards, tmp_path):
    small = (CONFIGS[0].parent / "ave_small.toml").as_posix()
    text = f'extends = "{small}"\n[optimizer]\nlearning_rate = 1e30\nwarmup_steps = 1\n'
    (tmp_path / "recipe.toml").write_text(text)
    options = ["--data", shards, "--output", tmp_path / "run", "--batch-size", "8", "--steps", "5"]
    command = [sys.executable, "-m", "training.train", tmp_path / "recipe.toml", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(training.__file__).parents[1])
    assert done.returncode == 1
    assert "the gradient's norm is" in done.stderr


def test_a_run_may_go_on_with_what_does_not_change_its_weights(shards, tmp_path):
    train(recipe(), [shards], tmp_path / "one", stop_after=1)
    changed = recipe(checkpoint_every=1, validate_every=2, data={"workers": 1})
    assert train(changed, [shards], tmp_path / "one") == RECIPE["steps"]
    train(recipe(), [shards], tmp_path / "whole")
    assert_same_end(tmp_path / "one", tmp_path / "whole")


def test_a_run_refuses_to_go_on_with_another_configuration(shards, tmp_path):
    train(recipe(), [shards], tmp_path, stop_after=1)
    with pytest.raises(ValueError, match="other values of seed:"):
        train(recipe(seed=1), [shards], tmp_path)
    with pytest.raises(ValueError, match="other values of data:"):
        train(recipe(data={"flip": False}), [shards], tmp_path)
    with pytest.raises(ValueError, match="other values of negatives:"):
        train(recipe(negatives=[{"kind": "same_clip"}]), [shards], tmp_path)
    with pytest.raises(ValueError, match="other values of parts_of_a_batch"):
        train(recipe(accumulate=2), [shards], tmp_path)


def test_the_configuration_kept_is_the_recipe_with_its_defaults(shards, tmp_path):
    train(recipe(), [shards], tmp_path, stop_after=1)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert {key: kept[key] for key in ("model", "objective")} == {key: RECIPE[key] for key in ("model", "objective")}
    assert (kept["data"]["gain"], kept["data"]["flip"], kept["negatives"]) == (
        [0.9, 1.1],
        True,
        [{"kind": "other_clip"}],
    )
    assert (kept["classes"], kept["start_from"]) == ([], None)
    again = {key: value for key, value in kept.items() if key in vars(recipe())}
    assert to_recipe(again) == recipe()
