"""How well items of a class find items of the same class in the other modality, each class weighing the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bootstrap import Share

DRAWS = 50  # of one candidate a class


@dataclass(frozen=True)
class Found:
    """What each query finds, in [0, 1]."""

    two_alternatives: np.ndarray  # (queries,)
    first: np.ndarray  # (queries,) whether its class is the first of all, by the mean of a class's candidates
    among_five: np.ndarray
    single: np.ndarray  # (queries,) how often its class is the first of all, with one candidate of each


def find_classes(scores: np.ndarray, queries: np.ndarray, candidates: np.ndarray, seed: int) -> Found:
    """Measure what queries find among candidates.

    Parameters
    ----------
    scores : ndarray, shape (queries, candidates)
        Higher where two fit.
    queries, candidates : ndarray of int, shapes (queries,) and (candidates,)
        Class of each, from 0; each class has candidates.
    seed : int
        Of the draws of one candidate of each class.
    """
    return Found(
        two_alternatives(scores, queries, candidates),
        _is_among(class_means(scores, candidates), queries, 1),
        _is_among(class_means(scores, candidates), queries, 5),
        single_first(scores, queries, candidates, seed),
    )


def two_alternatives(scores: np.ndarray, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return how often a candidate of its own class scores above one of another class, for each query: (queries,).

    All candidates of the own class meet all others; other classes weigh the same; equal scores count half.
    """
    sizes = np.bincount(candidates)
    share = np.eye(len(sizes))[candidates] / sizes[candidates, None]  # (candidates, classes)
    above = np.zeros(len(queries))
    for number in np.unique(queries):
        rows = queries == number
        own, every = scores[rows][:, candidates == number], scores[rows]
        wins = np.mean([(one[:, None] > every) + 0.5 * (one[:, None] == every) for one in own.T], axis=0)
        above[rows] = np.delete(wins @ share, number, axis=1).mean(axis=1)
    return above


def class_means(scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Average the scores of each class's candidates: (queries, classes)."""
    sizes = np.bincount(candidates)
    return scores @ (np.eye(len(sizes))[candidates] / sizes[candidates, None])


def single_first(scores: np.ndarray, queries: np.ndarray, candidates: np.ndarray, seed: int) -> np.ndarray:
    """Return how often the own class is the first, when one candidate of each class is drawn: (queries,)."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(candidates == number) for number in range(candidates.max() + 1)]
    drawn = ([rng.choice(member) for member in members] for _ in range(DRAWS))
    return np.mean([_is_among(scores[:, chosen], queries, 1) for chosen in drawn], axis=0)


def _is_among(of_classes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Tell whether fewer than `count` other classes score as high as the own: (queries,) float."""
    own = of_classes[np.arange(len(queries)), queries]
    return ((of_classes >= own[:, None]).sum(axis=1) <= count).astype(float)


def balanced_share(values: np.ndarray, classes: np.ndarray, origins: np.ndarray, seed: int, draws: int = 1000) -> Share:
    """Return the mean over classes of the mean of their values, in percent, with its 95 % interval.

    Each class's origins are drawn anew, with all that is of them; a class with one origin adds nothing to the interval.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In [0, 1].
    classes : ndarray of int, shape (n,)
    origins : ndarray, shape (n,)
    seed : int
    draws : int
    """
    rng = np.random.default_rng(seed)
    means, drawn = [], []
    for number in np.unique(classes):
        inside = classes == number
        _, origin = np.unique(origins[inside].astype(str), return_inverse=True)
        totals, counts = np.bincount(origin, 100 * values[inside]), np.bincount(origin)
        weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
        means.append(totals.sum() / counts.sum())
        drawn.append((weights @ totals) / (weights @ counts))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Share(float(np.mean(means)), float(low), float(high))
