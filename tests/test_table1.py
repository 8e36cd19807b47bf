"""Table 1 of the L3 paper on a corpus of two kinds, each with its colour and its pitch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner

import training
from training.config import read_config
from training.data import encode_clip
from training.evaluate import table1
from training.evaluate.__main__ import main as evaluate_main
from training.evaluate.correspondence import Represented, load_pairs
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


def write_clips(folder: Path, labels: list[list[str]], sources: list[str]) -> Path:
    """A clip of noise for each, grey, of 2 s."""
    import cv2

    folder.mkdir()
    rng = np.random.default_rng(1)
    frames = [cv2.imencode(".jpg", np.full((16, 16, 3), 128, np.uint8))[1].tobytes()] * 2
    with webdataset.TarWriter(str(folder / "0.tar")) as writer:
        for number, (names, source) in enumerate(zip(labels, sources, strict=True)):
            about = {"labels": names, "source": source}
            sound = 0.1 * rng.standard_normal(2 * RATE)
            writer.write(encode_clip(f"clip{number}", sound, RATE, frames, [0.8, 1.2], about))
    return folder


class Named:
    """What `load_pairs` and `label_accuracy` ask of a network that calls everything "high"."""

    classes = ("high", "low")
    image_size, sample_rate, window_seconds = 16, RATE, 1.0


def test_two_cuts_of_one_video_keep_the_labels_of_their_own(tmp_path, monkeypatch):
    folder = write_clips(tmp_path / "held", [["high"], ["low"], ["low"]], ["video", "video", "other"])
    pairs = load_pairs(Named, folder, per_clip=2, seed=0)
    assert pairs.labels == ["high", "high", "low", "low", "low", "low"]
    assert pairs[2].tolist() == [0, 0, 0, 0, 1, 1]
    high = np.array([[0.9, 0.1]] * 6)
    monkeypatch.setattr(table1, "represent", lambda direct, pairs: Represented(high, 1 - high, pairs[2]))
    figures = table1.label_accuracy(Named, pairs, folder)
    assert figures == pytest.approx({"picture": 100 * 2 / 6, "sound": 100 * 4 / 6, "chance": 50})


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([["high"], []], r"2 of 4 pairs of .*held are of clips without a label; each must have one of high, low"),
        ([["high"], ["loud"]], r"held has labels that the supervised run didn't learn: loud; it knows high, low"),
    ],
)
def test_held_out_clips_without_a_known_label_are_refused(tmp_path, labels, told):
    folder = write_clips(tmp_path / "held", labels, ["one", "other"])
    with pytest.raises(ValueError, match=told):
        table1.label_accuracy(Named, load_pairs(Named, folder, per_clip=2, seed=0), folder)


def test_weights_that_began_with_others_than_the_supervised_ones_are_refused(runs, tmp_path):
    pretrained = runs / "pretrained" / "weights.safetensors"
    table1.check_pretrained(pretrained, runs / "supervised")
    with pytest.raises(ValueError, match=r"pretrained/weights\.safetensors didn't begin with the weights of .*/l3:"):
        table1.check_pretrained(pretrained, runs / "l3")
    with pytest.raises(ValueError, match="start_from = None"):
        table1.check_pretrained(runs / "l3" / "weights.safetensors", runs / "supervised")
    shutil.copy(pretrained, tmp_path)  # nothing is known of it
    table1.check_pretrained(tmp_path / pretrained.name, runs / "l3")


def test_an_objective_that_wants_labels_refuses_shards_with_others(shards, tmp_path):
    config = small("l3_small_supervised", 2)
    config["objective"]["classes"] = 3
    with pytest.raises(ValueError, match=r"wants 3 classes.*have 2 \(high, low\)"):
        train(config, [shards], tmp_path / "run")
