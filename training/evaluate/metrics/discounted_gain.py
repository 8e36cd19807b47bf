"""Discounted cumulative gain, nDCG@30, of rankings by distance: how related the first 30 are to the query, by class.

As in Objects that Sound (Table 1), relevance is r = 20 - d, with d the distance of two videos' nearest classes in a
class tree. The paper leaves the rest open. Here the gain is 2^r - 1, the discount 1 / log2(rank + 1), and the best
possible ranking of the entire database scores 1; with other usual choices chance is far from the paper's 0.407.

Figures are means over all orders of videos at equal distances: a model that places all videos at the same distance
scores exactly what random rankings do on average.
"""

from __future__ import annotations

import numpy as np

from ..datasets.ontology import ClassTree

DEPTH = 30  # ranks that count
MOST_RELEVANT = 20  # r of the same class
_BLOCK = 256  # queries ranked at a time
_DECIMALS = 10  # of distances; smaller differences are rounding


def gains(labels: list[tuple[str, ...]], tree: ClassTree) -> np.ndarray:
    """Compute 2^r - 1 between each pair of videos, from the nearest pair of their labels.

    Parameters
    ----------
    labels : list of tuple of str
        Labels of each video.
    tree : ClassTree

    Returns
    -------
    gain : ndarray, shape (n, n)

    Raises
    ------
    ValueError
        If a label isn't in the tree.
    """
    classes = sorted({label for of_video in labels for label in of_video})
    apart = tree.distances(classes)
    number = {label: index for index, label in enumerate(classes)}
    sets = [[number[label] for label in of_video] for of_video in labels]
    nearest = np.stack([apart[chosen].min(axis=0) for chosen in sets])  # (n, classes)
    distance = np.stack([nearest[:, chosen].min(axis=1) for chosen in sets], axis=1)  # (n, n)
    return 2.0 ** np.maximum(MOST_RELEVANT - distance, 0) - 1


def ndcg(
    query: np.ndarray, database: np.ndarray, gain: np.ndarray, allowed: np.ndarray, depth: int = DEPTH
) -> np.ndarray:
    """Measure the nDCG of each query's ranking by Euclidean distance of L2-normalised vectors.

    Parameters
    ----------
    query : ndarray, shape (n, D)
    database : ndarray, shape (m, D)
    gain : ndarray, shape (n, m)
    allowed : ndarray of bool, shape (n, m)
        Rows of the database that each query searches.
    depth : int
        Ranks that count.

    Returns
    -------
    ndarray, shape (n,)
        In [0, 1].
    """
    query, database = _normalised(query), _normalised(database)
    lengths = np.square(database).sum(axis=1)  # 1, or 0 for a vector of zeros
    scores = [np.empty(0)]
    for first in range(0, len(query), _BLOCK):
        rows = slice(first, first + _BLOCK)
        apart = np.round(lengths - 2 * query[rows] @ database.T, _DECIMALS)  # squared, less the query's length
        apart[~allowed[rows]] = np.inf
        order = np.argsort(apart, axis=1)
        ranked = np.take_along_axis(np.where(allowed[rows], gain[rows], 0.0), order, axis=1)
        ranked = _mean_over_ties(ranked, np.take_along_axis(apart, order, axis=1))
        scores.append(ranked[:, :depth] @ _discounts(ranked, depth))
    return np.concatenate(scores) / _best(gain, allowed, depth)


def chance(gain: np.ndarray, allowed: np.ndarray, depth: int = DEPTH) -> np.ndarray:
    """Return the nDCG of a random ranking for each query, the mean over all orders: (n,)."""
    best, counts = _best(gain, allowed, depth), allowed.sum(axis=1)
    ranks = np.arange(gain.shape[1]) < counts[:, None]  # ranks that a query's videos fill
    mean = np.where(allowed, gain, 0.0).sum(axis=1) / counts
    return mean * (ranks[:, :depth] @ _discounts(gain, depth)) / best


def _normalised(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def _discounts(ranked: np.ndarray, depth: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, 2 + min(depth, ranked.shape[1])))


def _best(gain: np.ndarray, allowed: np.ndarray, depth: int) -> np.ndarray:
    """Compute the DCG of each query's best ranking: (n,)."""
    if not np.where(allowed, gain, 0).any(axis=1).all():
        raise ValueError("a query has nothing to find: all other videos are of its own place, or as unlike as can be")
    depth, best = min(depth, gain.shape[1]), []
    for first in range(0, len(gain), _BLOCK):
        block = np.where(allowed[first : first + _BLOCK], gain[first : first + _BLOCK], 0.0)
        top = np.partition(block, gain.shape[1] - depth, axis=1)[:, -depth:]
        best.append(-np.sort(-top, axis=1) @ _discounts(gain, depth))
    return np.concatenate(best)


def _mean_over_ties(ranked: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Replace gains, in order of distance, by their means over equal distances: (n, m)."""
    first = np.ones(apart.shape, bool)
    first[:, 1:] = apart[:, 1:] != apart[:, :-1]
    tied = np.cumsum(first).reshape(apart.shape) - 1
    return (np.bincount(tied.ravel(), ranked.ravel()) / np.bincount(tied.ravel()))[tied]
