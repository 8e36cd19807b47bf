"""Labelled videos for retrieval: shards, files in folders or a table, pairs of a picture and a sound.

One moment of each video is taken at random; every network cuts its clip from that moment.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openavc.media.audio import read_audio, to_channels
from openavc.media.image import read_image
from openavc.media.loudness import QUIETEST, loudness
from openavc.media.video import Video as VideoFile

from ...corpora.lists import find_videos, identify
from ...corpora.loudness import loud_moments
from ...corpora.shards import Shards, StoredClip
from .moments import Moment, Span, stored_moment, stored_times, video_moments
from .ontology import ClassTree, nested_tree


@dataclass(frozen=True)
class Video:
    """A labelled video, and how to take a moment of it."""

    name: str  # its source in shards, or the resolved path of its file; for a pair, of its sound
    labels: tuple[str, ...]
    group: str  # videos of one group are alike for reasons other than their sources of sound
    moment: Callable[[np.random.Generator, Span], Moment]  # takes a random moment, with a span around it


def find_labelled(data: Path, kind: str = "sound", own_level: bool = False) -> tuple[list[Video], ClassTree | None]:
    """Find the videos of `data`, and the class tree that comes with them, if any.

    Parameters
    ----------
    data : Path
        A folder of shards, whose clips may lack labels; a folder of videos, FOLDER/CLASS/*; a CSV with the columns
        `file` and `labels` (several are separated by `;`); or one with `image`, `sound`, `label`, `group` and `kind`,
        or a folder with such a `pairs.csv`.
    kind : str
        Kind of the rows of pairs to take.
    own_level : bool
        Whether rendered episodes of one level count as videos of different groups.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if (data / "pairs.csv").is_file():
        return _pairs(data / "pairs.csv", kind)
    if data.is_file():
        columns = _rows(data)[0].keys()
        if {"image", "sound"} <= columns:
            return _pairs(data, kind)
        return _listed(data), None
    if any(data.glob("*.tar")):
        return _shard_videos(Shards(data), own_level), None
    videos = [(video, Path(video.path).relative_to(data)) for video in find_videos(data)]
    in_classes = [
        _file(Path(video.path), (inside.parts[0],), video.source) for video, inside in videos if len(inside.parts) > 1
    ]
    if not in_classes:
        raise ValueError(f"{data} has neither shards (*.tar), nor a pairs.csv, nor videos in folders of their class")
    return in_classes, None


def read_moments(
    videos: list[Video], span: Span, seed: int, per_video: int = 1
) -> Iterator[tuple[int, Moment | Exception]]:
    """Read moments of each video, which depend only on the seed.

    Yields
    ------
    number : int
        Number of the video.
    moment : Moment or Exception
        A moment, or the error if the video can't be read.
    """
    for number, video in enumerate(videos):
        rng = np.random.default_rng([seed, number])
        for _ in range(per_video):
            try:
                yield number, video.moment(rng, span)
            except (OSError, ValueError) as error:
                yield number, error
                break


def _rows(path: Path) -> list[dict[str, str]]:
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:  # Excel puts a byte order mark in front
        reader = csv.DictReader(file)
        for row in reader:
            if None in row or None in row.values():  # DictReader's signs of too many columns, and of too few
                raise ValueError(
                    f"line {reader.line_num} of {path} doesn't have the {len(reader.fieldnames)} columns "
                    f"{', '.join(reader.fieldnames)} (a comma inside one needs quotes): {list(row.values())}"
                )
            rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _checked_rows(path: Path, columns: set[str]) -> list[dict[str, str]]:
    rows = _rows(path)
    if not columns <= rows[0].keys():
        raise ValueError(f"{path} needs the columns {', '.join(sorted(columns))}; it has {', '.join(rows[0])}")
    return rows


# ---------------------------------------------------------------------------------------------------------- shards


def _shard_videos(shards: Shards, own_level: bool) -> list[Video]:
    """Make one video of each source; one of its clips is drawn together with the moment."""
    sources: dict[str, list[StoredClip]] = {}
    for clip in shards.clips:
        sources.setdefault(clip.source, []).append(clip)
    return [
        Video(
            source,
            tuple(dict.fromkeys(label for clip in clips for label in clip.labels if label)),
            source if own_level or not clips[0].level else clips[0].level,
            partial(_shard_moment, shards, clips),
        )
        for source, clips in sources.items()
    ]


def _shard_moment(shards: Shards, clips: list[StoredClip], rng: np.random.Generator, span: Span) -> Moment:
    """Draw a moment that is loud enough; ValueError if there is none."""
    for clip in (clips[number] for number in rng.permutation(len(clips))):

        def read(time: float, clip: StoredClip = clip) -> np.ndarray:
            return shards.sound(clip, time, span.seconds, clip.sample_rate, clip.channels)

        for time, samples in loud_moments(read, rng.permutation(stored_times(clip, span)), QUIETEST):
            return stored_moment(shards, clip, time, samples, span)
    raise ValueError(f"no moment of {clips[0].source} is above {QUIETEST:g} dBFS, with {span} around")


# ----------------------------------------------------------------------------------------------------------- files


def _listed(path: Path) -> list[Video]:
    return [
        _file(
            path.parent / row["file"],
            tuple(label.strip() for label in row["labels"].split(";") if label.strip()),
            identify(Path(row["file"]).with_suffix("").as_posix()),
        )
        for row in _checked_rows(path, {"file", "labels"})
    ]


def _file(path: Path, labels: tuple[str, ...], group: str) -> Video:
    return Video(str(path.resolve()), labels, group, partial(_file_moment, path))


def _file_moment(path: Path, rng: np.random.Generator, span: Span) -> Moment:
    """Draw a moment that lies inside the file; ValueError if there is none."""
    chosen = None
    with VideoFile(path) as video:
        for candidates, moment in enumerate(video_moments(video, span), start=1):
            if rng.random() * candidates < 1:  # keeps each with the same probability
                chosen = moment
    if chosen is None:
        raise ValueError(f"{path} has no frame with {span} around it")
    return chosen


# ----------------------------------------------------------------------------------------------------------- pairs


def _pairs(path: Path, kind: str) -> tuple[list[Video], ClassTree]:
    """Read pairs of a picture and a sound, with a class tree of the groups and the labels in them."""
    rows = _checked_rows(path, {"image", "sound", "label", "group", "kind"})
    chosen = [row for row in rows if row["kind"] == kind]
    if not chosen:
        raise ValueError(f"{path} has no rows of kind {kind!r}; it has {', '.join(sorted({r['kind'] for r in rows}))}")
    videos = [
        Video(
            str((path.parent / row["sound"]).resolve()),
            (row["label"],),
            row["image"],
            partial(_pair_moment, path.parent / row["image"], path.parent / row["sound"]),
        )
        for row in chosen
    ]
    tree: dict[str, list[str]] = {}
    for group, label in dict.fromkeys((row["group"], row["label"]) for row in chosen):
        tree.setdefault(group, []).append(label)
    return videos, nested_tree(tree)


def _pair_moment(image: Path, sound: Path, rng: np.random.Generator, span: Span) -> Moment:
    """Take the picture, and draw a stretch of the sound that is loud enough, or else take the loudest."""
    samples, rate = read_audio(sound)
    mono, length = to_channels(samples, 1), round(span.seconds * rate)
    starts = rng.permutation(np.arange(0, max(1, len(samples) - length + 1), max(1, length // 4)))

    def read(start: int) -> np.ndarray:
        return mono[start : start + length]

    start, _ = next(loud_moments(read, starts, QUIETEST), (None, None))
    if start is None:
        start = max(starts, key=lambda first: loudness(read(first)))
    return Moment(0.0, np.zeros(1), [read_image(image)], samples[start : start + length], rate)
