"""Shards to pairs: what comes back, sampling without shortcuts, augmentation, and how positions are dealt out."""

import math
import os
import pickle

import numpy as np
import pytest
import torch
import webdataset
from tones import (
    FRAMES,
    RATE,
    RECIPE,
    SECONDS,
    Contract,
    clip_of_picture,
    clip_of_sound,
    jpeg,
    plain,
    write_tones,
)

from openavc.image import shrink_to
from openavc.models import AVENet
from openavc.motion import whole_run, with_flow
from training import distributed
from training.data import Pairs, Sampling, Shards, encode_clip, held_out_pairs, level
from training.train import Parts


def test_frames_and_sound_come_back_from_the_shards(shards):
    found = pickle.loads(pickle.dumps(Shards(shards)))
    assert [clip.key for clip in found.clips] == [f"clip{k}" for k in range(6)]
    np.testing.assert_allclose(found.frame(found.clips[4], 7).mean(axis=(0, 1)) * 255, [40, 35, 128], atol=2)
    waveform = found.waveform(found.clips[4], 2.0, 1.0, RATE)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (np.arange(RATE) / RATE + 1.5))
    np.testing.assert_allclose(waveform, expected, atol=1e-4)


def test_shards_for_a_worker_process_are_pickled_without_their_files(shards):
    assert len(pickle.dumps(Shards(shards))) < 0.1 * sum(path.stat().st_size for path in shards.glob("*.tar"))


def test_a_corpus_may_have_more_shards_than_a_process_may_hold_open(shards, tmp_path):
    resource = pytest.importorskip("resource")
    for number in range(40):
        (tmp_path / f"{number:05d}.tar").hardlink_to(shards / "00000.tar")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(name) for name in os.listdir("/dev/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, limits[1]))
    try:
        found = Shards(tmp_path)
        assert len({found.waveform(clip, 2.0, 1.0, RATE).tobytes() for clip in found.clips}) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_sound_beyond_the_clip_is_silence(shards):
    found = Shards(shards)
    waveform = found.waveform(found.clips[0], 0.0, 1.0, RATE)
    assert not waveform[: RATE // 2].any()
    assert waveform[RATE // 2 :].any()


def test_no_shards_is_an_error_that_says_how_to_make_some(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.simulate"):
        Shards(shards, tmp_path)


def test_labels_tell_whether_picture_and_sound_are_of_one_clip(shards):
    pairs = Pairs(Shards(shards), Contract, plain(negatives=0.5, windows_per_clip=4), seed=0)
    labels = []
    for position in range(100):
        item = pairs[position]
        for image, waveform, label in zip(item["image"], item["waveform"], item["label"], strict=True):
            assert (clip_of_picture(image) == clip_of_sound(waveform)) == bool(label)
            labels.append(int(label))
    assert np.mean(labels) == pytest.approx(0.5, abs=0.1)  # 4 standard errors of 400 draws


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Clips 0 and 1 are of one video and dogs; 2, of another, is a cat that barks; 3 of a third."""
    folder = tmp_path_factory.mktemp("labelled")
    write_tones(folder / "0.tar", [0, 1], source="a", labels=["dog"])
    write_tones(folder / "1.tar", [2], source="b", labels=["cat", "dog"])
    write_tones(folder / "2.tar", [3], source="c", labels=["dog"])
    return Shards(folder)


def test_the_target_is_the_number_of_the_first_label_of_the_pictures_clip(labelled, shards):
    pairs = Pairs(labelled, Contract, plain(windows_per_clip=2), seed=0)
    assert labelled.classes == ["cat", "dog"]
    for position in range(8):
        item = pairs[position]
        assert item["target"].tolist() == [int(clip_of_picture(item["image"][0]) != 2)] * 2
    assert Pairs(Shards(shards), Contract, plain(), seed=0)[0]["target"].tolist() == [-1]


def test_negatives_are_of_another_video(labelled):
    pairs = Pairs(labelled, Contract, plain(negatives=1.0, windows_per_clip=4), seed=0)
    heard = set()
    for position in range(40):
        item = pairs[position]
        heard |= {(clip_of_picture(i), clip_of_sound(w)) for i, w in zip(item["image"], item["waveform"], strict=True)}
    assert heard == {(i, w) for i in range(4) for w in range(4)} - {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3)}


def middles(shards, monkeypatch, **options):
    """(clip, middle) of the sounds that are heard in 400 pairs."""
    found, seen = Shards(shards), []
    monkeypatch.setattr(found, "waveform", lambda clip, middle, *_: seen.append((clip, middle)) or np.ones(RATE, "f4"))
    pairs = Pairs(found, Contract, plain(windows_per_clip=8, **options), seed=0)
    for position in range(50):
        pairs[position]
    per_pair = 2 if options["negatives"] else 1  # of negatives, the picture's own moment is looked at first
    assert len(seen) == 400 * per_pair
    return seen[per_pair - 1 :: per_pair]


@pytest.mark.parametrize("negatives", [0.0, 1.0])
def test_sounds_of_positive_and_negative_pairs_lie_at_frames(shards, monkeypatch, negatives):
    for clip, middle in middles(shards, monkeypatch, negatives=negatives):
        assert np.abs(clip.frame_times - middle).min() < 1e-9


@pytest.mark.parametrize("misalignment", [0.0, 0.3])
def test_on_the_grid_starts_of_positive_and_negative_sounds_agree_modulo_its_period(shards, monkeypatch, misalignment):
    """Objects that Sound, section 3.3, and the sounds lie inside their clips none the less."""
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
    monkeypatch.setattr(found, "waveform", lambda clip, middle, *_: seen.append(middle) or np.ones(RATE, "f4"))
    pairs = Pairs(found, Contract, plain(negatives=0.0, windows_per_clip=2, **options), seed=0)
    for position in range(300):  # wherever the first is in 4 s, there is room for the second
        pairs[position]
    first, second = np.array(seen).reshape(300, 2).T
    assert np.abs(first - second).min() >= 1 - 1e-9
    assert min(seen) - 0.5 >= -1e-9
    assert max(seen) + 0.5 <= SECONDS + 1e-9
    assert np.std(seen) > 0.8  # and they are everywhere: of a uniform middle, 3 / sqrt(12) = 0.87


def test_clips_shorter_than_a_window_are_left_out(tmp_path):
    for clip, seconds in enumerate((0.9, 1.1, 2.0)):
        write_tones(tmp_path / f"{clip}.tar", [clip], seconds)
    found = Shards(tmp_path)
    assert [clip.key for clip in Pairs(found, Contract, plain(), 0).clips] == ["clip1", "clip2"]
    with pytest.raises(ValueError, match=r"1\.00 s long; there are 0 such clips"):
        (tmp_path / "short").mkdir()
        (tmp_path / "0.tar").rename(tmp_path / "short" / "0.tar")
        Pairs(Shards(tmp_path / "short"), Contract, plain(), 0)


def test_misalignment_keeps_the_frame_within_its_limit(shards, monkeypatch):
    found, seen = Shards(shards), []
    monkeypatch.setattr(found, "waveform", lambda clip, middle, *_: seen.append(middle) or np.ones(RATE, "f4"))
    pairs = Pairs(found, Contract, plain(negatives=0.0, misalignment=0.3), seed=0)
    frames = [round(float(pairs[position]["image"][..., 1].mean()) * 255 / 5) for position in range(400)]
    distances = np.array(seen) - (np.array(frames) + 1) * SECONDS / FRAMES
    assert np.abs(distances).max() <= 0.3 + 1e-9
    assert np.std(distances) == pytest.approx(0.3 / math.sqrt(3), rel=0.15)  # uniform


def test_each_pass_visits_every_clip_once_in_a_new_order(shards):
    pairs = Pairs(Shards(shards), Contract, plain(negatives=0.0), seed=3)
    passes = [[clip_of_picture(pairs[p]["image"][0]) for p in range(start, start + 6)] for start in (0, 6, 12)]
    assert all(sorted(visited) == list(range(6)) for visited in passes)
    assert len({tuple(visited) for visited in passes}) > 1


@pytest.fixture
def grouped(tmp_path):
    """Two corpora of three groups of two clips each, but for a clip that is too short; each numbers its groups anew."""
    for corpus in range(2):
        for clip in range(6):
            seconds = 0.5 if (corpus, clip) == (1, 5) else 4.0
            write_tones(tmp_path / f"{corpus}/{clip}.tar", [6 * corpus + clip], seconds, group=clip // 2)
    return Shards(tmp_path / "0", tmp_path / "1")


def test_clips_of_a_group_stay_neighbours_and_incomplete_groups_are_left_out(grouped):
    pairs = Pairs(grouped, Contract, plain(negatives=0.0, grouped=True), seed=0)
    items = [pairs[position] for position in range(10)]
    clips = [clip_of_picture(item["image"]) for item in items]
    assert sorted(clips) == list(range(10))  # 10 and 11 are the group with the short clip
    groups = [item["group"].item() for item in items]
    assert groups[::2] == groups[1::2] and len(set(groups)) == 5
    assert all(abs(a - b) == 1 and min(a, b) % 2 == 0 for a, b in zip(clips[::2], clips[1::2], strict=True))


def test_groups_are_refused_where_there_are_none(shards):
    with pytest.raises(ValueError, match="scenes solo and duo"):
        Pairs(Shards(shards), Contract, plain(grouped=True), seed=0)


def test_frames_full_of_a_projectile_are_left_out(tmp_path):
    def seen(k):
        flame = ["DoomImpBall", "Explosive", 0.1, 0.1, 0.3, 0.02 * k]
        return [["DoomImp", "Monster", 0.0, 0.0, 1.0, 1.0], flame]

    objects = [seen(k) for k in range(20)]
    write_tones(tmp_path / "0.tar", range(3), objects=objects)
    shards = Shards(tmp_path)
    assert shards.objects(shards.clips[0]) == objects
    pairs = Pairs(shards, Contract, plain(negatives=0.0, largest_projectile=0.05), seed=0)
    green = {round(float(pairs[position]["image"][..., 1].mean()) * 255 / 5) for position in range(60)}
    assert green == {2, 3, 4, 5, 6, 7, 8}  # 0.3 * 0.02 k <= 0.05; a second fits around frames 2 to 17


def test_a_clip_without_boxes_says_so(shards):
    found = Shards(shards)
    with pytest.raises(ValueError, match="clip0 has no boxes"):
        found.objects(found.clips[0])


def test_a_pair_depends_on_seed_and_position_alone(shards):
    def item(seed, position):
        return Pairs(Shards(shards), Contract, Sampling(windows_per_clip=2), seed)[position]

    first, again, other = item(0, 5), item(0, 5), item(1, 5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], other["image"])


def test_levels_are_in_decibels_of_full_scale():
    assert level(np.zeros(10)) == -200
    assert level(np.full(10, 0.1)) == pytest.approx(-20)


def test_a_quiet_moment_gives_nothing_away_about_the_label(tmp_path):
    """Bright while loud, dark in silence: pictures of negative pairs must be as bright as those of positive ones."""
    loud = np.repeat(np.tile([1.0, 0.0], 10), RATE // 2)  # half a second each
    frames = [jpeg(np.full((24, 32, 3), 250 * ((k // 2) % 2 == 0), np.uint8)) for k in range(40)]
    times = [0.125 + 0.25 * k for k in range(40)]
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for clip in range(4):
            writer.write(encode_clip(f"c{clip}", 0.5 * loud, RATE, frames, times, {}))

    class Short(Contract):
        window_seconds = 0.2

    pairs = Pairs(Shards(tmp_path), Short, plain(negatives=0.5, windows_per_clip=8, quietest=-42), seed=0)
    bright = {0: [], 1: []}
    for position in range(60):
        for image, label in zip(pairs[position]["image"], pairs[position]["label"], strict=True):
            bright[int(label)].append(float(image.mean()) > 0.5)
    assert np.mean(bright[1]) > 0.9  # loud
    assert np.mean(bright[0]) == pytest.approx(np.mean(bright[1]), abs=0.03)


# ------------------------------------------------------------------------------------------ augmentation and runs


def test_a_single_picture_is_augmented_by_the_formula_of_the_l3_paper(shards):
    """Bit by bit, with the draws in this order."""
    pairs, image = Pairs(Shards(shards), Contract, Sampling(), 0), np.random.default_rng(0).random((30, 40, 3), "f4")
    for seed in range(4):
        rng = np.random.default_rng(seed)
        expected = shrink_to(image, 16)
        assert expected.shape == (18, 24, 3)
        top, left = rng.integers(3), rng.integers(9)
        expected = expected[top : top + 16, left : left + 16]
        if rng.random() < 0.5:
            expected = expected[:, ::-1]
        grey = expected.mean(axis=2, keepdims=True)
        expected = grey + (expected - grey) * np.float32(rng.uniform(0.5, 1.5))
        expected = np.clip(expected + np.float32(rng.uniform(-1, 1) * 32 / 255), 0, 1)
        (found,) = pairs._augment([image], np.random.default_rng(seed))
        np.testing.assert_array_equal(found, expected)


class Runs(Contract):
    """Takes 5 frames as they are."""

    frames, join_frames, name = 5, staticmethod(whole_run), "runs"


class Flow(Contract):
    """Takes the flow between 3 frames beside the middle one."""

    frames, join_frames, image_size = 3, staticmethod(with_flow), 48


def greens(images) -> np.ndarray:
    """Numbers of frames, of any stack of pictures."""
    return np.round(np.asarray(images)[..., 1].mean(axis=(-2, -1)) * 255 / 5).astype(int)


def test_a_run_is_of_neighbours_inside_the_clip_around_the_frame_a_single_picture_would_be(shards):
    single = Pairs(Shards(shards), Contract, plain(windows_per_clip=2), seed=0)
    pairs = Pairs(Shards(shards), Runs, plain(windows_per_clip=2), seed=0)
    for position in range(60):  # a second of sound inside the clip leaves room for 5 frames
        one, run = single[position], pairs[position]
        assert run["image"].shape == (2, 5, 16, 16, 3)
        assert torch.equal(run["image"][:, 2], one["image"])
        assert torch.equal(run["waveform"], one["waveform"])
        numbers = greens(run["image"])
        assert (np.diff(numbers) == 1).all()
        assert numbers.min() >= 0 and numbers.max() < FRAMES


@pytest.mark.parametrize("frames", [9, 19])
def test_long_runs_lie_inside_their_clip(shards, frames):
    class Long(Runs):
        pass

    Long.frames = frames
    pairs = Pairs(Shards(shards), Long, plain(), seed=0)
    seen = np.concatenate([greens(pairs[position]["image"]) for position in range(60)])
    assert (np.diff(seen) == 1).all()
    half = frames // 2
    possible = range(max(2, half), min(17, FRAMES - 1 - half) + 1)  # a second fits around frames 2 to 17
    assert {int(numbers[half]) for numbers in seen} == set(possible)
    held = list(held_out_pairs(Shards(shards), Long, per_clip=20, seed=0))
    assert len(held) == 6 * len(possible)
    assert all((np.diff(greens(image)) == 1).all() for image, _, _ in held)


def test_clips_with_fewer_frames_than_the_model_takes_are_left_out(shards):
    class TooLong(Runs):
        frames = 21

    with pytest.raises(ValueError, match=r"and have 21 frames around one of their moments; there are 0 such clips"):
        Pairs(Shards(shards), TooLong, plain(), seed=0)
    assert not list(held_out_pairs(Shards(shards), TooLong, per_clip=3, seed=0))


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """Clips of a texture that moves 3 pixels to the right from frame to frame, while blue grows to the right."""
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
    pairs, found = Pairs(Shards(moving), Flow, Sampling(windows_per_clip=4), seed=0), {}
    for position in range(10):
        for image in pairs[position]["image"].numpy():
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
    pairs = Pairs(Shards(tmp_path), Runs, Sampling(windows_per_clip=2), seed=0)
    images = torch.cat([pairs[position]["image"] for position in range(10)])
    assert all(torch.equal(run, run[:1].expand_as(run)) for run in images)
    assert len({image.numpy().tobytes() for image in images[:, 0]}) == 20


@pytest.mark.parametrize("model", [Runs, Flow])
def test_a_run_depends_on_seed_and_position_alone(moving, model):
    def item(seed, position):
        return Pairs(Shards(moving), model, Sampling(windows_per_clip=2), seed)[position]

    first, other = item(0, 5), item(1, 5)
    visited = Pairs(Shards(moving), model, Sampling(windows_per_clip=2), 0)
    for position in (9, 2, 5):
        again = visited[position]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], other["image"])


def test_workers_get_what_makes_an_image_but_not_the_network(shards):
    model = AVENet(widths=(4, 4, 64, 128), frontend="mel64", image_size=16, motion="flow", frames=3)
    pairs = Pairs(Shards(shards), model, Sampling(), 0)
    pickled = pickle.dumps(pairs)
    assert len(pickled) < 4 * 64 * 128 * 9  # bytes, of one layer's weights
    assert torch.equal(pickle.loads(pickled)[3]["image"], pairs[3]["image"])
    assert pairs[3]["image"].shape == (1, *model.image_shape)


@pytest.mark.parametrize("motion", ["frames", "flow"])
def test_evaluation_pairs_are_as_the_model_takes_them(shards, motion):
    model = AVENet(widths=(4, 4, 8, 8), frontend="mel64", image_size=16, motion=motion, frames=7)
    found = list(held_out_pairs(Shards(shards), model, per_clip=3, seed=0))
    assert len(found) == 18
    assert {image.shape for image, _, _ in found} == {model.image_shape}
    for image, waveform, clip in found:
        colours = image[..., :3].reshape(-1, 16, 16, 3)
        assert clip.key == f"clip{clip_of_picture(colours[0])}" == f"clip{clip_of_sound(waveform)}"


# --------------------------------------------------------------------------------------------------- dealing out


def dealt(monkeypatch, processes: int, accumulate: int) -> list[list[range]]:
    """Parts of steps 3 and 4, for each process."""
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    found = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        config = RECIPE | {"batch_size": 24, "accumulate": accumulate, "data": {"windows_per_clip": 2}}
        found.append(list(Parts(config, 3, 5)))
        assert len(Parts(config, 3, 5)) == len(found[-1]) == 2 * accumulate
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


def test_evaluation_pairs_are_of_one_clip_and_whole_windows(shards):
    found = list(held_out_pairs(Shards(shards), Contract, per_clip=3, seed=0))
    assert len(found) == 18
    for image, waveform, clip in found:
        assert clip.key == f"clip{clip_of_picture(image)}" == f"clip{clip_of_sound(waveform)}"
        assert np.abs(waveform[:100]).any()
        assert np.abs(waveform[-100:]).any()
