"""Clips that cover a video: where they begin and end, and which frames and samples they hold."""

import itertools

import numpy as np
import pytest
from videos import RATE, greys, noise, numbers_of, write_video

from openavc.media.clips import FramesInput, SoundInput
from openavc.media.covering import at_rate, covering_clips, covering_runs


@pytest.mark.parametrize(
    ("frames", "firsts"), [(1, [0]), (5, [0]), (6, [0]), (7, [0, 1]), (9, [0, 3]), (11, [0, 3, 5]), (12, [0, 3, 6])]
)
def test_runs_overlap_by_half_and_the_last_ends_with_the_frames(frames, firsts):
    runs = list(covering_runs(np.arange(frames)[:, None], 6, 3))
    assert [first for first, _ in runs] == firsts
    for first, run in runs:
        np.testing.assert_array_equal(run[:, 0], np.minimum(first + np.arange(6), frames - 1))


def test_runs_of_no_frames_are_none():
    assert list(covering_runs([], 6, 3)) == []


def test_runs_are_cut_as_soon_as_their_frames_are_read():
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield np.array([number])

    for first, _ in itertools.islice(covering_runs(endless(), 6, 3), 50):
        assert len(read) == first + 6


@pytest.mark.parametrize(
    ("times", "rate", "shown"),
    [
        ([0, 0.04, 0.08], 25, [0, 1, 2]),
        ([0, 0.0401, 0.0799], 25, [0, 1, 2]),  # rounded to milliseconds
        ([0, 0.1, 0.2], 20, [0, 0, 1, 1, 2]),
        ([0, 0.02, 0.04, 0.06, 0.08], 25, [0, 2, 4]),
        ([0.1, 0.2], 10, [0, 0, 1]),  # before the first picture, that one
        ([0, 0.25, 0.3], 10, [0, 0, 0, 2]),
    ],
)
def test_frames_are_repeated_and_skipped_for_another_rate(times, rate, shown):
    assert list(at_rate(zip(times, range(len(times)), strict=True), rate)) == shown


@pytest.mark.parametrize("count", [6, 7])
def test_the_sound_of_a_clip_is_that_of_its_frames(tmp_path, count):
    sound = noise(RATE)
    path = write_video(tmp_path / "a.mkv", np.arange(25) / 25, pictures=greys(25), sound=sound, pixels="bgr0")
    frames = FramesInput(32, 32, count, 25.0)
    clips = list(covering_clips(path, SoundInput(RATE, count / 25), frames))
    assert len(clips) > 5
    for clip in clips:
        first = numbers_of(clip.frames.mean(axis=(1, 2, 3)) / 255)[0]
        assert clip.time == pytest.approx((first + count // 2) / 25)
        start = round(clip.time * RATE) - len(clip.samples) // 2  # half a frame earlier where the count is odd
        wanted = np.concatenate([np.zeros(max(0, -start)), sound[max(0, start) :]])[: len(clip.samples)]
        np.testing.assert_allclose(clip.samples[: len(wanted), 0], wanted, atol=1e-4)
