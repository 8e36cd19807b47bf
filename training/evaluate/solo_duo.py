"""Localisation on held-out encounters: solo pictures with one monster, duo pictures with two.

Solo alone proves little: what stands out is the monster, so a map that hears nothing may hit it, too. The fall with
another kind's sound, and in duo pictures the gain of a box's own sound over the other's, are the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import Shards
from . import ciou
from .encounters import Scene, Sound, area, duo_scenes, solo_scenes
from .localization import (
    PRIOR_SOUNDS,
    SETTLING,
    Report,
    Share,
    box_hits,
    field_report,
    hear,
    highest,
    inside,
    maps,
    reachable,
    saliency,
    see,
    settle,
    share,
    silence,
    tower_features,
)

OWN, OTHER, PRIOR = "own sound", "another kind's sound", "mean map of many sounds"
CHANCE, REACHABLE = "chance (area of the box)", "reachable (the box holds a place's middle)"


@dataclass(frozen=True)
class Encounters:
    """Solo pictures with one box each, and duo pictures with two; sounds are numbers of those of the solo pictures."""

    solo: Shards
    scenes: list[Scene]
    sounds: list[Sound]  # one a scene, its own
    strangers: np.ndarray  # (scenes,) a sound of another kind
    prior: np.ndarray  # (PRIOR_SOUNDS,) sounds of all kinds
    duo: Shards
    pairs: list[Scene]  # with two kinds each
    played: np.ndarray  # (pairs, 2) a sound of each kind


def read_encounters(model, solo: Shards, duo: Shards, per_clip: int, windows: int, seed: int) -> Encounters:
    """Choose the pictures, and by chance the sounds that are played to them.

    Parameters
    ----------
    model : nn.Module
        For the length of its windows.
    solo, duo : Shards
        Held-out episodes.
    per_clip : int
        Pictures an places, at most.
    windows : int
        Of one recording, over whose maps a mean is taken.

    Raises
    ------
    ValueError
        If there are no such pictures, all sounds are of one kind, or a kind of duo pictures has none.
    """
    scenes, sounds = solo_scenes(solo, model, per_clip, windows, seed)
    pairs = duo_scenes(duo, per_clip, seed)
    kinds, rng = np.array([sound.kind for sound in sounds]), np.random.default_rng(seed)
    lacking = {kind for pair in pairs for kind in pair.boxes} - set(kinds)
    if lacking:
        raise ValueError(f"duo pictures show {', '.join(sorted(lacking))}, of which there is no solo recording")
    if len(set(kinds)) < 2:
        raise ValueError(f"solo recordings of two kinds of monster are needed, there is only {kinds[0]}")
    strangers = [rng.choice(np.flatnonzero(kinds != kind)) for kind in kinds]
    prior = rng.choice(len(kinds), PRIOR_SOUNDS)
    played = [[rng.choice(np.flatnonzero(kinds == kind)) for kind in pair.boxes] for pair in pairs]
    return Encounters(solo, scenes, sounds, np.array(strangers), prior, duo, pairs, np.array(played))


def measure(model, fresh: list, encounters: Encounters, seed: int) -> Report:
    """Solo and duo figures of a model, beside untrained networks (`fresh`) and controls."""
    for network in fresh:
        settle(network, *_examples(network, encounters, seed))
    networks = [model, *fresh]
    heard = [hear(network, encounters.solo, encounters.sounds) for network in networks]
    reports = [_solo(networks, heard, encounters, seed), _duo(networks, heard, encounters, seed)]
    tables = {title: rows for report in reports for title, rows in report.tables.items()}
    return Report(tables, {name: value for report in reports for name, value in report.figures.items()})


def _examples(network, encounters: Encounters, seed: int) -> tuple[list, list]:
    """Some of the solo pictures, and their sounds."""
    chosen = np.random.default_rng(seed).permutation(len(encounters.scenes))[:SETTLING]
    scenes, sounds = ([each[k] for k in chosen] for each in (encounters.scenes, encounters.sounds))
    pictures = [encounters.solo.frame(scene.clip, scene.frame) for scene in scenes]
    seconds, rate = network.window_seconds, network.sample_rate
    return pictures, [encounters.solo.waveform(sound.clip, sound.middles[0], seconds, rate) for sound in sounds]


def _places(scenes: list[Scene]) -> np.ndarray:
    """What pictures may be alike by: the level, or else the video."""
    return np.array([scene.clip.level or scene.clip.source for scene in scenes])


def _prior(heard: list[np.ndarray], encounters: Encounters) -> np.ndarray:
    return np.concatenate([heard[number] for number in encounters.prior])


def solo_maps(model, heard: list[np.ndarray], encounters: Encounters) -> dict[str, list[np.ndarray]]:
    """Maps (h, w) of each solo picture by what is played, and by nothing but the picture."""
    found: dict[str, list] = {}
    nothing, prior = silence(model), _prior(heard, encounters)
    for number, seen in enumerate(see(model, encounters.solo, encounters.scenes)):
        sounds = {OWN: heard[number], OTHER: heard[encounters.strangers[number]], "silence": nothing, PRIOR: prior}
        for name, heatmap in maps(model, seen, sounds).items():
            found.setdefault(name, []).append(heatmap)
    return found | saliency(_features(model, encounters.solo, encounters.scenes))


def _features(model, shards: Shards, scenes: list[Scene]) -> list[np.ndarray]:
    return tower_features(model, (shards.frame(scene.clip, scene.frame) for scene in scenes))


def _solo(networks: list, heard: list, encounters: Encounters, seed: int) -> Report:
    boxes = [next(iter(scene.boxes.values())) for scene in encounters.scenes]
    places = _places(encounters.scenes)
    found, *blank = (solo_maps(*each, encounters) for each in zip(networks, heard, strict=True))
    hits = {name: box_hits(heatmaps, boxes) for name, heatmaps in found.items()}
    for name in (OWN, "feature norm", "unusual features"):
        hits[f"untrained, {name}"] = np.mean([box_hits(run[name], boxes) for run in blank], axis=0)
    hits["centre"] = np.array([inside((0.5, 0.5), box) for box in boxes], float)
    hits[CHANCE] = np.array([area(box) for box in boxes])
    hits[REACHABLE] = np.array([reachable(*each) for each in zip(found[OWN], boxes, strict=True)], float)
    field = field_report(
        found | {f"untrained, {OWN}": blank[0][OWN]},
        [ciou.truth([(x, y, x + width, y + height)]) for x, y, width, height in boxes],
        hits,
        (OTHER, "silence"),
        places,
        seed,
    )
    rows, figures = _solo_rows(hits, places, seed)
    off = int((hits["centre"] == 0).sum())
    title = f"solo, {len(boxes)} pictures of {len(set(places))} levels, {off} off-centre"
    tables = {title: rows} | {f"solo, {name}": rows for name, rows in field.tables.items()}
    # few of these boxes are large enough for an IoU of 0.5, so AP and F1 by it say nothing
    telling = {f"solo {name}": value for name, value in field.figures.items() if "right if IoU" not in name}
    return Report(tables, figures | telling)


def _solo_rows(hits: dict[str, np.ndarray], places: np.ndarray, seed: int) -> tuple[dict, dict]:
    """Rows of the table and figures of the hits, all (pictures,)."""
    off, rows, figures = hits["centre"] == 0, {}, {}
    for name, values in hits.items():
        found, aside = share(values, places, seed), share(values[off], places[off], seed)
        rows[name] = {"in the box": str(found), "off-centre": str(aside)}
        figures[f"solo {name}"] = found.mean
        if name == OWN:
            figures |= {f"solo {OWN}, lower bound": found.low, f"solo {OWN}, off-centre": aside.mean}
        elif name != REACHABLE:
            rows[name]["own sound minus this"] = str(share(hits[OWN] - values, places, seed))
    return rows, figures


def duo_hits(model, heard: list[np.ndarray], encounters: Encounters) -> dict[str, np.ndarray]:
    """Whether each box is hit, (pairs, 2), by what is played: its own sound, the other kind's, or many."""
    prior, hits = _prior(heard, encounters), {OWN: [], OTHER: [], PRIOR: []}
    for number, seen in enumerate(see(model, encounters.duo, encounters.pairs)):
        first, second = (heard[k] for k in encounters.played[number])
        found = maps(model, seen, {"first": first, "second": second, "prior": prior})
        a, b, neither = (highest(found[name]) for name in ("first", "second", "prior"))
        one, two = encounters.pairs[number].boxes.values()
        hits[OWN].append((inside(a, one), inside(b, two)))
        hits[OTHER].append((inside(b, one), inside(a, two)))
        hits[PRIOR].append((inside(neither, one), inside(neither, two)))
    return {name: np.array(values, float) for name, values in hits.items()}


def _deaf_hits(model, encounters: Encounters) -> dict[str, np.ndarray]:
    """Whether each box is hit, (pairs, 2), by maps of the picture alone."""
    found = saliency(_features(model, encounters.duo, encounters.pairs))
    boxes = [list(pair.boxes.values()) for pair in encounters.pairs]
    return {
        name: np.stack([box_hits(heatmaps, [pair[k] for pair in boxes]) for k in (0, 1)], axis=1)
        for name, heatmaps in found.items()
    }


def _duo(networks: list, heard: list, encounters: Encounters, seed: int) -> Report:
    own, *runs = (duo_hits(*each, encounters) for each in zip(networks, heard, strict=True))
    blank = {name: np.mean([run[name] for run in runs], axis=0) for name in own}
    deaf = _deaf_hits(networks[0], encounters) | {PRIOR: own[PRIOR]}
    unheard = [_deaf_hits(network, encounters) for network in networks[1:]]
    deaf |= {f"untrained, {name}": np.mean([run[name] for run in unheard], axis=0) for name in unheard[0]}
    centre = [[inside((0.5, 0.5), box) for box in pair.boxes.values()] for pair in encounters.pairs]
    deaf["centre"] = np.array(centre, float)
    played = {"the model": (own[OWN], own[OTHER]), "untrained": (blank[OWN], blank[OTHER])}
    played |= {name: (values, values) for name, values in deaf.items()}
    places = np.repeat(_places(encounters.pairs), 2)

    def of(values: np.ndarray) -> Share:
        return share(values.ravel(), places, seed)

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
    title = f"duo, {len(encounters.pairs)} pictures of {len(set(places))} levels, both sounds each"
    sizes = np.array([area(box) for pair in encounters.pairs for box in pair.boxes.values()])
    by_size = {
        f"{name} of the picture, {fits.sum()} boxes": {
            "own sound": str(share(own[OWN].ravel()[fits], places[fits], seed)),
            "other's sound": str(share(own[OTHER].ravel()[fits], places[fits], seed)),
        }
        for name, fits in (
            ("under 1.5 %", sizes < 0.015),
            ("1.5 to 4 %", (sizes >= 0.015) & (sizes < 0.04)),
            ("4 % or more", sizes >= 0.04),
        )
        if fits.any()
    }
    return Report({title: rows, "duo, the model by the area of the box": by_size}, figures)
