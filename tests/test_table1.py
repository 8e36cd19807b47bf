"""Table 1 of the L3 paper on a corpus of two kinds, each with its colour and its pitch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner

import training
from training.config import read_config
from training.data import encode_clip
from training.evaluate.__main__ import main as evaluate_main
from training.evaluate.table1 import DirectCombination
from training.train import train

CONFIGS = Path(training.__file__).parent / "configs"
RATE, SECONDS = 24_000, 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eight clips: "high" is red with a high tone, "low" blue with a low one."""
    import cv2

    folder, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    with webdataset.TarWriter(str(folder / "0.tar")) as writer:
        for clip in range(8):
            high = clip % 2 == 0
            tone = np.sin(2 * np.pi * (3000 if high else 300) * np.arange(RATE * SECONDS) / RATE)
            colour = (30, 30, 220) if high else (220, 30, 30)  # blue, green, red
            frames = [
                cv2.imencode(".jpg", rng.integers(0, 30, (24, 32, 3), dtype=np.uint8) + np.uint8(colour))[1].tobytes()
                for _ in range(8)
            ]
            times = [0.5 * (k + 1) for k in range(8)]
            about = {"labels": ["high" if high else "low"]}
            sound = 0.3 * tone + 0.01 * rng.standard_normal(len(tone))
            writer.write(encode_clip(f"clip{clip}", sound, RATE, frames, times, about))
    return folder


def small(name: str, steps: int) -> dict:
    config = read_config(CONFIGS / f"{name}.toml", batch_size=8, steps=steps, precision="float32")
    config["model"] |= {"widths": [4, 4, 8, 8], "image_size": 16}
    config["data"] |= {"workers": 0}
    config["optimizer"] |= {"learning_rate": 0.01, "warmup_steps": 0}
    if config["objective"]["name"] == "classification":
        config["objective"] |= {"classes": 2, "features": 8}
    return config


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """The three trainings of the table, in miniature."""
    folder = tmp_path_factory.mktemp("runs")
    train(small("l3_small", 2), [shards], folder / "l3")
    train(small("l3_small_supervised", 30), [shards], folder / "supervised")
    towers = folder / "supervised" / "weights.safetensors"
    train(small("l3_small_pretrained", 2), [shards], folder / "pretrained", start_from=towers)
    return folder


def test_the_direct_combination_is_the_scalar_product_of_the_softmaxes(runs):
    direct = DirectCombination(runs / "supervised")
    image, audio = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    score = direct.compare(image, audio).softmax(dim=1)[:, 1]
    torch.testing.assert_close(score, torch.tensor([0.5, 0.65]))


def test_the_frozen_towers_are_those_that_learned_labels(runs):
    from safetensors.torch import load_file

    before, after = (load_file(runs / name / "weights.safetensors") for name in ("supervised", "pretrained"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"fusion"}


def test_labels_that_are_easy_are_learned_and_told_beside_chance(runs, shards, tmp_path):
    command = ["table1", "--model", runs / "l3/weights.safetensors", "--data", shards, "--json", tmp_path / "t.json"]
    command += ["--supervised", runs / "supervised", "--pretrained", runs / "pretrained/weights.safetensors"]
    result = CliRunner().invoke(evaluate_main, [str(part) for part in command])
    assert result.exit_code == 0, result.output
    for row in ("supervised direct combination", "supervised pretraining", "untrained", "chance"):
        assert row in result.output
    figures = json.loads((tmp_path / "t.json").read_text())
    assert (figures["picture"], figures["sound"], figures["chance"]) == (100, 100, 50)
    threshold = {metric["name"]: metric["value"] for metric in figures["metrics"]}
    assert threshold["table 1 supervised direct combination threshold"] > 60  # same kinds can't be told: 79 at best


def test_an_objective_that_wants_labels_refuses_shards_with_others(shards, tmp_path):
    config = small("l3_small_supervised", 2)
    config["objective"]["classes"] = 3
    with pytest.raises(ValueError, match=r"wants 3 classes.*have 2 \(high, low\)"):
        train(config, [shards], tmp_path / "run")
