"""Sound from arrays and files, as samples (n, channels) in [-1, 1], float32 or float64, and their rate in Hz.

Files are read block by block, in constant memory whatever their length. Positions are in samples.
"""

from __future__ import annotations

import functools
import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import step
from .container import Demuxer, existing_file, open_container, start_seconds
from .resample import resample

SOUND_EXTENSIONS = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".caf", ".wma"),
    *(".amr", ".ac3", ".mka", ".w64", ".rf64"),
}
BLOCK_SECONDS = 30  # of sound read at once
_HIGHEST_RATE = 10_000_000  # Hz
_MOST_CHANNELS = 32  # an array with more columns is taken to be (channels, n)


# ---------------------------------------------------------------------------------------------------------- arrays


def check_sample_rate(sample_rate: Any) -> int:
    """Return the rate as an int; raise TypeError or ValueError unless it is a positive whole number of Hz."""
    if isinstance(sample_rate, bool | np.bool_) or not isinstance(sample_rate, int | float | np.integer | np.floating):
        kind = ValueError if isinstance(sample_rate, bool | np.bool_) else TypeError
        raise kind(f"sr must be a sample rate in Hz such as 44100, got {repr(sample_rate)[:60]}")
    if not (0 < sample_rate <= _HIGHEST_RATE and sample_rate == int(sample_rate)):
        raise ValueError(f"sr must be a positive whole number of Hz such as 44100, got {str(sample_rate)[:40]}")
    return int(sample_rate)


def to_samples(audio: Any, any_length: bool = False, dtype: str = "float32") -> np.ndarray:
    """Turn an array or tensor into samples (n, channels).

    Parameters
    ----------
    audio : array or tensor, shape (n_samples,) or (n_samples, n_channels)
        Floats in [-1, 1], or integers, which are scaled by their type's range.
    any_length : bool
        Whether there may be fewer samples than channels, as in the last chunk of a stream.
    dtype : {"float32", "float64"}

    Returns
    -------
    samples : ndarray, shape (n_samples, n_channels), of that dtype

    Raises
    ------
    ValueError
        If `audio` is empty, has another shape, or contains NaN or infinity.
    TypeError
        If `audio` isn't an array of real numbers.
    """
    samples = _as_array(audio)
    if samples.ndim not in (1, 2):
        raise ValueError(f"audio must have shape (n_samples,) or (n_samples, n_channels), got {samples.shape}")
    if samples.size == 0:
        raise ValueError(f"audio is empty: its shape is {samples.shape}; at least one sample is needed")
    most = _MOST_CHANNELS if any_length else min(_MOST_CHANNELS, samples.shape[0])
    if samples.ndim == 2 and samples.shape[1] > most:
        raise ValueError(
            f"audio of shape {samples.shape} would have {samples.shape[1]} channels; "
            f"channels come last: pass audio.T, of shape {samples.shape[::-1]}"
        )
    _warn_of_wrong_scale(samples)
    samples = samples if samples.ndim == 2 else samples[:, None]
    return _check_finite(_as_floats(samples, dtype), "audio")


def to_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """Mix samples (n, c) to another number of channels, (n, channels).

    If the numbers are equal, samples are returned unchanged; otherwise the mean of all channels is taken, and repeated
    if more than one is wanted.
    """
    if samples.shape[1] == channels:
        return samples
    mono = functools.reduce(np.add, samples.T) / samples.dtype.type(samples.shape[1])  # faster than mean(axis=1)
    return np.repeat(mono[:, None], channels, axis=1) if channels > 1 else mono[:, None]


def _as_array(audio: Any) -> np.ndarray:
    if hasattr(audio, "detach"):  # a torch tensor
        audio = audio.detach().cpu()
        audio = audio.numpy() if audio.dtype.itemsize > 2 or not audio.is_floating_point() else audio.float().numpy()
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"audio must be an array, a tensor, a path or a list of these, got {type(audio).__name__}")
    if audio.dtype.kind not in "iuf":
        raise TypeError(f"audio must hold real numbers (floats in [-1, 1] or integers), got dtype {audio.dtype}")
    return audio


def _warn_of_wrong_scale(samples: np.ndarray) -> None:
    """Warn of 16-bit samples in a wider type, a common mistake: too loud as floats, near silence as int32 or int64."""
    peak = float(np.abs(samples).max())
    if samples.dtype.kind == "f" and 10 < peak < np.inf:
        warnings.warn(
            f"the audio reaches {peak:.6g}, floats are expected in [-1, 1]: divide 16-bit samples by 32768",
            UserWarning,
            stacklevel=4,
        )
    if samples.dtype.kind == "i" and samples.itemsize > 2 and 0 < peak < 2.0 ** (8 * samples.itemsize - 15):
        warnings.warn(
            f"the {samples.dtype} audio reaches only {peak:.6g} of its type's range and is near silence: "
            "convert 16-bit samples with astype('int16')",
            UserWarning,
            stacklevel=4,
        )


def _as_floats(samples: np.ndarray, dtype: str) -> np.ndarray:
    """Scale samples to floats in [-1, 1]: signed integers by their range, unsigned ones around its middle."""
    if samples.dtype.kind != "f":
        half_range = 2.0 ** (8 * samples.dtype.itemsize - 1)
        middle = half_range if samples.dtype.kind == "u" else 0.0
        samples = (samples.astype(np.float64) - middle) / half_range
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are then refused
        return np.ascontiguousarray(samples, dtype=dtype)


def _check_finite(samples: np.ndarray, name: str, position: int = 0) -> np.ndarray:
    if np.isfinite(samples).all():
        return samples
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    raise ValueError(
        f"{name} holds {bad.size} NaN or infinite samples, the first at sample {position + bad[0]}; "
        "replace them, for example with numpy.nan_to_num"
    )


# ----------------------------------------------------------------------------------------------------------- files


def open_audio(path: str | os.PathLike, dtype: str = "float32") -> tuple[Iterator[np.ndarray], int]:
    """Open any sound or video file for reading block by block.

    Files are read by soundfile, or by PyAV if soundfile can't open them. In a container with video, the first sample is
    the start of the file: a late start and gaps are filled with zeros, so times stay true.

    Parameters
    ----------
    path : str or Path
    dtype : {"float32", "float64"}

    Returns
    -------
    blocks : iterator of ndarray, shape (n_samples, n_channels), of that dtype
        Blocks may have any length; in all there is at least one sample.
    sample_rate : int
        In Hz.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file can't be decoded or has no sound; the message names it.
    """
    path = existing_file(path)
    blocks, sample_rate = _open_with_soundfile(path, dtype) or _open_with_av(path, dtype)
    return checked_blocks(blocks, path), sample_rate


def read_audio(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Read an entire file: float32 samples (n_samples, n_channels), and the rate in Hz; see `open_audio`."""
    blocks, sample_rate = open_audio(path)
    return np.concatenate(list(blocks)), sample_rate


def checked_blocks(blocks: Iterator[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """Pass on the blocks of a file; raise OSError if there are none, ValueError for NaN or infinite samples."""
    first = next(blocks, None)
    if first is None:
        raise OSError(f"{path} holds no sound: not one sample could be decoded")
    return _finite_blocks(itertools.chain([first], blocks), path)


def _finite_blocks(blocks: Iterator[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    position = 0
    for block in blocks:
        step()
        yield _check_finite(block, str(path), position)
        position += len(block)


def _open_with_soundfile(path: Path, dtype: str) -> tuple[Iterator[np.ndarray], int] | None:
    """Return blocks and rate, or None if soundfile can't read the first samples, so that PyAV can try."""
    import soundfile

    try:
        file = soundfile.SoundFile(path)
        length = BLOCK_SECONDS * file.samplerate
        first = file.read(length, dtype=dtype, always_2d=True)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
        return None

    def blocks() -> Iterator[np.ndarray]:
        block = first
        with file:
            while block.size:
                yield block
                try:
                    block = file.read(length, dtype=dtype, always_2d=True)
                except soundfile.LibsndfileError as error:
                    warnings.warn(f"{path}: the sound is damaged and ends early: {error}", UserWarning, stacklevel=2)
                    return

    return blocks(), file.samplerate


def _open_with_av(path: Path, dtype: str) -> tuple[Iterator[np.ndarray], int]:
    container = open_container(path)
    try:
        stream = sound_stream(container, path)
    except OSError:
        container.close()
        raise
    rate = stream.codec_context.sample_rate

    def blocks() -> Iterator[np.ndarray]:
        with container:
            yield from stream_blocks(Demuxer(container, [stream], path), stream, start_seconds(container), dtype)

    return blocks(), rate


def sound_stream(container: Any, path: Path) -> Any:
    """Return the sound stream of a container; raise OSError if it has none that can be decoded."""
    stream = container.streams.best("audio")
    if stream is None or not stream.codec_context or not stream.codec_context.sample_rate:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no"
        raise OSError(f"{path} holds no sound that can be decoded ({kinds} streams)")
    return stream


def stream_blocks(demuxer: Demuxer, stream: Any, origin: float, dtype: str) -> Iterator[np.ndarray]:
    """Decode a stream of sound in blocks of about a second, on the container's own timeline.

    Parameters
    ----------
    demuxer : Demuxer
    stream : av.audio.stream.AudioStream
    origin : float
        Time of the first sample on the container's clock, in seconds; gaps and a late start become zeros.
    dtype : {"float32", "float64"}
    """
    return _regroup(_timed_blocks(demuxer, stream, origin, dtype), stream.codec_context.sample_rate)


def _timed_blocks(demuxer: Demuxer, stream: Any, origin: float, dtype: str) -> Iterator[np.ndarray]:
    rate, channels = stream.codec_context.sample_rate, max(1, stream.codec_context.channels)
    position, tolerance = 0, 0
    for frame in demuxer.decode(stream):
        if frame.time is not None:
            gap = round((frame.time - origin) * rate) - position
            if gap > tolerance:
                yield from _zeros(gap, channels, rate, dtype)
                position += gap
        samples = to_channels(_frame_samples(frame, dtype), channels)  # some streams change their channels midway
        if frame.sample_rate != rate:  # or their rate
            samples = resample(samples, frame.sample_rate, rate)
        position += len(samples)
        tolerance = rate // 20  # containers round times, some to milliseconds: once sound has begun, 50 ms is no gap
        yield samples


def _frame_samples(frame: Any, dtype: str) -> np.ndarray:
    """Return a decoded frame as samples (n, channels), whatever its sample format."""
    if frame.format.is_planar and frame.layout.nb_channels > 8:  # to_ndarray would read past the planes and crash
        import av

        [frame] = av.AudioResampler(format="flt").resample(frame)
    samples = frame.to_ndarray()  # (channels, n), or (1, n * channels) if interleaved
    channels = frame.layout.nb_channels
    return _as_floats(samples.T if frame.format.is_planar else samples.reshape(-1, channels), dtype)


def _regroup(blocks: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Join blocks into ones of at least `length` samples, because the frames of a codec are inefficiently small."""
    waiting: list[np.ndarray] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= length:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _zeros(length: int, channels: int, rate: int, dtype: str) -> Iterator[np.ndarray]:
    block = BLOCK_SECONDS * rate
    for start in range(0, length, block):
        yield np.zeros((min(block, length - start), channels), dtype=dtype)
