"""Maps of videos by a network that fuses clips, whose activations are known: brightness times loudness."""

import io

import numpy as np
import pytest
import soundfile
import torch
from spots import CELL, COLUMNS, FRAME_RATE, RATE, ROWS, SpotNet, between_stretches, cells, spots, steady, write_spots
from videos import write_video

from openavc.inference.activations import Activations, clip_logits, scaled, video_activations
from openavc.inference.localization import localize_sound, localize_video, video_peaks
from openavc.media.image import enlarge
from openavc.media.video import read_frames
from openavc.models.contract import FramesInput
from openavc.models.multisensory import Multisensory

MODEL = SpotNet()


def moving(frames):
    """Draw a spot that moves on by a cell every four frames, from the top left to the bottom right and again."""
    steps = np.arange(frames) // 4
    return spots(list(zip(steps % ROWS, steps % COLUMNS, strict=True)))


def loudness(frames, seed=0):
    """Draw a level for every four frames."""
    return np.random.default_rng(seed).uniform(0.1, 0.9, -(-frames // 4)).repeat(4)[:frames]


def read(maps):
    """Return times, frames and maps, each stacked."""
    times, frames, heatmaps = zip(*maps, strict=True)
    return np.array(times), np.stack(frames), np.stack(heatmaps)


# ------------------------------------------------------------------------------------------------------ whole videos


@pytest.mark.parametrize("frames", [16, 24, 40, 200])
def test_maps_are_brightness_times_loudness_at_each_frames_time(tmp_path, frames):
    """The frames' maps are those of stretches of four, interpolated, on the scale that is given, at any length."""
    pictures, levels = moving(frames), loudness(frames)
    path = write_spots(tmp_path / "a.mkv", pictures, steady(levels))
    times, shown, heatmaps = read(localize_video(path, MODEL, maximum=0.5))
    np.testing.assert_allclose(times, np.arange(frames) / FRAME_RATE, atol=1e-3)
    np.testing.assert_array_equal(shown, pictures)
    assert heatmaps.dtype == np.float32 and heatmaps.shape == pictures.shape[:3]
    known = between_stretches(cells(pictures) * levels[:, None, None])
    expected = ((known - 0.25) / 0.25).clip(0, 1)
    assert (expected > 0.5).any(axis=(1, 2)).sum() > frames / 8
    for heatmap, wanted in zip(heatmaps, expected, strict=True):
        np.testing.assert_allclose(heatmap, enlarge(wanted.astype(np.float32), *heatmap.shape), atol=0.01)


def test_the_spot_that_sounds_is_found_where_it_is(tmp_path):
    pictures, levels = moving(60), np.full(60, 0.5)
    path = write_spots(tmp_path / "a.mkv", pictures, steady(levels))
    for frame, (_, _, heatmap) in enumerate(localize_video(path, MODEL)):
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        # a frame between the middles of two stretches may be as near to the other
        assert any(pictures[k, row, column].any() for k in (frame - frame % 4, max(0, frame - 2), min(59, frame + 2)))


@pytest.mark.parametrize("frames", [17, 26, 35])
def test_the_last_clip_ends_with_the_video(tmp_path, frames):
    pictures = np.zeros((frames, ROWS * CELL, COLUMNS * CELL, 3), np.uint8)
    pictures[-4:] = spots([(4, 7)] * 4)
    path = write_spots(tmp_path / "a.mkv", pictures, steady(np.full(frames, 0.5)))
    activations = video_activations(path, MODEL)
    assert activations.starts[-1] == pytest.approx((frames - 16) / FRAME_RATE)
    *_, last = localize_video(path, MODEL, maximum=0.3)
    assert last[2][4 * CELL + 4, 7 * CELL + 4] > 0.85  # half a pixel from the middle of the cell
    assert activations.peaks().highest[0] == pytest.approx(0.5 * 200 / 255, abs=1e-3)


def test_a_video_has_the_maps_of_its_clips(tmp_path):
    """Clips that are cut out of the arrays by hand give the same."""
    pictures, levels = moving(44), loudness(44)
    sound = steady(levels)
    found = video_activations(write_spots(tmp_path / "a.mkv", pictures, sound), MODEL)
    firsts = [0, 8, 16, 24, 28]
    np.testing.assert_allclose(found.starts, np.array(firsts) / FRAME_RATE, atol=1e-9)
    frames = [pictures[first : first + 16].astype(np.float32) / 255 for first in firsts]
    samples = [sound[first * 320 : (first + 16) * 320, None].repeat(2, axis=1) for first in firsts]
    np.testing.assert_allclose(found.maps, np.abs(clip_logits(MODEL, frames, samples)), atol=1e-3)
    np.testing.assert_allclose(found.times[1], (8 + np.array([1.5, 5.5, 9.5, 13.5])) / FRAME_RATE)


class ByClip(SpotNet):
    """Activates everywhere and all the time by the mean loudness of the clip, so that clips disagree."""

    def represent_frames(self, frames):
        return torch.ones_like(super().represent_frames(frames))

    def represent_audio(self, spectrogram):
        loud = super().represent_audio(spectrogram)
        return loud.mean(dim=1, keepdim=True).expand_as(loud)


def test_clips_that_disagree_go_over_into_each_other_without_a_seam(tmp_path):
    frames = 120
    sound = steady(np.random.default_rng(0).uniform(0, 1, frames // 8).repeat(8))
    path = write_spots(tmp_path / "a.mkv", moving(frames), sound)
    activations = video_activations(path, ByClip())
    moments = np.arange(0, frames / FRAME_RATE, 0.001)
    values = np.array([activations.at(time)[0, 0] for time in moments])
    apart = np.abs(np.diff(activations.maps[:, 0, 0, 0].astype(float))).max()
    assert apart > 0.2
    assert np.abs(np.diff(values)).max() < 0.01 * apart  # a jump would be of the order of `apart`
    assert np.ptp(values) > 0.9 * np.ptp(activations.maps[1:-1])


# ------------------------------------------------------------------------------------------------------------- scale


def test_by_default_the_scale_ends_at_the_97th_percentile_and_begins_at_half_of_it(tmp_path):
    """108 cells of known brightness that don't move: the 97th percentile lies between two of them."""
    levels = np.random.default_rng(0).permutation(108) * 2 + 20
    picture = np.repeat(np.repeat(levels.reshape(ROWS, COLUMNS), CELL, 0), CELL, 1).astype(np.uint8)
    pictures = np.broadcast_to(picture[..., None], (30, *picture.shape, 3))
    path = write_spots(tmp_path / "a.mkv", pictures, steady(np.full(30, 0.5)))
    known = 0.5 * levels.reshape(ROWS, COLUMNS) / 255
    high = 0.5 * (20 + 2 * 0.97 * 107) / 255
    assert video_activations(path, MODEL).adaptive_maximum() == pytest.approx(high, abs=2e-3)
    expected = ((known - high / 2) / (high / 2)).clip(0, 1)
    assert (expected == 0).sum() > 30 and (expected == 1).sum() == 4
    for _, _, heatmap in localize_video(path, MODEL):
        np.testing.assert_allclose(heatmap, enlarge(expected.astype(np.float32), *heatmap.shape), atol=0.02)
    fixed = next(localize_video(path, MODEL, maximum=35.0))[2]
    assert fixed.max() == 0


def test_a_scale_of_nothing_shows_what_there_is():
    np.testing.assert_array_equal(scaled(np.array([0.0, 1e-6, 5.0]), 0.0), [0, 1, 1])


def test_a_single_map_a_clip_is_enough():
    activations = Activations(
        np.array([0.0, 0.32]), np.array([1.0, 3.0]).reshape(2, 1, 1, 1), FramesInput(8, 8, 16, 25)
    )
    assert activations.times.ravel() == pytest.approx([0.3, 0.62])
    assert [activations.at(time).item() for time in (-1, 0.3, 0.62, 2)] == [1, 1, 3, 3]


def test_peaks_rank_videos_by_their_strongest_activation(tmp_path):
    strengths = {"loud": 0.9, "soft": 0.2, "dark": 0.9}
    for name, level in strengths.items():
        levels = np.full(40, 0.1 * level)
        levels[20:24] = level
        pictures = spots([(4, 4)] * 40, brightness=100 if name == "dark" else 200)
        write_spots(tmp_path / f"{name}.mkv", pictures, steady(levels))
    peaks = {name: video_peaks(tmp_path / f"{name}.mkv", MODEL) for name in strengths}
    for name, level in strengths.items():
        value, time = peaks[name].highest
        assert peaks[name].quantity == "activation"
        assert value == pytest.approx(level * (100 if name == "dark" else 200) / 255, abs=2e-3)
        assert time == pytest.approx(21.5 / FRAME_RATE)
    assert sorted(strengths, key=lambda name: -peaks[name].highest[0]) == ["loud", "dark", "soft"]


# ------------------------------------------------------------------------------------------------------------ inputs


def test_a_video_shorter_than_a_clip_is_filled_up_and_warned_of(tmp_path):
    path = write_spots(tmp_path / "short.mkv", spots([(2, 3)] * 6), steady(np.full(6, 0.5)))
    with pytest.warns(UserWarning, match=r"short\.mkv is 0\.24 s long, shorter than one window of 0\.64 s"):
        _, frames, heatmaps = read(localize_video(path, MODEL))
    assert len(frames) == 6
    assert np.unravel_index(heatmaps[0].argmax(), heatmaps[0].shape) == pytest.approx(
        (2 * CELL + 4, 3 * CELL + 4), abs=4
    )


def test_silence_is_warned_of_and_stays_dark(tmp_path):
    path = write_spots(tmp_path / "a.mkv", moving(20), steady(np.zeros(20)))
    with pytest.warns(UserWarning, match="silent"):
        assert read(localize_video(path, MODEL))[2].max() == 0


def test_what_lacks_sound_or_pictures_is_an_error_at_once(tmp_path):
    mute = write_spots(tmp_path / "mute.mkv", moving(20), None)
    with pytest.raises(OSError, match=r"mute\.mkv holds no sound .*--mismatch") as raised:
        localize_video(mute, MODEL)
    assert str(raised.value).count("--mismatch") == 1
    soundfile.write(tmp_path / "a.wav", steady(np.full(20, 0.5)), RATE)
    with pytest.raises(OSError, match=r"a\.wav holds no pictures"):
        localize_video(tmp_path / "a.wav", MODEL)
    with pytest.raises(FileNotFoundError, match=r"gone\.mkv"):
        localize_video(tmp_path / "gone.mkv", MODEL)
    with pytest.raises(TypeError, match="path must be a path or a binary file object"):
        localize_video(np.zeros(3), MODEL)
    with pytest.raises(ValueError, match="maximum must be an activation above 0, got -1"):
        localize_video(mute, MODEL, maximum=-1)
    assert len(list(localize_video(mute, MODEL, audio=tmp_path / "a.wav"))) == 20


def test_another_sound_can_be_put_to_a_video(tmp_path):
    path = write_spots(tmp_path / "a.mkv", spots([(2, 3)] * 20), steady(np.zeros(20)))
    levels = np.zeros(20)
    levels[8:12] = 0.8
    soundfile.write(tmp_path / "b.wav", steady(levels), RATE)
    peaks = video_peaks(path, MODEL, audio=tmp_path / "b.wav")
    assert peaks.highest == (pytest.approx(0.8 * 200 / 255, abs=2e-3), pytest.approx(9.5 / FRAME_RATE))


def test_a_file_object_gives_what_its_file_gives_and_frames_come_at_the_rate_asked_for(tmp_path):
    path = write_spots(tmp_path / "a.mkv", moving(40), steady(loudness(40)))
    whole = read(localize_video(path, MODEL))
    for found, wanted in zip(read(localize_video(io.BytesIO(path.read_bytes()), MODEL)), whole, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(read(localize_video(path, MODEL, frame_rate=12.5)), whole, strict=True):
        np.testing.assert_array_equal(found, wanted[::2])


@pytest.mark.filterwarnings("ignore:.*frames are repeated")
@pytest.mark.parametrize("rate", [10, 15, 29.97, 50])
def test_a_video_of_another_frame_rate_is_seen_at_the_networks(tmp_path, rate):
    """A spot appears in the middle of the video, whatever its frame rate."""
    frames = round(3 * rate)
    times = np.arange(frames) / rate
    pictures = np.where((times >= 1.5)[:, None, None, None], spots([(2, 3)]), 0).astype(np.uint8)
    sound = steady(np.full(75, 0.5))
    path = write_video(
        tmp_path / "a.mkv", times, pictures=pictures, sound=sound, rate=RATE, clock=30_000, pixels="bgr0"
    )
    found = video_activations(path, MODEL)
    values = np.array([found.at(time)[2, 3] for time in np.arange(0, 3, 0.01)])
    rises = np.interp(0.5 * values.max(), values[:200], np.arange(200) * 0.01)
    assert rises == pytest.approx(1.5, abs=1.5 / min(rate, FRAME_RATE))
    assert len(list(localize_video(path, MODEL))) == frames


def test_pictures_of_any_shape_are_seen_whole(tmp_path):
    picture = np.zeros((90, 200, 3), np.uint8)
    picture[60:75, 170:190] = 250
    path = write_spots(tmp_path / "wide.mkv", [picture] * 20, steady(np.full(20, 0.5)))
    for _, _, heatmap in localize_video(path, MODEL):
        assert heatmap.shape == (90, 200)
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        assert (row, column) == (pytest.approx(67, abs=8), pytest.approx(180, abs=8))


def test_single_pictures_are_refused_with_the_way_to_go():
    for network in (MODEL, Multisensory(widths=[4, 4, 8, 8], image_size=16, frames=8, frame_rate=8.0)):
        with pytest.raises(ValueError, match="not single pictures: give it a video, to localize_video"):
            localize_sound(np.zeros((64, 64, 3), np.uint8), np.ones(RATE), RATE, network)


def test_probabilities_have_no_maximum_to_choose(tmp_path):
    with pytest.raises(ValueError, match="avol-small gives probabilities"):
        localize_video(tmp_path / "a.mkv", "avol-small", maximum=1.0)


def test_multisensory_maps_a_video_between_its_logits(tmp_path):
    """With a video of one clip, the mean of its maps is the clip's logit but for the sign."""
    torch.manual_seed(0)
    model = Multisensory(widths=[4, 4, 8, 8], image_size=[64, 64], frames=16, frame_rate=25, sample_rate=RATE).eval()
    path = write_spots(tmp_path / "a.mkv", moving(16), steady(loudness(16)))
    assert video_activations(path, model).maps.shape == (1, 2, 2, 3)
    times = [time for time, _ in read_frames(path)]
    assert [time for time, _, _ in localize_video(path, model)] == times
