"""Moments for inspecting units: evenly spaced frames of each clip, with the frames and the sound around them.

A moment's label is the first one of its clip, or the level that the clip was rendered in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from openavc.models.contract import AudioVisualModel

from ...corpora.shards import Shards, StoredClip, frames_with_room


@dataclass(frozen=True)
class Moments:
    """Chosen frames of stored clips, with their labels; frames and sound are read on demand."""

    shards: Shards
    chosen: list[tuple[StoredClip, int]]  # clip, and the index of a frame of it
    labels: np.ndarray  # (n,) str
    videos: np.ndarray  # (n,) int, number of the video

    def __len__(self) -> int:
        return len(self.chosen)

    def frames(self, model: AudioVisualModel, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """Read the clips (T, H, W, 3), float32, that a model takes around the given moments."""
        for clip, frame in (self.chosen[index] for index in indices):
            yield self.shards.frames_at(clip, frame, model.frames)

    def sounds(self, model: AudioVisualModel, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """Read the windows (n, channels) of sound that a model takes around the given moments."""
        sound = model.sound
        for clip, frame in (self.chosen[index] for index in indices):
            time = clip.frame_times[frame]
            yield self.shards.sound(clip, time, sound.seconds, sound.sample_rate, sound.channels)


def choose_moments(shards: Shards, model: AudioVisualModel, per_clip: int) -> Moments:
    """Choose evenly spaced frames of each clip whose sound and frames lie inside it, or else its middle frame."""
    numbers = {source: number for number, source in enumerate(dict.fromkeys(clip.source for clip in shards.clips))}
    chosen = [(clip, int(frame)) for clip in shards.clips for frame in _spaced(clip, model, per_clip)]
    labels = np.array([(clip.labels or (clip.level,))[0] for clip, _ in chosen])
    return Moments(shards, chosen, labels, np.array([numbers[clip.source] for clip, _ in chosen]))


def _spaced(clip: StoredClip, model: AudioVisualModel, count: int) -> np.ndarray:
    possible = np.flatnonzero(frames_with_room(clip, model.sound.seconds, model.frames))
    if not len(possible):
        return np.array([len(clip.frame_times) // 2])
    return np.unique(possible[((np.arange(count) + 0.5) * len(possible) / count).astype(int)])  # middles of equal parts
