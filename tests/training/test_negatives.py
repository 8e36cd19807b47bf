"""Negatives: gaps and overlaps over many draws, shares of a mixture, and positions of sounds that give no hint."""

import json
from pathlib import Path

import numpy as np
import pytest
from tones import RATE, clip_of_picture, clip_of_sound, listener, plain, write_tones

import training
from training.corpora.shards import Shards
from training.negatives import Mixture, OtherClip, SameClip, to_negatives, to_tables
from training.pairs import Pairs
from training.recipe import read_recipe

MODEL = listener()
CONFIGS = Path(training.__file__).parent / "configs"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Write three clips of 8 s with 40 frames, one of them from another video."""
    folder = tmp_path_factory.mktemp("corpus")
    write_tones(folder / "0.tar", [0, 1], seconds=8.0, frames=40, source="a")
    write_tones(folder / "1.tar", [2], seconds=8.0, frames=40, source="b")
    return Shards(folder)


def moments(corpus, negatives, share=1.0, items=120, **options):
    """Return, for many negative pairs, clip and middle of the picture's own sound and of the one that it got."""
    heard, sound = [], corpus.sound
    corpus.sound = lambda clip, middle, *_: heard.append((clip.key, middle)) or np.ones((RATE, 1), "f4")
    try:
        pairs = Pairs(corpus, MODEL, plain(windows_per_clip=2, **options), 0, share, negatives)
        for position in range(items):
            pairs[position]
    finally:
        corpus.sound = sound
    assert len(heard) == 4 * items  # the picture's own moment is looked at first
    return [own + given for own, given in zip(heard[::2], heard[1::2], strict=True)]


@pytest.mark.parametrize("options", [{}, {"misalignment": 0.3}, {"misalignment": 0.2, "grid": 0.04}])
@pytest.mark.parametrize("gap", [0.0, 0.5, 2.0])
def test_windows_of_one_clip_are_at_least_the_gap_apart(corpus, gap, options):
    found = moments(corpus, SameClip(gap=gap), **options)
    assert all(own == given for own, _, given, _ in found)
    gaps = np.array([abs(middle - other) - 1.0 for _, middle, _, other in found])
    assert gaps.min() >= gap - 1e-6
    assert gaps.min() < gap + 0.3  # the nearest do come
    assert gaps.max() > 4.5  # and the farthest, of 6


@pytest.mark.parametrize("options", [{}, {"misalignment": 0.05}])
def test_windows_may_overlap_by_at_most_their_share(corpus, options):
    found = moments(corpus, SameClip(overlap=0.6), **options)
    overlaps = np.array([1.0 - abs(middle - other) for _, middle, _, other in found])
    assert overlaps.max() <= 0.6 + 1e-6
    assert overlaps.max() > 0.3 and overlaps.min() < 0


def test_super_hard_windows_touch_or_overlap(corpus):
    found = moments(corpus, SameClip(overlap=0.6, largest_gap=0.0))
    overlaps = np.array([1.0 - abs(middle - other) for _, middle, _, other in found])
    assert set(overlaps.round(3)) == {0.6, 0.4, 0.2, 0.0}  # frames are 0.2 s apart


def test_a_largest_gap_is_kept(corpus):
    found = moments(corpus, SameClip(gap=0.5, largest_gap=1.0), misalignment=0.05)
    gaps = np.array([abs(middle - other) - 1.0 for _, middle, _, other in found])
    assert gaps.min() >= 0.5 - 1e-6 and gaps.max() <= 1.0 + 1e-6


def test_sounds_come_from_the_same_folder_if_wanted(tmp_path):
    for folder, keys in {"one": [0, 1], "other": [2, 3]}.items():
        (tmp_path / folder).mkdir()
        for key in keys:
            write_tones(tmp_path / folder / f"{key}.tar", [key], seconds=4.0, frames=20, source=str(key))
    both = Shards(tmp_path / "one", tmp_path / "other")
    keys = [clip.key for clip in both.clips]
    partners = {(own, given) for own, _, given, _ in moments(both, OtherClip(same_folder=True), items=40)}
    assert partners == {(keys[a], keys[b]) for a, b in ((0, 1), (1, 0), (2, 3), (3, 2))}
    assert {given for own, _, given, _ in moments(both, OtherClip(), items=40) if own == keys[0]} == set(keys[1:])


def test_a_folder_of_one_video_has_no_other_sound(corpus, tmp_path):
    write_tones(tmp_path / "0.tar", [7], seconds=4.0, frames=20, source="c")
    both = Shards(corpus.paths[0].parent, tmp_path)
    mixture = Mixture((OtherClip(same_folder=True), SameClip()), (0.5, 0.5))
    with pytest.raises(ValueError, match=r"two videos in each folder; .* has one"):
        Pairs(both, MODEL, plain(windows_per_clip=2), 0, 1.0, mixture)


def test_a_mixture_draws_its_kinds_by_their_shares(corpus):
    mixture = Mixture((OtherClip(), SameClip()), (0.75, 0.25))
    found = moments(corpus, mixture, items=600)
    same = np.array([own == given for own, _, given, _ in found])
    assert same.mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 1200) ** 0.5)
    gaps = [abs(middle - other) - 1.0 for own, middle, given, other in found if own == given]
    assert min(gaps) >= 0.5 - 1e-6
    videos = {"clip0": "a", "clip1": "a", "clip2": "b"}
    assert all(videos[own] != videos[given] for own, _, given, _ in found if own != given)


@pytest.mark.parametrize("negatives", [OtherClip(), SameClip(), Mixture((OtherClip(), SameClip()), (0.5, 0.5))])
def test_sounds_of_negative_pairs_lie_where_those_of_positive_ones_do(corpus, negatives):
    """All sounds lie at frames, and equally often at each."""
    found = moments(corpus, negatives, items=1500)
    own, given = (np.array([pair[column] for pair in found]) for column in (1, 3))
    for times in (own, given):
        np.testing.assert_allclose(times * 5, np.round(times * 5), atol=1e-6)
    histograms = [np.histogram(times, bins=7, range=(0.5, 7.5))[0] / len(times) for times in (own, given)]
    if negatives == OtherClip():  # of the same clip, those in its middle have fewer partners, and are fewer
        np.testing.assert_allclose(*histograms, atol=0.04)
    assert min(map(min, histograms)) > 0.08


def test_pictures_are_of_the_same_moments_in_positive_and_negative_pairs(tmp_path):
    """In a clip just long enough, only moments near its ends have a partner, so positive pairs use only those too."""
    write_tones(tmp_path / "0.tar", range(2), seconds=3.0, frames=30)
    pairs = Pairs(Shards(tmp_path), MODEL, plain(), 0, 0.5, SameClip(gap=0.5))
    seen = {0: set(), 1: set()}
    for position in range(600):
        item = pairs[position]
        seen[int(item["label"])].add(round(float(item["frames"][..., 1].mean()) * 255 / 5))
    assert seen[0] == seen[1] == {*range(4, 10), *range(19, 25)}  # 0.5 to 1 s, and 2 to 2.5 s


def test_labels_are_of_the_sound_that_the_picture_got(corpus):
    pairs = Pairs(corpus, MODEL, plain(windows_per_clip=4), 0, 0.5, SameClip())
    for position in range(30):
        item = pairs[position]
        for frames, samples in zip(item["frames"], item["samples"], strict=True):
            assert clip_of_picture(frames) == clip_of_sound(samples)  # the clip never tells
    assert {int(label) for position in range(30) for label in pairs[position]["label"]} == {0, 1}


def test_clips_too_short_for_a_second_window_are_left_out(tmp_path):
    for clip, seconds in enumerate((2.0, 2.4, 2.6, 4.0)):
        write_tones(tmp_path / f"{clip}.tar", [clip], seconds, frames=round(10 * seconds))
    shards = Shards(tmp_path)
    assert len(Pairs(shards, MODEL, plain(), 0).clips) == 4
    pairs = Pairs(shards, MODEL, plain(), 0, 0.5, SameClip(gap=0.5))
    assert [clip.key for clip in pairs.clips] == ["clip2", "clip3"]
    for position in range(40):
        pairs[position]
    with pytest.raises(ValueError, match=r"1\.00 s long and hold two windows at least 3 s apart; there are 0 such"):
        Pairs(shards, MODEL, plain(), 0, 0.5, SameClip(gap=3.0))


def test_a_pair_depends_on_seed_and_position_alone(corpus):
    negatives = Mixture((OtherClip(), SameClip()), (0.5, 0.5))
    visited = Pairs(corpus, MODEL, plain(windows_per_clip=2), 0, 0.5, negatives)
    for position in (9, 2, 5):
        again = visited[position]
    first = Pairs(corpus, MODEL, plain(windows_per_clip=2), 0, 0.5, negatives)[5]
    assert all((first[name] == again[name]).all() for name in first)


# -------------------------------------------------------------------------------------------------- of an evaluation


def test_represented_pairs_get_one_of_another_clip_or_another_of_their_own():
    clips = np.array([0, 0, 0, 1, 1, 2])
    other = OtherClip().choose(clips, np.random.default_rng(0))
    assert (clips[other] != clips).all()
    same = SameClip().choose(clips, np.random.default_rng(0))
    assert (clips[same] == clips).all()
    assert (same[:5] != np.arange(5)).all() and same[5] == 5  # it has no other: a tie


def test_every_candidate_is_chosen_as_often():
    clips = np.repeat(np.arange(3), 4)
    chosen = [SameClip().choose(clips, np.random.default_rng(seed))[0] for seed in range(600)]
    assert np.bincount(chosen, minlength=4)[1:4] == pytest.approx(200, abs=50)
    assert not np.bincount(chosen)[0]


# ---------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("tables", "negatives"),
    [
        ([{"kind": "other_clip"}], OtherClip()),
        ([{"kind": "other_clip", "same_folder": True}], OtherClip(same_folder=True)),
        ([{"kind": "same_clip", "gap": 1.0}], SameClip(gap=1.0)),
        (
            [{"kind": "other_clip", "share": 0.75}, {"kind": "same_clip", "overlap": 0.25, "share": 0.25}],
            Mixture((OtherClip(), SameClip(overlap=0.25)), (0.75, 0.25)),
        ),
    ],
)
def test_recipes_name_negatives_by_kind_and_share(tables, negatives):
    assert to_negatives(tables) == negatives
    assert to_negatives(json.loads(json.dumps(to_tables(negatives)))) == negatives


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([], "at least one kind of other_clip, same_clip"),
        ([{"kind": "hard"}], "a kind of other_clip, same_clip, got 'hard'"),
        ([{"kind": "same_clip", "gab": 1}], "'same_clip' have no option gab; they have gap, overlap, largest_gap"),
        ([{"kind": "same_clip", "gap": -1}], "gap must be a number of seconds of at least 0, got -1"),
        ([{"kind": "same_clip", "overlap": 1.0}], "at least 0 and below 1, got 1.0"),
        (
            [{"kind": "same_clip", "largest_gap": 0.2}],
            "largest_gap must be a number of seconds of at least 0.5, got 0.2",
        ),
        ([{"kind": "other_clip"}, {"kind": "same_clip", "share": 0.25}], "each need a share; other_clip has none"),
        ([{"kind": "other_clip", "share": 0.5}, {"kind": "same_clip", "share": 0.25}], "all must add up to 1"),
    ],
)
def test_negatives_that_make_no_sense_are_refused(tables, said):
    with pytest.raises(ValueError, match=said):
        to_negatives(tables)


def test_an_eighth_of_all_pairs_of_an_epoch_is_hard_in_the_second_stage_of_avts(tmp_path, monkeypatch):
    """AVTS, section 3.3: half of the pairs are negative, a quarter of those from the same video, half a second away."""
    for number in range(24):
        write_tones(tmp_path / f"{number}.tar", [number], seconds=4.0, source=str(number))
    drawn, draw = [], SameClip.draw

    def counted(self, moments, clip, time, rng):
        found, samples = draw(self, moments, clip, time, rng)
        drawn.append(clip_of_sound(samples) == clip_of_sound(moments.shards.sound(clip, time, 1.0, RATE, 1)))
        return found, samples

    monkeypatch.setattr(SameClip, "draw", counted)
    hard = {}
    for number, stage in enumerate(read_recipe(CONFIGS / "avts_kinetics.toml").stages):
        pairs, labels = Pairs(Shards(tmp_path), MODEL, plain(windows_per_clip=32), 0, 0.5, stage.negatives), []
        drawn.clear()
        for position in range(len(pairs.clips)):
            labels += pairs[position]["label"].tolist()
        assert len(labels) == 24 * 32 and all(drawn)
        assert np.mean(labels) == pytest.approx(1 / 2, abs=0.07)  # four standard errors of 768 draws
        hard[number] = len(drawn) / len(labels)
    assert hard[0] == 0
    assert hard[1] == pytest.approx(1 / 8, abs=0.048)
