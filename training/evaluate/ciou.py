"""How the field scores a map against the box of what sounds: cIoU, its area under the curve, AP and F1.

A truth is (224, 224), the weight of each pixel: 1 where the annotators agree that it sounds. As in Localizing Visual
Sounds the Hard Way (arXiv 2104.02691) and its code, the half of the pixels that are highest is taken for the answer,
so a box below a quarter of the picture can't reach an IoU of 0.5 whatever the map; `best_iou` says what can be.
"""

from __future__ import annotations

import numpy as np

from openavc.image import resize

SIZE = 224  # pixels, of the square in which maps and boxes are compared
THRESHOLDS = np.arange(21) / 20  # of the IoU, for the area under the curve


def truth(boxes: list[tuple], agreeing: int = 1) -> np.ndarray:
    """Weight of each pixel, (224, 224): how many of the boxes hold it over `agreeing`, at most 1.

    Parameters
    ----------
    boxes : list of (x0, y0, x1, y1)
        Fractions of the picture; what lies outside it is cut off, and edges are rounded down to pixels.
    agreeing : int
        How many annotators make a consensus: 2 for Flickr-SoundNet's, 1 where there is a single annotation.
    """
    votes = np.zeros((SIZE, SIZE), np.float32)
    for box in boxes:
        left, top, right, bottom = (int(SIZE * min(max(edge, 0), 1)) for edge in box)
        votes[top:bottom, left:right] += 1
    return np.minimum(votes / agreeing, 1)


def iou(heatmap: np.ndarray, target: np.ndarray, share: float = 0.5) -> float:
    """Consensus intersection over union of a map (h, w) with a truth; `share` of the pixels are the answer.

    The map is enlarged bilinearly. Only the order of its values matters, so it needs no scaling to [0, 1].
    """
    pixels = resize(heatmap.astype(np.float32), SIZE, SIZE)
    place = min(int(pixels.size * (1 - share)), pixels.size - 1)
    answer = pixels > np.partition(pixels.ravel(), place)[place]
    union = target.sum() + (answer & (target == 0)).sum()
    return float(target[answer].sum() / max(union, 1))


def best_iou(target: np.ndarray) -> float:
    """The highest IoU that an answer of half of the pixels can have."""
    size, half = (target > 0).sum(), SIZE * SIZE / 2
    kept = np.sort(target.ravel())[::-1][: int(half)].sum()
    return float(kept / (target.sum() + max(0, half - size)))


def success(ious) -> float:
    """cIoU@0.5: percentage of pictures whose IoU is 0.5 or more."""
    return 100 * float(np.mean(np.asarray(ious) >= 0.5))


def success_curve_area(ious) -> float:
    """AUC: area under the share of pictures at or above each IoU of 0, 0.05, ..., 1, times 100."""
    shares = [np.mean(np.asarray(ious) >= value) for value in THRESHOLDS]
    return 100 * float(np.mean(shares) * len(shares) - (shares[0] + shares[-1]) / 2) * THRESHOLDS[1]


def average_precision(confidence, right, positive) -> tuple[float, float]:
    """AP and the highest F1, in percent, where some pictures have no sounding thing (SLAVC, arXiv 2209.09634).

    At each threshold, of what is as confident a positive whose map is right counts as true, the others as false;
    missed are the positives below it. A wrong map lowers the precision, not the recall, as in SLAVC's code.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        That something in the picture sounds.
    right : array_like of bool, shape (n,)
        Whether the map finds it; ignored for negatives.
    positive : array_like of bool, shape (n,)
        Whether what sounds is in the picture.
    """
    confidence, positive = np.asarray(confidence), np.asarray(positive)
    order = np.argsort(-confidence, kind="stable")
    true = np.cumsum((np.asarray(right) & positive)[order])
    below = positive.sum() - np.cumsum(positive[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # of equal confidence: all or none
    precision = (true / np.arange(1, len(order) + 1))[last]
    recall = (true / np.maximum(true + below, 1))[last]
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return 100 * float(np.sum(ceiling * np.diff(recall, prepend=0))), 100 * float(f1.max())
