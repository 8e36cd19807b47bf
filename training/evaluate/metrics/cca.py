"""Canonical correlation analysis in closed form, which projects two spaces into one.

The L3-Net of Objects that Sound has no space that sounds and pictures share; the paper adds one by CCA, with 128
components (Table 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RIDGE = 0.1  # share of the mean variance; ours


@dataclass(frozen=True)
class CCA:
    """Projections of two spaces, x and y, onto the components that correlate most over the fitted pairs."""

    mean_x: np.ndarray  # (Dx,)
    mean_y: np.ndarray  # (Dy,)
    weights_x: np.ndarray  # (Dx, components)
    weights_y: np.ndarray  # (Dy, components)
    correlations: np.ndarray  # (components,) descending

    def project_x(self, x: np.ndarray) -> np.ndarray:
        """Project (n, Dx) to (n, components), each of variance 1 over the fitted pairs (less with a ridge)."""
        return (x - self.mean_x) @ self.weights_x

    def project_y(self, y: np.ndarray) -> np.ndarray:
        """Project (n, Dy) to (n, components), as `project_x` does."""
        return (y - self.mean_y) @ self.weights_y


def fit_cca(x: np.ndarray, y: np.ndarray, components: int, ridge: float = RIDGE) -> CCA:
    """Fit the projections on n pairs.

    Parameters
    ----------
    x, y : ndarray, shape (n, Dx) and (n, Dy)
        Row k of x and row k of y belong together.
    components : int
    ridge : float
        Added to the variances, as a share of their mean. With 0, dimensions that don't vary are left out.

    Raises
    ------
    ValueError
        If the rows aren't pairs, there are too few of them, or there are fewer dimensions than components.
    """
    if len(x) != len(y):
        raise ValueError(f"CCA needs pairs, got {len(x)} and {len(y)} vectors")
    if not 1 <= components <= min(x.shape[1], y.shape[1], len(x) - 1):
        raise ValueError(
            f"CCA to {components} components needs as many dimensions and more pairs, "
            f"got {len(x)} pairs of {x.shape[1]} and {y.shape[1]} dimensions"
        )
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    white_x, white_y = _whitening(x, ridge), _whitening(y, ridge)
    left, correlations, right = np.linalg.svd(white_x.T @ (x.T @ y / len(x)) @ white_y, full_matrices=False)
    if len(correlations) < components:
        raise ValueError(f"only {len(correlations)} dimensions vary, too few for CCA to {components} components")
    kept = slice(components)
    return CCA(mean_x, mean_y, white_x @ left[:, kept], white_y @ right[kept].T, correlations[kept])


def _whitening(x: np.ndarray, ridge: float) -> np.ndarray:
    """Compute a matrix W such that x W has the identity as covariance, for centred x: (D, rank)."""
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    variances = variances + ridge * variances.mean()
    varying = variances > 1e-10 * variances.max()
    return axes[:, varying] / np.sqrt(variances[varying])
