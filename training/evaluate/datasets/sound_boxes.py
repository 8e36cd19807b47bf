"""Public annotations of sound sources in videos, VGG-SS and Flickr-SoundNet, and the user's copies of these videos.

VGG-SS is a JSON list of {"file", "class", "bbox": [[x0, y0, x1, y1], ...]}, edges as fractions of the picture; each box
holds a source. A few have no area, such as a lower edge above the picture; they are kept, as in the LVS code.

Flickr-SoundNet is a folder of ID.xml, with a `bbox` element for each annotator, whose last four children are x0, y0,
x1 and y1 of a picture of 256 x 256; two annotators make a consensus. We know this layout only from the LVS and EZ-VSL
code that reads it (a first child is skipped), not from the files. The 250 test clips are listed in flickr_test.csv.

A clip is the video NAME.mp4 (or another extension), anywhere in the folder, or a picture NAME.jpg and a sound
NAME.wav, the layout of LVS. Picture and sound are taken from the clip's middle.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openavc.media.audio import read_audio, to_channels
from openavc.media.clips import SoundInput, sound_around
from openavc.media.image import EXTENSIONS as PICTURES
from openavc.media.image import read_image, to_images
from openavc.media.resample import resample
from openavc.media.video import EXTENSIONS as VIDEOS
from openavc.media.video import Video

SOUNDS = {".wav", ".flac", ".ogg", ".mp3", ".m4a"}


@dataclass(frozen=True)
class Annotation:
    """Boxes of the sound sources in one clip."""

    name: str
    label: str  # of its sound; empty if not known
    boxes: list[tuple[float, ...]]  # x0, y0, x1, y1 as fractions
    agreeing: int  # annotators that make a consensus


def read_annotations(path: Path, names: Path | None = None) -> list[Annotation]:
    """Read the annotations of a JSON file (VGG-SS) or of a folder of XML (Flickr-SoundNet).

    Parameters
    ----------
    path : Path
    names : Path, optional
        CSV whose first column lists the names to take, such as flickr_test.csv; all by default.

    Raises
    ------
    ValueError
        If `path` is in neither format, or lacks one of the names.
    """
    annotations = [_read_xml(file) for file in sorted(path.glob("*.xml"))] if path.is_dir() else _read_json(path)
    if not annotations:
        raise ValueError(f"there are no annotations in {path}; give VGG-SS's JSON or a folder of Flickr-SoundNet's XML")
    if names is None:
        return annotations
    wanted = [line.split(",")[0].strip() for line in names.read_text().splitlines() if line.strip()]
    by_name = {annotation.name: annotation for annotation in annotations}
    lacking = [name for name in wanted if name not in by_name]
    if lacking:
        raise ValueError(f"{path} has no boxes of {len(lacking)} names of {names}, such as {lacking[0]}")
    return [by_name[name] for name in wanted]


def _read_json(path: Path) -> list[Annotation]:
    try:
        return [
            Annotation(entry["file"], entry.get("class", ""), [_box(box) for box in entry["bbox"]], agreeing=1)
            for entry in json.loads(path.read_text())
        ]
    except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f'{path} isn\'t a list of {{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}}, as VGG-SS is: {error!r}'
        ) from error


def _read_xml(path: Path) -> Annotation:
    try:
        elements = list(ElementTree.parse(path).iter("bbox"))
        boxes = [_box([int(child.text) / 256 for child in list(element)[-4:]]) for element in elements]
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: a bbox must end in four whole numbers, x0, y0, x1, y1 of 256: {error!r}") from error
    return Annotation(path.stem, "", boxes, agreeing=2)


def _box(edges: Any) -> tuple[float, ...]:
    left, top, right, bottom = (float(edge) for edge in edges)
    return left, top, right, bottom


def find_clips(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Find the files of the picture and the sound of each name: the same video, or a picture and a sound."""
    by_name: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        for kind, extensions in (("video", VIDEOS), ("picture", PICTURES), ("sound", SOUNDS)):
            if path.suffix.lower() in extensions:
                by_name.setdefault(path.stem, {})[kind] = path
    clips = {}
    for name, paths in by_name.items():
        if "video" in paths:
            clips[name] = (paths["video"], paths["video"])
        elif {"picture", "sound"} <= set(paths):
            clips[name] = (paths["picture"], paths["sound"])
    return clips


def read_middle(picture: Path, sound: Path, wanted: SoundInput) -> tuple[np.ndarray, np.ndarray]:
    """Read the middle of a clip.

    Parameters
    ----------
    picture, sound : Path
        Two files, or the same video twice, which is opened only once.
    wanted : SoundInput
        The window of sound.

    Returns
    -------
    frame : ndarray, shape (H, W, 3), float32 in [0, 1]
        The first frame at or after the middle of the sound, or else the last one.
    samples : ndarray, shape (n, channels)
        The window around the middle, with zeros beyond the clip's ends.

    Raises
    ------
    OSError, ValueError
        If a file can't be decoded, or holds sound that isn't finite.
    """
    if picture != sound:
        samples, rate = read_audio(sound)
        return read_image(picture), _middle_window(samples, rate, wanted)
    with Video(picture) as video:
        # read to its end to know its middle; meanwhile the pictures wait undecoded
        samples = np.concatenate([to_channels(block, wanted.channels) for block in video.sound()])
        frame = _frame_from(video.frames(), len(samples) / video.sample_rate / 2)
        return frame, _middle_window(samples, video.sample_rate, wanted)


def _middle_window(samples: np.ndarray, rate: int, wanted: SoundInput) -> np.ndarray:
    window = sound_around(to_channels(samples, wanted.channels), rate, len(samples) / rate / 2, wanted.seconds)
    return resample(window, rate, wanted.sample_rate)[: wanted.samples]


def _frame_from(frames: Iterator[tuple[float, np.ndarray]], time: float) -> np.ndarray:
    """Return the first frame at or after a time, or else the last one."""
    for at, frame in frames:
        shown = frame
        if at >= time:
            break
    return to_images(shown)[0]


def read_clips(
    annotations: list[Annotation], folder: Path, wanted: SoundInput
) -> Iterator[tuple[Annotation, tuple[np.ndarray, np.ndarray] | str]]:
    """Read the middle of each annotated clip.

    Yields
    ------
    annotation : Annotation
    clip : tuple of ndarray, or str
        Frame and samples as returned by `read_middle`; or why there are none, "missing" if there is no file.
    """
    from tqdm import tqdm

    files = find_clips(folder)
    for annotation in tqdm(annotations, "clips", disable=None):
        if annotation.name not in files:
            yield annotation, "missing"
            continue
        try:
            yield annotation, read_middle(*files[annotation.name], wanted)
        except (OSError, ValueError) as error:  # the latter from sound that isn't finite
            yield annotation, str(error)
