"""Class trees: AudioSet's ontology, the rendered monsters, a user's own."""

import numpy as np
import pytest

from training.corpora.scenes import MONSTERS as RENDERED
from training.corpora.scenes import group_kinds
from training.evaluate.datasets import ontology

TREE = {"animals": {"birds": ["crow", "owl"], "pets": ["cat", "owl"]}, "vehicles": ["car"]}


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
