"""AVC accuracy and retrieval on held-out pairs, for any network that compares sounds with pictures.

A negative pairs a clip's frames with the sound of another clip or, harder, of another moment of the same clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openavc.inference.batches import BATCH_SIZE, batched, represent_clips, represent_windows
from openavc.inference.scores import probabilities
from openavc.models.contract import AudioVisualModel, Compares

from ...corpora.shards import StoredClip
from ...negatives import OtherClip, SameClip
from ..networks.capabilities import check_compares
from .bootstrap import Share, share


@dataclass(frozen=True)
class Represented:
    """Representations of n true pairs, as a model's `compare` takes them: rows k of both belong together."""

    frames: Tensor  # (n, ...)
    audio: Tensor  # (n, D)
    video: np.ndarray  # (n,) number of each pair's video
    labels: tuple[str | None, ...] = ()  # (n,) first label of each pair's clip

    def __len__(self) -> int:
        return len(self.video)


def represent(model: AudioVisualModel, pairs: Iterable[tuple[np.ndarray, np.ndarray, StoredClip]]) -> Represented:
    """Run both towers of a model over pairs of frames (T, H, W, 3) and samples (n, channels), batch by batch.

    Raises
    ------
    ValueError
        If the model doesn't compare sounds with pictures.
    """
    check_compares(model)
    frames, audio, clips = [], [], []
    for batch in batched(pairs, BATCH_SIZE):
        seen = ((number, model.precompute_frames(shown)) for number, (shown, _, _) in enumerate(batch))
        heard = ((number, samples) for number, (_, samples, _) in enumerate(batch))
        frames += [row for _, row in represent_clips(model, seen)]
        audio += [row for _, row in represent_windows(model, heard)]
        clips += [clip for _, _, clip in batch]
    numbers = {source: number for number, source in enumerate(dict.fromkeys(clip.source for clip in clips))}
    video = np.array([numbers[clip.source] for clip in clips])
    labels = tuple(next(iter(clip.labels), None) for clip in clips)
    return Represented(torch.stack(frames), torch.stack(audio), video, labels)


def avc(model: Compares, pairs: Represented, seed: int) -> dict[str, float]:
    """Measure accuracy on true pairs against as many negatives, in percent.

    Returns
    -------
    figures : dict
        "own decision": balanced accuracy at probability 0.5; "threshold": with the threshold that is best on the other
        half of the videos; "2AFC other clip" and "2AFC same clip": how often the true sound beats one negative;
        "AUC": area under the ROC curve of the score, times 100; and the mean scores of both kinds of pair.
    """
    rng = np.random.default_rng(seed)
    positive = _scores(model, pairs, None)
    other = _scores(model, pairs, OtherClip().choose(pairs.video, rng))
    same = _scores(model, pairs, SameClip().choose(pairs.video, rng))
    half = rng.permutation(pairs.video.max() + 1)[pairs.video] % 2 == 0
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


def prefers_own(model: Compares, pairs: Iterable[tuple[np.ndarray, np.ndarray, StoredClip]], seed: int) -> Share:
    """Measure how often the first of two sounds has the higher score; a tie is half a win.

    Parameters
    ----------
    model : Compares
    pairs : iterable
        Frames (T, H, W, 3), two windows of sound (2, n, channels), and their clip.
    seed : int
        Of the interval, for which whole places are drawn anew.

    Raises
    ------
    ValueError
        If the model doesn't compare sounds with pictures, or there are no pairs.
    """
    check_compares(model)
    wins: list[np.ndarray] = []
    places: list[str] = []
    for batch in batched(pairs, BATCH_SIZE):
        shown = ((number, model.precompute_frames(frames)) for number, (frames, _, _) in enumerate(batch))
        frames = torch.stack([row for _, row in represent_clips(model, shown)])
        sounds = zip(*(samples for _, samples, _ in batch), strict=True)  # all own ones, then all others
        heard = [torch.stack([row for _, row in represent_windows(model, enumerate(each))]) for each in sounds]
        wins.append(_wins(*(probabilities(model, frames, audio).cpu().numpy() for audio in heard)))
        places += [clip.place for _, _, clip in batch]
    if not places:
        raise ValueError(f"no moment is loud enough, with {model.name}'s window of sound and another beside it")
    return share(np.concatenate(wins), np.array(places), seed)


def _scores(model: Compares, pairs: Represented, partners: np.ndarray | None) -> np.ndarray:
    """Score each pair's frames with its own sound, or with that of its partner in `partners` (n,): (n,)."""
    audio = pairs.audio if partners is None else pairs.audio[partners]
    return probabilities(model, pairs.frames, audio).cpu().numpy()


def _wins(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Count 1 where the true pair's score is higher, 1/2 where both are equal."""
    return (positive > negative) + 0.5 * (positive == negative)


def _threshold_accuracy(positive: np.ndarray, negative: np.ndarray, test: np.ndarray) -> float:
    """Measure the balanced accuracy on `test` with the threshold that is best on the rest."""
    candidates = np.unique(np.concatenate([positive[~test], negative[~test]]))
    accuracy = [(positive[~test] >= value).mean() + (negative[~test] < value).mean() for value in candidates]
    best = candidates[int(np.argmax(accuracy))]
    return ((positive[test] >= best).mean() + (negative[test] < best).mean()) / 2


def score_matrix(model: Compares, frames: Tensor, audio: Tensor) -> np.ndarray:
    """Score each clip's frames (rows) with each sound (columns): the probability of correspondence."""
    rows = [probabilities(model, row.expand(len(audio), *row.shape), audio).cpu().numpy() for row in frames]
    return np.stack(rows)


def retrieval(model: Compares, pairs: Represented, seed: int, size: int = 100, draws: int = 50) -> dict[str, float]:
    """Measure how often the partner is among the best of `size` candidates of different videos, in percent.

    Figures are means over `draws` random galleries, and over all orders of candidates with equal scores: a model that
    gives all candidates the same score is at chance.

    Raises
    ------
    ValueError
        If there are pairs of fewer than `size` videos.
    """
    rng = np.random.default_rng(seed)
    videos = np.unique(pairs.video)
    if len(videos) < size:
        raise ValueError(f"{size}-way retrieval needs pairs of {size} clips, there are {len(videos)}")
    hits: dict[str, list[float]] = {}
    for _ in range(draws):
        rows = [rng.choice(np.flatnonzero(pairs.video == video)) for video in rng.choice(videos, size, replace=False)]
        scores = score_matrix(model, pairs.frames[rows], pairs.audio[rows])
        for name, matrix in (("image to audio", scores), ("audio to image", scores.T)):
            for k, recall in _recalls(matrix).items():
                hits.setdefault(f"{name} R@{k}", []).append(recall)
    figures = {name: 100 * float(np.mean(recalls)) for name, recalls in hits.items()}
    for k in (1, 5, 10):
        figures[f"mean R@{k}"] = (figures[f"image to audio R@{k}"] + figures[f"audio to image R@{k}"]) / 2
    return figures


def _recalls(scores: np.ndarray) -> dict[int, float]:
    """Measure the share of queries (rows) whose own partner, on the diagonal, is among the best 1, 5 and 10."""
    true = np.diag(scores)[:, None]
    better, ties = (scores > true).sum(axis=1), (scores == true).sum(axis=1)
    return {k: float(np.clip((k - better) / ties, 0, 1).mean()) for k in (1, 5, 10)}
