"""Do held-out sounds and pictures find each other? AVC accuracy and retrieval, for any network that compares.

A negative pairs a picture with a sound of another clip, or of another moment of the same clip, which is harder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openavc.correspondence import probabilities, represent_images, represent_windows

from ..data import Shards, held_out_pairs

QUIETEST = -42.0  # dBFS, of a window


@dataclass(frozen=True)
class Represented:
    """What a model's `compare` takes, for n true pairs: rows k of both belong together."""

    image: np.ndarray  # (n, D)
    audio: np.ndarray  # (n, D)
    clip: np.ndarray  # (n,) number of the clip each comes from


class HeldOutPairs(tuple):
    """Pictures, windows and numbers of their videos; `labels` are the first ones of their clips, None where unknown."""

    labels: list[str | None]


def load_pairs(model, data: Path, per_clip: int, seed: int) -> HeldOutPairs:
    """The evaluation's pairs; ValueError if all of `data` is too quiet or too short."""
    shards = Shards(data)
    clips = shards.clips
    shards.clips = [replace(clip, source=str(number)) for number, clip in enumerate(clips)]  # pairs tell their clip
    found = list(held_out_pairs(shards, model, per_clip, seed, QUIETEST))
    if not found:
        raise ValueError(
            f"no moment of {data} is above {QUIETEST:g} dBFS, with {model.window_seconds:g} s of sound around a frame"
        )
    images, waveforms, numbers = zip(*found, strict=True)
    videos = {source: video for video, source in enumerate(dict.fromkeys(clip.source for clip in clips))}
    pairs = HeldOutPairs((images, waveforms, np.array([videos[clips[number].source] for number in numbers])))
    pairs.labels = [next(iter(clips[number].labels), None) for number in numbers]
    return pairs


def represent(model, pairs) -> Represented:
    """Run both towers over the pairs."""
    images, waveforms, clips = pairs
    seen = represent_images(model, enumerate(images))
    heard = represent_windows(model, enumerate(waveforms))
    return Represented(np.stack([v for _, v in seen]), np.stack([v for _, v in heard]), clips)


def score_matrix(model, image: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """Probability of correspondence of each picture (rows) with each sound (columns)."""
    rows = [probabilities(model, np.repeat(row[None], len(audio), axis=0), audio) for row in image]
    return np.stack(rows)


def avc(model, pairs: Represented, seed: int) -> dict[str, float]:
    """Accuracy on true pairs against as many negatives, in percent.

    Returns
    -------
    figures : dict
        "own decision": balanced accuracy at probability 0.5; "threshold": with the threshold that is best on the other
        half of the clips; "2AFC other clip" and "2AFC same clip": how often the true sound beats one negative;
        "AUC": area under the ROC curve of the score, times 100; and the mean scores of both kinds of pair.
    """
    rng = np.random.default_rng(seed)
    positive = probabilities(model, pairs.image, pairs.audio)
    other = probabilities(model, pairs.image, pairs.audio[_negatives(pairs.clip, rng, same=False)])
    same = probabilities(model, pairs.image, pairs.audio[_negatives(pairs.clip, rng, same=True)])
    half = rng.permutation(pairs.clip.max() + 1)[pairs.clip] % 2 == 0
    figures = {
        "own decision": 50 * ((positive >= 0.5).mean() + (other < 0.5).mean()),
        "threshold": 50 * sum(_threshold_accuracy(positive, other, fold) for fold in (half, ~half)),
        "2AFC other clip": 100 * _wins(positive, other).mean(),
        "2AFC same clip": 100 * _wins(positive, same).mean(),
        "AUC": 100 * np.mean([_wins(value, other).mean() for value in positive]),
        "mean score of true pairs": positive.mean(),
        "mean score of mismatched pairs": other.mean(),
    }
    return {name: float(value) for name, value in figures.items()}


def _wins(positive, negative) -> np.ndarray:
    return (positive > negative) + 0.5 * (positive == negative)


def _negatives(clip: np.ndarray, rng: np.random.Generator, same: bool) -> np.ndarray:
    """For each pair the index of another one, of the same clip or of another."""
    chosen = []
    for index, number in enumerate(clip):
        candidates = np.flatnonzero((clip == number) == same)
        candidates = candidates[candidates != index]
        chosen.append(rng.choice(candidates) if len(candidates) else index)  # a clip with one pair only: a tie
    return np.array(chosen)


def _threshold_accuracy(positive: np.ndarray, negative: np.ndarray, test: np.ndarray) -> float:
    """Balanced accuracy on `test` with the best threshold of the rest."""
    candidates = np.unique(np.concatenate([positive[~test], negative[~test]]))
    accuracy = [(positive[~test] >= value).mean() + (negative[~test] < value).mean() for value in candidates]
    best = candidates[int(np.argmax(accuracy))]
    return ((positive[test] >= best).mean() + (negative[test] < best).mean()) / 2


def retrieval(model, pairs: Represented, seed: int, size: int = 100, draws: int = 50) -> dict[str, float]:
    """Finding the partner among `size` candidates of different clips, in percent; means over random galleries.

    Among candidates of one score the partner stands anywhere: a model that gives all the same is at chance.
    """
    rng = np.random.default_rng(seed)
    clips = np.unique(pairs.clip)
    if len(clips) < size:
        raise ValueError(f"{size}-way retrieval needs pairs of {size} clips, there are {len(clips)}")
    hits: dict[str, list] = {}
    for _ in range(draws):
        rows = [rng.choice(np.flatnonzero(pairs.clip == clip)) for clip in rng.choice(clips, size, replace=False)]
        scores = score_matrix(model, pairs.image[rows], pairs.audio[rows])
        for name, matrix in (("image to audio", scores), ("audio to image", scores.T)):
            true = np.diag(matrix)[:, None]
            better, ties = (matrix > true).sum(axis=1), (matrix == true).sum(axis=1)
            for k in (1, 5, 10):
                hits.setdefault(f"{name} R@{k}", []).append(np.clip((k - better) / ties, 0, 1).mean())
    figures = {name: 100 * float(np.mean(found)) for name, found in hits.items()}
    for k in (1, 5, 10):
        figures[f"mean R@{k}"] = (figures[f"image to audio R@{k}"] + figures[f"audio to image R@{k}"]) / 2
    return figures
