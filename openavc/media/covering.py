"""Whole clips that cover a video from its first frame to its last and overlap, cut in constant memory.

The clips of `media.clips` lie around frames that are asked for, and may reach beyond the ends of the video. These lie
inside it.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .clips import Clip, FramesInput, SoundInput, cut_clips, video_streams, warn_if_silent
from .file_object import BinaryFile, name_of
from .video import ROUNDING


def covering_clips(
    path: str | os.PathLike | BinaryFile,
    sound: SoundInput,
    frames: FramesInput,
    crop: Callable[[np.ndarray], np.ndarray] = np.asarray,
    audio: str | os.PathLike | BinaryFile | None = None,
) -> Iterator[Clip]:
    """Cut a video into clips that overlap by half; the last one ends with the video.

    Parameters
    ----------
    path : str, Path, or binary file object
    sound, frames : SoundInput, FramesInput
        The inputs of the network.
    crop : callable
        Applied to each frame, (H, W, 3) uint8; all results must have one shape.
    audio : str, Path, or binary file object, optional
        Another file, whose sound replaces the video's own.

    Yields
    ------
    Clip
        By the time of its middle frame. In a video shorter than a clip, the last frame is repeated.

    Raises
    ------
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    rate = frames.rate or 1.0
    with video_streams(path, sound, frames, None, audio) as (timed, heard):
        heard = warn_if_silent(heard, name_of(path if audio is None else audio), sound)
        shown = at_rate(((time, crop(frame)) for time, frame in timed), rate)
        runs = covering_runs(shown, frames.count, max(1, frames.count // 2))
        yield from cut_clips((((first + frames.count // 2) / rate, run) for first, run in runs), heard, sound)
        if audio is None:
            collections.deque(heard, maxlen=0)  # read to the end, where silence is noticed


def at_rate(timed_frames: Iterable[tuple[float, np.ndarray]], rate: float) -> Iterator[np.ndarray]:
    """Yield the frame that is shown at every multiple of 1 / rate seconds; before the first one comes, the first."""
    shown, moment = None, 0
    for time, frame in timed_frames:
        shown = frame if shown is None else shown
        while moment / rate + ROUNDING < time:
            yield shown
            moment += 1
        shown = frame
    if shown is not None:
        yield shown


def covering_runs(frames: Iterable[np.ndarray], count: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut runs of `count` frames, one every `hop` frames and one at the end.

    Yields
    ------
    first : int
        Number of the run's first frame.
    run : ndarray, shape (count, H, W, 3)
        If there are fewer frames in all, the last one is repeated.
    """
    latest: collections.deque[np.ndarray] = collections.deque(maxlen=count)
    seen, covered = 0, 0
    for frame in frames:
        latest.append(frame)
        seen += 1
        if seen >= count and (seen - count) % hop == 0:
            covered = seen
            yield seen - count, np.stack(latest)
    if covered < seen:
        latest.extend([latest[-1]] * (count - len(latest)))
        yield max(0, seen - count), np.stack(latest)
