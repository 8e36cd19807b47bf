"""Selectivity of single units: the labels of their strongest moments, and whether moments cluster by label.

Labels serve only to name what a unit prefers. Activations are (moments, units).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

TOP = 5  # moments shown of each unit, as in the paper
_PERMUTATIONS = 10


@dataclass(frozen=True)
class Unit:
    """A unit and the moments that excite it most."""

    number: int
    top: np.ndarray  # (TOP,) indices of moments, the strongest first
    label: str  # the most frequent label among them
    purity: float  # share of that label among them
    contrast: float  # mean activation of the top minus that of all moments, in standard deviations


def rank_units(activation: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> list[Unit]:
    """Rank all units that vary, the most selective first: by the purity of their top moments, then by contrast.

    Parameters
    ----------
    activation : ndarray, shape (moments, units)
    labels : ndarray of str, shape (moments,)
    videos : ndarray, shape (moments,)
        Video of each moment; a unit's top has at most one moment from each.

    Raises
    ------
    ValueError
        If no unit varies.
    """
    varying = np.flatnonzero(activation.std(axis=0) > 1e-6)
    if not len(varying):
        raise ValueError(f"none of {activation.shape[1]} units varies over {len(activation)} moments")
    units = [_unit(number, activation[:, number], labels, videos) for number in varying]
    return sorted(units, key=lambda unit: (-unit.purity, -unit.contrast, unit.number))


def _unit(number: int, activation: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> Unit:
    order = np.argsort(-activation, kind="stable")
    _, first = np.unique(videos[order], return_index=True)  # the strongest moment of each video
    top = order[np.sort(first)[:TOP]]
    names, counts = np.unique(labels[top], return_counts=True)
    contrast = (activation[top].mean() - activation.mean()) / activation.std()
    best = int(counts.argmax())
    return Unit(int(number), top, str(names[best]), float(counts[best] / len(top)), float(contrast))


def class_units(units: Iterable[Unit]) -> list[str]:
    """List the labels that have a unit whose top moments, TOP from different videos, all have that label.

    The paper counts classes with a unit that prefers them; its criterion isn't certain, so this one is ours.
    """
    return sorted({unit.label for unit in units if unit.purity == 1 and len(unit.top) == TOP})


def cluster_nmi(activation: np.ndarray, labels: np.ndarray, clusters: int, seed: int) -> tuple[float, np.ndarray]:
    """Cluster moments by k-means and compare the clusters with their labels.

    Returns
    -------
    nmi : float
        Normalised mutual information of clusters and labels, in [0, 1].
    assigned : ndarray of int, shape (moments,)
        The cluster of each moment.

    Raises
    ------
    ValueError
        If there are fewer moments than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    if clusters > len(activation):
        raise ValueError(f"{clusters} clusters need as many moments, there are {len(activation)}")
    assigned = KMeans(clusters, n_init=3, random_state=seed).fit_predict(activation)
    return float(normalized_mutual_info_score(labels, assigned)), assigned


def chance_nmi(assigned: np.ndarray, labels: np.ndarray, videos: np.ndarray, seed: int) -> float:
    """Compare clusters with labels that are permuted among the videos.

    Moments of one video are correlated whatever their labels, so labels are permuted by video.

    Parameters
    ----------
    assigned : ndarray of int, shape (moments,)
        As returned by `cluster_nmi`.
    labels, videos : ndarray, shape (moments,)
        As in `rank_units`.
    seed : int
    """
    from sklearn.metrics import normalized_mutual_info_score

    rng = np.random.default_rng(seed)
    _, first, video = np.unique(videos, return_index=True, return_inverse=True)
    dealt = [rng.permutation(labels[first])[video] for _ in range(_PERMUTATIONS)]
    return float(np.mean([normalized_mutual_info_score(names, assigned) for names in dealt]))


def embed_2d(activation: np.ndarray, seed: int) -> np.ndarray:
    """Embed moments in the plane by t-SNE: (moments, 2)."""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(activation) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(activation)
