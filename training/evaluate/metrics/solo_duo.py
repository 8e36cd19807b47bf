"""Localisation on held-out encounters: solo pictures with one monster, duo pictures with two.

Solo pictures prove little by themselves: the monster stands out, so even a map that hears nothing may hit it. The
evidence is the drop with another kind's sound and, in duo pictures, the gain of a box's own sound over the other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from openavc.inference.batches import represent_windows
from openavc.inference.localization import represent_pictures
from openavc.models.contract import AudioVisualModel, Localizes

from ...corpora.shards import Shards
from ..datasets.boxes import area, inside
from ..datasets.encounters import Encounters, Scene, Sound
from ..networks.untrained import SETTLING, settle
from . import ciou
from .bootstrap import Share, share
from .field import Maps, Report, Rows, field_report
from .hits import box_hits, highest, reachable
from .maps import mean_maps, silence
from .saliency import saliency, tower_features

OWN, OTHER, PRIOR = "own sound", "another kind's sound", "mean map of many sounds"
CHANCE, REACHABLE = "chance (area of the box)", "reachable (the box holds a place's middle)"
_SIZES = {"under 1.5 %": (0, 0.015), "1.5 to 4 %": (0.015, 0.04), "4 % or more": (0.04, 2)}  # areas of boxes

Hits = dict[str, np.ndarray]  # name -> 1 if a picture's box, or a box of a pair, is hit, else 0


def measure(model: Localizes, fresh: list[Localizes], encounters: Encounters, seed: int) -> Report:
    """Measure solo and duo figures of a model, beside untrained networks (`fresh`, which are settled) and controls."""
    for network in fresh:
        settle(network, *_examples(network, encounters, seed))
    networks = [model, *fresh]
    heard = [hear_sounds(network, encounters.solo, encounters.sounds) for network in networks]
    reports = [_solo(networks, heard, encounters, seed), _duo(networks, heard, encounters, seed)]
    tables = {title: rows for report in reports for title, rows in report.tables.items()}
    return Report(tables, {name: value for report in reports for name, value in report.figures.items()})


def hear_sounds(model: Localizes, shards: Shards, sounds: list[Sound]) -> list[Tensor]:
    """Represent each sound as `localize` takes it: (windows, D)."""
    windows = (
        (number, read_window(model, shards, sound, middle))
        for number, sound in enumerate(sounds)
        for middle in sound.middles
    )
    rows: list[list[Tensor]] = [[] for _ in sounds]
    for number, row in represent_windows(model, windows):
        rows[number].append(row)
    return [torch.stack(of_sound) for of_sound in rows]


def see_scenes(model: Localizes, shards: Shards, scenes: list[Scene]) -> Iterator[Tensor]:
    """Represent each picture as `localize` takes it: (D, h, w)."""
    return represent_pictures(model, (shards.frame(scene.clip, scene.frame) for scene in scenes))


def read_window(model: AudioVisualModel, shards: Shards, sound: Sound, middle: float) -> np.ndarray:
    """Read the window (n, channels) of a recording around a time, as the model takes it."""
    return shards.sound(sound.clip, middle, model.sound.seconds, model.sound.sample_rate, model.sound.channels)


def _examples(network: Localizes, encounters: Encounters, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw some of the solo pictures, with their sounds."""
    chosen = np.random.default_rng(seed).permutation(len(encounters.scenes))[:SETTLING]
    scenes, sounds = ([each[k] for k in chosen] for each in (encounters.scenes, encounters.sounds))
    pictures = [encounters.solo.frame(scene.clip, scene.frame) for scene in scenes]
    return pictures, [read_window(network, encounters.solo, sound, sound.middles[0]) for sound in sounds]


def _groups(scenes: list[Scene]) -> np.ndarray:
    """Group scenes whose pictures are alike."""
    return np.array([scene.clip.place for scene in scenes])


def _prior(heard: list[Tensor], encounters: Encounters) -> Tensor:
    return torch.cat([heard[number] for number in encounters.prior])


def _saliency(model: Localizes, shards: Shards, scenes: list[Scene]) -> Maps:
    pictures = (shards.frame(scene.clip, scene.frame) for scene in scenes)
    return saliency(tower_features(model, pictures))


# ------------------------------------------------------------------------------------------------------------ solo


def solo_maps(model: Localizes, heard: list[Tensor], encounters: Encounters) -> Maps:
    """Map each solo picture for several sounds, and from the picture only.

    Parameters
    ----------
    model : Localizes
    heard : list of Tensor, shape (windows, D)
        As returned by `hear_sounds`.
    encounters : Encounters

    Returns
    -------
    maps : dict of str to list of ndarray, shape (h, w)
    """
    maps: Maps = {}
    nothing, prior = silence(model), _prior(heard, encounters)
    for number, seen in enumerate(see_scenes(model, encounters.solo, encounters.scenes)):
        sounds = {OWN: heard[number], OTHER: heard[encounters.strangers[number]], "silence": nothing, PRIOR: prior}
        for name, heatmap in mean_maps(model, seen, sounds).items():
            maps.setdefault(name, []).append(heatmap)
    return maps | _saliency(model, encounters.solo, encounters.scenes)


def _solo(networks: list[Localizes], heard: list[list[Tensor]], encounters: Encounters, seed: int) -> Report:
    maps, *blank = (solo_maps(*each, encounters) for each in zip(networks, heard, strict=True))
    return solo_report(maps, blank, encounters.scenes, seed, (OWN, "feature norm", "unusual features"))


def solo_report(maps: Maps, blank: list[Maps], scenes: list[Scene], seed: int, shared: Sequence[str]) -> Report:
    """Sum up maps of solo pictures for several sounds, beside those of untrained networks, the centre and chance.

    Parameters
    ----------
    maps : dict of str to list of ndarray, shape (h, w)
        Of each picture; among them are those for "own sound", "another kind's sound" and "silence".
    blank : list of dict
        Those of each untrained network.
    scenes : list of Scene
        The pictures.
    seed : int
        Seed of the intervals.
    shared : sequence of str
        Names of maps of which untrained networks have rows of their own, too.
    """
    boxes = [next(iter(scene.boxes.values())) for scene in scenes]
    groups = _groups(scenes)
    hits = {name: box_hits(heatmaps, boxes) for name, heatmaps in maps.items()}
    for name in shared:
        hits[f"untrained, {name}"] = np.mean([box_hits(run[name], boxes) for run in blank], axis=0)
    hits["centre"] = np.array([inside((0.5, 0.5), box) for box in boxes], float)
    hits[CHANCE] = np.array([area(box) for box in boxes])
    hits[REACHABLE] = np.array([reachable(*each) for each in zip(maps[OWN], boxes, strict=True)], float)
    targets = [ciou.target_of([(x, y, x + width, y + height)]) for x, y, width, height in boxes]
    compared = maps | {f"untrained, {OWN}": blank[0][OWN]}
    field = field_report(compared, targets, hits, (OTHER, "silence"), groups, seed)
    rows, figures = hit_rows(hits, groups, seed)
    off = int((hits["centre"] == 0).sum())
    title = f"solo, {len(boxes)} pictures of {len(set(groups))} levels, {off} off-centre"
    tables = {title: rows} | {f"solo, {name}": rows for name, rows in field.tables.items()}
    # few of these boxes are large enough for an IoU of 0.5, so AP and F1 by IoU say nothing
    telling = {f"solo {name}": value for name, value in field.figures.items() if "right if IoU" not in name}
    return Report(tables, figures | telling)


def hit_rows(hits: Hits, groups: np.ndarray, seed: int, kind: str = "solo") -> tuple[Rows, dict[str, float]]:
    """Make the rows of a table, and the figures of a kind, from hits of several maps: (pictures,) each.

    Among them are those for "own sound", which the others are compared with, and of the centre.
    """
    off = hits["centre"] == 0
    rows: Rows = {}
    figures: dict[str, float] = {}
    for name, values in hits.items():
        everywhere, aside = share(values, groups, seed), share(values[off], groups[off], seed)
        rows[name] = {"in the box": str(everywhere), "off-centre": str(aside)}
        figures[f"{kind} {name}"] = everywhere.mean
        if name == OWN:
            figures |= {f"{kind} {OWN}, lower bound": everywhere.low, f"{kind} {OWN}, off-centre": aside.mean}
        elif name != REACHABLE:
            rows[name]["own sound minus this"] = str(share(hits[OWN] - values, groups, seed))
    return rows, figures


# ------------------------------------------------------------------------------------------------------------- duo


def duo_hits(model: Localizes, heard: list[Tensor], encounters: Encounters) -> Hits:
    """Measure whether each box is hit, (pairs, 2), for its own sound, the other kind's, or many."""
    hits: dict[str, list] = {OWN: [], OTHER: [], PRIOR: []}
    prior = _prior(heard, encounters)
    for number, seen in enumerate(see_scenes(model, encounters.duo, encounters.pairs)):
        first, second = (heard[k] for k in encounters.played[number])
        maps = mean_maps(model, seen, {"first": first, "second": second, "prior": prior})
        a, b, neither = (highest(maps[name]) for name in ("first", "second", "prior"))
        one, two = encounters.pairs[number].boxes.values()
        hits[OWN].append((inside(a, one), inside(b, two)))
        hits[OTHER].append((inside(b, one), inside(a, two)))
        hits[PRIOR].append((inside(neither, one), inside(neither, two)))
    return {name: np.array(values, float) for name, values in hits.items()}


def _deaf_hits(model: Localizes, encounters: Encounters) -> Hits:
    """Measure whether each box is hit, (pairs, 2), by maps that hear nothing."""
    boxes = [list(pair.boxes.values()) for pair in encounters.pairs]
    return {
        name: np.stack([box_hits(heatmaps, [pair[k] for pair in boxes]) for k in (0, 1)], axis=1)
        for name, heatmaps in _saliency(model, encounters.duo, encounters.pairs).items()
    }


def _mean_hits(runs: Sequence[Hits]) -> Hits:
    """Average hits over several networks."""
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}


def _duo(networks: list[Localizes], heard: list[list[Tensor]], encounters: Encounters, seed: int) -> Report:
    own, *runs = (duo_hits(*each, encounters) for each in zip(networks, heard, strict=True))
    blank = _mean_hits(runs)
    unheard = _mean_hits([_deaf_hits(network, encounters) for network in networks[1:]])
    deaf = _deaf_hits(networks[0], encounters) | {PRIOR: own[PRIOR]}
    deaf |= {f"untrained, {name}": values for name, values in unheard.items()}
    centre = [[inside((0.5, 0.5), box) for box in pair.boxes.values()] for pair in encounters.pairs]
    deaf["centre"] = np.array(centre, float)
    played = {"the model": (own[OWN], own[OTHER]), "untrained": (blank[OWN], blank[OTHER])}
    played |= {name: (values, values) for name, values in deaf.items()}
    groups = np.repeat(_groups(encounters.pairs), 2)

    def of(values: np.ndarray) -> Share:
        return share(values.ravel(), groups, seed)

    rows = {
        name: {"own sound": str(of(a)), "other's sound": str(of(b)), "gain": str(of(a - b))}
        | ({} if name == "the model" else {"the model's own minus this": str(of(own[OWN] - a))})
        for name, (a, b) in played.items()
    }
    gain = of(own[OWN] - own[OTHER])
    figures = {
        "duo own sound": of(own[OWN]).mean,
        "duo other's sound": of(own[OTHER]).mean,
        "duo gain": gain.mean,
        "duo gain, lower bound": gain.low,
        "duo gain, upper bound": gain.high,
        "duo gain, untrained": of(blank[OWN] - blank[OTHER]).mean,
    } | {f"duo {name}": of(values).mean for name, values in deaf.items()}
    title = f"duo, {len(encounters.pairs)} pictures of {len(set(groups))} levels, both sounds each"
    by_size = _rows_by_size(own, encounters, groups, seed)
    return Report({title: rows, "duo, the model by the area of the box": by_size}, figures)


def _rows_by_size(own: Hits, encounters: Encounters, groups: np.ndarray, seed: int) -> Rows:
    """Make the rows of the model's hits for boxes of three sizes; sizes without boxes are left out."""
    sizes = np.array([area(box) for pair in encounters.pairs for box in pair.boxes.values()])
    rows: Rows = {}
    for name, (least, below) in _SIZES.items():
        fits = (sizes >= least) & (sizes < below)
        if fits.any():
            rows[f"{name} of the picture, {fits.sum()} boxes"] = {
                "own sound": str(share(own[OWN].ravel()[fits], groups[fits], seed)),
                "other's sound": str(share(own[OTHER].ravel()[fits], groups[fits], seed)),
            }
    return rows
