"""Intervals from bootstrapping over groups."""

import numpy as np
import pytest

from training.evaluate.metrics.bootstrap import interval, share


def test_the_interval_covers_the_truth_and_counts_episodes_not_pictures():
    """If all pictures of an episode are alike, the interval is as wide as with one picture per episode."""
    rng, covered, widths = np.random.default_rng(0), 0, []
    for seed in range(100):
        episodes = (rng.random(60) < 0.3).astype(float)
        found = share(np.repeat(episodes, 5), np.repeat(np.arange(60), 5), seed)
        covered += found.low <= 30 <= found.high
        widths.append(found.high - found.low)
        assert found.mean == pytest.approx(100 * episodes.mean())
    assert 86 <= covered <= 100
    assert np.mean(widths) == pytest.approx(2 * 196 * np.sqrt(0.3 * 0.7 / 60), rel=0.1)  # the normal interval's


def test_the_interval_is_that_of_the_mean_and_wider_where_groups_agree():
    scores = np.random.default_rng(0).standard_normal(900) + 5
    low, high = interval(scores, np.arange(900), seed=0)
    assert (low, high) == pytest.approx((scores.mean() - 1.96 / 30, scores.mean() + 1.96 / 30), abs=0.01)
    low, high = interval(np.repeat(scores[:100], 9), np.repeat(np.arange(100), 9), seed=0)
    assert high - low == pytest.approx(2 * 1.96 / 10, abs=0.05)
