"""Where recordings begin and end among the bytes of a file: several may be joined in one, or parts of one damaged.

libsndfile stops at the end of the first Ogg stream or FLAC file, and where MPEG frames change, are missing, or number
more than their header counts. What is found here says what it would leave unread. Positions are in bytes.
"""

from __future__ import annotations

import bisect
import functools
import io
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

Range = tuple[int, int]  # first byte, and the one after the last
Pieces = list[Range | bytes]  # ranges of a file, and bytes in place of others

_LYRICS_END = re.compile(rb"LYRICS200|LYRICSEND")
_OGG_START = re.compile(rb"OggS")
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the marker, and the header of the block that must follow
_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_TAIL = 2**17  # bytes, more than the longest frames of two channels have
_MOST_TRIED = 300_000  # marks of a frame that could begin after damage: more are no damage but meant to take time
_LONGEST_FRAME = 2048  # bytes of MPEG audio, rounded up: so much may be left of a file that was cut
_MPEG_SYNC = re.compile(rb"\xff[\xe2-\xff][\x00-\xef]")
_FARTHEST_START = 65_536  # bytes from the start or the tag, within which MPEG frames must begin
# kbit/s, of layers 1 to 3 of MPEG 1, and of layer 1 and of layers 2 and 3 of MPEG 2 and 2.5 (ISO 11172-3, 13818-3)
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Encoded:
    """The bytes of a file, of which one block at a time is held."""

    _BLOCK = 2**20

    def __init__(self, file: BinaryIO):
        self._file, self._size = file, file.seek(0, io.SEEK_END)
        self._start, self._block = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end = part.start or 0, min(part.stop, self._size)
        if start < self._start or end > self._start + len(self._block):
            self._file.seek(start)
            self._start, self._block = start, self._file.read(max(self._BLOCK, end - start))
        return self._block[max(0, start - self._start) : max(0, end - self._start)]

    def find(self, pattern: re.Pattern[bytes], start: int = 0, end: int | None = None) -> Iterator[int]:
        """Yield where a pattern, of 16 bytes at most, begins."""
        end = self._size if end is None else end
        for block in range(start, end, self._BLOCK - 16):
            last = min(end, block + self._BLOCK - 16)
            for found in pattern.finditer(self[block : last + 16]):
                if block + found.start() < last:
                    yield block + found.start()


def found_in(path: Path) -> tuple[list[Range], Frames | None]:
    """Return where the recordings of a file lie, and its frames if it is MPEG audio."""
    with path.open("rb") as file:
        data = Encoded(file)
        return recordings(data), mpeg_frames(data)


class Window(io.RawIOBase):
    """Some pieces of a file, one after the other, as a file of their own."""

    def __init__(self, path: Path, pieces: Pieces):
        super().__init__()
        self.name = os.fspath(path)  # from which FFmpeg takes a hint
        self._file: BinaryIO = path.open("rb")
        self._pieces = pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._size = self._starts.pop()
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
        index = bisect.bisect(self._starts, self._position) - 1  # the last of those that begin here: not an empty one
        if self._position >= self._size:
            return 0
        piece, offset = self._pieces[index], self._position - self._starts[index]
        if isinstance(piece, bytes):
            read = piece[offset : offset + len(buffer)]
        else:
            self._file.seek(piece[0] + offset)
            read = self._file.read(min(len(buffer), piece[1] - piece[0] - offset))
        buffer[: len(read)] = read
        self._position += len(read)
        return len(read)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


# ------------------------------------------------------------------------------------------------------ Ogg and FLAC


def recordings(data: Encoded) -> list[Range]:
    """Return where each Ogg stream or FLAC file lies, of those joined in a file; one range for anything else."""
    if data[:4] == b"OggS":
        starts = _ogg_starts(data)
    elif data[:4] == b"fLaC" or data[:3] == b"ID3":
        starts = [*data.find(_FLAC_START)]
    else:
        starts = []
    starts[:1] = [0]  # with a tag that may come first
    return list(zip(starts, [*starts[1:], len(data)], strict=True))


def _ogg_starts(data: Encoded) -> list[int]:
    """Return where pages begin that open streams, of each group of streams the first. RFC 3533, section 6."""
    starts, position, opening = [], 0, False
    while position < len(data):
        head = data[position : position + 27]
        if head[:4] != b"OggS" or len(head) < 27:
            position = next(data.find(_OGG_START, position + 1), len(data))
            continue
        opens = bool(head[5] & 2)
        if opens and not opening:
            starts.append(position)
        opening = opens
        body = position + 27 + head[26]
        position = body + sum(data[position + 27 : body])
    return starts


def last_flac_block(file: BinaryIO | Window) -> int:
    """Return the first sample of a FLAC file's last frame, whatever its header says; RFC 9639, section 9.1."""
    file.seek(-min(_FLAC_TAIL, file.seek(0, io.SEEK_END)), io.SEEK_END)
    tail = file.read()
    found = (_flac_frame(tail[match.start() : match.start() + 16]) for match in _FLAC_SYNC.finditer(tail))
    frames = [frame for frame in found if frame]
    if not frames:
        return 0
    number, _, in_samples = frames[-1]
    return number if in_samples else number * frames[0][1]  # the last frame may be shorter than all others


def _flac_frame(header: bytes) -> tuple[int, int, bool] | None:
    """Return a frame's number, its length in samples, and whether the number counts samples; None if it isn't one."""
    if len(header) < 16:
        return None
    ones = 8 - (~header[4] & 255).bit_length()  # the number is coded as in UTF-8
    rest = 4 + max(1, ones)
    number = functools.reduce(lambda total, byte: total << 6 | byte & 63, header[5:rest], header[4] & 0x7F >> ones)
    size, rate = header[2] >> 4, header[2] & 15
    end = rest + {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if ones == 1 or size == 0 or rate == 15 or _crc8(header[:end]) != header[end]:
        return None
    if size in (6, 7):
        samples = int.from_bytes(header[rest : rest + size - 5], "big") + 1
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    return number, samples, bool(header[1] & 1)


def _crc8(data: bytes) -> int:
    remainder = 0
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x107 if remainder & 128 else 0)) & 255
    return remainder


# ------------------------------------------------------------------------------------------------------------- MPEG


class Frames(NamedTuple):
    """The frames of an MPEG audio file.

    Attributes
    ----------
    pieces : Pieces
        The frames alone, with a count in the first one's header that isn't too low; none if no frame was found.
    damage : list of (float, int)
        Second and number of bytes of each stretch that is neither frames nor tags.
    missing : float
        Seconds of sound that this header counts, and that aren't there.
    """

    pieces: Pieces
    damage: list[tuple[float, int]]
    missing: float = 0.0


class _Frame(NamedTuple):
    length: int  # bytes
    seconds: float
    kind: tuple[int, int, int, bool]  # version, layer, rate in Hz, whether it is mono


def mpeg_frames(data: Encoded) -> Frames | None:
    """Find all frames of an MPEG audio file (MP3, MP2, MP1).

    None is returned if the file doesn't begin like one, or if its frames are of "free" bit rate, which tell no length.
    """
    start = _after_tags(data, 0)
    near = data[start : start + _FARTHEST_START].lstrip(b"\0")  # libmpg123 lets zeros come first
    tagged = data[:3] == b"ID3" and near[:4] != b"fLaC"
    if not tagged and (near[:1] != b"\xff" or near[1:2] < b"\xe2"):
        return None
    position = _next_frame(data, start, min(len(data), start + _FARTHEST_START))
    if position is None:
        free = near[:1] == b"\xff" and near[2:3] < b"\x10" and near[:3] in near[24:8192]
        return None if free else Frames([], [])
    walk = _Walk(data, position)
    while position is not None:
        end = walk.along(position)
        tags = _after_tags(data, end)
        position = _next_frame(data, tags, len(data))
        between = (len(data) if position is None else position) - tags
        if _is_junk(data, tags) if position is None else between:
            walk.damage.append((walk.seconds, between))
            walk.broken_runs.append(len(walk.runs))
    return walk.frames()


class _Walk:
    """Walks along the frames of a file and counts them.

    Attributes
    ----------
    runs : list of Range
        Where frames follow one another.
    broken_runs : list of int
        Number of runs before each damage.
    counts : list of int
        Frames of sound in each recording, the next of which begins where a frame holds a header.
    """

    def __init__(self, data: Encoded, first: int):
        self.data, self.first, self.headers = data, first, _headers(data)
        self.runs: list[Range] = []
        self.damage: list[tuple[float, int]] = []
        self.broken_runs: list[int] = []
        self.counts = [0]
        self.kinds: set = set()
        self.seconds = 0.0

    def along(self, position: int) -> int:
        """Walk while a frame follows the one before; return where none does."""
        data, begin = self.data, position
        while (frame := _frame_at(data, position)) and position + frame.length <= len(data):
            if frame.kind not in self.kinds:
                if position > begin and not _begins_run(data, position):
                    break
                self.kinds.add(frame.kind)
            if position not in self.headers:
                self.counts[-1] += 1
                self.seconds += frame.seconds
            elif position > self.first:  # a header that isn't at the start would be taken for a frame of silence
                self.counts.append(0)
                self.runs.append((begin, position))
                begin = position + frame.length
            position += frame.length
        self.runs.append((begin, position))
        return position

    def frames(self) -> Frames:
        """Return what was found, with silence where damage has taken as many frames as the first header counts."""
        field = self.headers.get(self.first)
        if field is None:
            return Frames([*self.runs], self.damage)
        missing = int.from_bytes(self.data[field : field + 4], "big") - self.counts[0]
        if missing < 0:
            right = self.counts[0].to_bytes(4, "big")
            pieces: Pieces = [(self.first, field), right, (field + 4, self.runs[0][1]), *self.runs[1:]]
            return Frames(pieces, self.damage)
        if self.damage:
            return Frames(self._filled(missing), self.damage)
        # A frame too many is that of the header itself.
        lost = missing * self.seconds / max(1, sum(self.counts)) if missing > 1 else 0.0
        return Frames([*self.runs], [], lost)

    def _filled(self, missing: int) -> Pieces:
        """Return the runs, and between them frames of silence in the place of missing ones, so that times stay true."""
        pieces: Pieces = [*self.runs]
        inner = [(run, size) for run, (_, size) in zip(self.broken_runs, self.damage, strict=True) if run < len(pieces)]
        total = sum(size for _, size in inner)
        for run, size in reversed(inner):
            following = self.runs[run][0]
            frame = _frame_at(self.data, following)
            assert frame is not None  # a run begins with one
            silent = bytearray(self.data[following : following + 4]) + bytes(frame.length - 4)
            silent[1] |= 1  # no checksum
            count = min(round(missing * size / total), 2 * size // frame.length + 1)  # the count may be damaged, too
            pieces.insert(run, bytes(silent) * count)
        return pieces


def _is_junk(data: Encoded, position: int) -> bool:
    """Whether more is left of a file than of a frame that was cut, and not zeros."""
    return len(data) - position > _LONGEST_FRAME and bool(data[position : position + 65_536].strip(b"\0"))


def _headers(data: Encoded) -> dict[int, int]:
    """Return where frames may begin that hold Xing's or LAME's header, and where in each its number of frames is.

    The header comes after the frame's own of 4 bytes and 32, 17 or 9 bytes of side information.
    """
    marks = data.find(re.compile(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]"))
    return {mark - offset: mark + 8 for mark in marks for offset in (36, 21, 13)}


def _next_frame(data: Encoded, start: int, end: int) -> int | None:
    """Return where the next run of frames begins."""
    if _begins_run(data, start):
        return start
    tried = itertools.islice(data.find(_MPEG_SYNC, start, end), _MOST_TRIED)
    return next((position for position in tried if _begins_run(data, position)), None)


def _begins_run(data: Encoded, position: int) -> bool:
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


def _frame_at(data: Encoded, position: int) -> _Frame | None:
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


def _after_tags(data: Encoded, position: int) -> int:
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
            end = next(data.find(_LYRICS_END, position), position) + 9
        else:
            return position
        position = min(end, len(data))
