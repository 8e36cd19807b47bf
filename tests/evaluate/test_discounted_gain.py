"""nDCG against values by hand and against scikit-learn."""

import numpy as np
import pytest

from training.evaluate.datasets import ontology
from training.evaluate.metrics import discounted_gain

TREE = {"animals": {"birds": ["crow", "owl"], "pets": ["cat", "owl"]}, "vehicles": ["car"]}


def test_gains_take_the_nearest_pair_of_labels():
    found = discounted_gain.gains([("crow",), ("owl", "car"), ("car",)], ontology.nested_tree(TREE))
    assert found.tolist() == [
        [2**20 - 1, 2**18 - 1, 2**15 - 1],
        [2**18 - 1, 2**20 - 1, 2**20 - 1],
        [2**15 - 1, 2**20 - 1, 2**20 - 1],
    ]


def test_ndcg_of_a_ranking_by_hand():
    """The gains, nearest first, are 1, 0, 3; the best order is 3, 1, 0."""
    angles = np.array([0.1, 0.5, 1.0])
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[7], [1], [0.1]]  # only directions count
    found = discounted_gain.ndcg(np.array([[2.0, 0.0]]), database, np.array([[1.0, 0.0, 3.0]]), np.ones((1, 3), bool))
    assert found == pytest.approx((1 + 3 / 2) / (3 + 1 / np.log2(3)))


def scene(n=70, classes=5, size=6):
    """Draw vectors of n videos, some of them equal, with gains by random classes; a video isn't its own answer."""
    rng = np.random.default_rng(0)
    label = rng.integers(classes, size=n)
    gain = np.where(label[:, None] == label, 15.0, 1.0) + rng.integers(3, size=(classes, classes))[label][:, label]
    vectors = np.round(rng.standard_normal((n, size)))  # on a grid: many at one distance
    return vectors, gain, ~np.eye(n, dtype=bool)


def test_ndcg_is_scikit_learns_ties_included():
    from sklearn.metrics import ndcg_score

    vectors, gain, allowed = scene()
    found = discounted_gain.ndcg(vectors, vectors, gain, allowed)
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
    assert discounted_gain.ndcg(vectors, vectors, gain, allowed) == pytest.approx(1)
    assert discounted_gain.ndcg(vectors, -vectors, gain, allowed).max() < discounted_gain.chance(gain, allowed).min()


def test_chance_is_the_mean_of_random_rankings_and_the_score_of_a_constant():
    _, gain, allowed = scene(150)
    expected = discounted_gain.chance(gain, allowed)
    rng = np.random.default_rng(1)
    shuffles = [discounted_gain.ndcg(*rng.standard_normal((2, 150, 40)), gain, allowed).mean() for _ in range(20)]
    assert expected.mean() == pytest.approx(np.mean(shuffles), abs=4 * np.std(shuffles) / np.sqrt(20))
    constant = np.full((150, 3), 0.1) * (1 + 1e-7 * rng.standard_normal((150, 1)))
    np.testing.assert_allclose(discounted_gain.ndcg(constant, constant, gain, allowed), expected)
    np.testing.assert_allclose(discounted_gain.ndcg(0 * constant, constant, gain, allowed), expected)


def test_a_database_smaller_than_the_depth_is_ranked_whole():
    gain, allowed = np.array([[5.0, 3.0, 1.0]]), np.array([[False, True, True]])
    discounts = 1 / np.log2([2, 3])
    assert discounted_gain.chance(gain, allowed) == pytest.approx(2 * discounts.sum() / ([3, 1] @ discounts))
    found = discounted_gain.ndcg(np.array([[1.0, 0]]), np.array([[1.0, 0], [0, 1], [1, 1]]), gain, allowed)
    assert found == pytest.approx([1, 3] @ discounts / ([3, 1] @ discounts))
    with pytest.raises(ValueError, match="nothing to find"):
        discounted_gain.chance(gain, np.zeros((1, 3), bool))
