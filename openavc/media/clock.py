"""One clock for all streams of a container, which runs on where the file's own times jump.

Times are in seconds.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from ..lines import warn
from .limits import longest_gap

_LONGEST_GAP_OF_BROADCASTS = 10.0  # seconds; FFmpeg's own limit in formats that are made to be cut and joined
_LARGEST_STEP_BACK = 0.1  # seconds, between times of decoding, which should only grow; FFmpeg's limit, too


@dataclasses.dataclass(slots=True)
class _Place:
    """How far a stream has come: its last packet's time of decoding, the offset to the clock, and its end there."""

    time: float
    offset: float
    end: float
    delay: float  # of presentation after decoding


class Clock:
    """Moves the times of packets so that they run on after a jump: forward over a long gap, or back.

    A file joined from several recordings has several stretches of time, each with an offset of its own, which its
    sound and its pictures share; so they stay together. The streams enter a stretch one after the other.

    Parameters
    ----------
    container : av.container.InputContainer
    path : Path
        Named in the warning of the first jump.

    Attributes
    ----------
    broadcast : bool
        Whether the format is made to be cut and joined, so that a time of the file says little about where it stands.
    counted : bool
        Whether the format is a raw stream (.aac, .mp3), whose times are counted at the rate of its first frame.
    """

    def __init__(self, container: Any, path: Path):
        import av

        self.path = path
        self.origin = start_seconds(container)
        self.broadcast = bool(container.format.flags & av.format.Flags.ts_discont.value)
        self._longest_gap = _LONGEST_GAP_OF_BROADCASTS if self.broadcast else longest_gap()
        self._advice = "" if self.broadcast else "; OPENAVC_LONGEST_GAP (seconds) allows longer gaps"
        self.counted = bool(container.format.flags & av.format.Flags.generic_index.value) and not self.broadcast
        # MP4's edit lists make times of decoding go back; it stores durations, so that no other times ever do.
        orderly = self.counted or "mp4" in container.format.name
        self._step_back = math.inf if orderly else _LARGEST_STEP_BACK
        self._ticks = {stream.index: float(stream.time_base or 0) for stream in container.streams}  # seconds
        self._offsets = [0.0]  # one for each stretch
        self._places: dict[int, _Place] = {}  # one for each stream

    @property
    def jumped(self) -> bool:
        """Whether the file's times have jumped so far."""
        return len(self._offsets) > 1

    def move(self, packet: Any) -> None:
        """Change the times of the file's next packet to those of the clock."""
        index = packet.stream_index
        place, tick = self._places.get(index), self._ticks[index]
        if packet.dts is None:
            offset = place.offset if place else self._offsets[-1]
        else:
            time, delay = self._time(packet, place, tick)
            offset = self._offset(place, time)
            duration = (packet.duration or 0) * tick
            if not 0 < duration <= self._longest_gap:  # MP4 stores a gap as the duration of the packet before it
                duration = max(0.0, time - place.time) if place else 0.0
            self._places[index] = _Place(time, offset, time + offset + duration, delay)
        if offset:
            ticks = round(offset / tick)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    def _time(self, packet: Any, place: _Place | None, tick: float) -> tuple[float, float]:
        """Return when a packet is decoded, by the file's time, and how much later it is presented."""
        time = packet.dts * tick
        delay = 0.0 if packet.pts is None else packet.pts * tick - time
        if place and abs(delay) > self._longest_gap:  # encoders delay times of decoding, so that they jump later
            return time + delay - place.delay, place.delay
        return time, delay

    def _offset(self, place: _Place | None, time: float) -> float:
        """Return the offset of the stretch that a time of a stream fits best, or of a new one if it fits none."""
        if not self._places:
            return self._offsets[-1]
        latest = max(place.end for place in self._places.values())
        expected = place.end if place else latest
        earliest = place.time + place.offset - self._step_back if place else min(time, self.origin)
        fitting = [offset for offset in self._offsets if earliest <= time + offset <= latest + self._longest_gap]
        if fitting:
            return min(fitting, key=lambda offset: abs(time + offset - expected))
        self._warn(expected + (place.delay if place else 0.0) - self.origin)
        self._offsets.append(expected - time)
        return self._offsets[-1]

    def _warn(self, second: float) -> None:
        if not self.jumped:
            message = f"{self.path}: its times jump at {second:.2f} s; what follows is read on from there"
            warn(message + self._advice)


def start_seconds(container: Any) -> float:
    """Return when the first stream of a container begins, in seconds on the container's own clock."""
    import av

    start = (container.start_time or 0) / av.time_base
    # Before version 8.1, FFmpeg takes what a codec needs to get going for sound, though it isn't decoded.
    return max(0.0, start) if "matroska" in container.format.name else start
