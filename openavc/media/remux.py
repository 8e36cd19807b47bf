"""Copies of videos whose sound is moved in time; nothing is encoded anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..progress import step
from .container import existing_file, open_container, start_seconds

CONTAINERS = {  # ending -> FFmpeg's name; AVI isn't among them, as its sound can't begin late
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".flv": "flv",
    ".mpg": "mpeg",
}
_COPIED = ("video", "audio", "subtitle")


def shift_sound(source: Path, target: Path, seconds: float, container: str) -> None:
    """Copy a video so that its sound plays earlier; its pictures and subtitles stay.

    Parameters
    ----------
    source : Path
    target : Path
    seconds : float
        How much earlier; later if it is negative. Sound that would come before the first picture is left out.
    container : str
        One of `CONTAINERS`.

    Raises
    ------
    FileNotFoundError, OSError
        If the source is missing or damaged, or a container of this kind can't hold its streams.
    """
    import av

    source = existing_file(source)
    with open_container(source) as videos, av.open(str(target), "w", format=container) as copy:
        origin = start_seconds(videos)
        if not videos.streams.audio:
            raise OSError(f"{source} holds no sound that can be moved")
        try:
            streams = {
                stream.index: copy.add_stream_from_template(stream)
                for stream in videos.streams
                if stream.type in _COPIED
            }
            copy.metadata.update(videos.metadata)
            for index, stream in streams.items():
                stream.metadata.update(videos.streams[index].metadata)
            for packet in videos.demux([videos.streams[index] for index in streams]):
                step()
                if packet.size == 0 or (packet.stream.type == "audio" and not _move(packet, -seconds, origin)):
                    continue
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
        except (ValueError, av.FFmpegError) as error:
            raise OSError(f"{source} can't be copied into {target}: {error}; try an ending such as .mkv") from error


def _move(packet: Any, seconds: float, origin: float) -> bool:
    """Move a packet in time, and tell whether any of it is left after `origin` (seconds)."""
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks
    start = packet.dts if packet.pts is None else packet.pts
    return start is None or float((start + (packet.duration or 0)) * packet.time_base) > origin
