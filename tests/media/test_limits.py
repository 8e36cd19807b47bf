"""Limits of what files may claim: each has its variable, and nothing that a real recording does is near them."""

import re

import numpy as np
import pytest
import soundfile
from hostile_files import SOUNDS, cluster, jpeg, matroska, pcm, picture_track, sound_track, striped_tiff, with_gaps
from videos import noise

from openavc.media.audio import open_audio, read_audio
from openavc.media.image import read_image


def test_gaps_that_add_up_are_refused_and_the_variable_allows_them(tmp_path, monkeypatch):
    path = tmp_path / "gaps.mka"
    path.write_bytes(with_gaps(30, 60))
    with pytest.raises(OSError, match=rf"{re.escape(str(path))}: its gaps add up to .*OPENAVC_LONGEST_GAP"):
        read_audio(path)
    monkeypatch.setenv("OPENAVC_LONGEST_GAP", "1800")
    samples, rate = read_audio(path)
    assert len(samples) == round((29 * 60 + 0.1) * rate)


def test_gaps_as_long_as_a_few_sounds_are_kept(tmp_path):
    path = tmp_path / "talk.mka"
    path.write_bytes(with_gaps(500, 1.9))  # 950 s, of which 50 are sound
    samples, rate = read_audio(path)
    assert len(samples) == round((499 * 1.9 + 0.1) * rate)


def test_sound_may_begin_late_in_a_video_that_has_the_bytes_of_one(tmp_path):
    path = tmp_path / "late.mkv"
    pictures = [cluster(10_000 * k, [(2, jpeg(32, 32) + bytes(20_000))]) for k in range(90)]
    path.write_bytes(matroska([sound_track(), picture_track(32, 32)], [*pictures, cluster(900_000, [(1, pcm(1600))])]))
    samples, rate = read_audio(path)
    assert len(samples) == round(900.1 * rate)


@pytest.mark.parametrize(("hours", "rate", "size"), [(1, 8000, 200_000), (3, 2000, 80_000)])
def test_hours_of_packed_silence_are_read(hours, rate, size, tmp_path):
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(hours * 3600 * rate, np.int16), rate)
    assert path.stat().st_size < size
    assert sum(map(len, open_audio(path)[0])) == hours * 3600 * rate


def test_sound_for_which_the_file_has_no_bytes_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "long.flac"
    path.write_bytes(SOUNDS["rate_of_100_hertz.flac"]())
    with pytest.raises(OSError, match=rf"{re.escape(str(path))} unpacks 1142 bytes .*OPENAVC_LONGEST_GAP"):
        read_audio(path)
    monkeypatch.setenv("OPENAVC_LONGEST_GAP", "5000")
    assert len(read_audio(path)[0]) == 100 * 4096


def test_a_rate_may_change_now_and_then_but_not_all_the_time(tmp_path):
    path = tmp_path / "changes.aac"
    path.write_bytes(SOUNDS["rates_within.aac"]())
    with pytest.raises(OSError, match=r"changes\.aac changes its sample rate \d+ times within"):
        read_audio(path)
    path.write_bytes(SOUNDS["rates_within.aac"]()[: path.stat().st_size // 100])
    assert len(read_audio(path)[0])


def test_packets_of_one_sample_each_take_no_more_time_than_they_are(tmp_path):
    path = tmp_path / "tiny.mka"
    packets = [
        cluster(k // 16, [(1, pcm(16_000)[2 * n : 2 * n + 2]) for n in range(k, k + 1000)])
        for k in range(0, 16_000, 1000)
    ]
    path.write_bytes(matroska([sound_track()], packets))
    samples, _ = read_audio(path)
    np.testing.assert_array_equal(samples[:, 0] * 32768, np.frombuffer(pcm(16_000), np.int16))


def test_packets_of_one_sample_each_are_refused_in_the_end(tmp_path):
    path = tmp_path / "packets.mka"
    path.write_bytes(matroska([sound_track()], [cluster(k, [(1, b"\1\2")] * 16_000) for k in range(10)]))
    with pytest.raises(OSError, match=r"packets\.mka has \d+ packets within .* s of sound; 5000 a second"):
        read_audio(path)


@pytest.mark.parametrize("variable", ["OPENAVC_LOWEST_RATE", "OPENAVC_HIGHEST_RATE"])
def test_a_limit_of_rates_that_is_no_number_is_told(variable, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", noise(800), 8000)
    monkeypatch.setenv(variable, "some")
    with pytest.raises(ValueError, match=f"{variable} must be a whole number of Hz, got 'some'"):
        read_audio(tmp_path / "a.wav")


def test_large_pixels_count_as_several(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "10000")
    (tmp_path / "deep.tif").write_bytes(striped_tiff(100, 16, 4, 1))
    assert read_image(tmp_path / "deep.tif").shape == (100, 100, 3)
    (tmp_path / "deeper.tif").write_bytes(striped_tiff(100, 32, 3, 3))
    with pytest.raises(OSError, match="100 x 100 pixels of 12 bytes, the limit is 10,000"):
        read_image(tmp_path / "deeper.tif")
