"""Does a map point at what sounds? Hits of true boxes, beside controls that hear something else or nothing.

A map hits if the middle of its highest place lies in the box (Objects that Sound, section 4.2). Maps are logits:
probabilities that round to 1 would tie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from openavc.correspondence import represent_windows
from openavc.image import fit, whole
from openavc.inference import prepared_audio, prepared_images, run_batches
from openavc.localization import map_logits, represent_whole

from ..data import Shards
from . import ciou
from .bootstrap import interval
from .encounters import Box, Scene, Sound
from .tables import table

PRIOR_SOUNDS = 64  # whose mean map stands for hearing nothing
SETTLING = 256  # pictures and sounds that `settle` is given, at most


@dataclass(frozen=True)
class Share:
    """A percentage, or the difference of two, with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def share(values: np.ndarray, places: np.ndarray, seed: int) -> Share:
    """Mean of `values` (n,) in percent; whole `places` (n,) are drawn anew for the interval."""
    values = 100 * np.asarray(values, np.float64)
    return Share(float(np.mean(values)), *interval(values, places, seed))


def settle(network, pictures: list[np.ndarray], waveforms: list[np.ndarray]) -> None:
    """Give an untrained network's BatchNorm the statistics of some pictures and as many sounds.

    With those that it begins with, the padding at the borders decides where a map is highest.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    parameter = next(network.parameters())
    squares = np.stack([fit(picture, network.image_size) for picture in pictures])
    images, sounds = (torch.from_numpy(np.asarray(each)).to(parameter.device) for each in (squares, waveforms))
    network.train()
    with torch.inference_mode():
        for image, sound in zip(images.split(64), sounds.split(64), strict=True):
            network.represent_image(prepared_images(network, image))
            network.represent_audio(prepared_audio(network, sound))
    network.eval()


def hear(model, shards: Shards, sounds: list[Sound]) -> list[np.ndarray]:
    """What `localize` takes of each sound, (windows, D)."""
    windows = (
        ((number, middle), shards.waveform(sound.clip, middle, model.window_seconds, model.sample_rate))
        for number, sound in enumerate(sounds)
        for middle in sound.middles
    )
    vectors: list[list] = [[] for _ in sounds]
    for (number, _), vector in represent_windows(model, windows):
        vectors[number].append(vector)
    return [np.stack(found) for found in vectors]


def silence(model) -> np.ndarray:
    """What `localize` takes of no sound at all: (1, D)."""
    zeros = np.zeros(round(model.window_seconds * model.sample_rate), np.float32)
    return np.stack([vector for _, vector in represent_windows(model, [(0, zeros)])])


def see(model, shards: Shards, scenes: list[Scene]) -> list[np.ndarray]:
    """What `localize` takes of each picture: (D, h, w)."""
    return represent_whole(model, (shards.frame(scene.clip, scene.frame) for scene in scenes))


def tower_features(model, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The picture tower's last features at each place, (C, h, w) in half precision, to keep them all."""
    prepared = (whole(picture, model.image_size, model.map_stride) for picture in pictures)
    network = run_batches(enumerate(prepared), 16, model, lambda b: model.image_tower(prepared_images(model, b)))
    return [features.astype(np.float16) for _, features in network]


def saliency(features: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """What stands out without any sound: maps (h, w) of each picture from its features.

    Their length, and the length of their z-scores by the statistics of all places of all pictures.
    """
    count = sum(found[0].size for found in features)
    mean = sum(found.sum(axis=(1, 2), dtype=np.float64) for found in features) / count
    square = sum(np.square(found, dtype=np.float64).sum(axis=(1, 2)) for found in features) / count
    deviation = np.sqrt(np.maximum(square - mean**2, 0)) + 1e-6
    scored = ((found - mean[:, None, None]) / deviation[:, None, None] for found in features)
    return {
        "feature norm": [np.linalg.norm(found.astype(np.float32), axis=0) for found in features],
        "unusual features": [np.linalg.norm(found, axis=0) for found in scored],
    }


def maps(model, seen: np.ndarray, sounds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits (h, w) of one picture for each of the sounds: the mean over its windows (n, D)."""
    places = map_logits(model, seen, np.concatenate(list(sounds.values())))
    ends = np.cumsum([len(vectors) for vectors in sounds.values()])[:-1]
    return {name: part.mean(axis=0) for name, part in zip(sounds, np.split(places, ends), strict=True)}


def highest(heatmap: np.ndarray) -> tuple[float, float]:
    """Middle of the highest place of a map (h, w): x and y, fractions of the picture."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return (column + 0.5) / heatmap.shape[1], (row + 0.5) / heatmap.shape[0]


def inside(point: tuple[float, float], box: Box) -> bool:
    x, y, width, height = box
    return x <= point[0] < x + width and y <= point[1] < y + height


def centre_map() -> np.ndarray:
    """Highest in the middle of the picture; its higher half is a box in the centre."""
    off = np.abs((np.arange(ciou.SIZE) + 0.5) / ciou.SIZE - 0.5)
    return -np.maximum(off[:, None], off[None])


@dataclass(frozen=True)
class Report:
    """What was measured: tables to print, and the figures that sum it up."""

    tables: dict[str, dict[str, dict[str, str]]]  # title -> row -> column -> cell
    figures: dict[str, float]

    def __str__(self) -> str:
        return "\n\n".join(table(title, rows) for title, rows in self.tables.items())


def box_hits(heatmaps: list[np.ndarray], boxes: list[Box]) -> np.ndarray:
    """1 where the highest place lies in the box, else 0: (n,)."""
    return np.array([inside(highest(heatmap), box) for heatmap, box in zip(heatmaps, boxes, strict=True)], float)


def reachable(heatmap: np.ndarray, box: Box) -> bool:
    """Whether the middle of some place of a map lies in the box."""
    height, width = heatmap.shape
    return any(inside(((k + 0.5) / width, (j + 0.5) / height), box) for j in range(height) for k in range(width))


def field_report(
    found: dict[str, list],
    truths: list[np.ndarray],
    hits: dict[str, np.ndarray],
    negatives: tuple[str, ...],
    places: np.ndarray,
    seed: int,
) -> Report:
    """The field's figures of maps by what is played: cIoU, AUC, and AP and F1 against sounds that aren't there.

    Parameters
    ----------
    found : dict of str to list of ndarray, shape (h, w)
        Maps of the same pictures; "own sound" is one of them.
    truths : list of ndarray, shape (224, 224)
        As `ciou.truth` gives.
    hits : dict of str to ndarray, shape (pictures,)
        1 where the map's highest place is right, by the same names.
    negatives : tuple of str
        Names of maps whose sound isn't in the picture.
    places : ndarray, shape (pictures,)
        As `share` takes.
    """
    found = found | {"centre": [centre_map()] * len(truths)}
    ious = {name: _ious(heatmaps, truths, [0.5] * len(truths)) for name, heatmaps in found.items()}
    ious["best possible"] = np.array([ciou.best_iou(target) for target in truths])
    known = {name: _ious(heatmaps, truths, [(t > 0).mean() for t in truths]) for name, heatmaps in found.items()}
    rows = {
        name: {"cIoU@0.5": str(share(values >= 0.5, places, seed)), "AUC": f"{ciou.success_curve_area(values):.1f}"}
        | ({"cIoU@0.5, area known": str(share(known[name] >= 0.5, places, seed))} if name in known else {})
        | ({"highest place": f"{100 * np.mean(hits[name]):.1f}"} if name in hits else {})
        for name, values in ious.items()
    }
    figures = {}
    for name in ("own sound", "centre"):
        figures[f"cIoU@0.5, {name}"] = ciou.success(ious[name])
        figures[f"AUC, {name}"] = ciou.success_curve_area(ious[name])
        figures[f"cIoU@0.5 with the area known, {name}"] = ciou.success(known[name])
    figures["cIoU@0.5, best possible"] = ciou.success(ious["best possible"])
    right = {"IoU >= 0.5": ious["own sound"] >= 0.5, "its highest place is in the box": hits["own sound"] == 1}
    detected, more = _detection(found, right, negatives)
    titles = "the higher half of the pixels taken", "confidence: the map's maximum; a map is right if"
    return Report(dict(zip(titles, (rows, detected), strict=True)), figures | more)


def _ious(heatmaps: list[np.ndarray], truths: list[np.ndarray], shares: list[float]) -> np.ndarray:
    return np.array([ciou.iou(*each) for each in zip(heatmaps, truths, shares, strict=True)])


def _detection(found: dict[str, list], right: dict[str, np.ndarray], negatives: tuple[str, ...]):
    """Rows and figures of AP and F1: each picture once with its own sound, once with one that isn't there."""
    rows, figures = {}, {}
    for negative in negatives:
        confidence = [heatmap.max() for heatmap in found["own sound"] + found[negative]]
        positive = np.repeat([True, False], len(found["own sound"]))
        for name, correct in right.items():
            ap, f1 = ciou.average_precision(confidence, np.tile(correct, 2), positive)
            rows[f"{name}; against {negative}"] = {"AP": f"{ap:.1f}", "max F1": f"{f1:.1f}"}
            figures |= {f"AP against {negative}, right if {name}": ap}
            figures |= {f"max F1 against {negative}, right if {name}": f1}
    return rows, figures
