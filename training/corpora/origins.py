"""Origins: which files are cuts of one recording, of one video or of one speaker, by the names of public collections.

Files of one origin sound or look alike, so they stay on one side of a split.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

FREESOUND = "freesound:"  # before the number of a sound on freesound.org

_FREESOUND = re.compile(
    r"(?P<download>\d+)__.+?__.+"  # ID__user__title, as Freesound names a download
    r"|(?P<urban>\d+)-\d+-\d+-\d+"  # ID-class-occurrence-slice: UrbanSound8K
    r"|\d-(?P<esc>\d+)-[A-Z](-\d+)?"  # fold-ID-take-class: ESC-50, Kitchen20
)
_OTHERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(v_\w+_g\d+)_c\d+",  # group of clips from one video: UCF-101
        r"\d\d(?:-\d\d){5}-(\d\d)",  # actor: RAVDESS
        r"\d_([a-z]+)_\d+",  # speaker: Free Spoken Digit Dataset
        r"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})-.+",  # telephone: Donate a Cry
        r"([a-z-]+_[A-G]s?\d)_[^_]+_[^_]+_.+",  # instrument and note: Philharmonia's samples
        r"(.+\.(?:mp3|m4a|wav|ogg|flac))_\d+",  # numbered pieces of a file
    )
)


def identify_origin(path: str, collection: str = "") -> str:
    """Return what all files of one origin share: the same Freesound number, video, speaker, telephone or note.

    Parameters
    ----------
    path : str
        Path or name of the file, as the collection names it.
    collection : str
        Where the file is from, such as a repository. Outside Freesound, whose numbers are the same everywhere, names
        mean something only within their collection.

    Returns
    -------
    origin : str
        `freesound:` and the number; or the collection and what the name tells; or the collection and the path without
        its extension, which is an origin of its own.
    """
    whole = PurePosixPath(path)
    if found := _FREESOUND.fullmatch(whole.stem):
        return FREESOUND + next(number for number in found.group("download", "urban", "esc") if number)
    within = f"{collection}:" if collection else ""
    for pattern in _OTHERS:
        if found := pattern.fullmatch(whole.stem):
            return within + found[1]
    return within + (whole.with_suffix("").as_posix() if collection else whole.stem)
