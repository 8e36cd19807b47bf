"""Last maps of a network's towers, and the activations of their units: the maps' maxima (pool4 of L3-Net)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from openavc.inference.batches import BATCH_SIZE, prepared_audio, prepared_frames, run_batches
from openavc.models.contract import AudioVisualModel

from ..datasets.unit_moments import Moments
from ..networks.capabilities import check_towers


def feature_maps(
    model: AudioVisualModel, modality: str, moments: Moments, indices: Iterable[int]
) -> Iterator[np.ndarray]:
    """Compute the last map of a tower for each of the given moments.

    Parameters
    ----------
    model : HasTowers
    modality : {"image", "audio"}
    moments : Moments
    indices : iterable of int
        Indices of the moments.

    Yields
    ------
    feature_map : ndarray, shape (C, h, w)
        The maximum over time, where the tower's map also has time.

    Raises
    ------
    ValueError
        If the model has no towers.
    """
    check_towers(model)
    indices = list(indices)
    if modality == "image":
        clips = map(model.precompute_frames, moments.frames(model, indices))
        rows = run_batches(enumerate(clips), BATCH_SIZE, model, lambda b: model.image_tower(prepared_frames(model, b)))
    else:
        windows = moments.sounds(model, indices)
        rows = run_batches(enumerate(windows), BATCH_SIZE, model, lambda b: model.audio_tower(prepared_audio(model, b)))
    for _, row in rows:
        spatial = row.flatten(1, -3).amax(dim=1) if row.dim() > 3 else row  # (C, ..., h, w)
        yield spatial.float().cpu().numpy()


def activations(model: AudioVisualModel, modality: str, moments: Moments) -> np.ndarray:
    """Compute the activation of each unit at each moment: (moments, C)."""
    maps = feature_maps(model, modality, moments, range(len(moments)))
    return np.stack([feature_map.max(axis=(1, 2)) for feature_map in maps])
