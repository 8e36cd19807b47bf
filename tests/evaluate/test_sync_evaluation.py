"""The evaluation of sync, on stored clips of flashes and bursts, by a network that tells whether they come together."""

import json
import math

import numpy as np
import pytest
import webdataset
from click.testing import CliRunner
from flashes import FRAME_RATE, RATE, FlashNet, bursts, events
from tones import jpeg

from openavc.weights import build_model, load_model
from training.checkpoint import save_weights
from training.corpora.shards import Shards, encode_clip
from training.evaluate.__main__ import main
from training.evaluate.datasets.shifted import Shifted, motion
from training.evaluate.metrics.sync import (
    ask,
    calibrate,
    correlated,
    halves,
    known_shifts,
    recovered,
    simple_guesses,
    two_way,
)

CLIPS = 6
MODEL = FlashNet()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write clips of 8 s, each with its own flashes."""
    path = tmp_path_factory.mktemp("flashes")
    with webdataset.TarWriter(str(path / "0.tar")) as writer:
        for number in range(CLIPS):
            flashing = events(8, seed=number)
            frames = [jpeg(np.full((24, 32, 3), 220 if flash else 30, np.uint8)) for flash in flashing]
            times = [k / FRAME_RATE for k in range(len(flashing))]
            writer.write(encode_clip(f"clip{number}", bursts(flashing, seed=number), RATE, frames, times, {}))
    return path


@pytest.fixture(scope="module")
def shards(folder):
    return Shards(folder)


@pytest.fixture(scope="module")
def answers(shards):
    return ask(MODEL, known_shifts(shards, MODEL, 0.5, seed=0), 1.0)


def test_each_clip_is_asked_with_its_own_sound_shifted_and_with_anothers(shards):
    shifted = known_shifts(shards, MODEL, 0.5, seed=0)
    own, foreign = shifted[::2], shifted[1::2]
    assert [clip.clip.key for clip in own] == [clip.sound.key for clip in own]
    assert all(clip.clip.key != clip.sound.key for clip in foreign)
    assert all(-0.5 <= clip.shift <= 0.5 for clip in own)
    assert len({clip.shift for clip in own}) == CLIPS
    assert [clip.shift for clip in known_shifts(shards, MODEL, 0.5, seed=0)] == [clip.shift for clip in shifted]


def test_clips_that_are_too_short_are_left_out(folder, tmp_path):
    with webdataset.TarWriter(str(tmp_path / "short.tar")) as writer:
        frames = [jpeg(np.zeros((24, 32, 3), np.uint8))] * 10
        writer.write(encode_clip("short", np.zeros(3200), RATE, frames, [k / FRAME_RATE for k in range(10)], {}))
    both = Shards(folder, tmp_path)
    assert "short" not in {clip.clip.key for clip in known_shifts(both, MODEL, 0.5, seed=0)}
    with pytest.raises(ValueError, match="none of the 1 clips has 32 frames at 25 a second, as flash-net takes them"):
        known_shifts(Shards(tmp_path), MODEL, 0.5, seed=0)


def test_a_shifted_sound_begins_later(shards):
    clip = shards.clips[0]
    plain, late = (list(Shifted(shards, clip, clip, shift).stretches(MODEL)) for shift in (0.0, 0.25))
    assert [stretch.start for stretch in late] == [RATE // 4] * len(plain)
    np.testing.assert_array_equal(plain[0].samples, late[0].samples)
    assert np.diff([stretch.time for stretch in plain]) == pytest.approx(0.64)


def test_known_shifts_are_recovered_and_foreign_sounds_recognised(answers):
    figures = recovered(answers, 1.0, seed=0)
    assert figures["median error, s"] < 0.03
    for key in ("within 0.2 s", "told", "sure (0.8)", "of these within 0.1 s", "foreign: can't tell"):
        assert figures[key].mean == 100, key


def test_a_network_that_says_much_and_nothing_true_is_given_little_weight(shards, answers):
    assert calibrate(answers) > 0.1
    noisy = ask(MODEL, known_shifts(shards, MODEL, 0.5, seed=1), 1.0)
    rng = np.random.default_rng(0)
    for answer in noisy:
        for block in answer.blocks:
            block.logits = rng.normal(0, 50, len(block.logits))
    assert calibrate(noisy) == pytest.approx(0.01)
    assert recovered(noisy, 1.0, seed=0)["of these within 0.1 s"].mean < 50


def test_halves_share_no_place(answers):
    first, second = ({answer.shifted.clip.place for answer in half} for half in halves(answers))
    assert not first & second
    assert len(first) == len(second) == CLIPS / 2


def test_simple_guesses_are_measured_on_the_same_clips(answers):
    half, _ = halves(answers)
    late = [abs(answer.shifted.shift) for answer in half if not answer.foreign]
    guesses = simple_guesses(half, MODEL, seed=0)
    assert guesses["zero"]["median error, s"] == pytest.approx(np.median(late))
    assert guesses["loudness and motion"]["median error, s"] < 0.1


def test_the_two_way_test_is_won_by_a_network_that_sees_and_hears(shards):
    decided, preferred = two_way(MODEL, shards, 0.5, seed=0)
    assert preferred.mean > 95
    assert decided.mean > 90
    with pytest.raises(ValueError, match="no clip has loud sound at two times at least 100 s apart"):
        two_way(MODEL, shards, 100.0, seed=0)


def test_loudness_and_motion_are_correlated(shards, answers):
    clip = shards.clips[0]
    times, changes = motion(shards, clip)
    flashing = events(8, seed=0)
    np.testing.assert_allclose(times, (np.arange(len(flashing) - 1) + 0.5) / FRAME_RATE, atol=1e-6)
    np.testing.assert_array_equal(changes > 0.1, flashing[1:] != flashing[:-1])
    guess = correlated(Shifted(shards, clip, clip, 0.3), MODEL, answers[0].offsets)
    assert guess == pytest.approx(0.3, abs=0.1)


def test_the_command_prints_tables_and_writes_figures(folder, tmp_path):
    architecture = {"architecture": "multisensory", "widths": [4, 4, 8, 8], "image_size": 16, "frames": 32}
    architecture |= {"frame_rate": FRAME_RATE, "sample_rate": RATE}
    save_weights(tmp_path / "weights.safetensors", build_model(architecture), architecture)
    weights, figures, calibrated = (tmp_path / name for name in ("weights.safetensors", "f.json", "c.safetensors"))
    options = ["--max-offset", "0.2", "--shift", "0.1", "--json", str(figures), "--calibrate", str(calibrated)]
    result = CliRunner().invoke(main, ["sync", "--model", str(weights), "--data", str(folder), *options])
    assert result.exit_code == 0, result.output
    for words in (
        "two-way, 0.5 s or more",
        "untrained",
        "loudness and motion",
        "weight of evidence",
        "shifts of up to",
    ):
        assert words in result.output
    written = json.loads(figures.read_text())
    assert {f"sync ({folder.name}) {key}" for key in ("trained 2AFC", "zero median error, s", "weights told")} <= {
        metric["name"] for metric in written["metrics"]
    }
    assert all(math.isfinite(metric["value"]) for metric in written["metrics"])
    assert load_model(calibrated).evidence == written["evidence"]
