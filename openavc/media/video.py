"""Videos: frames (H, W, 3), uint8 RGB, upright and in the shape in which they are shown, and sound, with true times.

Times are in seconds from the start of the file, whichever of picture and sound begins first.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..lines import warn
from .audio import checked_blocks, sound_stream, stream_blocks
from .clock import start_seconds
from .container import Demuxer, existing_file, make_reformatter, open_container
from .limits import check_pixels, most_pixels
from .picture_file import HDR

EXTENSIONS = set(
    ".mp4 .m4v .mp4v .mov .qt .mkv .mk3d .webm .avi .divx .xvid .flv .f4v .ts .m2ts .mts .m2t .trp .tod .mpg "
    ".mpeg .mpe .m2p .vob .3gp .3gpp .3g2 .3gp2 .wmv .asf .wtv .ogv .ogm .ogx .rm .rmvb .ismv .dv .mxf .gxf "
    ".nut .nsv .amv".split()
)
Matrix = tuple[int, int, int, int]
ROUNDING = 0.001  # seconds; some containers round times to milliseconds
_MOST_REORDERED = 16  # frames, which H.264 and HEVC allow


class Video:
    """A video file, opened once, whose frames and sound are decoded side by side.

    Use it as a context manager. The file is read as far as the one being decoded requires; packets of the other wait.

    Parameters
    ----------
    path : str or Path
    dtype : {"float32", "float64"}
        Type of the samples of the sound.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file can't be decoded, or lacks sound or pictures; the message names it.
    """

    def __init__(self, path: str | os.PathLike, dtype: str = "float32"):
        self.path = existing_file(path)
        self._container = open_container(self.path)
        try:
            pictures = _picture_stream(self._container, self.path)
            sound = sound_stream(self._container, self.path)
            demuxer = Demuxer(self._container, [pictures, sound], self.path)
            origin = start_seconds(self._container)
            self.sample_rate: int = sound.codec_context.sample_rate
            self._blocks = checked_blocks(stream_blocks(demuxer, sound, origin, dtype), self.sample_rate, self.path)
            self._pictures = pictures
            self._frames = _timed(demuxer, pictures, origin)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def sound(self) -> Iterator[np.ndarray]:
        """Return the sound in blocks (n_samples, n_channels), which can be read only once."""
        return self._blocks

    def frames(self, frame_rate: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (time, frame), of all frames or at a frame rate, only once; raise OSError if there are none."""
        return _decoded(self._frames, self._pictures, frame_rate, None, self.path)


def read_frames(
    path: str | os.PathLike, frame_rate: float | None = None, size: tuple[int, int] | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the frames of a video one by one.

    Parameters
    ----------
    path : str or Path
    frame_rate : float, optional
        Frames per second to keep: the first one at or after each multiple of 1 / frame_rate. All by default.
    size : (int, int), optional
        Width and height to scale frames to (bicubic), whatever their shape, before they are turned upright; by
        default the size at which they are shown, with square pixels.

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
        If the file can't be decoded or has no picture; the message names it.
    """
    path = existing_file(path)
    with open_container(path) as container:
        stream = _picture_stream(container, path)
        timed = _timed(Demuxer(container, [stream], path), stream, start_seconds(container))
        yield from _decoded(timed, stream, frame_rate, size, path)


def read_frame(path: str | os.PathLike, time: float) -> np.ndarray:
    """Decode the frame (H, W, 3), uint8 RGB, that a video shows at a time in seconds; its last frame after the end."""
    import av

    path = existing_file(path)
    with open_container(path) as container:
        stream = _picture_stream(container, path)
        demuxer, origin = Demuxer(container, [stream], path), start_seconds(container)
        if demuxer.clock.broadcast:
            demuxer.skip(stream, origin + time + ROUNDING)
        else:
            with contextlib.suppress(av.FFmpegError):  # a file that doesn't support seeking is read from its start
                container.seek(round((origin + time) * av.time_base))
        shown = None
        for at, frame in _timed(demuxer, stream, origin):
            if shown is not None and at > time + ROUNDING:
                break
            shown = frame
        if shown is None:
            raise OSError(f"{path}: no picture could be decoded at {time:g} s")
        return _as_shown(shown, stream, _display_matrix(stream, path), None, path, make_reformatter())


def sample_frames(frames: Iterator, frame_rate: float | None) -> Iterator:
    """Keep the first (time, frame) pair at or after each multiple of 1 / frame_rate; all pairs without a rate."""
    if frame_rate is None:
        yield from frames
        return
    wanted = 0  # multiple of 1 / frame_rate
    for time, frame in frames:
        reached = (time + ROUNDING) * frame_rate
        if reached >= wanted:
            wanted = int(reached) + 1
            yield time, frame


def _picture_stream(container: Any, path: Path) -> Any:
    """Return the video stream of a container; raise OSError if there is none."""
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise OSError(f"{path} holds no pictures that can be decoded")
    try:
        check_pixels(stream.codec_context.width, stream.codec_context.height)
    except ValueError as error:
        raise OSError(f"{path} can't be decoded: {error}") from error
    stream.thread_type = "AUTO"
    return stream


def _timed(demuxer: Demuxer, stream: Any, origin: float) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) in order of presentation; a time that is missing or goes back is counted from the last one.

    Frames from before the start of the file, as an edit list cuts them off, are left out, but for the one that is shown
    at the start.
    """
    step = 1 / float(stream.average_rate or 25)
    early, last = None, -step
    for frame in _ordered(demuxer.decode(stream), demuxer.sent[stream.index]):
        time = last + step if frame.time is None else frame.time - origin
        if time < -ROUNDING and last < 0:
            early = frame
            continue
        if early is not None and time > ROUNDING:
            yield 0.0, early
        early = None
        last = max(time, 0.0) if time >= last else last + step
        yield last, frame
    if early is not None:
        yield 0.0, early


def _ordered(frames: Iterator, sent: list[int]) -> Iterator[Any]:
    """Yield frames, each with its time; once times go back, each with the earliest one that was sent to the decoder.

    AVI stores no times of presentation, so those of H.264 are in the order of decoding. As long as an earlier time than
    a frame's was sent, frames are held: either its own frame follows, and times go back, or it was lost.
    """
    held: list[Any] = []
    in_order = True
    for frame in frames:
        if frame.pts is not None:
            held.append(frame)
            in_order = in_order and (len(held) < 2 or held[-2].pts <= frame.pts)
            if in_order and sent and sent[0] < held[0].pts and len(held) <= _MOST_REORDERED:
                continue
        yield from _with_times(held, sent, in_order)
        held = []
        if frame.pts is None:
            yield frame
    yield from _with_times(held, sent, in_order)


def _with_times(held: list[Any], sent: list[int], in_order: bool) -> Iterator[Any]:
    for frame in held:
        if in_order:
            while sent and sent[0] <= frame.pts:
                heapq.heappop(sent)
        elif sent:
            frame.pts = heapq.heappop(sent)
        yield frame


def _decoded(
    timed: Iterator, stream: Any, frame_rate: float | None, size: tuple[int, int] | None, path: Path
) -> Iterator[tuple[float, np.ndarray]]:
    empty, matrix, reformatter = True, _display_matrix(stream, path), make_reformatter()
    for time, frame in sample_frames(timed, frame_rate):
        transfer = HDR.get(stream.codec_context.color_trc)
        if empty and transfer:
            message = f"{path}: its colours are for HDR screens ({transfer}); they are taken as they are"
            warn(message)
        empty = False
        yield time, _as_shown(frame, stream, matrix, size, path, reformatter)
    if empty:
        raise OSError(f"{path}: not one picture could be decoded (of at most {most_pixels():,} pixels)")


def _as_shown(
    frame: Any, stream: Any, matrix: Matrix | None, size: tuple[int, int] | None, path: Path, reformatter: Any
) -> np.ndarray:
    """Convert a frame to RGB, with square pixels (or at a size), turned and mirrored as the file tells players to."""
    size = size or _size_shown(frame, stream, path)
    scaling = {"width": size[0], "height": size[1], "interpolation": "BICUBIC"} if size else {}
    pixels = reformatter.reformat(frame, format="rgb24", **scaling).to_ndarray()
    mirrored, quarter_turns = _orientation(frame, matrix)
    pixels = pixels[:, ::-1] if mirrored else pixels
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def _size_shown(frame: Any, stream: Any, path: Path) -> tuple[int, int] | None:
    """Return (width, height) at which a frame's pixels are square, as high as it is; None if they are already."""
    aspect = stream.sample_aspect_ratio
    if not aspect or aspect == 1:
        return None
    width = max(1, round(frame.width * aspect))
    try:
        check_pixels(width, frame.height)
    except ValueError as error:
        raise OSError(f"{path}: pixels of {aspect.numerator}:{aspect.denominator} can't be shown: {error}") from error
    return width, frame.height


def _orientation(frame: Any, matrix: Matrix | None) -> tuple[bool, int]:
    """Return whether to mirror a frame left to right, and by how many quarter turns anticlockwise to turn it then."""
    if matrix is not None:
        a, b, c, d = matrix
        if a * d < b * c:
            return True, round(math.degrees(math.atan2(b, -a)) / 90) % 4
    return False, round(frame.rotation / 90) % 4


def _display_matrix(stream: Any, path: Path) -> Matrix | None:
    """Return (a, b, c, d) of an MP4's track header: it shows (x, y), y downwards, at (a x + c y, b x + d y).

    PyAV's rotation doesn't tell a mirrored picture, and versions before 19 crash on other side data of a frame
    (ISO 14496-12, 8.3.2).
    """
    if "mp4" not in stream.container.format.name:
        return None
    with open(path, "rb") as file:
        for track in _boxes(file, 0, path.stat().st_size, b"moov", b"trak", b"tkhd"):
            wide = track[:1] == b"\1"  # times of 64 bits
            if (
                len(track) >= (88 if wide else 76)
                and struct.unpack_from(">I", track, 20 if wide else 12)[0] == stream.id
            ):
                a, b, _, c, d = struct.unpack_from(">5i", track, 52 if wide else 40)
                return a, b, c, d
    return None


def _boxes(file: BinaryIO, start: int, end: int, kind: bytes, *inner: bytes) -> Iterator[bytes]:
    """Yield the contents of the boxes at a path of kinds; of each at most 100 bytes."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, body = int.from_bytes(head[:4], "big"), 8
        if size == 1:  # 64 bits follow
            size, body = int.from_bytes(head[8:], "big"), 16
        size = size or end - start  # 0: to the end
        if size < body:
            return
        if head[4:8] == kind and inner:
            yield from _boxes(file, start + body, min(start + size, end), *inner)
        elif head[4:8] == kind:
            file.seek(start + body)
            yield file.read(min(100, size - body))
        start += size
