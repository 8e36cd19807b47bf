"""The moments of a corpus that a network can learn from: a frame, and a window of sound near it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.media.clips import FramesInput, SoundInput
from openavc.media.loudness import loudness

from .corpora.shards import Shards, StoredClip, clip_middles, too_slow
from .negatives import Negatives
from .recipe import Data

TRIES = 8  # moments drawn to find one that is loud enough


@dataclass(frozen=True)
class Moment:
    """A frame of a stored clip and the sound around it."""

    index: int  # of the frame
    time: float  # middle of the sound, seconds
    samples: np.ndarray  # (n, channels)


class Moments:
    """The moments of a corpus that a network can learn from: a frame, and a window of sound near it.

    Parameters
    ----------
    shards : Shards
    sound, frames : SoundInput, FramesInput
        Inputs of the network. Windows of sound and clips of frames lie inside the stored clip.
    data : Data
        How far sound and frame may be apart, which frames are left out, and how loud the sound must be.
    negatives : Negatives
        Negatives for which a clip must leave room.

    Attributes
    ----------
    clips : list of StoredClip
        Clips with at least one such moment.

    Raises
    ------
    ValueError
        If the clips lack the mask that `data` names.
    """

    def __init__(self, shards: Shards, sound: SoundInput, frames: FramesInput, data: Data, negatives: Negatives):
        self.shards, self.sound, self.frames, self.data, self.negatives = shards, sound, frames, data, negatives
        self.reach = max(data.misalignment, data.grid / 2)  # seconds from a frame to the nearest window inside the clip
        self.slack = data.misalignment + data.grid / 2  # seconds from a frame to the middle of its sound, at most
        self.clips = [clip for clip in shards.clips if self.usable(clip).any()]

    def folder(self, clip: StoredClip) -> Path:
        """Return the folder of shards that holds a clip."""
        return self.shards.paths[clip.shard].parent

    def usable(self, clip: StoredClip) -> np.ndarray:
        """Select the frames that can be seen in positive and negative pairs: (frames,) bool."""
        return self.negatives.usable(clip.frame_times, self.possible(clip), self.sound.seconds, self.slack)

    def possible(self, clip: StoredClip) -> np.ndarray:
        """Select unmasked frames whose sound and clip of frames lie inside the stored clip: (frames,) bool.

        Of a clip that is too short for that, the middle frame is selected, if `data` says so.
        """
        first, last = self._middles(clip)
        times = clip.frame_times
        inside = (first <= last) & (times >= first - self.reach) & (times <= last + self.reach)
        inside = inside & clip_middles(clip, self.frames)
        if self.data.shorter and not inside.any() and not too_slow(clip, self.frames):
            inside = np.arange(len(times)) == len(times) // 2
        return inside & self._kept(clip)

    def _kept(self, clip: StoredClip) -> np.ndarray | bool:
        if self.data.mask is None:
            return True
        if self.data.mask not in clip.masks:
            raise ValueError(
                f"{self.shards.paths[clip.shard]}: {clip.key} has no mask {self.data.mask!r}, it has "
                f"{', '.join(clip.masks) or 'none'}; render them again with training.simulate, into a new folder"
            )
        return clip.masks[self.data.mask]

    def draw(self, clip: StoredClip, allowed: np.ndarray, rng: np.random.Generator) -> Moment:
        """Draw a moment of a clip; up to 8 are tried to find one that is loud enough.

        Parameters
        ----------
        clip : StoredClip
        allowed : ndarray of bool, shape (frames,)
            Frames to choose from.
        rng : Generator
        """
        wanted = self.sound
        for _ in range(TRIES):
            index, time = self._draw(clip, allowed, rng)
            samples = self.shards.sound(clip, time, wanted.seconds, wanted.sample_rate, wanted.channels)
            if loudness(samples) >= self.data.quietest:
                break
        return Moment(index, time, samples)

    def _draw(self, clip: StoredClip, allowed: np.ndarray, rng: np.random.Generator) -> tuple[int, float]:
        """Draw a frame, and the middle of a sound near it that lies inside the clip."""
        index = int(rng.choice(np.flatnonzero(allowed)))
        first, last = self._middles(clip)
        time, misalignment, grid = clip.frame_times[index], self.data.misalignment, self.data.grid
        if first > last:  # a clip shorter than the sound, which goes on as zeros
            first, last = time - misalignment, time + misalignment
        middle = rng.uniform(*np.clip([time - misalignment, time + misalignment], first, last))
        if grid:
            middle = np.clip(round(middle / grid) * grid, first, last)
        return index, float(middle)

    def _middles(self, clip: StoredClip) -> tuple[float, float]:
        """Return the first and the last middle, on the grid, at which a sound lies inside the clip."""
        first, last, grid = self.sound.seconds / 2, clip.seconds - self.sound.seconds / 2, self.data.grid
        if grid:  # with a tolerance of 1e-9 grid steps for rounding
            first, last = math.ceil(first / grid - 1e-9) * grid, math.floor(last / grid + 1e-9) * grid
        return first, last
