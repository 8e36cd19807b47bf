"""Pictures with the true boxes of what sounds, from held-out encounters (`training.simulate`, scenes solo and duo).

In a solo episode one kind of monster is heard and seen, so its sound belongs to its box. In a duo episode two kinds
are in one picture: a solo recording of each, played in turn, asks whether the answer follows the sound. Boxes are
(x, y, width, height), fractions of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import Clip, Shards, level
from .correspondence import QUIETEST

Box = tuple[float, float, float, float]

SMALLEST, LARGEST = 0.005, 0.25  # of a box, share of the picture
LARGEST_PROJECTILE = 0.004  # share of the picture; those of some monsters fill the view
LARGEST_OVERLAP = 0.2  # of two boxes, share of the smaller
APART = 0.5  # seconds between two frames of an episode


@dataclass(frozen=True)
class Scene:
    """A picture and the box of each kind of monster in it."""

    clip: Clip
    frame: int
    boxes: dict[str, Box]


@dataclass(frozen=True)
class Sound:
    """Windows of one solo recording, by the times of their middles in seconds."""

    clip: Clip
    kind: str
    middles: tuple[float, ...]


def solo_scenes(shards: Shards, model, per_clip: int, windows: int, seed: int) -> tuple[list[Scene], list[Sound]]:
    """Up to `per_clip` pictures of each episode and, for each, its own sound.

    The sound is the window at the frame and `windows` - 1 others of the episode, all loud enough. The monster is
    visible exactly once.

    Raises
    ------
    ValueError
        If there is no such picture.
    """
    scenes, sounds = [], []
    for number, clip in enumerate(shards.clips):
        rng = np.random.default_rng([seed, number])
        loud = _loud_middles(shards, model, clip, rng)
        for scene in _spread(_scenes(shards, clip, rng), clip, per_clip, loud):
            middle = float(clip.frame_times[scene.frame])
            others = [float(time) for time in loud if time != middle][: windows - 1]
            scenes.append(scene)
            sounds.append(Sound(clip, clip.labels[0], (middle, *others)))
    return _some(scenes, shards), sounds


def duo_scenes(shards: Shards, per_clip: int, seed: int) -> list[Scene]:
    """Up to `per_clip` pictures of each episode in which both kinds are visible, once each and apart.

    Raises
    ------
    ValueError
        If there is no such picture.
    """
    found = []
    for number, clip in enumerate(shards.clips):
        scenes = _scenes(shards, clip, np.random.default_rng([seed, number]))
        apart = [
            scene for scene in scenes if len(scene.boxes) == 2 and overlap(*scene.boxes.values()) < LARGEST_OVERLAP
        ]
        found += _spread(apart, clip, per_clip, clip.frame_times)
    return _some(found, shards)


def monster_boxes(kinds: tuple[str, ...], objects: list[list]) -> dict[str, Box] | None:
    """Of each kind, or None unless each is visible exactly once at a size that counts."""
    found = {}
    for kind in kinds:
        boxes = [tuple(box) for name, category, *box in objects if (name, category) == (kind, "Monster")]
        if len(boxes) != 1 or not SMALLEST <= area(boxes[0]) <= LARGEST:
            return None
        found[kind] = boxes[0]
    return found


def area(box: Box) -> float:
    return box[2] * box[3]


def overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, as a part of the smaller one's."""
    sides = [
        max(0.0, min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k])) for k in (0, 1)
    ]  # width and height
    return sides[0] * sides[1] / min(area(one), area(other))


def _scenes(shards: Shards, clip: Clip, rng: np.random.Generator) -> list[Scene]:
    """All that an episode has, in random order."""
    objects, found = shards.objects(clip), []
    for frame in rng.permutation(len(objects)):
        boxes = monster_boxes(clip.labels, objects[frame])
        if boxes and clip.projectiles[frame] <= LARGEST_PROJECTILE:
            found.append(Scene(clip, int(frame), boxes))
    return found


def _spread(scenes: list[Scene], clip: Clip, count: int, times: np.ndarray) -> list[Scene]:
    """The first `count` at one of the times that lie apart from each other."""
    chosen: list[Scene] = []
    for scene in scenes:
        time = clip.frame_times[scene.frame]
        beside = all(abs(time - clip.frame_times[other.frame]) >= APART for other in chosen)
        if len(chosen) < count and beside and time in times:
            chosen.append(scene)
    return chosen


def _loud_middles(shards: Shards, model, clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Times of the frames around which a window lies inside the episode and is loud enough, in random order."""
    half = model.window_seconds / 2
    inside = [time for time in clip.frame_times if half <= time <= clip.seconds - half]
    windows = (shards.waveform(clip, time, model.window_seconds, clip.sample_rate) for time in inside)
    return rng.permutation([time for time, window in zip(inside, windows, strict=True) if level(window) >= QUIETEST])


def _some(scenes: list[Scene], shards: Shards) -> list[Scene]:
    if not scenes:
        raise ValueError(
            f"no frame of {shards.paths[0].parent} shows each of its kinds of monster exactly once, with a box of "
            f"{100 * SMALLEST:g} to {100 * LARGEST:g} % of the picture, near no projectile and, alone, at a loud moment"
        )
    return scenes
