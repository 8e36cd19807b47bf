"""Sound from arrays and files: scaled, with its channels, at its true time."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from videos import noise, tone, write_sound

from openavc.media.audio import read_audio, to_channels, to_samples

ROOT = Path(__file__).parents[2]


def loudest_frequency(samples, rate):
    """Return the loudest frequency in the mean of the channels, in Hz."""
    mono = samples.mean(axis=1)
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
    return spectrum.argmax() * rate / len(mono)


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
    converted = to_samples(samples)
    assert converted.dtype == np.float32
    assert converted.shape == (len(expected), 1)
    np.testing.assert_allclose(converted[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("peak", "dtype", "said"),
    [
        (1.01, "float32", None),
        (20_000, "float32", r"divide 16-bit samples by 32768$"),
        (8e6, "float64", r"divide 24-bit samples by 8388608$"),
        (-2e9, "float64", r"divide 32-bit samples by 2147483648$"),
        (1e11, "float32", r"in \[-1, 1\]$"),
        (20_000, "int32", r"reaches only 20000 .*astype\('int16'\)$"),
        (-(2**31), "int32", None),  # its absolute value isn't an int32
        (-(2**63), "int64", None),
    ],
)
def test_samples_of_another_scale_are_warned_of_with_the_way_to_theirs(peak, dtype, said):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_samples(np.array([peak, 1], dtype))
    assert len(caught) == (said is not None)
    assert all(re.search(said, str(warning.message)) for warning in caught)


@pytest.mark.parametrize(
    ("loudest", "dtype", "said"),
    [
        (1e38, "float32", r"audio reaches 1e\+38 at sample 1, too loud"),
        (-1e300, "float64", r"audio reaches 1e\+300 at sample 1, too loud"),
        (np.inf, "float16", "holds 1 NaN or infinite samples, the first at sample 1"),
        (np.nan, ">f8", "holds 1 NaN or infinite samples, the first at sample 1"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_no_spectrogram_holds_is_refused_at_its_sample(loudest, dtype, said):
    with pytest.raises(ValueError, match=said):
        to_samples(np.array([0.5, loudest, 0], dtype))


def test_the_least_numbers_are_kept():
    least = np.array([1e-45, 0.5], np.float32)
    np.testing.assert_array_equal(to_samples(least)[:, 0], least)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_channels_are_kept_and_averaged_for_mono(convert):
    stereo = np.array([[0, 16384], [-32768, 0], [8192, 8192]], np.int16)
    samples = to_samples(convert(stereo))
    np.testing.assert_array_equal(samples, [[0, 0.5], [-1, 0], [0.25, 0.25]])
    np.testing.assert_array_equal(to_channels(samples, 1), [[0.25], [-0.5], [0.25]])


@pytest.mark.parametrize(
    ("given", "channels", "expected"),
    [
        ([[0.5], [-0.25]], 1, [[0.5], [-0.25]]),
        ([[0.5], [-0.25]], 2, [[0.5, 0.5], [-0.25, -0.25]]),
        ([[0.5, -0.5], [0.25, 1.0]], 2, [[0.5, -0.5], [0.25, 1.0]]),
        ([[0.5, -0.5], [0.25, 0.75]], 1, [[0.0], [0.5]]),
        ([[0.25, 0.5, 0.75]], 2, [[0.5, 0.5]]),
        ([[0.25, 0.75]], 3, [[0.5, 0.5, 0.5]]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mono_is_repeated_and_other_numbers_of_channels_become_their_mean(given, channels, expected, dtype):
    mixed = to_channels(np.array(given, dtype), channels)
    assert mixed.dtype == dtype
    np.testing.assert_array_equal(mixed, expected)


@pytest.mark.parametrize("shape", [(2, 44_100), (1, 44_100), (2, 3), (6, 7)])
def test_channels_first_are_refused_with_the_transpose_as_a_hint(shape):
    for samples in (np.zeros(shape, np.float32), torch.zeros(shape)):
        with pytest.raises(ValueError, match=r"audio\.T") as caught:
            to_samples(samples)
        assert str(shape) in str(caught.value)


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name, rate, subtype", [("a.wav", 44_100, "PCM_16"), ("a.flac", 8_000, "PCM_16")])
def test_lossless_sound_files_keep_every_sample(name, rate, subtype, tmp_path):
    integers = np.random.default_rng(0).integers(-32768, 32768, (2 * rate + 3, 2), dtype=np.int16)
    soundfile.write(tmp_path / name, integers, rate, subtype=subtype)
    samples, found_rate = read_audio(tmp_path / name)
    assert found_rate == rate
    np.testing.assert_allclose(samples, integers / 32768, atol=1e-7)


@pytest.mark.parametrize("name, codec", [("a.mkv", "pcm_s16le"), ("a.mov", "pcm_s16le"), ("a.m4a", "alac")])
def test_lossless_containers_keep_every_sample(name, codec, tmp_path):
    waveform = np.round(noise(40_001) * 32768) / 32768
    write_sound(tmp_path / name, waveform, 22_050, codec, channels="stereo")
    found, rate = read_audio(tmp_path / name)
    assert rate == 22_050
    np.testing.assert_allclose(found, np.stack([waveform, waveform], axis=1), atol=1e-6)


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
    assert np.flatnonzero(np.abs(found[:, 0]) > 0.1)[0] / rate == pytest.approx(0.5, abs=0.005)
    assert loudest_frequency(found[rate * 6 // 10 : rate * 14 // 10], rate) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("start", [0.04, 0.5, 61.0])
def test_sound_that_begins_after_the_picture_is_preceded_by_zeros(start, tmp_path):
    waveform = np.round(noise(8_000) * 32768) / 32768
    write_sound(tmp_path / "a.mkv", waveform, 8_000, "pcm_s16le", starts=[start], picture=True)
    found, rate = read_audio(tmp_path / "a.mkv")
    first = np.flatnonzero(found[:, 0])[0]
    assert first / rate == pytest.approx(start, abs=0.002)  # Matroska's times are in ms
    np.testing.assert_allclose(found[first : first + 8_000, 0], waveform, atol=1e-6)


def test_a_gap_in_the_sound_is_filled_with_zeros(tmp_path):
    waveform = np.round(noise(8_000) * 32768) / 32768
    write_sound(tmp_path / "a.mkv", waveform, 8_000, "pcm_s16le", starts=[0, 2.5], picture=True)
    found, _ = read_audio(tmp_path / "a.mkv")
    assert len(found) == pytest.approx(3.5 * 8_000, abs=16)
    np.testing.assert_allclose(found[:8_000, 0], waveform, atol=1e-6)
    np.testing.assert_array_equal(found[8_000 : 20_000 - 16], 0)
    np.testing.assert_allclose(found[-8_000:, 0], waveform, atol=1e-6)


def test_a_gap_of_a_published_stream_is_silent_and_the_rest_in_its_place(shared):
    found, rate = read_audio(shared / "data/clips/audio_gap_8s_to_18s.mp4")
    loud = np.flatnonzero(np.abs(found).max(axis=1) > 1e-3) / rate
    gap = np.diff(loud).argmax()
    assert loud[gap] == pytest.approx(7.9, abs=0.1)
    assert loud[gap + 1] == pytest.approx(18.0, abs=0.1)


def test_a_late_sound_track_is_late(shared):
    found, rate = read_audio(shared / "data/clips/audio_late_500ms.mp4")
    assert np.flatnonzero(found.any(axis=1))[0] / rate == pytest.approx(0.48, abs=0.01)


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
def test_sixteen_channels_are_read(codec, tmp_path):
    write_sound(tmp_path / "a.mkv", tone(440, 0.5, 48_000), 48_000, codec, channels="hexadecagonal")
    code = (
        "import sys; from openavc.media.audio import read_audio; samples = read_audio(sys.argv[1])[0]; "
        "print(samples.shape[1], samples.max(axis=0).min(), samples.max())"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.mkv"]  # on its own: PyAV has crashed here
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    channels, *peaks = map(float, done.stdout.split())
    assert channels == 16
    assert peaks == pytest.approx([0.5, 0.5], abs=0.01)  # wavpack gets 8 bits


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
    samples, rate = read_audio(path)
    np.testing.assert_allclose(samples, np.full((8000, 1), 1000 / 32768), atol=1e-6)
    assert rate == 8000
