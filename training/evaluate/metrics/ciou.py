"""The field's scores of a map against the box of the sound source: cIoU, its area under the curve, AP and F1.

A target is (224, 224), the weight of each pixel: 1 where the annotators agree that it sounds. As in Localizing Visual
Sounds the Hard Way (arXiv 2104.02691) and its code, the higher half of the pixels is the answer, so with a box smaller
than a quarter of the picture no map can reach an IoU of 0.5; `best_iou` returns the highest that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from openavc.media.image import resize

SIZE = 224  # pixels, of the square in which maps and boxes are compared
THRESHOLDS = np.arange(21) / 20  # of the IoU, for the area under the curve


def target_of(boxes: Sequence[tuple[float, ...]], agreeing: int = 1) -> np.ndarray:
    """Weight each pixel by the number of boxes that contain it, divided by `agreeing`, at most 1: (224, 224).

    Parameters
    ----------
    boxes : list of (x0, y0, x1, y1)
        Fractions of the picture; parts outside it are cut off, and edges are rounded down to pixels.
    agreeing : int
        Number of annotators that make a consensus: 2 for Flickr-SoundNet, 1 where there is a single annotation.
    """
    votes = np.zeros((SIZE, SIZE), np.float32)
    for box in boxes:
        left, top, right, bottom = (int(SIZE * min(max(edge, 0), 1)) for edge in box)
        votes[top:bottom, left:right] += 1
    return np.minimum(votes / agreeing, 1)


def iou(heatmap: np.ndarray, target: np.ndarray, share: float = 0.5) -> float:
    """Measure the consensus intersection over union of a map with a target.

    The map is enlarged bilinearly. Only the order of its values matters, so it needs no scaling to [0, 1].

    Parameters
    ----------
    heatmap : ndarray, shape (h, w)
    target : ndarray, shape (224, 224)
        As returned by `target_of`.
    share : float
        Share of the pixels, the highest ones, that is the answer.
    """
    pixels = resize(heatmap.astype(np.float32), SIZE, SIZE)
    rank = min(int(pixels.size * (1 - share)), pixels.size - 1)
    answer = pixels > np.partition(pixels.ravel(), rank)[rank]
    union = target.sum() + (answer & (target == 0)).sum()
    return float(target[answer].sum() / max(union, 1))


def best_iou(target: np.ndarray) -> float:
    """Return the highest IoU that an answer of half of the pixels can have with a target."""
    size, half = (target > 0).sum(), SIZE * SIZE / 2
    kept = np.sort(target.ravel())[::-1][: int(half)].sum()
    return float(kept / (target.sum() + max(0, half - size)))


def success(ious: ArrayLike) -> float:
    """Return the percentage of pictures whose IoU is 0.5 or more: cIoU@0.5."""
    return 100 * float(np.mean(np.asarray(ious) >= 0.5))


def success_curve_area(ious: ArrayLike) -> float:
    """Return the area under the share of pictures at or above each IoU of 0, 0.05, ..., 1, times 100: AUC."""
    shares = [np.mean(np.asarray(ious) >= value) for value in THRESHOLDS]
    return 100 * float(np.mean(shares) * len(shares) - (shares[0] + shares[-1]) / 2) * THRESHOLDS[1]


def average_precision(confidence: ArrayLike, right: ArrayLike, positive: ArrayLike) -> tuple[float, float]:
    """Measure AP and the highest F1, in percent, where some pictures lack the sound's source (SLAVC, arXiv 2209.09634).

    At each threshold, the pictures at least as confident are detections: true if they are positive and their map is
    right, else false. Positives below it are missed. A wrong map lowers the precision but not the recall, as in SLAVC's
    code.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Confidence that something in the picture sounds.
    right : array_like of bool, shape (n,)
        Whether the map points at the source; ignored for negatives.
    positive : array_like of bool, shape (n,)
        Whether the source is in the picture.
    """
    confidence, positive = np.asarray(confidence), np.asarray(positive)
    order = np.argsort(-confidence, kind="stable")
    true = np.cumsum((np.asarray(right) & positive)[order])
    below = positive.sum() - np.cumsum(positive[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences are taken together
    precision = (true / np.arange(1, len(order) + 1))[last]
    recall = (true / np.maximum(true + below, 1))[last]
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return 100 * float(np.sum(ceiling * np.diff(recall, prepend=0))), 100 * float(f1.max())
