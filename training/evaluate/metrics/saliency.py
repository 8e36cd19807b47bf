"""Maps of what stands out in a picture, without any sound, from the features of a network's picture tower."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from openavc.inference.localization import uncropped_batches
from openavc.models.contract import Localizes

from ..networks.capabilities import check_towers


def tower_features(model: Localizes, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Compute the picture tower's last maps.

    Parameters
    ----------
    model : Localizes
        Must also have towers.
    pictures : iterable of ndarray, shape (H, W, 3)
        Float32 in [0, 1].

    Returns
    -------
    features : list of ndarray, shape (C, h, w)
        In half precision, as the features of an entire corpus are kept.

    Raises
    ------
    ValueError
        If the model has no towers.
    """
    check_towers(model)
    features = []
    for batch in uncropped_batches(model, (picture[None] for picture in pictures)):
        with torch.inference_mode():
            features += list(model.image_tower(batch).float().cpu().numpy().astype(np.float16))
    return features


def saliency(features: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Measure what stands out in each picture by its features (C, h, w).

    Returns
    -------
    maps : dict of str to list of ndarray, shape (h, w)
        "feature norm": the length of the features; "unusual features": the length of their z-scores, by the statistics
        of all cells of all pictures.
    """
    count = sum(values[0].size for values in features)
    mean = sum(values.sum(axis=(1, 2), dtype=np.float64) for values in features) / count
    mean_square = sum(np.square(values, dtype=np.float64).sum(axis=(1, 2)) for values in features) / count
    deviation = np.sqrt(np.maximum(mean_square - mean**2, 0)) + 1e-6
    scored = ((values - mean[:, None, None]) / deviation[:, None, None] for values in features)
    return {
        "feature norm": [np.linalg.norm(values.astype(np.float32), axis=0) for values in features],
        "unusual features": [np.linalg.norm(values, axis=0) for values in scored],
    }
