"""What comes of measured offsets: a table of many videos, and videos whose sound is moved into step."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

from ..atomic import name_full_disk, write_atomically
from ..inference.offsets import SyncResult, described
from ..media.remux import CONTAINERS, shift_sound

_COLUMNS = ("file", "start", "end", "offset", "confidence", "words")
_FIXED = 0.1  # seconds, largest offset that a mended video may have anywhere


class SyncTable:
    """A CSV with a line for each segment of each video, written as results come.

    Seconds; an offset that can't be told stays empty, and one that is above 0 means that the sound comes late.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> SyncTable:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with name_full_disk(self.path):
            self._file = open(self.path, "w", newline="", encoding="utf-8", errors="surrogateescape")
            self._rows = csv.writer(self._file)
            self._rows.writerow(_COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, video: Path, result: SyncResult) -> None:
        """Write the segments of a video."""
        with name_full_disk(self.path):
            for segment in result.segments:
                offset = "" if segment.offset is None else f"{segment.offset:.3f}"
                times, sure = (f"{segment.start:.2f}", f"{segment.end:.2f}"), f"{segment.confidence:.3f}"
                self._rows.writerow([video, *times, offset, sure, described(segment.offset)])
            self._file.flush()


def check_fixable(result: SyncResult) -> float:
    """Return the seconds by which one move of the sound mends a video; raise ValueError if none does."""
    if result.offset is None:
        raise ValueError(f"{result}: nothing is written")
    if max(result.told) - min(result.told) > _FIXED:
        raise ValueError(f"one move of the sound can't mend it ({result}): nothing is written")
    return result.offset


def fix_video(
    video: Path, target: Path, offset: float, *, model: Any = None, max_offset: float = 2.0, device: Any = None
) -> SyncResult:
    """Write a video with its sound moved, without encoding anything anew, and measure its offset again.

    Parameters
    ----------
    video, target : Path
        `target` is written completely or not at all; its ending decides the container.
    offset : float
        Seconds by which the sound comes late.
    model, max_offset, device
        As in `sync_offset`.

    Returns
    -------
    SyncResult
        Of what was written.

    Raises
    ------
    ValueError
        If the ending is unknown, or the offset that remains is above 0.1 s or can't be told.
    OSError
        If the video can't be read, or the container can't hold its streams.
    """
    from ..inference.sync import sync_offset

    kind = CONTAINERS.get(target.suffix.lower())
    if kind is None:
        raise ValueError(f"{target} must end in one of {' '.join(CONTAINERS)}")
    with write_atomically(target) as partial:
        shift_sound(video, partial, offset, kind)
        checked = sync_offset(partial, model, max_offset=max_offset, device=device)
        if not checked.told or max(map(abs, checked.told)) > _FIXED:
            raise ValueError(f"{target} isn't written: with the sound moved by {offset:.2f} s, {checked}")
    return checked
