"""A video with another sound: its pictures are copied as they are, not encoded again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import step
from .clock import Clock
from .container import existing_file, open_container, openable
from .mp4 import BIT_RATE, SOUND_RATE, sound_frames

_IN_MP4 = {"av1", "h264", "hevc", "mpeg4", "vp9"}  # codecs of pictures that players expect in an MP4 file
_FORMATS = {".mp4": "mp4", ".mkv": "matroska"}


def dubbed_ending(path: str | os.PathLike) -> str:
    """Return the ending of the file that `write_dubbed` makes of a video, by the codec of its pictures."""
    with open_container(existing_file(path)) as container:
        return ".mp4" if _pictures(container, path).codec_context.codec.canonical_name in _IN_MP4 else ".mkv"


def write_dubbed(target: str | os.PathLike, path: str | os.PathLike, blocks: Iterable[np.ndarray], ending: str) -> None:
    """Write a video's pictures with another sound.

    Parameters
    ----------
    target : str or Path
        The file to write, whatever its ending.
    path : str or Path
        The video. Its pictures keep their times, counted from the start of the file, at which the sound begins; where
        times jump, they go on without a break, as for `read_frames`.
    blocks : iterable of ndarray, shape (n, 1)
        Mono sound at `SOUND_RATE`, which becomes AAC.
    ending : {".mp4", ".mkv"}
        As `dubbed_ending` returns it.

    Raises
    ------
    FileNotFoundError, OSError
        If the video is missing, can't be read or holds no pictures.
    """
    import av

    with (
        open_container(existing_file(path)) as container,
        av.open(openable(target, "wb"), "w", format=_FORMATS[ending]) as file,
    ):
        pictures, clock = _pictures(container, path), Clock(container, Path(path))
        video = file.add_stream_from_template(pictures, opaque=True)  # whatever decodes them here
        audio: Any = file.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=BIT_RATE)
        sounds = sound_frames(blocks)
        sound = next(sounds, None)
        followed = [stream for stream in (pictures, container.streams.best("audio")) if stream is not None]
        for packet in container.demux(followed):
            step()
            clock.move(packet)
            if packet.stream is not pictures or packet.dts is None:  # the last one is empty
                continue
            while sound is not None and sound.time <= packet.dts * packet.time_base - clock.origin:
                file.mux(audio.encode(sound))
                sound = next(sounds, None)
            _move(packet, round(clock.origin / packet.time_base))
            packet.stream = video
            file.mux(packet)
        while sound is not None:
            file.mux(audio.encode(sound))
            sound = next(sounds, None)
        file.mux(audio.encode())


def _pictures(container: Any, path: str | os.PathLike) -> Any:
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise OSError(f"{Path(path)} holds no pictures that can be copied")
    return stream


def _move(packet: Any, ticks: int) -> None:
    """Move a packet back by so many ticks; one that has only a time of decoding is shown then."""
    shown = packet.dts if packet.pts is None else packet.pts
    packet.pts, packet.dts = shown - ticks, packet.dts - ticks
