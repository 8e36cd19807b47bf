"""Shards: what is stored comes back, also in stereo, from any number of tars."""

import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
import soundfile
import webdataset
from tones import RATE, SECONDS, jpeg, listener, write_tones

from openavc.media.clips import FramesInput
from openavc.media.image import fit
from training.corpora.loudness import loud_moments, loudness
from training.corpora.shards import Shards, clip_frames, clip_middles, encode_clip, too_slow, wav_header


def test_frames_and_sound_come_back_from_the_shards(shards):
    found = pickle.loads(pickle.dumps(Shards(shards)))
    assert [clip.key for clip in found.clips] == [f"clip{k}" for k in range(6)]
    np.testing.assert_allclose(found.frame(found.clips[4], 7).mean(axis=(0, 1)) * 255, [40, 35, 128], atol=2)
    samples = found.sound(found.clips[4], 2.0, 1.0, RATE)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (np.arange(RATE) / RATE + 1.5))
    np.testing.assert_allclose(samples, expected[:, None], atol=1e-4)


def test_any_frames_come_in_the_order_they_are_asked_for_and_those_that_repeat_are_decoded_once(shards, monkeypatch):
    import cv2

    found = Shards(shards)
    clip, decoded, imdecode = found.clips[2], [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: decoded.append(1) or imdecode(*given))
    frames = found.frames(clip, [3, 3, 9, 5, 3])
    assert len(decoded) == 3
    assert frames.shape == (5, 24, 32, 3) and frames.dtype == np.float32
    np.testing.assert_allclose(frames[..., 1].mean(axis=(1, 2)) * 255, [15, 15, 45, 25, 15], atol=1)


def test_shards_for_a_worker_process_are_pickled_without_their_files(shards):
    assert len(pickle.dumps(Shards(shards))) < 0.1 * sum(path.stat().st_size for path in shards.glob("*.tar"))


def test_a_corpus_may_have_more_shards_than_a_process_may_hold_open(shards, tmp_path):
    resource = pytest.importorskip("resource")
    for number in range(40):
        (tmp_path / f"{number:05d}.tar").hardlink_to(shards / "00000.tar")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(name) for name in os.listdir("/dev/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, limits[1]))
    try:
        found = Shards(tmp_path)
        assert len({found.sound(clip, 2.0, 1.0, RATE).tobytes() for clip in found.clips}) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_sound_beyond_the_clip_is_silence(shards):
    found = Shards(shards)
    samples = found.sound(found.clips[0], 0.0, 1.0, RATE)
    assert not samples[: RATE // 2].any()
    assert samples[RATE // 2 :].any()
    assert not found.sound(found.clips[0], 100.0, 1.0, RATE).any()


def test_no_shards_is_an_error_that_says_how_to_make_some(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.simulate"):
        Shards(shards, tmp_path)


def test_a_clip_without_boxes_says_so(shards):
    found = Shards(shards)
    with pytest.raises(ValueError, match="clip0 has no boxes"):
        found.objects(found.clips[0])


# --------------------------------------------------------------------------------------------------------- channels


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """Write a clip with different noise in each channel, as wav and as flac; also return what was stored."""
    folder = tmp_path_factory.mktemp("stereo")
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * RATE, 2)).astype(np.float32)
    picture = jpeg(np.full((24, 32, 3), 100, np.uint8))
    with webdataset.TarWriter(str(folder / "0.tar")) as writer:
        for kind in ("wav", "flac"):
            writer.write(encode_clip(kind, samples, RATE, [picture] * 4, [0.5, 1.0, 1.5, 2.0], {}, kind))
    return Shards(folder), samples


@pytest.mark.parametrize("number", [0, 1])
def test_stereo_comes_back_as_it_was_or_mixed(stereo, number):
    shards, samples = stereo
    clip, inside = shards.clips[number], samples[RATE // 2 : 3 * RATE // 2]
    assert clip.channels == 2
    np.testing.assert_allclose(shards.sound(clip, 1.0, 1.0, RATE, 2), inside, atol=1e-4)
    mixed = inside.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(shards.sound(clip, 1.0, 1.0, RATE, 1), mixed, atol=1e-4)
    np.testing.assert_allclose(shards.sound(clip, 1.0, 1.0, RATE), mixed, atol=1e-4)


def test_each_channel_is_resampled_by_itself(stereo):
    import resampy

    shards, samples = stereo
    found = shards.sound(shards.clips[0], 1.0, 1.0, 16_000, 2)
    assert found.shape == (16_000, 2)
    expected = resampy.resample(samples.T, RATE, 16_000, filter="kaiser_best").T[8000:24_000]
    np.testing.assert_allclose(found[2000:-2000], expected[2000:-2000], atol=2e-4)


def test_mono_is_repeated_for_a_network_that_hears_two_channels(shards):
    found = Shards(shards)
    samples = found.sound(found.clips[1], 2.0, 1.0, RATE, 2)
    assert samples.shape == (RATE, 2)
    np.testing.assert_array_equal(samples[:, 0], samples[:, 1])


def test_shards_made_before_sound_kept_its_channels_are_mono(shards, tmp_path):
    with tarfile.open(shards / "00000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        about = json.loads(members["clip0.json"])
        del about["channels"]
        parts = {"wav": members["clip0.wav"], "mjpeg": members["clip0.mjpeg"], "json": json.dumps(about).encode()}
        writer.write({"__key__": "clip0"} | parts)
    found = Shards(tmp_path)
    assert found.clips[0].channels == 1
    np.testing.assert_array_equal(
        found.sound(found.clips[0], 2.0, 1.0, RATE), Shards(shards).sound(Shards(shards).clips[0], 2.0, 1.0, RATE)
    )


# ------------------------------------------------------------------------------------------------ a network's clips


def test_what_a_network_takes_is_cut_out_around_a_frame(shards):
    found, model = Shards(shards), listener(count=3)
    clip = found.clips[3]
    frames = found.frames_at(clip, 9, model.frames)
    assert frames.shape == (3, 16, 16, 3)
    for seen, index in zip(frames, (8, 9, 10), strict=True):
        np.testing.assert_array_equal(seen, fit(found.frame(clip, index), 16, 16))


@pytest.mark.parametrize("stored", [25, 50, 125])  # frames a second
def test_frames_come_at_the_rate_of_the_network_whatever_that_of_the_shards(tmp_path, stored):
    write_tones(tmp_path / "0.tar", [0], frames=round(SECONDS * stored))
    clip, frames, apart = Shards(tmp_path).clips[0], FramesInput(16, 16, 7, 25.0), stored // 25
    inside = np.flatnonzero(clip_middles(clip, frames))
    assert inside.tolist() == list(range(3 * apart, len(clip.frame_times) - 3 * apart))
    for index in inside:
        assert clip_frames(clip, index, frames).tolist() == [index + apart * k for k in range(-3, 4)]


@pytest.mark.parametrize("rounding", [6, 3])  # digits of the times
@pytest.mark.parametrize("rate", [25.0, 30.0, 30_000 / 1001])
def test_at_the_networks_own_rate_frames_are_the_consecutive_ones_though_times_are_rounded(tmp_path, rate, rounding):
    times = [round(k / rate, rounding) for k in range(100)]
    picture = jpeg(np.zeros((16, 16, 3), np.uint8))
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        writer.write(encode_clip("a", np.zeros(4 * RATE, np.float32), RATE, [picture] * 100, times, {}))
    clip, frames = Shards(tmp_path).clips[0], FramesInput(16, 16, 11, rate)
    assert np.flatnonzero(clip_middles(clip, frames)).tolist() == list(range(5, 95))
    for index in range(5, 95):
        assert clip_frames(clip, index, frames).tolist() == list(range(index - 5, index + 6))


def test_frames_too_far_apart_serve_no_network_that_sees_several(shards):
    clip = Shards(shards).clips[0]  # 5 a second
    assert too_slow(clip, FramesInput(16, 16, 3, 7.6)) and not too_slow(clip, FramesInput(16, 16, 3, 7.4))
    assert not clip_middles(clip, FramesInput(16, 16, 3, 25.0)).any()
    assert clip_middles(clip, FramesInput(16, 16)).all()


# ---------------------------------------------------------------------------------------------------------- moments


def test_loudness_is_in_decibels_of_full_scale_over_all_channels():
    assert loudness(np.zeros(10)) == -200
    assert loudness(np.full(10, 0.1)) == pytest.approx(-20)
    assert loudness(np.full((10, 2), [0.1, 0.0])) == pytest.approx(-20 - 10 * np.log10(2))


def test_loud_moments_are_read_one_after_the_other_until_enough_are_taken():
    volumes, read = {0: 0.5, 1: 0.001, 2: 0.1, 3: 0.2}, []
    found = loud_moments(lambda time: read.append(time) or np.full(10, volumes[time]), [1, 2, 0, 3], quietest=-21)
    time, samples = next(found)
    assert time == 2 and samples[0] == 0.1
    assert read == [1, 2]
    assert [time for time, _ in found] == [0, 3]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", ["PCM_16", "PCM_24"])
def test_sound_is_what_soundfile_reads(tmp_path, channels, form):
    """Of shards of our own, whose samples are read in place, and of others."""
    samples = np.random.default_rng(0).uniform(-1, 1, (8000, channels))
    sample = encode_clip("clip", samples, 8000, [jpeg(np.zeros((8, 8, 3), np.uint8))], [0.5], {})
    if form != "PCM_16":
        sound = io.BytesIO()
        soundfile.write(sound, samples, 8000, format="WAV", subtype=form)
        sample["wav"] = sound.getvalue()
    assert (wav_header(8000, channels, 8000) == sample["wav"][:44]) == (form == "PCM_16")
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        writer.write(sample)
    shards = Shards(tmp_path)
    expected, _ = soundfile.read(io.BytesIO(sample["wav"]), dtype="float32", always_2d=True)
    (clip,) = shards.clips
    np.testing.assert_array_equal(shards.sound(clip, 0.5, 0.25, 8000, channels), expected[3000:5000])
    late = shards.sound(clip, 1.0, 0.5, 8000, channels)
    np.testing.assert_array_equal(late, np.concatenate([expected[6000:], np.zeros((2000, channels), np.float32)]))
