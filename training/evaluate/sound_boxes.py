"""Public annotations of what sounds in videos: VGG-SS and Flickr-SoundNet, with videos that the user has.

VGG-SS is a JSON list of {"file", "class", "bbox": [[x0, y0, x1, y1], ...]}, edges as fractions of the picture; all
boxes sound. A few have no area, such as a lower edge above the picture; they stay, as in the LVS code.

Flickr-SoundNet is a folder of ID.xml, with a `bbox` element for each annotator whose last four children are x0, y0,
x1 and y1 of a picture of 256 x 256; two annotators make a consensus. This layout is told from how the LVS and EZ-VSL
code reads it (a first child is skipped), not from the files themselves. The 250 that are tested are in flickr_test.csv.

A clip is the video NAME.mp4 (or another extension), anywhere in the folder, or a picture NAME.jpg and a sound
NAME.wav, the layout of LVS. Picture and sound are those of the clip's middle: ours is one window of the model (1 s),
where LVS and EZ-VSL hear 3 s or more.
"""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.audio import read_audio, resample
from openavc.correspondence import represent_windows
from openavc.image import EXTENSIONS as PICTURES
from openavc.image import read_image, to_images
from openavc.localization import represent_whole
from openavc.video import EXTENSIONS as VIDEOS
from openavc.video import read_frames

from . import ciou
from .localization import (
    PRIOR_SOUNDS,
    SETTLING,
    Report,
    centre_map,
    field_report,
    highest,
    maps,
    saliency,
    settle,
    silence,
    tower_features,
)

SOUNDS = {".wav", ".flac", ".ogg", ".mp3", ".m4a"}


@dataclass(frozen=True)
class Annotation:
    """What sounds in one clip."""

    name: str
    label: str  # of its sound; empty if not known
    boxes: list[tuple[float, ...]]  # x0, y0, x1, y1 as fractions
    agreeing: int  # annotators that make a consensus


def read_annotations(path: Path, names: Path | None = None) -> list[Annotation]:
    """Those of a JSON file (VGG-SS) or of a folder of XML (Flickr-SoundNet).

    Parameters
    ----------
    path : Path
    names : Path, optional
        CSV whose first column holds the names to take, such as flickr_test.csv; all by default.

    Raises
    ------
    ValueError
        If it isn't of the format, or lacks one of the names.
    """
    found = [_read_xml(file) for file in sorted(path.glob("*.xml"))] if path.is_dir() else _read_json(path)
    if not found:
        raise ValueError(f"there are no annotations in {path}; give VGG-SS's JSON or a folder of Flickr-SoundNet's XML")
    if names is None:
        return found
    wanted = [line.split(",")[0].strip() for line in names.read_text().splitlines() if line.strip()]
    by_name = {annotation.name: annotation for annotation in found}
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


def _box(edges) -> tuple[float, ...]:
    left, top, right, bottom = (float(edge) for edge in edges)
    return left, top, right, bottom


def find_clips(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Where the picture and the sound of each name are: one video, or a picture and a sound."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        for kind, extensions in (("video", VIDEOS), ("picture", PICTURES), ("sound", SOUNDS)):
            if path.suffix.lower() in extensions:
                found.setdefault(path.stem, {})[kind] = path
    clips = {}
    for name, paths in found.items():
        if "video" in paths:
            clips[name] = (paths["video"], paths["video"])
        elif {"picture", "sound"} <= set(paths):
            clips[name] = (paths["picture"], paths["sound"])
    return clips


def read_middle(picture: Path, sound: Path, model) -> tuple[np.ndarray, np.ndarray]:
    """The frame in the middle of a clip (H, W, 3) and the window of sound around it, zeros beyond the clip's ends."""
    waveform, rate = read_audio(sound)
    middle = len(waveform) / rate / 2
    samples = round(model.window_seconds * rate)
    start = round(middle * rate) - samples // 2
    window = np.pad(waveform, samples)[start + samples : start + 2 * samples]
    window = resample(window, rate, model.sample_rate)[: round(model.window_seconds * model.sample_rate)]
    if picture == sound:
        return _frame_at(picture, middle), window
    return read_image(picture), window


def _frame_at(path: Path, wanted: float) -> np.ndarray:
    for time, frame in read_frames(path):
        found = frame  # the last one where the pictures end before
        if time >= wanted:
            break
    return to_images(found)[0]


@dataclass(frozen=True)
class Clips:
    """What a model makes of the clips: `seen` (D, h, w) and `heard` (1, D) of each."""

    seen: list[np.ndarray]
    heard: list[np.ndarray]


def represent(networks: list, annotations: list[Annotation], folder: Path):
    """Run networks over the middle of each clip.

    Returns
    -------
    kept : list of Annotation
        Those whose clip could be read.
    clips : list of Clips
        Of each network.
    features : list of ndarray, shape (C, h, w)
        Of each clip's picture, from the tower of the first network.
    failures : dict of str to str
        Why the others couldn't, by name.
    """
    kept, features, failures = [], [], {}
    clips = [Clips([], []) for _ in networks]
    for annotation, found in _read(annotations, folder, networks[0]):
        if isinstance(found, str):
            failures[annotation.name] = found
            continue
        kept.append(annotation)
        picture, window = found
        features += tower_features(networks[0], [picture])
        for network, into in zip(networks, clips, strict=True):
            into.seen.append(represent_whole(network, [picture])[0])
            into.heard.append(np.stack([vector for _, vector in represent_windows(network, [(0, window)])]))
    return kept, clips, features, failures


def _read(annotations: list[Annotation], folder: Path, model) -> Iterator[tuple]:
    """(annotation, picture and window, or in words why there are none)."""
    from tqdm import tqdm

    places = find_clips(folder)
    for annotation in tqdm(annotations, "clips", disable=None):
        if annotation.name not in places:
            yield annotation, "missing"
            continue
        try:
            yield annotation, read_middle(*places[annotation.name], model)
        except (OSError, ValueError) as error:  # the latter from sound that isn't finite
            yield annotation, str(error)


def measure(model, fresh, annotations: list[Annotation], folder: Path, seed: int) -> tuple[Report, dict[str, str]]:
    """The field's figures of a model on annotated videos beside an untrained network's (`fresh`) and controls.

    Returns
    -------
    report : Report
    failures : dict of str to str
        Names of clips that are left out, and why.

    Raises
    ------
    ValueError
        If fewer than two clips can be read.
    """
    readable = (found for _, found in _read(annotations, folder, fresh) if not isinstance(found, str))
    if examples := list(itertools.islice(readable, SETTLING)):
        settle(fresh, *zip(*examples, strict=True))
    kept, (clips, blank), features, failures = represent([model, fresh], annotations, folder)
    if len(kept) < 2:
        name, reason = next(iter(failures.items()), ("none", ""))
        raise ValueError(
            f"of {len(annotations)} annotated clips {len(kept)} could be read in {folder}, two are needed; "
            f"each must be NAME.mp4 (or .webm, .mkv, ...) or NAME.jpg with NAME.wav, such as {name}: {reason}"
        )
    rng, nothing = np.random.default_rng(seed), silence(model)
    strangers = [_stranger(kept, number, rng) for number in range(len(kept))]
    prior = np.concatenate([clips.heard[number] for number in rng.choice(len(kept), PRIOR_SOUNDS)])
    found: dict[str, list] = {}
    for number, seen in enumerate(clips.seen):
        sounds = {"own sound": clips.heard[number], "another clip's sound": clips.heard[strangers[number]]}
        sounds |= {"silence": nothing, "mean map of many sounds": prior}
        heatmaps = maps(model, seen, sounds)
        heatmaps["untrained, own sound"] = maps(fresh, blank.seen[number], {"": blank.heard[number]})[""]
        for name, heatmap in heatmaps.items():
            found.setdefault(name, []).append(heatmap)
    found |= saliency(features)
    truths = [ciou.truth(annotation.boxes, annotation.agreeing) for annotation in kept]
    hits = {
        name: np.array([pointed(heatmap, target) for heatmap, target in zip(heatmaps, truths, strict=True)])
        for name, heatmaps in (found | {"centre": [centre_map()] * len(kept)}).items()
    }
    negatives = ("another clip's sound", "silence")
    return field_report(found, truths, hits, negatives, np.arange(len(kept)), seed), failures


def pointed(heatmap: np.ndarray, target: np.ndarray) -> float:
    """1 if the highest place of a map lies where the annotators agree, else 0."""
    x, y = highest(heatmap)
    return float(target[int(y * ciou.SIZE), int(x * ciou.SIZE)] == 1)


def _stranger(kept: list[Annotation], number: int, rng: np.random.Generator) -> int:
    """Another clip, of another class where classes are known."""
    label = kept[number].label
    others = [k for k, other in enumerate(kept) if k != number and (not label or other.label != label)]
    return int(rng.choice(others or [k for k in range(len(kept)) if k != number]))
