"""PNG pictures of what units respond to: top moments, heatmaps, t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from openavc.inference.batches import prepared_audio, stacked
from openavc.models.contract import AudioVisualModel

from ..datasets.unit_moments import Moments
from ..metrics.selectivity import Unit
from ..metrics.unit_maps import feature_maps


def draw_units(path: Path, model: AudioVisualModel, modality: str, moments: Moments, units: Sequence[Unit]) -> None:
    """Draw a row of top moments for each unit, each with the unit's activation laid over it.

    For pictures each unit has two lines: the frame, and the frame under its heatmap. For sounds it has three: the
    accompanying frame, the spectrogram (low frequencies below), and the spectrogram under its heatmap.

    Parameters
    ----------
    path : Path
        PNG file to write.
    model : HasTowers
    modality : {"image", "audio"}
    moments : Moments
    units : sequence of Unit
        Units, each with the same number of top moments.
    """
    from matplotlib.figure import Figure

    lines, columns = 2 if modality == "image" else 3, len(units[0].top)
    figure = Figure(figsize=(1.7 * columns + 1.6, 1.3 * lines * len(units)), layout="constrained")
    axes = figure.subplots(lines * len(units), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for row, unit in enumerate(units):
        cells = axes[lines * row : lines * (row + 1)]
        cells[0, 0].set_ylabel(f"unit {unit.number}\n{unit.label}\n{unit.purity:.0%}", rotation=0, ha="right", va="top")
        for column, feature_map in enumerate(feature_maps(model, modality, moments, unit.top)):
            _draw_moment(cells[:, column], model, modality, moments, unit.top[column], feature_map[unit.number])
    figure.savefig(path, dpi=80)


def _draw_moment(
    cells: Any, model: AudioVisualModel, modality: str, moments: Moments, index: int, feature_map: np.ndarray
) -> None:
    (frames,) = moments.frames(model, [index])
    picture = frames[len(frames) // 2]
    cells[0].imshow(picture)
    cells[0].set_title(f"{feature_map.max():.1f} {moments.labels[index]}", fontsize=7)
    if modality == "image":
        cells[1].imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=1)
        _overlay(cells[1], heatmap(feature_map, picture.shape[:2]), "upper", "equal")
        return
    with torch.inference_mode():
        prepared = prepared_audio(model, stacked(model, list(moments.sounds(model, [index]))))
    spectrogram = prepared[0, 0].float().cpu().numpy()
    for cell, colours in zip(cells[1:], ("magma", "gray"), strict=True):
        cell.imshow(spectrogram, origin="lower", aspect="auto", cmap=colours)
    _overlay(cells[2], heatmap(feature_map, spectrogram.shape), "lower", "auto")


def heatmap(feature_map: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Enlarge one unit's map (h, w) bilinearly to a shape (H, W), as if it covered the entire input."""
    enlarged = F.interpolate(torch.from_numpy(feature_map)[None, None], shape, mode="bilinear", align_corners=False)
    return enlarged[0, 0].numpy()


def _overlay(axis: Any, values: np.ndarray, origin: str, aspect: str) -> None:
    top = max(float(values.max()), 1e-9)
    axis.imshow(values, origin=origin, aspect=aspect, cmap="jet", alpha=0.45, vmin=0, vmax=top)


def draw_scatter(path: Path, points: np.ndarray, labels: np.ndarray, title: str) -> None:
    """Draw points (n, 2), coloured by label; the legend names the 20 most frequent labels.

    Parameters
    ----------
    path : Path
        PNG file to write.
    points : ndarray, shape (n, 2)
    labels : ndarray of str, shape (n,)
    title : str
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axis = figure.subplots()
    names, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    colours = matplotlib.colormaps["tab20"]
    for rank, name in enumerate(names[order]):
        chosen = labels == name
        shown = str(name) if rank < 20 else None
        axis.scatter(*points[chosen].T, s=8, color=colours(rank % 20), marker="o^s"[rank // 20 % 3], label=shown)
    axis.set(xticks=[], yticks=[], title=title)
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=100)
