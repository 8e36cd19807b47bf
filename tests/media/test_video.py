"""Video input: frames at their true times, upright, and a file that is opened once."""

import csv
import itertools
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from pictures import exif
from PIL import Image
from videos import RATE, UNEVEN, noise, numbers_of, write_sound, write_video

from openavc.media.audio import read_audio
from openavc.media.video import Video, read_frame, read_frames


def times_and_numbers(path, frame_rate=None):
    """Return the time of each frame, and its number, recognised by its grey."""
    times, frames = zip(*read_frames(path, frame_rate), strict=True)
    return list(times), list(numbers_of([frame.mean() / 255 for frame in frames]))


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
    "matrix",
    [
        (1, 0, 0, 1),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (0, -1, 1, 0),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
    ids="upright,90 clockwise,180,90 anticlockwise,left to right,upside down,transposed,transversed".split(","),
)
def test_frames_are_turned_and_mirrored_as_the_track_header_asks(matrix, tmp_path):
    stored = np.array([[30, 90, 150], [210, 60, 120]], np.uint8)
    picture = np.stack([stored.repeat(32, axis=0).repeat(32, axis=1)] * 3, axis=-1)
    data = bytearray(write_video(tmp_path / "a.mp4", [0], "libx264", pictures=[picture]).read_bytes())
    a, b, c, d = matrix  # ISO 14496-12, 8.3.2: x' = a x + c y, y' = b x + d y, y downwards
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *values)
    (tmp_path / "a.mp4").write_bytes(data)
    y, x = np.mgrid[:2, :3]
    columns, rows = a * x + c * y, b * x + d * y
    columns, rows = columns - columns.min(), rows - rows.min()
    expected = np.zeros((rows.max() + 1, columns.max() + 1))
    expected[rows, columns] = stored
    [(_, frame)] = read_frames(tmp_path / "a.mp4")
    assert frame.shape == (*(32 * side for side in expected.shape), 3)
    np.testing.assert_allclose(frame[16::32, 16::32, 1], expected, atol=6)


def test_a_telephone_video_held_upright_is_taller_than_wide(shared):
    _, frame = next(read_frames(shared / "data/clips/rotate90.mov"))
    assert frame.shape == (568, 320, 3)  # stored 568 wide, with a turn of 90 degrees


def test_frames_with_data_that_pyav_has_no_name_for_are_read(tmp_path):
    Image.new("RGB", (48, 32), "red").save(tmp_path / "a.png", exif=exif(1))  # EXIF is of such a kind before PyAV 19
    [(_, frame)] = read_frames(tmp_path / "a.png")
    np.testing.assert_array_equal(frame, np.full((32, 48, 3), [255, 0, 0]))


# --------------------------------------------------------------------------------------------- shape and colours


def write_wide_pixels(path, aspect, codec="libx264"):
    """Write a frame, its left half dark and its right half light, whose pixels have another width than height."""
    picture = np.full((64, 96, 3), 40, np.uint8)
    picture[:, 48:] = 200
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=25, width=96, height=64, pix_fmt="yuv420p")
        video.codec_context.sample_aspect_ratio = aspect
        file.mux([*video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")), *video.encode()])
    return path


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("aspect, width", [((64, 45), 137), ((8, 9), 85), ((2, 1), 192), ((1, 1), 96)])
def test_frames_have_the_shape_in_which_they_are_shown(aspect, width, name, codec, tmp_path):
    path = write_wide_pixels(tmp_path / name, Fraction(*aspect), codec)
    [(_, frame)] = read_frames(path)
    assert frame.shape == read_frame(path, 0).shape == (64, width, 3)
    assert frame[:, : width // 2 - 4].max() < 60 < 180 < frame[:, width // 2 + 4 :].min()
    assert next(read_frames(path, size=(32, 32)))[1].shape == (32, 32, 3)  # a size is the caller's


def test_pixels_are_widened_before_a_frame_is_turned(tmp_path):
    data = bytearray(write_wide_pixels(tmp_path / "a.mp4", Fraction(2, 1)).read_bytes())
    values = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *values)
    (tmp_path / "a.mp4").write_bytes(data)
    [(_, frame)] = read_frames(tmp_path / "a.mp4")
    assert frame.shape == (192, 64, 3)
    assert frame[:90].max() < 60 < 180 < frame[102:].min()


def test_a_frame_too_wide_to_be_shown_is_refused_by_name(tmp_path, monkeypatch):
    path = write_wide_pixels(tmp_path / "a.mkv", Fraction(20, 1))
    monkeypatch.setenv("OPENAVC_MAX_PIXELS", "100000")
    with pytest.raises(OSError, match=r"a\.mkv: pixels of 20:1 .*1920 x 64 pixels, the limit is 100,000"):
        list(read_frames(path))


def test_one_warning_names_a_video_for_hdr_screens(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25, width=32, height=32, pix_fmt="yuv420p")
        video.codec_context.color_trc = 16
        for _ in range(3):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        file.mux(video.encode())
    with pytest.warns(UserWarning, match=r"a\.mp4: .*HDR screens \(PQ\)") as caught:
        assert len(list(read_frames(path))) == 3
    assert len(caught) == 1


# ------------------------------------------------------------------------------------------------ sound and picture


def side_by_side(video):
    frames, blocks, sound = [], video.sound(), []
    for item in video.frames():
        frames.append(item)
        sound += list(itertools.islice(blocks, 1))
    return frames, [*sound, *blocks]


READ = {  # whichever is asked for first
    "frames first": lambda video: (list(video.frames()), list(video.sound())),
    "sound first": lambda video: tuple(reversed((list(video.sound()), list(video.frames())))),
    "side by side": side_by_side,
}


@pytest.mark.parametrize("order", READ)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["a.mov", "a.mkv"])
@pytest.mark.parametrize("picture_start, sound_start", [(0, 0), (0.52, 0), (0, 0.52), (3, 3.2)])
def test_a_video_opened_once_gives_what_is_read_apart(picture_start, sound_start, name, dtype, order, tmp_path):
    sound = np.stack([noise(3 * RATE, 0), noise(3 * RATE, 1)], axis=1)
    times = [picture_start + time for time in UNEVEN]
    path = write_video(tmp_path / name, times, "mpeg4", sound=sound, sound_start=sound_start)
    expected_sound, rate = read_audio(path)
    expected = list(read_frames(path))
    with Video(path, dtype) as video:
        assert video.sample_rate == rate
        frames, blocks = READ[order](video)
    samples = np.concatenate(blocks)
    assert samples.dtype == dtype
    np.testing.assert_array_equal(samples, expected_sound)
    assert [time for time, _ in frames] == [time for time, _ in expected]
    np.testing.assert_array_equal([frame for _, frame in frames], [frame for _, frame in expected])


def test_a_video_is_sampled_as_its_frames_are(tmp_path):
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=noise(RATE))
    with Video(path) as video:
        times = [time for time, _ in video.frames(5)]
    assert times == [time for time, _ in read_frames(path, 5)]


def test_a_video_that_lacks_pictures_or_sound_is_refused_when_it_is_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.mkv"):
        Video(tmp_path / "gone.mkv")
    with pytest.raises(OSError, match=r"mute\.mkv holds no sound"):
        Video(write_video(tmp_path / "mute.mkv", UNEVEN))
    write_sound(tmp_path / "a.mkv", noise(RATE), RATE, "pcm_s16le")
    with pytest.raises(OSError, match=r"a\.mkv holds no pictures"):
        Video(tmp_path / "a.mkv")


@pytest.mark.parametrize(("time", "number"), [(0, 0), (0.1, 1), (0.2, 2), (0.26, 3), (0.9, 3), (1.0, 4), (9.0, 5)])
def test_the_frame_at_a_time_is_the_one_that_is_shown(time, number, tmp_path):
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=noise(RATE))
    assert numbers_of([read_frame(path, time).mean() / 255]) == [number]


# ------------------------------------------------------------------------------------------------ names and tags


@pytest.mark.parametrize("name", ["12:30.mkv", "a b.mkv", "-a.mkv", "100%d.mkv", "é.mkv"])
def test_any_file_name_can_be_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("a.mkv", UNEVEN, sound=noise(RATE))
    (tmp_path / "a.mkv").rename(name)
    assert times_and_numbers(name)[1] == list(range(len(UNEVEN)))
    assert len(read_audio(name)[0]) == RATE


@pytest.mark.parametrize(("ending", "codec"), [(".flv", "flv"), (".mpg", "mpeg2video")])
def test_streams_that_are_found_late_are_read(ending, codec, tmp_path):
    """Neither FLV nor MPEG program streams say at their start which streams they have."""
    write_video(tmp_path / f"a{ending}", np.arange(50) / 25, codec, clock=25, size=(64, 64))
    assert len(times_and_numbers(tmp_path / f"a{ending}")[0]) == 50


def test_titles_that_are_not_utf8_do_not_matter(tmp_path):
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=noise(RATE))
    data = path.read_bytes()
    assert b"ENCODER" in data
    path.write_bytes(data.replace(b"ENCODER", b"TITR\xc9ES"))  # Latin-1
    assert times_and_numbers(path)[1] == list(range(len(UNEVEN)))
    assert len(read_audio(path)[0]) == RATE


def test_an_index_of_subtitles_does_not_open_the_file_beside_it(tmp_path):
    """FFmpeg's reader of VobSub would open `index.sub`."""
    index = tmp_path / "index.mkv"
    index.write_text("# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n")
    with pytest.raises(OSError, match="it points to other files, and such lists aren't followed"):
        Video(index)
