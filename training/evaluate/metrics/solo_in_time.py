"""Localisation on held-out solo episodes, by networks that fuse clips with their sound (Multisensory, section 4).

Each picture with a true box is the middle of a clip, whose frames stay whole; the map of the picture's own time counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from openavc.inference.activations import Activations, clip_logits, whole_frames
from openavc.models.contract import LocalizesInTime

from ...corpora.shards import Shards, clip_frames
from ..datasets.encounters import Scene, Sound, draw_strangers, solo_scenes
from ..networks.untrained import settle_clips
from .field import Maps, Report
from .solo_duo import OTHER, OWN, read_window, solo_report

SIGNED = "logits with their signs"  # which say "in step"; activations are their absolute values
EXAMPLES = 64  # clips whose statistics untrained networks get
_BATCH = 8


def measure(model: LocalizesInTime, fresh: list[LocalizesInTime], shards: Shards, per_clip: int, seed: int) -> Report:
    """Measure how often a model's strongest place is in the box, beside untrained networks (`fresh`) and controls.

    Parameters
    ----------
    model : LocalizesInTime
    fresh : list of LocalizesInTime
        Their BatchNorm statistics are set.
    shards : Shards
        Held-out episodes with one kind of monster.
    per_clip : int
        Largest number of pictures from an episode.
    seed : int

    Raises
    ------
    ValueError
        If no picture is in the middle of a clip that the network can take, or all sounds are of one kind.
    """
    scenes, sounds = solo_scenes(shards, model, per_clip, 1, seed)
    strangers = draw_strangers(sounds, np.random.default_rng(seed))
    chosen = np.random.default_rng(seed).permutation(len(scenes))[:EXAMPLES]
    for network in fresh:
        _settle(network, shards, [scenes[k] for k in chosen], [sounds[k] for k in chosen])
    maps, *blank = (scene_maps(network, shards, scenes, sounds, strangers) for network in (model, *fresh))
    return solo_report(maps, blank, scenes, seed, (OWN, f"{OWN}, {SIGNED}"))


def scene_maps(
    model: LocalizesInTime, shards: Shards, scenes: Sequence[Scene], sounds: Sequence[Sound], strangers: np.ndarray
) -> Maps:
    """Map each picture, in its clip, for several sounds: name -> (h, w) of each picture."""
    heard = [read_window(model, shards, sound, sound.middles[0]) for sound in sounds]
    clips = (
        (_frames(model, shards, scene), own, heard[stranger])
        for scene, own, stranger in zip(scenes, heard, strangers, strict=True)
    )
    return clip_maps(model, clips, OTHER)


def clip_maps(model: LocalizesInTime, clips: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], other: str) -> Maps:
    """Map the middles of clips for their own sounds, for others and for silence.

    Parameters
    ----------
    model : LocalizesInTime
    clips : iterable of (frames, own, other)
        Whole frames (T, H, W, 3), and sounds (n, channels).
    other : str
        What the other sounds are called.

    Returns
    -------
    maps : dict of str to list of ndarray, shape (h, w)
        The activations for each sound and, for the first two, the logits with their signs.
    """
    maps: Maps = {name: [] for name in (OWN, other, "silence", f"{OWN}, {SIGNED}", f"{other}, {SIGNED}")}
    for frames, *sounds in clips:
        logits = clip_logits(model, [frames] * 3, [*sounds, np.zeros_like(sounds[0])])
        for of_one, heatmaps in zip(maps.values(), [*np.abs(logits), *logits[:2]], strict=True):
            of_one.append(in_the_middle(heatmaps, model))
    return maps


def in_the_middle(heatmaps: np.ndarray, model: LocalizesInTime) -> np.ndarray:
    """Return the map at the time of a clip's middle frame, from the maps (K, h, w) of the clip: (h, w)."""
    return Activations(np.zeros(1), heatmaps[None], model.frames).at(model.frames.before)


def _frames(model: LocalizesInTime, shards: Shards, scene: Scene) -> np.ndarray:
    """Read the whole frames (T, H, W, 3) of the clip around a picture."""
    whole, numbers = whole_frames(model), clip_frames(scene.clip, scene.frame, model.frames)
    return np.stack([whole(frame) for frame in shards.frames(scene.clip, numbers)])


def _settle(network: LocalizesInTime, shards: Shards, scenes: Sequence[Scene], sounds: Sequence[Sound]) -> None:
    parts = [slice(first, first + _BATCH) for first in range(0, len(scenes), _BATCH)]
    settle_clips(
        network,
        (
            (
                [_frames(network, shards, scene) for scene in scenes[part]],
                [read_window(network, shards, sound, sound.middles[0]) for sound in sounds[part]],
            )
            for part in parts
        ),
    )
