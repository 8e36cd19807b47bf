"""Moments of videos: frames and sound around a time, from which every network cuts its clip.

Times are in seconds.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openavc.media.audio import to_channels
from openavc.media.clips import (
    Clip,
    FramesInput,
    SoundInput,
    cut,
    cut_stretches,
    frames_around,
    warn_if_slow,
    window_around,
)
from openavc.media.image import fit, to_images
from openavc.media.loudness import QUIETEST
from openavc.media.resample import resample
from openavc.media.video import ROUNDING, Video
from openavc.models.contract import AudioVisualModel

from ...corpora.loudness import loud_moments
from ...corpora.shards import Shards, StoredClip, frames_with_room


@dataclass(frozen=True)
class Span:
    """The stretch of a video that several networks need around a time."""

    seconds: float  # of sound, half before and half after
    frames: tuple[FramesInput, ...] = ()  # of networks that see several

    @classmethod
    def of(cls, networks: Iterable[AudioVisualModel]) -> Span:
        """Return the span that covers the clips of all networks."""
        networks = list(networks)
        several = dict.fromkeys(network.frames for network in networks if network.frames.count > 1)
        return cls(max(network.sound.seconds for network in networks), tuple(several))

    @property
    def before(self) -> float:
        """Seconds of frames before the time."""
        return max((frames.before for frames in self.frames), default=0.0)

    @property
    def after(self) -> float:
        """Seconds of frames after the time."""
        return max((frames.after for frames in self.frames), default=0.0)

    def __str__(self) -> str:
        clips = (f" and {frames.count} frames at {frames.rate:g} a second" for frames in self.frames)
        return f"{self.seconds:g} s of sound" + "".join(clips)


@dataclass(frozen=True)
class Moment:
    """Frames and sound around one time of a video, at the video's own size and rates."""

    time: float
    times: np.ndarray  # (F,) of the frames
    frames: Sequence[np.ndarray]  # F of (H, W, 3), uint8 or float32 in [0, 1]
    samples: np.ndarray  # (n, channels), centred on `time`
    sample_rate: int  # Hz

    def clip(self, frames: FramesInput, sound: SoundInput) -> Clip:
        """Cut the clip that a network takes; missing frames are repeats, missing samples are zeros.

        All frames of a still picture are the same.
        """
        shown = frames_around(self.times, self.time, frames.count, frames.rate)
        fitted = {k: fit(to_images(self.frames[k])[0], frames.height, frames.width) for k in set(shown.tolist())}
        samples = resample(to_channels(self.samples, sound.channels), self.sample_rate, sound.sample_rate)
        first = int((len(samples) - sound.samples) / 2)
        window = cut(samples, first, first + sound.samples).astype(np.float32)
        return Clip(self.time, np.stack([fitted[k] for k in shown.tolist()]), window)


def stored_times(clip: StoredClip, span: Span) -> np.ndarray:
    """Return the times of a stored clip's frames for which all of `span` lies inside the clip: (n,)."""
    return clip.frame_times[frames_with_room(clip, span.seconds, *span.frames)]


def stored_moment(shards: Shards, clip: StoredClip, time: float, samples: np.ndarray, span: Span) -> Moment:
    """Read the frames around a time of a stored clip, and join them with its sound (n, channels)."""
    first, last = (frames_around(clip.frame_times, at, 1, None)[0] for at in (time - span.before, time + span.after))
    indices = np.arange(first, last + 1)
    return Moment(time, clip.frame_times[indices], shards.frames(clip, indices), samples, clip.sample_rate)


def in_turn(clips: Sequence[StoredClip], rng: np.random.Generator) -> Iterator[StoredClip]:
    """Yield clips without end, in random order, each once before any comes again; nothing if there are none."""
    while clips:
        for number in rng.permutation(len(clips)):
            yield clips[number]


def loud_window(
    model: AudioVisualModel, shards: Shards, clip: StoredClip, rng: np.random.Generator
) -> tuple[int, np.ndarray] | None:
    """Draw a frame of a stored clip whose sound is loud enough, with room for a network's clip.

    Returns
    -------
    drawn : (int, ndarray of shape (n, channels)) or None
        Number of the frame and its sound, as the network takes it; None if there is none among 8.
    """
    sound = model.sound

    def read(index: int) -> np.ndarray:
        time = float(clip.frame_times[index])
        return shards.sound(clip, time, sound.seconds, sound.sample_rate, sound.channels)

    indices = rng.permutation(np.flatnonzero(frames_with_room(clip, sound.seconds, model.frames)))[:8]
    return next(itertools.islice(loud_moments(read, indices.tolist(), QUIETEST), 1), None)


def video_moments(video: Video, span: Span) -> Iterator[Moment]:
    """Yield the moment around each frame for which all of `span` lies in the video, in one pass and bounded memory."""
    received, middle = 0, 0.0

    def counted(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal received
        for block in blocks:
            received += len(block)
            yield block

    def starts() -> Iterator[int]:
        while True:  # asked once for each frame
            yield window_around(middle, span.seconds, video.sample_rate)[0]

    frames = video.frames()
    for taken in span.frames:
        frames = warn_if_slow(frames, taken, str(video.path))
    windows = cut_stretches(counted(video.sound()), starts(), round(span.seconds * video.sample_rate))
    for middle, times, pictures in _runs(frames, span):
        (start,), samples = next(windows)
        reached = times[0] <= middle - span.before + ROUNDING and times[-1] >= middle + span.after - ROUNDING
        if reached and start >= 0 and start + len(samples) <= received:
            yield Moment(middle, times, pictures, samples, video.sample_rate)


def _runs(
    timed_frames: Iterator[tuple[float, np.ndarray]], span: Span
) -> Iterator[tuple[float, np.ndarray, list[np.ndarray]]]:
    """Yield the time of each frame, with the times and pictures of all frames from `before` it to `after` it."""
    waiting: collections.deque[tuple[float, np.ndarray]] = collections.deque()
    middles: collections.deque[float] = collections.deque()  # times of frames whose run is still to come
    for time, picture in timed_frames:
        waiting.append((time, picture))
        middles.append(time)
        while time > middles[0] + span.after + ROUNDING:
            yield _run(waiting, middles.popleft(), span)
    while middles:
        yield _run(waiting, middles.popleft(), span)


def _run(
    waiting: collections.deque[tuple[float, np.ndarray]], middle: float, span: Span
) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """Drop the frames before the run around `middle`, and return the run."""
    while len(waiting) > 1 and waiting[1][0] <= middle - span.before + ROUNDING:
        waiting.popleft()
    return middle, np.array([time for time, _ in waiting]), [picture for _, picture in waiting]
