"""Pictures with the true boxes of sound sources, from held-out encounters (`training.simulate`, scenes solo and duo).

In a solo episode one kind of monster is heard and seen, so its sound belongs to its box. In a duo episode two kinds
are in one picture: playing a solo recording of each in turn shows whether the map follows the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openavc.media.loudness import QUIETEST
from openavc.models.contract import AudioVisualModel

from ...corpora.loudness import loud_moments
from ...corpora.scenes import LARGEST_PROJECTILE, projectile_areas
from ...corpora.shards import Shards, StoredClip, frames_with_room
from .boxes import Box, area, overlap

SMALLEST, LARGEST = 0.005, 0.25  # of a box, share of the picture
LARGEST_OVERLAP = 0.2  # of two boxes, share of the smaller
APART = 0.5  # seconds between two frames of an episode
PRIOR_SOUNDS = 64  # sounds whose mean map stands for hearing nothing


@dataclass(frozen=True)
class Scene:
    """A picture and the box of each kind of monster in it."""

    clip: StoredClip
    frame: int
    boxes: dict[str, Box]


@dataclass(frozen=True)
class Sound:
    """Windows of one solo recording, by the times of their middles in seconds."""

    clip: StoredClip
    kind: str
    middles: tuple[float, ...]


@dataclass(frozen=True)
class Encounters:
    """Solo pictures with one box each, and duo pictures with two; sounds are named by their index in `sounds`."""

    solo: Shards
    scenes: list[Scene]
    sounds: list[Sound]  # one for each scene, its own
    strangers: np.ndarray  # (scenes,) a sound of another kind
    prior: np.ndarray  # (PRIOR_SOUNDS,) sounds of all kinds
    duo: Shards
    pairs: list[Scene]  # with two kinds each
    played: np.ndarray  # (pairs, 2) a sound of each kind


def read_encounters(
    model: AudioVisualModel, solo: Shards, duo: Shards, per_clip: int, windows: int, seed: int
) -> Encounters:
    """Choose the pictures, and draw the sounds that are played to them.

    Parameters
    ----------
    model : AudioVisualModel
        Model that sets the length of the windows.
    solo, duo : Shards
        Held-out episodes.
    per_clip : int
        Largest number of pictures from an episode.
    windows : int
        Number of windows of a recording, whose maps are averaged.
    seed : int

    Raises
    ------
    ValueError
        If there are no such pictures, all sounds are of one kind, or a kind of the duo pictures has no sound.
    """
    scenes, sounds = solo_scenes(solo, model, per_clip, windows, seed)
    pairs = duo_scenes(duo, per_clip, seed)
    kinds, rng = np.array([sound.kind for sound in sounds]), np.random.default_rng(seed)
    lacking = {kind for pair in pairs for kind in pair.boxes} - set(kinds)
    if lacking:
        raise ValueError(f"duo pictures show {', '.join(sorted(lacking))}, of which there is no solo recording")
    strangers = draw_strangers(sounds, rng)
    prior = rng.choice(len(kinds), PRIOR_SOUNDS)
    played = [[rng.choice(np.flatnonzero(kinds == kind)) for kind in pair.boxes] for pair in pairs]
    return Encounters(solo, scenes, sounds, strangers, prior, duo, pairs, np.array(played))


def draw_strangers(sounds: Sequence[Sound], rng: np.random.Generator) -> np.ndarray:
    """Draw for each sound the number of one of another kind: (sounds,); raise ValueError if all are of one kind."""
    kinds = np.array([sound.kind for sound in sounds])
    if len(set(kinds)) < 2:
        raise ValueError(f"solo recordings of two kinds of monster are needed, there is only {kinds[0]}")
    return np.array([rng.choice(np.flatnonzero(kinds != kind)) for kind in kinds])


def solo_scenes(
    shards: Shards, model: AudioVisualModel, per_clip: int, windows: int, seed: int
) -> tuple[list[Scene], list[Sound]]:
    """Choose up to `per_clip` pictures of each episode and, for each, its own sound.

    The sound consists of the window at the frame and `windows` - 1 others of the episode, all loud enough. The monster
    is visible exactly once.

    Raises
    ------
    ValueError
        If there is no such picture.
    """
    scenes: list[Scene] = []
    sounds: list[Sound] = []
    for number, clip in enumerate(shards.clips):
        rng = np.random.default_rng([seed, number])
        loud = _loud_middles(shards, model, clip, rng)
        for scene in _spread_out(_scenes(shards, clip, rng), clip, per_clip, loud):
            middle = float(clip.frame_times[scene.frame])
            others = [float(time) for time in loud if time != middle][: windows - 1]
            scenes.append(scene)
            sounds.append(Sound(clip, clip.labels[0], (middle, *others)))
    _check_any(scenes, shards)
    return scenes, sounds


def duo_scenes(shards: Shards, per_clip: int, seed: int) -> list[Scene]:
    """Choose up to `per_clip` pictures of each episode in which both kinds are visible, once each and apart.

    Raises
    ------
    ValueError
        If there is no such picture.
    """
    chosen: list[Scene] = []
    for number, clip in enumerate(shards.clips):
        scenes = _scenes(shards, clip, np.random.default_rng([seed, number]))
        apart = [
            scene for scene in scenes if len(scene.boxes) == 2 and overlap(*scene.boxes.values()) < LARGEST_OVERLAP
        ]
        chosen += _spread_out(apart, clip, per_clip, clip.frame_times)
    _check_any(chosen, shards)
    return chosen


def monster_boxes(kinds: Sequence[str], objects: list[list]) -> dict[str, Box] | None:
    """Return the box of each kind among a frame's objects; None unless each is visible once, at a valid size."""
    by_kind: dict[str, Box] = {}
    for kind in kinds:
        boxes = [tuple(box) for name, category, *box in objects if (name, category) == (kind, "Monster")]
        if len(boxes) != 1 or not SMALLEST <= area(boxes[0]) <= LARGEST:
            return None
        by_kind[kind] = boxes[0]
    return by_kind


def _scenes(shards: Shards, clip: StoredClip, rng: np.random.Generator) -> list[Scene]:
    """List all scenes of an episode, in random order."""
    objects = shards.objects(clip)
    projectiles, scenes = projectile_areas(objects), []
    for frame in rng.permutation(len(objects)):
        boxes = monster_boxes(clip.labels, objects[frame])
        if boxes and projectiles[frame] <= LARGEST_PROJECTILE:
            scenes.append(Scene(clip, int(frame), boxes))
    return scenes


def _spread_out(scenes: list[Scene], clip: StoredClip, count: int, times: np.ndarray) -> list[Scene]:
    """Keep the first `count` scenes that are at one of the times and lie apart from each other."""
    chosen: list[Scene] = []
    for scene in scenes:
        time = clip.frame_times[scene.frame]
        beside = all(abs(time - clip.frame_times[other.frame]) >= APART for other in chosen)
        if len(chosen) < count and beside and time in times:
            chosen.append(scene)
    return chosen


def _loud_middles(shards: Shards, model: AudioVisualModel, clip: StoredClip, rng: np.random.Generator) -> np.ndarray:
    """List the times of frames whose window lies inside the episode and is loud enough, in random order."""
    seconds = model.sound.seconds
    inside = clip.frame_times[frames_with_room(clip, seconds, model.frames)]

    def read(time: float) -> np.ndarray:
        return shards.sound(clip, time, seconds, clip.sample_rate, clip.channels)

    return rng.permutation([time for time, _ in loud_moments(read, inside, QUIETEST)])


def _check_any(scenes: list[Scene], shards: Shards) -> None:
    """Raise ValueError if there are no scenes."""
    if not scenes:
        raise ValueError(
            f"no frame of {shards.paths[0].parent} shows each of its kinds of monster exactly once, with a box of "
            f"{100 * SMALLEST:g} to {100 * LARGEST:g} % of the picture, near no projectile and, alone, at a loud moment"
        )
