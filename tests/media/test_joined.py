"""Recordings that were joined, miscounted, cut or damaged: all that is there is read, and what isn't is told."""

import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from videos import noise, tone, write_sound

from openavc.media.audio import read_audio, to_samples

ROOT = Path(__file__).parents[2]
ID3 = b"ID3\x04\0\0\0\0\x0f\x50" + bytes(range(256)) * 7 + bytes(208)  # a tag of 2000 bytes


def write(path, samples, rate, subtype=None):
    """Write a file with soundfile, in the pieces that libsndfile's Vorbis encoder can take; return its bytes."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, subtype=subtype) as file:
        for start in range(0, len(samples), 4096):
            file.write(samples[start : start + 4096])
    return path.read_bytes()


def read(path):
    """Return samples, rate and warnings, all of which name the file in one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples, rate = read_audio(path)
    messages = [str(warning.message) for warning in caught]
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)
    return samples, rate, messages


def pitch(samples, rate):
    """Return the loudest frequency in the mean of the channels, in Hz."""
    mono = samples.mean(axis=1)
    return np.abs(np.fft.rfft(mono * np.hanning(len(mono)))).argmax() * rate / len(mono)


JOINED = [("mp3", None), ("ogg", "VORBIS"), ("ogg", "OPUS"), ("flac", None)]


@pytest.mark.parametrize("suffix, subtype", JOINED)
@pytest.mark.parametrize("second", [("mono", 48_000), ("stereo", 48_000), ("mono", 24_000)], ids=str)
@pytest.mark.parametrize("between", [b"", ID3], ids=["", "tagged"])
def test_recordings_joined_in_one_file_follow_one_another(suffix, subtype, second, between, tmp_path):
    layout, rate = second
    later = tone(880, 3, rate)
    parts = [
        write(tmp_path / f"1.{suffix}", tone(440, 3, 48_000), 48_000, subtype),
        write(tmp_path / f"2.{suffix}", later if layout == "mono" else np.stack([later] * 2, 1), rate, subtype),
        write(tmp_path / f"3.{suffix}", tone(1320, 3, 48_000), 48_000, subtype),
    ]
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(between.join(parts))
    samples, found_rate, messages = read(path)
    assert found_rate == 48_000
    assert samples.shape == (pytest.approx(9 * 48_000, abs=0.15 * 48_000 if suffix == "mp3" else 0), 1)  # no Xing trim
    for second, frequency in ((0, 440), (3, 880), (6, 1320)):
        stretch = samples[int((second + 0.5) * 48_000) : int((second + 2.5) * 48_000)]
        assert pitch(stretch, 48_000) == pytest.approx(frequency, abs=2)
        assert np.abs(stretch).max() == pytest.approx(0.5, abs=0.1)
    assert not messages


def test_what_is_joined_in_flac_files_is_read_bit_by_bit(tmp_path):
    integers = np.random.default_rng(0).integers(-32768, 32768, (2, 50_000, 2), dtype=np.int16)
    parts = [write(tmp_path / f"{i}.flac", integers[i], 44_100) for i in range(2)]
    (tmp_path / "both.flac").write_bytes(b"".join(parts))
    samples, _, _ = read(tmp_path / "both.flac")
    np.testing.assert_array_equal(samples * 32768, integers.reshape(-1, 2))


def test_a_joined_recording_that_cannot_be_decoded_is_told_of(tmp_path):
    whole = write(tmp_path / "1.ogg", tone(440, 2, 44_100), 44_100, "VORBIS")
    broken = whole.replace(b"vorbis", b"gibber")
    (tmp_path / "both.ogg").write_bytes(whole + broken)
    samples, _, messages = read(tmp_path / "both.ogg")
    assert len(samples) == 2 * 44_100
    assert len(messages) == 1 and "2.0 s" in messages[0]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_an_mp3_whose_header_counts_too_few_frames_is_read_to_its_end_and_without_a_hole(share, tmp_path):
    path = tmp_path / "a.mp3"
    whole = write(path, tone(440, 5, 44_100), 44_100)
    expected = read(path)[0]
    field = whole.index(b"Info" if b"Info" in whole[:200] else b"Xing") + 8
    [frames] = struct.unpack(">I", whole[field : field + 4])
    path.write_bytes(whole[:field] + struct.pack(">I", int(frames * share)) + whole[field + 4 :])
    samples, _, messages = read(path)
    assert len(samples) == len(expected) == 5 * 44_100
    np.testing.assert_allclose(samples, expected, atol=1e-3)
    assert not messages


def test_damage_in_an_mp3_costs_itself_and_is_told_with_its_second(tmp_path):
    path = tmp_path / "a.mp3"
    waveform = np.concatenate([tone(440, 50, 44_100), np.zeros(44_100, np.float32), tone(880, 19, 44_100)])
    whole = bytearray(write(path, waveform, 44_100))
    whole[len(whole) // 2 : len(whole) // 2 + 2000] = bytes(2000)
    path.write_bytes(whole)
    samples, _, messages = read(path)
    assert len(samples) / 44_100 == pytest.approx(70, abs=0.1)
    quiet = np.flatnonzero(np.abs(samples[45 * 44_100 :, 0]) < 0.01)
    longest = max(np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1), key=len)
    assert longest[0] / 44_100 + 45 == pytest.approx(50, abs=0.05)  # as the header counts the frames that are gone
    assert len(messages) == 1 and "35." in messages[0]


def test_an_mp3_that_was_cut_is_read_as_far_as_it_goes_and_says_so(tmp_path):
    path = tmp_path / "a.mp3"
    whole = write(path, tone(440, 5, 44_100), 44_100)
    path.write_bytes(whole[: len(whole) // 2])
    samples, _, messages = read(path)
    assert len(samples) / 44_100 == pytest.approx(2.5, abs=0.3)
    assert len(messages) == 1 and "ends early" in messages[0] and "of 5.0 s" in messages[0]


def damaged(encoded, at, size):
    """Put other bytes in the place of some, at a share of the length."""
    start = int(len(encoded) * at)
    return encoded[:start] + np.random.default_rng(1).bytes(size) + encoded[start + size :]


@pytest.mark.parametrize(
    "damage, second, seconds",
    [
        (lambda encoded: damaged(encoded, 0.75, 60), 52.5, 70),
        (lambda encoded: damaged(encoded, 0.2, 60), 14, 70),
        (lambda encoded: encoded[: int(len(encoded) * 0.8)], 56, 56),
    ],
    ids=["late", "early", "cut"],
)
def test_what_follows_damage_in_a_flac_file_is_read(damage, second, seconds, tmp_path):
    path = tmp_path / "a.flac"
    waveform = noise(70 * 8_000)
    path.write_bytes(damage(write(path, waveform, 8_000, "PCM_16")))
    samples, _, messages = read(path)
    assert len(samples) / 8_000 == pytest.approx(seconds, abs=1.1)  # a frame has 4096 samples
    right = np.abs(samples[:, 0] - waveform[: len(samples)]) < 1e-4
    assert (~right).sum() <= 2 * 4096
    assert len(messages) == 1
    assert float(messages[0].split(" s ")[0].rsplit(" ", 1)[1]) == pytest.approx(second, abs=1.1)


@pytest.mark.parametrize("total", [0, 1000, 2**36 - 1])
def test_a_flac_file_is_read_to_its_end_whatever_length_its_header_claims(total, tmp_path):
    path = tmp_path / "a.flac"
    waveform = noise(100_000)
    encoded = bytearray(write(path, waveform, 8_000, "PCM_16"))
    rest = int.from_bytes(encoded[18:26], "big") >> 36
    encoded[18:26] = (rest << 36 | total).to_bytes(8, "big")
    path.write_bytes(encoded)
    samples, _, messages = read(path)
    np.testing.assert_allclose(samples[:, 0], waveform, atol=1e-4)
    assert not messages


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_file_whose_length_was_never_filled_in_is_read(size, subtype, tmp_path):
    path = tmp_path / "a.wav"
    waveform = noise(20_000)
    encoded = bytearray(write(path, waveform, 8_000, subtype))
    field = encoded.index(b"data") + 4
    encoded[field : field + 4] = struct.pack("<I", size)
    path.write_bytes(encoded)
    samples, rate, _ = read(path)
    assert rate == 8_000
    np.testing.assert_allclose(samples[:, 0], waveform, atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 24_000, 44_100])
def test_opus_is_decoded_at_48_khz_whatever_rate_its_input_had(rate, tmp_path):
    path = tmp_path / "a.ogg"
    write(path, tone(1000, 2, rate if rate != 44_100 else 48_000), rate if rate != 44_100 else 48_000, "OPUS")
    samples, found_rate, _ = read(path)
    assert found_rate == 48_000
    assert len(samples) == 2 * 48_000
    assert pitch(samples, found_rate) == pytest.approx(1000, abs=2)


def frame_starts(encoded):
    """Return where an MP3 of 44.1 kHz has frames, without the first, which holds the header."""
    return [found.start() for found in re.finditer(rb"\xff\xfb[\x10-\x12\x20-\xe2]", encoded)][1:]


def changed_within_frames(encoded, generator):
    """Return an MP3 with the side information of ten frames changed; all frames stay where they were."""
    changed = bytearray(encoded)
    for start in generator.choice(frame_starts(encoded), 10):
        changed[start + 6 : start + 21] = generator.bytes(15)
    return bytes(changed)


def test_a_frame_of_mp3_that_cannot_be_decoded_is_told_and_leaves_its_time_empty(tmp_path):
    """The side information of a frame claims more values than a frame has (ISO 11172-3, 2.4.2.7)."""
    waveform = noise(3 * 44_100)
    encoded = write(tmp_path / "whole.mp3", waveform, 44_100)
    whole, _, _ = read(tmp_path / "whole.mp3")
    starts, changed = frame_starts(encoded), bytearray(encoded)
    broken = starts[len(starts) // 2]
    changed[broken + 4 : broken + 21] = b"\xff" * 17
    (tmp_path / "a.mp3").write_bytes(changed)
    samples, _, messages = read(tmp_path / "a.mp3")
    assert len(samples) == len(whole)
    np.testing.assert_allclose(samples[:60_000], whole[:60_000], atol=1e-4)
    np.testing.assert_allclose(samples[-60_000:], whole[-60_000:], atol=1e-4)
    [message] = messages
    assert re.search(r"a damaged packet of audio was left out, at 1\.[45] s", message)


def test_libmpg123_says_nothing_on_standard_error(tmp_path):
    whole = write(tmp_path / "a.mp3", tone(440, 3, 44_100), 44_100)
    generator = np.random.default_rng(1)
    files = {
        **{f"changed{number}": changed_within_frames(whole, generator) for number in range(20)},
        "cut": whole[: len(whole) // 2],
        "holed": whole[: len(whole) // 2] + bytes(2000) + whole[len(whole) // 2 + 2000 :],
        "followed": whole + np.random.default_rng(0).bytes(10_000),
        "random": np.random.default_rng(0).bytes(100_000),
        "begun": whole[:2] + np.random.default_rng(0).bytes(100_000),
        "tagged": ID3 + np.random.default_rng(0).bytes(100_000),
    }
    code = (
        "import sys, warnings; from openavc.media.audio import read_audio; warnings.simplefilter('ignore')\n"
        "for path in sys.argv[1:]:\n    try: read_audio(path)\n    except OSError as error: print(error)"
    )
    for name, encoded in files.items():
        (tmp_path / f"{name}.mp3").write_bytes(encoded)
    command = [sys.executable, "-c", code, *(tmp_path / f"{name}.mp3" for name in files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3
    assert all(f"{name}.mp3" in line for name, line in zip(list(files)[-3:], done.stdout.splitlines(), strict=True))


# --------------------------------------------------------------------------------------------- formats and limits


@pytest.mark.parametrize("layout, channels", [("7.1", 8), ("6.1", 7), ("octagonal", 8)])
def test_eight_planar_channels_are_read(layout, channels, tmp_path):
    write_sound(tmp_path / "a.mkv", tone(440, 0.5, 48_000), 48_000, "wavpack", channels=layout)
    code = (
        "import sys; from openavc.media.audio import read_audio as r; x = r(sys.argv[1])[0]; print(*x.shape, x.max())"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.mkv"]  # on its own: PyAV has crashed here
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [float(number) for number in done.stdout.split()] == pytest.approx([24_000, channels, 0.5], abs=0.01)


@pytest.mark.parametrize("channels", [1, 2])
def test_64_bit_pcm_is_read(channels, tmp_path):
    waveform = noise(8_000).astype(np.float64).reshape(-1, channels)
    data = np.round(waveform * 2.0**62).astype("<i8").tobytes()  # half of the range
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, 8_000, 64_000 * channels, 8 * channels, 64)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data)) + data
    (tmp_path / "a.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    samples, rate, _ = read(tmp_path / "a.wav")
    assert rate == 8_000
    np.testing.assert_allclose(samples, waveform / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [1, 7, 99, 1_000_001, 100_000_000, 1_000_000_000, 2**31 - 1])
@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "caf"])
def test_a_rate_that_no_sound_has_is_refused_with_the_limits(rate, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    write(path, noise(1000), rate)
    with pytest.raises(OSError, match="100 to 1000000 Hz") as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    monkeypatch.setenv("OPENAVC_LOWEST_RATE", "1")
    if rate < 100:
        assert read_audio(path)[1] == rate


def test_the_rate_of_a_container_is_checked_too(tmp_path):
    write_sound(tmp_path / "a.mkv", noise(1000), 50, "pcm_s16le")
    with pytest.raises(OSError, match="50 Hz"):
        read_audio(tmp_path / "a.mkv")


@pytest.mark.parametrize("loudest", [1e38, -1e13])
def test_sound_too_loud_for_float32_is_refused(loudest, tmp_path):
    samples = np.full(1000, loudest, np.float32)
    with pytest.raises(ValueError, match=r"the audio|audio reaches"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to_samples(samples)
    write(tmp_path / "a.wav", samples, 8_000, "FLOAT")
    with pytest.raises(ValueError, match=r"a\.wav reaches"):
        read_audio(tmp_path / "a.wav")


def test_an_open_file_is_no_tensor_and_stays_with_its_owner(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with (tmp_path / "a.wav").open("rb") as file:
        with pytest.raises(TypeError):
            to_samples(file)
        assert file.read() == b"RIFF"  # detached, it would raise
