"""Maps of what sounds, from a model whose answer is known: red things sound when it is loud."""

import itertools

import cv2
import numpy as np
import pytest
import soundfile
import torch
from red_boxes import CLICK, LOUD, TIMES, Red, click, red_box, red_clip, redness
from videos import RATE, write_video

import openavc
from openavc.inference.localization import (
    localize_sound,
    localize_video,
    map_logits,
    represent_pictures,
    uncropped_batches,
)
from openavc.media.video import Video, read_frames
from openavc.models.contract import FramesInput

SHAPES = [(64, 64), (120, 400), (400, 100), (121, 161), (10, 14), (7, 40), (600, 900)]


# ------------------------------------------------------------------------------------------------- maps of pictures


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("box", [(0, 0.6, 0, 0.6), (0.4, 1, 0.4, 1), (0.1, 0.9, 0.2, 0.6)])
def test_the_map_is_high_exactly_where_it_sounds(shape, box):
    picture, inside = red_box(*shape, box)
    heatmap = localize_sound(picture, LOUD, RATE, Red())
    assert heatmap.shape == shape
    assert heatmap.dtype == np.float32
    cell = 8 / (64 / min(shape) * 256 / 224)  # pixels of the picture that a cell of the map stands for
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


def test_where_what_sounds_moves_by_a_cell_the_map_moves_along():
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
        network, "represent_frames", lambda frames: sizes.append(frames.shape) or Red().represent_frames(frames)
    )
    assert localize_sound(np.zeros((2, 20_000, 3), np.uint8), LOUD, RATE, network).shape == (2, 20_000)
    assert sizes == [(1, 1, 8, 296, 3)]  # 4 * 64 * 256 / 224, to a multiple of 8


# ---------------------------------------------------------------------------------------------------------- videos


def test_each_frame_is_localised_with_the_sound_around_its_true_time(tmp_path):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    found = list(localize_video(path, Red()))
    np.testing.assert_allclose([time for time, _, _ in found], TIMES, atol=1e-3)
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
    np.testing.assert_allclose(loud, [time for time in TIMES if time - 0.25 < 0.3], atol=1e-3)


def test_only_a_few_frames_are_held_at_once(tmp_path, monkeypatch):
    path = red_clip(tmp_path / "a.mkv", sound=click())
    read = []

    def frames(video, frame_rate):
        for index in itertools.count():
            read.append(index)
            yield index / 25, np.zeros((48, 64, 3), np.uint8)

    monkeypatch.setattr(Video, "frames", frames)
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
    assert len(list(localize_video(path, Red(), audio=tmp_path / "a.wav"))) == len(TIMES)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        localize_video(path, Red(), audio=tmp_path / "gone.wav")
    with pytest.raises(TypeError, match="audio must be a path or a binary file object, got ndarray"):
        localize_video(path, Red(), audio=LOUD)
    with pytest.raises(ValueError, match="frame_rate"):
        localize_video(path, Red(), frame_rate=0)


def test_both_are_public_names():
    assert openavc.localize_sound is localize_sound
    assert openavc.localize_video is localize_video


# ------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_pictures_of_different_shapes_are_represented_as_one_by_one(batch_size):
    shapes = [(64, 64), (64, 64), (120, 90), (64, 64), (70, 70), (70, 70), (70, 70)]
    pictures = [np.random.default_rng(k).random((*shape, 3), dtype=np.float32) for k, shape in enumerate(shapes)]
    model = openavc.load_model("avol-small")
    together = list(represent_pictures(model, iter(pictures), batch_size))
    alone = [next(represent_pictures(model, [picture])) for picture in pictures]
    assert len(together) == len(pictures)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    rates = [batch.shape for batch in uncropped_batches(Red(), (picture[None] for picture in pictures), batch_size)]
    assert max(shape[0] for shape in rates) <= batch_size
    if batch_size > 2:
        assert [shape[0] for shape in rates] == [2, 1, 4]  # 64 x 64 and 70 x 70 are seen at one size


def test_logits_of_one_picture_are_those_of_each_sound():
    seen, sounds = torch.rand(1, 3, 4), torch.tensor([[0.2], [0.9]])
    found = map_logits(Red(), seen, sounds)
    assert found.shape == (2, 3, 4)
    torch.testing.assert_close(found, 16 * seen * sounds[..., None] - 8)


class LastFrameRed(Red):
    """Takes clips of five frames, but sees only the last of them."""

    def __init__(self):
        super().__init__()
        self.frames = FramesInput(64, 64, 5, 25.0)
        self.sees = lambda frames: redness(frames[:, -1:])


def test_a_network_of_clips_is_given_clips_and_maps_their_middle_frame(tmp_path):
    """The video is red from 0.4 s on: with clips of 0.16 s, the map lights up two frames, 0.08 s, earlier."""
    black, (red, _) = np.zeros((96, 128, 3), np.uint8), red_box(96, 128, (0, 1, 0, 1))
    times = [k / 25 for k in range(20)]
    pictures = [black if time < 0.399 else red for time in times]
    path = write_video(tmp_path / "a.mkv", times, "mpeg4", pictures=pictures, sound=np.full(2 * RATE, 0.9, np.float32))
    found = list(localize_video(path, LastFrameRed()))
    assert [round(time, 3) for time, _, _ in found] == pytest.approx(times, abs=0.0011)
    assert [bool(heatmap.mean() > 0.5) for _, _, heatmap in found] == [time >= 0.319 for time in times]
    assert [bool(frame[..., 0].mean() > 100) for _, frame, _ in found] == [time >= 0.399 for time in times]
    with pytest.raises(ValueError, match="clips of 5 frames, not single pictures"):
        localize_sound(red, LOUD, RATE, LastFrameRed())
