"""Clips, the unit of data: frames (T, H, W, 3) at a stated rate and samples (n, channels), around one time.

A picture is a clip of one frame. Windows of sound and runs of frames are cut from streams in constant memory. Times are
in seconds, positions in samples.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..lines import warn
from .audio import open_audio, to_channels
from .file_object import BinaryFile, as_path, name_of
from .resample import resample_blocks
from .video import ROUNDING, Video, read_frames, sample_frames

SLOWEST = 1.5  # most periods of a network's frame rate between two frames
SHORT = "shorter than one window"  # words by which commands know this warning, to tell many in one line


@dataclass(frozen=True)
class SoundInput:
    """The sound that a network takes: windows of `seconds` at `sample_rate` Hz."""

    sample_rate: int  # Hz
    seconds: float  # of a window
    channels: int = 1
    dtype: str = "float32"
    hop: float = 0.1  # seconds from one window to the next, unless another hop is asked for

    @property
    def samples(self) -> int:
        """Number of samples in a window."""
        return round(self.sample_rate * self.seconds)


@dataclass(frozen=True)
class FramesInput:
    """The frames that a network takes: clips of `count` frames of `height` x `width` pixels, `rate` per second."""

    height: int  # pixels
    width: int
    count: int = 1  # frames in a clip; 1 for networks that see single pictures
    rate: float | None = None  # frames per second; None for single pictures
    hop: float | None = None  # seconds from one clip to the next, unless told otherwise; None: a clip around each frame
    single: bool = False  # whether a network that takes clips takes single pictures, too

    def __post_init__(self) -> None:
        if self.count > 1 and not self.rate:
            raise ValueError(f"clips of {self.count} frames need a rate, in frames a second, got {self.rate!r}")

    @property
    def takes_pictures(self) -> bool:
        """Whether a clip may be a single picture."""
        return self.count == 1 or self.single

    @property
    def before(self) -> float:
        """Seconds from the first frame of a clip to its middle one."""
        return self.count // 2 / self.rate if self.rate else 0.0

    @property
    def after(self) -> float:
        """Seconds from the middle frame of a clip to its last one."""
        return (self.count - 1 - self.count // 2) / self.rate if self.rate else 0.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip's frames, (T, H, W, 3)."""
        return self.count, self.height, self.width, 3


@dataclass(frozen=True)
class Clip:
    """Frames and sound around one time."""

    time: float  # seconds, of the middle frame, on which the sound is centred
    frames: np.ndarray  # (T, H, W, 3)
    samples: np.ndarray  # (n, channels)


# ----------------------------------------------------------------------------------------------------------- sound


def count_windows(samples: int, window: int, hop_seconds: float, sample_rate: int) -> int:
    """Count the windows that cover `samples`: 1 + ceil((samples - window) / hop), at least 1."""
    if samples <= window:
        return 1
    return 1 + math.ceil((samples - window) / (hop_seconds * sample_rate) - 1e-9)


def window_start(index: int, hop_seconds: float, sample_rate: int) -> int:
    """Return the first sample of window `index`: the nearest to index * hop, so that starts don't drift."""
    return round(index * hop_seconds * sample_rate)


def window_around(time: float, seconds: float, sample_rate: int) -> tuple[int, int]:
    """Return the start and the end, in samples, of the window centred on a time; it may start before 0."""
    length = round(seconds * sample_rate)
    start = round(time * sample_rate) - length // 2
    return start, start + length


def cut(samples: np.ndarray, start: int, end: int) -> np.ndarray:
    """Cut samples `start` to `end` out of (n, channels), with zeros beyond both ends."""
    window = np.zeros((end - start, *samples.shape[1:]), dtype=samples.dtype)
    first, last = max(0, start), min(end, len(samples))
    if first < last:
        window[first - start : last - start] = samples[first:last]
    return window


def sound_around(samples: np.ndarray, sample_rate: int, time: float, seconds: float) -> np.ndarray:
    """Cut the window of `seconds` centred on a time out of samples (n, channels), with zeros beyond both ends."""
    return cut(samples, *window_around(time, seconds, sample_rate))


def model_sound(blocks: Iterable[np.ndarray], rate: int, sound: SoundInput) -> Iterator[np.ndarray]:
    """Turn blocks (n, c) at any rate into blocks (n, channels) at a network's rate."""
    return resample_blocks((to_channels(block, sound.channels) for block in blocks), rate, sound.sample_rate)


def warn_if_silent(
    blocks: Iterable[np.ndarray], name: str, sound: SoundInput, category: type[Warning] = UserWarning
) -> Iterator[np.ndarray]:
    """Pass blocks on; at the end, warn once if they were silent or, in all, shorter than a window."""
    samples, loud = 0, False
    for block in blocks:
        samples, loud = samples + len(block), loud or bool(block.any())
        yield block
    if not loud:
        warn(f"{name} is silent; it is embedded all the same", category)
    elif samples < sound.samples:
        seconds = f"{samples / sound.sample_rate:.3g} s"
        message = f"{name} is {seconds} long, {SHORT} of {sound.seconds:g} s; zeros are added"
        warn(message, category)


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
    blocks : iterator of ndarray, shape (n, channels)
    starts : iterable of int, ascending
        First sample of each window; may be endless if `count` is given.
    length : int
        Length of a window, in samples.
    count : callable, optional
        Maps the number of samples in the stream to the number of windows.
    group : int
        Number of windows in a stretch; the last one may have fewer.

    Yields
    ------
    starts : list of int
        First sample of each window in the stretch.
    stretch : ndarray, shape (starts[-1] + length - starts[0], channels)
    """
    waiting: collections.deque[tuple[int, np.ndarray]] = collections.deque()  # (first sample, block)
    latest = np.zeros((0, 1), dtype=np.float32)
    received, ended, done, starts = 0, False, 0, iter(starts)
    while True:
        inside: list[int] = []
        for start in itertools.islice(starts, group):
            while not ended and received < start + length:
                block = next(blocks, None)
                ended = block is None
                if block is not None:
                    latest = block
                    waiting.append((received, block))
                    received += len(block)
            if ended and count is not None and done + len(inside) >= count(received):
                break
            inside.append(start)
            while waiting and waiting[0][0] + len(waiting[0][1]) <= inside[0]:
                waiting.popleft()
        if not inside:
            return
        yield inside, _cut_blocks(waiting, inside[0], inside[-1] + length, latest)
        done += len(inside)


def _cut_blocks(waiting: Iterable[tuple[int, np.ndarray]], start: int, end: int, like: np.ndarray) -> np.ndarray:
    """Cut samples `start` to `end` out of the (first sample, block) pairs of a stream; zeros where there is none."""
    stretch = np.zeros((end - start, *like.shape[1:]), dtype=like.dtype)
    for position, block in waiting:
        first, last = max(start, position), min(end, position + len(block))
        if first < last:
            stretch[first - start : last - start] = block[first - position : last - position]
    return stretch


# ---------------------------------------------------------------------------------------------------------- frames


def frames_around(times: np.ndarray, time: float, count: int, rate: float | None) -> np.ndarray:
    """Find the frames of a clip: those shown at `count` moments, `rate` per second, the middle one at `time`.

    Parameters
    ----------
    times : ndarray, shape (n,)
        Time when each frame is first shown, in seconds, ascending.
    time : float
        Time of the middle frame, in seconds.
    count : int
        Number of frames; if it is even, the later of the two middle frames is at `time`.
    rate : float or None
        Frames per second; None for single pictures.

    Returns
    -------
    indices : ndarray of int, shape (count,)
        Beyond the ends, the first or the last frame is repeated.
    """
    wanted = time + ((np.arange(count) - count // 2) / rate if rate else np.zeros(count))
    return (np.searchsorted(times, wanted + ROUNDING, side="right") - 1).clip(0, len(times) - 1)


def frame_runs(
    timed_frames: Iterable[tuple[float, np.ndarray]], frames: FramesInput, frame_rate: float | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Cut a clip around each frame of a video, or around frames at a given rate, as `frames_around` does.

    Parameters
    ----------
    timed_frames : iterable of (float, ndarray (H, W, 3))
        All frames of the video with their times.
    frames : FramesInput
        Only its `count` and `rate` are used.
    frame_rate : float, optional
        Clips per second; one around each frame by default.

    Yields
    ------
    time : float
        Time of the middle frame, in seconds.
    run : ndarray, shape (count, H, W, 3)
    """
    if frames.count == 1:
        for time, frame in sample_frames(iter(timed_frames), frame_rate):
            yield time, frame[None]
        return
    stream = iter(timed_frames)
    waiting: collections.deque[tuple[float, np.ndarray]] = collections.deque()  # frames that further clips may contain
    untried: collections.deque[tuple[float, None]] = collections.deque()  # frames not yet considered as a middle

    def read() -> bool:
        for time, frame in itertools.islice(stream, 1):
            waiting.append((time, frame))
            untried.append((time, None))
            return True
        return False

    def in_turn() -> Iterator[tuple[float, None]]:
        while untried or read():
            while len(waiting) > 1 and waiting[1][0] <= untried[0][0] - frames.before + ROUNDING:
                waiting.popleft()
            yield untried.popleft()

    for middle, _ in sample_frames(in_turn(), frame_rate):
        while waiting[-1][0] <= middle + frames.after + ROUNDING and read():
            pass
        indices = frames_around(np.array([time for time, _ in waiting]), middle, frames.count, frames.rate)
        yield middle, np.stack([waiting[index][1] for index in indices])


def warn_if_slow(
    timed_frames: Iterable[tuple[float, np.ndarray]], frames: FramesInput, name: str
) -> Iterator[tuple[float, np.ndarray]]:
    """Pass frames on; warn once if a network takes many more per second, so that many frames are repeated."""
    first = 0.0
    for intervals, (time, frame) in enumerate(timed_frames):
        first = first if intervals else time
        if frames.rate and intervals == frames.count - 1 and time - first > SLOWEST * intervals / frames.rate:
            come = intervals / (time - first)
            message = (
                f"{name} has about {come:.3g} frames a second, the model takes {frames.rate:g}: frames are repeated"
            )
            warn(message)
        yield time, frame


# ---------------------------------------------------------------------------------------------------------- videos


def video_clips(
    path: str | os.PathLike | BinaryFile,
    sound: SoundInput,
    frames: FramesInput,
    frame_rate: float | None = None,
    crop: Callable[[np.ndarray], np.ndarray] = np.asarray,
    audio: str | os.PathLike | BinaryFile | None = None,
) -> Iterator[Clip]:
    """Cut a video into clips; it is opened only once and read in constant memory.

    Parameters
    ----------
    path : str, Path, or binary file object
    sound, frames : SoundInput, FramesInput
        The inputs of the network.
    frame_rate : float, optional
        Clips per second; one around each frame by default.
    crop : callable
        Applied to each frame, (H, W, 3) uint8.
    audio : str, Path, or binary file object, optional
        Another file, whose sound replaces the video's own.

    Yields
    ------
    Clip
        Its sound is centred on the true presentation time of its middle frame.

    Raises
    ------
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    every = frame_rate if frames.count == 1 else None  # a clip of several frames needs those in between
    with video_streams(path, sound, frames, every, audio) as (timed, heard):
        heard = warn_if_silent(heard, name_of(path if audio is None else audio), sound)
        cropped = ((time, crop(frame)) for time, frame in timed)
        yield from cut_clips(frame_runs(cropped, frames, frame_rate), heard, sound)
        if audio is None:
            collections.deque(heard, maxlen=0)  # read to the end, where silence is noticed


@contextlib.contextmanager
def video_streams(
    path: str | os.PathLike | BinaryFile,
    sound: SoundInput,
    frames: FramesInput,
    frame_rate: float | None,
    audio: str | os.PathLike | BinaryFile | None,
) -> Iterator[tuple[Iterator[tuple[float, np.ndarray]], Iterator[np.ndarray]]]:
    """Open a video once, or a video and another file for its sound: (time, frame) pairs, and blocks for a network."""
    if audio is not None:
        with as_path(path) as seen, as_path(audio) as listened:
            blocks, rate = open_audio(listened, sound.dtype)
            timed = warn_if_slow(read_frames(seen, frame_rate), frames, name_of(path))
            yield timed, model_sound(blocks, rate, sound)
        return
    with as_path(path) as seen, Video(seen, sound.dtype) as video:
        timed = warn_if_slow(video.frames(frame_rate), frames, name_of(path))
        yield timed, model_sound(video.sound(), video.sample_rate, sound)


@dataclass(frozen=True)
class Stretch:
    """A clip's frames, and the sound there is from some seconds before it to some seconds after it."""

    time: float  # seconds, of the middle frame
    frames: np.ndarray  # (T, H, W, 3)
    samples: np.ndarray  # (n, channels)
    start: int  # of the samples, in the file


def video_stretches(
    path: str | os.PathLike | BinaryFile,
    sound: SoundInput,
    frames: FramesInput,
    hop_size: float,
    reach: float,
    crop: Callable[[np.ndarray], np.ndarray] = np.asarray,
    audio: str | os.PathLike | BinaryFile | None = None,
) -> Iterator[Stretch]:
    """Cut a video into whole clips of frames, each with the sound around it, as far as the file has it.

    Parameters
    ----------
    path : str, Path, or binary file object
    sound, frames : SoundInput, FramesInput
        The inputs of the network.
    hop_size : float
        Seconds from one clip to the next.
    reach : float
        Seconds of sound beyond both ends of the window that belongs to the clip.
    crop : callable
        Applied to each frame, (H, W, 3) uint8.
    audio : str, Path, or binary file object, optional
        Another file, whose sound replaces the video's own.

    Yields
    ------
    Stretch
        Only of clips whose frames all lie inside the video.

    Raises
    ------
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    seen, heard = 0.0, 0  # seconds and samples read so far
    wide = SoundInput(sound.sample_rate, sound.seconds + 2 * reach, sound.channels, sound.dtype)

    def watched(timed: Iterable[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
        nonlocal seen
        for seen, frame in timed:
            yield seen, crop(frame)

    def counted(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal heard
        for block in blocks:
            heard += len(block)
            yield block

    waiting: collections.deque[tuple[float, np.ndarray]] = collections.deque()  # the run whose window is being cut

    def starts(timed: Iterator[tuple[float, np.ndarray]]) -> Iterator[int]:
        for time, run in frame_runs(timed, frames, 1 / hop_size):
            half = 0.5 / (frames.rate or 1.0)  # of a period: frames are repeated beyond both ends
            if time >= frames.before - half and time + frames.after <= seen + half:
                waiting.append((time, run))
                yield window_around(time, wide.seconds, wide.sample_rate)[0]

    with video_streams(path, sound, frames, None, audio) as (timed, blocks):
        for (start,), window in cut_stretches(counted(blocks), starts(watched(timed)), wide.samples):
            first, last = max(0, -start), min(len(window), heard - start)
            yield Stretch(*waiting.popleft(), window[first : max(first, last)], start + first)


def cut_clips(
    runs: Iterable[tuple[float, np.ndarray]], heard: Iterator[np.ndarray], sound: SoundInput
) -> Iterator[Clip]:
    """Give each run of frames (T, H, W, 3), by the time of its middle one, the window of sound around that time."""
    waiting: collections.deque[tuple[float, np.ndarray]] = collections.deque()  # the run whose window is being cut

    def starts() -> Iterator[int]:
        for time, run in runs:
            waiting.append((time, run))
            yield window_around(time, sound.seconds, sound.sample_rate)[0]

    for _, window in cut_stretches(heard, starts(), sound.samples):
        yield Clip(*waiting.popleft(), window)
