"""Overlays and videos of them: colours, sizes, pixels, times and sound."""

import cv2
import numpy as np
import pytest
import soundfile
from red_boxes import CLICK, TIMES, Red, click, red_clip
from videos import RATE, write_video

from openavc.drawing import draw_spectrograms, overlay
from openavc.drawing import write_video as write_overlays
from openavc.inference.localization import localize_video
from openavc.media.audio import read_audio
from openavc.media.video import read_frames

# -------------------------------------------------------------------------------------------------------- overlays


@pytest.mark.parametrize("shape", [(480, 640), (481, 333), (1080, 1920), (700, 5)])
def test_a_dark_map_leaves_the_picture_as_it_is(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    drawn = overlay(picture, np.zeros(shape))
    np.testing.assert_array_equal(drawn[: shape[0], : shape[1]], picture)
    assert drawn.dtype == np.uint8
    assert not any(side % 2 for side in drawn.shape[:2])
    assert drawn.shape[1] > shape[1] + 40  # the colour bar


@pytest.mark.parametrize("shape", [(1, 1), (50, 50), (120, 160), (121, 161), (479, 1000), (20, 6000)])
def test_small_pictures_are_shown_enlarged_by_one_factor_and_the_bar_stays_readable(shape):
    colour = np.array([200, 100, 50], np.uint8)  # which the bar doesn't have
    drawn = overlay(np.broadcast_to(colour, (*shape, 3)), np.zeros(shape))
    scale = max(1, min(480 / shape[0], 1920 / shape[1]))
    height, width = round(shape[0] * scale), round(shape[1] * scale)
    assert (drawn[:height, :width] == colour).all()
    assert not (drawn[height:] == colour).all(axis=-1).any()
    assert drawn.shape[0] >= 240
    assert not any(side % 2 for side in drawn.shape[:2])


def test_only_what_sounds_is_coloured():
    picture = np.full((480, 640, 3), 128, dtype=np.uint8)
    heatmap = np.zeros((480, 640), dtype=np.float32)
    heatmap[100:200, 300:450] = 1
    changed = (overlay(picture, heatmap)[:, :640] != picture).any(axis=-1)
    np.testing.assert_array_equal(changed, heatmap == 1)


def test_a_coarse_map_is_drawn_at_the_right_place():
    coarse = np.zeros((6, 8), dtype=np.float32)
    coarse[1, 6] = 1
    drawn = overlay(np.zeros((240, 320, 3), np.uint8), coarse)[:480, :640]  # places of 80 x 80 pixels
    rows, columns = np.nonzero(drawn.sum(axis=-1) > 300)
    assert (rows.mean(), columns.mean()) == pytest.approx((119.5, 519.5), abs=1)


def test_colours_mean_probabilities_whatever_else_the_map_holds():
    picture = np.full((480, 640, 3), 128, dtype=np.uint8)
    dim = np.full((480, 640), 0.2, dtype=np.float32)
    bright = dim.copy()
    bright[:240] = 1
    np.testing.assert_array_equal(overlay(picture, dim)[241:], overlay(picture, bright)[241:])  # and the bars' halves
    steps = [overlay(picture, np.full((480, 640), level))[0, 0].astype(int) for level in (0, 0.25, 0.5, 0.75, 1)]
    distances = [np.abs(step - steps[0]).sum() for step in steps]
    assert distances == sorted(distances)  # ever further from the picture
    assert distances[1] > 0


def test_colours_and_bar_are_as_opaque_as_asked():
    black = np.zeros((480, 640, 3), np.uint8)
    usual, faint = (overlay(black, np.ones((480, 640)), **more).astype(float) for more in ({}, {"opacity": 0.35}))
    np.testing.assert_allclose(faint[:480, :640], usual[:480, :640] * 0.35 / 0.75, atol=1)
    assert (faint[:, 640:] != usual[:, 640:]).any()
    assert overlay(black + 255, np.ones((480, 640)), 0.35)[:480, :640].min() >= 0.65 * 255 - 1


def test_the_bar_shows_the_colours_that_the_map_has():
    grey = np.full((480, 640, 3), 32, dtype=np.uint8)  # the margin's
    bar = overlay(grey, np.zeros((480, 640)))[:, 640:]
    for level in (0.1, 0.5, 0.9):
        wanted = overlay(grey, np.full((480, 640), level, np.float32))[0, 0].astype(int)
        line = round(16 + (1 - level) * 447)
        assert np.abs(bar[line - 2 : line + 3, 20] - wanted).sum(axis=-1).min() <= 3


@pytest.mark.parametrize(
    "heatmap",
    [np.full((4, 4), 1.2), np.full((4, 4), -0.1), np.full((4, 4), np.nan), np.zeros((4, 4, 1)), np.zeros((0, 4))],
)
def test_what_is_not_a_map_of_probabilities_is_refused(heatmap):
    with pytest.raises(ValueError, match="a map must"):
        overlay(np.zeros((4, 4, 3), np.uint8), heatmap)


def written(path, target, audio=None, **options):
    """Write a video of overlays; return its times and frames, its sound, and the rate of the sound."""
    peaks = write_overlays(target, localize_video(path, Red(), audio=audio, **options), path, audio)
    times, frames = zip(*read_frames(target), strict=True)
    assert len(peaks) == len(frames)
    samples, rate = read_audio(target)
    assert samples.shape[1] == 1
    return np.array(times), np.stack(frames), samples[:, 0], rate


def test_the_overlay_is_in_the_video_at_the_right_frames_and_pixels(tmp_path):
    times, frames, _, _ = written(red_clip(tmp_path / "a.mkv", sound=click()), tmp_path / "out.mp4")
    assert frames.shape[1:] == (480, 720, 3)  # 96 x 128 five times larger, and the bar
    np.testing.assert_allclose(times, TIMES, atol=1e-3)
    yellow = overlay(np.full((480, 640, 3), [255, 0, 0], np.uint8), np.ones((480, 640)))[0, 0]
    for time, frame in zip(times, frames, strict=True):
        box = yellow if abs(time - CLICK) < 0.25 else [255, 0, 0]
        np.testing.assert_allclose(frame[20:160, 20:220], np.broadcast_to(box, (140, 200, 3)), atol=25)
        assert frame[320:, :640].max() < 25
        assert frame[:, 420:640].max() < 25
    bar = overlay(np.zeros((96, 128, 3), np.uint8), np.zeros((96, 128)))[:, 640:]
    assert np.abs(frames[:, :, 640:].astype(int) - bar).mean() < 4


@pytest.mark.parametrize(
    "picture_start, sound_start", [(0, 0), (0, 0.5), (0.52, 0), (3, 3), (3, 3.7)], ids=lambda start: f"{start} s"
)
def test_a_flash_and_a_click_stay_together(picture_start, sound_start, tmp_path):
    times = picture_start + np.arange(50) / 25
    flash = picture_start + 1.2
    pictures = [np.full((48, 64, 3), 255 if abs(time - flash) < 0.001 else 0, np.uint8) for time in times]
    sound = click(at=flash - sound_start)
    path = write_video(tmp_path / "a.mkv", times, "mpeg4", pictures=pictures, sound=sound, sound_start=sound_start)
    found, frames, heard, rate = written(path, tmp_path / "out.mp4")
    begin = min(picture_start, sound_start)
    np.testing.assert_allclose(found, times - begin, atol=1e-3)
    shown = found[frames[:, :, :640].mean(axis=(1, 2, 3)).argmax()]
    assert shown == pytest.approx(flash - begin, abs=1e-3)
    assert np.abs(heard).argmax() / rate == pytest.approx(shown, abs=0.002)
    assert len(heard) / rate == pytest.approx(sound_start - begin + 2, abs=0.03)  # to its end


def test_the_sound_of_a_mismatched_video_is_the_other_as_long_as_the_video(tmp_path):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    for seconds in (0.7, 9):
        soundfile.write(tmp_path / "b.wav", click(seconds, at=0.4), RATE)
        _, _, heard, rate = written(path, tmp_path / "out.mp4", audio=tmp_path / "b.wav")
        assert np.abs(heard).argmax() / rate == pytest.approx(0.4, abs=0.002)
        assert np.abs(heard[round(0.5 * rate) :]).max() < 0.05  # the own click, at 1 s, is gone
        end = min(seconds, TIMES[-1] + TIMES[-1] - TIMES[-2])
        assert len(heard) / rate == pytest.approx(end, abs=0.15)


# -------------------------------------------------------------------------------------------------------- real clips


@pytest.mark.parametrize(
    "name, has_sound",
    [
        ("h264_aac_plain.mp4", True),
        ("vfr_dropped_frames.mp4", True),
        ("audio_late_500ms.mp4", True),
        ("h264_first_pts_10s.mp4", False),
        ("rotate90.mov", False),
        ("vp9_odd_dimensions.webm", False),
    ],
)
def test_real_clips_keep_their_times_and_sound(name, has_sound, shared, tmp_path):
    clips = shared / "data/clips"
    other = None if has_sound else clips / "bear_growl.mp3"
    times, frames, heard, rate = written(clips / name, tmp_path / "out.mp4", audio=other, frame_rate=2)
    expected = list(read_frames(clips / name, 2))
    np.testing.assert_allclose(times, [time for time, _ in expected], atol=1e-3)
    assert frames.shape[1] == max(480, -(-expected[0][1].shape[0] // 2) * 2)
    samples, original_rate = read_audio(other or clips / name)
    original = samples.mean(axis=1)
    loudness = [
        np.add.reduceat(np.square(sound, dtype=np.float64), np.arange(0, len(sound) - r // 20, r // 20))[:40] / r
        for sound, r in ((heard, rate), (original, original_rate))
    ]  # of the first 2 s, in twentieths of a second
    length = min(map(len, loudness)) - 1
    before, after = (levels[:length] for levels in reversed(loudness))
    np.testing.assert_allclose(np.sqrt(after), np.sqrt(before), atol=0.15 * np.sqrt(before.max()) + 1e-6)


def test_spectrograms_show_each_sound_at_its_pitch_and_time_on_one_scale(tmp_path):
    """A tone at half of the highest frequency, in the first half only, and one of a hundredth of its amplitude."""
    rate, half = 8000, np.arange(16_000) < 8000
    sound = 0.5 * half * np.sin(2 * np.pi * 2000 * np.arange(16_000) / rate)
    for name, samples in (("loud", sound), ("quiet", sound / 100)):
        soundfile.write(tmp_path / f"{name}.wav", samples, rate)
    draw_spectrograms(tmp_path / "drawn.png", {name: tmp_path / f"{name}.wav" for name in ("loud", "quiet")}, rate)
    drawn = cv2.imread(str(tmp_path / "drawn.png")).astype(int).sum(axis=2)
    loud, quiet = (panel[28:228, 64:-64] for panel in np.split(drawn, 2))
    assert abs(int(loud[:, 300].argmax()) - 100) <= 2 and abs(int(quiet[:, 300].argmax()) - 100) <= 2
    assert loud[100, 300] > quiet[100, 300] > quiet[20, 300]
    assert loud[:, 700:].max() < loud[100, 300] / 4
