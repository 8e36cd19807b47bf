"""Sound input: what comes out of files and arrays, resampy's numbers, spectrograms by hand."""

import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import resampy
import soundfile
import torch

from openavc.audio import (
    FRONTENDS,
    count_windows,
    mel_filter_bank,
    read_audio,
    resample,
    resample_blocks,
    stft_power,
    to_waveform,
    window_start,
)

ROOT = Path(__file__).parents[1]


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def tone(hertz, seconds, rate):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest_frequency(waveform, rate):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return spectrum.argmax() * rate / len(waveform)


def write_sound(path, waveform, rate, codec, starts=(0,), channels="mono", container=None, picture=False):
    """Encode one stretch of sound at each of `starts` (seconds); `picture` adds one frame at 0 s."""
    with av.open(str(path), "w", format=container) as file:
        video = file.add_stream("ffv1", rate=25, width=32, height=32, pix_fmt="yuv420p") if picture else None
        stream = file.add_stream(codec, rate=rate, layout=channels)
        if video:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = 0
            file.mux([*video.encode(frame), *video.encode()])
        kind = {"fltp": "flt", "s32p": "s32"}.get(stream.format.name, "s16")  # PyAV makes of it what the codec takes
        samples = np.repeat(waveform, stream.layout.nb_channels)[None]
        if kind != "flt":
            samples = np.round(samples * 2.0 ** (int(kind[1:]) - 1)).astype(f"int{kind[1:]}")
        for start in starts:
            frame = av.AudioFrame.from_ndarray(samples, kind, channels)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


# ---------------------------------------------------------------------------------------------------- resampling


@pytest.mark.parametrize(
    "source, target",
    [
        (44_100, 24_000),
        (48_000, 24_000),
        (44_100, 48_000),
        (8_000, 24_000),
        (192_000, 48_000),
        (44_056, 24_000),
        (48_000, 1_000),
        (11_025, 48_000),
        (37, 24_000),
        (24_000, 24_000),
    ],
)
@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("float64", 1e-10)])
def test_resampling_gives_the_numbers_of_resampy(source, target, dtype, rounding):
    waveform = noise(source * 13 // 10 + 7).astype(dtype)
    expected = resampy.resample(waveform, source, target, filter="kaiser_best")
    found = resample(waveform, source, target)
    assert found.dtype == dtype
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=rounding)


@pytest.mark.parametrize(
    "source, target, lengths",
    [(1_000, 1_600, [1]), (44_100, 24_000, [441, 1, 99_991, 17_000]), (44_056, 24_000, [50_000]), (50, 80, [7])],
)
def test_resampling_block_by_block_gives_the_whole(source, target, lengths):
    waveform = noise(source * 10 + 3)
    cuts = np.cumsum(np.resize(lengths, len(waveform)))
    blocks = np.split(waveform, cuts[cuts < len(waveform)])
    found = list(resample_blocks(blocks, source, target))
    assert len(found) > 1  # it doesn't wait for the end
    expected = resampy.resample(waveform, source, target, filter="kaiser_best")
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 3, 44_099, 44_100, 44_101, 100_003])
@pytest.mark.parametrize("source, target", [(44_100, 24_000), (24_000, 44_100), (44_100, 44_100)])
def test_resampled_length_is_the_floor_of_the_ratio_and_at_least_one(samples, source, target):
    assert len(resample(np.zeros(samples, np.float32), source, target)) == max(1, samples * target // source)


# -------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "samples, expected",
    [
        (np.array([-32768, 0, 16384, 32767], np.int16), [-1, 0, 0.5, 32767 / 32768]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-128, 0, 64], np.int8), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([0, 32768, 49152], np.uint16), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.25]), [-1, 0, 0.25]),
        (np.array([-1, 0, 0.25], np.float16), [-1, 0, 0.25]),
        (np.array([-1, 0, 0.25], ">f4"), [-1, 0, 0.25]),
        (np.array([0.25, 0, -1], np.float32)[::-1], [-1, 0, 0.25]),
        (torch.tensor([-32768, 16384], dtype=torch.int16), [-1, 0.5]),
        (torch.tensor([0, 192], dtype=torch.uint8), [-1, 0.5]),
        (torch.tensor([-1, 0.25], dtype=torch.bfloat16), [-1, 0.25]),
        (torch.tensor([-1, 0.25], dtype=torch.float64, requires_grad=True), [-1, 0.25]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_integers_are_scaled_by_the_range_of_their_type_and_floats_are_kept(samples, expected):
    waveform = to_waveform(samples)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, expected, rtol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_channels_are_averaged(convert):
    stereo = np.array([[0, 16384], [-32768, 0], [8192, 8192]], np.int16)
    np.testing.assert_array_equal(to_waveform(convert(stereo)), [0.25, -0.5, 0.25])


@pytest.mark.parametrize("shape", [(2, 44_100), (1, 44_100), (2, 3), (6, 7)])
def test_channels_first_are_refused_with_the_transpose_as_a_hint(shape):
    for samples in (np.zeros(shape, np.float32), torch.zeros(shape)):
        with pytest.raises(ValueError, match=r"audio\.T") as caught:
            to_waveform(samples)
        assert str(shape) in str(caught.value)


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name, rate, subtype", [("a.wav", 44_100, "PCM_16"), ("a.flac", 8_000, "PCM_16")])
def test_lossless_sound_files_keep_every_sample(name, rate, subtype, tmp_path):
    integers = np.random.default_rng(0).integers(-32768, 32768, (2 * rate + 3, 2), dtype=np.int16)
    soundfile.write(tmp_path / name, integers, rate, subtype=subtype)
    waveform, found_rate = read_audio(tmp_path / name)
    assert found_rate == rate
    np.testing.assert_allclose(waveform, integers.mean(axis=1) / 32768, atol=1e-7)


@pytest.mark.parametrize("name, codec", [("a.mkv", "pcm_s16le"), ("a.mov", "pcm_s16le"), ("a.m4a", "alac")])
def test_lossless_containers_keep_every_sample(name, codec, tmp_path):
    waveform = np.round(noise(40_001) * 32768) / 32768
    write_sound(tmp_path / name, waveform, 22_050, codec, channels="stereo")
    found, rate = read_audio(tmp_path / name)
    assert rate == 22_050
    np.testing.assert_allclose(found, waveform, atol=1e-6)


@pytest.mark.parametrize(
    "name, codec, rate",
    [("a.ogg", None, 44_100), ("a.m4a", "aac", 44_100), ("a.mp4", "aac", 48_000), ("a.webm", "libopus", 48_000)],
)
def test_lossy_files_keep_pitch_rate_length_and_time(name, codec, rate, tmp_path):
    waveform = np.concatenate([np.zeros(rate // 2, np.float32), tone(1000, 1.0, rate)])  # begins at 0.5 s
    if codec:
        write_sound(tmp_path / name, waveform, rate, codec)
    else:
        soundfile.write(tmp_path / name, waveform, rate)
    found, found_rate = read_audio(tmp_path / name)
    assert found_rate == rate
    assert 0 <= len(found) - len(waveform) <= 2048  # a codec's last frame is a full one
    assert np.flatnonzero(np.abs(found) > 0.1)[0] / rate == pytest.approx(0.5, abs=0.005)
    assert loudest_frequency(found[rate * 6 // 10 : rate * 14 // 10], rate) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("start", [0.04, 0.5, 61.0])
def test_sound_that_begins_after_the_picture_is_preceded_by_zeros(start, tmp_path):
    waveform = np.round(noise(8_000) * 32768) / 32768
    write_sound(tmp_path / "a.mkv", waveform, 8_000, "pcm_s16le", starts=[start], picture=True)
    found, rate = read_audio(tmp_path / "a.mkv")
    first = np.flatnonzero(found)[0]
    assert first / rate == pytest.approx(start, abs=0.002)  # Matroska's times are in ms
    np.testing.assert_allclose(found[first : first + 8_000], waveform, atol=1e-6)


def test_a_gap_in_the_sound_is_filled_with_zeros(tmp_path):
    waveform = np.round(noise(8_000) * 32768) / 32768
    write_sound(tmp_path / "a.mkv", waveform, 8_000, "pcm_s16le", starts=[0, 2.5], picture=True)
    found, _ = read_audio(tmp_path / "a.mkv")
    assert len(found) == pytest.approx(3.5 * 8_000, abs=16)
    np.testing.assert_allclose(found[:8_000], waveform, atol=1e-6)
    np.testing.assert_array_equal(found[8_000 : 20_000 - 16], 0)
    np.testing.assert_allclose(found[-8_000:], waveform, atol=1e-6)


def test_a_gap_of_a_published_stream_is_silent_and_the_rest_in_its_place(shared):
    found, rate = read_audio(shared / "data/clips/audio_gap_8s_to_18s.mp4")
    loud = np.flatnonzero(np.abs(found) > 1e-3) / rate
    gap = np.diff(loud).argmax()
    assert loud[gap] == pytest.approx(7.9, abs=0.1)
    assert loud[gap + 1] == pytest.approx(18.0, abs=0.1)


def test_a_late_sound_track_is_late(shared):
    found, rate = read_audio(shared / "data/clips/audio_late_500ms.mp4")
    assert np.flatnonzero(found)[0] / rate == pytest.approx(0.48, abs=0.01)


@pytest.mark.parametrize(
    "container, codec, second",
    [("mpeg", "mp2", ("stereo", 44_100)), ("adts", "aac", ("stereo", 44_100)), ("mpegts", "aac", ("mono", 32_000))],
    ids=["mpeg to stereo", "adts to stereo", "mpegts to 32 kHz"],
)
def test_a_stream_that_changes_channels_or_rate_midway_is_read_to_its_end(container, codec, second, tmp_path):
    (channels, rate), parts = second, [tmp_path / "1", tmp_path / "2"]
    write_sound(parts[0], tone(440, 1, 44_100), 44_100, codec, container=container)
    write_sound(parts[1], tone(880, 1, rate), rate, codec, [1], channels=channels, container=container)
    (tmp_path / "both").write_bytes(b"".join(part.read_bytes() for part in parts))
    found, found_rate = read_audio(tmp_path / "both")
    assert found_rate == 44_100
    assert len(found) == pytest.approx(2 * 44_100, abs=5_000)
    assert loudest_frequency(found[10_000:30_000], 44_100) == pytest.approx(440, abs=5)
    assert loudest_frequency(found[55_000:75_000], 44_100) == pytest.approx(880, abs=5)


@pytest.mark.parametrize("codec", ["pcm_s16le", "wavpack"], ids=["interleaved", "planar"])
def test_sixteen_channels_are_averaged(codec, tmp_path):
    write_sound(tmp_path / "a.mkv", tone(440, 0.5, 48_000), 48_000, codec, channels="hexadecagonal")
    code = "import sys; from openavc.audio import read_audio; print(read_audio(sys.argv[1])[0].max())"
    command = [sys.executable, "-c", code, tmp_path / "a.mkv"]  # on its own: PyAV has crashed here
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(0.5, abs=0.01)  # wavpack gets 8 bits


# ------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("rate", [100, 24_000])
@pytest.mark.parametrize("hop", ["0.1", "0.29", "1", "2.5", "0.01"])
def test_window_count_is_the_formula_and_covers_every_sample(rate, hop):
    step = Fraction(hop) * rate
    edges = [rate + k * step for k in range(400)]  # the last sample of a full window, and one beyond it
    for samples in {
        1,
        rate - 1,
        rate,
        *(math.floor(edge) for edge in edges),
        *(math.floor(edge) + 1 for edge in edges),
    }:
        count = count_windows(samples, rate, float(hop), rate)
        assert count == max(1, 1 + math.ceil((samples - rate) / step))
        assert (count - 1) * step + rate >= samples


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
def test_windows_stay_within_one_sample_of_their_time_for_an_hour(rate):
    drift = [abs(window_start(k, 0.29, rate) - k * Fraction(29, 100) * rate) for k in range(int(3600 / 0.29))]
    assert max(drift) <= 1


# -------------------------------------------------------------------------------------------------- spectrograms


@pytest.mark.parametrize("window, hop, n_fft", [(480, 240, 512), (1024, 300, 1024), (7, 3, 8)])
def test_stft_is_the_fourier_sum_of_each_hann_windowed_frame(window, hop, n_fft):
    waveforms = noise(2 * 3_000).reshape(2, 3_000).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)  # periodic
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(window)) / n_fft)
    starts = range(0, 3_000 - window + 1, hop)
    expected = [[np.abs(fourier @ (hann * waveform[s : s + window])) ** 2 for s in starts] for waveform in waveforms]
    power = stft_power(torch.from_numpy(waveforms), window, hop, n_fft)
    np.testing.assert_allclose(power, np.array(expected).transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name, samples, shape", [("linear257", 48_000, (257, 199)), ("mel64", 24_000, (64, 77))])
def test_one_second_gives_the_shape_of_the_papers_and_silence_stays_finite(name, samples, shape):
    frontend = FRONTENDS[name]
    assert (frontend.window_samples, frontend.shape) == (samples, shape)
    spectrogram = frontend.spectrogram(torch.zeros(3, samples))
    assert spectrogram.shape == (3, *shape)
    assert spectrogram.isfinite().all()


def test_linear257_of_a_full_scale_sine_is_the_log_of_half_the_window_sum():
    sine = np.sin(2 * np.pi * 64 * 48_000 / 512 * np.arange(48_000) / 48_000)  # in the middle of bin 64
    spectrogram = FRONTENDS["linear257"].spectrogram(torch.from_numpy(sine).float()[None])[0]
    assert set(spectrogram.argmax(dim=0).tolist()) == {64}
    np.testing.assert_allclose(spectrogram[64], math.log(480 / 2 / 2), atol=1e-3)  # a Hann window's sum is half


def test_linear257_scaled_is_a_fifth():
    waveforms = torch.from_numpy(noise(48_000))[None]
    plain, scaled = (FRONTENDS[name].spectrogram(waveforms) for name in ("linear257", "linear257-scaled"))
    torch.testing.assert_close(scaled * 5, plain)


def htk_centres(bands, low, high):
    """Centre frequencies in Hz of the HTK book, equation 5.13: mel = 2595 log10(1 + f / 700)."""
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
    spectrogram = FRONTENDS["mel64"].spectrogram(torch.from_numpy(waveform)[None])[0]
    assert set(spectrogram[:, 2:-2].argmax(dim=0).tolist()) == {band}  # the ends hear the tone begin and stop


@pytest.mark.parametrize("frame", [0, 1, 40, 76])
def test_mel64_hears_a_click_in_the_frame_of_its_time(frame):
    waveform = torch.zeros(1, 24_000)
    waveform[0, frame * 300 + 512] = 1  # the middle of the 1024 samples of the frame
    spectrogram = FRONTENDS["mel64"].spectrogram(waveform)[0]
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
    spectrogram = FRONTENDS["mel64"].spectrogram(torch.from_numpy(waveform).float()[None])[0]
    np.testing.assert_allclose(spectrogram, expected, atol=1e-4)


@pytest.mark.parametrize("name", list(FRONTENDS))
def test_the_spectrogram_of_a_window_is_a_slice_of_that_of_the_recording(name):
    frontend = FRONTENDS[name]
    recording = torch.from_numpy(noise(frontend.sample_rate * 5 // 2))[None]
    whole = frontend.spectrogram(recording)
    for first in (0, 1, 44, 100):  # frames
        window = recording[:, first * frontend.hop_samples :][:, : frontend.window_samples]
        frames = frontend.shape[1]
        torch.testing.assert_close(frontend.spectrogram(window), whole[:, :, first : first + frames], rtol=0, atol=0)


def test_a_title_that_is_not_utf_8_costs_nothing(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "caf@"
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 8000), 1000, np.int16), "s16", "mono")
        frame.sample_rate = 8000
        file.mux([*stream.encode(frame), *stream.encode()])
    written = path.read_bytes()
    assert written.count(b"caf@") == 1
    path.write_bytes(written.replace(b"caf@", "café".encode("latin-1")))
    waveform, rate = read_audio(path)
    np.testing.assert_allclose(waveform, np.full(8000, 1000 / 32768), atol=1e-6)
    assert rate == 8000
