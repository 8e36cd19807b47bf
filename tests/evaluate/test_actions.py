"""Recognition of actions: clips spread over a video, the mean of their softmax, confusions counted by hand."""

import json

import cv2
import numpy as np
import pytest
import torch
from evaluations import evaluate
from moving_network import MovingNet
from tones import FRAME_RATE, RATE, write_tones
from torch import nn

from openavc.models.contract import Classifies, FramesInput, SoundInput
from openavc.weights import build_model, load_model
from training.checkpoint import save_weights
from training.corpora.shards import Shards
from training.evaluate.actions import check_networks, recognised
from training.evaluate.datasets.labelled_videos import find_labelled_videos, spread_clips
from training.evaluate.metrics.recognition import class_probabilities, confusion

KINDS = ("cat", "dog", "owl")
TINY = {
    "architecture": "multisensory-classifier",
    "classes": list(KINDS),
    "widths": [4, 4, 8, 8],
    "image_size": 16,
    "frames": 8,
    "frame_rate": FRAME_RATE,
    "sample_rate": 8000,
}


class Greens(Classifies):
    """Takes a second of frames and sound; its logits grow with the green of the middle frame, and with loudness."""

    classes = KINDS

    def __init__(self):
        super().__init__(SoundInput(RATE, 1.0), FramesInput(16, 16, count=5, rate=FRAME_RATE), {})
        self.unused = nn.Parameter(torch.zeros(1))

    def prepare_audio(self, samples):
        return samples

    def prepare_frames(self, frames):
        return frames

    def classify(self, frames, spectrogram):
        green, loud = frames[:, 2, ..., 1].mean(dim=(1, 2)), spectrogram.abs().mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(green), 10 * green, loud], dim=1)


def save_classifier(path, **options):
    """Write the weights of a fresh, tiny classifier."""
    torch.manual_seed(0)
    architecture = TINY | options
    save_weights(path, build_model(architecture), architecture)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write two videos of each of two kinds; of the last kind there is none."""
    folder = tmp_path_factory.mktemp("labelled")
    for clip in range(4):
        write_tones(folder / f"{clip}.tar", [clip], labels=[KINDS[clip % 2], "animal"])
    return folder


@pytest.mark.parametrize(("count", "middles"), [(1, [9]), (3, [4, 9, 14]), (100, list(range(2, 17)))])
def test_clips_are_spread_over_the_moments_at_which_they_lie_in_the_video(folder, count, middles):
    """Clips of 5 frames, 5 a second, and 1 s of sound: of 20 frames the middle one is at 0.6 s first, at 3.4 s last."""
    shards, model = Shards(folder), Greens()
    [video, *_] = find_labelled_videos(shards, KINDS)
    found = list(spread_clips(shards, video, model, count))
    assert [round(float(frames[2, ..., 1].mean()) * 255 / 5) for frames, _ in found] == middles
    assert all(frames.shape == (5, 16, 16, 3) and samples.shape == (RATE, 1) for frames, samples in found)


def test_a_video_shorter_than_a_clip_is_seen_whole(tmp_path):
    write_tones(tmp_path / "0.tar", [0], seconds=0.6, frames=3, labels=["cat"])
    shards = Shards(tmp_path)
    [video] = find_labelled_videos(shards, KINDS)
    [(frames, samples)] = spread_clips(shards, video, Greens(), 5)
    assert [round(float(frame[..., 1].mean()) * 255 / 5) for frame in frames] == [0, 0, 1, 2, 2]
    heard = np.flatnonzero(np.abs(samples) > 1e-3)
    assert heard[0] == pytest.approx(RATE * 0.1, abs=50)  # the middle frame is at 0.4 s
    assert heard[-1] == pytest.approx(RATE * 0.7, abs=50)


def test_a_videos_probabilities_are_the_mean_of_its_clips(folder):
    shards, model = Shards(folder), Greens()
    videos = find_labelled_videos(shards, KINDS)
    found = class_probabilities(model, shards, videos, clips=3)
    assert found.shape == (4, 3)
    expected = []
    for _, samples in spread_clips(shards, videos[0], model, 3):
        green = 5 * [4, 9, 14][len(expected)] / 255
        logits = np.array([0, 10 * green, np.abs(samples).mean()])
        expected.append(np.exp(logits) / np.exp(logits).sum())
    np.testing.assert_allclose(found[0], np.mean(expected, axis=0), atol=0.01)  # JPEG


def test_videos_have_their_first_label(folder):
    videos = find_labelled_videos(Shards(folder), KINDS)
    assert [(video.source, video.target) for video in videos] == [
        ("clip0", 0),
        ("clip1", 1),
        ("clip2", 0),
        ("clip3", 1),
    ]
    with pytest.raises(ValueError, match="clip1 has the label 'dog'; the network's classes are cat, owl"):
        find_labelled_videos(Shards(folder), ("cat", "owl"))


def test_accuracies_and_confusions_are_those_counted_by_hand():
    targets = np.array([0, 0, 0, 0, 1, 1])
    predicted = {"one": np.array([0, 0, 0, 1, 1, 2]), "other": np.array([0, 0, 0, 0, 1, 2])}
    np.testing.assert_allclose(confusion(targets, predicted["one"], 3), [[0.75, 0.25, 0], [0, 0.5, 0.5], [0, 0, 0]])
    found = recognised(predicted, targets, np.arange(len(targets)), KINDS, seed=0)
    assert found["one"].top1.mean == pytest.approx(100 * 4 / 6)
    assert found["one"].by_class == {"cat": 75, "dog": 50}
    assert (found["one"].mean, found["one"].more) == (62.5, None)
    assert found["other"].more.mean == pytest.approx(100 / 6)
    assert found["other"].more.low <= 0 < found["other"].more.high


def test_the_command_compares_networks_and_draws_who_is_taken_for_whom(folder, tmp_path):
    paths = [save_classifier(tmp_path / f"{name}.safetensors", muted=name == "b") for name in ("a", "b")]
    models = [word for path in paths for word in ("--model", path)]
    picture, report = tmp_path / "confusion.png", tmp_path / "actions.json"
    options = ("--data", folder, "--clips", 2, "--confusion", picture, "--json", report)
    result = evaluate("actions", *models, *options)
    assert result.exit_code == 0, result.output
    assert "actions, 4 videos, 3 classes" in result.output
    assert "82.1" in result.output  # the paper's
    figures = json.loads(report.read_text())
    assert set(figures["classes"]["a"]) == {"cat", "dog"}
    assert figures["chance"] == pytest.approx(100 / 3)
    assert [metric["name"].split()[-2:] for metric in figures["metrics"][:2]] == [["a", "top-1"], ["b", "top-1"]]
    drawn = cv2.imread(str(picture))
    assert drawn.shape[1] > drawn.shape[0] and drawn.std() > 5


def test_networks_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(ValueError, match="MovingNet tells no classes; fine-tune it"):
        check_networks({"moving": MovingNet()})
    two = load_model(save_classifier(tmp_path / "two.safetensors", classes=["cat", "dog"]))
    with pytest.raises(ValueError, match=r"two has other classes \(cat, dog\) than greens \(cat, dog, owl\)"):
        check_networks({"greens": Greens(), "two": two})


def test_frames_too_far_apart_are_told(tmp_path):
    write_tones(tmp_path / "0.tar", [0], frames=4, labels=["cat"])
    shards = Shards(tmp_path)
    [video] = find_labelled_videos(shards, KINDS)
    with pytest.raises(ValueError, match="clip0 are too far apart: prepare with --frame-rate 5"):
        list(spread_clips(shards, video, Greens(), 1))
