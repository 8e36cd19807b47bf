"""Scores of sounds and pictures against a model whose answers are known."""

import numpy as np
import pytest
import torch
from fake_model import FakeModel
from videos import write_video

import openavc
from openavc.inference.scores import probabilities
from openavc.models.contract import FramesInput, SoundInput


class Loudness(FakeModel):
    """Says that sound and picture correspond if loudness equals brightness: logit 4 - 8 |difference|."""

    def __init__(self, seconds=1.0):
        super().__init__(
            sound=SoundInput(100, seconds),
            frames=FramesInput(8, 8),
            hears=lambda samples: samples.abs().amax(dim=1),
            sees=lambda frames: frames.mean(dim=(1, 2, 3, 4))[:, None],
        )

    def compare(self, frames, audio):
        logit = 4 - 8 * (frames - audio).abs()
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def probability(loudness, brightness):
    return 1 / (1 + np.exp(-(4 - 8 * abs(loudness - brightness))))


def sound(level, seconds=1.0):
    return np.full(round(100 * seconds), level, dtype=np.float32)


def picture(level):
    return np.full((8, 8, 3), level, dtype=np.float32)


def test_one_pair_gives_a_float():
    score = openavc.correspondence_score(sound(0.5), 100, picture(0.75), Loudness())
    assert type(score) is float
    assert score == pytest.approx(probability(0.5, 0.75), abs=1e-5)


def test_one_sound_with_several_pictures_gives_a_score_each():
    scores = openavc.correspondence_score(sound(0.5), 100, np.stack([picture(0.5), picture(0.0)]), Loudness())
    np.testing.assert_allclose(scores, [probability(0.5, 0.5), probability(0.5, 0)], atol=1e-5)


def test_lists_are_paired_in_order():
    levels = [0.2, 0.5, 0.9]
    scores = openavc.correspondence_score(
        [sound(level) for level in levels], 100, [picture(level) for level in reversed(levels)], Loudness()
    )
    np.testing.assert_allclose(
        scores, [probability(a, b) for a, b in zip(levels, levels[::-1], strict=True)], atol=1e-5
    )


def test_a_long_sound_gets_the_mean_over_half_overlapping_windows():
    waveform = np.concatenate([sound(0.2), sound(0.8)])  # windows at 0, 0.5 and 1 s
    score = openavc.correspondence_score(waveform, 100, picture(0.2), Loudness())
    expected = np.mean([probability(0.2, 0.2), probability(0.8, 0.2), probability(0.8, 0.2)])
    assert score == pytest.approx(expected, abs=1e-5)


def test_the_matrix_holds_the_score_of_every_pair():
    sounds, pictures = [sound(0.2), sound(0.9, 2.5)], [picture(level) for level in (0.1, 0.5, 1.0)]
    matrix = openavc.correspondence_matrix(sounds, 100, pictures, Loudness())
    assert matrix.shape == (2, 3)
    for i, waveform in enumerate(sounds):
        for j, image in enumerate(pictures):
            assert matrix[i, j] == pytest.approx(
                openavc.correspondence_score(waveform, 100, image, Loudness()), abs=1e-6
            )


def test_numbers_of_sounds_and_pictures_must_agree():
    with pytest.raises(ValueError, match="2 recordings can't be paired with 3 pictures"):
        openavc.correspondence_score([sound(0.5)] * 2, 100, [picture(0.5)] * 3, Loudness())


def test_scores_are_probabilities_of_the_models_own_decision(model):
    torch.manual_seed(0)
    waveform, image = (
        np.random.default_rng(0).uniform(-1, 1, 24_000).astype(np.float32),
        np.zeros((73, 73, 3), np.float32),
    )
    with torch.no_grad():
        spectrogram = model.prepare_audio(torch.from_numpy(waveform)[None, :, None])
        prepared = model.prepare_frames(torch.zeros(1, 1, 64, 64, 3))
        expected = model(prepared, spectrogram).softmax(dim=1)[0, 1].item()
    assert openavc.correspondence_score(waveform, 24_000, image, model) == pytest.approx(expected, abs=1e-5)


def test_probabilities_are_those_of_each_row():
    frames, audio = torch.tensor([[0.2], [0.5], [1.0]]), torch.tensor([[0.2], [0.9], [0.5]])
    expected = [probability(a, b) for a, b in zip(audio[:, 0].tolist(), frames[:, 0].tolist(), strict=True)]
    np.testing.assert_allclose(probabilities(Loudness(), frames, audio), expected, atol=1e-6)


def test_a_video_is_scored_at_its_frames(tmp_path):
    """The sound grows louder from frame to frame, while the pictures grow brighter or darker."""
    times, levels = np.arange(8) / 2, np.array([10, 40, 80, 200, 160, 120, 240, 20])  # of grey
    pictures = [np.full((32, 32, 3), level, np.uint8) for level in levels]
    loudness = np.repeat(np.linspace(0.1, 0.8, 8), 50)  # in steps at 0.5 s, the first of 0.25 s
    path = write_video(
        tmp_path / "a.mkv", times, sound=loudness[25:], rate=100, pictures=pictures, codec="ffv1", pixels="bgr0"
    )
    scores, timestamps = openavc.video_scores(path, Loudness(seconds=0.4), frame_rate=2)
    np.testing.assert_allclose(timestamps, times, atol=1e-3)
    assert (scores.dtype, timestamps.dtype) == (np.float32, np.float64)
    expected = [probability(a, b / 255) for a, b in zip(np.linspace(0.1, 0.8, 8), levels, strict=True)]
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    seldom, _ = openavc.video_scores(path, Loudness(seconds=0.4))
    np.testing.assert_allclose(seldom, scores[::2], atol=1e-6)
