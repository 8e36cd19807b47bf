"""The sound of a video separated into what its pictures show and the rest, at any length (Multisensory, section 3.4).

A network that separates takes windows of a second or two. They overlap by half and fade into each other, so that there
are no seams. Waveforms are mono, at the network's rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ..media.file_object import BinaryFile
from ..media.windows import Overlap, VideoWindows, Window
from ..models.contract import Separates
from .arguments import check_file, get_model, shortened
from .batches import batched, inference_of, prepared_audio, prepared_frames, stacked, to_numpy
from .inputs import crop_to

SIDES = ("left", "right")
BATCH_SIZE = 4  # windows at once
DEFAULT_MODEL = "separation-small"


class Separation(NamedTuple):
    """The two parts of a video's sound, as `separate_sources` returns them."""

    on_screen: np.ndarray  # (n,)
    off_screen: np.ndarray  # (n,)
    sample_rate: int  # Hz


def separate_sources(
    video: str | os.PathLike | BinaryFile, model: Any = None, *, side: str | None = None, device: Any = None
) -> Separation:
    """Separate the sound of a video into what its pictures show and the rest.

    Parameters
    ----------
    video : str, path, or binary file object
        Of any length; one that is shorter than the model's window is filled up with silence.
    model : str, path, model or None
        As in `get_audio_embedding`; None for the separating model that ships with the package.
    side : {"left", "right"}, optional
        The half of the picture whose sound is wanted, which is all that the model sees: one of two people who talk at
        the same time. (The paper hides the other half; a face in a half would then stand at the edge, and be cropped.)
    device : optional
        As in `load_model`.

    Returns
    -------
    Separation
        `on_screen` and `off_screen`, (n,) float32, and their `sample_rate`, the model's. They begin with the video and
        are as loud as they are in its sound, mixed down to mono. A model that doesn't look at pictures gives its two
        parts in any order.

    Raises
    ------
    ValueError, TypeError
        If the model can't separate, there is no such side, or `video` is neither a path nor a file object.
    FileNotFoundError, OSError
        If the file is missing, can't be decoded, or lacks pictures or sound.
    """
    model = separating_model(model, device)
    parts = np.concatenate(list(separate_blocks(video, model, side)))
    return Separation(parts[:, 0], parts[:, 1], model.sound.sample_rate)


def separate_blocks(
    video: str | os.PathLike | BinaryFile, model: Separates, side: str | None = None
) -> Iterator[np.ndarray]:
    """Separate a video in constant memory; other arguments and errors are those of `separate_sources`.

    Yields
    ------
    block : ndarray, shape (n, 2), float32
        Some samples of the sound on screen and off screen.
    """
    check_file("video", video)
    crop = _crop(model, side)
    overlap = Overlap(model.sound.samples, model.edge)
    windows = VideoWindows(video, model.sound, model.frames, overlap, crop)
    yield from overlap.joined(separate_windows(model, windows), lambda: windows.samples)


def separate_windows(model: Separates, windows: Iterator[Window] | VideoWindows) -> Iterator[np.ndarray]:
    """Separate windows of a video: (n, 2) for each."""
    for batch in batched(windows, BATCH_SIZE):
        frames = stacked(model, [model.precompute_frames(window.frames) for window in batch])
        samples = stacked(model, [window.samples for window in batch])
        with inference_of(model):
            parts = model.separate(prepared_frames(model, frames), prepared_audio(model, samples))
        yield from to_numpy(parts.to(torch.float32), model).transpose(0, 2, 1)


def separating_model(model: Any = None, device: Any = None) -> Separates:
    """Return the model an argument stands for, by default the one that ships; raise ValueError if it can't separate."""
    network = get_model(DEFAULT_MODEL if model is None else model, device)
    if not isinstance(network, Separates):
        raise ValueError(f"{network.name} can't separate sounds; {DEFAULT_MODEL} can, which ships with openavc")
    return network


def _crop(model: Separates, side: str | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that takes one side of a frame (H, W, 3), or all of it, and crops it to what a network sees."""
    if side not in (None, *SIDES):
        raise ValueError(f"side must be {' or '.join(map(repr, SIDES))}, or None for both, got {shortened(side)}")
    crop = crop_to(model)

    def cropped(frame: np.ndarray) -> np.ndarray:
        if side is None:
            return crop(frame)
        half = -(-frame.shape[1] // 2)
        return crop(frame[:, :half] if side == "left" else frame[:, -half:])

    return cropped
