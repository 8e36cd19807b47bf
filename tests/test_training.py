"""The loop in one process: recipes, resuming as if never stopped, what a run keeps, what it refuses."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tones import RECIPE, write_tones

import openavc
import training
from training.checkpoint import save_weights
from training.config import check_config, read_config
from training.data import Shards
from training.evaluate.correspondence import avc, load_pairs, represent
from training.train import build, learning_rate, main, train, train_step

CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.toml"))
CPU = torch.device("cpu")
PROCESSES = multiprocessing.get_context("forkserver")  # forked off a process that has torch, but no threads yet
PROCESSES.set_forkserver_preload(["torch"])

pytestmark = pytest.mark.usefixtures("one_thread")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_of(run: Path) -> list[int]:
    return [line["step"] for line in lines(run / "log.jsonl")]


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def assert_same_end(run: Path, other: Path) -> None:
    """Bit by bit: steps, weights, statistics, optimizer; and the logs, but for the times."""
    torch.testing.assert_close(checkpoint(run), checkpoint(other), rtol=0, atol=0)
    assert (run / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    logs = [[(line["step"], line["loss"]) for line in lines(folder / "log.jsonl")] for folder in (run, other)]
    assert logs[0] == logs[1]


# ----------------------------------------------------------------------------------------------------- recipes


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Clips of two kinds, whose pictures are noise in blue, so that something moves."""
    folder = tmp_path_factory.mktemp("labelled")
    blue = np.random.default_rng(0).integers(0, 256, (20, 24, 32))
    for clip in range(4):
        write_tones(folder / f"{clip}.tar", [clip], labels=[("cat", "dog")[clip % 2]], group=clip // 2, blue=blue)
    return folder


def tiny(path: Path) -> dict:
    """The recipe at a reduced size, in one process."""
    config = read_config(path)
    model = config["model"] | {"widths": [4, 4, 8, 8], "image_size": 32}
    if "motion" in model:
        model["frames"] = 7
    objective = config["objective"]
    if objective["name"] == "classification":
        objective = objective | {"classes": 2, "features": 8}
    batch_size = 4 * config["data"].get("windows_per_clip", 1) * config.get("accumulate", 1)
    small = {"model": model, "objective": objective, "data": config["data"] | {"workers": 0}, "batch_size": batch_size}
    return config | small


def has_no_effect(part: torch.nn.Module, name: str) -> bool:
    """Whether it is a bias before BatchNorm, whose gradient is 0 but for rounding."""
    module = part.get_submodule(name.rpartition(".")[0])
    return "_tower." in name and name.endswith("bias") and isinstance(module, torch.nn.Conv2d)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_makes_a_step_that_moves_every_parameter_but_the_frozen(path, labelled, tmp_path):
    check_config(read_config(path))
    config = tiny(path)
    model, objective, _ = build(config, CPU)
    given = None
    if config.get("needs_weights"):
        given = tmp_path / "given.safetensors"
        save_weights(given, model, config["model"], torch.float32)
    assert train(config, [labelled], tmp_path, start_from=given, stop_after=1) == 1
    (line,) = lines(tmp_path / "log.jsonl")
    assert math.isfinite(line["loss"])
    frozen = tuple(f"{name}." for name in config.get("frozen", []))
    for kind, part in (("model", model), ("objective", objective)):
        after = checkpoint(tmp_path)[kind]
        for name, value in part.named_parameters():
            if name.startswith(frozen) or not has_no_effect(part, name):
                assert torch.equal(value, after[name]) == name.startswith(frozen), name
    loaded = openavc.load_model(tmp_path / "weights.safetensors").state_dict()
    for name, value in checkpoint(tmp_path)["model"].items():
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-4)  # kept in 16 bits


HALF = RECIPE | {"objective": {"name": "contrastive"}}


def test_bf16_follows_float32(shards, tmp_path):
    losses = []
    for precision in ("float32", "bf16"):
        train(HALF | {"precision": precision}, [shards], tmp_path / precision, stop_after=2)
        losses.append([line["loss"] for line in lines(tmp_path / precision / "log.jsonl")])
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_fp16_scales_the_loss_and_leaves_out_steps_that_overflow(shards, tmp_path):
    model, _, _ = build(HALF, CPU)
    before, left_out = dict(model.named_parameters()), 0
    full = tmp_path / "float32"
    train(HALF, [shards], full, stop_after=1)
    for step in range(1, 9):
        train(HALF | {"precision": "fp16", "steps": 8}, [shards], tmp_path / "fp16", stop_after=step)
        line, state = lines(tmp_path / "fp16/log.jsonl")[-1], checkpoint(tmp_path / "fp16")
        if step == 1:  # what is logged isn't scaled
            assert line["loss"] == pytest.approx(lines(full / "log.jsonl")[0]["loss"], rel=0.01)
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


def test_the_learning_rate_warms_up_and_follows_half_a_cosine():
    settings = {"learning_rate": 1.0, "schedule": "cosine", "warmup_steps": 10}
    assert learning_rate(0, 1000, settings) == pytest.approx(0.1)
    assert learning_rate(500, 1000, settings) == pytest.approx(0.5)
    assert learning_rate(999, 1000, settings) < 1e-5
    assert learning_rate(700, 1000, settings | {"schedule": "constant"}) == 1.0


def test_the_learning_rate_falls_in_steps(shards, tmp_path):
    """Objects that Sound: times 0.94 every 16 epochs, here of 2 steps."""
    step = RECIPE["optimizer"] | {"schedule": "step", "decay": 0.94, "decay_steps": 2}
    train(RECIPE | {"optimizer": step}, [shards], tmp_path)
    rates = [line["learning_rate"] for line in lines(tmp_path / "log.jsonl")]
    assert rates == pytest.approx([1e-3, 1e-3, 9.4e-4, 9.4e-4, 8.836e-4], rel=1e-9)


def test_what_is_frozen_stays_with_its_statistics(shards, tmp_path):
    config = RECIPE | {"frozen": ["image_tower"], "steps": 2, "validate_every": 1}
    model, _, _ = build(config, CPU)
    before = model.state_dict()
    train(config, [shards], tmp_path, validation=shards)
    for name, value in checkpoint(tmp_path)["model"].items():
        assert torch.equal(value, before[name]) == name.startswith("image_tower."), name


# ---------------------------------------------------------------------------------------------------- resuming

LONG = RECIPE | {"steps": 60, "checkpoint_every": 7, "data": {"workers": 1}}


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """A run of LONG that nothing stopped."""
    run, threads = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    torch.set_num_threads(1)
    train(LONG, [shards], run)
    torch.set_num_threads(threads)
    return run


def in_a_session_of_its_own(config: dict, data: Path, run: Path) -> None:
    os.setsid()
    torch.set_num_threads(1)
    train(config, [data], run)


def begin(data: Path, run: Path, steps: int):
    """A process that trains LONG, when it has a checkpoint of at least so many steps."""
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

    rng = np.random.default_rng()  # a random moment: any must do
    process = begin(shards, tmp_path, steps=7 * rng.integers(1, 4))
    time.sleep(rng.uniform(0, 0.1))
    os.killpg(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoint(tmp_path)["step"] < LONG["steps"]
    time.sleep(1.01 - time.time() % 1)  # TensorBoard's files are read in the order of their names: seconds
    assert train(LONG, [shards], tmp_path) == LONG["steps"]
    assert_same_end(tmp_path, whole)
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert set(board.Tags()["scalars"]) == lines(whole / "log.jsonl")[0].keys() - {"step"}
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 61))
    losses = [line["loss"] for line in lines(whole / "log.jsonl")]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses, rel=1e-6)


def test_sigterm_ends_a_run_with_a_checkpoint_of_the_step_last_logged(shards, whole, tmp_path):
    process = begin(shards, tmp_path, steps=7)
    os.killpg(process.pid, signal.SIGTERM)  # as clusters do, to the loader's workers, too
    process.join(60)
    assert process.exitcode == 0
    stopped = checkpoint(tmp_path)["step"]
    assert steps_of(tmp_path) == list(range(1, stopped + 1))
    assert stopped < LONG["steps"]
    assert train(LONG, [shards], tmp_path) == LONG["steps"]
    assert_same_end(tmp_path, whole)


def test_a_run_in_parts_equals_an_uninterrupted_one(shards, tmp_path):
    config = RECIPE | {"precision": "bf16", "objective": {"name": "contrastive"}, "data": {"windows_per_clip": 2}}
    train(config, [shards], tmp_path / "whole")
    for steps in (1, 4, None, None):
        train(config, [shards], tmp_path / "parts", stop_after=steps)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    assert steps_of(tmp_path / "parts") == [1, 2, 3, 4, 5]


# ------------------------------------------------------------------------------------------------ what is kept


def test_validation_measures_on_time_and_keeps_the_best(shards, tmp_path):
    config = RECIPE | {"validate_every": 2, "optimizer": RECIPE["optimizer"] | {"learning_rate": 0.01}}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, [shards], whole, validation=shards)
    found = lines(whole / "validation.jsonl")
    assert [line["step"] for line in found] == [2, 4, 5]
    model, _, _ = build(config, CPU)
    stored = {}
    for step in (2, 4, 5):  # without a validation: the one that was due is made up for below
        train(config, [shards], parts, stop_after=step, validation=None if step == 4 else shards)
        stored[step] = (parts / "weights.safetensors").read_bytes()
        model.load_state_dict(checkpoint(parts)["model"])
        pairs = represent(model.eval(), load_pairs(model, shards, per_clip=4, seed=0))
        assert {"step": step, **avc(model, pairs, seed=0)} in found
    best = max(found, key=lambda line: line["threshold"])["step"]  # the first of equals
    assert (whole / "best.safetensors").read_bytes() == stored[best]
    assert lines(parts / "validation.jsonl") == found
    assert (parts / "best.safetensors").exists()


@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_networks_that_see_motion_are_trained_validated_and_resumed_as_others(motion, shards, tmp_path):
    config = RECIPE | {"model": RECIPE["model"] | {"motion": motion, "frames": 7}, "data": {"workers": 1}}
    train(config, [shards], tmp_path / "whole", validation=shards)
    assert [line["step"] for line in lines(tmp_path / "whole/validation.jsonl")] == [5]
    for steps in (2, None):
        train(config, [shards], tmp_path / "parts", stop_after=steps, validation=shards)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    model = openavc.load_model(tmp_path / "whole/best.safetensors")
    figures = avc(model, represent(model, load_pairs(model, shards, per_clip=4, seed=0)), seed=0)
    assert set(figures) == lines(tmp_path / "whole/validation.jsonl")[0].keys() - {"step"}
    assert all(math.isfinite(value) for value in figures.values())


def test_a_run_begins_with_the_weights_it_is_given(shards, tmp_path):
    train(RECIPE | {"seed": 7}, [shards], tmp_path / "first", stop_after=1)
    given = tmp_path / "first/weights.safetensors"
    still = RECIPE | {"optimizer": RECIPE["optimizer"] | {"learning_rate": 0.0}}
    train(still, [shards], tmp_path / "second", start_from=given, stop_after=1)
    before, after = load_file(given), checkpoint(tmp_path / "second")["model"]
    parameters = [name for name, _ in build(still, CPU)[0].named_parameters()]
    assert all(torch.equal(before[name].float(), after[name]) for name in parameters)
    with pytest.raises(ValueError, match="other values of start_from"):
        train(still, [shards], tmp_path / "second")
    other = still | {"model": RECIPE["model"] | {"joint_size": 4}}
    with pytest.raises(ValueError, match=r"weights\.safetensors doesn't fit the configuration's \[model\]"):
        train(other, [shards], tmp_path / "third", start_from=given)
    assert not (tmp_path / "third").exists()


def recipe_file(folder: Path, config: dict) -> Path:
    """As TOML, in which JSON's numbers, strings and lists are written alike."""
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in plain.items())
    for table in config.keys() - plain.keys():
        text += f"\n[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in config[table].items())
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_the_command_takes_several_folders_of_shards(shards, tmp_path):
    write_tones(tmp_path / "more/0.tar", [6, 7])
    recipe, run = recipe_file(tmp_path, RECIPE), tmp_path / "run"
    arguments = [str(recipe), "--data", str(shards), "--data", str(tmp_path / "more"), "--output", str(run)]
    result = CliRunner().invoke(main, [*arguments, "--steps", "2", "--batch-size", "16", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert f"2 of 2 steps done; weights in {run / 'weights.safetensors'}" in result.output
    config = json.loads((run / "config.json").read_text())
    assert [name for name, _ in config["shards"]] == ["00000.tar", "00001.tar", "0.tar"]
    assert (config["batch_size"], config["steps"], config["recipe"]) == (16, 2, recipe.as_posix())
    expected = tmp_path / "expected"
    train(RECIPE | {"steps": 2, "batch_size": 16}, [shards, tmp_path / "more"], expected)
    assert_same_end(run, expected)
    result = CliRunner().invoke(main, [*arguments, "--steps", "3"])
    assert result.exit_code == 2
    assert "was started with other values of batch_size, steps" in " ".join(result.output.split())


def test_labels_that_are_missing_are_told(shards, labelled, tmp_path):
    config = RECIPE | {"objective": {"name": "classification", "classes": 3, "features": 8}}
    with pytest.raises(ValueError, match=r"wants 3 classes .* the shards have 2 \(cat, dog\)"):
        train(config, [labelled], tmp_path / "run")
    with pytest.raises(ValueError, match=r"the shards have 0 \(no labels\)"):
        train(config, [shards], tmp_path / "run")


# ----------------------------------------------------------------------------------------------- what is refused


def optimizer(**changes) -> dict:
    return {"optimizer": RECIPE["optimizer"] | changes}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stepz": 3}, "unknown keys stepz"),
        ({"precision": "bfloat16"}, "one of float32, bf16, fp16, got 'bfloat16'"),
        (optimizer(schedule="cosin"), "'cosin'"),
        (optimizer(schedule="step"), "needs decay and decay_steps"),
        ({"optimizer": {"name": "adam", "schedule": "cosine"}}, r"\[optimizer\] lacks learning_rate, weight_decay"),
        ({"data": {"windows_per_klip": 2}}, "unknown keys windows_per_klip"),
        ({"batch_size": 1}, "at least two clips a part, got 1"),
        ({"batch_size": 6, "accumulate": 4}, "multiple of 4 "),
        ({"batch_size": 6, "data": {"windows_per_clip": 4}}, "multiple of 4 "),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number of at least 1, got 0"),
        ({"frozen": ["image_towr"]}, "such as image_tower.* got 'image_towr'"),
        (
            {"objective": {"name": "correspondence", "temperature": 1}},
            "unexpected keyword .*'temperature'; its options are: none",
        ),
        ({"objective": {"name": "classification", "classes": 3}}, "missing a required argument: 'features'"),
        ({"data": {"windows_per_clip": 0}}, "windows_per_clip must be a whole number of at least 1, got 0"),
        (optimizer(schedule="step", decay=0.9, decay_steps=0), "decay_steps must be a whole number"),
        (optimizer(learning_rate="x"), "learning_rate must be a number of at least 0, got 'x'"),
        ({"model": "ave"}, r"model must be a table, \[model\], got 'ave'"),
        ({"frozen": "image_tower"}, "frozen must be a list"),
        ({"needs_weights": True}, "give them with --start-from"),
        (
            {"objective": {"name": "contrastive"}, "model": {"architecture": "l3"}},
            "'contrastive' works with the networks ave, avol, got 'l3'",
        ),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_before_anything_is_written(shards, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        train(RECIPE | change, [shards], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_and_changes_nothing(shards, tmp_path, monkeypatch):
    train(RECIPE, [shards], tmp_path, stop_after=1)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    waveform = Shards.waveform
    monkeypatch.setattr(Shards, "waveform", lambda *arguments: np.full_like(waveform(*arguments), np.inf))
    with pytest.raises(FloatingPointError, match="norm is nan: look at the data"):
        train(RECIPE, [shards], tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_batch_that_would_cut_groups_is_refused(labelled, tmp_path):
    config = RECIPE | {"batch_size": 6, "data": {"grouped": True}, "objective": {"name": "contrastive"}}
    train(config, [labelled], tmp_path / "good", stop_after=1)  # groups of two
    with pytest.raises(ValueError, match=r"a multiple of 2 \(2 clips a group"):
        train(config | {"batch_size": 7}, [labelled], tmp_path / "bad", stop_after=1)


def test_an_error_ends_the_command_though_workers_wait(shards, tmp_path):
    recipe = (CONFIGS[0].parent / "ave_small.toml").read_text().replace("learning_rate = 1e-3", "learning_rate = 1e30")
    (tmp_path / "recipe.toml").write_text(recipe.replace("warmup_steps = 200", "warmup_steps = 1"))
    options = ["--data", shards, "--output", tmp_path / "run", "--batch-size", "8", "--steps", "5"]
    command = [sys.executable, "-m", "training.train", tmp_path / "recipe.toml", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent)
    assert done.returncode == 1
    assert "the gradient's norm is" in done.stderr


def test_a_run_may_go_on_with_what_does_not_change_its_weights(shards, tmp_path):
    train(RECIPE, [shards], tmp_path / "one", stop_after=1)
    changed = RECIPE | {"checkpoint_every": 1, "data": RECIPE["data"] | {"workers": 1}}
    assert train(changed, [shards], tmp_path / "one") == RECIPE["steps"]
    train(RECIPE, [shards], tmp_path / "whole")
    assert_same_end(tmp_path / "one", tmp_path / "whole")


def test_a_run_refuses_to_go_on_with_another_configuration(shards, tmp_path):
    train(RECIPE, [shards], tmp_path, stop_after=1)
    with pytest.raises(ValueError, match="other values of seed"):
        train(RECIPE | {"seed": 1}, [shards], tmp_path)
    with pytest.raises(ValueError, match="other values of parts_of_a_batch"):
        train(RECIPE | {"accumulate": 2}, [shards], tmp_path)
