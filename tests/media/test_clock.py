"""Times that jump, go back or are missing: sound and pictures go on together, each moment in its place."""

import itertools
import struct
import warnings
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from videos import noise, numbers_of, tone, write_sound

from openavc.media.audio import read_audio, stream_blocks
from openavc.media.clock import start_seconds
from openavc.media.container import Demuxer
from openavc.media.resample import resample
from openavc.media.video import Video, _timed, read_frame, read_frames

RATE = 48_000  # Hz
HOUR = 3600.0  # seconds


def write_film(
    path, starts, hertz, seconds=2.0, codec="libx264", sound_codec="mp2", container="mpegts", options=None, muxing=None
):
    """Write one recording after each other: 25 frames a second, of one grey each, and a tone of its own each."""
    with av.open(str(path), "w", format=container, options=muxing or {}) as file:
        video = file.add_stream(codec, rate=25, width=32, height=32, pix_fmt="yuv420p", options=options or {})
        audio = file.add_stream(sound_codec, rate=RATE, layout="mono")
        video.codec_context.time_base = Fraction(1, 25)
        number = itertools.count()
        for start, pitch in zip(starts, hertz, strict=True):
            for k in range(round(seconds * 25)):
                grey = np.full((32, 32, 3), 20 + 8 * (next(number) % 25), np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, "rgb24")
                frame.pts, frame.time_base = round(start * 25) + k, Fraction(1, 25)
                file.mux(video.encode(frame))
                sound = tone(pitch, seconds, RATE)[k * RATE // 25 : (k + 1) * RATE // 25]
                sound = av.AudioFrame.from_ndarray(np.round(sound * 32767).astype(np.int16)[None], "s16", "mono")
                sound.sample_rate, sound.time_base = RATE, Fraction(1, RATE)
                sound.pts = round(start * RATE) + k * RATE // 25
                file.mux(audio.encode(sound))
        file.mux([*video.encode(), *audio.encode()])
    return path


def join(path, parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def pitches(samples, rate, seconds=0.25):
    """Return the loudest frequency of each quarter of a second, in Hz, to 4 Hz; 0 for silence."""
    length = round(rate * seconds)
    whole = samples[: len(samples) // length * length].mean(axis=1).reshape(-1, length)
    spectrum = np.abs(np.fft.rfft(whole * np.hanning(length)))
    return np.where(np.abs(whole).max(axis=1) > 0.01, spectrum.argmax(axis=1) / seconds, 0)


def read_both(path):
    """Return times and numbers of the frames, the sound and the warnings of a file opened once."""
    with warnings.catch_warnings(record=True) as caught, Video(path) as video:
        warnings.simplefilter("always")
        times, frames = zip(*video.frames(), strict=True)
        sound, rate = np.concatenate(list(video.sound())), video.sample_rate
    numbers = numbers_of([frame.mean() / 255 for frame in frames])
    return np.array(times), numbers, sound, rate, [str(warning.message) for warning in caught]


# ---------------------------------------------------------------------------------------------- joined and jumping


@pytest.mark.parametrize(
    "container, codec, sound_codec",
    [
        *[("mpegts", "libx264", "aac"), ("mpegts", "libx264", "mp2"), ("mpegts", "mpeg2video", "mp2")],
        ("mpeg", "mpeg2video", "mp2"),
    ],
)
@pytest.mark.parametrize("parts", [2, 9])
def test_joined_recordings_follow_each_other_with_the_sound_of_each(container, codec, sound_codec, parts, tmp_path):
    hertz = [400 + 200 * part for part in range(parts)]
    files = [
        write_film(tmp_path / str(pitch), [0], [pitch], codec=codec, sound_codec=sound_codec, container=container)
        for pitch in hertz
    ]
    path = join(tmp_path / "joined", files)
    times, numbers, sound, rate, told = read_both(path)
    assert len(times) == 50 * parts
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.03)
    np.testing.assert_array_equal(np.diff(numbers) % 25, 1)
    assert len(sound) / rate == pytest.approx(2 * parts, abs=0.2)
    for part, pitch in enumerate(hertz):  # of the quarter in the middle of the part, by its pictures
        middle = times[50 * part] + 0.5
        found = pitches(sound[round(middle * rate) : round((middle + 1) * rate)], rate)
        np.testing.assert_allclose(found, pitch, atol=4)
    assert len(told) == 1
    assert str(path) in told[0]
    assert 1.9 < float(told[0].split(" s;")[0].split()[-1]) < 2.1


def test_reading_sound_and_pictures_apart_gives_the_same_times(tmp_path):
    parts = [write_film(tmp_path / name, [0], [pitch], sound_codec="aac") for name, pitch in (("1", 400), ("2", 800))]
    path = join(tmp_path / "joined.ts", parts)
    times, _, sound, _, _ = read_both(path)
    with pytest.warns(UserWarning, match=r"joined\.ts: its times jump at (1\.9|2\.0)"):
        apart, _ = read_audio(path)
    with pytest.warns(UserWarning, match=r"joined\.ts: its times jump at (1\.9|2\.0)"):
        assert [time for time, _ in read_frames(path)] == list(times)
    np.testing.assert_array_equal(apart, sound)


def test_the_frame_at_a_time_of_a_joined_file_is_the_one_that_is_shown(tmp_path):
    parts = [write_film(tmp_path / "1", [0], [400]), write_film(tmp_path / "2", [0], [800], seconds=1.0)]
    path = join(tmp_path / "joined.ts", parts)
    with pytest.warns(UserWarning):
        frames = dict(read_frames(path))
    assert len(frames) == 75
    for time in list(frames)[::12]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(read_frame(path, time + 0.02), frames[time])


@pytest.mark.parametrize(
    "container, codec, sound_codec, jump",
    [
        *[("mpegts", "libx264", "aac", 10 * HOUR), ("mpegts", "libx264", "aac", 11.0)],
        *[("matroska", "libx264", "aac", 100 * HOUR), ("nut", "mpeg4", "aac", 100 * HOUR)],
        *[("mp4", "libx264", "aac", 10 * HOUR), ("mov", "mpeg4", "pcm_s16le", 10 * HOUR)],
        *[("asf", "mpeg4", "mp2", 10 * HOUR), ("flv", "libx264", "aac", 10 * HOUR)],
    ],
)
def test_a_long_jump_is_closed_with_one_warning(container, codec, sound_codec, jump, tmp_path):
    starts = [0, 2 + jump, 4 + 2 * jump]
    path = write_film(tmp_path / "a", starts, [400, 800, 1200], 2.0, codec, sound_codec, container)
    times, _, sound, rate, told = read_both(path)
    assert len(times) == 150
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.03)
    assert len(sound) / rate == pytest.approx(6, abs=0.2)
    for part, pitch in enumerate([400, 800, 1200]):
        middle = times[50 * part] + 0.5
        np.testing.assert_allclose(pitches(sound[round(middle * rate) :][:rate], rate), pitch, atol=4)
    assert len(told) == 1
    assert str(path) in told[0]


@pytest.mark.parametrize("gap", [3.0, 9.0])
def test_a_true_gap_stays_a_gap(gap, tmp_path):
    path = write_film(tmp_path / "a.ts", [0, 2 + gap], [400, 800], sound_codec="mp2")
    times, _, sound, rate, told = read_both(path)
    assert not told
    assert np.diff(times).max() == pytest.approx(gap + 0.04, abs=0.002)
    assert len(sound) / rate == pytest.approx(4 + gap, abs=0.05)
    found = pitches(sound, rate)
    assert (found[1:7] == 400).all()
    assert (found[9 : round(4 * gap) + 7] == 0).all()
    assert (found[-6:-1] == 800).all()


@pytest.mark.parametrize("name", ["a.mka", "a.nut"])
def test_hundred_hours_of_nothing_are_left_out_unless_asked_for(name, tmp_path, monkeypatch):
    waveform = tone(440, 1, 8000)
    write_sound(tmp_path / name, waveform, 8000, "pcm_s16le", starts=[0, 100 * HOUR])
    with pytest.warns(UserWarning, match=rf"{name}: its times jump at 1\.00 s; .*OPENAVC_LONGEST_GAP") as caught:
        found, _ = read_audio(tmp_path / name)
    assert len(caught) == 1
    np.testing.assert_allclose(found[:, 0], np.tile(waveform, 2), atol=1e-4)

    write_sound(tmp_path / name, waveform, 8000, "pcm_s16le", starts=[0, 700])
    monkeypatch.setenv("OPENAVC_LONGEST_GAP", "1000")
    assert len(read_audio(tmp_path / name)[0]) == pytest.approx(701 * 8000, abs=16)


@pytest.mark.parametrize("given", ["long", "-1", "0", "nan"])
def test_a_longest_gap_that_is_no_number_is_refused(given, tmp_path, monkeypatch):
    write_sound(tmp_path / "a.mka", tone(440, 1, 8000), 8000, "pcm_s16le")
    monkeypatch.setenv("OPENAVC_LONGEST_GAP", given)
    with pytest.raises(ValueError, match=f"OPENAVC_LONGEST_GAP must be a positive number.*{given}"):
        read_audio(tmp_path / "a.mka")


def test_sound_that_begins_after_hours_begins_at_once(tmp_path):
    write_sound(tmp_path / "a.mkv", tone(440, 1, 8000), 8000, "pcm_s16le", starts=[100 * HOUR], picture=True)
    with pytest.warns(UserWarning, match=r"a\.mkv: its times jump at 0\.0"):
        assert len(read_audio(tmp_path / "a.mkv")[0]) == pytest.approx(8000, abs=400)


# ------------------------------------------------------------------------------------------- order of presentation


@pytest.mark.parametrize("options", [{}, {"bf": "0"}, {"bf": "3", "b_strategy": "0"}], ids=["auto", "none", "three"])
def test_h264_in_avi_has_the_times_at_which_it_was_written(options, tmp_path):
    path = write_film(tmp_path / "a.avi", [0], [400], container="avi", options=options)
    times, numbers, _, _, told = read_both(path)
    np.testing.assert_allclose(times, np.arange(50) * 0.04, atol=1e-6)
    np.testing.assert_array_equal(np.diff(numbers) % 25, 1)
    assert not told


def clock_of(data, kind):
    """Return the ticks a second of the first such header (ISO 14496-12, 8.2.2 and 8.4.2)."""
    return struct.unpack_from(">I", data, data.index(kind) + 16)[0]


def test_frames_that_an_edit_list_cuts_off_do_not_pile_up_at_the_start(tmp_path):
    path = write_film(tmp_path / "a.mp4", [0], [400], sound_codec="aac", container="mp4", options={"bf": "0"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # ISO 14496-12, 8.6.6: duration and beginning of the first edit, of the pictures
    struct.pack_into(">Ii", data, entry, clock_of(data, b"mvhd") * 3 // 2, clock_of(data, b"mdhd") // 2)
    path.write_bytes(data)
    times, numbers, _, _, _ = read_both(path)
    assert (np.diff(times) > 0.03).all()
    assert times[0] == pytest.approx(0, abs=0.001)
    assert 12 <= numbers[0] <= 13  # what was written at half a second


def test_repeated_edits_of_mp4_are_no_jumps(tmp_path):
    path = write_film(tmp_path / "a.mov", [0], [400], codec="libx264", sound_codec="pcm_s16le", container="mov")
    data = path.read_bytes()
    sound = data.rindex(b"trak")
    old = data.index(b"edts", sound) - 4
    (size,) = struct.unpack_from(">I", data, old)
    edits = [(clock_of(data, b"mvhd") // 2, RATE // 2)] * 3  # half a second from half a second on, thrice
    table = b"".join(struct.pack(">IiI", *edit, 1 << 16) for edit in edits)
    box = struct.pack(">I4sI4sII", len(table) + 24, b"edts", len(table) + 16, b"elst", 0, len(edits)) + table
    grown, data = len(box) - size, bytearray(data[:old] + box + data[old + size :])
    assert data.index(b"mdat") < data.index(b"moov")  # so that no offset changes
    for kind, start in ((b"moov", 0), (b"trak", data.index(b"moov"))):
        at = data.rindex(kind) if kind == b"trak" else data.index(kind, start)
        struct.pack_into(">I", data, at - 4, struct.unpack_from(">I", data, at - 4)[0] + grown)
    path.write_bytes(data)
    _, _, found, rate, told = read_both(path)
    assert not told
    with av.open(str(path)) as file:
        expected = sum(frame.samples for frame in file.decode(audio=0))
    assert len(found) == pytest.approx(expected, abs=rate // 20)
    assert expected > rate // 2


# ------------------------------------------------------------------------------------------------- changes of rate


@pytest.mark.parametrize("container, codec", [("flac", "flac"), ("ogg", "libopus")])
def test_nothing_is_cut_where_sound_alone_was_joined(container, codec, tmp_path):
    parts = [tmp_path / "1", tmp_path / "2"]
    for part, seed in zip(parts, (0, 1), strict=True):
        write_sound(part, noise(3 * RATE, seed), RATE, codec, container=container)
    path = join(tmp_path / "joined", parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with av.open(str(path)) as file:
            [stream] = file.streams
            blocks = stream_blocks(Demuxer(file, [stream], path), stream, start_seconds(file), "float32")
            length = sum(map(len, blocks))
    assert length == pytest.approx(6 * RATE, abs=RATE // 50)


@pytest.mark.parametrize("rates", [(44_100, 48_000), (48_000, 44_100), (44_100, 32_000)], ids=str)
def test_raw_sound_that_changes_its_rate_is_resampled_without_clicks_and_holes(rates, tmp_path):
    parts = [tmp_path / "1", tmp_path / "2"]
    for part, rate, seconds in zip(parts, rates, (2, 20), strict=True):
        write_sound(part, tone(500, seconds, rate), rate, "aac", container="adts")
    found, rate = read_audio(join(tmp_path / "both.aac", parts))
    assert rate == rates[0]
    assert (pitches(found, rate)[:-1] == 500).all()
    first, second = (decoded(part) for part in parts)
    second = resample(second, rates[1], rate)
    assert len(found) == len(first) + len(second)
    np.testing.assert_allclose(found[: len(first), 0], first, atol=1e-6)
    settled = round(0.1 * rate)  # the decoder's first frame overlaps with what came before
    np.testing.assert_allclose(found[len(first) + settled :, 0], second[settled:], atol=5e-3)  # AAC's noise is random


def decoded(path):
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


class Played:
    """Frames with times as a container gives them, on a clock that begins at 0."""

    def __init__(self, times):
        self.frames = [SimpleNamespace(pts=None if time is None else round(time * 100), time=time) for time in times]
        self.sent = {0: []}

    def decode(self, _):
        return iter(self.frames)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 0.1, 0.2], [0, 0.1, 0.2]),
        ([-0.3, -0.2, -0.1, 0, 0.1], [0, 0.1]),  # before an edit list's start
        ([-0.25, -0.15, -0.05, 0.05, 0.15], [0, 0.05, 0.15]),  # the one that is shown at the start
        ([-0.2, -0.1], [0]),
        ([None, None, None], [0, 0.1, 0.2]),
        ([0, 0.1, None, 0.3], [0, 0.1, 0.2, 0.3]),
        ([0, 0.1, 0.2, 0.0, 0.1, 0.5], [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
    ids=str,
)
def test_times_that_are_missing_or_wrong_do_not_pile_up(given, expected):
    stream = SimpleNamespace(index=0, average_rate=10)
    found = [time for time, _ in _timed(Played(given), stream, 0.0)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
