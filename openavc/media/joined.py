"""Where recordings begin and end among the bytes of a file: several may be joined in one, or parts of one damaged.

libsndfile stops at the end of the first Ogg stream or FLAC file, and where MPEG frames change, are missing, or number
more than their header counts. What is found here says what it would leave unread. Positions are in bytes.
"""

from __future__ import annotations

import functools
import io
import mmap
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

Range = tuple[int, int]  # first byte, and the one after the last
Pieces = list[Range | bytes]  # ranges of a file, and bytes in place of others
Bytes = bytes | mmap.mmap

_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the marker, and the header of the block that must follow
_MPEG_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_FARTHEST_START = 65_536  # bytes from the start or the tag, within which MPEG frames must begin
# kbit/s, of layers 1 to 3 of MPEG 1, and of layer 1 and of layers 2 and 3 of MPEG 2 and 2.5 (ISO 11172-3, 13818-3)
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def found_in(path: Path) -> tuple[list[Range], Frames | None]:
    """Return where the recordings of a file lie, and its frames if it is MPEG audio."""
    with path.open("rb") as file:
        if not file.read(1):  # an empty file can't be mapped
            return [(0, 0)], None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return recordings(data), mpeg_frames(data)


class Window(io.RawIOBase):
    """Some pieces of a file, one after the other, as a file of their own."""

    def __init__(self, path: Path, pieces: Pieces):
        super().__init__()
        self._file: BinaryIO = path.open("rb")
        self._pieces = [(piece, len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]) for piece in pieces]
        self._size = sum(size for _, size in self._pieces)
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position among the bytes of all pieces."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position among the bytes of all pieces."""
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what follows within one piece."""
        position = self._position
        for piece, size in self._pieces:
            if position < size:
                wanted = min(len(buffer), size - position)
                if isinstance(piece, bytes):
                    read = piece[position : position + wanted]
                else:
                    self._file.seek(piece[0] + position)
                    read = self._file.read(wanted)
                buffer[: len(read)] = read
                self._position += len(read)
                return len(read)
            position -= size
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


# ------------------------------------------------------------------------------------------------------ Ogg and FLAC


def recordings(data: Bytes) -> list[Range]:
    """Return where each Ogg stream or FLAC file lies, of those joined in a file; one range for anything else."""
    if data[:4] == b"OggS":
        starts = _ogg_starts(data)
    elif data[:4] == b"fLaC" or data[:3] == b"ID3":
        starts = [found.start() for found in _FLAC_START.finditer(data)]
    else:
        starts = []
    starts[:1] = [0]  # with a tag that may come first
    return list(zip(starts, [*starts[1:], len(data)], strict=True))


def _ogg_starts(data: Bytes) -> list[int]:
    """Return where pages begin that open streams, of each group of streams the first. RFC 3533, section 6."""
    starts, position, opening = [], 0, False
    while position >= 0:
        segments = data[position + 26 : position + 27]
        if data[position : position + 4] != b"OggS" or not segments:
            position = data.find(b"OggS", position + 1)
            continue
        opens = bool(data[position + 5] & 2)
        if opens and not opening:
            starts.append(position)
        opening = opens
        body = position + 27 + segments[0]
        position = body + sum(data[position + 27 : body])
        if position >= len(data):
            break
    return starts


# ------------------------------------------------------------------------------------------------------------- MPEG


class Frames(NamedTuple):
    """The frames of an MPEG audio file.

    Attributes
    ----------
    pieces : Pieces
        The frames alone, with the right count in the first header.
    damage : list of (float, int)
        Second and number of bytes of each stretch that is neither frames nor tags.
    whole : bool
        Whether they are one run of one kind, and no more than the header in the first frame counts.
    """

    pieces: Pieces
    damage: list[tuple[float, int]]
    whole: bool


class _Frame(NamedTuple):
    length: int  # bytes
    seconds: float
    kind: tuple[int, int, int, bool]  # version, layer, rate in Hz, whether it is mono


def mpeg_frames(data: Bytes) -> Frames | None:
    """Find all frames of an MPEG audio file (MP3, MP2, MP1); None if the file isn't one, or of no stated bit rate."""
    start = _after_tags(data, 0)
    if data[:3] != b"ID3" and not _frame_at(data, start):
        return None
    position = _next_frame(data, start, min(len(data), start + _FARTHEST_START))
    if position is None or data[start : start + 4] == b"fLaC":
        return None
    headers = _headers(data)
    runs: list[Range] = []
    damage: list[tuple[float, int]] = []
    counts: list[int] = []  # of frames of sound, of each recording
    kinds, seconds = set(), 0.0
    first = position
    while position is not None:
        begin = position
        while (frame := _frame_at(data, position)) and position + frame.length <= len(data):
            if frame.kind not in kinds:
                if position > begin and not _begins_run(data, position):
                    break
                kinds.add(frame.kind)
            if position in headers:
                counts.append(0)
                if position > first:  # a header that isn't at the start would be taken for a frame of silence
                    runs.append((begin, position))
                    begin = position + frame.length
            else:
                counts = counts or [0]
                counts[-1] += 1
                seconds += frame.seconds
            position += frame.length
        runs.append((begin, position))
        tags = _after_tags(data, position)
        position = _next_frame(data, tags, len(data))
        if position is not None and position > tags:
            damage.append((seconds, position - tags))
    stated = headers.get(first)
    low = stated is not None and int.from_bytes(data[stated : stated + 4], "big") < counts[0]
    if stated is None or not low:
        return Frames([*runs], damage, len(runs) == len(kinds) == 1)
    pieces: Pieces = [(first, stated), counts[0].to_bytes(4, "big"), (stated + 4, runs[0][1]), *runs[1:]]
    return Frames(pieces, damage, False)


def _headers(data: Bytes) -> dict[int, int]:
    """Return where frames may begin that hold Xing's or LAME's header, and where in each its number of frames is.

    The header comes after the frame's own of 4 bytes and 32, 17 or 9 bytes of side information.
    """
    marks = re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]").finditer(data)
    return {found.start() - offset: found.end() for found in marks for offset in (36, 21, 13)}


def _next_frame(data: Bytes, start: int, end: int) -> int | None:
    """Return where the next run of frames begins."""
    if _begins_run(data, start):
        return start
    return next((m.start() for m in _MPEG_SYNC.finditer(data, start, end) if _begins_run(data, m.start())), None)


def _begins_run(data: Bytes, position: int) -> bool:
    """Whether three frames of one kind begin here, or fewer that end the file or come before a tag."""
    first = _frame_at(data, position)
    if first is None:
        return False
    for _ in range(2):
        frame = _frame_at(data, position)
        if frame is None or frame.kind != first.kind or position + frame.length > len(data):
            return False
        position += frame.length
        if position == len(data) or _after_tags(data, position) > position:
            return True
    frame = _frame_at(data, position)
    return frame is not None and frame.kind == first.kind


def _frame_at(data: Bytes, position: int) -> _Frame | None:
    return _frame(int.from_bytes(data[position : position + 4], "big") & 0xFFFE_FEC0)  # without what doesn't matter


@functools.lru_cache(maxsize=4096)
def _frame(header: int) -> _Frame | None:
    """Read a frame's header; None if it isn't one, or of "free" bit rate."""
    version = {3: 1, 2: 2, 0: 4}.get(header >> 19 & 3)  # 4 is MPEG 2.5: rates are divided by it
    layer = 4 - (header >> 17 & 3)
    bit_rate, rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version is None or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    hertz = (44_100, 48_000, 32_000)[rate] // version
    mpeg = min(version, 2)
    bits = 1000 * _BIT_RATES[mpeg, layer if mpeg == 1 else min(layer, 2)][bit_rate - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and mpeg == 2 else 1152
    slot = 4 if layer == 1 else 1  # bytes
    length = (samples // 8 // slot * bits // hertz + (header >> 9 & 1)) * slot
    return _Frame(length, samples / hertz, (version, layer, hertz, header >> 6 & 3 == 3))


def _after_tags(data: Bytes, position: int) -> int:
    """Return where the tags (ID3, APE, Lyrics3) at a position end."""
    while True:
        head = data[position : position + 32]
        if head[:3] == b"ID3" and len(head) >= 10:
            size = functools.reduce(lambda total, byte: total << 7 | byte & 127, head[6:10], 0)
            end = position + 10 + size + (10 if head[5] & 16 else 0)
        elif head[:3] == b"TAG":
            end = position + 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            end = position + 32 + int.from_bytes(head[12:16], "little")
        elif head[:11] == b"LYRICSBEGIN":
            end = max(data.find(b"LYRICS200", position), data.find(b"LYRICSEND", position), position) + 9
        else:
            return position
        position = min(end, len(data))
