"""Lists of videos: folders of files, the published lists of AudioSet, Kinetics, Flickr, UCF-101 and HMDB-51, and who is
held out.

Videos are found, and held out, by an identifier that all cuts of a video share. Times are in seconds.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from openavc.media.video import EXTENSIONS

# ID_000010_000020; where ID is YouTube's, also ID_10.000_20.000 (seconds), ID_10000_20000 (milliseconds) or ID_10: in
# a shorter name, such as clip_000010, the number is more likely the video's own
_CUT = re.compile(r"(.+)_\d{6}_\d{6}|([A-Za-z0-9_-]{11})(_\d+(\.\d+)?){0,2}")


@dataclass(frozen=True)
class ListedVideo:
    """A stretch of a video file, and what a list says about it."""

    path: str
    start: float = 0.0  # seconds
    end: float | None = None  # None: to its end
    labels: tuple[str, ...] = ()
    identifier: str = ""  # shared by all cuts of a video; by default taken from the file's name

    @property
    def source(self) -> str:
        """Identifier of the video that the file was cut from."""
        return self.identifier or identify(Path(self.path).stem)


def identify(name: str) -> str:
    """Return the identifier of the video that a file holds or was cut from.

    Cuts that are named as by the published downloaders share the identifier `ID`, in any folder: an ID of any length
    with two numbers of six digits (`ID_000010_000020`), or YouTube's 11 characters with one or two numbers of any form
    (`ID_10`, `ID_10_20`, `ID_10000_20000`, `ID_10.000_20.000`). Any other name is its own identifier.

    Parameters
    ----------
    name : str
        Name or path of the file, without the extension.
    """
    parts = _CUT.fullmatch(name.rpartition("/")[2])
    return (parts[1] or parts[2]) if parts else name


def find_videos(folder: Path) -> list[ListedVideo]:
    """Find all videos below a folder, in the order of their paths; OSError if a folder can't be read."""

    def unreadable(error: OSError) -> None:
        raise error

    paths = (Path(place, name) for place, _, names in os.walk(folder, onerror=unreadable) for name in names)
    files = sorted(path for path in paths if path.suffix.lower() in EXTENSIONS and path.is_file())
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in files)
    return [ListedVideo(str(path), identifier=identify(name)) for path, name in zip(files, names, strict=True)]


def label_by_folders(videos: list[ListedVideo], folder: Path) -> list[ListedVideo]:
    """Label videos below a folder with the name of its subfolder in which they lie, one subfolder a class.

    Raises
    ------
    ValueError
        If a video lies in no subfolder.
    """
    labelled = []
    for video in videos:
        inside = Path(video.path).relative_to(folder)
        if len(inside.parts) < 2:
            raise ValueError(f"{video.path} lies in no folder of a class: put it into one of {folder}'s subfolders")
        labelled.append(replace(video, labels=(inside.parts[0],)))
    return labelled


def is_held(source: str, share: float) -> bool:
    """Whether a video is held out, by its identifier only; a larger share includes the videos of a smaller one."""
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def read_list(path: Path, kind: str, folder: Path) -> tuple[list[ListedVideo], list[str]]:
    """Find the files of the videos that a published list names.

    A file's name is the identifier, or begins with it and `_` (`ID_000030.mp4`: a cut of the original, which is used
    as it is).

    Parameters
    ----------
    path : Path
    kind : str
        A key of `READERS`. audioset: `YTID, start_seconds, end_seconds, "label,label"` after comment lines. kinetics
        (and Kinetics-Sounds): `label,youtube_id,time_start,time_end,split` with a header. flickr (Flickr-SoundNet): one
        identifier or path per line. ucf101: `Class/file.avi`, with or without the number of the class, as in
        `trainlist01.txt` and `testlist01.txt`. hmdb51-train1 to hmdb51-test3: the folder of `CLASS_test_split1.txt`
        (2, 3), whose lines are `file.avi` and 1 for training, 2 for the test, 0 for neither.
    folder : Path
        Folder of the files, at any depth.

    Returns
    -------
    videos : list of ListedVideo
    missing : list of str
        Identifiers without a file.
    """
    originals: dict[str, Path] = {}
    cuts: dict[str, Path] = {}  # by each beginning of the name that ends before an underscore
    for video in find_videos(folder):
        file = Path(video.path)
        originals.setdefault(file.stem, file)
        for position in (position for position, letter in enumerate(file.stem) if letter == "_"):
            cuts.setdefault(file.stem[:position], file)
    videos, missing = [], []
    for identifier, start, end, labels in _rows(path, kind):
        exact = None if end is None else originals.get(f"{identifier}_{round(start):06d}_{round(end):06d}")
        if identifier in originals:
            videos.append(ListedVideo(str(originals[identifier]), start, end, labels, identify(identifier)))
        elif exact or identifier in cuts:
            videos.append(ListedVideo(str(exact or cuts[identifier]), labels=labels, identifier=identify(identifier)))
        else:
            missing.append(identifier)
    return videos, missing


def _rows(path: Path, kind: str) -> list[tuple]:
    """Read a list; ValueError if it isn't in the format of its kind."""
    rows = []
    try:
        for row in READERS[kind](path):
            rows.append(row)
    except (csv.Error, KeyError, IndexError, TypeError, ValueError, IsADirectoryError) as error:
        raise ValueError(
            f"{path} isn't a list in the format {kind!r}: entry {len(rows) + 1} isn't {FORMATS[kind]}; give the list's "
            f"own --format, one of {', '.join(READERS)}"
        ) from error
    return rows


def _audioset(path: Path) -> Iterator[tuple]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader((line for line in file if not line.startswith("#")), skipinitialspace=True):
            if row:
                yield row[0], float(row[1]), float(row[2]), tuple(row[3].split(","))


def _kinetics(path: Path) -> Iterator[tuple]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["youtube_id"], float(row["time_start"]), float(row["time_end"]), (row.get("label") or "",)


def _flickr(path: Path) -> Iterator[tuple]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield Path(line.split(",")[0].strip()).stem, 0.0, None, ()


def _ucf101(path: Path) -> Iterator[tuple]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            label, name = line.split()[0].split("/")
            yield Path(name).stem, 0.0, None, (label,)


def _hmdb51(path: Path, split: int, part: str) -> Iterator[tuple]:
    ending = f"_test_split{split}.txt"
    lists = sorted(path.glob(f"*{ending}"))
    if not lists:
        raise ValueError(f"{path} holds no CLASS{ending}")
    for file in lists:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                name, side = line.split()
                if side == part:
                    yield Path(name).stem, 0.0, None, (file.name.removesuffix(ending),)


HMDB51 = {
    f"hmdb51-{side}{split}": (split, part) for split in (1, 2, 3) for side, part in (("train", "1"), ("test", "2"))
}
FORMATS = {  # what an entry of each looks like
    "audioset": 'YTID, start_seconds, end_seconds, "label,label"',
    "kinetics": "label,youtube_id,time_start,time_end,split below a line with these names",
    "flickr": "an identifier or a path",
    "ucf101": "Class/file.avi, perhaps with a number",
    **{
        kind: f"file.avi and 0, 1 or 2, in CLASS_test_split{split}.txt of the folder"
        for kind, (split, _) in HMDB51.items()
    },
}
READERS: dict[str, Callable[[Path], Iterator[tuple]]] = {
    "audioset": _audioset,
    "kinetics": _kinetics,
    "flickr": _flickr,
    "ucf101": _ucf101,
    **{kind: functools.partial(_hmdb51, split=split, part=part) for kind, (split, part) in HMDB51.items()},
}
