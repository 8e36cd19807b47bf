"""Recordings, pictures and videos to embeddings: windows, batches, streams.

Lists, files and streams all go through the same few generators, so they give the same numbers; beside the
results only what is being worked on is in memory.
"""

from __future__ import annotations

import collections
import copy
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .audio import check_sample_rate, count_windows, open_audio, resample_blocks, to_waveform, window_start
from .image import fit, read_image, to_images, to_stack
from .motion import frames_of, joining, run_needed, runs
from .video import read_frames, sample_frames
from .weights import choose_device, load_model, to_dtype

_LONGEST_HOP, _HIGHEST_FRAME_RATE = 1e6, 1e6  # seconds, frames a second
_loaded: dict[tuple, object] = {}  # models asked for by name, kept between calls


def get_audio_embedding(
    audio,
    sr=None,
    model=None,
    *,
    embedding="features",
    hop_size=0.1,
    center=True,
    batch_size=32,
    device=None,
    dtype=None,
    progress=False,
):
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
    check_embedding_option(model, "audio", embedding)
    check_batch_size(batch_size)
    hop_size = check_hop(hop_size, model)
    items, rates = pair_rates(audio, sr)

    def stretches():
        for index, (item, rate) in enumerate(zip(_progress(items, progress, "recording"), rates, strict=True)):
            for starts, stretch in audio_stretches(item, rate, model, hop_size, center, batch_size):
                yield [(index, start / model.sample_rate) for start in starts], stretch

    found = [([], []) for _ in items]
    for (index, timestamp), vector in embed_stretches(model, stretches(), embedding, hop_size, batch_size):
        found[index][0].append(vector)
        found[index][1].append(timestamp)
    embeddings = [np.stack(vectors) for vectors, _ in found]
    timestamps = [np.array(times, dtype=np.float64) for _, times in found]
    return (embeddings, timestamps) if isinstance(audio, list) else (embeddings[0], timestamps[0])


def stream_audio_embedding(
    path_or_chunks,
    sr=None,
    model=None,
    *,
    embedding="features",
    hop_size=0.1,
    center=True,
    batch_size=32,
    device=None,
    dtype=None,
):
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
    """
    model = get_model(model, device, dtype)
    check_embedding_option(model, "audio", embedding)
    check_batch_size(batch_size)
    hop_size = check_hop(hop_size, model)
    if not isinstance(path_or_chunks, str | os.PathLike):
        if isinstance(path_or_chunks, np.ndarray) or hasattr(path_or_chunks, "detach"):
            path_or_chunks = [path_or_chunks]
        if not isinstance(path_or_chunks, Iterable):
            raise TypeError(f"expected a path or an iterable of chunks, got {type(path_or_chunks).__name__}")
        if sr is None:
            raise ValueError("sr is required for chunks of samples: pass their sample rate in Hz")
        sr = check_sample_rate(sr)
    return _stream(path_or_chunks, sr, model, embedding, hop_size, center, batch_size)


def _stream(source, sr, model, embedding, hop_size, center, batch_size):
    stretches = audio_stretches(source, sr, model, hop_size, center, batch_size)
    for start, vector in embed_stretches(model, stretches, embedding, hop_size, batch_size):
        yield vector, start / model.sample_rate


def get_image_embedding(
    image,
    model=None,
    *,
    embedding="features",
    frame_rate=None,
    batch_size=32,
    device=None,
    dtype=None,
    progress=False,
):
    """Embed one picture, a stack of pictures, or a list of these.

    Parameters
    ----------
    image : array or tensor (H, W, 3) or (N, H, W, 3), path, or list of these
        uint8, uint16, or floats in [0, 1]; grey and RGBA are converted. A model that sees motion takes no single
        pictures: a stack of its `frames` consecutive ones is one image.
    frame_rate : float, or list of float for a list
        If given, pictures are frames of a video, and their times are returned too.
    model, embedding, batch_size, device, dtype, progress
        As in `get_audio_embedding`.

    Returns
    -------
    embedding : ndarray, shape (N, D), float32
        With `frame_rate`, (embedding, timestamps (N,) in seconds). For a list, a list of such.
    """
    model = get_model(model, device, dtype)
    check_embedding_option(model, "image", embedding)
    check_batch_size(batch_size)
    items = image if isinstance(image, list) else [image]
    if not items:
        raise ValueError("the list of pictures is empty")
    rates = check_frame_rates(frame_rate, len(items))

    def squares():
        for index, item in enumerate(_progress(items, progress, "picture")):
            yield from ((index, square) for square in image_squares(item, model))

    found = [[] for _ in items]
    for index, vector in embed_squares(model, squares(), embedding, batch_size):
        found[index].append(vector)
    results = [np.stack(vectors) for vectors in found]
    if frame_rate is not None:
        results = [(result, np.arange(len(result)) / rate) for result, rate in zip(results, rates, strict=True)]
    return results if isinstance(image, list) else results[0]


class VideoEmbedding(NamedTuple):
    """What `get_video_embedding` returns: sound and picture of the same moments."""

    audio: np.ndarray  # (T, D) float32, windows centred on the frames
    image: np.ndarray  # (T, D) float32
    timestamps: np.ndarray  # (T,) float64, presentation times in seconds


def get_video_embedding(
    path,
    model=None,
    *,
    embedding="features",
    frame_rate=None,
    batch_size=32,
    device=None,
    dtype=None,
    progress=False,
) -> VideoEmbedding:
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
    VideoEmbedding
        Row k of `audio` is a window centred on `timestamps[k]`, the true presentation time of the frame of row k. A
        model that sees motion gets the frames around it, too, at the video's own rate; beyond its first and last frame
        these are repeated.

    Raises
    ------
    FileNotFoundError, OSError
        If the file is missing, can't be decoded, or lacks pictures or sound.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a str or path, got {type(path).__name__}")
    model = get_model(model, device, dtype)
    check_embedding_option(model, "audio", embedding)
    check_embedding_option(model, "image", embedding)
    check_batch_size(batch_size)
    if frame_rate is not None:
        check_frame_rate(frame_rate)
    blocks, rate = open_audio(path, waveform_dtype(model))  # fails before the pictures are worked on
    squares = video_squares(path, frame_rate, model, progress)
    times, images = zip(*embed_squares(model, squares, embedding, batch_size), strict=True)
    windows = video_windows(blocks, rate, path, times, model)
    audio = [vector for _, vector in embed_windows(model, windows, embedding, batch_size)]
    return VideoEmbedding(np.stack(audio), np.stack(images), np.array(times, dtype=np.float64))


# -------------------------------------------------------------------------------------------- windows and squares


def audio_windows(source, sr, model, hop_size, center) -> Iterator[tuple[float, np.ndarray]]:
    """(timestamp, window) of one recording at the model's rate; warns once of silence or of less than a window."""
    for starts, window in audio_stretches(source, sr, model, hop_size, center, group=1):
        yield starts[0] / model.sample_rate, window


def audio_stretches(source, sr, model, hop_size, center, group) -> Iterator[tuple[list[int], np.ndarray]]:
    """(first sample of each window, samples from the first window to the last) of one recording at the model's rate.

    A stretch has `group` windows if the network can share one pass among windows so far apart, otherwise one. Warns
    once of silence or of less than a window.
    """
    if shared_hop(model, hop_size) is None:
        group = 1
    blocks, rate = open_source(source, sr, waveform_dtype(model))
    name = str(source) if isinstance(source, str | os.PathLike) else "the audio"
    sound = warn_if_silent(resample_blocks(blocks, rate, model.sample_rate), name, model)
    silence = [np.zeros(model.window_samples // 2, dtype=np.float32)] if center else []

    def count(samples: int) -> int:
        return count_windows(samples, model.window_samples, hop_size, model.sample_rate)

    starts = (window_start(k, hop_size, model.sample_rate) for k in itertools.count())
    yield from cut_stretches(itertools.chain(silence, sound), starts, model.window_samples, count, group)


def waveform_dtype(model) -> str:
    """ "float32", or "float64" if the model's spectrogram tells the difference."""
    return getattr(model, "waveform_dtype", "float32")


def shared_hop(model, hop_size: float) -> int | None:
    """The hop in samples, if windows so far apart overlap and are slices of one pass of the network; else None."""
    step, hop = getattr(model, "slice_samples", None), hop_size * model.sample_rate
    if step is None or hop >= model.window_samples or abs(hop - step * round(hop / step)) > 1e-9:
        return None
    return round(hop)


def video_squares(path, frame_rate, model, progress: bool = False) -> Iterator[tuple[float, np.ndarray]]:
    """(time, square picture, or image of the frames around it) of the frames of a video."""
    length = frames_of(model)
    frames = _progress(read_frames(path, frame_rate if length == 1 else None), progress, "frame")
    squares = ((time, fit(to_images(frame)[0], model.image_size)) for time, frame in frames)
    if length == 1:
        yield from squares
        return
    for time, run in sample_frames(runs(squares, length), frame_rate):
        yield time, joining(model)(np.stack(run))


def video_windows(blocks, rate, path, times, model) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, window) centred on each of the times, from the blocks of the video's sound."""
    sound = warn_if_silent(resample_blocks(blocks, rate, model.sample_rate), str(path), model)
    starts = (round(time * model.sample_rate) - model.window_samples // 2 for time in times)
    for (start,), window in cut_stretches(sound, starts, model.window_samples):
        yield start, window
    collections.deque(sound, maxlen=0)  # to its end, which tells whether it is silent


def warn_if_silent(blocks: Iterator[np.ndarray], name: str, model, category=UserWarning) -> Iterator[np.ndarray]:
    """The same blocks; at their end one warning if they were silent or shorter than a window."""
    samples, loud = 0, False
    for block in blocks:
        samples, loud = samples + len(block), loud or bool(block.any())
        yield block
    if not loud:
        warnings.warn(f"{name} is silent; it is embedded all the same", category, stacklevel=2)
    elif samples < model.window_samples:
        seconds = f"{samples / model.sample_rate:.3g} s"
        warnings.warn(
            f"{name} is {seconds} long, shorter than one window of {model.window_seconds:g} s; zeros are added",
            category,
            stacklevel=2,
        )


def open_source(source, sr, dtype: str = "float32") -> tuple[Iterator[np.ndarray], int]:
    """Mono blocks and their rate, of a path, an array or an iterable of chunks."""
    if isinstance(source, str | os.PathLike):
        return open_audio(source, dtype)
    if isinstance(source, np.ndarray) or hasattr(source, "detach") or not isinstance(source, Iterable):
        return iter([to_waveform(source, dtype=dtype)]), sr
    return _chunks(source, dtype), sr


def _chunks(source: Iterable, dtype: str) -> Iterator[np.ndarray]:
    """Mono chunks of a stream; empty ones are passed over."""
    empty = True
    for chunk in source:
        if 0 not in getattr(chunk, "shape", ()):
            empty = False
            # a copy: live sources fill one buffer again and again
            yield np.array(to_waveform(chunk, any_length=True, dtype=dtype))
    if empty:
        raise ValueError("there is no sound in the stream: no chunk held a sample")


def cut_stretches(
    blocks: Iterator[np.ndarray],
    starts: Iterable[int],
    length: int,
    count: Callable[[int], int] | None = None,
    group: int = 1,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Cut stretches of neighbouring windows out of a stream, with zeros before its start and after its end.

    Parameters
    ----------
    blocks : iterator of ndarray
    starts : iterable of int, ascending
        First sample of each window; may be endless if `count` is given.
    length : int
        Of a window, in samples.
    count : callable, optional
        Number of windows for a stream of so many samples.
    group : int
        Windows of a stretch; the last may have fewer.

    Yields
    ------
    starts : list of int
        Of the windows in the stretch.
    stretch : ndarray, shape (starts[-1] + length - starts[0],)
    """
    held: collections.deque[tuple[int, np.ndarray]] = collections.deque()  # blocks, each with its first sample
    received, ended, done, starts = 0, False, 0, iter(starts)
    while inside := list(itertools.islice(starts, group)):
        while not ended and received < inside[-1] + length:
            block = next(blocks, None)
            ended = block is None
            if not ended:
                held.append((received, block))
                received += len(block)
            while held and held[0][0] + len(held[0][1]) <= inside[0]:
                held.popleft()
        if ended and count is not None:
            inside = inside[: max(0, count(received) - done)]
            if not inside:
                return
        yield inside, _cut(held, inside[0], inside[-1] + length)
        done += len(inside)


def _cut(held: Iterable[tuple[int, np.ndarray]], start: int, end: int) -> np.ndarray:
    """Samples `start` to `end` of a stream of which some blocks are held; zeros where there is none."""
    stretch = np.zeros(end - start, dtype=np.result_type(np.float32, *(block.dtype for _, block in held)))
    for position, block in held:
        first, last = max(start, position), min(end, position + len(block))
        if first < last:
            stretch[first - start : last - start] = block[first - position : last - position]
    return stretch


def image_squares(item, model) -> Iterator[np.ndarray]:
    """The pictures of a path, an array or a stack, as squares (size, size, 3); for some models, the image of a run."""
    if frames_of(model) > 1:
        yield _image_of_run(item, model)
        return
    if isinstance(item, str | os.PathLike):
        yield fit(read_image(item), model.image_size)
        return
    if isinstance(item, list):
        raise TypeError("a list of pictures can't hold lists: give arrays (H, W, 3) or (N, H, W, 3), or paths")
    stack = to_stack(item)
    if len(stack) == 0:
        to_images(stack)  # raises
    for picture in stack:
        yield fit(to_images(picture)[0], model.image_size)


def _image_of_run(item, model) -> np.ndarray:
    """What a stack of just as many frames as the model takes is for it; ValueError for anything else."""
    shape = tuple(getattr(item, "shape", ()))
    if len(shape) != 4 or shape[0] != model.frames:
        raise ValueError(f"{run_needed(model)}; got {f'shape {shape}' if shape else _short(item)}")
    return joining(model)(np.stack([fit(picture, model.image_size) for picture in to_images(item)]))


def embed_windows(model, windows: Iterator[tuple], embedding: str, batch_size: int) -> Iterator[tuple]:
    """(what came before the window, vector) for tuples that end with a window of samples."""
    return run_batches(
        windows, batch_size, model, lambda batch: model.embed_audio(prepared_audio(model, batch), embedding)
    )


def embed_stretches(model, stretches: Iterator[tuple], embedding: str, hop_size: float, batch_size: int):
    """(key, vector) of each window of (keys, stretch) pairs; stretches of one length share a batch."""
    hop = shared_hop(model, hop_size)

    def network(batch):
        spectrogram = prepared_audio(model, batch)
        if hop is None:
            return model.embed_audio(spectrogram, embedding)[:, None]
        return model.embed_slices(spectrogram, embedding, hop)  # (B, T, D)

    for batch in _alike(stretches, batch_size):
        for keys, vectors in run_batches(iter(batch), len(batch), model, network):
            yield from zip(keys, vectors, strict=True)


def _alike(stretches: Iterator[tuple], batch_size: int) -> Iterator[list[tuple]]:
    """Runs of neighbours of the same length, of at most `batch_size` windows in all."""
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


def embed_squares(model, squares: Iterator[tuple], embedding: str, batch_size: int) -> Iterator[tuple]:
    """(what came before the picture, vector) for tuples that end with a square picture."""
    return run_batches(
        squares, batch_size, model, lambda batch: model.embed_image(prepared_images(model, batch), embedding)
    )


def prepared_audio(model, waveforms):
    """Waveforms (B, n) to the spectrograms that the model's sound tower takes, in the model's dtype."""
    return model.prepare_audio(waveforms).to(next(model.parameters()).dtype)


def prepared_images(model, squares):
    """Pictures (B, size, size, 3) to what the model's picture tower takes, in the model's dtype."""
    return model.prepare_image(squares).to(next(model.parameters()).dtype)


def run_batches(items: Iterator[tuple], batch_size: int, model, network: Callable) -> Iterator[tuple]:
    """(key, float32 vector) of each item; its key is what stood before the array, a tuple if it was several."""
    import torch

    device = next(model.parameters()).device
    while batch := list(itertools.islice(items, batch_size)):
        keys = [item[0] if len(item) == 2 else item[:-1] for item in batch]
        arrays = torch.from_numpy(np.stack([item[-1] for item in batch])).to(device)
        with torch.inference_mode():
            vectors = network(arrays).float().cpu().numpy()
        yield from zip(keys, vectors, strict=True)


# ------------------------------------------------------------------------------------------------------- arguments


def get_model(model, device=None, dtype=None):
    """The model an argument stands for; those asked for by name or path are loaded once."""
    if hasattr(model, "embed_audio") or hasattr(model, "embed_image"):
        return _converted(model, device, dtype)
    stamp = None
    if model is not None and Path(str(model)).is_file():
        stamp = os.stat(model).st_mtime_ns
    key = (None if model is None else str(model), choose_device(device), to_dtype(dtype), stamp)
    if key not in _loaded:
        _loaded[key] = load_model(model, device=device, dtype=dtype)
    return _loaded[key]


def _converted(model, device, dtype):
    """The model itself, or a copy on another device or of another dtype: the caller's stays as it is."""
    if device is None and dtype is None:
        return model
    parameter = next(model.parameters())
    device = parameter.device if device is None else choose_device(device)
    dtype = parameter.dtype if dtype is None else to_dtype(dtype)
    if (device, dtype) == (parameter.device, parameter.dtype):
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype)


def check_embedding_option(model, modality: str, embedding: str) -> None:
    """ValueError unless the model embeds that modality in that way."""
    if not hasattr(model, f"embed_{modality}") or modality not in getattr(model, "modalities", (modality,)):
        raise ValueError(f"{model.name} doesn't embed {modality}; choose another model of openavc.list_models()")
    if embedding not in model.embeddings:
        raise ValueError(
            f"{model.name} has no embedding {embedding!r}; it has {', '.join(map(repr, model.embeddings))}"
        )


def check_batch_size(batch_size) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or not 1 <= batch_size < 2**31:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {_short(batch_size)}")


def check_hop(hop_size, model) -> float:
    """The hop as a Python float, as NumPy's narrow types drift; ValueError unless it is at least one sample."""
    least, hop = 1 / model.sample_rate, hop_size.item() if isinstance(hop_size, np.generic) else hop_size
    if not (_is_real(hop) and least * (1 - 1e-9) <= hop <= _LONGEST_HOP):
        raise ValueError(f"hop_size must be in seconds, at least one sample ({least:.3g} s), got {_short(hop_size)}")
    return float(hop)


def check_frame_rates(frame_rate, items: int) -> list[float]:
    """A rate for each item; ValueError unless they are positive numbers."""
    rates = frame_rate if isinstance(frame_rate, list) else [frame_rate] * items
    if len(rates) != items:
        raise ValueError(f"{len(rates)} frame rates were given for {items} items: give one, or one for each")
    for rate in rates if frame_rate is not None else []:
        check_frame_rate(rate)
    return rates


def check_frame_rate(rate) -> None:
    if not (_is_real(rate) and 0 < rate <= _HIGHEST_FRAME_RATE):
        raise ValueError(f"frame_rate must be a positive number of frames a second, got {_short(rate)}")


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:40]}... ({len(text)} characters)"


def _is_real(value) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def pair_rates(audio, sr) -> tuple[list, list]:
    """(recordings, a checked rate for each, None for paths) of one recording or a list."""
    items = audio if isinstance(audio, list) else [audio]
    if not items:
        raise ValueError("the list of recordings is empty")
    rates = sr if isinstance(sr, list | tuple) else [sr] * len(items)
    if len(rates) != len(items):
        raise ValueError(f"{len(rates)} sample rates were given for {len(items)} recordings: give one, or one for each")
    checked = []
    for item, rate in zip(items, rates, strict=True):
        is_path = isinstance(item, str | os.PathLike)
        if not is_path and not isinstance(item, np.ndarray) and not hasattr(item, "detach"):
            raise TypeError(f"audio must be an array, a tensor, a path or a list of these, got {type(item).__name__}")
        if rate is None and not is_path:
            raise ValueError("sr is required for an array: pass its sample rate in Hz")
        checked.append(None if is_path else check_sample_rate(rate))
    return items, checked


def _progress(items: Iterable, shown: bool, unit: str) -> Iterable:
    if not shown:
        return items
    from tqdm import tqdm

    return tqdm(items, unit=unit)
