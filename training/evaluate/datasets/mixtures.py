"""Mixtures of held-out clips: the sound of one, which is on screen, and that of another, which is off screen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openavc.media.loudness import QUIETEST
from openavc.models.contract import AudioVisualModel

from ...corpora.shards import Shards
from .moments import in_turn, loud_window

_TRIES = 1000  # pairs of clips drawn for each mixture that is wanted, before there are too few


@dataclass(frozen=True)
class Mixture:
    """A clip's frames, its own sound and another one, at the same level."""

    frames: np.ndarray  # (T, height, width, 3), float32 in [0, 1]
    sounds: np.ndarray  # (2, n, channels), on screen and off screen
    source: str  # video of the frames


@dataclass(frozen=True)
class Mixtures:
    """Random mixtures for the networks that take the same frames and sound; each pass makes the same ones anew.

    Parameters
    ----------
    model : AudioVisualModel
        Only its inputs are used.
    shards : Shards
        Of the clips on screen.
    voices : Shards
        Of the sounds off screen, each of another video than its mixture's clip.
    number : int
    level : float
        Root mean square of each sound.
    seed : int
    """

    model: AudioVisualModel
    shards: Shards
    voices: Shards
    number: int
    level: float
    seed: int

    def __iter__(self) -> Iterator[Mixture]:
        """Draw clips evenly: each is on screen once before any is again.

        Raises
        ------
        ValueError
            If too few clips have a moment that is loud enough, inside them.
        """
        rng = np.random.default_rng(self.seed)
        made = 0
        for clip in itertools.islice(in_turn(self.shards.clips, rng), _TRIES * self.number):
            if made == self.number:
                return
            other = self.voices.clips[rng.integers(len(self.voices.clips))]
            own = loud_window(self.model, self.shards, clip, rng) if other.source != clip.source else None
            strange = loud_window(self.model, self.voices, other, rng) if own else None
            if own and strange:
                frames = self.shards.frames_at(clip, own[0], self.model.frames)
                yield Mixture(frames, np.stack([self._levelled(own[1]), self._levelled(strange[1])]), clip.source)
                made += 1
        if made < self.number:
            raise ValueError(
                f"only {made} of {self.number} mixtures could be made: clips of at least two videos are needed, with "
                f"{self.model.sound.seconds:.2f} s above {QUIETEST:g} dBFS"
            )

    def _levelled(self, samples: np.ndarray) -> np.ndarray:
        return samples * np.float32(self.level / np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
