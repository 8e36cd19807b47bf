"""The field's figures of maps against boxes: cIoU and AUC, AP and F1, with controls and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import ciou
from .bootstrap import share

Rows = dict[str, dict[str, str]]  # row -> column -> cell
Maps = dict[str, list[np.ndarray]]  # name -> map (h, w) of each picture


@dataclass(frozen=True)
class Report:
    """The results of a measurement: tables to print, and the figures that sum them up."""

    tables: dict[str, Rows]  # by title
    figures: dict[str, float]


def centre_map() -> np.ndarray:
    """Make a map that is highest in the middle of the picture; its higher half is a box in the centre."""
    off = np.abs((np.arange(ciou.SIZE) + 0.5) / ciou.SIZE - 0.5)
    return -np.maximum(off[:, None], off[None])


def field_report(
    maps: Maps,
    targets: list[np.ndarray],
    hits: dict[str, np.ndarray],
    negatives: tuple[str, ...],
    groups: np.ndarray,
    seed: int,
) -> Report:
    """Measure the maps for several sounds: cIoU, AUC, and AP and F1 against sounds that aren't in the picture.

    Parameters
    ----------
    maps : dict of str to list of ndarray, shape (h, w)
        Maps of the same pictures, by name; "own sound" is one of them.
    targets : list of ndarray, shape (224, 224)
        As returned by `ciou.target_of`.
    hits : dict of str to ndarray, shape (pictures,)
        1 where the map's highest cell is right, by the same names.
    negatives : tuple of str
        Names of maps whose sound isn't in the picture.
    groups : ndarray, shape (pictures,)
        As in `bootstrap.share`.
    seed : int
        Seed of the intervals.
    """
    maps = maps | {"centre": [centre_map()] * len(targets)}
    ious = {name: _ious(heatmaps, targets, [0.5] * len(targets)) for name, heatmaps in maps.items()}
    ious["best possible"] = np.array([ciou.best_iou(target) for target in targets])
    areas = [float((target > 0).mean()) for target in targets]
    known = {name: _ious(heatmaps, targets, areas) for name, heatmaps in maps.items()}
    rows = {
        name: {"cIoU@0.5": str(share(values >= 0.5, groups, seed)), "AUC": f"{ciou.success_curve_area(values):.1f}"}
        | ({"cIoU@0.5, area known": str(share(known[name] >= 0.5, groups, seed))} if name in known else {})
        | ({"highest place": f"{100 * np.mean(hits[name]):.1f}"} if name in hits else {})
        for name, values in ious.items()
    }
    right = {"IoU >= 0.5": ious["own sound"] >= 0.5, "its highest place is in the box": hits["own sound"] == 1}
    detected, detection_figures = _detection(maps, right, negatives)
    titles = "the higher half of the pixels taken", "confidence: the map's maximum; a map is right if"
    return Report(dict(zip(titles, (rows, detected), strict=True)), _iou_figures(ious, known) | detection_figures)


def _ious(heatmaps: Sequence[np.ndarray], targets: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    return np.array([ciou.iou(*each) for each in zip(heatmaps, targets, shares, strict=True)])


def _iou_figures(ious: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> dict[str, float]:
    figures = {}
    for name in ("own sound", "centre"):
        figures[f"cIoU@0.5, {name}"] = ciou.success(ious[name])
        figures[f"AUC, {name}"] = ciou.success_curve_area(ious[name])
        figures[f"cIoU@0.5 with the area known, {name}"] = ciou.success(known[name])
    figures["cIoU@0.5, best possible"] = ciou.success(ious["best possible"])
    return figures


def _detection(maps: Maps, right: dict[str, np.ndarray], negatives: tuple[str, ...]) -> tuple[Rows, dict[str, float]]:
    """Measure AP and F1 of each picture once with its own sound, and once with one that isn't there."""
    rows: Rows = {}
    figures: dict[str, float] = {}
    for negative in negatives:
        confidence = [heatmap.max() for heatmap in maps["own sound"] + maps[negative]]
        positive = np.repeat([True, False], len(maps["own sound"]))
        for name, correct in right.items():
            ap, f1 = ciou.average_precision(confidence, np.tile(correct, 2), positive)
            rows[f"{name}; against {negative}"] = {"AP": f"{ap:.1f}", "max F1": f"{f1:.1f}"}
            figures[f"AP against {negative}, right if {name}"] = ap
            figures[f"max F1 against {negative}, right if {name}"] = f1
    return rows, figures
