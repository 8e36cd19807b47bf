"""Containers of sound and pictures, opened and decoded by PyAV; only damaged packets are lost."""

from __future__ import annotations

import contextlib
import glob
import heapq
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..lines import warn
from ..progress import step
from ..regular import check_regular
from .clock import Clock, start_seconds
from .limits import most_pixels

# AVI stores no times of presentation, and only for these codecs does FFmpeg not work out their order.
_REORDERING = {"h264", "hevc", "vvc"}
# Formats that point to other files or to the network.
_POINTERS = {"applehttp", "concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"}


def existing_file(path: str | os.PathLike) -> Path:
    """Return the Path of a regular file; raise FileNotFoundError, IsADirectoryError or OSError unless it is one."""
    if not os.fspath(path):
        raise FileNotFoundError("the name of a file is empty")
    path = path if isinstance(path, Path) else Path(os.fsdecode(path))
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(f"{path} is a folder that can't be listed: permission denied")
        raise IsADirectoryError(f"{path} is a folder; name the files in it (the command line takes folders)")
    if not path.exists():
        matches = "matches" if glob.has_magic(str(path)) else "is called"
        raise FileNotFoundError(f"no file {matches} {path}")
    check_regular(path)
    return path


def make_reformatter() -> Any:
    """Make an `av.VideoReformatter`. The one that PyAV's frames share has threads, which a forked process lacks."""
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


def open_container(path: Path, file: Any = None, kind: str | None = None) -> Any:
    """Open a file as a PyAV container; raise OSError with its name if it can't be opened.

    Bytes are read from `file`, an open one, if it is given, and as of the `kind` of container, as FFmpeg names it.
    Pictures of more pixels than are allowed count as damaged.
    """
    import av

    version = tuple(map(int, av.__version__.split(".")[:2]))
    formats = {"format_whitelist": ",".join(av.formats_available - _POINTERS)}
    # Before PyAV 17.1, options of streams crash where these are found late, as in FLV.
    limit = {"max_pixels": str(most_pixels())}
    options: dict[str, Any] = {"container_options": formats} if version < (17, 1) else {"options": limit | formats}
    if version < (19, 0):  # titles needn't be UTF-8
        options["metadata_errors"] = "replace"
    try:
        container = av.open(file or openable(path), format=kind, **options)
    except av.FFmpegError as error:
        reason = f"{error.strerror}{_reason(path, formats)}"
        raise OSError(f"{path} ({path.stat().st_size} bytes) can't be decoded: {reason}") from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = limit
    return container


def openable(path: str | os.PathLike, mode: str = "rb") -> Any:
    """Return what PyAV opens a file by: its name or, if that isn't UTF-8, the open file."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return open(path, mode, buffering=0)
    return f"file:{os.fspath(path)}"  # without "file:", 12:30.mkv would name a protocol


def _reason(path: Path, options: dict[str, str]) -> str:
    """Return, in brackets, what FFmpeg says of a file that it can't open, if it says more than a name of an error."""
    import av

    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # what it said of another file
    try:
        with av.logging.Capture() as said, contextlib.suppress(av.FFmpegError):
            av.open(openable(path), container_options=options).close()
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
    last = said[-1][2].strip().rstrip(".") if said else ""
    if "not on whitelist" in last:
        last = "it points to other files, and such lists aren't followed"
    return f" ({last})" if last else ""


class Demuxer:
    """Reads several streams of one container side by side, on one clock.

    The file is read as far as the stream being decoded requires; packets of the others wait, still compressed.

    Parameters
    ----------
    container : av.container.InputContainer
    streams : list of av.stream.Stream
        Streams that will be read; packets of others are dropped.
    path : Path
        Named in warnings.

    Attributes
    ----------
    clock : Clock
        It follows the file's sound and pictures, whichever are read, so that each has the same times either way.
    has_pictures : bool
        Whether the container has pictures, read or not, that its sound has to keep in step with.
    damaged : dict of int to int
        For each stream, how many packets couldn't be decoded so far.
    sent : dict of int to list of int
        For each stream, the times of presentation of packets that were decoded, as a heap; its reader takes them out.
    """

    warns = True  # of damaged packets; unset where the caller does

    def __init__(self, container: Any, streams: list, path: Path):
        self.path = path
        self.clock = Clock(container, path)
        self._orderless = container.format.name == "avi"
        self.has_pictures = bool(container.streams.video)
        leading = [container.streams.best(kind) for kind in ("video", "audio")]
        self._packets = container.demux(list({s.index: s for s in [*leading, *streams] if s is not None}.values()))
        self._waiting: dict[int, deque] = {stream.index: deque() for stream in streams}
        self.damaged = dict.fromkeys(self._waiting, 0)
        self.sent: dict[int, list[int]] = {index: [] for index in self._waiting}

    def decode(self, stream: Any) -> Iterator[Any]:
        """Decode the frames of one stream, skipping damaged packets with one warning."""
        import av

        start = start_seconds(stream.container)
        seconds, first = 0.0, None
        while True:
            try:
                packet = self._next(stream.index)
                frames = packet.decode() if packet is not None else None
            except av.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise OSError(f"{self.path}: not enough memory for a packet of its {stream.type}") from error
                self.damaged[stream.index] += 1
                first = seconds if first is None else first
                continue
            if frames is None:
                break
            if packet.pts is not None and stream.type == "video":
                heapq.heappush(self.sent[stream.index], packet.pts)
            yield from frames
            if frames and frames[-1].time is not None:
                seconds = frames[-1].time - start
        if (damaged := self.damaged[stream.index]) and self.warns:
            packets = f"{damaged} damaged packets" if damaged > 1 else "a damaged packet"
            verb, where = "were" if damaged > 1 else "was", f"at {first or 0:.1f} s"
            message = f"{self.path}: {packets} of {stream.type} {verb} left out, {where}{' and later' * (damaged > 1)}"
            warn(message)

    def skip(self, stream: Any, time: float) -> None:
        """Leave out the packets of a stream before the last key frame at or before a time, in seconds of the clock."""
        import av

        kept: list[Any] = []
        with contextlib.suppress(av.FFmpegError):  # what was read until then is decoded
            while (packet := self._next(stream.index)) is not None:
                if packet.is_keyframe and packet.pts is not None and packet.pts * packet.time_base <= time:
                    kept = []
                kept.append(packet)
                if packet.pts is not None and packet.pts * packet.time_base > time:
                    break
        self._waiting[stream.index].extendleft(reversed(kept))

    def _next(self, index: int) -> Any:
        """Return the stream's next packet, or None at the end; an error in the container also ends the stream."""
        waiting = self._waiting[index]
        while not waiting:
            packet = next(self._packets, None)
            step()
            if packet is None:
                return None
            if self._orderless and packet.stream.codec_context.name in _REORDERING:
                packet.pts = packet.dts
            self.clock.move(packet)
            if packet.stream.index in self._waiting:
                self._waiting[packet.stream.index].append(packet)
        return waiting.popleft()
