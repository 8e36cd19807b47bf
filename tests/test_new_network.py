"""A network in its own file can be trained with only a recipe, and works in all of inference and evaluation."""

import json

import av
import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner
from moving_network import MovingNet
from tones import jpeg

import openavc
from openavc.models import ARCHITECTURES
from training.corpora.shards import encode_clip
from training.evaluate.__main__ import main as evaluate
from training.recipe import read_recipe
from training.train import train

CLIPS, SECONDS, FRAME_RATE, SAMPLE_RATE = 104, 3.2, 25, 16_000
KINDS = ("Cacodemon", "DoomImp", "Demon", "LostSoul")
RECIPE = """
seed = 0
batch_size = 4
precision = "float32"
checkpoint_every = 1
negatives = [{kind = "other_clip"}]

[model]
architecture = "moving"
width = 6

[objective]
name = "correspondence"

[data]
quietest = -42.0

[optimizer]
name = "sgd"
momentum = 0.9
learning_rate = 0.01
weight_decay = 0.0
schedule = "constant"

[[stages]]
steps = 1

[[stages]]
steps = 1
negatives = [{kind = "same_clip", gap = 0.5}]
"""


def clip_of(number):
    """Return stereo noise and the frames of one clip."""
    rng = np.random.default_rng(number)
    samples = rng.uniform(-0.5, 0.5, (round(SECONDS * SAMPLE_RATE), 2))
    pictures = rng.integers(0, 256, (round(SECONDS * FRAME_RATE), 40, 40, 3), dtype=np.uint8)
    return samples, pictures


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving")
    with webdataset.TarWriter(str(folder / "000000.tar")) as writer:
        for number in range(CLIPS):
            samples, pictures = clip_of(number)
            times = (np.arange(len(pictures)) / FRAME_RATE).tolist()
            about = {"labels": [KINDS[number % len(KINDS)]], "level": f"freedoom1/E1M{number % 7 + 1}"}
            frames = [jpeg(picture) for picture in pictures]
            writer.write(encode_clip(f"clip{number:03d}", samples, SAMPLE_RATE, frames, times, about))
    return folder


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """Return the folder of a finished training."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "moving.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "moving", MovingNet)
        assert train(read_recipe(folder / "moving.toml"), [shards], folder / "run", device="cpu") == 2
        yield folder / "run"


@pytest.fixture(scope="module")
def model(run):
    return openavc.load_model(run / "weights.safetensors")


@pytest.fixture
def video(tmp_path):
    """Write a clip as a video file with stereo sound."""
    samples, pictures = clip_of(0)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        seen = file.add_stream("ffv1", rate=FRAME_RATE, width=40, height=40, pix_fmt="bgr0")
        heard = file.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="stereo")
        for picture in pictures:
            file.mux(seen.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        packed = (samples * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "s16", "stereo")
        frame.sample_rate = SAMPLE_RATE
        file.mux([*heard.encode(frame), *heard.encode(), *seen.encode()])
    return path


def test_both_stages_changed_the_weights(run, model):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in lines)
    torch.manual_seed(0)
    fresh = MovingNet(width=6)
    moved = [not torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True)]
    assert all(moved)


def test_a_video_is_embedded_in_clips_of_25_frames_with_both_channels(model, video):
    embedded = openavc.get_video_embedding(video, model, embedding="joint", frame_rate=5)
    samples, pictures = clip_of(0)
    np.testing.assert_allclose(embedded.timestamps, np.arange(16) / 5, atol=1e-9)
    middle = 8  # of 16 clips: 1.6 s, whose 25 frames and whose second of sound lie inside the video
    run = pictures[40 - 12 : 40 + 13]
    window = (samples * 32767).astype(np.int16)[round(1.1 * SAMPLE_RATE) : round(2.1 * SAMPLE_RATE)]
    np.testing.assert_allclose(
        embedded.image[middle], openavc.get_image_embedding(run, model, embedding="joint")[0], atol=1e-6
    )
    alone, _ = openavc.get_audio_embedding(window, SAMPLE_RATE, model, embedding="joint", center=False)
    np.testing.assert_allclose(embedded.audio[middle], alone[0], atol=1e-6)
    mixed, _ = openavc.get_audio_embedding(
        window.mean(axis=1).astype(np.int16), SAMPLE_RATE, model, embedding="joint", center=False
    )
    assert np.abs(mixed[0] - alone[0]).max() > 1e-3  # mono is another sound


def test_clips_and_sounds_are_scored(model):
    samples, pictures = clip_of(0)
    score = openavc.correspondence_score(samples, SAMPLE_RATE, pictures[:25], model)
    assert 0 < score < 1
    with pytest.raises(ValueError, match="25 consecutive frames"):
        openavc.correspondence_score(samples, SAMPLE_RATE, pictures[0], model)


@pytest.mark.parametrize("command", ["avc", "retrieval", "ndcg"])
def test_evaluations_take_it(command, run, shards, tmp_path):
    options = [] if command == "ndcg" else ["--per-clip", "2"]
    arguments = [command, "--model", str(run / "weights.safetensors"), "--data", str(shards), *options]
    result = CliRunner().invoke(evaluate, [*arguments, "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, (result.output, result.exception)
    figures = json.loads((tmp_path / "figures.json").read_text())["metrics"]
    assert figures and all(np.isfinite(figure["value"]) for figure in figures)
