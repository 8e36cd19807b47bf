"""Localisation on annotated videos: the field's figures, beside those of an untrained network and of controls.

A model hears one window (1 s) at the middle of each clip, where LVS and EZ-VSL hear 3 s or more.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openavc.inference.localization import represent_pictures
from openavc.models.contract import Localizes

from ..datasets.encounters import PRIOR_SOUNDS
from ..datasets.sound_boxes import Annotation, read_clips
from ..networks.untrained import SETTLING, settle
from . import ciou
from .field import Maps, Report, centre_map, field_report
from .hits import highest
from .maps import hear, mean_maps, silence
from .saliency import saliency, tower_features

OWN, OTHER = "own sound", "another clip's sound"


@dataclass
class Clips:
    """A model's representations of the clips."""

    seen: list[Tensor] = field(default_factory=list)  # (D, h, w) of each picture
    heard: list[Tensor] = field(default_factory=list)  # (1, D) of each sound


@dataclass
class Represented:
    """The annotated clips that could be read, and several networks' representations of them."""

    annotations: list[Annotation]
    clips: list[Clips]  # of each network
    features: list[np.ndarray]  # (C, h, w) of each picture, from the tower of the first network
    failures: dict[str, str]  # name -> why its clip couldn't be read


def represent(networks: list[Localizes], annotations: list[Annotation], folder: Path) -> Represented:
    """Represent the middle of each clip by networks that hear the same windows."""
    result = Represented([], [Clips() for _ in networks], [], {})
    for annotation, clip in read_clips(annotations, folder, networks[0].sound):
        if isinstance(clip, str):
            result.failures[annotation.name] = clip
            continue
        picture, window = clip
        result.annotations.append(annotation)
        result.features += tower_features(networks[0], [picture])
        for network, into in zip(networks, result.clips, strict=True):
            into.seen += represent_pictures(network, [picture])
            into.heard.append(hear(network, [window]))
    return result


def measure(
    model: Localizes, fresh: Localizes, annotations: list[Annotation], folder: Path, seed: int
) -> tuple[Report, dict[str, str]]:
    """Measure a model on annotated videos, beside an untrained network (`fresh`, which is settled) and controls.

    Returns
    -------
    report : Report
    failures : dict of str to str
        Name of each clip that is left out -> why.

    Raises
    ------
    ValueError
        If fewer than two clips can be read.
    """
    readable = (clip for _, clip in read_clips(annotations, folder, fresh.sound) if not isinstance(clip, str))
    if examples := list(itertools.islice(readable, SETTLING)):
        settle(fresh, *zip(*examples, strict=True))
    represented = represent([model, fresh], annotations, folder)
    kept, failures = represented.annotations, represented.failures
    if len(kept) < 2:
        name, reason = next(iter(failures.items()), ("none", ""))
        raise ValueError(
            f"of {len(annotations)} annotated clips {len(kept)} could be read in {folder}, two are needed; "
            f"each must be NAME.mp4 (or .webm, .mkv, ...) or NAME.jpg with NAME.wav, such as {name}: {reason}"
        )
    maps = _maps(model, fresh, represented, seed)
    targets = [ciou.target_of(annotation.boxes, annotation.agreeing) for annotation in kept]
    hits = {
        name: np.array([pointed(heatmap, target) for heatmap, target in zip(heatmaps, targets, strict=True)])
        for name, heatmaps in (maps | {"centre": [centre_map()] * len(kept)}).items()
    }
    return field_report(maps, targets, hits, (OTHER, "silence"), np.arange(len(kept)), seed), failures


def _maps(model: Localizes, fresh: Localizes, represented: Represented, seed: int) -> Maps:
    """Map each picture for several sounds, by the untrained network, and from the picture only."""
    kept, (clips, blank) = represented.annotations, represented.clips
    rng, nothing = np.random.default_rng(seed), silence(model)
    strangers = [_draw_stranger(kept, number, rng) for number in range(len(kept))]
    prior = torch.cat([clips.heard[number] for number in rng.choice(len(kept), PRIOR_SOUNDS)])
    maps: Maps = {}
    for number, seen in enumerate(clips.seen):
        sounds = {OWN: clips.heard[number], OTHER: clips.heard[strangers[number]]}
        sounds |= {"silence": nothing, "mean map of many sounds": prior}
        heatmaps = mean_maps(model, seen, sounds)
        heatmaps |= mean_maps(fresh, blank.seen[number], {f"untrained, {OWN}": blank.heard[number]})
        for name, heatmap in heatmaps.items():
            maps.setdefault(name, []).append(heatmap)
    return maps | saliency(represented.features)


def pointed(heatmap: np.ndarray, target: np.ndarray) -> float:
    """Return 1 if the highest cell of a map lies where the annotators agree, else 0."""
    x, y = highest(heatmap)
    return float(target[int(y * ciou.SIZE), int(x * ciou.SIZE)] == 1)


def _draw_stranger(kept: list[Annotation], number: int, rng: np.random.Generator) -> int:
    """Draw another clip, of another class where classes are known."""
    label = kept[number].label
    others = [k for k, other in enumerate(kept) if k != number and (not label or other.label != label)]
    return int(rng.choice(others or [k for k in range(len(kept)) if k != number]))
