"""Pairs by class: a photograph of a class and a recording of the same class, which were never together.

Everything is a function of (seed, position), as in `training.pairs`. Finding one certain recording means nothing here,
so objectives must not take two items of one class as each other's negatives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from openavc.media.loudness import loudness
from openavc.models.contract import AudioVisualModel

from .corpora.shards import Shards, StoredClip
from .moments import TRIES
from .pairs import augment, flip_and_recolour
from .picture_augmentation import degrade, random_piece
from .recipe import Data
from .sound_augmentation import augment_sound


@dataclass(frozen=True)
class Pool:
    """Clips to draw from: an origin by the square root of its number of clips, and any of its clips."""

    clips: list[StoredClip]
    shares: np.ndarray  # cumulative

    @classmethod
    def of(cls, clips: list[StoredClip]) -> Pool:
        """Make the pool of some clips, whose origins are their sources."""
        counts = Counter(clip.source for clip in clips)
        weights = np.array([counts[clip.source] ** -0.5 for clip in clips])
        return cls(clips, np.cumsum(weights / weights.sum()) if clips else weights)

    def draw(self, rng: np.random.Generator) -> StoredClip:
        """Draw a clip."""
        return self.clips[_index(self.shares, rng)]


class ClassPairs(Dataset):
    """Data set of pairs by class; its items are as those of `training.pairs.Pairs`, one pair each.

    A photograph is a frame of any labelled clip, a recording the sound of any; in shards of `training.prepare
    --by-class` a clip is only one of them. Recordings that are shorter than the network's window lie anywhere in it.

    Parameters
    ----------
    shards : Shards
    model : AudioVisualModel
        Only its description of inputs is kept.
    data : Data
        With `by_class`, which says how often classes come.
    seed : int
    classes : sequence of str, optional
        Labels in the order in which targets number them; by default the corpus's own, sorted.

    Raises
    ------
    ValueError
        If fewer than two classes have both photographs and recordings, or the network sees more than one frame.
    """

    group_size = 1

    def __init__(
        self, shards: Shards, model: AudioVisualModel, data: Data, seed: int, classes: Sequence[str] | None = None
    ):
        self.shards, self.data, self.seed = shards, data, seed
        self.sound, self.frames, self.precompute_frames = model.sound, model.frames, model.precompute_frames
        if self.frames.count > 1:
            raise ValueError(f"by_class pairs photographs with sound, and {model.name} sees {self.frames.count} frames")
        self.classes = list(shards.classes if classes is None else classes)
        of_class = {name: [clip for clip in shards.clips if clip.labels[:1] == (name,)] for name in self.classes}
        photographs = {name: [clip for clip in clips if len(clip.frame_times)] for name, clips in of_class.items()}
        recordings = {name: [clip for clip in clips if clip.samples] for name, clips in of_class.items()}
        self.names = [name for name in self.classes if photographs[name] and recordings[name]]
        if len(self.names) < 2:
            raise ValueError(
                f"pairs by class need two classes with photographs and recordings, as training.prepare --by-class "
                f"makes; there are {len(self.names)} of {len(self.classes)}"
            )
        self.photographs = [Pool.of(photographs[name]) for name in self.names]
        self.recordings = [Pool.of(recordings[name]) for name in self.names]
        self.shares = np.cumsum(class_shares([len(recordings[name]) for name in self.names], data.by_class or ""))

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, position])
        number = _index(self.shares, rng)
        samples = self._sound(number, rng) * np.float32(rng.uniform(*self.data.gain))
        frames = self.precompute_frames(self._picture(self.photographs[number].draw(rng), rng))
        return {
            "frames": torch.from_numpy(frames[None]),
            "samples": torch.from_numpy(samples[None]),
            "label": torch.ones(1, dtype=torch.long),
            "target": torch.full((1,), self.classes.index(self.names[number])),
            "group": torch.zeros(1, dtype=torch.long),
        }

    def _sound(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a window of a class, augmented: (n, channels)."""
        samples = self._window(self.recordings[number].draw(rng), rng)
        if self.data.sound is None:
            return samples

        def of_the_class() -> np.ndarray:
            return self._window(self.recordings[number].draw(rng), rng)

        def of_any() -> np.ndarray:
            return self._window(self.recordings[_index(self.shares, rng)].draw(rng), rng)

        return augment_sound(samples, self.sound.sample_rate, self.data.sound, rng, of_the_class, of_any)

    def _window(self, clip: StoredClip, rng: np.random.Generator) -> np.ndarray:
        """Draw a window of a recording; up to 8 are tried to find one that is loud enough."""
        wanted = self.sound
        first, last = sorted((wanted.seconds / 2, clip.seconds - wanted.seconds / 2))
        for _ in range(TRIES if clip.seconds > wanted.seconds else 1):
            middle = float(rng.uniform(first, last))
            samples = self.shards.sound(clip, middle, wanted.seconds, wanted.sample_rate, wanted.channels)
            if loudness(samples) >= self.data.quietest:
                break
        return samples

    def _picture(self, clip: StoredClip, rng: np.random.Generator) -> np.ndarray:
        """Draw a frame of a clip, augmented: (1, height, width, 3)."""
        frames = self.shards.frames(clip, [rng.integers(len(clip.frame_times))])
        settings, size = self.data.picture, (self.frames.height, self.frames.width)
        if settings is None:
            return augment(frames, *size, self.data, rng)
        if settings.in_pieces:
            piece = random_piece(frames[0], *size, settings, rng)
            changed = flip_and_recolour(piece[None], self.data, rng)
        else:
            changed = augment(frames, *size, self.data, rng)
        return degrade(changed[0], settings, rng)[None]


def class_shares(counts: Sequence[int], by: str) -> np.ndarray:
    """Return the share of pairs that each class gets, from its number of recordings; `by` as in `recipe.BY_CLASS`."""
    power = {"uniform": 0.0, "square_root": 0.5, "count": 1.0}[by]
    weights = np.array(counts, np.float64) ** power
    return weights / weights.sum()


def _index(shares: np.ndarray, rng: np.random.Generator) -> int:
    """Draw an index by cumulative shares."""
    return min(int(np.searchsorted(shares, rng.random(), side="right")), len(shares) - 1)
