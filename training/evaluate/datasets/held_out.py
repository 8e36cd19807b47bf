"""True pairs of held-out shards: a clip of frames and the sound around it, at random loud moments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.media.loudness import QUIETEST
from openavc.models.contract import AudioVisualModel

from ...corpora.loudness import loud_moments
from ...corpora.shards import Shards, StoredClip, frames_with_room
from ..networks.capabilities import check_compares
from .moments import Span


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
        """Draw up to `per_clip` true pairs of each stored clip, inside it and loud enough, without augmentation.

        Yields
        ------
        frames : ndarray, shape (T, height, width, 3), float32 in [0, 1]
            At the network's size.
        samples : ndarray, shape (n, channels)
            The window of sound around the middle frame.
        clip : StoredClip
            Stored clip of both.
        """
        sound, frames = self.model.sound, self.model.frames
        for number, stored in enumerate(self.shards.clips):
            rng = np.random.default_rng([self.seed, number])

            def read(index: int, stored: StoredClip = stored) -> np.ndarray:
                time = float(stored.frame_times[index])
                return self.shards.sound(stored, time, sound.seconds, sound.sample_rate, sound.channels)

            indices = rng.permutation(np.flatnonzero(frames_with_room(stored, sound.seconds, frames)))
            for index, samples in itertools.islice(loud_moments(read, indices, QUIETEST), self.per_clip):
                yield self.shards.frames_at(stored, index, frames), samples, stored


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
