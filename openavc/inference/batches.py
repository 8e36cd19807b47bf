"""Batches run through a network on its device.

Items are (key, array) pairs; results are (key, row) pairs, whose rows stay tensors on the model's device until
`to_numpy`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..media.clips import Clip
from ..models.contract import AudioVisualModel, Compares, EmbedsAudio, EmbedsFrames, Slices
from ..progress import step
from .inputs import shared_hop

BATCH_SIZE = 32

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@contextmanager
def inference_of(model: AudioVisualModel) -> Iterator[None]:
    """Run a network without gradients and in evaluation mode; a network that was training goes on in its mode."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split items into lists of at most `size`."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        step()
        yield batch


def stacked(model: AudioVisualModel, arrays: list[np.ndarray]) -> Tensor:
    """Stack arrays of one shape on the model's device."""
    return torch.from_numpy(np.stack(arrays)).to(model.device)


def run_batches(
    items: Iterable[tuple[Key, np.ndarray]],
    batch_size: int,
    model: AudioVisualModel,
    network: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Key, Tensor]]:
    """Run a network over arrays of one shape.

    Parameters
    ----------
    items : iterable of (key, ndarray)
    batch_size : int
        Items per pass through the network.
    model : AudioVisualModel
        Runs on this model's device.
    network : callable
        Maps a batch (B, ...) to rows (B, ...).

    Yields
    ------
    key
    row : Tensor
        On the model's device.
    """
    for batch in batched(items, batch_size):
        with inference_of(model):
            rows = network(stacked(model, [array for _, array in batch]))
        yield from zip((key for key, _ in batch), rows, strict=True)


def to_numpy(rows: Tensor | Iterable[Tensor], model: AudioVisualModel) -> np.ndarray:
    """Turn a batch, or rows of one shape, that a network computed into one float32 array.

    Raises
    ------
    ValueError
        If they hold NaN or infinity, which weights that are finite but huge lead to.
    """
    array = (rows if isinstance(rows, Tensor) else torch.stack(list(rows))).float().cpu().numpy()
    if not np.isfinite(array).all():
        weights = f" (weights {model.sha256})" if model.sha256 else ""
        raise ValueError(
            f"{model.name}{weights} gives NaN or infinity in {model.dtype}: its weights can't be used, "
            "or only in a wider dtype"
        )
    return array


def numpy_rows(
    rows: Iterable[tuple[Key, Tensor]], model: AudioVisualModel, batch_size: int = 256
) -> Iterator[tuple[Key, np.ndarray]]:
    """Turn (key, row) pairs on the device into (key, float32 array) pairs, many at a time; see `to_numpy`."""
    for batch in batched(rows, batch_size):
        yield from zip((key for key, _ in batch), to_numpy((row for _, row in batch), model), strict=True)


def prepared_audio(model: AudioVisualModel, samples: Tensor) -> Tensor:
    """Turn samples (B, n, channels) into the input of the model's sound tower, in the model's dtype."""
    return model.prepare_audio(samples).to(model.dtype)


def prepared_frames(model: AudioVisualModel, frames: Tensor) -> Tensor:
    """Turn frames (B, T, H, W, 3) into the input of the model's picture tower, in the model's dtype."""
    return model.prepare_frames(frames).to(model.dtype)


def embed_windows(
    model: EmbedsAudio, windows: Iterable[tuple[Key, np.ndarray]], embedding: str, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[Key, Tensor]]:
    """Embed (key, window (n, channels)) pairs; yield (key, row (D,)) for each."""
    return run_batches(
        windows, batch_size, model, lambda batch: model.embed_audio(prepared_audio(model, batch), embedding)
    )


def embed_clips(
    model: EmbedsFrames, clips: Iterable[tuple[Key, np.ndarray]], embedding: str, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[Key, Tensor]]:
    """Embed (key, frames (T, H, W, 3) or what `precompute_frames` returned) pairs; yield (key, row (D,)) for each."""
    return run_batches(
        clips, batch_size, model, lambda batch: model.embed_frames(prepared_frames(model, batch), embedding)
    )


def represent_windows(
    model: Compares, windows: Iterable[tuple[Key, np.ndarray]], batch_size: int = BATCH_SIZE
) -> Iterator[tuple[Key, Tensor]]:
    """Turn (key, window (n, channels)) pairs into (key, input of `compare`) pairs."""
    return run_batches(windows, batch_size, model, lambda batch: model.represent_audio(prepared_audio(model, batch)))


def represent_clips(
    model: Compares, clips: Iterable[tuple[Key, np.ndarray]], batch_size: int = BATCH_SIZE
) -> Iterator[tuple[Key, Tensor]]:
    """Turn (key, frames) pairs, as in `embed_clips`, into (key, input of `compare`) pairs."""
    return run_batches(clips, batch_size, model, lambda batch: model.represent_frames(prepared_frames(model, batch)))


def prepared_clips(model: AudioVisualModel, clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """Turn clips, whose frames have the model's size, into a prepared batch of frames and one of sound."""
    frames = stacked(model, [model.precompute_frames(clip.frames) for clip in clips])
    samples = stacked(model, [clip.samples for clip in clips])
    return prepared_frames(model, frames), prepared_audio(model, samples)


def embed_stretches(
    model: EmbedsAudio,
    stretches: Iterable[tuple[list, np.ndarray]],
    embedding: str,
    hop_size: float,
    batch_size: int,
) -> Iterator[tuple[Any, Tensor]]:
    """Embed the windows in (keys, stretch) pairs; yield (keys, rows (k, D)) for each.

    Stretches of one length share a batch.
    """
    hop = shared_hop(model, hop_size)

    def network(batch: Tensor) -> Tensor:
        spectrogram = prepared_audio(model, batch)
        if hop is None or not isinstance(model, Slices):
            return model.embed_audio(spectrogram, embedding)[:, None]
        return model.embed_slices(spectrogram, embedding, hop)  # (B, T, D)

    for batch in _same_length(stretches, batch_size):
        items = ((tuple(keys), stretch) for keys, stretch in batch)
        for keys, rows in run_batches(items, len(batch), model, network):
            yield from zip(keys, rows, strict=True)


def _same_length(stretches: Iterable[tuple], batch_size: int) -> Iterator[list[tuple]]:
    """Split stretches into lists of neighbours of one length, with at most `batch_size` windows per list."""
    batch: list[tuple] = []
    for keys, stretch in stretches:
        if batch and (len(stretch) != len(batch[0][1]) or (len(batch) + 1) * len(keys) > batch_size):
            yield batch
            batch = []
        batch.append((keys, stretch))
        if len(batch) * len(keys) >= batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
