"""Spectrograms by hand, and modules that move with the model but keep their precision."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from videos import noise, tone

from openavc.models import AVENet, OpenL3Net
from openavc.models.frontends import (
    EDGEL3_FRONTENDS,
    FRONTENDS,
    OPENL3_FRONTENDS,
    build_frontend,
    mel_filter_bank,
    openl3_frontend,
    stft_power,
)


@pytest.mark.parametrize("window, hop, n_fft", [(480, 240, 512), (1024, 300, 1024), (7, 3, 8)])
def test_stft_is_the_fourier_sum_of_each_hann_windowed_frame(window, hop, n_fft):
    waveforms = noise(2 * 3_000).reshape(2, 3_000).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)  # periodic
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(window)) / n_fft)
    starts = range(0, 3_000 - window + 1, hop)
    expected = [[np.abs(fourier @ (hann * waveform[s : s + window])) ** 2 for s in starts] for waveform in waveforms]
    power = stft_power(torch.from_numpy(waveforms), torch.from_numpy(hann), hop, n_fft)
    np.testing.assert_allclose(power, np.array(expected).transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("frontend", "length"),
    [
        (build_frontend("linear257"), 480),  # 10 ms
        (build_frontend("mel64"), 1024),
        (openl3_frontend("linear", "librosa"), 512),
        (openl3_frontend("mel128", "librosa"), 2048),
    ],
    ids=["linear257", "mel64", "OpenL3 linear", "OpenL3 mel128"],
)
def test_windows_are_periodic_hann_windows(frontend, length):
    expected = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    np.testing.assert_allclose(frontend.window, expected, atol=1e-6)


@pytest.mark.parametrize("name, samples, shape", [("linear257", 48_000, (257, 199)), ("mel64", 24_000, (64, 77))])
def test_one_second_gives_the_shape_of_the_papers_and_silence_stays_finite(name, samples, shape):
    frontend = build_frontend(name)
    assert (frontend.sample_rate * frontend.seconds, frontend.shape) == (samples, shape)
    spectrogram = frontend(torch.zeros(3, samples))
    assert spectrogram.shape == (3, *shape)
    assert spectrogram.isfinite().all()


def test_linear257_of_a_full_scale_sine_is_the_log_of_half_the_window_sum():
    sine = np.sin(2 * np.pi * 64 * 48_000 / 512 * np.arange(48_000) / 48_000)  # in the middle of bin 64
    spectrogram = build_frontend("linear257")(torch.from_numpy(sine).float()[None])[0]
    assert set(spectrogram.argmax(dim=0).tolist()) == {64}
    np.testing.assert_allclose(spectrogram[64], math.log(480 / 2 / 2), atol=1e-3)  # a Hann window's sum is half


def test_linear257_scaled_is_a_fifth():
    waveforms = torch.from_numpy(noise(48_000))[None]
    plain, scaled = (build_frontend(name)(waveforms) for name in ("linear257", "linear257-scaled"))
    torch.testing.assert_close(scaled * 5, plain)


def htk_centres(bands, low, high):
    """Return centre frequencies in Hz by the HTK book, equation 5.13: mel = 2595 log10(1 + f / 700)."""
    mels = [2595 * math.log10(1 + f / 700) for f in (low, high)]
    return 700 * (10 ** (np.linspace(*mels, bands + 2)[1:-1] / 2595) - 1)


def test_mel_filters_peak_at_the_centres_of_the_htk_scale_and_add_up_to_one_between_them():
    filters = mel_filter_bank(24_000, 4096, 64, 50.0, 12_000.0)
    frequencies = np.arange(2049) * 24_000 / 4096
    centres = htk_centres(64, 50, 12_000)
    assert filters.shape == (64, 2049)
    assert filters.min() == 0
    assert filters.max() <= 1
    np.testing.assert_allclose(frequencies[filters.argmax(axis=1)], centres, atol=24_000 / 4096)
    between = (frequencies > centres[0]) & (frequencies < centres[-1])
    np.testing.assert_allclose(filters.sum(axis=0)[between], 1, atol=1e-5)
    np.testing.assert_array_equal(filters[:, frequencies < 50], 0)


@pytest.mark.parametrize("band", [3, 10, 25, 40, 60])
def test_a_pure_tone_is_loudest_in_its_mel_band(band):
    waveform = tone(htk_centres(64, 50, 12_000)[band], 1, 24_000)
    spectrogram = build_frontend("mel64")(torch.from_numpy(waveform)[None])[0]
    assert set(spectrogram[:, 2:-2].argmax(dim=0).tolist()) == {band}  # the ends hear the tone begin and stop


@pytest.mark.parametrize("frame", [0, 1, 40, 76])
def test_mel64_hears_a_click_in_the_frame_of_its_time(frame):
    waveform = torch.zeros(1, 24_000)
    waveform[0, frame * 300 + 512] = 1  # the middle of the 1024 samples of the frame
    spectrogram = build_frontend("mel64")(waveform)[0]
    assert spectrogram.mean(dim=0).argmax() == frame
    if 0 < frame < 76:
        torch.testing.assert_close(spectrogram[:, frame - 1], spectrogram[:, frame + 1])  # as near to both


def test_mel64_is_the_scaled_log_of_triangles_over_the_power_of_each_frame():
    waveform = noise(24_000).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = [np.abs(np.fft.rfft(hann * waveform[s : s + 1024])) ** 2 for s in range(0, 24_000 - 1023, 300)]
    frequencies = np.arange(513) * 24_000 / 1024
    edges = [50, *htk_centres(64, 50, 12_000), 12_000]
    triangles = [np.interp(frequencies, edges[k : k + 3], [0, 1, 0], 0, 0) for k in range(64)]
    expected = (np.log(np.array(triangles) @ np.array(power).T + 1e-4) - 1) / 4
    spectrogram = build_frontend("mel64")(torch.from_numpy(waveform).float()[None])[0]
    np.testing.assert_allclose(spectrogram, expected, atol=1e-4)


@pytest.mark.parametrize("name", list(FRONTENDS))
def test_the_spectrogram_of_a_window_is_a_slice_of_that_of_the_recording(name):
    frontend = build_frontend(name)
    recording = torch.from_numpy(noise(frontend.sample_rate * 5 // 2))[None]
    whole = frontend(recording)
    for first in (0, 1, 44, 100):  # frames
        window = recording[:, first * frontend.hop_samples :][:, : frontend.sample_rate]
        frames = frontend.shape[1]
        torch.testing.assert_close(frontend(window), whole[:, :, first : first + frames], rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------- modules


EVERY_FRONTEND = [  # how it is built, and its precision
    *(pytest.param(partial(build_frontend, name), torch.float32, id=name) for name in FRONTENDS),
    *(
        pytest.param(partial(openl3_frontend, input_repr, variant), torch.float64, id=f"{input_repr} {variant}")
        for input_repr, variants in (OPENL3_FRONTENDS | EDGEL3_FRONTENDS).items()
        for variant in variants
    ),
]


@pytest.mark.parametrize(("build", "precision"), EVERY_FRONTEND)
def test_a_frontend_states_what_it_gives_and_holds_no_weights(build, precision):
    frontend = build()
    samples = round(frontend.sample_rate * frontend.seconds)
    spectrogram = frontend(torch.zeros(2, samples))
    assert spectrogram.shape == (2, *frontend.shape)
    assert spectrogram.dtype == torch.float32
    assert frontend.dtype == str(precision).removeprefix("torch.")
    assert not frontend.state_dict()
    assert not list(frontend.parameters())
    assert {buffer.dtype for buffer in frontend.buffers()} == {precision}


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double", "float"])
@pytest.mark.parametrize(("build", "precision"), EVERY_FRONTEND)
def test_a_frontend_keeps_its_precision_whatever_the_models(build, precision, convert):
    frontend = build()
    sound = torch.from_numpy(noise(frontend.sample_rate))[None]
    expected = frontend(sound)
    network = getattr(torch.nn.Sequential(torch.nn.Linear(2, 2), frontend), convert)()
    assert {buffer.dtype for buffer in network[1].buffers()} == {precision}
    torch.testing.assert_close(network[1](sound), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("build", "precision"), EVERY_FRONTEND)
def test_a_frontend_moves_with_the_model_even_while_that_is_halved(build, precision):
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), build()).to(device="meta", dtype=torch.bfloat16)
    assert network[0].weight.dtype == torch.bfloat16
    assert {(buffer.device.type, buffer.dtype) for buffer in network.buffers()} == {("meta", precision)}


@pytest.mark.parametrize("network", [AVENet, OpenL3Net])
def test_weights_hold_no_frontend(network):
    with torch.device("meta"):
        model = network(widths=(4, 4, 4, 4))
    assert not [name for name in model.state_dict() if name.startswith("frontend")]
    assert [name for name, _ in model.named_buffers() if name.startswith("frontend")]
