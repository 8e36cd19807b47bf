"""Sound from arrays and files, as samples (n, channels) in [-1, 1], float32 or float64, and their rate in Hz.

Files are read block by block, in constant memory whatever their length. Positions are in samples.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..lines import warn
from ..progress import step
from .arrays import to_array
from .clock import start_seconds
from .container import Demuxer, existing_file, open_container
from .joined import Frames, Pieces, Range, Window, found_in, last_flac_block
from .limits import check_changes, check_gaps, check_length, check_packets, check_rate
from .resample import resample_blocks

SOUND_EXTENSIONS = set(
    ".wav .wave .bwf .w64 .rf64 .flac .ogg .oga .opus .spx .mp3 .mp2 .mp1 .mpa .m2a .mpga .m4a .m4b .m4r .f4a "
    ".f4b .isma .3ga .aac .adts .latm .loas .aif .aiff .aifc .au .snd .caf .voc .sph .nist .ircam .avr .wma "
    ".xwma .amr .awb .gsm .ac3 .eac3 .ec3 .dts .dtshd .mlp .thd .mka .weba .wv .tta .ape .mpc .mpp .shn .tak "
    ".qoa .dsf .dff .oma .aa3 .ra".split()
)
BLOCK_SECONDS = 30  # of sound read at once
_HIGHEST_ARRAY_RATE = 10_000_000  # Hz
_LARGEST_BLOCK = 2**26  # numbers: 256 MiB as float32
_MOST_FAILED = 100  # joined recordings that can't be decoded, before the rest is given up
_LOUDEST = 1e12  # the power of a spectrogram overflows float32 not far above
_MOST_CHANNELS = 32  # an array with more columns is taken to be (channels, n)


# ---------------------------------------------------------------------------------------------------------- arrays


def check_sample_rate(sample_rate: Any) -> int:
    """Return the rate as an int; raise TypeError or ValueError unless it is a positive whole number of Hz."""
    if isinstance(sample_rate, bool | np.bool_) or not isinstance(sample_rate, int | float | np.integer | np.floating):
        kind = ValueError if isinstance(sample_rate, bool | np.bool_) else TypeError
        raise kind(f"sr must be a sample rate in Hz such as 44100, got {repr(sample_rate)[:60]}")
    if not (0 < sample_rate <= _HIGHEST_ARRAY_RATE and sample_rate == int(sample_rate)):
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
        If `audio` is empty, has another shape, or contains NaN, infinity or masked values.
    TypeError
        If `audio` isn't an array of real numbers.
    """
    samples = to_array(audio, "audio", "floats in [-1, 1] or integers")
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
    if samples.dtype.kind == "f":
        _check_finite(samples, "audio")
    return _as_floats(samples, dtype)


def to_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """Mix samples (n, c) to another number of channels, (n, channels).

    If the numbers are equal, samples are returned unchanged; otherwise the mean of all channels is taken, and repeated
    if more than one is wanted.
    """
    if samples.shape[1] == channels:
        return samples
    mono = functools.reduce(np.add, samples.T) / samples.dtype.type(samples.shape[1])  # faster than mean(axis=1)
    return np.repeat(mono[:, None], channels, axis=1) if channels > 1 else mono[:, None]


def _warn_of_wrong_scale(samples: np.ndarray) -> None:
    """Warn of 16-bit samples in a wider type, a common mistake: too loud as floats, near silence as int32 or int64."""
    peak = max(float(samples.max()), -float(samples.min()))
    if samples.dtype.kind == "f" and 10 < peak <= _LOUDEST:
        bits = next((bits for bits in (16, 24, 32) if peak <= 2 ** (bits - 1)), None)
        hint = f": divide {bits}-bit samples by {2 ** (bits - 1)}" if bits else ""
        message = f"the audio reaches {peak:.6g}, floats are expected in [-1, 1]{hint}"
        warn(message)
    if samples.dtype.kind == "i" and samples.itemsize > 2 and 0 < peak < 2.0 ** (8 * samples.itemsize - 15):
        warn(
            f"the {samples.dtype} audio reaches only {peak:.6g} of its type's range and is near silence: "
            "convert 16-bit samples with astype('int16')",
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
    if float(np.abs(samples).max(initial=0)) <= _LOUDEST:  # false for NaN
        return samples
    if np.isfinite(samples).all():
        loudest = int(np.argmax(np.abs(samples).max(axis=1)))
        raise ValueError(
            f"{name} reaches {np.abs(samples[loudest]).max():.6g} at sample {position + loudest}, too loud for a "
            "spectrogram; floats are expected in [-1, 1]"
        )
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    raise ValueError(
        f"{name} holds {bad.size} NaN or infinite samples, the first at sample {position + bad[0]}; "
        "replace them, for example with numpy.nan_to_num"
    )


# ----------------------------------------------------------------------------------------------------------- files


def open_audio(path: str | os.PathLike, dtype: str = "float32") -> tuple[Iterator[np.ndarray], int]:
    """Open any sound or video file for reading block by block.

    Files are read by soundfile, or by PyAV where soundfile can't open them or would stop before their end. Recordings
    joined in one file follow one another, at the rate and with the channels of the first. In a container with video,
    the first sample is the start of the file: a late start and gaps are filled with zeros, so times stay true, but for
    gaps that are longer than ten minutes (see `openavc.media.clock`), which are left out with a warning.

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
        If the file can't be decoded, has no sound, or claims a rate that no sound has; the message names it.
    """
    path = existing_file(path)
    blocks, sample_rate = _open(path, dtype)
    return checked_blocks(blocks, sample_rate, path), sample_rate


def read_audio(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Read an entire file: float32 samples (n_samples, n_channels), and the rate in Hz; see `open_audio`."""
    blocks, sample_rate = open_audio(path)
    return np.concatenate(list(blocks)), sample_rate


def checked_blocks(blocks: Iterator[np.ndarray], sample_rate: int, path: Path) -> Iterator[np.ndarray]:
    """Pass on the blocks of a file; raise OSError if there are none or too many, ValueError for NaN or infinity."""
    first = next(blocks, None)
    if first is None:
        raise OSError(f"{path} holds no sound: not one sample could be decoded")
    return _finite_blocks(itertools.chain([first], blocks), sample_rate, path)


def _finite_blocks(blocks: Iterator[np.ndarray], sample_rate: int, path: Path) -> Iterator[np.ndarray]:
    position = 0
    for block in blocks:
        step()
        yield _check_finite(block, str(path), position)
        position += len(block)
        check_length(position, sample_rate, path)


def _open(path: Path, dtype: str) -> tuple[Iterator[np.ndarray], int]:
    """Return blocks and rate of a file, from whatever reads all of it."""
    recordings, frames = found_in(path)
    if frames:
        # not by soundfile: of damage within frames its libmpg123 complains on the standard error, without a name
        kind = "mp3" if frames.pieces else None  # by a probe, FFmpeg takes a few frames for something else
        blocks, rate = _open_with_av(path, dtype, frames.pieces, warns=not frames.damage, kind=kind)
        return _warn_of_damage(blocks, rate, frames, path), rate
    if len(recordings) > 1:
        return _open_joined(path, dtype, recordings)
    # libsndfile believes the name of a file, which pieces of it don't have
    named_mp3 = path.suffix.lower() == ".mp3"
    return _open_with_soundfile(path, dtype, [*recordings] if named_mp3 else None) or _open_with_av(path, dtype)


def _open_joined(path: Path, dtype: str, recordings: list[Range]) -> tuple[Iterator[np.ndarray], int]:
    """Return the blocks of several recordings in one file, and the rate of the first, to which others are brought."""
    first, rate = _open_recording(path, dtype, [recordings[0]])

    def blocks() -> Iterator[np.ndarray]:
        position, channels, failed = 0, None, []
        for index, recording in enumerate(recordings):
            try:
                part, part_rate = _open_recording(path, dtype, [recording]) if index else (first, rate)
            except OSError:
                failed.append(position / rate)
                if len(failed) == _MOST_FAILED:
                    break
                continue
            mixed = (to_channels(block, channels or block.shape[1]) for block in part)
            for block in resample_blocks(mixed, part_rate, rate):
                channels = block.shape[1]
                position += len(block)
                yield block
        if failed:
            message = f"what is joined to the sound at {failed[0]:.1f} s can't be decoded"
            later = f", nor at {len(failed) - 1} places after it" if failed[1:] else ""
            warn(f"{path}: {message}{later}")

    return blocks(), rate


def _warn_of_damage(blocks: Iterator[np.ndarray], rate: int, frames: Frames, path: Path) -> Iterator[np.ndarray]:
    """Pass on the blocks of an MPEG file; warn once of what is missing, and where."""
    length = 0
    for block in blocks:
        length += len(block)
        yield block
    if frames.damage:
        size, later = sum(size for _, size in frames.damage), len(frames.damage) - 1
        message = f"{size} damaged bytes were left out, at {frames.damage[0][0]:.1f} s"
        warn(f"{path}: {message}" + (f" and {later} places after it" if later else ""))
    elif frames.missing:
        message = f"the sound ends early, at {length / rate:.1f} s of {length / rate + frames.missing:.1f} s"
        warn(f"{path}: {message}")


def _open_recording(path: Path, dtype: str, pieces: Pieces | None = None) -> tuple[Iterator[np.ndarray], int]:
    """Return blocks and rate of one recording, which may be some pieces of a file."""
    return _open_with_soundfile(path, dtype, pieces) or _open_with_av(path, dtype, pieces)


def _open_with_soundfile(
    path: Path, dtype: str, pieces: Pieces | None = None
) -> tuple[Iterator[np.ndarray], int] | None:
    """Return blocks and rate, or None if soundfile can't read the file, so that PyAV can try."""
    import soundfile

    try:
        file = soundfile.SoundFile(_openable(path, pieces))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
        return None
    rate = check_rate(file.samplerate, path)
    length = min(BLOCK_SECONDS * rate, _LARGEST_BLOCK // file.channels)
    if not _reads_all(file, path, pieces):
        file.close()
        return None

    def blocks() -> Iterator[np.ndarray]:
        position = 0
        with file:
            while True:
                try:
                    block = file.read(length, dtype=dtype, always_2d=True)
                except soundfile.LibsndfileError:
                    break
                if not block.size:
                    return
                yield block
                position += len(block)
        yield from _past_damage(path, dtype, pieces, position, rate)

    return blocks(), rate


def _openable(path: Path, pieces: Pieces | None) -> Any:
    """Return what soundfile opens a recording by: a name, which outside Windows may be of any bytes, or its pieces."""
    if pieces:
        return Window(path, pieces)
    return os.fspath(path) if sys.platform == "win32" else os.fsencode(path)


def _reads_all(file: Any, path: Path, pieces: Pieces | None) -> bool:
    """Whether soundfile would read an opened file to its end, at its rate."""
    if file.subtype == "OPUS" and file.samplerate != 48_000:  # that of its input; it has none itself (RFC 7845, 5.1)
        return False
    if file.subtype.startswith("MPEG") and file.format == "WAV":  # libmpg123's complaints
        return False
    if not 0 < file.frames < 2**36 - 1:  # not filled in, or unknown
        return False
    if file.format != "FLAC":
        return True
    with Window(path, pieces) if pieces else path.open("rb") as encoded:
        return last_flac_block(encoded) < file.frames


def _past_damage(path: Path, dtype: str, pieces: Pieces | None, position: int, rate: int) -> Iterator[np.ndarray]:
    """Go on at a sample, with soundfile as far as the damage and then with PyAV; warn with the second where that is."""
    for block in _before_damage(path, dtype, pieces, position):
        position += len(block)
        yield block
    damaged, read = position, 0
    try:
        blocks, _ = _open_with_av(path, dtype, pieces, warns=False)
    except OSError:  # a format that PyAV doesn't have
        blocks = iter(())
    for block in blocks:
        read += len(block)
        if read > position:
            yield block[-(read - position) :]
            position = read
    ending = "ends early" if position - damaged < rate else "goes on after it"
    warn(f"{path}: the sound is damaged at {damaged / rate:.1f} s and {ending}")


def _before_damage(path: Path, dtype: str, pieces: Pieces | None, position: int) -> Iterator[np.ndarray]:
    """Yield tenths of a second from a sample on, as far as soundfile can read them."""
    import soundfile

    with soundfile.SoundFile(_openable(path, pieces)) as file:
        try:
            file.seek(position)
            while len(block := file.read(file.samplerate // 10, dtype=dtype, always_2d=True)):
                yield block
        except soundfile.LibsndfileError:
            return


def _open_with_av(
    path: Path, dtype: str, pieces: Pieces | None = None, warns: bool = True, kind: str | None = None
) -> tuple[Iterator[np.ndarray], int]:
    container = open_container(path, Window(path, pieces) if pieces else None, kind)
    try:
        stream = sound_stream(container, path)
    except OSError:
        container.close()
        raise
    rate = stream.codec_context.sample_rate

    def blocks() -> Iterator[np.ndarray]:
        with container:
            demuxer = Demuxer(container, [stream], path)
            demuxer.warns = warns
            yield from stream_blocks(demuxer, stream, start_seconds(container), dtype)

    return blocks(), rate


def sound_stream(container: Any, path: Path) -> Any:
    """Return the sound stream of a container; raise OSError if it has none that can be decoded."""
    stream = container.streams.best("audio")
    if stream is None or not stream.codec_context or not stream.codec_context.sample_rate:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no"
        raise OSError(f"{path} holds no sound that can be decoded ({kinds} streams)")
    check_rate(stream.codec_context.sample_rate, path)
    return stream


def has_sound(path: str | os.PathLike) -> bool:
    """Whether a file has a stream of sound, decodable or not; OSError if the file itself can't be opened."""
    path = existing_file(path)
    with open_container(path) as container:
        return bool(container.streams.audio)


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
    rate = stream.codec_context.sample_rate
    placed = _placed(demuxer, stream, origin, dtype)
    for source_rate, stretch in itertools.groupby(placed, key=lambda pair: pair[0]):
        yield from resample_blocks((samples for _, samples in stretch), source_rate, rate)  # some change it midway


def _placed(demuxer: Demuxer, stream: Any, origin: float, dtype: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (rate, samples) of the stream's frames, and of zeros where there is none, at the rate each frame has."""
    rate, channels = stream.codec_context.sample_rate, max(1, stream.codec_context.channels)
    position, tolerance, timed, damaged = 0, 0, True, 0
    changes, gaps = 0, 0.0
    for packets, frame in enumerate(demuxer.decode(stream)):
        check_packets(packets, position / rate, demuxer.path)
        samples = to_channels(_frame_samples(frame, dtype), channels)  # some streams change their channels midway
        if frame.sample_rate != rate:
            position, rate = round(position * frame.sample_rate / rate), check_rate(frame.sample_rate, demuxer.path)
            changes += 1
            check_changes(changes, position / rate, demuxer.path)
            timed = not demuxer.clock.counted
        if demuxer.damaged[stream.index] > damaged:  # what couldn't be decoded is a gap, though it be short
            damaged, tolerance = demuxer.damaged[stream.index], min(tolerance, len(samples) // 2)
        late = round((frame.time - origin) * rate) - position if timed and frame.time is not None else 0
        if late > tolerance:
            gaps += late / rate
            check_gaps(gaps, (position + late) / rate - gaps, demuxer.path, demuxer.has_pictures)
            yield from ((rate, zeros) for zeros in _zeros(late, channels, rate, dtype))
            position += late
        elif -late > rate // 20 and demuxer.clock.jumped and demuxer.has_pictures:
            samples = samples[-late:]  # where recordings were joined, the sound of one may outlast its pictures
        position += len(samples)
        tolerance = rate // 20  # containers round times, some to milliseconds: once sound has begun, 50 ms is no gap
        if len(samples):
            yield rate, samples


def _frame_samples(frame: Any, dtype: str) -> np.ndarray:
    """Return a decoded frame as samples (n, channels), whatever its sample format."""
    many = frame.format.is_planar and frame.layout.nb_channels >= 8  # to_ndarray would read past the planes and crash
    if many or frame.format.name.startswith("s64"):  # or it doesn't know the format
        import av

        [frame] = av.AudioResampler(format="flt" if many else "dbl").resample(frame)
    samples = frame.to_ndarray()  # (channels, n), or (1, n * channels) if interleaved
    channels = frame.layout.nb_channels
    return _as_floats(samples.T if frame.format.is_planar else samples.reshape(-1, channels), dtype)


def _regroup(blocks: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Join blocks into ones of at least `length` samples, because the frames of a codec are inefficiently small."""
    waiting: list[np.ndarray] = []
    samples = 0
    for block in blocks:
        waiting.append(block)
        samples += len(block)
        if samples >= length:
            yield np.concatenate(waiting)
            waiting, samples = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _zeros(length: int, channels: int, rate: int, dtype: str) -> Iterator[np.ndarray]:
    block = BLOCK_SECONDS * rate
    for start in range(0, length, block):
        yield np.zeros((min(block, length - start), channels), dtype=dtype)
