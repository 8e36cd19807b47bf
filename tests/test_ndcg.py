"""Retrieval by class: trees, nDCG, CCA and the command, against values by hand and other libraries."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from tones import Contract, clip_of_picture, clip_of_sound, jpeg, write_tones

from openavc.models import AVENet, L3Net
from training.checkpoint import save_weights
from training.evaluate import labelled, ndcg, ontology, retrieval
from training.evaluate.__main__ import main as evaluate_main
from training.evaluate.bootstrap import interval
from training.evaluate.cca import fit_cca
from training.scenes import MONSTERS as RENDERED
from training.scenes import group_kinds

EXAMPLE = Path(__file__).parent.parent / "examples" / "freedoom.mp4"
TREE = {"animals": {"birds": ["crow", "owl"], "pets": ["cat", "owl"]}, "vehicles": ["car"]}


# --------------------------------------------------------------------------------------------------------- trees


@pytest.fixture
def audioset(shared):
    return ontology.read_tree(shared / "data" / "annotations" / "audioset_ontology.json")


def test_the_papers_classes_are_110_of_audiosets_ontology(audioset):
    instruments = ontology.instrument_classes(audioset)
    assert (len(audioset), len(instruments)) == (632, 110)
    assert {audioset.key(name) for name in ("Musical instrument", "Singing", "Tools", "Drum", "Hammer")} <= instruments
    assert audioset.key("Speech") not in instruments


def test_distances_in_audiosets_ontology_are_those_that_the_paper_names(audioset):
    found = audioset.distances(["Acoustic guitar", "Electric guitar", "Drum", "/m/042v_gx"])
    assert found[0].tolist() == [0, 2, 5, 0]
    assert np.array_equal(found, found.T)


def test_distances_count_the_edges_of_the_shortest_way():
    tree = ontology.nested_tree(TREE)
    labels = ["crow", "owl", "cat", "birds", "car", "CROW"]
    assert tree.distances(labels).tolist() == [
        [0, 2, 4, 1, 5, 0],
        [2, 0, 2, 1, 5, 2],  # owl is a bird and a pet
        [4, 2, 0, 3, 5, 4],
        [1, 1, 3, 0, 4, 1],
        [5, 5, 5, 4, 0, 5],  # over the root that the tops share
        [0, 2, 4, 1, 5, 0],
    ]
    assert tree.at_or_below(["pets", "vehicles"]) == {"pets", "cat", "owl", "vehicles", "car"}


def test_unknown_labels_are_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"2 labels .* of 8 classes: 'crw' \(near: crow, car\); 'zzzzzzzz'$"):
        ontology.nested_tree(TREE).check(["crw", "cat", "zzzzzzzz"])


@pytest.mark.parametrize("text", ["{", "[1]", '[{"id": "a"}]', '{"a": 1}', '{"a": [1]}', "3"])
def test_a_file_that_is_no_tree_is_refused(tmp_path, text):
    (tmp_path / "tree.json").write_text(text)
    with pytest.raises(ValueError, match=r"tree\.json is (not JSON|no class tree)"):
        ontology.read_tree(tmp_path / "tree.json")


def test_a_parent_that_is_no_class_and_a_name_used_twice_are_refused():
    with pytest.raises(ValueError, match="doesn't have: b"):
        ontology.ClassTree({"a": ["b"]})
    with pytest.raises(ValueError, match="two classes of the tree are called 'x'"):
        ontology.ClassTree({"a": [], "b": []}, {"a": "X", "b": "x"})


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"a": {"a": []}, "b": ["c"]}, "a > a"),
        ({"b": ["c"], "a": {"b": ["a"]}}, "a > b > a|b > a > b"),
        ({"top": {"a": {"b": ["a"]}}}, "a > b > a|b > a > b"),
    ],
)
def test_a_class_below_itself_is_named(tree, named):
    with pytest.raises(ValueError, match=f"lies below itself: ({named})$"):
        ontology.nested_tree(tree)


def test_every_kind_of_monster_has_its_place():
    tree = ontology.read_tree(ontology.MONSTERS)
    tree.check([kind for kinds in RENDERED.values() for kind in kinds])
    tree.check(group_kinds(np.random.default_rng(0), "freedoom2"))
    assert tree.distances(["Zombieman", "ShotgunGuy", "HellKnight", "BaronOfHell"])[0].tolist() == [0, 2, 5, 5]


# ---------------------------------------------------------------------------------------------------------- nDCG


def test_gains_take_the_nearest_pair_of_labels():
    found = ndcg.gains([("crow",), ("owl", "car"), ("car",)], ontology.nested_tree(TREE))
    assert found.tolist() == [
        [2**20 - 1, 2**18 - 1, 2**15 - 1],
        [2**18 - 1, 2**20 - 1, 2**20 - 1],
        [2**15 - 1, 2**20 - 1, 2**20 - 1],
    ]


def test_ndcg_of_a_ranking_by_hand():
    """Nearest first: gains 1, 0, 3; at best 3, 1, 0."""
    angles = np.array([0.1, 0.5, 1.0])
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[7], [1], [0.1]]  # only directions count
    found = ndcg.ndcg(np.array([[2.0, 0.0]]), database, np.array([[1.0, 0.0, 3.0]]), np.ones((1, 3), bool))
    assert found == pytest.approx((1 + 3 / 2) / (3 + 1 / np.log2(3)))


def scene(n=70, classes=5, size=6):
    """Random vectors of n videos, some of them equal, whose gains are those of random classes; own video left out."""
    rng = np.random.default_rng(0)
    label = rng.integers(classes, size=n)
    gain = np.where(label[:, None] == label, 15.0, 1.0) + rng.integers(3, size=(classes, classes))[label][:, label]
    vectors = np.round(rng.standard_normal((n, size)))  # on a grid: many at one distance
    return vectors, gain, ~np.eye(n, dtype=bool)


def test_ndcg_is_scikit_learns_ties_included():
    from sklearn.metrics import ndcg_score

    vectors, gain, allowed = scene()
    found = ndcg.ndcg(vectors, vectors, gain, allowed)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for query in range(len(vectors)):
        others = allowed[query]
        score = np.round(unit[others] @ unit[query], 9)
        assert len(set(score)) < len(score)
        assert found[query] == pytest.approx(ndcg_score([gain[query, others]], [score], k=30))


def test_the_best_ranking_scores_1_and_the_worst_less_than_chance():
    label = np.arange(80) % 4
    vectors, same = np.eye(4)[label], label[:, None] == label
    allowed = ~np.eye(80, dtype=bool)
    gain = np.where(same, 2.0**20, 2.0**16)
    assert ndcg.ndcg(vectors, vectors, gain, allowed) == pytest.approx(1)
    assert ndcg.ndcg(vectors, -vectors, gain, allowed).max() < ndcg.chance(gain, allowed).min()


def test_chance_is_the_mean_of_random_rankings_and_the_score_of_a_constant():
    _, gain, allowed = scene(150)
    expected = ndcg.chance(gain, allowed)
    rng = np.random.default_rng(1)
    shuffles = [ndcg.ndcg(*rng.standard_normal((2, 150, 40)), gain, allowed).mean() for _ in range(20)]
    assert expected.mean() == pytest.approx(np.mean(shuffles), abs=4 * np.std(shuffles) / np.sqrt(20))
    constant = np.full((150, 3), 0.1) * (1 + 1e-7 * rng.standard_normal((150, 1)))
    np.testing.assert_allclose(ndcg.ndcg(constant, constant, gain, allowed), expected)
    np.testing.assert_allclose(ndcg.ndcg(0 * constant, constant, gain, allowed), expected)


def test_a_database_smaller_than_the_depth_is_ranked_whole():
    gain, allowed = np.array([[5.0, 3.0, 1.0]]), np.array([[False, True, True]])
    discounts = 1 / np.log2([2, 3])
    assert ndcg.chance(gain, allowed) == pytest.approx(2 * discounts.sum() / ([3, 1] @ discounts))
    found = ndcg.ndcg(np.array([[1.0, 0]]), np.array([[1.0, 0], [0, 1], [1, 1]]), gain, allowed)
    assert found == pytest.approx([1, 3] @ discounts / ([3, 1] @ discounts))
    with pytest.raises(ValueError, match="nothing to find"):
        ndcg.chance(gain, np.zeros((1, 3), bool))


def test_the_interval_is_that_of_the_mean_and_wider_where_places_agree():
    scores = np.random.default_rng(0).standard_normal(900) + 5
    low, high = interval(scores, np.arange(900), seed=0)
    assert (low, high) == pytest.approx((scores.mean() - 1.96 / 30, scores.mean() + 1.96 / 30), abs=0.01)
    low, high = interval(np.repeat(scores[:100], 9), np.repeat(np.arange(100), 9), seed=0)
    assert high - low == pytest.approx(2 * 1.96 / 10, abs=0.05)


# ----------------------------------------------------------------------------------------------------------- CCA


def correlated(n, strengths, rng):
    """Pairs in 4 and 6 dimensions, mixed at random, whose first dimensions correlate by `strengths`."""
    x, y = rng.standard_normal((n, 4)), rng.standard_normal((n, 6))
    for k, strength in enumerate(strengths):
        y[:, k] = strength * x[:, k] + np.sqrt(1 - strength**2) * y[:, k]
    return x @ rng.standard_normal((4, 4)) + 3, y @ rng.standard_normal((6, 6)) - 1


def test_cca_finds_the_correlations_that_pairs_were_made_with():
    x, y = correlated(40_000, (0.9, 0.5), np.random.default_rng(0))
    found = fit_cca(x, y, 4, ridge=0)
    np.testing.assert_allclose(found.correlations, [0.9, 0.5, 0, 0], atol=0.02)
    covariance = np.cov(found.project_x(x).T, found.project_y(y).T, bias=True)
    expected = np.block([[np.eye(4), np.diag(found.correlations)], [np.diag(found.correlations), np.eye(4)]])
    np.testing.assert_allclose(covariance, expected, atol=1e-6)


def test_cca_agrees_with_scikit_learn():
    from sklearn.cross_decomposition import CCA

    x, y = correlated(300, (0.95, 0.8, 0.6), np.random.default_rng(0))
    theirs = CCA(3, scale=False, max_iter=5000, tol=1e-10).fit(x, y).transform(x, y)
    found = fit_cca(x, y, 3, ridge=0)
    for k in range(3):
        assert np.corrcoef(theirs[0][:, k], theirs[1][:, k])[0, 1] == pytest.approx(found.correlations[k], abs=1e-4)
        assert abs(np.corrcoef(theirs[0][:, k], found.project_x(x)[:, k])[0, 1]) == pytest.approx(1, abs=1e-3)


def test_cca_takes_dimensions_that_never_vary():
    x, y = correlated(500, (0.9,), np.random.default_rng(0))
    dead = np.column_stack([x, np.zeros(500), np.full(500, 7.0)])
    assert fit_cca(dead, y, 2, ridge=0).correlations == pytest.approx(fit_cca(x, y, 2, ridge=0).correlations)
    assert np.isfinite(fit_cca(dead, y, 4).project_x(dead)).all()
    with pytest.raises(ValueError, match="only 4 dimensions vary"):
        fit_cca(dead, y, 5, ridge=0)


def test_cca_refuses_too_many_components_and_what_are_no_pairs():
    x, y = np.ones((5, 8)), np.ones((5, 9))
    with pytest.raises(ValueError, match="got 5 pairs of 8 and 9 dimensions"):
        fit_cca(x, y, 5)
    with pytest.raises(ValueError, match="got 5 and 4 vectors"):
        fit_cca(x, y[:4], 2)


def test_components_weigh_their_correlation():
    """x and y have covariance 1: with a ridge r, correlations are s / (1 + r) and projections of variance 1 / (1 + r).

    The space's variances are of the product.
    """
    rng, ridge = np.random.default_rng(0), 0.1
    x, y = rng.standard_normal((2, 40_000, 3))
    y[:, :2] = [0.9, 0.5] * x[:, :2] + np.sqrt(1 - np.square([0.9, 0.5])) * y[:, :2]
    for projected in retrieval.cca_space((x, y), (x, y), 3):
        expected = np.array([0.9, 0.5, 0]) / (1 + ridge) ** 1.5
        np.testing.assert_allclose(projected.std(axis=0), expected, atol=0.02)


# -------------------------------------------------------------------------------------------------------- videos


SMALL = {"frontend": "mel64", "image_size": 16, "widths": [4, 4, 8, 8]}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Weights files of an AVE-Net and an L3-Net, tiny and untrained."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    save_weights(
        folder / "ave.safetensors", AVENet(**SMALL, joint_size=4), SMALL | {"architecture": "ave", "joint_size": 4}
    )
    save_weights(folder / "l3.safetensors", L3Net(**SMALL), SMALL | {"architecture": "l3"})
    return [folder / "ave.safetensors", folder / "l3.safetensors"]


@pytest.fixture(scope="module")
def monsters(tmp_path_factory):
    """Shards of 12 tones that pass for four kinds of monster on three levels."""
    folder = tmp_path_factory.mktemp("monsters")
    for number in range(12):
        about = {"labels": [("Zombieman", "DoomImp", "Demon", "LostSoul")[number % 4]], "level": f"MAP{number // 4}"}
        write_tones(folder / f"{number:05d}.tar", [number], **about)
    return folder


@pytest.fixture(scope="module")
def more_tones(tmp_path_factory):
    """Shards of 8 tones without labels, to fit CCA on."""
    folder = tmp_path_factory.mktemp("more")
    write_tones(folder / "00000.tar", range(12, 20))
    return folder


def evaluate(*arguments):
    return CliRunner().invoke(evaluate_main, ["--threads", "1", "ndcg", *map(str, arguments)])


def test_a_shards_episode_is_of_its_level_unless_told_otherwise(monsters):
    videos, tree = labelled.find_labelled(monsters)
    assert tree is None
    assert [video.labels for video in videos[:2]] == [("Zombieman",), ("DoomImp",)]
    assert [video.place for video in videos] == [f"MAP{number // 4}" for number in range(12)]
    assert len({video.place for video in labelled.find_labelled(monsters, own_level=True)[0]}) == 12


def test_a_moment_is_a_frame_and_the_sound_around_it_and_repeats(monsters):
    class Model(Contract):
        window_samples = 24_000

    videos, _ = labelled.find_labelled(monsters)
    first, again, other = (list(labelled.read_moments(videos, 1.0, seed, 2)) for seed in (0, 0, 1))
    assert [number for number, _ in first] == [number for number in range(12) for _ in range(2)]
    for number, moment in first:
        image, waveform = moment.prepared(Model())
        assert image.shape == (16, 16, 3) and waveform.shape == (24_000,)
        assert clip_of_picture(image) == clip_of_sound(waveform) == number
    assert all(np.array_equal(a.frame, b.frame) for (_, a), (_, b) in zip(first, again, strict=True))
    assert not all(np.array_equal(a.frame, b.frame) for (_, a), (_, b) in zip(first, other, strict=True))


def test_a_sound_at_another_rate_is_resampled_and_cut_to_its_middle(monsters):
    class Model:
        image_size, sample_rate, window_samples = 16, 12_000, 6000

    tone = np.sin(2 * np.pi * 400 * np.arange(24_000) / 24_000).astype(np.float32)
    _, waveform = labelled.Moment(np.zeros((20, 30, 3), np.float32), tone, 24_000).prepared(Model())
    expected = np.sin(2 * np.pi * 400 * (np.arange(6000) + 3000) / 12_000)
    np.testing.assert_allclose(waveform, expected, atol=1e-3)
    short = labelled.Moment(np.zeros((20, 30, 3), np.float32), tone[:6002], 24_000).prepared(Model())[1]
    assert short.shape == (6000,)  # 2999 zeros, or one more, around 3001 samples
    assert not short[:1499].any() and not short[-1500:].any() and short[1500:1600].any() and short[4400:4500].any()


def test_the_command_tells_all_directions_beside_chance_and_the_paper(networks, monsters, more_tones, tmp_path):
    options = ["--model", networks[0], "--model", networks[1], "--data", monsters, "--json", tmp_path / "found.json"]
    first = evaluate(*options, "--cca-on", more_tones, "--components", 4)
    assert first.exit_code == 0, first.output
    assert "12 videos" in first.output and "4 classes, 3 places" in first.output
    lines = [line.split("  ")[0] for line in first.output.splitlines()]
    rows = ["ave", "ave untrained", "l3", "l3 untrained", "l3 with CCA", "l3 untrained with CCA"]
    assert {*rows, "chance"} <= set(lines)
    assert all(f"{row}, queries mixed up" in lines for row in rows)
    assert "VGG16 of ImageNet" in first.output
    written = json.loads((tmp_path / "found.json").read_text())
    assert list(written["intervals"]) == rows
    assert all(0 < metric["value"] <= 1 for metric in written["metrics"]) and len(written["metrics"]) == 24
    assert len(set(written["chance"].values())) == 1
    again = evaluate(*options, "--cca-on", more_tones, "--components", 4)
    assert again.output == first.output


def test_chance_of_the_command_is_the_mean_over_the_kinds_by_hand(networks, monsters, tmp_path):
    evaluate("--model", networks[0], "--data", monsters, "--json", tmp_path / "found.json")
    tree = ontology.read_tree(ontology.MONSTERS)
    apart = tree.distances(["Zombieman", "DoomImp", "Demon", "LostSoul"])
    discounts = 1 / np.log2(np.arange(2, 10))
    expected = []
    for row in apart:
        gain = np.repeat(2.0 ** (20 - row) - 1, 2)  # of 8 videos, 2 a kind
        expected.append(gain.mean() * discounts.sum() / (np.sort(gain)[::-1] @ discounts))
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["chance"]["im-aud"] == pytest.approx(np.mean(expected))


def test_own_level_and_partner_widen_the_database(monsters):
    videos, _ = labelled.find_labelled(monsters)
    tree = ontology.read_tree(ontology.MONSTERS)
    apart, whole = retrieval.Search(videos, tree), retrieval.Search(videos, tree, partner=True)
    assert {name: found.sum(axis=1).tolist() for name, found in apart.allowed.items()} == dict.fromkeys(
        retrieval.DIRECTIONS, [8] * 12
    )
    assert whole.allowed["im-aud"].sum(axis=1).tolist() == [9] * 12 and whole.allowed["aud-im"].diagonal().all()
    assert not whole.allowed["im-im"].diagonal().any() and not whole.allowed["aud-aud"].diagonal().any()
    vectors = np.eye(12)
    perfect = whole.scores((vectors, vectors))["im-aud"]
    assert (perfect > apart.scores((vectors, vectors))["im-aud"]).all()  # its own sound is all that it knows
    own = retrieval.Search(labelled.find_labelled(monsters, own_level=True)[0], tree)
    assert own.allowed["im-im"].sum(axis=1).tolist() == [11] * 12


def test_mixed_up_queries_tell_what_is_found_by_any_query():
    """Every query finds the frequent class first: better than chance, and no better than another's query."""
    labels = ["crow"] * 30 + ["cat"] * 10
    videos = [labelled.Video(str(n), (label,), str(n), None) for n, label in enumerate(labels)]
    search = retrieval.Search(videos, ontology.nested_tree(TREE))
    start, end = np.tile([1.0, 0.0], (40, 1)), np.array([[1.0, 0.0]] * 30 + [[0.0, 1.0]] * 10)
    blind = search.scores((start, end))["im-aud"].mean()
    assert blind > search.chance()["im-aud"].mean() + 0.02
    assert search.mixed_up((start, end), seed=0)["im-aud"] == pytest.approx(blind)
    knows = search.scores((end, end))["im-aud"].mean()
    assert knows == pytest.approx(1) and search.mixed_up((end, end), seed=0)["im-aud"] < 0.9


def test_cca_makes_one_space_of_two_that_know_the_classes_in_their_own_ways():
    rng = np.random.default_rng(0)
    classes = rng.integers(4, size=460)
    known = np.eye(4)[classes]
    vectors = [known @ rng.standard_normal((4, 12)) + 0.4 * rng.standard_normal((460, 12)) for _ in range(2)]
    held = slice(400, None)
    names = np.array(["crow", "owl", "cat", "car"])[classes[held]]
    videos = [labelled.Video(str(n), (str(name),), str(n), None) for n, name in enumerate(names)]
    search = retrieval.Search(videos, ontology.nested_tree(TREE))
    raw = tuple(found[held] for found in vectors)
    space = retrieval.cca_space(tuple(found[:400] for found in vectors), raw, components=8)
    apart, chance = search.scores(raw), search.chance()["im-aud"].mean()
    found = {name: scores.mean() for name, scores in search.scores(space).items()}
    assert abs(apart["im-aud"].mean() - chance) < 0.1
    assert min(found.values()) > 0.85 > chance + 0.2


def test_spaces_of_different_sizes_have_no_figures_across(monsters):
    videos, _ = labelled.find_labelled(monsters)
    search = retrieval.Search(videos, ontology.read_tree(ontology.MONSTERS))
    assert list(search.scores((np.ones((12, 3)), np.ones((12, 5))))) == ["im-im", "aud-aud"]


def test_folders_of_videos_need_a_tree_that_knows_them(networks, tmp_path):
    for name in ("Cat", "Dog"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for take in "ab":
            (tmp_path / "videos" / name / f"{name}{take}.mp4").symlink_to(EXAMPLE)
    (tmp_path / "tree.json").write_text('{"pets": ["Cat", "Dog"]}')
    (tmp_path / "videos" / "Dog" / "broken.mp4").write_bytes(b"not a video")
    refused = evaluate("--model", networks[0], "--data", tmp_path / "videos")
    assert "'Cat'" in str(refused.exception) and "--ontology" in str(refused.exception)
    found = evaluate("--model", networks[0], "--data", tmp_path / "videos", "--ontology", tmp_path / "tree.json")
    assert found.exit_code == 0, found.output
    assert "4 videos" in found.output and "failed: " in found.output and "broken.mp4" in found.output


def test_a_table_gives_files_several_labels(tmp_path):
    (tmp_path / "list.csv").write_text('file,labels\nsub/a_000010_000020.mp4,"Bird vocalization, bird call; Drum"\n')
    [video], tree = labelled.find_labelled(tmp_path / "list.csv")
    assert video.labels == ("Bird vocalization, bird call", "Drum") and tree is None
    assert (video.name, video.place) == (str(tmp_path / "sub/a_000010_000020.mp4"), "a")
    (tmp_path / "other.csv").write_text("name,labels\na,b\n")
    with pytest.raises(ValueError, match="needs the columns file, labels; it has name, labels"):
        labelled.find_labelled(tmp_path / "other.csv")


def test_files_of_one_name_in_two_folders_are_two_places_and_cuts_of_one_video_are_one(tmp_path):
    names = ["cat/0001.mp4", "cat/abcdefghijk_000010_000020.mp4", "dog/0001.mp4", "dog/abcdefghijk_000030_000040.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("file,labels\n" + "".join(f"{name},pets\n" for name in names))
    for data in (tmp_path, tmp_path / "list.csv"):
        places = [video.place for video in labelled.find_labelled(data)[0]]
        assert places == ["cat/0001", "abcdefghijk", "dog/0001", "abcdefghijk"]


@pytest.mark.parametrize("row", ["b.mp4", "b.mp4,Bird vocalization, bird call"])
def test_a_row_with_too_few_or_too_many_columns_is_named(tmp_path, row):
    (tmp_path / "list.csv").write_text(f"file,labels\na.mp4,Drum\n{row}\n")
    with pytest.raises(ValueError, match=r"line 3 of .*list\.csv .* 2 columns file, labels .*'b\.mp4'"):
        labelled.find_labelled(tmp_path / "list.csv")


def test_a_table_that_excel_wrote_is_read(tmp_path):
    (tmp_path / "list.csv").write_text("file,labels\na.mp4,Dröhnen\n", encoding="utf-8-sig")
    assert [video.labels for video in labelled.find_labelled(tmp_path / "list.csv")[0]] == [("Dröhnen",)]


def test_pairs_bring_their_own_tree(networks, tmp_path):
    rows = ["image,sound,label,group,kind"]
    for number, (label, group) in enumerate([("cow", "farm"), ("cow", "photo"), ("hen", "farm"), ("bell", "things")]):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(np.full((20, 30, 3), 50 * number, np.uint8)))
        tone = 0.5 * np.sin(2 * np.pi * 200 * (number + 1) * np.arange(12_000 * (number + 1)) / 24_000)
        soundfile.write(tmp_path / f"{number}.wav", tone, 24_000)
        rows += [f"{number}.jpg,{number}.wav,{label},{group},sound", f"{number}.jpg,gone.wav,{label},{group},spoken"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    videos, tree = labelled.find_labelled(tmp_path)
    assert [video.name for video in videos] == [str(tmp_path / f"{number}.wav") for number in range(4)]
    assert tree.distances(["cow", "hen", "bell"])[0].tolist() == [0, 2, 4]
    found = evaluate("--model", networks[1], "--data", tmp_path)
    assert found.exit_code == 0 and "4 videos" in found.output, found.output
    with pytest.raises(ValueError, match="no rows of kind 'sung'; it has sound, spoken"):
        labelled.find_labelled(tmp_path, kind="sung")
    everything = evaluate("--model", networks[1], "--data", tmp_path, "--kind", "spoken")
    assert "no video could be read, of 4" in str(everything.exception) and "gone.wav" in str(everything.exception)


def test_cca_takes_pairs_of_the_kind_that_is_measured(networks, tmp_path):
    for folder in ("measured", "training"):
        (tmp_path / folder).mkdir()
        rows = ["image,sound,label,group,kind"]
        for number in range(3):
            (tmp_path / folder / f"{number}.jpg").write_bytes(jpeg(np.full((20, 30, 3), 50 * number, np.uint8)))
            tone = 0.5 * np.sin(2 * np.pi * 200 * (number + 1) * np.arange(36_000) / 24_000)
            soundfile.write(tmp_path / folder / f"{number}.wav", tone, 24_000)
            rows.append(f"{number}.jpg,{number}.wav,{('cow', 'hen')[number % 2]},farm,spoken")
        (tmp_path / folder / "pairs.csv").write_text("\n".join(rows))
    options = ("--model", networks[1], "--data", tmp_path / "measured", "--kind", "spoken")
    found = evaluate(*options, "--cca-on", tmp_path / "training", "--components", 2)
    assert found.exit_code == 0, found.exception
    assert "l3 with CCA" in found.output


def test_shards_without_labels_one_model_twice_and_cca_on_what_is_measured_are_refused(
    networks, monsters, shards, tmp_path
):
    refused = evaluate("--model", networks[0], "--data", shards)
    assert "none of the 6 videos" in str(refused.exception)
    twice = evaluate("--model", networks[0], "--model", networks[0], "--data", monsters)
    assert "one name" in str(twice.exception)
    for number in (3, 4):  # other folders, of episodes that are among those
        (tmp_path / f"{number}.tar").symlink_to(monsters / f"{number:05d}.tar")
    for cca_on, shared in ((monsters, 12), (tmp_path, 2)):
        leak = evaluate("--model", networks[1], "--data", monsters, "--cca-on", cca_on)
        assert f"--cca-on must be other videos than --data, and {shared} are in both" in str(leak.exception)


def test_one_file_is_known_in_a_folder_and_in_a_table(tmp_path):
    for name in ("Cat/a.mp4", "Cat/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/list.csv").write_text("file,labels\n../Cat/b.mp4,Cat\n")
    videos, training = (labelled.find_labelled(data)[0] for data in (tmp_path, tmp_path / "lists/list.csv"))
    with pytest.raises(ValueError, match=r"and 1 are in both, such as .*Cat/b\.mp4$"):
        retrieval.fit_spaces({}, videos, 0, training)


def test_videos_of_the_papers_classes_alone(audioset, shared, tmp_path):
    (tmp_path / "list.csv").write_text("file,labels\na.mp4,Speech;Drum\nb.mp4,Speech\nc.mp4,/m/015lz1\n")
    path = shared / "data" / "annotations" / "audioset_ontology.json"
    videos, _ = retrieval.choose_videos(tmp_path / "list.csv", path, instruments=True, kind="", own_level=False)
    assert [Path(video.name).name for video in videos] == ["a.mp4", "c.mp4"]
