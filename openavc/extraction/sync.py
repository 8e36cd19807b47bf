"""What comes of measured offsets: a table of many videos, and videos whose sound is moved into step."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

from ..atomic import name_full_disk, write_atomically
from ..inference.offsets import SyncResult, described
from ..media.remux import CONTAINERS, shift_sound

_COLUMNS = ("file", "start", "end", "offset", "confidence", "words", "bytes", "max_offset", "model")
_FIXED = 0.1  # seconds, largest offset that a mended video may have anywhere


class SyncTable:
    """A CSV with a line for each segment of each video, written as results come, and gone on with by a later run.

    Seconds; an offset that can't be told stays empty, and one that is above 0 means that the sound comes late. Each
    line ends with what it depends on: the size of the file, the largest offset that was looked for, and the model.

    Parameters
    ----------
    path : Path
    max_offset : float
        Seconds.
    model : str
        SHA-256 of the weights.
    anew : bool
        Whether to replace what is there.

    Raises
    ------
    FileExistsError
        If another kind of file is there.
    """

    def __init__(self, path: Path, max_offset: float, model: str, anew: bool = False):
        self.path, self.settings = path, (f"{max_offset:g}", model[:12])
        self.done: set[tuple[str, ...]] = set()  # videos with their sizes and settings
        self.fresh = anew or not path.exists()
        if not self.fresh:
            with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = list(csv.reader(file))
            if not rows or tuple(rows[0]) != _COLUMNS:
                raise FileExistsError(f"{path} isn't a table of offsets: choose another, or --overwrite")
            self.done = {(row[0], *row[6:]) for row in rows[1:] if len(row) == len(_COLUMNS)}

    def __enter__(self) -> SyncTable:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with name_full_disk(self.path):
            mode = "w" if self.fresh else "a"
            self._file = open(self.path, mode, newline="", encoding="utf-8", errors="surrogateescape")
            self._rows = csv.writer(self._file)
            if self.fresh:
                self._rows.writerow(_COLUMNS)
        return self

    def has(self, video: Path) -> bool:
        """Whether a video that is as large was measured with the same settings."""
        return video.is_file() and (str(video), str(video.stat().st_size), *self.settings) in self.done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, video: Path, result: SyncResult) -> None:
        """Write the segments of a video."""
        size = video.stat().st_size
        with name_full_disk(self.path):
            for segment in result.segments:
                offset = "" if segment.offset is None else f"{segment.offset:.3f}"
                times, sure = (f"{segment.start:.2f}", f"{segment.end:.2f}"), f"{segment.confidence:.3f}"
                words = described(segment.offset)
                self._rows.writerow([video, *times, offset, sure, words, size, *self.settings])
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
