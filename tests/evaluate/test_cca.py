"""Canonical correlation analysis against the correlations that the data was made with, and against scikit-learn."""

import numpy as np
import pytest

from training.evaluate.metrics.cca import fit_cca
from training.evaluate.metrics.spaces import cca_space


def correlated(n, strengths, rng):
    """Make pairs in 4 and 6 dimensions, mixed at random, whose first dimensions correlate by `strengths`."""
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
    """x and y have covariance 1: a ridge r gives correlations s / (1 + r) and projections of variance 1 / (1 + r).

    The space's variances are those of the product.
    """
    rng, ridge = np.random.default_rng(0), 0.1
    x, y = rng.standard_normal((2, 40_000, 3))
    y[:, :2] = [0.9, 0.5] * x[:, :2] + np.sqrt(1 - np.square([0.9, 0.5])) * y[:, :2]
    for projected in cca_space((x, y), (x, y), 3):
        expected = np.array([0.9, 0.5, 0]) / (1 + ridge) ** 1.5
        np.testing.assert_allclose(projected.std(axis=0), expected, atol=0.02)
