"""Clips: windows of sound and runs of frames, their starts, their content, and what lies beyond the ends."""

import itertools
import math
import warnings
import weakref
from fractions import Fraction

import numpy as np
import pytest
from videos import RATE, noise, numbers_of, write_video

from openavc.media.clips import (
    FramesInput,
    SoundInput,
    count_windows,
    cut,
    cut_stretches,
    frame_runs,
    frames_around,
    model_sound,
    sound_around,
    video_clips,
    window_around,
    window_start,
)

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


@pytest.mark.parametrize("group", [1, 4, 15, 16, 17, 1000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stretch_has_no_window_beyond_the_last(group, channels, dtype):
    samples = np.arange(1, 245 * channels + 1, dtype=dtype).reshape(245, channels)
    blocks = iter(np.split(samples, [3, 100, 101, 240]))
    stretches = list(
        cut_stretches(blocks, itertools.count(step=10), 100, lambda n: 1 + math.ceil((n - 100) / 10), group=group)
    )
    assert [len(starts) for starts, _ in stretches] == [min(group, 16 - k) for k in range(0, 16, group)]
    padded = np.concatenate([samples, np.zeros((5, channels))])
    for starts, stretch in stretches:
        assert starts == list(range(starts[0], starts[-1] + 1, 10))
        assert stretch.dtype == dtype
        np.testing.assert_array_equal(stretch, padded[starts[0] : starts[-1] + 100])


def test_no_more_windows_are_planned_than_there_are():
    planned = itertools.count()
    starts = (10 * next(planned) for _ in itertools.repeat(0))
    (only,) = cut_stretches(iter([np.zeros((200, 1))]), starts, 100, lambda n: 11, group=10**9)
    assert len(only[0]) == 11
    assert next(planned) <= 13


@pytest.mark.parametrize(
    ("time", "expected"), [(0, (-50, 50)), (1.5, (100, 200)), (0.004, (-50, 50)), (2.37, (187, 287))]
)
def test_a_window_around_a_time_may_begin_before_0(time, expected):
    assert window_around(time, 1.0, 100) == expected


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 2)])
@pytest.mark.parametrize(("start", "end"), [(0, 30), (5, 9), (-7, 3), (25, 40), (-10, -2), (31, 35), (-3, 33)])
def test_what_is_cut_beyond_the_ends_is_zeros(start, end, shape):
    samples = np.arange(1, 1 + math.prod(shape), dtype=np.float64).reshape(shape)
    padded = np.concatenate([np.zeros((10, *shape[1:])), samples, np.zeros((10, *shape[1:]))])
    window = cut(samples, start, end)
    assert window.dtype == np.float64
    np.testing.assert_array_equal(window, padded[start + 10 : end + 10])


def test_sound_around_a_time_is_centred_on_it():
    samples = np.zeros((300, 2), np.float32)
    samples[120] = [0.5, -0.5]
    np.testing.assert_array_equal(sound_around(samples, 100, 1.2, 1.0)[50], [0.5, -0.5])
    np.testing.assert_array_equal(sound_around(samples, 100, 1.0, 1.0)[70], [0.5, -0.5])
    assert sound_around(samples, 100, 0.0, 1.0).shape == (100, 2)


@pytest.mark.parametrize(
    ("given", "channels", "mixed"),
    [(1, 1, lambda s: s), (2, 2, lambda s: s), (2, 1, lambda s: s.mean(1)[:, None]), (1, 2, lambda s: s.repeat(2, 1))],
)
def test_a_network_hears_the_channels_that_it_takes(given, channels, mixed):
    samples = noise(240 * given).reshape(240, given)
    sound = SoundInput(100, 1.0, channels)
    found = np.concatenate(list(model_sound(iter(np.split(samples, [100])), 100, sound)))
    np.testing.assert_allclose(found, mixed(samples), atol=1e-7)


# --------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(("count", "length"), [(9, 5), (5, 5), (3, 5), (2, 7), (1, 3), (4, 1), (0, 3), (6, 4)])
def test_every_frame_has_a_run_around_it_whose_edges_are_repeated(count, length):
    timed = [(0.1 * number, np.array([number])) for number in range(count)]
    runs = list(frame_runs(iter(timed), FramesInput(1, 1, length, 10.0)))
    expected = [[min(max(middle - length // 2 + k, 0), count - 1) for k in range(length)] for middle in range(count)]
    assert [time for time, _ in runs] == [time for time, _ in timed]
    assert [run[:, 0].tolist() for _, run in runs] == expected


@pytest.mark.parametrize("frame_rate", [None, 7.0])
@pytest.mark.parametrize("rate", [5.0, 12.5, 25.0, 60.0])
@pytest.mark.parametrize("length", [3, 6, 11])
def test_a_run_holds_the_frames_shown_at_the_networks_own_rate(length, rate, frame_rate):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 60))
    timed = [(time, np.array([number])) for number, time in enumerate(times)]
    runs = list(frame_runs(iter(timed), FramesInput(1, 1, length, rate), frame_rate))
    assert len(runs) == len(times) if frame_rate is None else 10 < len(runs) < len(times)
    for time, run in runs:
        wanted = [time + (k - length // 2) / rate for k in range(length)]
        shown = [max((n for n, at in enumerate(times) if at <= moment + 0.001), default=0) for moment in wanted]
        assert run[:, 0].tolist() == shown
        np.testing.assert_array_equal(frames_around(times, time, length, rate), shown)


def test_only_the_frames_of_one_run_are_kept():
    drawn = []

    def endless():
        for number in itertools.count():
            drawn.append(number)
            yield number / 25, np.array([number])

    runs = frame_runs(endless(), FramesInput(1, 1, 5, 25.0))
    for middle in range(50):
        next(runs)
        assert len(drawn) <= middle + 5  # two frames after the middle one, and one that is beyond them


def test_a_picture_is_a_clip_of_one_frame():
    (time, run), *_ = frame_runs(iter([(0.5, np.ones((2, 3, 3)))]), FramesInput(2, 3))
    assert (time, run.shape) == (0.5, FramesInput(2, 3).shape) == (0.5, (1, 2, 3, 3))
    assert frames_around(np.array([0, 0.1, 0.2]), 0.15, 1, None).tolist() == [1]


# ---------------------------------------------------------------------------------------------------------- videos


def clips_of(path, count, rate, frame_rate=None):
    """Return (times, numbers of the frames in each clip, messages of warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clips = list(video_clips(path, SoundInput(RATE, 0.25), FramesInput(32, 32, count, rate), frame_rate))
    numbers = [numbers_of(clip.frames.mean(axis=(1, 2, 3)) / 255).tolist() for clip in clips]
    return [clip.time for clip in clips], numbers, [str(warning.message) for warning in caught]


def test_a_video_of_30_frames_a_second_gives_a_network_of_25_what_is_shown_at_its_times(tmp_path):
    path = write_video(tmp_path / "a.mkv", [k / 30 for k in range(24)], clock=30_000, sound=noise(RATE))
    times, numbers, messages = clips_of(path, 5, 25.0)
    np.testing.assert_allclose(times, np.arange(24) / 30, atol=0.0011)
    # frame k is shown from k / 30 s: at 40 ms before it that is the one two before, at 80 ms the one three before ...
    assert numbers[10] == [7, 8, 10, 11, 12]
    offsets = [-3, -2, 0, 1, 2]
    assert numbers == [[min(max(k + offset, 0), 23) for offset in offsets] for k in range(24)]
    assert not messages


def test_a_video_of_12_5_frames_a_second_repeats_them_and_that_is_warned_of_once(tmp_path):
    path = write_video(tmp_path / "slow.mkv", [k / 12.5 for k in range(12)], sound=noise(RATE))
    _, numbers, messages = clips_of(path, 5, 25.0)
    offsets = [-1, -1, 0, 0, 1]
    assert numbers == [[min(max(k + offset, 0), 11) for offset in offsets] for k in range(12)]
    [message] = messages
    assert "slow.mkv has about 12.5 frames a second, the model takes 25: frames are repeated" in message


def test_a_network_of_pictures_is_never_told_that_a_video_is_slow(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0, 0.5, 1], sound=noise(RATE))
    assert clips_of(path, 1, None) == ([0, 0.5, 1], [[0], [1], [2]], [])


@pytest.mark.parametrize("frame_rate", [5, 12.5])
def test_clips_at_a_frame_rate_are_some_of_those_around_every_frame(frame_rate, tmp_path):
    path = write_video(tmp_path / "a.mkv", [k / 25 for k in range(20)], sound=noise(RATE))
    all_times, all_numbers, _ = clips_of(path, 5, 25.0)
    times, numbers, _ = clips_of(path, 5, 25.0, frame_rate)
    step = round(25 / frame_rate)
    assert times == all_times[::step]
    assert numbers == all_numbers[::step]


@pytest.mark.parametrize("count, rate, most", [(1, None, 2), (25, None, 28), (25, 0.1, 28)])
def test_no_more_frames_are_kept_than_a_clip_needs(count, rate, most):
    alive, peak = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        """An array that can be weakly referenced."""

        __hash__ = object.__hash__

    def frames():
        nonlocal peak
        for number in range(600):
            frame = np.zeros((2, 2, 3), np.uint8).view(Frame)
            alive.add(frame)
            peak = max(peak, len(alive))
            yield number / 25, frame

    for _ in frame_runs(frames(), FramesInput(2, 2, count, 25.0), rate):
        pass
    assert count <= peak <= most


def test_clips_of_several_frames_need_a_rate():
    assert (FramesInput(8, 8, 5, 25.0).before, FramesInput(8, 8, 5, 25.0).after) == (0.08, 0.08)
    assert (FramesInput(8, 8).before, FramesInput(8, 8).after) == (0, 0)
    with pytest.raises(ValueError, match="5 frames need a rate"):
        FramesInput(8, 8, 5)
