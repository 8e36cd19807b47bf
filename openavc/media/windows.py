"""Windows at fixed places of a video, which overlap, and their parts put together again without seams.

Positions and lengths are in samples at a network's rate. Unlike the clips of `media.clips`, windows don't lie around
frames: they cover the whole sound, and the frames are those that are shown meanwhile.
"""

from __future__ import annotations

import collections
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .clips import FramesInput, SoundInput, cut_stretches, frames_around, model_sound, warn_if_slow
from .file_object import BinaryFile, as_path, name_of
from .video import Video


@dataclass(frozen=True)
class Overlap:
    """Windows of which two overlap everywhere, fading into each other so that their weights sum to one.

    Parameters
    ----------
    length : int
        Of a window.
    edge : int
        Samples at both ends of a window that are left out.
    """

    length: int
    edge: int

    @property
    def hop(self) -> int:
        """Distance from one window to the next."""
        return (self.length - 2 * self.edge) // 2

    @property
    def weights(self) -> np.ndarray:
        """How much of each sample of a window is taken: (length,), float32."""
        rising = np.sin(np.pi * (np.arange(self.hop) + 0.5) / (2 * self.hop)) ** 2
        weights = np.zeros(self.length, dtype=np.float32)
        weights[self.edge : self.edge + 2 * self.hop] = np.concatenate([rising, 1 - rising])
        return weights

    def start(self, number: int) -> int:
        """Return the first sample of a window; the first windows begin before the sound does."""
        return (number - 1) * self.hop - self.edge

    def count(self, samples: int) -> int:
        """Count the windows that cover so many samples, two everywhere."""
        return 1 + math.ceil(samples / self.hop)

    def joined(self, windows: Iterable[np.ndarray], samples: Callable[[], int]) -> Iterator[np.ndarray]:
        """Put windows together, in constant memory.

        Parameters
        ----------
        windows : iterable of ndarray, shape (length, ...)
            All windows, in order.
        samples : callable
            Returns how many samples there are in all, once the windows have come to their end.

        Yields
        ------
        block : ndarray, shape (n, ...)
        """
        begun, done, last = None, 0, None
        for window in windows:
            if last is not None:
                yield last
                done += len(last)
            weighed = window * self.weights.reshape(-1, *[1] * (window.ndim - 1))
            first, second = (weighed[self.edge + k * self.hop : self.edge + (k + 1) * self.hop] for k in (0, 1))
            last, begun = None if begun is None else begun + first, second
        if last is not None:
            yield last[: samples() - done]


@dataclass(frozen=True)
class Window:
    """The frames that are shown and the sound that is heard in a window."""

    frames: np.ndarray  # (T, H, W, 3)
    samples: np.ndarray  # (n, channels)


class VideoWindows:
    """All windows of a video, which is opened once and read in constant memory.

    Parameters
    ----------
    path : str, Path, or binary file object
    sound, frames : SoundInput, FramesInput
        The inputs of the network.
    overlap : Overlap
    crop : callable
        Applied to each frame, (H, W, 3) uint8.

    Attributes
    ----------
    samples : int
        Length of the sound that was read so far.
    """

    def __init__(
        self,
        path: str | os.PathLike | BinaryFile,
        sound: SoundInput,
        frames: FramesInput,
        overlap: Overlap,
        crop: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ):
        self.path, self.sound, self.frames, self.overlap, self.crop = path, sound, frames, overlap, crop
        self.samples = 0

    def __iter__(self) -> Iterator[Window]:
        """Yield the windows in order; frames beyond the ends are repeats, samples beyond the ends are zeros.

        Raises
        ------
        FileNotFoundError, OSError
            If the file is missing, can't be decoded, or lacks pictures or sound.
        """
        with as_path(self.path) as path, Video(path, self.sound.dtype) as video:
            starts = map(self.overlap.start, itertools.count())
            heard = self._counted(model_sound(video.sound(), video.sample_rate, self.sound))
            shown = self._shown(warn_if_slow(video.frames(), self.frames, name_of(self.path)))
            for (start,), samples in cut_stretches(heard, starts, self.overlap.length, self.overlap.count):
                yield Window(shown((start + self.overlap.length // 2) / self.sound.sample_rate), samples)

    def _counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        self.samples = 0
        for block in blocks:
            self.samples += len(block)
            yield block

    def _shown(self, timed: Iterator[tuple[float, np.ndarray]]) -> Callable[[float], np.ndarray]:
        """Return a function that takes the frames (T, H, W, 3) around ascending times from a stream."""
        waiting: collections.deque[tuple[float, np.ndarray]] = collections.deque()
        count, rate = self.frames.count, self.frames.rate

        def shown(middle: float) -> np.ndarray:
            while not waiting or waiting[-1][0] <= middle + self.frames.after:
                following = next(timed, None)
                if following is None:
                    break
                waiting.append((following[0], self.crop(following[1])))
            while len(waiting) > 1 and waiting[1][0] <= middle - self.frames.before:
                waiting.popleft()
            indices = frames_around(np.array([time for time, _ in waiting]), middle, count, rate)
            return np.stack([waiting[index][1] for index in indices])

        return shown
