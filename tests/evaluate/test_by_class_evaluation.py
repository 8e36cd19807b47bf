"""Finding the right class: the figures by hand, whole commands on small classes, and the probe for shortcuts."""

import itertools
import json

import numpy as np
import pytest
from by_class import write_classes
from evaluations import evaluate, save_network

from openavc.weights import load_model
from training.corpora.by_class import CommonForm, find_class_files
from training.evaluate.by_class import choose_sets, score_all
from training.evaluate.datasets.class_items import find_items, read_windows
from training.evaluate.metrics.by_class import balanced_share, find_classes, two_alternatives
from training.prepare import write_shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write shards of three classes, once as those trained on, once as held out."""
    folder = tmp_path_factory.mktemp("classes")
    files = find_class_files(*write_classes(folder))
    for name, part in (("train", files[::2]), ("held", files[1::2])):
        (folder / name).mkdir()
        write_shard(folder / name / "000000.tar", 0, part, CommonForm(32, 24_000, "wav", 95))
    return folder


def test_two_alternatives_are_all_pairs_counted_by_hand():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (5, 9)).astype(float)  # with ties
    queries, candidates = np.array([0, 1, 2, 1, 0]), np.array([0, 0, 1, 2, 2, 2, 1, 0, 2])
    expected = []
    for row, own in zip(scores, queries, strict=True):
        by_class = []
        for other in {0, 1, 2} - {own}:
            pairs = itertools.product(row[candidates == own], row[candidates == other])
            by_class.append(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))
        expected.append(np.mean(by_class))
    np.testing.assert_allclose(two_alternatives(scores, queries, candidates), expected)


def test_the_first_of_all_is_by_the_mean_of_a_class_or_by_one_of_each():
    scores = np.array([[3.0, 0.0, 2.0, 2.0], [0.0, 1.0, 9.0, 0.0]])  # classes 0 0 1 1
    found = find_classes(scores, np.array([0, 0]), np.array([0, 0, 1, 1]), seed=0)
    assert found.first.tolist() == [0, 0]  # 1.5 below 2; 0.5 below 4.5
    assert found.among_five.tolist() == [1, 1]
    assert found.single[0] == pytest.approx(0.5, abs=0.3)  # 3 above 2, 0 below 2
    assert found.single[1] == pytest.approx(0.25, abs=0.25)  # only 1 above 0
    level = find_classes(np.zeros((2, 4)), np.array([0, 1]), np.array([0, 0, 1, 1]), seed=0)
    assert level.first.tolist() == [0, 0]  # equal scores are no find
    assert level.two_alternatives.tolist() == [0.5, 0.5]


def test_classes_weigh_the_same_and_origins_are_drawn_whole():
    values, classes = np.array([1.0, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 1])
    share = balanced_share(values, classes, np.array(list("abcde")), seed=0)
    assert share.mean == pytest.approx(50)
    assert (share.low, share.high) == (pytest.approx(50), pytest.approx(50))  # all of one class are alike
    many = np.tile([0.0, 1.0], 50)
    alone = balanced_share(many, np.zeros(100, int), np.arange(100), seed=0)
    cut = balanced_share(many, np.zeros(100, int), np.repeat(np.arange(4), 25), seed=0)
    assert alone.low == pytest.approx(40, abs=3)
    assert cut.high - cut.low < alone.high - alone.low  # each origin is half right by itself


def test_a_recordings_score_is_the_mean_over_its_windows(folder, tmp_path):
    model = load_model(save_network(tmp_path / "tiny.safetensors"))
    photographs, recordings = find_items(folder / "held")
    scores = score_all(model, photographs, recordings, windows=3)
    assert scores.shape == (len(photographs.clips), len(recordings.clips))
    windows = [key for key, _ in read_windows(recordings, model.sound, 3)]
    assert windows == sorted(windows)
    assert windows.count(0) == 2  # 1.5 s: windows of 1 s, half of one apart
    for k in range(len(recordings.clips)):
        one = type(recordings)(recordings.shards, recordings.clips[k : k + 1], recordings.about[k : k + 1])
        np.testing.assert_allclose(score_all(model, photographs, one, 3)[:, 0], scores[:, k], atol=1e-4)


def test_the_command_reports_classes_groups_and_sources_apart(folder, tmp_path):
    weights = save_network(tmp_path / "tiny.safetensors")
    told = tmp_path / "found.json"
    arguments = ("--model", weights, "--data", folder / "held", "--apart", folder / "train", "--json", told)
    result = evaluate("by-class", *arguments)
    assert result.exit_code == 0, result.output
    for text in ("animals", "things", "cat", "sounds of held sources", "untrained", "33.3", "Pairs are by label"):
        assert text in result.output
    report = json.loads(told.read_text())
    figures = {metric["name"]: metric["value"] for metric in report["metrics"]}
    assert 0 <= figures["by class (held) held files, photograph to sound: 2AFC"] <= 100
    assert report["classes"]["held files"]["cat"]["photographs"] == 3
    with pytest.raises(ValueError, match="both are needed"):
        choose_sets(one_sided(folder, tmp_path), None)


def one_sided(folder, tmp_path):
    """Write shards of photographs alone."""
    files = [file for file in find_class_files(folder / "PICTURES", folder / "SOUNDS") if file.kind == "picture"]
    write_shard(tmp_path / "000000.tar", 0, files, CommonForm(32, 24_000, "wav", 95))
    return tmp_path


def test_traces_that_tell_the_class_are_found_and_others_are_not(folder, tmp_path):
    for name in ("train", "held"):
        (tmp_path / name).mkdir()
    files = find_class_files(folder / "PICTURES", folder / "SOUNDS")
    for name, part in (("train", files[::2]), ("held", files[1::2])):
        write_shard(tmp_path / name / "000000.tar", 0, part, CommonForm(32, 24_000, "wav", 95))
    told = tmp_path / "found.json"
    result = evaluate("shortcuts", "--data", tmp_path / "train", "--held", tmp_path / "held", "--json", told)
    assert result.exit_code == 0, result.output
    figures = {metric["name"]: metric["value"] for metric in json.loads(told.read_text())["metrics"]}
    assert figures["shortcuts (held) recordings"] == 100  # each class has its pitch, and so its bandwidth
    assert "chance" in result.output
    assert "33.3" in result.output
