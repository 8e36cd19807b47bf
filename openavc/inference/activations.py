"""Activation maps of whole videos, by networks that fuse frames with their sound (Multisensory, Figures 1 and 5).

A network maps clips of a few seconds, which overlap by half; between their maps, and from each clip to the next, the
maps of all moments go over smoothly. Activations are absolute values of logits, as in the paper's code.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..media.clips import FramesInput
from ..media.covering import covering_clips
from ..media.file_object import BinaryFile
from ..media.image import enlarge, resize, to_images, uncropped
from ..media.video import read_frames
from ..models.contract import LocalizesInTime
from .batches import batched, inference_of, prepared_audio, prepared_frames, stacked, to_numpy
from .peaks import Peaks

PERCENTILE = 97  # of a video's activations, from which on they are drawn as 1
LOWEST = 0.5  # of what is drawn as 1: up to there, activations are drawn as 0
BATCH_SIZE = 2  # clips at once, of which one of the paper's network takes gigabytes


@dataclass(frozen=True)
class Activations:
    """The maps of a video's clips, and those of any moment.

    Parameters
    ----------
    starts : ndarray, shape (C,)
        Times of the first frame of each clip, in seconds, ascending.
    maps : ndarray, shape (C, K, h, w), float32
        Activations at K times of each clip, evenly spaced.
    frames : FramesInput
        Of a clip.
    """

    starts: np.ndarray
    maps: np.ndarray
    frames: FramesInput

    @functools.cached_property
    def times(self) -> np.ndarray:
        """Mean time of the frames that each map is of, in seconds: (C, K)."""
        maps = self.maps.shape[1]
        middles = (np.arange(maps) + 0.5) * self.frames.count / maps - 0.5  # in frames
        return self.starts[:, None] + middles / (self.frames.rate or 1.0)

    def adaptive_maximum(self) -> float:
        """Return the 97th percentile of all activations."""
        return float(np.percentile(self.maps, PERCENTILE))

    def peaks(self) -> Peaks:
        """Return the highest activation of each map of each clip."""
        return Peaks("activation", self.times.ravel(), self.maps.max(axis=(2, 3)).ravel())

    def at(self, time: float) -> np.ndarray:
        """Return the map of a moment: (h, w), float32.

        It is interpolated linearly between the maps of each clip that covers the moment. A clip counts the more, the
        farther the moment is from its first map and its last, so that none begins or ends with a jump.
        """
        weights = np.minimum(time - self.times[:, 0], self.times[:, -1] - time)
        if weights.max() <= 0:  # at an end of the video
            weights = np.where(np.arange(len(weights)) == weights.argmax(), 1.0, 0.0)
        covering = np.flatnonzero(weights > 0).tolist()
        maps = [self._within(clip, time) for clip in covering]
        return np.average(maps, axis=0, weights=weights[covering]).astype(np.float32)

    def _within(self, clip: int, time: float) -> np.ndarray:
        """Interpolate a clip's maps; before the first and after the last, it is those: (h, w)."""
        maps = self.maps[clip]
        place = np.interp(time, self.times[clip], np.arange(len(maps)))
        before, part = int(place), place % 1
        after = min(before + 1, len(maps) - 1)
        return (1 - part) * maps[before] + part * maps[after]


def scaled(activations: np.ndarray, maximum: float) -> np.ndarray:
    """Scale activations to [0, 1]: from half of the maximum, and below, to the maximum and above."""
    low = LOWEST * maximum
    if maximum <= low:  # both are 0
        return (activations > 0).astype(np.float32)
    return ((activations - low) / (maximum - low)).clip(0, 1).astype(np.float32)


def video_activations(
    path: str | os.PathLike | BinaryFile,
    model: LocalizesInTime,
    audio: str | os.PathLike | BinaryFile | None = None,
) -> Activations:
    """Map all clips of a video; memory grows with its length only by the network's own small maps.

    Arguments and errors are those of `localize_video`.
    """
    clips = covering_clips(path, model.sound, model.frames, whole_frames(model), audio)
    times, maps = [], []
    with advising_another_sound(audio):
        for batch in batched(clips, BATCH_SIZE):
            times += [clip.time - model.frames.before for clip in batch]
            logits = clip_logits(model, [clip.frames for clip in batch], [clip.samples for clip in batch])
            maps.append(np.abs(logits))
    return Activations(np.array(times), np.concatenate(maps), model.frames)


@contextmanager
def advising_another_sound(audio: Any) -> Iterator[None]:
    """Tell how to give another sound, where a file has none and none was given."""
    try:
        yield
    except OSError as error:
        if audio is None and "holds no sound" in str(error):
            raise OSError(f"{error}; give another to localise: audio=, on the command line --mismatch") from error
        raise


def clip_logits(model: LocalizesInTime, frames: Iterable[np.ndarray], samples: Iterable[np.ndarray]) -> np.ndarray:
    """Return the activations, with their signs, of clips of whole frames and their sound: (B, K, h, w)."""
    seen = stacked(model, [model.precompute_frames(clip) for clip in frames])
    heard = stacked(model, list(samples))
    with inference_of(model):
        frames_maps = model.represent_frames(prepared_frames(model, seen))
        maps = model.activation_maps(frames_maps, model.represent_audio(prepared_audio(model, heard)))
    return to_numpy(maps, model)


def whole_frames(model: LocalizesInTime) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that brings whole frames (H, W, 3) to a network's scale, all to the size of the first."""
    size: tuple[int, int] | None = None

    def whole(frame: np.ndarray) -> np.ndarray:
        nonlocal size
        picture = to_images(frame)[0]
        if size is None:
            rows, columns, _ = uncropped(picture, model.frames.height, model.frames.width, model.map_stride).shape
            size = rows, columns
        return resize(picture, *size)

    return whole


def map_frames(
    path: str | os.PathLike, activations: Activations, frame_rate: float | None, maximum: float | None
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Decode the frames of a video, and yield (time, frame, map) of each; arguments are those of `localize_video`."""
    highest = activations.adaptive_maximum() if maximum is None else maximum
    for time, frame in read_frames(path, frame_rate):
        yield time, frame, enlarge(scaled(activations.at(time), highest), *frame.shape[:2])
