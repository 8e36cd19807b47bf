"""The videos of labelled shards, with clips spread evenly over each, as tests of action recognition take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openavc.models.contract import AudioVisualModel

from ...corpora.shards import Shards, StoredClip, frames_with_room, too_slow


@dataclass(frozen=True)
class LabelledVideo:
    """A video of some shards: its stored clips in their order, and the number of its class."""

    source: str
    target: int
    clips: tuple[StoredClip, ...]


def find_labelled_videos(shards: Shards, classes: Sequence[str]) -> list[LabelledVideo]:
    """Find the videos of shards, and number their labels, the first of each, by the classes.

    Raises
    ------
    ValueError
        If a clip has no label, or one that isn't among the classes, or two of one video have different ones.
    """
    videos: dict[str, list[StoredClip]] = {}
    for clip in shards.clips:
        if not clip.labels or clip.labels[0] not in classes:
            found = f"the label {clip.labels[0]!r}" if clip.labels else "no label"
            raise ValueError(f"{clip.key} has {found}; the network's classes are {', '.join(classes)}")
        videos.setdefault(clip.source, []).append(clip)
    for source, clips in videos.items():
        if len(labels := {clip.labels[0] for clip in clips}) > 1:
            raise ValueError(f"the clips of {source} have different labels: {', '.join(sorted(labels))}")
    return [LabelledVideo(source, classes.index(clips[0].labels[0]), tuple(clips)) for source, clips in videos.items()]


def spread_clips(
    shards: Shards, video: LabelledVideo, model: AudioVisualModel, count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut up to `count` of a network's clips out of a video, at the middles of equal parts of its possible moments.

    A video that is shorter than the network's clip gives one, around the middle frame of its longest stored clip: the
    frames at its ends are repeated, and zeros put around its sound.

    Yields
    ------
    frames : ndarray, shape (T, height, width, 3), float32 in [0, 1]
    samples : ndarray, shape (n, channels)

    Raises
    ------
    ValueError
        If the stored frames are too far apart for the network.
    """
    sound, frames = model.sound, model.frames
    if any(too_slow(clip, frames) for clip in video.clips):
        raise ValueError(f"the frames of {video.source} are too far apart: prepare with --frame-rate {frames.rate:g}")
    possible = [
        (clip, int(index))
        for clip in video.clips
        for index in np.flatnonzero(frames_with_room(clip, sound.seconds, frames))
    ]
    if not possible:
        longest = max(video.clips, key=lambda clip: clip.seconds)
        possible = [(longest, len(longest.frame_times) // 2)]
    for place in np.unique(((np.arange(count) + 0.5) * len(possible) / count).astype(int)):
        clip, index = possible[place]
        time = float(clip.frame_times[index])
        samples = shards.sound(clip, time, sound.seconds, sound.sample_rate, sound.channels)
        yield shards.frames_at(clip, index, frames), samples
