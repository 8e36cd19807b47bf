"""Maps of what sounds, of a model whose answer is known: what is red sounds when it's loud."""

import itertools
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import nn

import openavc
from openavc import localization
from openavc.audio import read_audio
from openavc.cli import main
from openavc.localization import enlarge, localize_sound, localize_video, overlay, write_video
from openavc.video import read_frames
from openavc.weights import build_model
from training.checkpoint import save_weights

RATE = 8_000  # Hz
SHAPES = [(64, 64), (120, 400), (400, 100), (121, 161), (10, 14), (7, 40), (600, 900)]
LOUD = np.ones(RATE, dtype=np.float32)
CLICK = 1.0  # seconds


class Red(nn.Module):
    """A place sounds by sigmoid(16 * red * loudness - 8), red being the mean of 8 x 8 pixels, loudness the peak."""

    sample_rate, window_seconds, window_samples, image_size, map_stride, name = RATE, 0.5, RATE // 2, 64, 8, "red"
    embed_audio = embed_image = None  # present, as in every model

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def prepare_audio(self, waveforms):
        return waveforms

    def prepare_image(self, images):
        return images.permute(0, 3, 1, 2)

    def represent_audio(self, waveforms):
        return waveforms.abs().amax(dim=1, keepdim=True)

    def represent_image(self, images):
        return F.avg_pool2d(images[:, :1] * (1 - images[:, 1:2]), 8)

    def localize(self, image, audio):
        return 16 * (image * audio[..., None, None])[:, 0] - 8


def red_box(height, width, box, level=0):
    """A grey picture with a red box (top, bottom, left, right), as parts of its sides, and where that is."""
    top, bottom, left, right = (
        round(part * side) for part, side in zip(box, (height, height, width, width), strict=True)
    )
    picture = np.full((height, width, 3), level, dtype=np.uint8)
    picture[top:bottom, left:right] = [255, 0, 0]
    inside = np.zeros((height, width), dtype=np.uint8)
    inside[top:bottom, left:right] = 1
    return picture, inside


# ------------------------------------------------------------------------------------------------- maps of pictures


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("box", [(0, 0.6, 0, 0.6), (0.4, 1, 0.4, 1), (0.1, 0.9, 0.2, 0.6)])
def test_the_map_is_high_exactly_where_it_sounds(shape, box):
    picture, inside = red_box(*shape, box)
    heatmap = localize_sound(picture, LOUD, RATE, Red())
    assert heatmap.shape == shape
    assert heatmap.dtype == np.float32
    cell = 8 / (64 / min(shape) * 256 / 224)  # pixels of the picture that a place of the map stands for
    near = np.ones((2 * int(np.ceil(1.5 * cell)) + 1,) * 2, dtype=np.uint8)
    surely = cv2.erode(inside, near, borderValue=1) == 1
    never = cv2.dilate(inside, near, borderValue=0) == 0
    assert surely.any()
    assert never.any()
    assert heatmap[surely].min() > 0.9
    assert heatmap[never].max() < 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_middle_of_what_sounds_is_in_the_middle_of_the_map(shape):
    picture, inside = red_box(*shape, (0.3, 0.7, 0.3, 0.7))
    heatmap = localize_sound(picture, LOUD, RATE, Red())
    cell = 8 / (64 / min(shape) * 256 / 224)
    for axis in range(2):
        places = np.arange(shape[axis])
        middles = [(image.sum(1 - axis) * places).sum() / image.sum() for image in (heatmap, inside)]
        assert middles[0] == pytest.approx(middles[1], abs=0.3 * cell)


def test_where_what_sounds_moves_by_a_place_the_map_moves_along():
    picture = np.zeros(
        (72, 144, 3), dtype=np.uint8
    )  # which the network sees as it is: 72 = round(64 * 256 / 224 / 8) * 8
    picture[..., 0] = np.random.default_rng(0).integers(0, 256, (9, 18)).repeat(8, axis=0).repeat(8, axis=1)
    heatmap = localize_sound(picture, LOUD, RATE, Red())
    for rows, columns in [(8, 0), (0, 16), (-8, 24)]:
        moved = localize_sound(np.roll(picture, (rows, columns), (0, 1)), LOUD, RATE, Red())
        np.testing.assert_allclose(  # away from the borders, beyond which there is nothing to interpolate with
            moved[16:-16, 32:-32], np.roll(heatmap, (rows, columns), (0, 1))[16:-16, 32:-32], atol=1e-5
        )


def test_the_map_is_dark_for_a_sound_that_is_too_soft_and_silence_is_warned_of():
    picture, _ = red_box(64, 64, (0, 1, 0, 1))
    assert localize_sound(picture, 0.1 * LOUD, RATE, Red()).max() < 0.01
    with pytest.warns(UserWarning, match="silent"):
        assert localize_sound(picture, 0 * LOUD, RATE, Red()).max() < 0.001


def test_a_long_recording_gets_the_mean_of_its_windows():
    picture, _ = red_box(64, 64, (0, 1, 0, 1))
    sound = np.concatenate([0 * LOUD, LOUD])  # half-second windows, a quarter apart: 3 silent, 4 loud
    heatmap = localize_sound(picture, sound, RATE, Red())
    expected = np.mean([1 / (1 + np.exp(8))] * 3 + [1 / (1 + np.exp(-8))] * 4)
    np.testing.assert_allclose(heatmap, expected, atol=1e-5)


def test_pictures_and_sounds_may_be_files_tensors_and_of_any_kind(tmp_path):
    picture, _ = red_box(90, 120, (0, 0.5, 0, 0.5))
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    soundfile.write(tmp_path / "a.wav", LOUD, RATE, subtype="FLOAT")
    expected = localize_sound(picture, LOUD, RATE, Red())
    for image, sound, rate in [
        (tmp_path / "a.png", tmp_path / "a.wav", None),
        ([picture], [LOUD], RATE),
        (torch.from_numpy(picture), torch.from_numpy(LOUD), RATE),
        (picture.astype(np.float32) / 255, LOUD[:, None], RATE),
    ]:
        np.testing.assert_allclose(localize_sound(image, sound, rate, Red()), expected, atol=1e-6)


def test_more_than_one_picture_or_recording_is_an_error():
    picture, _ = red_box(64, 64, (0, 1, 0, 1))
    with pytest.raises(ValueError, match="one picture is localised at a time, got 2"):
        localize_sound(np.stack([picture, picture]), LOUD, RATE, Red())
    with pytest.raises(ValueError, match="one picture is localised at a time, got 3"):
        localize_sound([picture] * 3, LOUD, RATE, Red())
    with pytest.raises(ValueError, match="one recording is localised at a time, got 2"):
        localize_sound(picture, [LOUD, LOUD], RATE, Red())
    with pytest.raises(ValueError, match="sr is required"):
        localize_sound(picture, LOUD, model=Red())


def test_a_model_without_maps_is_refused(model):
    with pytest.raises(ValueError, match="tiny can't localise"):
        localize_sound(np.zeros((8, 8, 3)), LOUD, RATE, model)


def test_a_stripe_of_any_length_does_not_take_any_amount_of_memory(monkeypatch):
    sizes, network = [], Red()
    monkeypatch.setattr(
        network, "represent_image", lambda images: sizes.append(images.shape) or Red().represent_image(images)
    )
    assert localize_sound(np.zeros((2, 20_000, 3), np.uint8), LOUD, RATE, network).shape == (2, 20_000)
    assert sizes == [(1, 3, 8, 296)]  # 4 * 64 * 256 / 224, to a multiple of 8


def test_maps_are_enlarged_bilinearly_between_the_middles_of_places():
    heatmap = np.random.default_rng(0).uniform(0, 1, (5, 7)).astype(np.float32)
    for size in [(5, 7), (10, 21), (33, 50), (5, 8)]:
        expected = F.interpolate(torch.from_numpy(heatmap)[None, None], size, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(enlarge(heatmap, *size), expected[0, 0], atol=2e-3)  # cv2 rounds its weights


def test_maps_are_averaged_along_sides_on_which_the_picture_is_smaller():
    heatmap = np.random.default_rng(0).uniform(0, 1, (6, 8)).astype(np.float32)
    halved = heatmap.reshape(3, 2, 8).mean(1)
    np.testing.assert_allclose(enlarge(heatmap, 3, 8), halved, atol=1e-6)
    np.testing.assert_allclose(enlarge(heatmap, 3, 4), halved.reshape(3, 4, 2).mean(2), atol=1e-6)
    wider = F.interpolate(torch.from_numpy(halved)[None, None], (3, 24), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(enlarge(heatmap, 3, 24), wider, atol=2e-3)
    np.testing.assert_allclose(enlarge(heatmap.T.copy(), 24, 3), wider.T, atol=2e-3)


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
    drawn = overlay(np.full((*shape, 3), 200, np.uint8), np.zeros(shape))
    scale = max(1, min(480 / shape[0], 1920 / shape[1]))
    height, width = round(shape[0] * scale), round(shape[1] * scale)
    assert (drawn[:height, :width] == 200).all()
    assert not (drawn[height:] == 200).all(axis=-1).any()
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


# ---------------------------------------------------------------------------------------------------------- videos


UNEVEN = [0, 0.04, 0.2, 0.25, 0.8, 0.9, CLICK, 1.1, 1.3, 1.9]  # seconds


def click(seconds=2.0, at=CLICK):
    sound = np.zeros(round(seconds * RATE), dtype=np.float32)
    sound[round(at * RATE) - 4 : round(at * RATE) + 5] = 0.9
    return sound


def write_clip(path, times, pictures, sound=None, sound_start=0.0):
    """Pictures at `times` and a mono sound from `sound_start`, in seconds; Matroska or QuickTime."""
    with av.open(str(path), "w") as file:
        height, width = pictures[0].shape[:2]
        video = file.add_stream("mpeg4", rate=25, width=width, height=height, pix_fmt="yuv420p")
        video.codec_context.time_base, video.codec_context.qmax = Fraction(1, 1000), 2
        audio = None if sound is None else file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if audio:
            frame = av.AudioFrame.from_ndarray(np.round(sound[None] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, round(sound_start * RATE), Fraction(1, RATE)
            file.mux([*audio.encode(frame), *audio.encode()])
    return path


def red_clip(path, times=UNEVEN, **more):
    """A red box in the top left quarter of black frames."""
    picture, _ = red_box(96, 128, (0, 0.5, 0, 0.5))
    return write_clip(path, times, [picture] * len(times), **more)


def test_each_frame_is_localised_with_the_sound_around_its_true_time(tmp_path):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    found = list(localize_video(path, Red()))
    np.testing.assert_allclose([time for time, _, _ in found], UNEVEN, atol=1e-3)
    for (_, expected), (time, frame, heatmap) in zip(read_frames(path), found, strict=True):
        np.testing.assert_array_equal(frame, expected)
        assert (heatmap.shape, heatmap.dtype) == ((96, 128), np.float32)
        assert (heatmap[16, 16] > 0.9) == (abs(time - CLICK) < 0.25)  # half a window
        assert heatmap[80].max() < 0.01
        assert heatmap[:, 110].max() < 0.01


def test_a_frame_and_its_sound_give_the_map_of_the_picture_alone(tmp_path):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    time, frame, heatmap = list(localize_video(path, Red()))[6]
    window = click()[round((time - 0.25) * RATE) :][: RATE // 2]
    np.testing.assert_allclose(heatmap, localize_sound(frame, window, RATE, Red()), atol=1e-4)


def test_frames_are_localised_at_the_frame_rate_asked_for(tmp_path):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    times = [time for time, _, _ in localize_video(path, Red(), frame_rate=2)]
    np.testing.assert_allclose(times, [0, 0.8, CLICK, 1.9], atol=1e-3)


def test_another_sound_can_be_put_to_a_video_and_silence_follows_it(tmp_path):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    soundfile.write(tmp_path / "b.wav", np.full(round(0.3 * RATE), 0.9), RATE)
    with pytest.warns(UserWarning, match="b.wav is 0.3 s long"):
        found = list(localize_video(path, Red(), audio=tmp_path / "b.wav"))
    loud = [time for time, _, heatmap in found if heatmap.max() > 0.9]
    np.testing.assert_allclose(loud, [time for time in UNEVEN if time - 0.25 < 0.3], atol=1e-3)


def test_only_a_few_frames_are_held_at_once(tmp_path, monkeypatch):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    read = []

    def frames(path, frame_rate):
        for index in itertools.count():
            read.append(index)
            yield index / 25, np.zeros((48, 64, 3), np.uint8)

    monkeypatch.setattr(localization, "read_frames", frames)
    found = localize_video(path, Red())
    for count in range(1, 100):
        next(found)
        assert len(read) <= count + 8


def test_a_video_without_sound_or_pictures_is_an_error_at_once(tmp_path):
    path = red_clip(tmp_path / "silent.mkv")
    with pytest.raises(OSError, match=r"silent\.mkv holds no sound .*--mismatch"):
        localize_video(path, Red())
    soundfile.write(tmp_path / "a.wav", LOUD, RATE)
    with pytest.raises(OSError, match=r"a\.wav holds no pictures"):
        localize_video(tmp_path / "a.wav", Red())
    assert len(list(localize_video(path, Red(), audio=tmp_path / "a.wav"))) == len(UNEVEN)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        localize_video(path, Red(), audio=tmp_path / "gone.wav")
    with pytest.raises(TypeError, match="audio must be a str or path, got ndarray"):
        localize_video(path, Red(), audio=LOUD)
    with pytest.raises(ValueError, match="frame_rate"):
        localize_video(path, Red(), frame_rate=0)


def written(path, target, audio=None, **options):
    """Times and frames of the video of overlays, its sound, and its rate."""
    peaks = write_video(target, localize_video(path, Red(), audio=audio, **options), path, audio)
    times, frames = zip(*read_frames(target), strict=True)
    assert len(peaks) == len(frames)
    return np.array(times), np.stack(frames), *read_audio(target)


def test_the_overlay_is_in_the_video_at_the_right_frames_and_pixels(tmp_path):
    times, frames, _, _ = written(red_clip(tmp_path / "a.mkv", sound=click()), tmp_path / "out.mp4")
    assert frames.shape[1:] == (480, 720, 3)  # 96 x 128 five times larger, and the bar
    np.testing.assert_allclose(times, UNEVEN, atol=1e-3)
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
    path = write_clip(tmp_path / "a.mkv", times, pictures, sound=sound, sound_start=sound_start)
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
        end = min(seconds, UNEVEN[-1] + UNEVEN[-1] - UNEVEN[-2])
        assert len(heard) / rate == pytest.approx(end, abs=0.15)


def test_frames_that_share_a_time_can_be_written(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    maps = [(time, frame, np.zeros((48, 64), np.float32)) for time in (0, 0.5, 0.5, 0.5, 1.0)]
    write_video(tmp_path / "out.mp4", maps, red_clip(tmp_path / "a.mkv", sound=click()))
    times = [time for time, _ in read_frames(tmp_path / "out.mp4")]
    np.testing.assert_allclose(times, [0, 0.5, 0.5, 0.5, 1.0], atol=1e-3)


def test_a_video_that_changes_its_size_is_written_at_its_first(tmp_path):
    maps = [(k / 4, np.zeros((side, 2 * side, 3), np.uint8), np.zeros((4, 8))) for k, side in enumerate((500, 600, 40))]
    write_video(tmp_path / "out.mp4", maps, red_clip(tmp_path / "a.mkv", sound=click()))
    assert len({frame.shape for _, frame in read_frames(tmp_path / "out.mp4")}) == 1


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
    original, original_rate = read_audio(other or clips / name)
    loudness = [
        np.add.reduceat(np.square(sound, dtype=np.float64), np.arange(0, len(sound) - r // 20, r // 20))[:40] / r
        for sound, r in ((heard, rate), (original, original_rate))
    ]  # of the first 2 s, in twentieths of a second
    length = min(map(len, loudness)) - 1
    before, after = (levels[:length] for levels in reversed(loudness))
    np.testing.assert_allclose(np.sqrt(after), np.sqrt(before), atol=0.15 * np.sqrt(before.max()) + 1e-6)


# --------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained AVOL-Net's file."""
    torch.manual_seed(0)
    architecture = {
        "architecture": "avol",
        "widths": [4, 4, 8, 8],
        "frontend": "mel64",
        "image_size": 64,
        "map_stride": 8,
        "one_pass": True,
    }
    path = tmp_path_factory.mktemp("weights") / "avol.safetensors"
    save_weights(path, build_model(architecture), architecture)
    return path


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A folder with a clip, one without sound, a picture and a recording; it is where commands run."""
    monkeypatch.chdir(tmp_path)
    red_clip(tmp_path / "clip.mkv", sound=click())
    red_clip(tmp_path / "silent.mkv")
    cv2.imwrite(str(tmp_path / "photo.png"), red_box(90, 120, (0, 0.5, 0, 0.5))[0][..., ::-1])
    soundfile.write(tmp_path / "sound.wav", LOUD * 0.5, RATE)
    (tmp_path / "there.mp4").write_text("kept")


def run(*arguments):
    return CliRunner().invoke(main, ["localize", *map(str, arguments)])


def test_a_video_is_localised_on_the_command_line(inputs, weights, tmp_path):
    result = run("clip.mkv", "--output", "new/out.mp4", "--model", weights, "--frame-rate", 5)
    assert result.exit_code == 0, result.output
    found = list(localize_video("clip.mkv", weights, frame_rate=5))
    time, highest = max(((time, heatmap.max()) for time, _, heatmap in found), key=lambda moment: moment[1])
    mean = np.mean([heatmap.max() for _, _, heatmap in found])
    said = f"{len(found)} frames, highest probability {highest:.3f} at {time:.2f} s, {mean:.3f} on average"
    assert result.stdout == f"{said}; new/out.mp4\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]
    times = [time for time, _ in read_frames("new/out.mp4")]
    np.testing.assert_allclose(times, [time for time, _, _ in found], atol=1e-3)


def test_a_silent_video_needs_another_sound(inputs, weights):
    result = run("silent.mkv", "--output", "out.mp4", "--model", weights)
    assert result.exit_code == 1
    assert "silent.mkv holds no sound" in result.stderr
    assert "--mismatch" in result.stderr
    assert run("silent.mkv", "--output", "out.mp4", "--model", weights, "--mismatch", "sound.wav").exit_code == 0


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_is_shown_with_its_map(ending, inputs, weights):
    result = run("photo.png", "--audio", "sound.wav", "--output", f"out.{ending}", "--model", weights)
    heatmap = localize_sound("photo.png", "sound.wav", model=weights)
    assert result.stdout == f"highest probability {heatmap.max():.3f}; out.{ending}\n"
    shown = cv2.imread(f"out.{ending}")[..., ::-1]
    difference = np.abs(shown.astype(int) - overlay("photo.png", heatmap))
    assert difference.mean() < (0.001 if ending == "png" else 6)


def test_the_bare_map_can_be_had(inputs, weights):
    assert run("photo.png", "--audio", "sound.wav", "--output", "map.npy", "--model", weights).exit_code == 0
    np.testing.assert_array_equal(np.load("map.npy"), localize_sound("photo.png", "sound.wav", model=weights))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photo.png", "--output", "out.png"], "give its sound as --audio"),
        (["photo.png", "--audio", "sound.wav", "--mismatch", "sound.wav", "--output", "out.png"], "go with videos"),
        (["photo.png", "--audio", "sound.wav", "--output", "out.mp4"], ".png or"),
        (["clip.mkv", "--output", "out.png"], "must end in .mp4"),
        (["clip.mkv", "--output", "out"], "must end in .mp4"),
        (["clip.mkv", "--audio", "sound.wav", "--output", "out.mp4"], "use --mismatch"),
        (["clip.mkv", "--output", "there.mp4"], "--overwrite"),
        (["clip.mkv", "--output", "out.mp4", "--model", "ave-small"], "can't localise"),
        (["clip.mkv", "--output", "out.mp4", "--model", "gone.safetensors"], "gone.safetensors"),
        (["clip.mkv", "--output", "out.mp4", "--device", "toaster"], "toaster"),
        (["clip.mkv", "--output", "out.mp4", "--frame-rate", "0"], "frame-rate"),
        (["clip.mkv"], "--output"),
    ],
)
def test_wrong_usage_leaves_with_status_2_and_says_what_would_work(arguments, said, inputs, weights, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    model = [] if "--model" in arguments else ["--model", weights]
    result = run(*arguments, *model)
    assert result.exit_code == 2
    assert said in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.mp4").read_text() == "kept"


def test_what_is_there_is_replaced_if_asked_for(inputs, weights):
    assert run("clip.mkv", "--output", "there.mp4", "--model", weights, "--overwrite").exit_code == 0
    assert len(list(read_frames("there.mp4"))) == len(UNEVEN)


def test_a_run_that_fails_half_way_leaves_what_was_there(inputs, weights, tmp_path):
    bad = np.full(40 * RATE, 0.1, np.float32)
    bad[-1] = np.nan  # read with the second block
    soundfile.write("bad.wav", bad, RATE, subtype="FLOAT")
    red_clip("long.mkv", times=[0, 20, 39.9], sound=click())
    before = sorted(tmp_path.rglob("*"))
    result = run("long.mkv", "--mismatch", "bad.wav", "--output", "there.mp4", "--model", weights, "--overwrite")
    assert result.exit_code == 1
    assert "bad.wav holds 1 NaN" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.mp4").read_text() == "kept"


def test_both_are_public_names():
    assert openavc.localize_sound is localize_sound
    assert openavc.localize_video is localize_video
