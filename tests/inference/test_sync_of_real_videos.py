"""Sync by the network that ships: on talking faces that it wasn't trained on, and on odd and damaged videos."""

import warnings

import numpy as np
import pytest
from talking_faces import FACE_RATE, SOUND_RATE, decoded, held_out_faces
from videos import write_sound, write_video

import openavc
from openavc.media.remux import shift_sound


@pytest.fixture(scope="module")
def faces(shared):
    return held_out_faces(shared)


def joined(paths, path, late=0.0, later=None):
    """Join clips, with their sound late by `late` seconds, and by `later` from the middle on."""
    clips = [decoded(clip) for clip in paths]
    pictures = np.concatenate([frames for frames, _ in clips])
    whole = np.concatenate([waveform for _, waveform in clips])
    sound, middle = np.roll(whole, round(late * SOUND_RATE)), len(whole) // 2
    if later is not None:
        sound[middle:] = np.roll(whole, round(later * SOUND_RATE))[middle:]
    times = np.arange(len(pictures)) / FACE_RATE
    return write_video(path, times, codec="mpeg4", clock=FACE_RATE, pictures=pictures, sound=sound, rate=SOUND_RATE)


def test_known_shifts_of_short_clips_are_found(faces, tmp_path):
    errors = []
    for number, late in enumerate(np.linspace(-0.4, 0.4, 11)):
        moved = tmp_path / f"{number}.mp4"
        shift_sound(faces[4 * number], moved, -float(late), "mp4")
        result = openavc.sync_offset(moved, max_offset=0.6)
        errors.append(abs(result.offsets[np.nanargmax(result.scores)] - late))
    assert np.median(errors) <= 0.08
    assert np.mean(np.array(errors) <= 0.2) >= 0.8


@pytest.fixture(scope="module")
def late(faces, tmp_path_factory):
    """Write 12 s of a face whose sound is 0.24 s late."""
    return joined(faces[10:14], tmp_path_factory.mktemp("faces") / "late.mkv", late=0.24)


def test_a_late_sound_is_told_and_mended(late, tmp_path):
    from openavc.extraction.sync import fix_video

    result = openavc.sync_offset(late)
    assert result.offset == pytest.approx(0.24, abs=0.1)
    assert result.confidence >= 0.5
    assert "s late" in str(result)
    assert abs(fix_video(late, tmp_path / "fixed.mkv", result.offset).offset) <= 0.1


def test_a_jump_in_the_middle_is_told_as_two_segments(faces, tmp_path):
    result = openavc.sync_offset(joined(faces[20:40], tmp_path / "jump.mkv", later=0.4), max_offset=1.0)
    assert result.told == pytest.approx([0.0, 0.4], abs=0.1)
    assert result.segments[0].end == pytest.approx(30, abs=5)


def test_silence_a_still_picture_and_a_foreign_sound_cant_be_told(faces, tmp_path, late):
    silence = tmp_path / "silence.wav"
    write_sound(silence, np.zeros(12 * 8000, np.float32), 8000, "pcm_s16le")
    foreign = joined(faces[40:44], tmp_path / "foreign.mkv")
    still = tmp_path / "still.mkv"
    frames, sound = decoded(faces[0])
    pictures = np.repeat(frames[:1], 75, axis=0)
    write_video(still, np.arange(75) / FACE_RATE, pictures=pictures, sound=sound, rate=SOUND_RATE, clock=FACE_RATE)
    for result in (
        openavc.sync_offset(late, audio=silence),
        openavc.sync_offset(late, audio=foreign),
        openavc.sync_offset(still),
    ):
        assert result.offset is None
        assert str(result).startswith("can't tell")


ODD = {  # video: what is said of it, or None for a result
    "clips/audio_only_15s.mp4": "holds no pictures that can be decoded",
    "clips/h264_full_range_bt709.mp4": "holds no sound that can be decoded",
    "clips/one_frame.mp4": "holds no sound that can be decoded",
    "clips/av1_aac.mp4": "is too short: multisensory-small takes clips of 32 frames at 25 a second",
    "clips/vfr_dropped_frames.mp4": None,
    "clips/h264_29.97fps_mp3_22khz.mkv": None,
    "clips/bitflips_400.mp4": None,
    "clips/truncated_60pct_faststart.mp4": None,
    "clips/truncated_half.webm": None,
    "odd/07_two_ts_joined.ts": None,
    "odd/20_sar_64_45.mp4": None,
}


@pytest.mark.parametrize(("name", "said"), ODD.items(), ids=list(ODD))
def test_odd_and_damaged_videos_give_an_answer_or_say_why_not(shared, name, said):
    path = shared / "data" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was left out
        if said:
            with pytest.raises((OSError, ValueError), match=said) as caught:
                openavc.sync_offset(path, max_offset=0.2)
            assert path.name in str(caught.value)
            return
        result = openavc.sync_offset(path, max_offset=0.2)
    assert 0 <= result.confidence <= 1
    assert (result.offset is None) == (result.confidence < 0.5)
    assert all(segment.start < segment.end for segment in result.segments)
