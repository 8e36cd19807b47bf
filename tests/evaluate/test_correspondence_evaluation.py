"""AVC and retrieval on held-out pairs whose answer is known."""

import json

import cv2
import numpy as np
import pytest
import torch
import webdataset
from evaluations import TINY, evaluate, save_network
from fake_model import FakeModel
from moving_network import MovingNet
from tones import clip_of_picture, clip_of_sound, listener, write_tones

from openavc.models.contract import AudioVisualModel
from openavc.weights import build_model, load_model
from training.corpora.shards import encode_clip
from training.evaluate.datasets.held_out import load_pairs
from training.evaluate.metrics import correspondence
from training.evaluate.networks.untrained import untrained


@pytest.fixture
def weights(tmp_path):
    return save_network(tmp_path / "tiny.safetensors")


def pairs(image, audio, per_clip=4):
    return correspondence.Represented(
        torch.from_numpy(image), torch.from_numpy(audio), np.arange(len(image)) // per_clip
    )


def test_a_perfect_model_is_always_right():
    vectors = np.eye(480, dtype=np.float32)
    figures = correspondence.avc(FakeModel(), pairs(2 * vectors - 0.002, vectors), seed=0)
    for name in ("own decision", "threshold", "2AFC other clip", "2AFC same clip", "AUC"):
        assert figures[name] == 100
    assert figures["mean score of true pairs"] > 0.9 > 0.6 > figures["mean score of mismatched pairs"]
    ranks = correspondence.retrieval(FakeModel(), pairs(vectors, vectors), seed=0, draws=2)
    assert set(ranks.values()) == {100.0}


def test_a_model_that_knows_nothing_is_at_chance():
    rng = np.random.default_rng(0)
    blind = pairs(*rng.standard_normal((2, 2000, 8)).astype(np.float32))
    figures = correspondence.avc(FakeModel(), blind, seed=0)
    for name in ("own decision", "threshold", "2AFC other clip", "2AFC same clip", "AUC"):
        assert figures[name] == pytest.approx(50, abs=4)
    ranks = correspondence.retrieval(FakeModel(), blind, seed=0, draws=20)
    assert ranks["mean R@1"] == pytest.approx(1, abs=0.8)
    assert ranks["mean R@10"] == pytest.approx(10, abs=2)


def test_a_model_that_gives_one_score_to_all_gains_nothing_by_ties():
    constant = pairs(np.ones((400, 2), np.float32), np.ones((400, 2), np.float32))
    figures = correspondence.avc(FakeModel(), constant, seed=0)
    assert (figures["own decision"], figures["2AFC other clip"], figures["AUC"]) == (50, 50, 50)
    ranks = correspondence.retrieval(FakeModel(), constant, seed=0, draws=1)
    assert [ranks[f"mean R@{k}"] for k in (1, 5, 10)] == pytest.approx([1, 5, 10])


def test_a_model_that_knows_only_the_clip_fails_on_negatives_of_the_same_clip():
    clip = np.repeat(np.eye(120, dtype=np.float32), 4, axis=0)
    figures = correspondence.avc(FakeModel(), pairs(clip, clip), seed=0)
    assert figures["2AFC other clip"] == 100
    assert figures["2AFC same clip"] == 50


def test_pairs_are_read_anew_and_are_the_same(shards):
    pairs = load_pairs(listener(), shards, per_clip=3, seed=0)
    first, again = list(pairs), list(pairs)
    assert len(first) == 18
    for (frames, samples, clip), (same_frames, same_samples, _) in zip(first, again, strict=True):
        assert frames.shape == (1, 16, 16, 3) and samples.shape == (24_000, 1)
        assert f"clip{clip_of_picture(frames)}" == f"clip{clip_of_sound(samples)}" == clip.key
        assert np.array_equal(frames, same_frames) and np.array_equal(samples, same_samples)


@pytest.fixture
def fast_shards(tmp_path):
    """Write two clips of tones with 25 frames per second."""
    write_tones(tmp_path / "fast" / "0.tar", range(2), frames=100)
    return tmp_path / "fast"


def test_a_network_of_25_frames_and_stereo_is_given_its_clips(fast_shards):
    model = MovingNet().eval()
    pairs = load_pairs(model, fast_shards, per_clip=2, seed=0)
    represented = correspondence.represent(model, pairs)
    assert represented.frames.shape == represented.audio.shape == (4, 4)
    assert represented.video.tolist() == [0, 0, 1, 1]
    for frames, samples, _ in pairs:
        assert frames.shape == (25, 32, 32, 3) and samples.shape == (16_000, 2)
        greens = np.round(frames[..., 1].mean(axis=(1, 2)) * 255).astype(int)
        assert set(np.diff(greens) % 256) <= {3, 4, 5, 6, 7}  # one frame after the other, but for JPEG's rounding
    assert 0 <= correspondence.avc(model, represented, seed=0)["AUC"] <= 100
    ranks = correspondence.retrieval(model, represented, seed=0, size=2, draws=3)
    assert ranks["mean R@5"] == 100  # of two candidates


def test_frames_too_far_apart_for_a_network_are_refused(shards):
    with pytest.raises(ValueError, match="with 1 s of sound and 25 frames at 25 a second around a frame"):
        load_pairs(MovingNet(), shards, per_clip=2, seed=0)


def test_a_network_that_compares_nothing_is_named(shards):
    class Deaf(AudioVisualModel):
        pass

    pairs = load_pairs(listener(), shards, per_clip=1, seed=0)
    with pytest.raises(ValueError, match="Deaf doesn't compare sounds with pictures"):
        correspondence.represent(Deaf(None, None, {}), pairs)
    with pytest.raises(ValueError, match="Deaf doesn't compare sounds with pictures"):
        load_pairs(Deaf(None, None, {}), shards, per_clip=1, seed=0)


def test_the_untrained_network_differs_from_seed_to_seed_and_repeats():
    model = build_model(TINY)
    model.architecture = TINY
    first, again, other = (untrained(model, seed) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.audio_tower.layers[0].weight, other.audio_tower.layers[0].weight)
    assert not first.training


def test_avc_is_printed_beside_untrained_and_chance_and_written_as_json(weights, shards, tmp_path):
    command = ("avc", "--model", weights, "--data", shards, "--json", tmp_path / "avc.json")
    result = evaluate(*command)
    assert result.exit_code == 0, result.output
    assert "untrained" in result.output
    assert "chance" in result.output
    figures = json.loads((tmp_path / "avc.json").read_text())
    assert {metric["name"] for metric in figures["metrics"]} >= {"AVC threshold", "AVC AUC"}
    assert figures["chance"]["AUC"] == 50
    assert evaluate("retrieval", *command[1:]).exit_code != 0  # six videos are no 100


@pytest.mark.parametrize(("amplitude", "seconds"), [(0.001, 2), (0.1, 0.5)])
def test_shards_without_a_moment_that_is_loud_and_long_enough_are_refused(weights, tmp_path, amplitude, seconds):
    frame = cv2.imencode(".jpg", np.full((16, 16, 3), 128, np.uint8))[1].tobytes()
    sound = amplitude * np.random.default_rng(0).uniform(-1, 1, int(24_000 * seconds))
    (tmp_path / "held").mkdir()
    with webdataset.TarWriter(str(tmp_path / "held" / "0.tar")) as writer:
        writer.write(encode_clip("clip", sound, 24_000, [frame], [seconds / 2], {}))
    with pytest.raises(ValueError, match=r"no moment of .*held is above -42 dBFS, with 1 s of sound around a frame"):
        load_pairs(load_model(weights), tmp_path / "held", per_clip=2, seed=0)
