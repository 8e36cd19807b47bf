"""Stored clips whose sound is shifted by a known time, or that of another clip."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openavc.inference.sync import hop_size
from openavc.media.clips import Stretch
from openavc.models.contract import Synchronizes

from ...corpora.shards import Shards, StoredClip, clip_middles


@dataclass(frozen=True)
class Shifted:
    """A stored clip with another sound in its place.

    Parameters
    ----------
    shards : Shards
    clip : StoredClip
        Of the frames.
    sound : StoredClip
        Of the sound; the same unless it is to be foreign.
    shift : float
        Seconds by which the sound comes late.
    """

    shards: Shards
    clip: StoredClip
    sound: StoredClip
    shift: float = 0.0

    def samples(self, model: Synchronizes) -> np.ndarray:
        """Read the entire sound as the network takes it: (n, channels)."""
        wanted, seconds = model.sound, self.sound.seconds
        return self.shards.sound(self.sound, seconds / 2, seconds, wanted.sample_rate, wanted.channels)

    def stretches(self, model: Synchronizes) -> Iterator[Stretch]:
        """Cut clips of frames, half a window apart as `sync_offset` does, with all of the sound around them."""
        samples, following = self.samples(model), -np.inf
        start = round(self.shift * model.sound.sample_rate)
        for index in np.flatnonzero(clip_middles(self.clip, model.frames)):
            time = float(self.clip.frame_times[index])
            if time >= following - 1e-6:
                following = time + hop_size(model)
                yield Stretch(time, self.shards.frames_at(self.clip, index, model.frames), samples, start)


def motion(shards: Shards, clip: StoredClip) -> tuple[np.ndarray, np.ndarray]:
    """Measure by how much a clip's pictures change: (frames - 1,) times in seconds, and mean changes of a pixel."""
    frames = (shards.frame(clip, index) for index in range(len(clip.frame_times)))
    changes = [np.abs(after - before).mean() for before, after in itertools.pairwise(frames)]
    return (clip.frame_times[1:] + clip.frame_times[:-1]) / 2, np.array(changes)
