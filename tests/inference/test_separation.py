"""Sound separated at any length: no seams, no chunks to be seen, levels kept, sides hidden, and what is refused."""

import io

import numpy as np
import pytest
import torch
from separating import SMALL, ByBrightness
from videos import RATE, noise, write_video

import openavc
from openavc.inference import separation
from openavc.media.windows import Overlap
from openavc.models import SeparationNet
from openavc.weights import build_model
from training.checkpoint import save_weights

ARCHITECTURE = {"architecture": "separation", **SMALL}


def filmed(path, seconds, picture=255, rate=25, sound=True):
    """Write a video of one picture, or of those that a function of the time gives, with stereo noise."""
    times = np.arange(round(seconds * rate)) / rate
    shades = [picture(time) if callable(picture) else picture for time in times]
    pictures = [np.broadcast_to(np.asarray(shade, np.uint8), (32, 32, 3)) for shade in shades]
    samples = np.stack([noise(round(seconds * RATE), seed) for seed in (0, 1)], axis=1) if sound else None
    write_video(path, times, pictures=pictures, sound=samples, pixels="bgr0")
    return samples


@pytest.mark.parametrize("samples", [1, 999, 1000, 5000, 8191])
@pytest.mark.parametrize(("length", "edge"), [(1000, 0), (1000, 17), (501, 20)])
def test_windows_that_are_put_together_are_the_signal(samples, length, edge):
    overlap, signal = Overlap(length, edge), np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32)
    around = np.pad(signal, ((2 * length, 2 * length), (0, 0)))
    starts = [overlap.start(number) for number in range(overlap.count(samples))]
    windows = [around[start + 2 * length :][:length].copy() for start in starts]
    for window in windows:
        window[:edge], window[length - edge :] = 1e6, 1e6
    joined = np.concatenate(list(overlap.joined(windows, lambda: samples)))
    np.testing.assert_allclose(joined, signal, atol=1e-6)
    assert starts[0] <= -overlap.hop and starts[-1] + length - edge >= samples


@pytest.mark.parametrize("seconds", [0.2, 0.5, 3.3])
def test_what_is_all_on_screen_is_the_sound_itself(seconds, tmp_path):
    sound = filmed(tmp_path / "clip.mkv", seconds)
    found = openavc.separate_sources(tmp_path / "clip.mkv", ByBrightness())
    assert found.sample_rate == RATE
    assert found.on_screen.dtype == found.off_screen.dtype == np.float32
    np.testing.assert_allclose(found.on_screen, sound.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found.off_screen, np.zeros(len(sound)), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_results_do_not_depend_on_the_batch(batch, tmp_path, monkeypatch):
    filmed(tmp_path / "clip.mkv", 3, lambda time: 40 + 60 * int(time))
    usual = openavc.separate_sources(tmp_path / "clip.mkv", ByBrightness())
    monkeypatch.setattr(separation, "BATCH_SIZE", batch)
    model = ByBrightness()
    other = openavc.separate_sources(tmp_path / "clip.mkv", model)
    assert max(model.batches) == min(batch, sum(model.batches))
    np.testing.assert_allclose(other.on_screen, usual.on_screen, atol=1e-6)


def test_a_part_of_a_long_video_is_the_same_in_a_shorter_one(tmp_path):
    for seconds in (2, 4):
        filmed(tmp_path / f"{seconds}.mkv", seconds, lambda time: 100 + 30 * int(time))
    short, long = (openavc.separate_sources(tmp_path / f"{seconds}.mkv", ByBrightness()) for seconds in (2, 4))
    kept = round(1.4 * RATE)  # what lies behind has other frames and other noise in its windows
    np.testing.assert_allclose(short.on_screen[:kept], long.on_screen[:kept], atol=1e-6)


def test_frames_are_those_that_are_shown_meanwhile(tmp_path):
    """Black for 2 s and then white: halfway through a window at the border, half of the sound is on screen."""
    sound = filmed(tmp_path / "clip.mkv", 4, lambda time: 255 * (time >= 2)).mean(axis=1)
    model = ByBrightness()
    found = openavc.separate_sources(tmp_path / "clip.mkv", model)
    before, after = round(1.5 * RATE), round(2.5 * RATE)
    np.testing.assert_allclose(found.on_screen[:before], 0 * sound[:before], atol=1e-6)
    np.testing.assert_allclose(found.on_screen[after:], sound[after:], atol=1e-6)
    np.testing.assert_allclose(found.on_screen + found.off_screen, sound, atol=1e-6)


@pytest.mark.parametrize(("side", "share"), [("left", 1.0), ("right", 0.0), (None, 0.5)])
def test_one_side_of_the_picture_is_seen_alone(side, share, tmp_path):
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, :16] = 255
    sound = filmed(tmp_path / "clip.mkv", 1, halves).mean(axis=1)
    found = openavc.separate_sources(tmp_path / "clip.mkv", ByBrightness(), side=side)
    np.testing.assert_allclose(found.on_screen, share * sound, atol=0.01)


def test_a_network_of_the_paper_separates_at_the_level_of_the_mixture(tmp_path):
    torch.manual_seed(0)
    model = SeparationNet(**{key: value for key, value in ARCHITECTURE.items() if key != "architecture"}).eval()
    filmed(tmp_path / "loud.mkv", 1)
    samples = np.stack([noise(RATE, seed) for seed in (0, 1)], axis=1) / 4
    write_video(
        tmp_path / "quiet.mkv",
        np.arange(25) / 25,
        pictures=[np.full((32, 32, 3), 255, np.uint8)] * 25,
        sound=samples,
        pixels="bgr0",
    )
    loud, quiet = (openavc.separate_sources(tmp_path / f"{name}.mkv", model) for name in ("loud", "quiet"))
    assert len(loud.on_screen) == RATE and np.abs(loud.on_screen).max() > 1e-3
    np.testing.assert_allclose(quiet.on_screen, loud.on_screen / 4, atol=0.01 * np.abs(loud.on_screen).max())


def test_weights_files_and_file_objects_are_taken(tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / "small.safetensors", build_model(ARCHITECTURE), ARCHITECTURE)
    filmed(tmp_path / "clip.mkv", 1)
    found = openavc.separate_sources(tmp_path / "clip.mkv", tmp_path / "small.safetensors")
    other = openavc.separate_sources(io.BytesIO((tmp_path / "clip.mkv").read_bytes()), tmp_path / "small.safetensors")
    assert found.sample_rate == 8000
    np.testing.assert_array_equal(found.on_screen, other.on_screen)


def test_silence_stays_silent(tmp_path):
    torch.manual_seed(0)
    model = SeparationNet(**{key: value for key, value in ARCHITECTURE.items() if key != "architecture"}).eval()
    white = [np.full((32, 32, 3), 255, np.uint8)] * 25
    write_video(tmp_path / "clip.mkv", np.arange(25) / 25, pictures=white, sound=np.zeros(RATE), pixels="bgr0")
    found = openavc.separate_sources(tmp_path / "clip.mkv", model)
    assert not found.on_screen.any() and not found.off_screen.any()


def test_what_cannot_be_separated_is_refused(tmp_path, model):
    filmed(tmp_path / "silent.mkv", 1, sound=False)
    filmed(tmp_path / "clip.mkv", 1)
    with pytest.raises(OSError, match=r"silent\.mkv holds no sound"):
        openavc.separate_sources(tmp_path / "silent.mkv", ByBrightness())
    with pytest.raises(FileNotFoundError, match=r"gone\.mkv"):
        openavc.separate_sources(tmp_path / "gone.mkv", ByBrightness())
    with pytest.raises(ValueError, match="tiny can't separate sounds"):
        openavc.separate_sources(tmp_path / "clip.mkv", model)
    with pytest.raises(ValueError, match="side must be 'left' or 'right', or None for both, got 'up'"):
        openavc.separate_sources(tmp_path / "clip.mkv", ByBrightness(), side="up")
    with pytest.raises(TypeError, match="video must be a path"):
        openavc.separate_sources(np.zeros(10), ByBrightness())
