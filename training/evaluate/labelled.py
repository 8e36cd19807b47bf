"""Labelled videos for retrieval: shards, files in folders or a table, pairs of a picture and a sound.

Of each video one moment is taken at random: a frame and the sound around it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openavc.audio import read_audio, resample
from openavc.image import fit, read_image, to_images
from openavc.video import read_frames

from ..data import Clip, Shards, level
from ..prepare import find_videos, identify
from .correspondence import QUIETEST
from .ontology import ClassTree, nested_tree


@dataclass(frozen=True)
class Moment:
    """A frame and the sound around it."""

    frame: np.ndarray  # (H, W, 3) float32 in [0, 1]
    waveform: np.ndarray  # (n_samples,)
    sample_rate: int  # Hz

    def prepared(self, model) -> tuple[np.ndarray, np.ndarray]:
        """What a model takes: the picture (size, size, 3) and the middle of the sound (window_samples,)."""
        waveform = resample(self.waveform, self.sample_rate, model.sample_rate)
        lacking = max(0, model.window_samples - len(waveform))
        padded = np.pad(waveform, (lacking // 2, lacking - lacking // 2))
        first = (len(padded) - model.window_samples) // 2
        return fit(self.frame, model.image_size), padded[first : first + model.window_samples].astype(np.float32)


@dataclass(frozen=True)
class Video:
    """What is known of a video, and how to take a moment of it."""

    name: str  # its source in shards, or the resolved path of its file; of a pair, of the sound
    labels: tuple[str, ...]
    place: str  # videos of one place are alike for other reasons than what sounds in them
    moment: Callable[[np.random.Generator, float], Moment]  # random; with so many seconds of sound


def find_labelled(data: Path, kind: str = "sound", own_level: bool = False) -> tuple[list[Video], ClassTree | None]:
    """The videos of `data`, and the class tree that comes with them, if one does.

    Parameters
    ----------
    data : Path
        A folder of shards, whose clips may lack labels; a folder of videos, FOLDER/CLASS/*; a CSV with the columns
        `file` and `labels` (several are separated by `;`); or one with `image`, `sound`, `label`, `group` and `kind`,
        or a folder with such a `pairs.csv`.
    kind : str
        Of the rows of pairs that are taken.
    own_level : bool
        Whether rendered episodes of one level count as videos of different places.

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
        return _of_shards(Shards(data), own_level), None
    videos = [(video, Path(video.path).relative_to(data)) for video in find_videos(data)]
    found = [
        _file(Path(video.path), (inside.parts[0],), video.source) for video, inside in videos if len(inside.parts) > 1
    ]
    if not found:
        raise ValueError(f"{data} has neither shards (*.tar), nor a pairs.csv, nor videos in folders of their class")
    return found, None


def read_moments(
    videos: list[Video], seconds: float, seed: int, per_video: int = 1
) -> Iterator[tuple[int, Moment | Exception]]:
    """(number of the video, moment), or what was wrong with the video; the same for one seed."""
    for number, video in enumerate(videos):
        rng = np.random.default_rng([seed, number])
        for _ in range(per_video):
            try:
                yield number, video.moment(rng, seconds)
            except (OSError, ValueError) as error:
                yield number, error
                break


def _rows(path: Path) -> list[dict[str, str]]:
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:  # Excel puts a mark in front
        reader = csv.DictReader(file)
        for row in reader:
            if None in row or None in row.values():  # DictReader's way of telling too many columns, and too few
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


# ------------------------------------------------------------------------------------------------------- shards


def _of_shards(shards: Shards, own_level: bool) -> list[Video]:
    """One video for each source; a clip cut from it is chosen with the moment."""
    sources: dict[str, list[Clip]] = {}
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


def _shard_moment(shards: Shards, clips: list[Clip], rng: np.random.Generator, seconds: float) -> Moment:
    """A moment that is loud enough; ValueError if there is none."""
    for clip in (clips[number] for number in rng.permutation(len(clips))):
        times = clip.frame_times
        inside = np.flatnonzero((times >= seconds / 2) & (times <= clip.seconds - seconds / 2))
        for index in rng.permutation(inside):
            waveform = shards.waveform(clip, times[index], seconds, clip.sample_rate)
            if level(waveform) >= QUIETEST:
                return Moment(shards.frame(clip, index), waveform, clip.sample_rate)
    raise ValueError(f"no moment of {clips[0].source} is above {QUIETEST:g} dBFS, with {seconds:g} s of sound around")


# -------------------------------------------------------------------------------------------------------- files


def _listed(path: Path) -> list[Video]:
    rows = _checked_rows(path, {"file", "labels"})
    return [
        _file(
            path.parent / row["file"],
            tuple(label.strip() for label in row["labels"].split(";") if label.strip()),
            identify(Path(row["file"]).with_suffix("").as_posix()),
        )
        for row in rows
    ]


def _file(path: Path, labels: tuple[str, ...], place: str) -> Video:
    return Video(str(path.resolve()), labels, place, partial(_file_moment, path))


def _file_moment(path: Path, rng: np.random.Generator, seconds: float) -> Moment:
    """Any frame with its sound inside the file; ValueError if there is none."""
    waveform, rate = read_audio(path)
    chosen, candidates = None, 0
    for time, frame in read_frames(path):
        if seconds / 2 <= time <= len(waveform) / rate - seconds / 2:
            candidates += 1
            if rng.random() * candidates < 1:  # each is kept with the same probability
                chosen = time, frame
    if chosen is None:
        raise ValueError(f"{path} has no frame with {seconds:g} s of sound around it")
    time, frame = chosen
    first = max(0, round((time - seconds / 2) * rate))
    return Moment(to_images(frame)[0], waveform[first : first + round(seconds * rate)], rate)


# -------------------------------------------------------------------------------------------------------- pairs


def _pairs(path: Path, kind: str) -> tuple[list[Video], ClassTree]:
    """Pictures with a sound; their tree has the groups, and in them the labels."""
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


def _pair_moment(image: Path, sound: Path, rng: np.random.Generator, seconds: float) -> Moment:
    """The picture, and a stretch of the sound at random among those that are loud enough; else the loudest."""
    waveform, rate = read_audio(sound)
    length = round(seconds * rate)
    starts = rng.permutation(np.arange(0, max(1, len(waveform) - length + 1), max(1, length // 4)))
    stretches = [waveform[start : start + length] for start in starts]
    loud = (stretch for stretch in stretches if level(stretch) >= QUIETEST)
    return Moment(read_image(image), next(loud, max(stretches, key=level)), rate)
