"""The command ndcg: retrieval by class, on shards, folders of videos and pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from evaluations import evaluate
from tones import jpeg, write_tones

from openavc.models import AVENet, L3Net
from training.checkpoint import save_weights
from training.evaluate.datasets import labelled, ontology
from training.evaluate.metrics.search import DIRECTIONS, Search
from training.evaluate.metrics.spaces import cca_space, fit_spaces
from training.evaluate.ndcg import choose_videos

EXAMPLE = Path(__file__).parents[2] / "examples" / "freedoom.mp4"
TREE = {"animals": {"birds": ["crow", "owl"], "pets": ["cat", "owl"]}, "vehicles": ["car"]}


SMALL = {"frontend": "mel64", "image_size": 16, "widths": [4, 4, 8, 8]}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Write weights files of an AVE-Net and an L3-Net, tiny and untrained."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    save_weights(
        folder / "ave.safetensors", AVENet(**SMALL, joint_size=4), SMALL | {"architecture": "ave", "joint_size": 4}
    )
    save_weights(folder / "l3.safetensors", L3Net(**SMALL), SMALL | {"architecture": "l3"})
    return [folder / "ave.safetensors", folder / "l3.safetensors"]


@pytest.fixture(scope="module")
def monsters(tmp_path_factory):
    """Write shards of 12 tones that are labelled as four kinds of monster on three levels."""
    folder = tmp_path_factory.mktemp("monsters")
    for number in range(12):
        about = {"labels": [("Zombieman", "DoomImp", "Demon", "LostSoul")[number % 4]], "level": f"MAP{number // 4}"}
        write_tones(folder / f"{number:05d}.tar", [number], **about)
    return folder


@pytest.fixture(scope="module")
def more_tones(tmp_path_factory):
    """Write shards of 8 tones without labels, to fit CCA on."""
    folder = tmp_path_factory.mktemp("more")
    write_tones(folder / "00000.tar", range(12, 20))
    return folder


def test_the_command_tells_all_directions_beside_chance_and_the_paper(networks, monsters, more_tones, tmp_path):
    options = ["--model", networks[0], "--model", networks[1], "--data", monsters, "--json", tmp_path / "found.json"]
    first = evaluate("ndcg", *options, "--cca-on", more_tones, "--components", 4)
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
    again = evaluate("ndcg", *options, "--cca-on", more_tones, "--components", 4)
    assert again.output == first.output


def test_chance_of_the_command_is_the_mean_over_the_kinds_by_hand(networks, monsters, tmp_path):
    evaluate("ndcg", "--model", networks[0], "--data", monsters, "--json", tmp_path / "found.json")
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
    apart, whole = Search(videos, tree), Search(videos, tree, partner=True)
    assert {name: found.sum(axis=1).tolist() for name, found in apart.allowed.items()} == dict.fromkeys(
        DIRECTIONS, [8] * 12
    )
    assert whole.allowed["im-aud"].sum(axis=1).tolist() == [9] * 12 and whole.allowed["aud-im"].diagonal().all()
    assert not whole.allowed["im-im"].diagonal().any() and not whole.allowed["aud-aud"].diagonal().any()
    vectors = np.eye(12)
    perfect = whole.scores((vectors, vectors))["im-aud"]
    assert (perfect > apart.scores((vectors, vectors))["im-aud"]).all()  # its own sound is all that it knows
    own = Search(labelled.find_labelled(monsters, own_level=True)[0], tree)
    assert own.allowed["im-im"].sum(axis=1).tolist() == [11] * 12


def test_mixed_up_queries_tell_what_is_found_by_any_query():
    """Finding the frequent class first for every query is better than chance, but no better than mixed-up queries."""
    labels = ["crow"] * 30 + ["cat"] * 10
    videos = [labelled.Video(str(n), (label,), str(n), None) for n, label in enumerate(labels)]
    search = Search(videos, ontology.nested_tree(TREE))
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
    search = Search(videos, ontology.nested_tree(TREE))
    raw = tuple(found[held] for found in vectors)
    space = cca_space(tuple(found[:400] for found in vectors), raw, components=8)
    apart, chance = search.scores(raw), search.chance()["im-aud"].mean()
    found = {name: scores.mean() for name, scores in search.scores(space).items()}
    assert abs(apart["im-aud"].mean() - chance) < 0.1
    assert min(found.values()) > 0.85 > chance + 0.2


def test_spaces_of_different_sizes_have_no_figures_across(monsters):
    videos, _ = labelled.find_labelled(monsters)
    search = Search(videos, ontology.read_tree(ontology.MONSTERS))
    assert list(search.scores((np.ones((12, 3)), np.ones((12, 5))))) == ["im-im", "aud-aud"]


def test_folders_of_videos_need_a_tree_that_knows_them(networks, tmp_path):
    for name in ("Cat", "Dog"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for take in "ab":
            (tmp_path / "videos" / name / f"{name}{take}.mp4").symlink_to(EXAMPLE)
    (tmp_path / "tree.json").write_text('{"pets": ["Cat", "Dog"]}')
    (tmp_path / "videos" / "Dog" / "broken.mp4").write_bytes(b"not a video")
    refused = evaluate("ndcg", "--model", networks[0], "--data", tmp_path / "videos")
    assert "'Cat'" in str(refused.exception) and "--ontology" in str(refused.exception)
    found = evaluate(
        "ndcg", "--model", networks[0], "--data", tmp_path / "videos", "--ontology", tmp_path / "tree.json"
    )
    assert found.exit_code == 0, found.output
    assert "4 videos" in found.output and "failed: " in found.output and "broken.mp4" in found.output


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
    found = evaluate("ndcg", "--model", networks[1], "--data", tmp_path)
    assert found.exit_code == 0 and "4 videos" in found.output, found.output
    with pytest.raises(ValueError, match="no rows of kind 'sung'; it has sound, spoken"):
        labelled.find_labelled(tmp_path, kind="sung")
    everything = evaluate("ndcg", "--model", networks[1], "--data", tmp_path, "--kind", "spoken")
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
    found = evaluate("ndcg", *options, "--cca-on", tmp_path / "training", "--components", 2)
    assert found.exit_code == 0, found.exception
    assert "l3 with CCA" in found.output


def test_shards_without_labels_one_model_twice_and_cca_on_what_is_measured_are_refused(
    networks, monsters, shards, tmp_path
):
    refused = evaluate("ndcg", "--model", networks[0], "--data", shards)
    assert "none of the 6 videos" in str(refused.exception)
    twice = evaluate("ndcg", "--model", networks[0], "--model", networks[0], "--data", monsters)
    assert "one name" in str(twice.exception)
    for number in (3, 4):  # other folders, of episodes that are among those
        (tmp_path / f"{number}.tar").symlink_to(monsters / f"{number:05d}.tar")
    for cca_on, shared in ((monsters, 12), (tmp_path, 2)):
        leak = evaluate("ndcg", "--model", networks[1], "--data", monsters, "--cca-on", cca_on)
        assert f"--cca-on must be other videos than --data, and {shared} are in both" in str(leak.exception)


def test_one_file_is_known_in_a_folder_and_in_a_table(tmp_path):
    for name in ("Cat/a.mp4", "Cat/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/list.csv").write_text("file,labels\n../Cat/b.mp4,Cat\n")
    videos, training = (labelled.find_labelled(data)[0] for data in (tmp_path, tmp_path / "lists/list.csv"))
    with pytest.raises(ValueError, match=r"and 1 are in both, such as .*Cat/b\.mp4$"):
        fit_spaces({}, videos, 0, training)


def test_videos_of_the_papers_classes_alone(shared, tmp_path):
    (tmp_path / "list.csv").write_text("file,labels\na.mp4,Speech;Drum\nb.mp4,Speech\nc.mp4,/m/015lz1\n")
    path = shared / "data" / "annotations" / "audioset_ontology.json"
    videos, _ = choose_videos(tmp_path / "list.csv", path, instruments=True, kind="", own_level=False)
    assert [Path(video.name).name for video in videos] == ["a.mp4", "c.mp4"]
