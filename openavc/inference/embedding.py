"""Recordings, pictures and videos to embeddings: windows, batches, streams.

Lists, files and streams all go through the same few generators, so they give the same numbers; besides the results only
what is being worked on is in memory.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..media.audio import check_sample_rate, open_audio, to_samples
from ..media.clips import (
    Clip,
    FramesInput,
    SoundInput,
    count_windows,
    cut_stretches,
    model_sound,
    video_clips,
    warn_if_silent,
    window_start,
)
from ..media.image import fit, read_image, to_images, to_stack
from ..models.contract import AudioVisualModel, Compares, EmbedsAudio, EmbedsFrames, Fuses, Slices, check_embedding
from .arguments import (
    check_batch_size,
    check_frame_rate,
    check_frame_rates,
    check_hop,
    get_model,
    is_array,
    is_path,
    pair_rates,
    shortened,
    shown,
)
from .batches import batched, embed_clips, numpy_rows, prepared_audio, prepared_clips, run_batches, to_numpy


def get_audio_embedding(
    audio: Any,
    sr: Any = None,
    model: Any = None,
    *,
    embedding: str = "features",
    hop_size: float = 0.1,
    center: bool = True,
    batch_size: int = 32,
    device: Any = None,
    dtype: Any = None,
    progress: bool = False,
) -> tuple[Any, Any]:
    """Embed one recording, or a list of them, window by window.

    Parameters
    ----------
    audio : array or tensor (n,) or (n, channels), path, or list of these
        Floats in [-1, 1], or integers, which are scaled by their type's range.
    sr : int, or list of int for a list
        Sample rate in Hz; required for arrays, taken from the file for paths.
    model : str, path, model or None
        A name of `list_models()`, a weights file, what `load_model` returned, or None for the default.
    embedding : {"features", "joint"}
        Pooled convolutional features, or the space that sound and pictures share.
    hop_size : float
        Time between two windows, in seconds.
    center : bool
        Whether window k is centred on its timestamp; otherwise it begins there.
    batch_size : int
        Windows that go through the network at once. Where they overlap by whole steps of the network, as at hop 0.1 s
        with the default model, it computes what they share once; the embeddings are the same.
    device, dtype : optional
        As in `load_model`.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    embedding : ndarray, shape (T, D), float32
    timestamps : ndarray, shape (T,), float64
        In seconds. For a list of recordings, two lists.

    Raises
    ------
    ValueError, TypeError
        For arrays, rates and options that make no sense.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = get_model(model, device, dtype)
    check_embedding(model, "audio", embedding)
    check_batch_size(batch_size)
    hop_size = check_hop(hop_size, model.sound)
    items, rates = pair_rates(audio, sr)

    def stretches() -> Iterator[tuple[list, np.ndarray]]:
        for index, (item, rate) in enumerate(zip(shown(items, progress, "recording"), rates, strict=True)):
            for starts, stretch in audio_stretches(item, rate, model, hop_size, center, batch_size):
                yield [(index, start / model.sound.sample_rate) for start in starts], stretch

    vectors: list[list] = [[] for _ in items]
    times: list[list] = [[] for _ in items]
    for keys, rows in embed_stretches(model, stretches(), embedding, hop_size, batch_size):
        for (index, timestamp), row in zip(keys, to_numpy(rows), strict=True):
            vectors[index].append(row)
            times[index].append(timestamp)
    embeddings = [np.stack(rows) for rows in vectors]
    timestamps = [np.array(each, dtype=np.float64) for each in times]
    return (embeddings, timestamps) if isinstance(audio, list) else (embeddings[0], timestamps[0])


def stream_audio_embedding(
    path_or_chunks: Any,
    sr: int | None = None,
    model: Any = None,
    *,
    embedding: str = "features",
    hop_size: float = 0.1,
    center: bool = True,
    batch_size: int = 32,
    device: Any = None,
    dtype: Any = None,
) -> Iterator[tuple[np.ndarray, float]]:
    """Embed a recording of any length in constant memory: the numbers of `get_audio_embedding`, one by one.

    Parameters
    ----------
    path_or_chunks : path, or iterable of arrays (n,) or (n, channels)
        Chunks follow one another without gap, all at the rate `sr`. With `batch_size=1` each embedding comes as
        soon as its window and about two seconds of context for resampling have been received.
    sr, model, embedding, hop_size, center, batch_size, device, dtype
        As in `get_audio_embedding`.

    Yields
    ------
    embedding : ndarray, shape (D,), float32
    timestamp : float
        In seconds.

    Raises
    ------
    ValueError, TypeError
        For chunks, rates and options that make no sense.
    FileNotFoundError, OSError
        For a file that is missing or can't be decoded.
    """
    model = get_model(model, device, dtype)
    check_embedding(model, "audio", embedding)
    check_batch_size(batch_size)
    hop_size = check_hop(hop_size, model.sound)
    if not is_path(path_or_chunks):
        if is_array(path_or_chunks):
            path_or_chunks = [path_or_chunks]
        if not isinstance(path_or_chunks, Iterable):
            raise TypeError(f"expected a path or an iterable of chunks, got {type(path_or_chunks).__name__}")
        if sr is None:
            raise ValueError("sr is required for chunks of samples: pass their sample rate in Hz")
        sr = check_sample_rate(sr)
    stretches = audio_stretches(path_or_chunks, sr, model, hop_size, center, batch_size)
    embedded = embed_stretches(model, stretches, embedding, hop_size, batch_size)
    return (
        (row, start / model.sound.sample_rate)
        for starts, rows in embedded
        for start, row in zip(starts, to_numpy(rows), strict=True)
    )


def get_image_embedding(
    image: Any,
    model: Any = None,
    *,
    embedding: str = "features",
    frame_rate: Any = None,
    batch_size: int = 32,
    device: Any = None,
    dtype: Any = None,
    progress: bool = False,
) -> Any:
    """Embed one picture, a stack of pictures, or a list of these.

    Parameters
    ----------
    image : array or tensor (H, W, 3) or (N, H, W, 3), path, or list of these
        uint8, uint16, or floats in [0, 1]; grey and RGBA are converted. A model that sees motion takes no single
        pictures: a stack of as many consecutive ones as its clips have is one image.
    frame_rate : float, or list of float for a list
        If given, pictures are frames of a video, and their times are returned too.
    model, embedding, batch_size, device, dtype, progress
        As in `get_audio_embedding`.

    Returns
    -------
    embedding : ndarray, shape (N, D), float32
        With `frame_rate`, (embedding, timestamps (N,) in seconds). For a list, a list of such.

    Raises
    ------
    ValueError, TypeError
        For arrays and options that make no sense.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = get_model(model, device, dtype)
    check_embedding(model, "image", embedding)
    check_batch_size(batch_size)
    items = image if isinstance(image, list) else [image]
    if not items:
        raise ValueError("the list of pictures is empty")
    rates = check_frame_rates(frame_rate, len(items))

    def clips() -> Iterator[tuple[int, np.ndarray]]:
        for index, item in enumerate(shown(items, progress, "picture")):
            yield from ((index, frames) for frames in image_clips(item, model))

    vectors: list[list] = [[] for _ in items]
    for index, row in numpy_rows(embed_clips(model, clips(), embedding, batch_size)):
        vectors[index].append(row)
    results: list = [np.stack(rows) for rows in vectors]
    if frame_rate is not None:
        results = [(result, np.arange(len(result)) / rate) for result, rate in zip(results, rates, strict=True)]
    return results if isinstance(image, list) else results[0]


class VideoEmbedding(NamedTuple):
    """What `get_video_embedding` returns: sound and picture of the same moments."""

    audio: np.ndarray  # (T, D) float32, windows centred on the frames
    image: np.ndarray  # (T, D) float32
    timestamps: np.ndarray  # (T,) float64, presentation times in seconds


class FusedEmbedding(NamedTuple):
    """What `get_video_embedding` returns for a network that fuses sound and picture."""

    joint: np.ndarray  # (T, D) float32
    timestamps: np.ndarray  # (T,) float64, presentation times in seconds


def get_video_embedding(
    path: str | os.PathLike,
    model: Any = None,
    *,
    embedding: str = "features",
    frame_rate: float | None = None,
    batch_size: int = 32,
    device: Any = None,
    dtype: Any = None,
    progress: bool = False,
) -> Any:
    """Embed the frames of a video and the sound around each of them.

    Parameters
    ----------
    path : str or path
    frame_rate : float, optional
        Frames a second to embed; all frames by default.
    model, embedding, batch_size, device, dtype, progress
        As in `get_audio_embedding`.

    Returns
    -------
    VideoEmbedding or FusedEmbedding
        Row k of `audio` is a window centred on `timestamps[k]`, the true presentation time of the frame of row k. A
        model that sees motion gets the frames around it, at the rate that it was trained at; the first and the last
        frame stand for what lies beyond them. Of a model that fuses sound and pictures, FusedEmbedding.

    Raises
    ------
    FileNotFoundError, OSError
        If the file is missing, can't be decoded, or lacks pictures or sound.
    """
    if not is_path(path):
        raise TypeError(f"path must be a str or path, got {type(path).__name__}")
    model = get_model(model, device, dtype)
    check_video_embedding(model, embedding)
    check_batch_size(batch_size)
    if frame_rate is not None:
        check_frame_rate(frame_rate)
    outputs = _fused_outputs if isinstance(model, Fuses) else _outputs
    times, rows = [], []
    clips = shown(model_clips(path, model, frame_rate), progress, "frame")
    for batch in batched(clips, batch_size):
        times += [clip.time for clip in batch]
        rows.append([to_numpy(output) for output in outputs(model, batch, embedding)])
    arrays = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    timestamps = np.array(times, dtype=np.float64)
    if isinstance(model, Fuses):
        return FusedEmbedding(arrays[0], timestamps)
    return VideoEmbedding(arrays[0], arrays[1], timestamps)


@torch.inference_mode()
def _outputs(model: Any, clips: list[Clip], embedding: str) -> tuple[Tensor, Tensor]:
    frames, sound = prepared_clips(model, clips)
    return model.embed_audio(sound, embedding), model.embed_frames(frames, embedding)


@torch.inference_mode()
def _fused_outputs(model: Fuses, clips: list[Clip], embedding: str) -> tuple[Tensor]:
    return (model.embed_fused(*prepared_clips(model, clips), embedding),)


def check_video_embedding(model: AudioVisualModel, embedding: str) -> None:
    """Raise ValueError unless the model embeds the sound and the pictures of videos in that way."""
    for modality in ("video",) if isinstance(model, Fuses) else ("audio", "image"):
        check_embedding(model, modality, embedding)


# ----------------------------------------------------------------------------------------------- windows and clips


def audio_windows(
    source: Any, sr: int | None, model: EmbedsAudio | Compares, hop_size: float, center: bool
) -> Iterator[tuple[float, np.ndarray]]:
    """Give (timestamp, window (n, channels)) of one recording; warns once of silence or of less than a window."""
    for starts, window in audio_stretches(source, sr, model, hop_size, center, group=1):
        yield starts[0] / model.sound.sample_rate, window


def audio_stretches(
    source: Any, sr: int | None, model: EmbedsAudio | Compares, hop_size: float, center: bool, group: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Give stretches of one recording at the model's rate, each with the first sample of each window in it.

    A stretch, (n, channels), has `group` windows if the network can share one pass among windows so far apart,
    otherwise one. Warns once of silence or of less than a window.
    """
    sound = model.sound
    if shared_hop(model, hop_size) is None:
        group = 1
    blocks, rate = open_source(source, sr, sound)
    name = str(source) if is_path(source) else "the audio"
    heard = warn_if_silent(model_sound(blocks, rate, sound), name, sound)
    silence = [np.zeros((sound.samples // 2, sound.channels), dtype=sound.dtype)] if center else []

    def count(samples: int) -> int:
        return count_windows(samples, sound.samples, hop_size, sound.sample_rate)

    starts = (window_start(k, hop_size, sound.sample_rate) for k in itertools.count())
    yield from cut_stretches(itertools.chain(silence, heard), starts, sound.samples, count, group)


def shared_hop(model: EmbedsAudio | Compares, hop_size: float) -> int | None:
    """Return the hop in samples if windows so far apart overlap and are slices of one pass; else None."""
    step = model.slice_samples if isinstance(model, Slices) else None
    hop = hop_size * model.sound.sample_rate
    if step is None or hop >= model.sound.samples or abs(hop - step * round(hop / step)) > 1e-9:
        return None
    return round(hop)


def open_source(source: Any, sr: Any, sound: SoundInput) -> tuple[Iterator[np.ndarray], int]:
    """Return blocks (n, channels) and their rate, of a path, an array or an iterable of chunks."""
    if is_path(source):
        return open_audio(source, sound.dtype)
    if is_array(source) or not isinstance(source, Iterable):
        return iter([to_samples(source, dtype=sound.dtype)]), sr
    return _chunks(source, sound.dtype), sr


def _chunks(source: Iterable, dtype: str) -> Iterator[np.ndarray]:
    """Give the chunks of a stream as blocks; empty ones are passed over."""
    empty = True
    for chunk in source:
        if 0 not in getattr(chunk, "shape", ()):
            empty = False
            # a copy: live sources fill one buffer again and again
            yield np.array(to_samples(chunk, any_length=True, dtype=dtype))
    if empty:
        raise ValueError("there is no sound in the stream: no chunk held a sample")


def crop_to(frames: FramesInput) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that crops a frame (H, W, 3), uint8, to what a network sees, float32 in [0, 1]."""
    return lambda frame: fit(to_images(frame)[0], frames.height, frames.width)


def model_clips(path: str | os.PathLike, model: Any, frame_rate: float | None) -> Iterator[Clip]:
    """Cut the clips of a video that the model takes, frames cropped to its size."""
    return video_clips(path, model.sound, model.frames, frame_rate, crop_to(model.frames))


def image_clips(item: Any, model: EmbedsFrames | Compares) -> Iterator[np.ndarray]:
    """Give the frames of clips (T, H, W, 3), precomputed, of a path, a picture or a stack of pictures.

    For a model of pictures each picture is a clip; for one that sees motion a stack of just as many frames is one.
    """
    if model.frames.count > 1:
        yield model.precompute_frames(_one_run(item, model))
        return
    if isinstance(item, list):
        raise TypeError("a list of pictures can't hold lists: give arrays (H, W, 3) or (N, H, W, 3), or paths")
    for picture in [read_image(item)] if is_path(item) else _singles(item):
        yield model.precompute_frames(fit(to_images(picture)[0], model.frames.height, model.frames.width)[None])


def _singles(item: Any) -> Iterator[np.ndarray]:
    """Split an array or a stack into its pictures; ValueError if there are none."""
    stack = to_stack(item)
    if len(stack) == 0:
        to_images(stack)  # raises
    yield from stack


def _one_run(item: Any, model: EmbedsFrames | Compares) -> np.ndarray:
    """Crop a stack of just as many frames as the model's clips have; ValueError for anything else."""
    count, shape = model.frames.count, tuple(getattr(item, "shape", ()))
    if len(shape) != 4 or shape[0] != count:
        raise ValueError(
            f"{model.name} takes runs of {count} consecutive frames, not single pictures: give it a video "
            f"(get_video_embedding, video_scores), or a stack ({count}, H, W, 3); got "
            f"{f'shape {shape}' if shape else shortened(item)}"
        )
    return np.stack([fit(picture, model.frames.height, model.frames.width) for picture in to_images(item)])


# ---------------------------------------------------------------------------------------------------------- stretches


def embed_stretches(
    model: EmbedsAudio,
    stretches: Iterable[tuple[list, np.ndarray]],
    embedding: str,
    hop_size: float,
    batch_size: int,
) -> Iterator[tuple[tuple, Tensor]]:
    """Embed the windows in (keys, stretch) pairs: (keys, rows (k, D)) each; stretches of one length share a batch."""
    hop = shared_hop(model, hop_size)

    def network(batch: Tensor) -> Tensor:
        spectrogram = prepared_audio(model, batch)
        if hop is None or not isinstance(model, Slices):
            return model.embed_audio(spectrogram, embedding)[:, None]
        return model.embed_slices(spectrogram, embedding, hop)  # (B, T, D)

    for batch in _same_length(stretches, batch_size):
        yield from run_batches(((tuple(keys), stretch) for keys, stretch in batch), len(batch), model, network)


def _same_length(stretches: Iterable[tuple], batch_size: int) -> Iterator[list[tuple]]:
    """Split stretches into runs of neighbours of one length, of at most `batch_size` windows in all."""
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
