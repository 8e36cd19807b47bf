"""Retrieval by class within and across sounds and pictures (Objects that Sound, Table 1).

Each video contributes one picture and one sound; each of these searches all pictures and all sounds.
"""

from __future__ import annotations

import math

import numpy as np

from ..datasets.labelled import Video
from ..datasets.ontology import ClassTree
from . import discounted_gain
from .bootstrap import interval

DIRECTIONS = {"im-im": (0, 0), "im-aud": (0, 1), "aud-im": (1, 0), "aud-aud": (1, 1)}
_MIXED_UP = 1000  # at least this many queries


class Search:
    """A database of videos that are also its queries: what each may find, and how good its ranking is.

    Parameters
    ----------
    videos : list of Video
    tree : ClassTree
        Class tree with their labels.
    partner : bool
        Whether a query also searches its own video, across sound and picture; others of its group are never searched.
    """

    def __init__(self, videos: list[Video], tree: ClassTree, partner: bool = False):
        self.gain = discounted_gain.gains([video.labels for video in videos], tree)
        classes = {tree.key(label) for video in videos for label in video.labels}
        self.groups = np.array([video.group for video in videos])
        elsewhere = self.groups[:, None] != self.groups[None]
        across = elsewhere | np.eye(len(videos), dtype=bool) if partner else elsewhere
        others = "the other places, and its own video across sound and picture" if partner else "the other places"
        self.described = (
            f"{len(classes)} classes, {len(set(self.groups))} places (levels, or the videos themselves). A query "
            f"searches {others}.\n"
            "Intervals: 95 %, bootstrapped over places. Queries mixed up: each video searches with another's vectors;\n"
            "above chance where frequent classes are found by whatever query."
        )
        self.allowed = {name: elsewhere if start == end else across for name, (start, end) in DIRECTIONS.items()}

    def scores(
        self, vectors: tuple[np.ndarray, np.ndarray], queries: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Measure the nDCG of each query in each direction, except where the two spaces differ in size.

        Parameters
        ----------
        vectors : tuple of ndarray, shape (n, D)
            Vectors of pictures and of sounds.
        queries : ndarray of int, shape (n,), optional
            Videos whose vectors replace each query's own.

        Returns
        -------
        scores : dict of str to ndarray, shape (n,)
        """
        queries = np.arange(len(self.groups)) if queries is None else queries
        return {
            name: discounted_gain.ndcg(vectors[start][queries], vectors[end], self.gain, self.allowed[name])
            for name, (start, end) in DIRECTIONS.items()
            if vectors[start].shape[1] == vectors[end].shape[1]
        }

    def mixed_up(self, vectors: tuple[np.ndarray, np.ndarray], seed: int) -> dict[str, float]:
        """Measure the mean nDCG when each video searches with the vectors of another.

        It exceeds chance where any query finds videos of frequent classes, which the figure for chance doesn't show.
        """
        rng, count = np.random.default_rng(seed), len(self.groups)
        runs = [self.scores(vectors, rng.permutation(count)) for _ in range(math.ceil(_MIXED_UP / count))]
        return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}

    def chance(self) -> dict[str, np.ndarray]:
        """Return the nDCG of random rankings in each direction: (n,) each."""
        return {name: discounted_gain.chance(self.gain, self.allowed[name]) for name in DIRECTIONS}

    def summary(self, scores: dict[str, np.ndarray], seed: int) -> dict[str, tuple[float, float, float]]:
        """Return the mean in each direction, and both ends of its 95 % interval."""
        return {name: (float(values.mean()), *interval(values, self.groups, seed)) for name, values in scores.items()}
