"""Shards as files: WebDataset tars whose last member tells whether the others are all there.

That member, `__shard__`, holds as JSON the number of the shard's clips, the bytes before it, and the number of shards
of the corpus; `webdataset` passes over members of such a name. Shards of earlier versions lack it.
"""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openavc.atomic import write_atomically

COUNT = "__shard__"
_END = 2 * tarfile.BLOCKSIZE  # bytes of zeros that end a tar
_BLOCK = 2**20  # bytes read at once
_NAMED = 5  # shards that a warning names

Members = dict[str, tuple[int, int]]  # extension -> offset and size in the tar, bytes


def check_writer() -> None:
    """Raise ValueError without what shards are written with, before anything is worked on."""
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ValueError(f"shards can't be written: {error}; in the checkout, pip install '.[training]'") from None


@contextmanager
def write_tar(path: Path, shards: int) -> Iterator[Callable[[dict], None]]:
    """Write a shard, completely or not at all.

    Parameters
    ----------
    path : Path
    shards : int
        Number of shards of the corpus.

    Yields
    ------
    write : callable
        Appends a sample, as `encode_clip` returns it.
    """
    import webdataset

    clips = 0
    # On a full disk, webdataset leaves files open that it has opened.
    with write_atomically(path) as partial, open(partial, "wb") as file, webdataset.TarWriter(file, mtime=0) as writer:

        def write(sample: dict) -> None:
            nonlocal clips
            writer.write(sample)
            clips += 1

        yield write
        content = json.dumps({"clips": clips, "bytes": writer.tarstream.offset, "shards": shards}).encode()
        member = tarfile.TarInfo(COUNT)
        member.size = len(content)
        writer.tarstream.addfile(member, io.BytesIO(content))


def read_tar(path: Path) -> tuple[dict[str, Members], int | None]:
    """Find the members of a shard, from their headers alone.

    Returns
    -------
    clips : dict
        Key -> members of a clip.
    shards : int or None
        Number of shards of the corpus; None for shards of earlier versions.

    Raises
    ------
    OSError
        If the shard isn't whole; the message names it and says what is wrong.
    """
    clips: dict[str, Members] = {}
    count = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if member.name == COUNT:
                    count = member.offset, json.loads(tar.extractfile(member).read())
                elif member.isfile():
                    clips.setdefault(key, {})[extension] = (member.offset_data, member.size)
            _check_end(path, tar.offset)
    except (tarfile.ReadError, ValueError) as error:
        raise OSError(f"{path} is damaged: {error}") from None
    _check_clips(path, clips)
    if count is None:
        return clips, None
    offset, expected = count
    try:
        number, size, shards = (int(expected[name]) for name in ("clips", "bytes", "shards"))
    except (TypeError, KeyError, ValueError) as error:
        raise OSError(f"{path} is damaged: its last member, {COUNT}, can't be read") from error
    if (len(clips), offset) != (number, size):
        raise OSError(f"{path} is damaged: it holds {len(clips)} of {number} clips in {offset:,} of {size:,} bytes")
    return clips, shards


def _check_end(path: Path, end: int) -> None:
    """Raise ReadError unless a tar ends with zeros alone where its last member ends."""
    with path.open("rb") as file:
        file.seek(end)
        zeros = 0
        while block := file.read(_BLOCK):
            if any(block):
                raise tarfile.ReadError(f"what follows byte {end:,} can't be read")
            zeros += len(block)
    if zeros < _END:
        raise tarfile.ReadError(f"it is cut off after {end + zeros:,} bytes")


def _check_clips(path: Path, clips: dict[str, Members]) -> None:
    """Raise OSError unless each clip has frames, sound and a description."""
    for key, members in clips.items():
        lacking = [kind for kind in ("json", "mjpeg") if kind not in members]
        if not {"wav", "flac"} & members.keys():
            lacking.append("wav or flac")
        if lacking:
            raise OSError(f"{path} is damaged: its clip {key} has no {' and no '.join(lacking)}")


def is_whole(path: Path) -> bool:
    """Whether a shard needn't be made (again); warns of one that is there and isn't whole."""
    if not path.exists():
        return False
    try:
        read_tar(path)
    except OSError as error:
        warnings.warn(f"{error}; it is made again", stacklevel=2)
        return False
    return True


def warn_of_gaps(folder: Path, tars: list[Path], shards: list[int | None]) -> None:
    """Warn of shards of a corpus that aren't there.

    Parameters
    ----------
    folder : Path
    tars : list of Path
        Those that are there.
    shards : list of int or None
        Number of shards of the corpus, according to each of them. Without it, only gaps between them are seen.
    """
    numbers = {int(path.stem): len(path.stem) for path in tars if path.stem.isdecimal()}
    if not numbers:
        return
    known = max((number for number in shards if number), default=None)
    every = range(min(numbers), max(numbers) + 1) if known is None else range(known)
    missing = [f"{number:0{max(numbers.values())}d}.tar" for number in every if number not in numbers]
    if missing:
        more = ", ..." if len(missing) > _NAMED else ""
        warnings.warn(
            f"{folder} lacks {len(missing)} of {len(every)} shards ({', '.join(missing[:_NAMED])}{more}), and what was "
            "to be in them; the command that makes them goes on when it is started again",
            stacklevel=3,
        )
