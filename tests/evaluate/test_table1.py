"""Table 1 of the L3 paper on a corpus of two kinds, each with its colour and its pitch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from evaluations import evaluate
from tones import listener

import training
from training.corpora.shards import encode_clip
from training.evaluate import table1
from training.evaluate.datasets.held_out import load_pairs
from training.evaluate.metrics.correspondence import Represented, represent
from training.evaluate.table1 import DirectCombination
from training.recipe import read_recipe
from training.train import train

CONFIGS = Path(training.__file__).parent / "configs"
RATE, SECONDS = 24_000, 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Write eight clips: "high" is red with a high tone, "low" blue with a low one."""
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


def small(name, steps, classes=2):
    changes = {
        "batch_size": 8,
        "steps": steps,
        "precision": "float32",
        "model": {"widths": [4, 4, 8, 8], "image_size": 16},
        "data": {"workers": 0},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 0},
    }
    if name == "l3_small_supervised":
        changes["objective"] = {"classes": classes, "features": 8}
    return read_recipe(CONFIGS / f"{name}.toml", **changes)


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """Run the three trainings of the table, in miniature."""
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
    result = evaluate(*command)
    assert result.exit_code == 0, result.output
    for row in ("supervised direct combination", "supervised pretraining", "untrained", "chance"):
        assert row in result.output
    figures = json.loads((tmp_path / "t.json").read_text())
    assert (figures["picture"], figures["sound"], figures["chance"]) == (100, 100, 50)
    threshold = {metric["name"]: metric["value"] for metric in figures["metrics"]}
    assert threshold["table 1 supervised direct combination threshold"] > 60  # same kinds can't be told: 79 at best


def write_clips(folder, labels, sources):
    """Write a grey clip of noise, 2 s long, for each label."""
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


def test_two_cuts_of_one_video_keep_the_labels_of_their_own(tmp_path):
    folder = write_clips(tmp_path / "held", [["high"], ["low"], ["low"]], ["video", "video", "other"])
    model = listener()
    pairs = represent(model, load_pairs(model, folder, per_clip=2, seed=0))
    assert pairs.labels == ("high", "high", "low", "low", "low", "low")
    assert pairs.video.tolist() == [0, 0, 0, 0, 1, 1]
    high = torch.tensor([[0.9, 0.1]] * 6)
    figures = table1.label_accuracy(["high", "low"], Represented(high, 1 - high, pairs.video, pairs.labels), folder)
    assert figures == pytest.approx({"picture": 100 * 2 / 6, "sound": 100 * 4 / 6, "chance": 50})


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("high", None), r"1 of 2 pairs of .*held are of clips without a label; each must have one of high, low"),
        (("high", "loud"), r"held has labels that the supervised run didn't learn: loud; it knows high, low"),
    ],
)
def test_held_out_clips_without_a_known_label_are_refused(labels, told):
    pairs = Represented(torch.ones(2, 2), torch.ones(2, 2), np.arange(2), labels)
    with pytest.raises(ValueError, match=told):
        table1.label_accuracy(["high", "low"], pairs, Path("held"))


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
    with pytest.raises(ValueError, match=r"wants 3 classes.*have 2 \(high, low\)"):
        train(small("l3_small_supervised", 2, classes=3), [shards], tmp_path / "run")
