"""Video input: frames at their true times, upright, each with the sound around it."""

import copy
import csv
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import resampy
import torch
from torch import nn

import openavc
from openavc.audio import read_audio
from openavc.video import read_frames

RATE = 8_000  # Hz, of the sound in most tests
UNEVEN = [0, 0.04, 0.2, 0.25, 1.0, 1.48]  # seconds


def write_video(path, times, codec="ffv1", clock=1000, sound=None, rate=RATE, sound_start=0.0, size=(32, 32)):
    """Frames of one grey each, which grows by 8 a frame, at `times` (seconds); 16-bit mono PCM beside them."""
    height, width = size
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=25, width=width, height=height, pix_fmt="yuv420p")
        video.codec_context.time_base = Fraction(1, clock)
        audio = None if sound is None else file.add_stream("pcm_s16le", rate=rate, layout="mono")
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), min(20 + 8 * index, 255), np.uint8), "rgb24")
            frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if audio:
            samples = np.round(np.atleast_2d(sound) * 32768).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, round(sound_start * rate), Fraction(1, rate)
            file.mux([*audio.encode(frame), *audio.encode()])
    return path


def times_and_numbers(path, frame_rate=None):
    """Time of each frame, and its number as told by its grey."""
    read = [(time, round((float(frame.mean()) - 20) / 8)) for time, frame in read_frames(path, frame_rate)]
    return [time for time, _ in read], [number for _, number in read]


def noise(samples):
    return np.round(np.random.default_rng(0).uniform(-0.5, 0.5, samples) * 32768).astype(np.float32) / 32768


class Hears(nn.Module):
    """Embeds a window of sound as its samples, a picture as its mean."""

    sample_rate, window_seconds, window_samples, image_size = RATE, 0.5, RATE // 2, 32
    embeddings, name = ("features",), "hears"

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def prepare_audio(self, waveforms):
        return waveforms

    def prepare_image(self, images):
        return images

    def embed_audio(self, windows, embedding):
        return windows

    def embed_image(self, images, embedding):
        return images.mean(dim=(1, 2, 3))[:, None]


def cut(waveform, centre, length):
    """`length` samples around sample `centre`, zeros where there is no sound."""
    padded = np.concatenate([np.zeros(length), waveform, np.zeros(10 * length)])
    return padded[round(centre) + length - length // 2 :][:length]


# -------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "name, codec",
    [("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.mov", "mpeg4"), ("a.webm", "libvpx"), ("a.ts", "libx264")],
)
@pytest.mark.parametrize("times", [[k / 25 for k in range(12)], UNEVEN], ids=["25 fps", "uneven"])
def test_every_frame_has_its_presentation_time(name, codec, times, tmp_path):
    found, numbers = times_and_numbers(write_video(tmp_path / name, times, codec))
    assert numbers == list(range(len(times)))  # libx264 stores them in another order
    np.testing.assert_allclose(found, times, atol=0.0011)


@pytest.mark.parametrize(
    "times, frame_rate, expected",
    [
        ([k / 25 for k in range(25)], 10, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]),  # 0, 0.12, 0.2, 0.32 ... s
        ([k / 25 for k in range(25)], 1, [0]),
        ([k / 25 for k in range(25)], 25, range(25)),
        ([k / 25 for k in range(25)], 60, range(25)),
        ([k / 30 for k in range(25)], 30, range(25)),  # the file's times are rounded to ms
        ([k * 1001 / 30_000 for k in range(25)], 30_000 / 1001, range(25)),
        (UNEVEN, 2, [0, 4]),
        (UNEVEN, 5, [0, 2, 4, 5]),
    ],
)
def test_sampling_keeps_the_first_frame_at_or_after_each_multiple(times, frame_rate, expected, tmp_path):
    found, numbers = times_and_numbers(write_video(tmp_path / "a.mkv", times), frame_rate)
    assert numbers == list(expected)
    np.testing.assert_allclose(found, [times[number] for number in expected], atol=0.0011)


@pytest.mark.parametrize("name, codec", [("a.mkv", "ffv1"), ("a.ts", "libx264"), ("a.mp4", "libx264")])
def test_a_video_whose_clock_begins_late_starts_at_zero(name, codec, tmp_path):
    found, _ = times_and_numbers(write_video(tmp_path / name, [7 + k / 25 for k in range(10)], codec))
    np.testing.assert_allclose(found, [k / 25 for k in range(10)], atol=0.0011)


@pytest.mark.parametrize(
    "name, first, second",
    [
        ("hls_60fps_start100s.ts", 0.022, 1 / 60),  # its sound comes 22 ms earlier
        ("hls_credits_noaudio.ts", 0, 1 / 24),  # 585 s
        ("h264_first_pts_10s.mp4", 0, 1 / 30),
        ("edit_list_positive_shift.mp4", 1, 1 / 30),
        ("mpeg2_mp2.mpg", 0.010, 1 / 25),
    ],
)
def test_published_clips_begin_when_they_say(name, first, second, shared):
    frames = read_frames(shared / "data/clips" / name)
    times = [next(frames)[0] for _ in range(2)]
    np.testing.assert_allclose(times, [first, first + second], atol=0.002)


def test_published_clips_have_as_many_frames_as_ffmpeg_counts(shared):
    with open(shared / "data/clips/INDEX.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["ffmpeg5_decode"] == "ok" and row["video_codec"] == "h264"]
    rows = [row for row in rows if int(row["width"]) * int(row["height"]) * int(row["decoded_frames"]) < 1e7]
    assert len(rows) > 5
    for row in rows:
        times = [time for time, _ in read_frames(shared / "data/clips" / row["file"])]
        assert len(times) == int(row["decoded_frames"]), row["file"]
        assert (np.diff(times) > 0).all(), row["file"]


# ------------------------------------------------------------------------------------------------------ rotation


@pytest.mark.parametrize(
    "matrix, turns",  # turns anticlockwise
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["upright", "90 clockwise", "180", "90 anticlockwise"],
)
def test_frames_are_turned_as_the_track_header_asks(matrix, turns, tmp_path):
    stored = np.repeat(np.repeat(np.array([[30, 90, 150], [210, 60, 120]], np.uint8), 32, axis=0), 32, axis=1)
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        video = file.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p")
        frame = av.VideoFrame.from_ndarray(np.stack([stored] * 3, axis=-1), format="rgb24")
        file.mux([*video.encode(frame), *video.encode()])
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    a, b, c, d = (value << 16 for value in matrix)  # ISO 14496-12, 8.3.2: x' = a x + c y, y' = b x + d y, y downwards
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    [(_, frame)] = read_frames(tmp_path / "a.mp4")
    expected = np.rot90(stored, turns)
    assert frame.shape == (*expected.shape, 3)
    np.testing.assert_allclose(frame[16::32, 16::32, 1], expected[16::32, 16::32], atol=6)


def test_a_telephone_video_held_upright_is_taller_than_wide(shared):
    _, frame = next(read_frames(shared / "data/clips/rotate90.mov"))
    assert frame.shape == (568, 320, 3)  # stored 568 wide, with a turn of 90 degrees


# --------------------------------------------------------------------------------------------- sound and picture


@pytest.mark.parametrize("name", ["a.mov", "a.mkv"])
@pytest.mark.parametrize("picture_start, sound_start", [(0, 0), (0.52, 0), (0, 0.52), (3, 3), (4, 3)])
@pytest.mark.parametrize("frame_rate", [None, 4])
def test_each_row_is_the_sound_around_its_frame(name, picture_start, sound_start, frame_rate, tmp_path):
    sound = noise(int(1.3 * RATE))
    times = [picture_start + time for time in UNEVEN]
    path = write_video(tmp_path / name, times, "mpeg4", sound=sound, sound_start=sound_start)
    found = openavc.get_video_embedding(path, Hears(), frame_rate=frame_rate, batch_size=4)
    begin = min(picture_start, sound_start)
    expected = [time - begin for time in times if frame_rate is None or time in times_at(frame_rate, times, begin)]
    np.testing.assert_allclose(found.timestamps, expected, atol=1e-6)
    assert found.timestamps.dtype == np.float64
    timeline = np.concatenate([np.zeros(round((sound_start - begin) * RATE)), sound])
    windows = np.stack([cut(timeline, time * RATE, RATE // 2) for time in expected])
    np.testing.assert_allclose(found.audio, windows, atol=1e-6)
    greys = [20 + 8 * times.index(time + begin) for time in expected]
    np.testing.assert_allclose(found.image[:, 0] * 255, greys, atol=3)


def times_at(frame_rate, times, begin):
    """The first time at or after each multiple of 1 / frame_rate, counted from `begin`."""
    after = [[t for t in times if t - begin >= k / frame_rate - 1e-6] for k in range(100)]
    return {later[0] for later in after if later}


def test_a_click_at_a_frame_is_in_the_middle_of_its_window(tmp_path):
    sound = np.zeros(2 * RATE)
    sound[RATE] = 0.9
    path = write_video(tmp_path / "a.mov", [k / 25 for k in range(50)], "mpeg4", sound=sound)
    audio, _, timestamps = openavc.get_video_embedding(path, Hears())
    row = int(np.argmin(np.abs(timestamps - 1.0)))
    assert timestamps[row] == pytest.approx(1.0)
    assert audio[row].argmax() == RATE // 4  # half of half a second
    assert audio[row + 1].argmax() == RATE // 4 - RATE // 25


def test_frames_in_the_wrong_order_have_ascending_times_and_their_own_sound(tmp_path):
    sound = noise(RATE)
    write_video(tmp_path / "a.mkv", [k / 25 for k in range(8)], sound=sound)
    with av.open(str(tmp_path / "a.mkv")) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                if packet.stream.type == "video":
                    packet.dts -= 40  # ms
                    packet.pts = {80: 120, 120: 80}.get(packet.pts, packet.pts)  # the third and fourth change places
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    audio, _, timestamps = openavc.get_video_embedding(tmp_path / "b.mkv", Hears())
    assert (np.diff(timestamps) >= 0).all()
    windows = np.stack([cut(sound, time * RATE, RATE // 2) for time in timestamps])
    np.testing.assert_allclose(audio, windows, atol=1e-6)


def test_rows_are_those_of_the_window_and_the_picture_embedded_alone(model, tmp_path):
    sound, times = noise(44_100 * 2), [k / 10 for k in range(20)]
    path = write_video(tmp_path / "a.mov", times, "mpeg4", sound=sound, rate=44_100, size=(80, 120))
    found = openavc.get_video_embedding(path, model, embedding="joint", batch_size=3)
    resampled = resampy.resample(sound, 44_100, 24_000, filter="kaiser_best")
    windows = [cut(resampled, time * 24_000, 24_000).astype(np.float32) for time in times]
    alone = [openavc.get_audio_embedding(w, 24_000, model, embedding="joint", center=False)[0][0] for w in windows]
    np.testing.assert_allclose(found.audio, np.stack(alone), atol=1e-4)
    pictures = [openavc.get_image_embedding(frame, model, embedding="joint")[0] for _, frame in read_frames(path)]
    np.testing.assert_allclose(found.image, np.stack(pictures), atol=1e-5)
    np.testing.assert_allclose(found.timestamps, times, atol=1e-6)


def test_video_embeddings_do_not_depend_on_the_batch_size(model, tmp_path):
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=noise(2 * RATE))
    one, many = (openavc.get_video_embedding(path, copy.deepcopy(model), batch_size=size) for size in (1, 32))
    for left, right in zip(one, many, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ names and tags


@pytest.mark.parametrize("name", ["12:30.mkv", "a b.mkv", "-a.mkv", "100%d.mkv", "é.mkv"])
def test_any_file_name_can_be_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("a.mkv", UNEVEN, sound=noise(RATE))
    (tmp_path / "a.mkv").rename(name)
    assert times_and_numbers(name)[1] == list(range(len(UNEVEN)))
    assert len(read_audio(name)[0]) == RATE


def test_titles_that_are_not_utf8_do_not_matter(tmp_path):
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=noise(RATE))
    data = path.read_bytes()
    assert b"ENCODER" in data
    path.write_bytes(data.replace(b"ENCODER", b"TITR\xc9ES"))  # Latin-1
    assert times_and_numbers(path)[1] == list(range(len(UNEVEN)))
    assert len(read_audio(path)[0]) == RATE
