"""Audio input: file or array to mono waveform, to the model's rate, to windows, to spectrogram.

Waveforms are mono in [-1, 1], float32, or float64 for frontends that ask for it. Times are in seconds, rates in Hz,
positions in samples.
Everything works on blocks too, so that a file of any length takes constant memory; blocks and whole give the same.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

BLOCK_SECONDS = 30  # of sound decoded or resampled at once
_HIGHEST_RATE = 10_000_000  # Hz
_MOST_CHANNELS = 32  # more columns than this, and (n, channels) was (channels, n)
_LARGEST_FILTER_BANK = 4_000_000  # floats; rates whose ratio needs more go to resampy itself


# ---------------------------------------------------------------------------------------------- arrays and files


def check_sample_rate(sample_rate) -> int:
    """The rate as an int; TypeError or ValueError unless it is a positive whole number of Hz."""
    if isinstance(sample_rate, bool | np.bool_) or not isinstance(sample_rate, int | float | np.integer | np.floating):
        kind = ValueError if isinstance(sample_rate, bool | np.bool_) else TypeError
        raise kind(f"sr must be a sample rate in Hz such as 44100, got {repr(sample_rate)[:60]}")
    if not (0 < sample_rate <= _HIGHEST_RATE and sample_rate == int(sample_rate)):
        raise ValueError(f"sr must be a positive whole number of Hz such as 44100, got {str(sample_rate)[:40]}")
    return int(sample_rate)


def to_waveform(audio, any_length: bool = False, dtype: str = "float32") -> np.ndarray:
    """Turn an array or tensor into a mono waveform.

    Parameters
    ----------
    audio : array or tensor, shape (n_samples,) or (n_samples, n_channels)
        Floats in [-1, 1], or integers, which are scaled by their type's range.
    any_length : bool
        Whether there may be fewer samples than channels, as in the last chunk of a stream.
    dtype : {"float32", "float64"}

    Returns
    -------
    waveform : ndarray, shape (n_samples,), of that dtype

    Raises
    ------
    ValueError
        If it is empty, has another shape, or holds NaN or infinity.
    TypeError
        If it isn't an array of real numbers.
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
    return _finite(_downmix(_scale(samples), dtype), "audio")


def _as_array(audio) -> np.ndarray:
    if hasattr(audio, "detach"):  # a torch tensor
        audio = audio.detach().cpu()
        audio = audio.numpy() if audio.dtype.itemsize > 2 or not audio.is_floating_point() else audio.float().numpy()
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"audio must be an array, a tensor, a path or a list of these, got {type(audio).__name__}")
    if audio.dtype.kind not in "iuf":
        raise TypeError(f"audio must hold real numbers (floats in [-1, 1] or integers), got dtype {audio.dtype}")
    return audio


def _warn_of_wrong_scale(samples: np.ndarray) -> None:
    """16-bit samples in wider numbers are the usual mistake: far too loud as floats, near silence as int32 or int64."""
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


def _scale(samples: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1]: signed integers by their range, unsigned ones around its middle."""
    if samples.dtype.kind == "f":
        return samples
    half_range = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = half_range if samples.dtype.kind == "u" else 0.0
    return (samples.astype(np.float64) - middle) / half_range


def _downmix(samples: np.ndarray, dtype: str) -> np.ndarray:
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.promote_types(samples.dtype, dtype))
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite and is refused as such
        return np.ascontiguousarray(mono, dtype=dtype)


def _finite(waveform: np.ndarray, name: str, position: int = 0) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(waveform))
    if bad.size:
        raise ValueError(
            f"{name} holds {bad.size} NaN or infinite samples, the first at sample {position + bad[0]}; "
            "replace them, for example with numpy.nan_to_num"
        )
    return waveform


def open_audio(path: str | Path, dtype: str = "float32") -> tuple[Iterator[np.ndarray], int]:
    """Open any sound or video file for reading block by block.

    Sound files are read by soundfile, what it can't open by PyAV. In a container with video, the first sample
    is the start of the file: sound that begins later, or has gaps, is filled with zeros, so times stay true.

    Parameters
    ----------
    path : str or Path
    dtype : {"float32", "float64"}

    Returns
    -------
    blocks : iterator of ndarray, shape (n_samples,), of that dtype
        Mono blocks of any length, at least one sample in all.
    sample_rate : int
        In Hz.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it can't be decoded or has no sound, with its name.
    """
    path = existing_file(path)
    blocks, sample_rate = _open_with_soundfile(path, dtype) or _open_with_av(path, dtype)
    first = next(blocks, None)
    if first is None:
        raise OSError(f"{path} holds no sound: not one sample could be decoded")
    return _checked_blocks(first, blocks, path), sample_rate


def existing_file(path: str | Path) -> Path:
    """`path` as a Path; FileNotFoundError or IsADirectoryError unless it is a file."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the files in it (the command line takes folders)")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def _checked_blocks(first: np.ndarray, rest: Iterator[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    position = 0
    for block in itertools.chain([first], rest):
        yield _finite(block, str(path), position)
        position += len(block)


def _open_with_soundfile(path: Path, dtype: str) -> tuple[Iterator[np.ndarray], int] | None:
    """Blocks and rate, or None if soundfile can't read the file's first samples: then PyAV is to try."""
    import soundfile

    try:
        file = soundfile.SoundFile(path)
        length = BLOCK_SECONDS * file.samplerate
        first = file.read(length, dtype=dtype, always_2d=True)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
        return None

    def blocks():
        block = first
        with file:
            while block.size:
                yield _downmix(block, dtype)
                try:
                    block = file.read(length, dtype=dtype, always_2d=True)
                except soundfile.LibsndfileError as error:
                    warnings.warn(f"{path}: the sound is damaged and ends early: {error}", UserWarning, stacklevel=2)
                    return

    return blocks(), file.samplerate


def open_container(path: Path):
    """The PyAV container of a file; OSError with its name if it can't be opened."""
    import av

    try:
        return av.open(f"file:{path}", **_lenient_metadata())  # "file:", or 12:30.mkv would be a protocol
    except av.FFmpegError as error:
        raise OSError(f"{path} ({path.stat().st_size} bytes) can't be decoded: {error.strerror}") from error


def _lenient_metadata() -> dict:
    """Return the options with which `av.open` takes titles that aren't UTF-8; PyAV 19 has no such option and needs none."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def decode_stream(container, stream, path: Path) -> Iterator:
    """The frames of one stream; damaged packets are left out, with one warning."""
    import av

    packets, damaged = container.demux(stream), 0
    while True:
        try:
            packet = next(packets, None)  # after an error in the container itself, this is the end
            frames = packet.decode() if packet is not None else None
        except av.FFmpegError:
            damaged += 1
            continue
        if frames is None:
            break
        yield from frames
    if damaged:
        warnings.warn(f"{path}: {damaged} damaged packets of {stream.type} were left out", UserWarning, stacklevel=2)


def _open_with_av(path: Path, dtype: str) -> tuple[Iterator[np.ndarray], int]:
    container = open_container(path)
    stream = container.streams.best("audio")
    if stream is None or not stream.codec_context or not stream.codec_context.sample_rate:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no"
        container.close()
        raise OSError(f"{path} holds no sound that can be decoded ({kinds} streams)")
    rate = stream.codec_context.sample_rate
    return _regroup(_av_blocks(container, stream, path, rate, dtype), rate), rate


def _av_blocks(container, stream, path: Path, rate: int, dtype: str) -> Iterator[np.ndarray]:
    """Mono blocks on the container's own time line: gaps and a late start become zeros."""
    import av

    origin = (container.start_time or 0) / av.time_base
    position, tolerance = 0, 0
    with container:
        for frame in decode_stream(container, stream, path):
            if frame.time is not None:
                gap = round((frame.time - origin) * rate) - position
                if gap > tolerance:
                    yield from _zeros(gap, rate, dtype)
                    position += gap
            samples = _frame_samples(frame, dtype)
            if frame.sample_rate != rate:  # some streams change their rate on the way
                samples = resample(samples, frame.sample_rate, rate)
            position += len(samples)
            tolerance = rate // 20  # containers round times, some to milliseconds: within the sound, 50 ms is no gap
            yield samples


def _frame_samples(frame, dtype: str) -> np.ndarray:
    """A decoded frame as a mono waveform, whatever its sample format."""
    if frame.format.is_planar and frame.layout.nb_channels > 8:  # to_ndarray would read past the planes and crash
        import av

        [frame] = av.AudioResampler(format="flt").resample(frame)
    samples = frame.to_ndarray()  # (channels, n), or (1, n * channels) if interleaved
    channels = frame.layout.nb_channels
    return _downmix(_scale(samples.T if frame.format.is_planar else samples.reshape(-1, channels)), dtype)


def _regroup(blocks: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of at least `length`: a codec's frames are too small to work on."""
    held: list[np.ndarray] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= length:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _zeros(length: int, rate: int, dtype: str) -> Iterator[np.ndarray]:
    block = BLOCK_SECONDS * rate
    for start in range(0, length, block):
        yield np.zeros(min(block, length - start), dtype=dtype)


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """The whole file as one mono float32 waveform of shape (n_samples,), and its rate; see `open_audio`."""
    blocks, sample_rate = open_audio(path)
    return np.concatenate(list(blocks)), sample_rate


# ---------------------------------------------------------------------------------------------------- resampling


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample with the result of `resampy.resample(..., filter="kaiser_best")`, to rounding, much faster.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,), float32 or float64
    source_rate, target_rate : int
        In Hz.

    Returns
    -------
    resampled : ndarray, shape (max(1, floor(n_samples * target_rate / source_rate)),), of the same dtype
    """
    block = BLOCK_SECONDS * source_rate
    blocks = (waveform[start : start + block] for start in range(0, len(waveform), block))
    return np.concatenate(list(resample_blocks(blocks, source_rate, target_rate)))


def resample_blocks(blocks: Iterable[np.ndarray], source_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """`resample` on a stream: blocks in, blocks out, together the same samples as the whole gives."""
    if source_rate == target_rate:
        yield from blocks
        return
    # Cuts fall on whole seconds, where input and output samples coincide, with a second of context on both
    # sides: longer than the filter.
    context = max(1, math.ceil(400 * max(1, source_rate / target_rate) / source_rate))  # seconds
    before, after = context * source_rate, context * source_rate
    buffer = np.zeros(before, dtype=np.float32)
    received, sent = 0, 0
    for block in blocks:
        received += len(block)
        buffer = np.concatenate([buffer, block])
        seconds = (len(buffer) - before - after) // source_rate
        if seconds >= 1:
            part = buffer[: before + seconds * source_rate + after]
            resampled = _resample_whole(part, source_rate, target_rate)
            start = context * target_rate
            yield resampled[start : start + seconds * target_rate]
            sent += seconds * target_rate
            buffer = buffer[seconds * source_rate :]
    total = max(1, received * target_rate // source_rate)
    buffer = np.concatenate([buffer, np.zeros(after, dtype=np.float32)])
    start = context * target_rate
    yield _resample_whole(buffer, source_rate, target_rate)[start : start + total - sent]


def _resample_whole(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    bank = _filter_bank(source_rate, target_rate, waveform.dtype.name)
    if bank is None:
        import resampy

        return resampy.resample(waveform, source_rate, target_rate, filter="kaiser_best").astype(waveform.dtype)
    filters, left, inputs = bank  # (taps, outputs a step), context to the left, inputs a step
    import torch

    taps, outputs = filters.shape
    length = len(waveform) * target_rate // source_rate
    steps = math.ceil(length / outputs)
    padded = np.zeros((steps - 1) * inputs + taps, dtype=waveform.dtype)
    kept = min(len(waveform), len(padded) - left)
    padded[left : left + kept] = waveform[:kept]
    frames = torch.from_numpy(padded).unfold(0, taps, inputs)  # (steps, taps)
    return (frames @ filters).flatten()[:length].numpy()


@functools.lru_cache(maxsize=8)
def _filter_bank(source_rate: int, target_rate: int, dtype: str):
    """resampy's interpolated filter, sampled once at each phase: (taps, phases), left context, inputs a step.

    Output sample t lies at input time t * source / target. Over one period of `inputs` input samples and
    `outputs` output samples the phases repeat, so resampling is one matrix product. None if the matrix is too large.
    """
    from resampy.filters import get_filter

    ratio = Fraction(target_rate, source_rate)
    repeat = math.ceil(64 / ratio.numerator)  # periods a step: wide products are fast ones
    outputs, inputs = ratio.numerator * repeat, ratio.denominator * repeat
    half, precision, _ = get_filter("kaiser_best")
    table = precision  # samples of the filter between two zero crossings
    scale = min(1.0, target_rate / source_rate)
    half = half * scale
    slope = np.diff(half, append=half[-1])
    step = int(scale * table)  # truncated, as resampy does
    reach = len(half) // step + 1
    if (2 * reach + inputs + 1) * outputs > _LARGEST_FILTER_BANK:
        return None
    filters = np.zeros((2 * reach + inputs + 1, outputs))
    for output in range(outputs):
        nearest, remainder = divmod(output * inputs, outputs)
        fraction = scale * remainder / outputs
        for distance, direction in ((fraction, -1), (scale - fraction, 1)):
            position = distance * table
            offset = int(position)
            index = offset + step * np.arange((len(half) - offset) // step)
            weights = half[index] + (position - offset) * slope[index]
            first = nearest + (direction > 0)  # the left wing starts at the nearest input, the right one after it
            np.add.at(filters[:, output], reach + first + direction * np.arange(len(index)), weights)
    import torch

    return torch.from_numpy(filters.astype(dtype)), reach, inputs


# ------------------------------------------------------------------------------------------------------- windows


def count_windows(samples: int, window: int, hop_seconds: float, sample_rate: int) -> int:
    """Number of windows that cover `samples`: 1 + ceil((samples - window) / hop), at least 1."""
    if samples <= window:
        return 1
    return 1 + math.ceil((samples - window) / (hop_seconds * sample_rate) - 1e-9)


def window_start(index: int, hop_seconds: float, sample_rate: int) -> int:
    """First sample of window `index`: the nearest to index * hop, so that nothing drifts."""
    return round(index * hop_seconds * sample_rate)


# -------------------------------------------------------------------------------------------------- spectrograms


def stft_power(waveforms, window_length: int, hop_length: int, n_fft: int):
    """Squared magnitudes of the short-time Fourier transform with a periodic Hann window and no padding.

    Parameters
    ----------
    waveforms : Tensor, shape (B, n_samples)
    window_length, hop_length, n_fft : int
        In samples; the window is followed by zeros up to `n_fft`.

    Returns
    -------
    power : Tensor, shape (B, n_fft // 2 + 1, 1 + (n_samples - window_length) // hop_length)
    """
    import torch

    frames = waveforms.unfold(-1, window_length, hop_length)  # (B, T, window_length)
    window = torch.hann_window(window_length, dtype=waveforms.dtype, device=waveforms.device)
    spectrum = torch.fft.rfft(frames * window, n=n_fft)  # (B, T, n_fft // 2 + 1)
    return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def mel_filter_bank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    low: float,
    high: float,
    scale: str = "htk",
    equal_area: bool = False,
) -> np.ndarray:
    """Triangular filters, evenly spaced on a mel scale.

    Parameters
    ----------
    sample_rate, n_fft : int
        In Hz and samples.
    n_mels : int
        Number of filters.
    low, high : float
        Where the first begins and the last ends, in Hz.
    scale : {"htk", "slaney"}
        The HTK book's 2595 log10(1 + f / 700), or that of Slaney's Auditory Toolbox, linear up to 1 kHz.
    equal_area : bool
        Whether they have area 1 over the frequency in Hz; they have height 1 otherwise.

    Returns
    -------
    filters : ndarray, shape (n_mels, n_fft // 2 + 1), float32
    """
    to_mel, to_hertz = _MEL_SCALES[scale]
    edges = to_hertz(np.linspace(*to_mel(np.array([low, high])), n_mels + 2))  # Hz
    frequencies = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    if equal_area:
        filters *= 2 / (edges[2:] - edges[:-2])[:, None]
    return filters.astype(np.float32)


_SLANEY_STEP = math.log(6.4) / 27  # of the logarithmic part: 27 mels from 1 to 6.4 kHz


def _slaney_mel(hertz: np.ndarray) -> np.ndarray:
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) / _SLANEY_STEP)


def _slaney_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(_SLANEY_STEP * (np.maximum(mel, 15) - 15)))


_MEL_SCALES = {  # to mel, to Hz
    "htk": (lambda hertz: 2595 * np.log10(1 + hertz / 700), lambda mel: 700 * (10 ** (mel / 2595) - 1)),
    "slaney": (_slaney_mel, _slaney_hertz),
}


def _linear257(waveforms):
    """L3-Net's log-spectrogram: 10 ms windows, half overlapping, 512-point transform; no normalisation."""
    power = stft_power(waveforms, window_length=480, hop_length=240, n_fft=512)
    return power.clamp(min=1e-24).log() / 2  # of the magnitude


def _linear257_scaled(waveforms):
    """`linear257` / 5: a re-implementation calls it the L3 paper's normalisation, the paper doesn't give it."""
    return _linear257(waveforms) / 5


def _mel64(waveforms):
    """64 log-mel bands, 80 frames a second, nothing padded; about zero mean, unit spread."""
    import torch

    power = stft_power(waveforms, window_length=1024, hop_length=300, n_fft=1024)
    filters = torch.from_numpy(mel_filter_bank(24_000, 1024, 64, 50.0, 12_000.0)).to(power)
    return ((filters @ power + 1e-4).log() - 1.0) / 4.0  # 1e-4: noise at -66 dBFS in one bin


@dataclass(frozen=True)
class Frontend:
    """What a network hears: (B, sample_rate * window_seconds) waveforms to (B, bins, frames) spectrograms."""

    sample_rate: int  # Hz
    window_seconds: float
    shape: tuple[int, int]  # bins, frames of a window
    hop_samples: int  # between two frames
    spectrogram: Callable
    dtype: str = "float32"  # of the waveforms: mean, resampling and windows

    @property
    def window_samples(self) -> int:
        return round(self.sample_rate * self.window_seconds)


FRONTENDS = {
    "linear257": Frontend(48_000, 1.0, (257, 199), 240, _linear257),
    "linear257-scaled": Frontend(48_000, 1.0, (257, 199), 240, _linear257_scaled),
    "mel64": Frontend(24_000, 1.0, (64, 77), 300, _mel64),
}
