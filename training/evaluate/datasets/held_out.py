"""True pairs of held-out shards: a clip of frames and the sound around it, at random loud moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.models.contract import AudioVisualModel

from ...corpora.shards import Shards, StoredClip
from ...pairs import held_out_pairs
from ..capabilities import check_compares
from .moments import Span

QUIETEST = -42.0  # dBFS, least loudness of a window that an evaluation takes


@dataclass(frozen=True)
class HeldOut:
    """The pairs of some shards, cut for one network.

    Each pass reads the same pairs anew, so memory holds only those in use.
    """

    shards: Shards
    model: AudioVisualModel  # only its inputs are used
    per_clip: int
    seed: int

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, StoredClip]]:
        """Yield frames (T, H, W, 3), samples (n, channels) and the stored clip that both are from."""
        return held_out_pairs(self.shards, self.model, self.per_clip, self.seed, QUIETEST)


def load_pairs(model: AudioVisualModel, data: Path, per_clip: int, seed: int) -> HeldOut:
    """Choose up to `per_clip` pairs of each clip of a folder of shards.

    Raises
    ------
    ValueError
        If the model doesn't compare sounds with pictures, or all of `data` is too quiet or too short.
    """
    check_compares(model)
    pairs = HeldOut(Shards(data), model, per_clip, seed)
    if next(iter(pairs), None) is None:
        raise ValueError(f"no moment of {data} is above {QUIETEST:g} dBFS, with {Span.of([model])} around a frame")
    return pairs
