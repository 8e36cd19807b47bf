"""Pictures and sound written to an MP4 file, H.264 and AAC, each at its true time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from .container import make_reformatter, openable

SOUND_RATE = 48_000  # Hz, which AAC supports
_CLOCK = 90_000  # ticks per second, for the times of frames
BIT_RATE = 128_000  # bits of sound per second; by default, noise is written for what is noisy


def write_mp4(
    target: str | os.PathLike,
    pictures: Iterable[tuple[float, np.ndarray]],
    blocks: Iterable[np.ndarray],
    cut_sound: bool = False,
) -> None:
    """Write pictures and sound, interleaved by time.

    Parameters
    ----------
    target : str or Path
        The file to write, whatever its ending.
    pictures : iterable of (float, ndarray)
        Times in seconds, ascending, and pictures (H, W, 3), uint8 RGB, of even height and width.
    blocks : iterable of ndarray, shape (n, 1)
        Mono sound at `SOUND_RATE`.
    cut_sound : bool
        Whether to leave out sound after the last picture.
    """
    import av

    with av.open(openable(target, "wb"), "w", format="mp4") as file:
        _write_streams(file, iter(pictures), sound_frames(blocks), cut_sound)


def _write_streams(file: Any, pictures: Iterator[tuple], sounds: Iterator, cut_sound: bool) -> None:
    first, reformatter = next(pictures), make_reformatter()
    video = _video_stream(file, *first[1].shape[:2])
    audio = file.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=BIT_RATE)
    sound, ticks, before, end = next(sounds, None), -1, 0.0, 0.0
    for time, picture in itertools.chain([first], pictures):
        while sound is not None and sound.time <= time:
            file.mux(audio.encode(sound))
            sound = next(sounds, None)
        ticks = max(ticks + 1, round(time * _CLOCK))  # frames of a damaged file may share one time
        file.mux(video.encode(_video_frame(picture, ticks, video, reformatter)))
        before, end = time, 2 * time - before if time > before else time + 1  # lasts as long as the previous one
    while sound is not None and not (cut_sound and sound.time >= end):
        file.mux(audio.encode(sound))
        sound = next(sounds, None)
    file.mux([*video.encode(), *audio.encode()])


def _video_stream(file: Any, height: int, width: int) -> Any:
    # no B-frames: their delay would give unevenly timed frames wrong durations
    options = {"preset": "veryfast", "crf": "18", "bf": "0"}
    stream = file.add_stream("h264", rate=25, height=height, width=width, pix_fmt="yuv420p", options=options)
    context = stream.codec_context
    context.time_base = Fraction(1, _CLOCK)
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16 to 235
    return stream


def _video_frame(picture: np.ndarray, ticks: int, stream: Any, reformatter: Any) -> Any:
    """Convert a picture to a frame of the stream's size, in case the video's size changes midway."""
    import av

    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    size = {"width": stream.width, "height": stream.height}
    frame = reformatter.reformat(frame, **size, format="yuv420p", dst_colorspace="ITU709")
    frame.pts, frame.time_base = ticks, Fraction(1, _CLOCK)
    return frame


def sound_frames(blocks: Iterable[np.ndarray]) -> Iterator[Any]:
    """Split blocks of any length into frames of a tenth of a second."""
    import av

    position, length = 0, SOUND_RATE // 10
    for block in blocks:
        for start in range(0, len(block), length):
            samples = np.ascontiguousarray(block[start : start + length].T, dtype=np.float32)  # (1, n)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, position, Fraction(1, SOUND_RATE)
            position += samples.shape[1]
            yield frame
