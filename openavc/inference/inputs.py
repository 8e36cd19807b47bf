"""The inputs that users pass, cut into the windows of sound and the clips of frames that a model takes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..lines import warn
from ..media.arrays import is_array
from ..media.audio import open_audio, to_samples
from ..media.clips import (
    Clip,
    SoundInput,
    count_windows,
    cut_stretches,
    model_sound,
    video_clips,
    warn_if_silent,
    window_start,
)
from ..media.file_object import BinaryFile, as_path, is_file, name_of
from ..media.image import read_image, side_to_fit, to_images, to_stack
from ..models.contract import AudioVisualModel, Compares, EmbedsAudio, EmbedsFrames, Slices
from .arguments import shortened


def audio_windows(
    source: Any, sr: int | None, model: EmbedsAudio | Compares, hop_size: float, center: bool
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (timestamp, window (n, channels)) of one recording; warn once of silence or of less than a window."""
    for starts, window in audio_stretches(source, sr, model, hop_size, center, group=1):
        yield starts[0] / model.sound.sample_rate, window


def audio_stretches(
    source: Any, sr: int | None, model: EmbedsAudio | Compares, hop_size: float, center: bool, group: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield stretches of one recording at the model's rate, each with the first samples of the windows in it.

    A stretch, (n, channels), has `group` windows if the network can share one pass among windows at this hop, otherwise
    one. Warns once of silence or of less than a window.
    """
    sound = model.sound
    if shared_hop(model, hop_size) is None:
        group = 1
    silence = [np.zeros((sound.samples // 2, sound.channels), dtype=sound.dtype)] if center else []

    def count(samples: int) -> int:
        return count_windows(samples, sound.samples, hop_size, sound.sample_rate)

    starts = (window_start(k, hop_size, sound.sample_rate) for k in itertools.count())
    with as_path(source) as path:
        blocks, rate = open_source(path, sr, sound)
        name = name_of(source) if is_file(source) else "the audio"
        heard = warn_if_silent(model_sound(blocks, rate, sound), name, sound)
        yield from cut_stretches(itertools.chain(silence, heard), starts, sound.samples, count, group)


def shared_hop(model: EmbedsAudio | Compares, hop_size: float) -> int | None:
    """Return the hop in samples if windows at this hop overlap and are slices of one pass; otherwise None."""
    step = model.slice_samples if isinstance(model, Slices) else None
    hop = hop_size * model.sound.sample_rate
    if step is None or hop >= model.sound.samples or abs(hop - step * round(hop / step)) > 1e-9:
        return None
    return round(hop)


def open_source(source: Any, sr: Any, sound: SoundInput) -> tuple[Iterator[np.ndarray], int]:
    """Return blocks (n, channels) from a path, an array or an iterable of chunks, and their rate in Hz.

    A path's rate is the file's own; another one that is given is warned of.
    """
    if is_file(source):
        blocks, rate = open_audio(source, sound.dtype)
        if sr is not None and sr != rate:
            message = (
                f"{name_of(source)} has a sample rate of {rate} Hz, which counts; leave out the given {shortened(sr)}"
            )
            warn(message)
        return blocks, rate
    if is_array(source) or not isinstance(source, Iterable):
        return iter([to_samples(source, dtype=sound.dtype)]), sr
    return _chunks(source, sound.dtype), sr


def _chunks(source: Iterable, dtype: str) -> Iterator[np.ndarray]:
    """Yield the chunks of a stream as blocks, skipping empty ones."""
    empty = True
    for chunk in source:
        if 0 not in getattr(chunk, "shape", ()):
            empty = False
            # a copy, because live sources fill the same buffer again and again
            yield np.array(to_samples(chunk, any_length=True, dtype=dtype))
    if empty:
        raise ValueError("there is no sound in the stream: no chunk held a sample")


def crop_to(model: AudioVisualModel) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that brings a frame (H, W, 3), uint8, to what a network sees."""
    return lambda frame: model.fit_frame(to_images(frame)[0])


def model_clips(path: str | os.PathLike | BinaryFile, model: Any, frame_rate: float | None) -> Iterator[Clip]:
    """Cut a video into clips that the model takes, with frames cropped to its size."""
    return video_clips(path, model.sound, model.frames, frame_rate, crop_to(model))


def image_clips(item: Any, model: EmbedsFrames | Compares) -> Iterator[np.ndarray]:
    """Yield the precomputed frames of clips (T, H, W, 3) from a file, a picture or a stack of pictures.

    For a model that takes single pictures, each picture is a clip; for another one, which sees motion, a stack of
    exactly as many frames is one.
    """
    if not model.frames.takes_pictures:
        yield model.precompute_frames(_crop_run(item, model))
        return
    if isinstance(item, list):
        raise TypeError("a list of pictures can't hold lists: give arrays (H, W, 3) or (N, H, W, 3), or paths")
    pictures: Iterable[np.ndarray]
    if is_file(item):
        pictures = [read_picture(item, side_to_fit(model.frames.height, model.frames.width))]
    else:
        pictures = (to_images(picture)[0] for picture in _split_stack(item))
    for picture in pictures:
        yield model.precompute_frames(model.fit_frame(picture)[None])


def read_picture(file: Any, least_side: int | None = None) -> np.ndarray:
    """Read the picture (H, W, 3), float32 in [0, 1], of a path or a file object; see `read_image`."""
    with as_path(file) as path:
        return read_image(path, least_side)


def _split_stack(item: Any) -> Iterator[np.ndarray]:
    """Split an array or a stack into its pictures; raise ValueError if there are none."""
    stack = to_stack(item)
    if len(stack) == 0:
        to_images(stack)  # raises
    yield from stack


def _crop_run(item: Any, model: EmbedsFrames | Compares) -> np.ndarray:
    """Crop a stack of exactly as many frames as the model's clips have; raise ValueError for anything else."""
    count, shape = model.frames.count, tuple(getattr(item, "shape", ()))
    if len(shape) != 4 or shape[0] != count:
        raise ValueError(
            f"{model.name} takes runs of {count} consecutive frames, not single pictures: give it a video "
            f"(get_video_embedding, video_scores), or a stack ({count}, H, W, 3); got "
            f"{f'shape {shape}' if shape else shortened(item)}"
        )
    return np.stack([model.fit_frame(picture) for picture in to_images(item)])
