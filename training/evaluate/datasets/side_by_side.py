"""Clips that play side by side in one wide picture, of which one is heard: its place is the true box of what sounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openavc.media.loudness import QUIETEST
from openavc.models.contract import AudioVisualModel

from ...corpora.shards import Shards, StoredClip
from .boxes import Box
from .moments import in_turn, loud_window

_TRIES = 50  # draws for each row that is wanted, before there are too few clips


@dataclass(frozen=True)
class Row:
    """Clips side by side, the sound of one of them, and that of another."""

    frames: np.ndarray  # (T, height, clips x width, 3), float32 in [0, 1]
    box: Box  # of the clip that is heard
    own: np.ndarray  # (n, channels)
    other: np.ndarray  # (n, channels)
    source: str  # video of the clip that is heard


@dataclass(frozen=True)
class Rows:
    """Random rows of clips of different videos, each at a moment that is loud enough; each pass draws the same ones.

    Parameters
    ----------
    model : AudioVisualModel
        Only its inputs are used.
    shards : Shards
    beside : int
        Clips in a row.
    number : int
    seed : int
    """

    model: AudioVisualModel
    shards: Shards
    beside: int
    number: int
    seed: int

    def __iter__(self) -> Iterator[Row]:
        """Draw rows; each clip is heard once before any is again, at a place of its own choice.

        Raises
        ------
        ValueError
            If there are too few videos with a loud moment.
        """
        rng = np.random.default_rng(self.seed)
        made = 0
        for heard in itertools.islice(in_turn(self.shards.clips, rng), _TRIES * self.number):
            if made == self.number:
                return
            if row := self._row(heard, rng):
                yield row
                made += 1
        if made < self.number:
            raise ValueError(
                f"only {made} of {self.number} pictures could be made: clips of at least {self.beside} videos are "
                f"needed, with {self.model.sound.seconds:.2f} s above {QUIETEST:g} dBFS"
            )

    def _row(self, heard: StoredClip, rng: np.random.Generator) -> Row | None:
        """Draw the clips beside one, and their places; None if a moment of one isn't loud enough."""
        clips = {heard.source: heard}
        for k in rng.permutation(len(self.shards.clips)).tolist():
            clips.setdefault(self.shards.clips[k].source, self.shards.clips[k])
            if len(clips) == self.beside:
                break
        drawn = [(clip, loud_window(self.model, self.shards, clip, rng)) for clip in clips.values()]
        moments = [(clip, *window) for clip, window in drawn if window]
        if len(moments) < self.beside:
            return None
        places = rng.permutation(self.beside)
        tiles = [self.shards.frames_at(clip, index, self.model.frames) for clip, index, _ in moments]
        frames = np.concatenate([tiles[k] for k in places], axis=2)
        box = (places.tolist().index(0) / self.beside, 0.0, 1 / self.beside, 1.0)
        return Row(frames, box, moments[0][2], moments[1][2], heard.source)
