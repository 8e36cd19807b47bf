"""Pairs: sampling without shortcuts, augmentation, clips of frames, and the distribution of positions."""

import math
import pickle

import numpy as np
import pytest
import torch
import webdataset
from tones import (
    FRAME_RATE,
    FRAMES,
    RATE,
    SECONDS,
    clip_of_picture,
    clip_of_sound,
    jpeg,
    listener,
    plain,
    recipe,
    write_tones,
)

from openavc.media.flow import with_flow
from openavc.media.image import shrink_to
from openavc.models import AVENet
from training import distributed
from training.corpora.shards import Shards, encode_clip
from training.evaluate.datasets.held_out import HeldOut
from training.loading import Parts
from training.negatives import SameClip
from training.pairs import Pairs, augment
from training.recipe import Data

MODEL = listener()


def test_labels_tell_whether_picture_and_sound_are_of_one_clip(shards):
    pairs = Pairs(Shards(shards), MODEL, plain(windows_per_clip=4), seed=0)
    labels = []
    for position in range(100):
        item = pairs[position]
        for frames, samples, label in zip(item["frames"], item["samples"], item["label"], strict=True):
            assert (clip_of_picture(frames) == clip_of_sound(samples)) == bool(label)
            labels.append(int(label))
    assert np.mean(labels) == pytest.approx(0.5, abs=0.1)  # 4 standard errors of 400 draws


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Write clips: 0 and 1 are dogs from one video; 2, from another, is a cat that barks; 3 is from a third."""
    folder = tmp_path_factory.mktemp("labelled")
    write_tones(folder / "0.tar", [0, 1], source="a", labels=["dog"])
    write_tones(folder / "1.tar", [2], source="b", labels=["cat", "dog"])
    write_tones(folder / "2.tar", [3], source="c", labels=["dog"])
    return Shards(folder)


def test_the_target_is_the_number_of_the_first_label_of_the_pictures_clip(labelled, shards):
    pairs = Pairs(labelled, MODEL, plain(windows_per_clip=2), seed=0)
    assert labelled.classes == ["cat", "dog"]
    for position in range(8):
        item = pairs[position]
        assert item["target"].tolist() == [int(clip_of_picture(item["frames"][0]) != 2)] * 2
    assert Pairs(Shards(shards), MODEL, plain(), seed=0)[0]["target"].tolist() == [-1]


def test_targets_follow_the_order_of_given_classes(labelled):
    pairs = Pairs(labelled, MODEL, plain(), seed=0, classes=("dog", "bird", "cat"))
    for position in range(4):
        item = pairs[position]
        assert item["target"].tolist() == [2 if clip_of_picture(item["frames"][0]) == 2 else 0]


def test_negatives_are_of_another_video(labelled):
    pairs = Pairs(labelled, MODEL, plain(windows_per_clip=4), seed=0, share=1.0)
    heard = set()
    for position in range(40):
        item = pairs[position]
        heard |= {(clip_of_picture(i), clip_of_sound(w)) for i, w in zip(item["frames"], item["samples"], strict=True)}
    assert heard == {(i, w) for i in range(4) for w in range(4)} - {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3)}


def silent(monkeypatch, shards, seen):
    """Record the clip and the middle of each sound in `seen`, instead of reading it."""
    ones = np.ones((RATE, 1), "f4")
    monkeypatch.setattr(shards, "sound", lambda clip, middle, *_: seen.append((clip, middle)) or ones)


def middles(shards, monkeypatch, negatives, **options):
    """Return (clip, middle) of the sounds that are heard in 400 pairs."""
    found, seen = Shards(shards), []
    silent(monkeypatch, found, seen)
    pairs = Pairs(found, MODEL, plain(windows_per_clip=8, **options), 0, negatives)
    for position in range(50):
        pairs[position]
    per_pair = 2 if negatives else 1  # of negatives, the picture's own moment is looked at first
    assert len(seen) == 400 * per_pair
    return seen[per_pair - 1 :: per_pair]


def test_negatives_drawn_for_each_pair_are_of_its_clip_at_the_allowed_distance(shards, monkeypatch):
    found, seen = Shards(shards), []
    silent(monkeypatch, found, seen)
    shifted = SameClip(overlap=0.5, largest_gap=0.4)  # 0.5 to 1.4 s apart
    item = Pairs(found, MODEL, plain(windows_per_clip=2), 0, 0.0, shifted, drawn=3)[0]
    assert item["negatives"].shape == (2, 3, RATE, 1)
    assert item["label"].tolist() == [1, 1]
    for own, *others in (seen[:4], seen[4:]):
        assert {clip.key for clip, _ in others} == {own[0].key}
        distances = [abs(middle - own[1]) for _, middle in others]
        assert all(0.5 - 1e-6 <= distance <= 1.4 + 1e-6 for distance in distances)


def test_a_pairs_own_sound_and_its_negatives_have_one_gain(shards):
    data = Data(brightness=0, saturation=(1, 1), gain=(0.5, 2.0), flip=False)
    pairs = Pairs(Shards(shards), MODEL, data, 0, 0.0, SameClip(overlap=0.5), drawn=2)
    for position in range(5):
        item = pairs[position]
        peaks = torch.cat([item["samples"][0, None], item["negatives"][0]]).abs().amax(dim=(1, 2))
        assert peaks.tolist() == pytest.approx([peaks[0].item()] * 3, rel=0.01)
        assert item["negatives"].dtype == item["samples"].dtype == torch.float32


@pytest.mark.parametrize("negatives", [0.0, 1.0])
def test_sounds_of_positive_and_negative_pairs_lie_at_frames(shards, monkeypatch, negatives):
    for clip, middle in middles(shards, monkeypatch, negatives=negatives):
        assert np.abs(clip.frame_times - middle).min() < 1e-9


@pytest.mark.parametrize("misalignment", [0.0, 0.3])
def test_on_the_grid_starts_of_positive_and_negative_sounds_agree_modulo_its_period(shards, monkeypatch, misalignment):
    """This is section 3.3 of Objects that Sound; the sounds still lie inside their clips."""
    starts = []
    for negatives in (0.0, 1.0):
        found = middles(shards, monkeypatch, negatives=negatives, misalignment=misalignment, grid=0.04)
        found = np.array([middle for _, middle in found])
        np.testing.assert_allclose(found / 0.04, np.round(found / 0.04), atol=1e-6)
        assert found.min() - 0.5 >= -1e-9
        assert found.max() + 0.5 <= SECONDS + 1e-9
        starts.append(np.histogram((found - 0.5 + 0.002) % 0.04, bins=10, range=(0, 0.04))[0])
    assert starts[0].tolist() == starts[1].tolist()
    assert starts[0].max() == 400


@pytest.mark.parametrize("options", [{}, {"misalignment": 0.2}, {"misalignment": 0.2, "grid": 0.04}])
def test_windows_lie_inside_their_clip_and_apart_from_each_other(shards, monkeypatch, options):
    found, seen = Shards(shards), []
    silent(monkeypatch, found, seen)
    pairs = Pairs(found, MODEL, plain(windows_per_clip=2, **options), seed=0, share=0.0)
    for position in range(300):  # wherever the first is in 4 s, there is room for the second
        pairs[position]
    seen = [middle for _, middle in seen]
    first, second = np.array(seen).reshape(300, 2).T
    assert np.abs(first - second).min() >= 1 - 1e-9
    assert min(seen) - 0.5 >= -1e-9
    assert max(seen) + 0.5 <= SECONDS + 1e-9
    assert np.std(seen) > 0.8  # and they are everywhere: of a uniform middle, 3 / sqrt(12) = 0.87


def test_clips_shorter_than_a_window_are_left_out(tmp_path):
    for clip, seconds in enumerate((0.9, 1.1, 2.0)):
        write_tones(tmp_path / f"{clip}.tar", [clip], seconds)
    found = Shards(tmp_path)
    assert [clip.key for clip in Pairs(found, MODEL, plain(), 0).clips] == ["clip1", "clip2"]
    with pytest.raises(ValueError, match=r"1\.00 s long; there are 0 such clips"):
        (tmp_path / "short").mkdir()
        (tmp_path / "0.tar").rename(tmp_path / "short" / "0.tar")
        Pairs(Shards(tmp_path / "short"), MODEL, plain(), 0)


def test_clips_shorter_than_a_window_are_seen_whole_where_asked(tmp_path, monkeypatch):
    """Frames at their ends are repeated, sound goes on as zeros, and may be shifted as that of others."""
    for clip, seconds, frames in ((0, 0.6, 3), (1, 0.6, 3), (2, 4.0, 20), (3, 0.6, 1)):
        write_tones(tmp_path / f"{clip}.tar", [clip], seconds, frames=frames)
    found, model = Shards(tmp_path), listener(count=5)
    assert [clip.key for clip in Pairs(found, model, plain(shorter=True), 0, share=0.0).clips] == [
        *("clip0", "clip1", "clip2")  # of a single frame nothing is known of its rate
    ]
    pairs, middles = Pairs(found, model, plain(shorter=True, misalignment=0.1), 0, share=0.0), []
    read = found.sound
    monkeypatch.setattr(
        found, "sound", lambda clip, time, *more: middles.append((clip.key, time)) or read(clip, time, *more)
    )
    for position in range(60):
        item = pairs[position]
        key, time = middles[-1]
        if key != "clip2":
            greens = [round(float(frame[..., 1].mean()) * 255 / 5) for frame in item["frames"][0]]
            assert greens == [0, 0, 1, 2, 2]
            heard = np.flatnonzero(np.abs(item["samples"][0].numpy()) > 1e-3) / RATE
            assert heard[[0, -1]] == pytest.approx([0.5 - time, 1.1 - time], abs=0.01)
    short = [time for key, time in middles if key != "clip2"]
    assert min(short) >= 0.3 and max(short) <= 0.5 and np.ptp(short) > 0.15  # around 0.4 s, the middle frame's time


def test_misalignment_keeps_the_frame_within_its_limit(shards, monkeypatch):
    found, seen = Shards(shards), []
    silent(monkeypatch, found, seen)
    pairs = Pairs(found, MODEL, plain(misalignment=0.3), seed=0, share=0.0)
    frames = [round(float(pairs[position]["frames"][..., 1].mean()) * 255 / 5) for position in range(400)]
    distances = np.array([middle for _, middle in seen]) - (np.array(frames) + 1) * SECONDS / FRAMES
    assert np.abs(distances).max() <= 0.3 + 1e-9
    assert np.std(distances) == pytest.approx(0.3 / math.sqrt(3), rel=0.15)  # uniform


def test_each_pass_visits_every_clip_once_in_a_new_order(shards):
    pairs = Pairs(Shards(shards), MODEL, plain(), seed=3, share=0.0)
    passes = [[clip_of_picture(pairs[p]["frames"][0]) for p in range(start, start + 6)] for start in (0, 6, 12)]
    assert all(sorted(visited) == list(range(6)) for visited in passes)
    assert len({tuple(visited) for visited in passes}) > 1


@pytest.fixture
def grouped(tmp_path):
    """Write two corpora of three groups of two clips each, one clip too short; each corpus numbers its groups anew."""
    for corpus in range(2):
        for clip in range(6):
            seconds = 0.5 if (corpus, clip) == (1, 5) else 4.0
            write_tones(tmp_path / f"{corpus}/{clip}.tar", [6 * corpus + clip], seconds, group=clip // 2)
    return Shards(tmp_path / "0", tmp_path / "1")


def test_clips_of_a_group_stay_neighbours_and_incomplete_groups_are_left_out(grouped):
    pairs = Pairs(grouped, MODEL, plain(grouped=True), seed=0, share=0.0)
    items = [pairs[position] for position in range(10)]
    clips = [clip_of_picture(item["frames"]) for item in items]
    assert sorted(clips) == list(range(10))  # 10 and 11 are the group with the short clip
    groups = [item["group"].item() for item in items]
    assert groups[::2] == groups[1::2] and len(set(groups)) == 5
    assert all(abs(a - b) == 1 and min(a, b) % 2 == 0 for a, b in zip(clips[::2], clips[1::2], strict=True))


def test_groups_are_refused_where_there_are_none(shards):
    with pytest.raises(ValueError, match="scenes solo and duo"):
        Pairs(Shards(shards), MODEL, plain(grouped=True), seed=0)


def test_frames_that_a_mask_leaves_out_are_in_no_pair(tmp_path):
    kept = [k % 3 == 0 for k in range(FRAMES)]
    write_tones(tmp_path / "0.tar", range(3), masks={"no_flames": kept, "other": [True] * FRAMES})
    shards = Shards(tmp_path)
    for name, possible in (("no_flames", {3, 6, 9, 12, 15}), ("other", set(range(2, 17)))):
        for share in (0.0, 1.0):  # a second fits around frames 2 to 16
            pairs = Pairs(shards, MODEL, plain(mask=name), seed=0, share=share)
            green = {round(float(pairs[position]["frames"][..., 1].mean()) * 255 / 5) for position in range(120)}
            assert green == possible


def test_shards_without_the_mask_are_to_be_rendered_again(shards):
    with pytest.raises(ValueError, match=r"clip0 has no mask 'no_large_projectile', it has none; render .* again"):
        Pairs(Shards(shards), MODEL, plain(mask="no_large_projectile"), seed=0)


def test_a_pair_depends_on_seed_and_position_alone(shards):
    def item(seed, position):
        return Pairs(Shards(shards), MODEL, Data(windows_per_clip=2), seed)[position]

    first, again, other = item(0, 5), item(0, 5), item(1, 5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["frames"], other["frames"])


def test_a_quiet_moment_gives_nothing_away_about_the_label(tmp_path):
    """Frames are bright while it is loud, dark in silence: both kinds of pairs must have equally bright pictures."""
    loud = np.repeat(np.tile([1.0, 0.0], 10), RATE // 2)  # half a second each
    frames = [jpeg(np.full((24, 32, 3), 250 * ((k // 2) % 2 == 0), np.uint8)) for k in range(40)]
    times = [0.125 + 0.25 * k for k in range(40)]
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for clip in range(4):
            writer.write(encode_clip(f"c{clip}", 0.5 * loud, RATE, frames, times, {}))

    pairs = Pairs(Shards(tmp_path), listener(seconds=0.2), plain(windows_per_clip=8, quietest=-42), seed=0)
    bright = {0: [], 1: []}
    for position in range(60):
        for image, label in zip(pairs[position]["frames"], pairs[position]["label"], strict=True):
            bright[int(label)].append(float(image.mean()) > 0.5)
    assert np.mean(bright[1]) > 0.9  # loud
    assert np.mean(bright[0]) == pytest.approx(np.mean(bright[1]), abs=0.03)


# ---------------------------------------------------------------------------------------------------- augmentation


def still(**options) -> Data:
    """Return data options with only the given augmentation."""
    return Data(**{"brightness": 0.0, "saturation": (1.0, 1.0), "flip": False} | options)


def draws(frames, data, count=200):
    return [augment(frames, 16, 16, data, np.random.default_rng(seed)) for seed in range(count)]


@pytest.fixture(scope="module")
def picture():
    """Draw a frame of a smooth texture; after shrinking to 18 x 24, pieces of 16 x 16 pixels are cropped from it."""
    import cv2

    rough = np.random.default_rng(0).random((6, 8, 3), dtype=np.float32)
    return 0.3 + 0.4 * cv2.resize(rough, (40, 30), interpolation=cv2.INTER_CUBIC).clip(0, 1)[None]


def test_crops_are_windows_of_the_shrunk_picture_and_every_one_comes(picture):
    shrunk = shrink_to(picture[0], 16, 16)
    assert shrunk.shape == (18, 24, 3)
    windows = {shrunk[y : y + 16, x : x + 16].tobytes(): (y, x) for y in range(3) for x in range(9)}
    found = [windows[crop[0].tobytes()] for crop in draws(picture, still(), 400)]
    assert set(found) == set(windows.values())


def test_about_half_of_the_crops_are_mirrored_and_none_without_flip(picture):
    shrunk = shrink_to(picture[0], 16, 16)
    windows = {shrunk[y : y + 16, x : x + 16].tobytes() for y in range(3) for x in range(9)}
    found = draws(picture, still(flip=True), 400)
    mirrored = [crop[0].tobytes() not in windows for crop in found]
    assert all(crop[0][:, ::-1].tobytes() in windows for crop, other in zip(found, mirrored, strict=True) if other)
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.1)  # 4 standard errors


def test_brightness_adds_one_number_to_all_pixels_up_to_its_limit():
    grey = np.full((1, 18, 24, 3), 0.5, np.float32)
    shifts = np.array([crop - np.float32(0.5) for crop in draws(grey, still(brightness=0.1))])
    assert np.ptp(shifts.reshape(len(shifts), -1), axis=1).max() < 1e-6
    assert -0.1 <= shifts.min() < -0.09 and 0.09 < shifts.max() <= 0.1


def test_saturation_scales_the_distance_from_grey_within_its_range():
    colour = np.float32([0.5, 0.4, 0.6])
    found = np.array(draws(np.tile(colour, (1, 18, 24, 1)), still(saturation=(0.5, 1.5))))[:, 0, 0, 0]
    factors = (found - 0.5) @ (colour - 0.5) / ((colour - 0.5) ** 2).sum()
    np.testing.assert_allclose(found, 0.5 + factors[:, None] * (colour - 0.5), atol=1e-6)
    assert 0.5 <= factors.min() < 0.52 and 1.48 < factors.max() <= 1.5
    assert np.mean(factors) == pytest.approx(1, abs=0.08)  # 4 standard errors


def test_values_stay_between_black_and_white():
    white = np.ones((1, 18, 24, 3), np.float32)
    assert max(crop.max() for crop in draws(white, still(brightness=0.5))) == 1
    assert min(crop.min() for crop in draws(0 * white, still(brightness=0.5))) == 0


def test_the_sound_is_multiplied_by_one_factor_within_its_range(shards):
    pairs = [
        Pairs(Shards(shards), MODEL, Data(gain=gain, windows_per_clip=4), seed=0, share=0.0)
        for gain in ((1, 1), (0.5, 2.0))
    ]
    factors = []
    for position in range(30):
        before, after = (both[position]["samples"].numpy() for both in pairs)
        own = [float((a * b).sum() / (a * a).sum()) for a, b in zip(before, after, strict=True)]
        np.testing.assert_allclose(after, before * np.array(own)[:, None, None], atol=1e-5)
        factors += own
    assert 0.5 <= min(factors) < 0.6 and 1.9 < max(factors) <= 2.0


# ---------------------------------------------------------------------------------------------------- several frames


def flows(size=48):
    """Return a test double that takes the middle of 3 frames with the flow between them."""
    model = listener(size, count=3)
    model.precompute_frames = with_flow
    return model


def greens(frames) -> np.ndarray:
    """Return the numbers of the frames in any stack of pictures."""
    return np.round(np.asarray(frames)[..., 1].mean(axis=(-2, -1)) * 255 / 5).astype(int)


def test_a_run_is_of_neighbours_inside_the_clip_around_the_frame_a_single_picture_would_be(shards):
    single = Pairs(Shards(shards), MODEL, plain(windows_per_clip=2), seed=0)
    pairs = Pairs(Shards(shards), listener(count=5), plain(windows_per_clip=2), seed=0)
    for position in range(60):  # a second of sound inside the clip leaves room for 5 frames
        one, run = single[position], pairs[position]
        assert run["frames"].shape == (2, 5, 16, 16, 3)
        assert torch.equal(run["frames"][:, 2], one["frames"][:, 0])
        assert torch.equal(run["samples"], one["samples"])
        numbers = greens(run["frames"])
        assert (np.diff(numbers) == 1).all()
        assert numbers.min() >= 0 and numbers.max() < FRAMES


@pytest.mark.parametrize("frames", [9, 19])
def test_long_runs_lie_inside_their_clip(shards, frames):
    model = listener(count=frames)
    pairs = Pairs(Shards(shards), model, plain(), seed=0)
    seen = np.concatenate([greens(pairs[position]["frames"]) for position in range(60)])
    assert (np.diff(seen) == 1).all()
    half = frames // 2
    possible = range(max(2, half), min(16, FRAMES - 1 - half) + 1)  # a second fits around frames 2 to 16
    assert {int(numbers[half]) for numbers in seen} == set(possible)
    held = list(HeldOut(Shards(shards), model, per_clip=20, seed=0))
    assert len(held) == 6 * len(possible)
    assert all((np.diff(greens(run)) == 1).all() for run, _, _ in held)


def test_a_network_with_a_slower_rate_sees_every_other_frame(shards):
    model = listener(count=3, rate=FRAME_RATE / 2)
    pairs = Pairs(Shards(shards), model, plain(), seed=0)
    seen = np.concatenate([greens(pairs[position]["frames"]) for position in range(60)])
    assert (np.diff(seen) == 2).all() and seen.min() >= 0 and seen.max() < FRAMES
    for run, samples, clip in HeldOut(Shards(shards), model, per_clip=4, seed=0):
        assert (np.diff(greens(run)) == 2).all()
        assert f"clip{clip_of_sound(samples)}" == clip.key


def test_clips_with_fewer_frames_than_the_model_takes_are_left_out(shards):
    model = listener(count=21)
    with pytest.raises(ValueError, match=r"and have 21 frames around one of their moments; there are 0 such clips"):
        Pairs(Shards(shards), model, plain(), seed=0)
    assert not list(HeldOut(Shards(shards), model, per_clip=3, seed=0))


def test_clips_whose_frames_are_too_far_apart_for_the_network_are_left_out(shards, tmp_path):
    model = listener(count=3, rate=25.0)
    with pytest.raises(ValueError, match=r"0 such clips; the frames of 6 others .* prepare with --frame-rate 25$"):
        Pairs(Shards(shards), model, plain(), seed=0)
    write_tones(tmp_path / "0.tar", [6, 7], frames=100)
    pairs = Pairs(Shards(shards, tmp_path), model, plain(), seed=0)
    assert [clip.key for clip in pairs.clips] == ["clip6", "clip7"]


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """Write clips of a texture that moves 3 pixels to the right from frame to frame, while blue grows to the right."""
    import cv2

    folder = tmp_path_factory.mktemp("moving")
    rough = np.random.default_rng(0).random((48, 200), dtype=np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.0)
    smooth = 255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())
    blue = np.tile(np.linspace(0, 255, 64), (48, 1))
    greens = [smooth[:, 100 - 3 * k :][:, :64] for k in range(FRAMES)]
    frames = [np.stack([255 - green, green, blue], axis=-1) for green in greens]
    tone = 0.5 * np.sin(np.arange(round(RATE * SECONDS)) / 10)
    times = [(k + 1) * SECONDS / FRAMES for k in range(FRAMES)]
    with webdataset.TarWriter(str(folder / "0.tar")) as writer:
        for clip in range(2):
            jpegs = [jpeg(frame.round().astype(np.uint8)) for frame in frames]
            writer.write(encode_clip(f"clip{clip}", tone, RATE, jpegs, times, {}))
    return folder


def test_flow_is_that_of_the_augmented_pictures_so_flips_turn_it_round(moving):
    pairs, found = Pairs(Shards(moving), flows(), Data(windows_per_clip=4), seed=0), {}
    for position in range(10):
        for image in pairs[position]["frames"].numpy():
            assert image.shape == (48, 48, 3 + 4)
            flipped = image[:, :20, 2].mean() > image[:, -20:, 2].mean()
            across, down = np.median(image[12:-12, 12:-12, 3:].reshape(-1, 2), axis=0)
            found.setdefault(flipped, []).append([(across - 0.5) * 40, (down - 0.5) * 40])
    scale = 48 * 256 / 224 / 48  # of the pictures, before they are cropped
    np.testing.assert_allclose(found[False], [[3 * scale, 0]] * len(found[False]), atol=0.3)
    np.testing.assert_allclose(found[True], [[-3 * scale, 0]] * len(found[True]), atol=0.3)


def test_all_frames_of_a_run_are_augmented_alike(tmp_path):
    rng = np.random.default_rng(0)
    picture = jpeg(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    times = [(k + 1) * SECONDS / FRAMES for k in range(FRAMES)]
    tone = np.sin(np.arange(round(RATE * SECONDS)) / 10)
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for clip in range(2):
            writer.write(encode_clip(f"clip{clip}", tone, RATE, [picture] * FRAMES, times, {}))
    pairs = Pairs(Shards(tmp_path), listener(count=5), Data(windows_per_clip=2), seed=0)
    frames = torch.cat([pairs[position]["frames"] for position in range(10)])
    assert all(torch.equal(run, run[:1].expand_as(run)) for run in frames)
    assert len({frame.numpy().tobytes() for frame in frames[:, 0]}) == 20


@pytest.mark.parametrize("model", [listener(count=5), flows()], ids=["frames", "flow"])
def test_a_run_depends_on_seed_and_position_alone(moving, model):
    def item(seed, position):
        return Pairs(Shards(moving), model, Data(windows_per_clip=2), seed)[position]

    first, other = item(0, 5), item(1, 5)
    visited = Pairs(Shards(moving), model, Data(windows_per_clip=2), 0)
    for position in (9, 2, 5):
        again = visited[position]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["frames"], other["frames"])


def test_workers_get_what_makes_a_batch_but_not_the_network(shards):
    model = AVENet(
        widths=(4, 4, 64, 128), frontend="mel64", image_size=16, motion="flow", frames=3, frame_rate=FRAME_RATE
    )
    pairs = Pairs(Shards(shards), model, Data(), 0)
    pickled = pickle.dumps(pairs)
    assert len(pickled) < 4 * 64 * 128 * 9  # bytes, of one layer's weights
    assert torch.equal(pickle.loads(pickled)[3]["frames"], pairs[3]["frames"])
    flow = pairs[3]["frames"]
    assert flow.shape == (1, 16, 16, 3 + 4)
    assert model.prepare_frames(flow).shape == (1, 3 + 4, 16, 16)


@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_evaluation_pairs_are_as_the_model_takes_them(shards, motion):
    model = AVENet(widths=(4, 4, 8, 8), frontend="mel64", image_size=16, motion=motion, frames=7, frame_rate=FRAME_RATE)
    found = list(HeldOut(Shards(shards), model, per_clip=3, seed=0))
    assert len(found) == 18
    for frames, samples, clip in found:
        assert frames.shape == model.frames.shape == (7, 16, 16, 3)
        assert clip.key == f"clip{clip_of_picture(frames)}" == f"clip{clip_of_sound(samples)}"


def test_a_network_that_hears_two_channels_gets_them(tmp_path):
    rng = np.random.default_rng(0)
    picture = jpeg(np.full((24, 32, 3), 100, np.uint8))
    times = [(k + 1) * SECONDS / FRAMES for k in range(FRAMES)]
    stored = rng.uniform(-0.5, 0.5, (2, round(RATE * SECONDS), 2)).astype(np.float32)
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for clip in range(2):
            writer.write(encode_clip(f"clip{clip}", stored[clip], RATE, [picture] * FRAMES, times, {}))
    for channels in (1, 2):
        pairs = Pairs(Shards(tmp_path), listener(channels=channels), plain(), seed=0, share=0.0)
        assert pairs[0]["samples"].shape == (1, RATE, channels)
    [window] = pairs[0]["samples"].numpy()
    starts = [round(time * RATE) - RATE // 2 for time in times]
    near = [np.abs(window - sound[start : start + RATE]).max() for sound in stored for start in starts[2:17]]
    assert min(near) < 1e-4


# --------------------------------------------------------------------------------------------------- dealing out


def dealt(monkeypatch, processes: int, accumulate: int) -> list[list[range]]:
    """Return the parts of steps 3 and 4, for each process."""
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    found = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        made = recipe(batch_size=24, accumulate=accumulate, data={"windows_per_clip": 2})
        parts = Parts(made, made.stages[0], 3, 5)
        found.append(list(parts))
        assert len(parts) == len(found[-1]) == 2 * accumulate
    return found


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (1, 2), (3, 2), (2, 3)])
def test_processes_and_parts_share_out_the_batch_of_one(monkeypatch, processes, accumulate):
    found = dealt(monkeypatch, processes, accumulate)
    for number, step in enumerate((3, 4)):
        parts = [p for own in found for p in own[number * accumulate : (number + 1) * accumulate]]
        assert len({len(part) for part in parts}) == 1
        assert [position for part in parts for position in part] == list(range(12 * step, 12 * step + 12))


def test_parts_of_a_batch_are_the_same_for_one_process_as_for_several(monkeypatch):
    (alone,) = dealt(monkeypatch, 1, 4)
    first, second = dealt(monkeypatch, 2, 2)
    assert alone == [*first[:2], *second[:2], *first[2:], *second[2:]]


def test_positions_go_on_counting_from_stage_to_stage():
    """They do so whatever number of windows, and so of clips, a stage has in a batch."""
    stages = [{"steps": 3}, {"steps": 2, "data": {"windows_per_clip": 2}}, {"steps": 1}]
    made = recipe(stages=stages, steps=6)
    visited = [
        position
        for stage in made.stages
        for part in Parts(made, stage, stage.first_step, stage.last_step)
        for position in part
    ]
    assert visited == list(range(3 * 8 + 2 * 4 + 8))


def test_evaluation_pairs_are_of_one_clip_and_whole_windows(shards):
    found = list(HeldOut(Shards(shards), MODEL, per_clip=3, seed=0))
    assert len(found) == 18
    for frames, samples, clip in found:
        assert frames.shape == (1, 16, 16, 3)
        assert clip.key == f"clip{clip_of_picture(frames)}" == f"clip{clip_of_sound(samples)}"
        assert np.abs(samples[:100]).any()
        assert np.abs(samples[-100:]).any()
