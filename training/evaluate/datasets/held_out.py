"""True pairs of held-out shards: a clip of frames and the sound around it, at random loud moments; or beside it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.media.loudness import QUIETEST, loudness
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
        frames = self.model.frames
        for number, stored in enumerate(self.shards.clips):
            rng = np.random.default_rng([self.seed, number])
            indices = rng.permutation(np.flatnonzero(frames_with_room(stored, self.model.sound.seconds, frames)))
            read = functools.partial(self.heard, stored)
            for index, samples in itertools.islice(loud_moments(read, indices, QUIETEST), self.per_clip):
                yield self.shards.frames_at(stored, index, frames), samples, stored

    def heard(self, stored: StoredClip, index: int, later: float = 0.0) -> np.ndarray:
        """Read the window of sound around a frame, or so many seconds after it: (n, channels)."""
        sound, time = self.model.sound, float(stored.frame_times[index]) + later
        return self.shards.sound(stored, time, sound.seconds, sound.sample_rate, sound.channels)


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


@dataclass(frozen=True)
class Beside(HeldOut):
    """The same with a second sound in each pair, that of the same clip `seconds` earlier or later."""

    seconds: float = 0.5

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, StoredClip]]:
        """Draw up to `per_clip` pairs of each stored clip, both of whose sounds lie inside it and are loud enough.

        Yields
        ------
        frames : ndarray, shape (T, height, width, 3), float32 in [0, 1]
            At the network's size.
        samples : ndarray, shape (2, n, channels)
            The window of sound around the middle frame, and the one beside it.
        clip : StoredClip
            Stored clip of all.
        """
        frames = self.model.frames
        room = self.model.sound.seconds + 2 * self.seconds
        for number, stored in enumerate(self.shards.clips):
            rng = np.random.default_rng([self.seed, number])

            def read(index: int, stored: StoredClip = stored, rng: np.random.Generator = rng) -> np.ndarray:
                beside = self.seconds * rng.choice([-1, 1])
                return np.stack([self.heard(stored, index), self.heard(stored, index, beside)])

            indices = rng.permutation(np.flatnonzero(frames_with_room(stored, room, frames)))
            drawn = loud_moments(read, indices, QUIETEST)
            loud = (pair for pair in drawn if min(map(loudness, pair[1])) >= QUIETEST)
            for index, samples in itertools.islice(loud, self.per_clip):
                yield self.shards.frames_at(stored, index, frames), samples, stored
