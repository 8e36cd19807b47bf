"""Embeddings of recordings, pictures, videos and streams.

Lists, files and streams all go through the same few generators, so they give the same numbers; besides the results,
only the data in progress is in memory.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..media.arrays import is_array
from ..media.audio import check_sample_rate
from ..media.clips import Clip
from ..media.file_object import BinaryFile, described, is_file
from ..media.loudness import loudness, windows_loudness
from ..models.contract import AudioVisualModel, Fuses, check_embedding
from .arguments import (
    check_batch_size,
    check_file,
    check_frame_rates,
    check_hop,
    check_moments,
    get_model,
    pair_rates,
    shown,
)
from .batches import batched, embed_clips, embed_stretches, inference_of, numpy_rows, prepared_clips, to_numpy
from .inputs import audio_stretches, image_clips, model_clips


def get_audio_embedding(
    audio: Any,
    sr: Any = None,
    model: Any = None,
    *,
    embedding: str = "features",
    hop_size: float | None = None,
    center: bool = True,
    batch_size: int = 32,
    device: Any = None,
    dtype: Any = None,
    progress: bool = False,
) -> tuple[Any, Any]:
    """Embed one recording, or a list of them, window by window.

    Parameters
    ----------
    audio : array or tensor (n,) or (n, channels), path, binary file object, or list of these
        Floats in [-1, 1], or integers, which are scaled by their type's range. A file object is read from where it
        stands to its end, by way of a temporary file, and stays open.
    sr : int, or list of int for a list
        Sample rate in Hz; required for arrays. For files it is taken from them, with a warning if another is given.
    model : str, path, model or None
        A name from `list_models()`, a weights file, a model from `load_model`, or None for the default.
    embedding : {"features", "joint"}
        Pooled convolutional features, or vectors in the space that sound and pictures share.
    hop_size : float, optional
        Time between two windows, in seconds. By default the model's own, `model.sound.hop`: 0.1 for all but PE-AV,
        whose windows of 2 s are 1 s apart.
    center : bool
        Whether window k is centred on its timestamp; otherwise it begins there.
    batch_size : int
        Windows per pass through the network. Where windows are whole steps of the network apart, as at a hop of 0.1 s
        with the default model, it computes what they share only once; the embeddings are the same.
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
        For invalid arrays, rates or options.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = get_model(model, device, dtype)
    options = (embedding, hop_size, center, batch_size)
    embeddings, timestamps = _embed_recordings(audio, sr, model, *options, progress)
    return (embeddings, timestamps) if isinstance(audio, list) else (embeddings[0], timestamps[0])


def measured_audio_embedding(
    audio: Any,
    sr: Any,
    model: AudioVisualModel,
    *,
    embedding: str,
    hop_size: float | None,
    center: bool,
    batch_size: int = 32,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embed one recording as `get_audio_embedding` does, and measure the loudness (T,) of its windows, in dBFS."""
    items, rates = pair_rates(audio, sr)
    options = (embedding, hop_size, center, batch_size)
    blocks = [_row_blocks(rows) for rows in batched(_recording_rows(items, rates, model, *options, True), batch_size)]
    embeddings, times, levels = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return embeddings, times, levels


def audio_blocks(
    path: str | os.PathLike,
    model: AudioVisualModel,
    *,
    embedding: str,
    hop_size: float | None,
    center: bool,
    batch_size: int,
    measures: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Embed a recording of any length in constant memory; yield blocks of rows of the arrays of `get_audio_embedding`.

    Arguments and errors are those of `get_audio_embedding`.

    Yields
    ------
    block : dict
        `embedding` (n, D) and `timestamps` (n,), and if `measures` is set the `loudness` (n,) of the windows, in dBFS.
    """
    rows = _recording_rows([path], [None], model, embedding, hop_size, center, batch_size, measures)
    for batch in batched(rows, batch_size):
        vectors, times, levels = _row_blocks(batch)
        yield {"embedding": vectors, "timestamps": times} | ({"loudness": levels} if measures else {})


def _row_blocks(rows: list[tuple[_Window, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings (n, D), timestamps (n,) and loudness (n,) of rows."""
    times = np.array([window.time for window, _ in rows], dtype=np.float64)
    return np.stack([row for _, row in rows]), times, np.array([window.loudness for window, _ in rows])


class _Window(NamedTuple):
    """A window of one of several recordings."""

    recording: int
    time: float  # seconds
    loudness: float | None  # dBFS, if it is measured


def _embed_recordings(
    audio: Any,
    sr: Any,
    model: Any,
    embedding: str,
    hop_size: float | None,
    center: bool,
    batch_size: int,
    progress: bool,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the embeddings and the timestamps of recordings."""
    items, rates = pair_rates(audio, sr)
    vectors: list[list] = [[] for _ in items]
    times: list[list] = [[] for _ in items]
    listed = shown(items, progress, "recording")
    for window, row in _recording_rows(listed, rates, model, embedding, hop_size, center, batch_size, False):
        vectors[window.recording].append(row)
        times[window.recording].append(window.time)
    embeddings = [np.stack(rows) for rows in vectors]
    return embeddings, [np.array(each, dtype=np.float64) for each in times]


def _recording_rows(
    items: Iterable,
    rates: list,
    model: Any,
    embedding: str,
    hop_size: float | None,
    center: bool,
    batch_size: int,
    measures: bool,
) -> Iterator[tuple[_Window, np.ndarray]]:
    """Yield the windows of recordings and their embeddings (D,), in constant memory."""
    check_embedding(model, "audio", embedding)
    check_batch_size(batch_size)
    hop_size = check_hop(hop_size, model.sound)

    def stretches() -> Iterator[tuple[list, np.ndarray]]:
        for index, (item, rate) in enumerate(zip(items, rates, strict=True)):
            for starts, stretch in audio_stretches(item, rate, model, hop_size, center, batch_size):
                levels: Iterable = itertools.repeat(None, len(starts))
                if measures:
                    offsets = [start - starts[0] for start in starts]
                    levels = windows_loudness(stretch, offsets, model.sound.samples).tolist()
                times = [start / model.sound.sample_rate for start in starts]
                yield [_Window(index, *each) for each in zip(times, levels, strict=True)], stretch

    rows = embed_stretches(model, stretches(), embedding, hop_size, batch_size)
    return numpy_rows(rows, model, batch_size)


def stream_audio_embedding(
    path_or_chunks: Any,
    sr: int | None = None,
    model: Any = None,
    *,
    embedding: str = "features",
    hop_size: float | None = None,
    center: bool = True,
    batch_size: int = 32,
    device: Any = None,
    dtype: Any = None,
) -> Iterator[tuple[np.ndarray, float]]:
    """Embed a recording of any length in constant memory; yield the vectors of `get_audio_embedding` one by one.

    Parameters
    ----------
    path_or_chunks : path, binary file object, or iterable of arrays (n,) or (n, channels)
        Chunks follow one another without gaps, all at the rate `sr`. With `batch_size=1`, each embedding is yielded as
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
        For invalid chunks, rates or options.
    FileNotFoundError, OSError
        For a file that is missing or can't be decoded.
    """
    model = get_model(model, device, dtype)
    check_embedding(model, "audio", embedding)
    check_batch_size(batch_size)
    hop_size = check_hop(hop_size, model.sound)
    if not is_file(path_or_chunks):
        if is_array(path_or_chunks):
            path_or_chunks = [path_or_chunks]
        if not isinstance(path_or_chunks, Iterable):
            raise TypeError(
                f"expected a path, a binary file object or an iterable of chunks, got {described(path_or_chunks)}"
            )
        if sr is None:
            raise ValueError("sr is required for chunks of samples: pass their sample rate in Hz")
        sr = check_sample_rate(sr)
    stretches = audio_stretches(path_or_chunks, sr, model, hop_size, center, batch_size)
    rows = numpy_rows(embed_stretches(model, stretches, embedding, hop_size, batch_size), model, batch_size)
    return ((row, start / model.sound.sample_rate) for start, row in rows)


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
    image : array or tensor (H, W, 3) or (N, H, W, 3), path, binary file object, or list of these
        uint8, uint16, or floats in [0, 1]; grey and RGBA are converted. A model that sees motion, other than PE-AV,
        doesn't take single pictures: one image is a stack of exactly as many consecutive frames as its clips have.
    frame_rate : float, or list of float for a list
        If given, in Hz, pictures are frames of a video, and their times are also returned.
    model, embedding, batch_size, device, dtype, progress
        As in `get_audio_embedding`.

    Returns
    -------
    embedding : ndarray, shape (N, D), float32
        With `frame_rate`, (embedding, timestamps (N,) in seconds). For a list, a list of these.

    Raises
    ------
    ValueError, TypeError
        For invalid arrays or options.
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
    for index, row in numpy_rows(embed_clips(model, clips(), embedding, batch_size), model):
        vectors[index].append(row)
    results: list = [np.stack(rows) for rows in vectors]
    if frame_rate is not None:
        results = [(result, np.arange(len(result)) / rate) for result, rate in zip(results, rates, strict=True)]
    return results if isinstance(image, list) else results[0]


class VideoEmbedding(NamedTuple):
    """Embeddings of sound and pictures at the same moments, as `get_video_embedding` returns them."""

    audio: np.ndarray  # (T, D) float32, windows centred on the frames
    image: np.ndarray  # (T, D) float32
    timestamps: np.ndarray  # (T,) float64, presentation times in seconds


class FusedEmbedding(NamedTuple):
    """Embeddings as `get_video_embedding` returns them for a network that fuses sound and pictures."""

    joint: np.ndarray  # (T, D) float32
    timestamps: np.ndarray  # (T,) float64, presentation times in seconds


def get_video_embedding(
    path: str | os.PathLike | BinaryFile,
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
    path : str, path, or binary file object
    frame_rate : float, optional
        Frames per second to embed. By default all frames; with PE-AV, which sees clips of 2 s, one clip a second
        (`model.frames.hop`).
    model, embedding, batch_size, device, dtype, progress
        As in `get_audio_embedding`.

    Returns
    -------
    VideoEmbedding or FusedEmbedding
        Row k of `audio` embeds the window centred on `timestamps[k]`, the true presentation time of the frame of row k
        of `image`. A model that sees motion gets the frames around it, at the rate that it was trained at; beyond the
        ends, the first or the last frame is repeated. A model that fuses sound and pictures gives FusedEmbedding.

    Raises
    ------
    ValueError, TypeError
        For an invalid path or invalid options.
    FileNotFoundError, OSError
        If the file is missing, can't be decoded, or lacks pictures or sound.
    """
    check_file("path", path)
    model = get_model(model, device, dtype)
    check_video_embedding(model, embedding)
    check_batch_size(batch_size)
    frame_rate = check_moments(frame_rate, model.frames)
    clips = shown(model_clips(path, model, frame_rate), progress, "frame")
    return _embed_moments(clips, model, embedding, batch_size)


def video_blocks(
    path: str | os.PathLike, model: Any, *, embedding: str, frame_rate: float | None, batch_size: int, measures: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Embed a video of any length in constant memory; yield blocks of rows of the arrays of `get_video_embedding`.

    Arguments and errors are those of `get_video_embedding`.

    Yields
    ------
    block : dict
        `audio` (n, D) and `image` (n, D), or of a network that fuses them `joint` (n, D), and `timestamps` (n,); if
        `measures` is set also the `loudness` (n,) of the sounds, in dBFS.
    """
    check_video_embedding(model, embedding)
    check_batch_size(batch_size)
    clips = model_clips(path, model, check_moments(frame_rate, model.frames))
    for batch, found in _moments(clips, model, embedding, batch_size):
        levels = {"loudness": np.array([loudness(clip.samples) for clip in batch])} if measures else {}
        yield found._asdict() | levels


def _embed_moments(clips: Iterable[Clip], model: Any, embedding: str, batch_size: int) -> Any:
    """Embed all clips of a video."""
    blocks = [found for _, found in _moments(clips, model, embedding, batch_size)]
    return type(blocks[0])(*map(np.concatenate, zip(*blocks, strict=True)))


def _moments(clips: Iterable[Clip], model: Any, embedding: str, batch_size: int) -> Iterator[tuple[list[Clip], Any]]:
    """Yield batches of clips, and their embeddings, VideoEmbedding or FusedEmbedding."""
    kind: Any = FusedEmbedding if isinstance(model, Fuses) else VideoEmbedding
    for batch in batched(clips, batch_size):
        times = np.array([clip.time for clip in batch], dtype=np.float64)
        yield batch, kind(*(to_numpy(output, model) for output in _outputs(model, batch, embedding)), times)


def _outputs(model: Any, clips: list[Clip], embedding: str) -> tuple[Tensor, ...]:
    """Embed the sound and the frames of clips, or both together."""
    with inference_of(model):
        frames, sound = prepared_clips(model, clips)
        if isinstance(model, Fuses):
            return (model.embed_fused(frames, sound, embedding),)
        return model.embed_audio(sound, embedding), model.embed_frames(frames, embedding)


def check_video_embedding(model: AudioVisualModel, embedding: str) -> None:
    """Raise ValueError unless the model has that embedding of the sound and the pictures of videos."""
    for modality in ("video",) if isinstance(model, Fuses) else ("audio", "image"):
        check_embedding(model, modality, embedding)
