"""Loudness in dBFS, of a stretch and of the windows in it."""

import numpy as np
import pytest

from openavc.media.loudness import loudness, windows_loudness

RATE = 8_000  # Hz


@pytest.mark.parametrize("channels", [1, 2])
def test_windows_are_as_loud_as_each_by_itself(channels):
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(4 * RATE, channels)) * np.repeat([1e-4, 0.3, 1e-2, 0.1], RATE)[:, None]
    starts = [0, 100, RATE, 2 * RATE + 1, 3 * RATE]
    expected = [loudness(samples[start : start + RATE]) for start in starts]
    np.testing.assert_allclose(windows_loudness(samples.astype(np.float32), starts, RATE), expected, atol=1e-3)


def test_a_sine_is_three_decibels_below_its_peak_and_silence_is_far_below_everything():
    sine = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    assert loudness(sine) == pytest.approx(-3.01, abs=0.01)
    assert loudness(np.zeros(RATE)) == pytest.approx(-200)
    silent_end = np.concatenate([sine, np.zeros(2 * RATE)])[:, None]
    assert (windows_loudness(silent_end, [RATE, 2 * RATE], RATE) < -120).all()
