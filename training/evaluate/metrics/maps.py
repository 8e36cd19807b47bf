"""Maps of pictures for sounds that are played to them.

Maps are logits: probabilities that round to 1 would tie.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from openavc.inference.batches import represent_windows
from openavc.inference.localization import map_logits
from openavc.models.contract import Localizes


def hear(model: Localizes, windows: Iterable[np.ndarray]) -> Tensor:
    """Represent windows of sound, each (n, channels), as `localize` takes them: (windows, D)."""
    return torch.stack([row for _, row in represent_windows(model, enumerate(windows))])


def silence(model: Localizes) -> Tensor:
    """Represent a window of silence as `localize` takes it: (1, D)."""
    return hear(model, [np.zeros((model.sound.samples, model.sound.channels), np.float32)])


def mean_maps(model: Localizes, seen: Tensor, sounds: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Map one picture for each of several sounds.

    Parameters
    ----------
    model : Localizes
    seen : Tensor, shape (D, h, w)
        The picture as `localize` takes it.
    sounds : dict of str to Tensor, shape (windows, D)
        Each sound, by its windows, as `localize` takes it.

    Returns
    -------
    maps : dict of str to ndarray, shape (h, w)
        Mean logits over the windows of each sound.
    """
    logits = map_logits(model, seen, torch.cat(list(sounds.values()))).float().cpu().numpy()
    ends = np.cumsum([len(rows) for rows in sounds.values()])[:-1]
    return {name: part.mean(axis=0) for name, part in zip(sounds, np.split(logits, ends), strict=True)}
