"""Maps of pictures for the sounds that are played to them.

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
    """Give what `localize` takes of some windows of sound, each (n, channels): (windows, D)."""
    return torch.stack([row for _, row in represent_windows(model, enumerate(windows))])


def silence(model: Localizes) -> Tensor:
    """Give what `localize` takes of no sound at all: (1, D)."""
    return hear(model, [np.zeros((model.sound.samples, model.sound.channels), np.float32)])


def mean_maps(model: Localizes, seen: Tensor, sounds: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Map one picture for each of some sounds.

    Parameters
    ----------
    model : Localizes
    seen : Tensor, shape (D, h, w)
        What `localize` takes of the picture.
    sounds : dict of str to Tensor, shape (windows, D)
        What it takes of each sound.

    Returns
    -------
    maps : dict of str to ndarray, shape (h, w)
        For each sound the mean logits over its windows.
    """
    logits = map_logits(model, seen, torch.cat(list(sounds.values()))).float().cpu().numpy()
    ends = np.cumsum([len(rows) for rows in sounds.values()])[:-1]
    return {name: part.mean(axis=0) for name, part in zip(sounds, np.split(logits, ends), strict=True)}
