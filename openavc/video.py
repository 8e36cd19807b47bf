"""Video input: frames and sound with their true times.

Times are in seconds from the start of the file, whichever of picture and sound begins first; frames are upright.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .audio import decode_stream, existing_file, open_container

EXTENSIONS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ts", ".mpg", ".mpeg", ".m4v", ".3gp", ".wmv", ".ogv"}


def read_frames(
    path: str | Path, frame_rate: float | None = None, size: tuple[int, int] | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the pictures of a video one after the other.

    Parameters
    ----------
    path : str or Path
    frame_rate : float, optional
        Frames a second to keep: the first one at or after each multiple of 1 / frame_rate. All by default.
    size : (int, int), optional
        Width and height to scale frames to (bicubic), whatever their shape, before they are turned upright.

    Yields
    ------
    time : float
        Presentation time in seconds.
    frame : ndarray, shape (H, W, 3), uint8 RGB

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it can't be decoded or has no picture, with its name.
    """
    path = existing_file(path)
    with open_container(path) as container:
        stream = _pictures(container, path)
        found = False
        for time, frame in sample_frames(_timed(container, stream, path), frame_rate):
            found = True
            yield time, _upright(frame, size)
        if not found:
            raise OSError(f"{path}: not one picture could be decoded")


def read_frame(path: str | Path, time: float) -> np.ndarray:
    """The picture (H, W, 3), uint8 RGB, that a video shows at a time in seconds, or its last one; errors as above."""
    import av

    path = existing_file(path)
    with open_container(path) as container:
        stream = _pictures(container, path)
        with contextlib.suppress(av.FFmpegError):  # a file that can't be sought in is read from its start
            container.seek(round(time * av.time_base) + (container.start_time or 0))
        shown = None
        for at, frame in _timed(container, stream, path):
            if shown is not None and at > time + 0.001:  # some containers round times to milliseconds
                break
            shown = frame
        if shown is None:
            raise OSError(f"{path}: no picture could be decoded at {time:g} s")
        return _upright(shown, None)


def _pictures(container, path: Path):
    """The video stream of a container; OSError if there is none."""
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise OSError(f"{path} holds no pictures that can be decoded")
    return stream


def _timed(container, stream, path: Path) -> Iterator[tuple[float, object]]:
    """(time, frame) in order of presentation; times never go back, even where a damaged file's do."""
    import av

    origin = (container.start_time or 0) / av.time_base
    stream.thread_type = "AUTO"
    last = 0.0
    for frame in decode_stream(container, stream, path):
        last = last if frame.time is None else max(frame.time - origin, last)
        yield last, frame


def sample_frames(frames: Iterator, frame_rate: float | None) -> Iterator:
    """Of (time, frame) pairs, the first one at or after each multiple of 1 / frame_rate; all without a rate."""
    if frame_rate is None:
        yield from frames
        return
    wanted = 0  # multiple of 1 / frame_rate
    for time, frame in frames:
        reached = (time + 0.001) * frame_rate  # some containers round times to milliseconds
        if reached >= wanted:
            wanted = int(reached) + 1
            yield time, frame


def _upright(frame, size: tuple[int, int] | None) -> np.ndarray:
    """RGB, after the rotation that the file asks players for, counted anticlockwise."""
    scaling = {"width": size[0], "height": size[1], "interpolation": "BICUBIC"} if size else {}
    pixels = frame.to_ndarray(format="rgb24", **scaling)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels
