"""The offset between sound and pictures, on videos of flashes and bursts whose offset is known."""

import io

import numpy as np
import pytest
from fake_model import FakeModel
from flashes import FRAME_RATE, RATE, FlashNet, bursts, events, write_flashes
from videos import write_sound, write_video

import openavc
from openavc.inference.offsets import candidates
from openavc.inference.sync import Sounds, offset_logits
from openavc.media.clips import video_stretches

MODEL = FlashNet()


@pytest.mark.parametrize("late", [0.0, 0.24, -0.4, 0.57])
def test_a_known_offset_is_found_positive_if_the_sound_is_late(tmp_path, late):
    flashing = events(8)
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing, late))
    result = openavc.sync_offset(video, MODEL, max_offset=1.0)
    assert result.offset == pytest.approx(late, abs=0.02)
    assert result.confidence > 0.9
    assert len(result.segments) == 1
    assert result.segments[0].start == 0
    assert result.offsets[np.nanargmax(result.scores)] == pytest.approx(late, abs=0.03)


@pytest.mark.parametrize("frame_rate", [29.97, 24, 50])
def test_other_frame_rates_are_seen_at_the_networks(tmp_path, frame_rate):
    flashing = events(8)
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing, 0.2), frame_rate)
    assert openavc.sync_offset(video, MODEL, max_offset=1.0).offset == pytest.approx(0.2, abs=0.05)  # frames lag


def test_silence_a_still_picture_and_a_foreign_sound_cant_be_told(tmp_path):
    flashing = events(20)
    silent = write_flashes(tmp_path / "silent.mkv", flashing, np.zeros(20 * RATE, np.float32))
    still = write_flashes(tmp_path / "still.mkv", flashing, bursts(flashing), still=True)
    foreign = write_flashes(tmp_path / "foreign.mkv", flashing, bursts(events(20, seed=5)))
    for video, why in (
        (silent, "nowhere do the pictures move while there is sound"),
        (still, "nowhere do the pictures move while there is sound"),
        (foreign, "the network finds no offset from -2 to 2 s that clearly fits (confidence 0."),
    ):
        result = openavc.sync_offset(video, MODEL)
        assert result.offset is None, video
        assert result.confidence < 0.5
        assert str(result).startswith("can't tell")
        assert why in str(result)


def test_a_jump_in_the_middle_makes_two_segments(tmp_path):
    flashing = events(60)
    half = bursts(flashing)[: 30 * RATE]
    sound = np.concatenate([half, bursts(flashing, 0.4)[30 * RATE :]])
    result = openavc.sync_offset(write_flashes(tmp_path / "jump.mkv", flashing, sound), MODEL, max_offset=1.0)
    assert [segment.offset for segment in result.segments] == pytest.approx([0.0, 0.4], abs=0.02)
    assert result.segments[0].end == pytest.approx(30, abs=5)
    assert result.segments[1].end == pytest.approx(60, abs=1)


def test_each_window_of_sound_is_represented_once(tmp_path):
    """Clips are 16 frames apart, offsets a frame: of the 4 s around a clip, the next one shares all but 16 windows."""

    class Counting(FlashNet):
        def __init__(self):
            super().__init__()
            self.heard = 0

        def represent_audio(self, spectrogram):
            self.heard += len(spectrogram)
            return super().represent_audio(spectrogram)

    flashing, model = events(12), Counting()
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing, 0.2))
    clips = list(video_stretches(video, model.sound, model.frames, 0.64, 2.0))
    offsets = candidates(2.0)
    one_by_one = [offset_logits(model, clip, offsets) for clip in clips]
    asked, model.heard = model.heard, 0
    sounds = Sounds(model)
    together = [offset_logits(model, clip, offsets, sounds) for clip in clips]
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    assert model.heard <= 12 * FRAME_RATE < asked / 4


def test_another_files_sound_can_be_compared(tmp_path):
    flashing = events(8)
    video = write_flashes(tmp_path / "clip.mkv", flashing, np.zeros(8 * RATE, np.float32))
    write_sound(tmp_path / "track.wav", bursts(flashing, 0.2), RATE, "pcm_s16le")
    result = openavc.sync_offset(video, MODEL, max_offset=1.0, audio=tmp_path / "track.wav")
    assert result.offset == pytest.approx(0.2, abs=0.02)


def test_file_objects_are_read(tmp_path):
    flashing = events(6)
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing, 0.2))
    assert openavc.sync_offset(io.BytesIO(video.read_bytes()), MODEL).offset == pytest.approx(0.2, abs=0.02)


def test_stretches_hold_the_sound_that_there_is(tmp_path):
    flashing = events(4)
    sound = bursts(flashing)
    video = write_flashes(tmp_path / "clip.mkv", flashing, sound)
    found = list(video_stretches(video, MODEL.sound, MODEL.frames, 0.64, 1.0))
    assert [stretch.time for stretch in found] == pytest.approx([0.64, 1.28, 1.92, 2.56, 3.2])
    for stretch in found:
        assert stretch.start == max(0, round((stretch.time - 1.64) * RATE))
        end = min(len(sound), round((stretch.time + 1.64) * RATE))
        assert len(stretch.samples) == end - stretch.start
        np.testing.assert_allclose(stretch.samples[:, 0], sound[stretch.start : end], atol=1e-4)
        numbers = np.round(stretch.time * 25).astype(int) + np.arange(-16, 16)
        np.testing.assert_array_equal(stretch.frames.mean(axis=(1, 2, 3)) > 100, flashing[numbers])


def test_offsets_without_sound_in_the_file_say_nothing(tmp_path):
    flashing = events(4)
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing))
    first = next(video_stretches(video, MODEL.sound, MODEL.frames, 0.64, 2.0))
    offsets = candidates(2.0)
    logits = offset_logits(MODEL, first, offsets)
    np.testing.assert_array_equal(np.isfinite(logits), offsets > -1e-9)  # the first window begins with the file


def test_a_video_in_parts_says_what_the_whole_says(tmp_path):
    """Windows are the same wherever the file is cut: the first ten seconds give the first blocks."""
    flashing = events(20)
    whole = write_flashes(tmp_path / "whole.mkv", flashing, bursts(flashing))
    part = write_flashes(tmp_path / "part.mkv", flashing[:250], bursts(flashing)[: 10 * RATE])
    found = [list(video_stretches(file, MODEL.sound, MODEL.frames, 0.64, 1.0)) for file in (whole, part)]
    for one, other in zip(*found, strict=False):
        np.testing.assert_array_equal(one.frames, other.frames)
        common = min(len(one.samples), len(other.samples))
        np.testing.assert_array_equal(one.samples[:common], other.samples[:common])


@pytest.mark.parametrize("max_offset", [0, -1, True, "2", 31, float("nan")])
def test_largest_offsets_that_cant_work_are_refused(max_offset):
    with pytest.raises(ValueError, match="max_offset must be seconds, above 0"):
        openavc.sync_offset(__file__, MODEL, max_offset=max_offset)


def test_a_video_shorter_than_the_networks_clips_is_refused(tmp_path):
    flashing = events(1)
    video = write_flashes(tmp_path / "short.mkv", flashing, bursts(flashing))
    with pytest.raises(ValueError, match=r"short\.mkv is too short: flash-net takes clips of 32 frames at 25 a second"):
        openavc.sync_offset(video, MODEL)


def test_a_video_without_sound_or_pictures_is_refused(tmp_path):
    mute = write_video(tmp_path / "mute.mkv", np.arange(50) / 25)
    write_sound(tmp_path / "sound.wav", bursts(events(4)), RATE, "pcm_s16le")
    with pytest.raises(OSError, match=r"mute\.mkv"):
        openavc.sync_offset(mute, MODEL)
    with pytest.raises(OSError, match=r"sound\.wav"):
        openavc.sync_offset(tmp_path / "sound.wav", MODEL)


def test_models_that_werent_trained_for_it_are_refused():
    with pytest.raises(ValueError, match=r"fake wasn't trained to tell .*; multisensory-small was"):
        openavc.sync_offset(__file__, FakeModel())
