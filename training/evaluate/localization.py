"""Does a map point at what sounds? Hits of true boxes, beside controls that hear something else or nothing.

A map hits if the middle of its highest place lies in the box (Objects that Sound, section 4.2). Maps are logits:
probabilities that round to 1 would tie. Intervals are the middle 95 % of means over episodes drawn anew, since the
pictures of one episode are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from openavc.correspondence import represent_windows
from openavc.image import whole
from openavc.inference import prepared_images, run_batches
from openavc.localization import represent_whole

from ..data import Shards
from . import ciou
from .encounters import Box, Scene, Sound, area, duo_scenes, solo_scenes
from .tables import table

PRIOR_SOUNDS = 64  # whose mean map stands for hearing nothing
DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Share:
    """A percentage, or the difference of two, with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def share(values: np.ndarray, episode: np.ndarray, seed: int, draws: int = DRAWS) -> Share:
    """Mean of `values` (n,) in percent; whole episodes are drawn anew for the interval."""
    _, number = np.unique(episode, return_inverse=True)
    totals, counts = np.bincount(number, values), np.bincount(number)
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    low, high = np.percentile(100 * (drawn @ totals) / (drawn @ counts), [2.5, 97.5])
    return Share(100 * float(np.mean(values)), float(low), float(high))


def hear(model, shards: Shards, sounds: list[Sound]) -> list[np.ndarray]:
    """What `localize` takes of each sound, (windows, D)."""
    windows = (
        ((number, middle), shards.waveform(sound.clip, middle, model.window_seconds, model.sample_rate))
        for number, sound in enumerate(sounds)
        for middle in sound.middles
    )
    vectors: list[list] = [[] for _ in sounds]
    for (number, _), vector in represent_windows(model, windows):
        vectors[number].append(vector)
    return [np.stack(found) for found in vectors]


def silence(model) -> np.ndarray:
    """What `localize` takes of no sound at all: (1, D)."""
    zeros = np.zeros(round(model.window_seconds * model.sample_rate), np.float32)
    return np.stack([vector for _, vector in represent_windows(model, [(0, zeros)])])


def see(model, shards: Shards, scenes: list[Scene]) -> list[np.ndarray]:
    """What `localize` takes of each picture: (D, h, w)."""
    return represent_whole(model, (shards.frame(scene.clip, scene.frame) for scene in scenes))


def tower_features(model, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The picture tower's last features at each place, (C, h, w) in half precision, to keep them all."""
    prepared = (whole(picture, model.image_size, model.map_stride) for picture in pictures)
    network = run_batches(enumerate(prepared), 16, model, lambda b: model.image_tower(prepared_images(model, b)))
    return [features.astype(np.float16) for _, features in network]


def saliency(features: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """What stands out without any sound: maps (h, w) of each picture from its features.

    Their length, and the length of their z-scores by the statistics of all places of all pictures.
    """
    count = sum(found[0].size for found in features)
    mean = sum(found.sum(axis=(1, 2), dtype=np.float64) for found in features) / count
    square = sum(np.square(found, dtype=np.float64).sum(axis=(1, 2)) for found in features) / count
    deviation = np.sqrt(np.maximum(square - mean**2, 0)) + 1e-6
    scored = ((found - mean[:, None, None]) / deviation[:, None, None] for found in features)
    return {
        "feature norm": [np.linalg.norm(found.astype(np.float32), axis=0) for found in features],
        "unusual features": [np.linalg.norm(found, axis=0) for found in scored],
    }


def maps(model, seen: np.ndarray, sounds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits (h, w) of one picture for each of the sounds: the mean over its windows (n, D)."""
    parameter = next(model.parameters())
    image, audio = (torch.from_numpy(array).to(parameter) for array in (seen, np.concatenate(list(sounds.values()))))
    with torch.inference_mode():
        places = model.localize(image.expand(len(audio), *image.shape), audio).float().cpu().numpy()
    ends = np.cumsum([len(vectors) for vectors in sounds.values()])[:-1]
    return {name: part.mean(axis=0) for name, part in zip(sounds, np.split(places, ends), strict=True)}


def highest(heatmap: np.ndarray) -> tuple[float, float]:
    """Middle of the highest place of a map (h, w): x and y, fractions of the picture."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return (column + 0.5) / heatmap.shape[1], (row + 0.5) / heatmap.shape[0]


def inside(point: tuple[float, float], box: Box) -> bool:
    x, y, width, height = box
    return x <= point[0] < x + width and y <= point[1] < y + height


def centre_map() -> np.ndarray:
    """Highest in the middle of the picture; its higher half is a box in the centre."""
    off = np.abs((np.arange(ciou.SIZE) + 0.5) / ciou.SIZE - 0.5)
    return -np.maximum(off[:, None], off[None])


@dataclass(frozen=True)
class Report:
    """Figures as tables to print, and as numbers."""

    tables: list[str]
    figures: dict[str, float]


@dataclass(frozen=True)
class Encounters:
    """Solo pictures with one box each, and duo pictures with two; `played` are numbers of solo sounds."""

    solo: Shards
    scenes: list[Scene]
    sounds: list[Sound]  # one a scene, its own
    strangers: np.ndarray  # (scenes,) number of a sound of another kind
    prior: np.ndarray  # (PRIOR_SOUNDS,) numbers of sounds
    duo: Shards
    pairs: list[Scene]  # with two kinds each
    played: np.ndarray  # (pairs, 2) number of a sound of each kind


def read_encounters(model, solo: Shards, duo: Shards, per_clip: int, windows: int, seed: int) -> Encounters:
    """Choose the pictures, and by chance the sounds that are played to them.

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
        raise ValueError(f"sounds of two kinds of monster are needed, there is only {kinds[0]}")
    strangers = [rng.choice(np.flatnonzero(kinds != sound.kind)) for sound in sounds]
    prior = rng.choice(len(kinds), PRIOR_SOUNDS)
    played = [[rng.choice(np.flatnonzero(kinds == kind)) for kind in pair.boxes] for pair in pairs]
    return Encounters(solo, scenes, sounds, np.array(strangers), prior, duo, pairs, np.array(played))


def measure(model, fresh: list, encounters: Encounters, seed: int) -> Report:
    """Solo and duo figures of a model, beside untrained networks (`fresh`) and controls."""
    heard = hear(model, encounters.solo, encounters.sounds)
    heard_fresh = [hear(network, encounters.solo, encounters.sounds) for network in fresh]
    solo = _solo(model, heard, fresh, heard_fresh, encounters, seed)
    duo = _duo(model, heard, fresh, heard_fresh, encounters, seed)
    return Report(solo.tables[:1] + duo.tables + solo.tables[1:], solo.figures | duo.figures)


def _prior(heard: list[np.ndarray], encounters: Encounters) -> np.ndarray:
    return np.concatenate([heard[number] for number in encounters.prior])


def _solo_maps(model, heard, encounters: Encounters, controls: bool) -> dict[str, list[np.ndarray]]:
    """Maps of each solo picture by what is played; with those of other sounds and of none, if wanted."""
    found: dict[str, list] = {}
    nothing, prior = silence(model), _prior(heard, encounters)
    for number, seen in enumerate(see(model, encounters.solo, encounters.scenes)):
        sounds = {"own sound": heard[number]}
        if controls:
            other = heard[encounters.strangers[number]]
            sounds |= {"another kind's sound": other, "silence": nothing, "mean map of many sounds": prior}
        for name, heatmap in maps(model, seen, sounds).items():
            found.setdefault(name, []).append(heatmap)
    pictures = (encounters.solo.frame(scene.clip, scene.frame) for scene in encounters.scenes)
    return found | saliency(tower_features(model, pictures))


def _solo(model, heard, fresh, heard_fresh, encounters: Encounters, seed: int) -> Report:
    boxes = [next(iter(scene.boxes.values())) for scene in encounters.scenes]
    episode = np.array([scene.clip.key for scene in encounters.scenes])
    found = _solo_maps(model, heard, encounters, controls=True)
    found_fresh = [_solo_maps(*each, encounters, controls=False) for each in zip(fresh, heard_fresh, strict=True)]
    hits = {name: box_hits(heatmaps, boxes) for name, heatmaps in found.items()}
    for name in found_fresh[0]:
        hits[f"untrained, {name}"] = np.mean([box_hits(run[name], boxes) for run in found_fresh], axis=0)
    hits["centre"] = np.array([inside((0.5, 0.5), box) for box in boxes], float)
    hits["chance (area of the box)"] = np.array([area(box) for box in boxes])
    hits["reachable (box holds a place's middle)"] = np.array(
        [reachable(heatmap, box) for heatmap, box in zip(found["own sound"], boxes, strict=True)], float
    )
    off = hits["centre"] == 0
    rows, figures = {}, {}
    for name, values in hits.items():
        all_of_them = share(values, episode, seed)
        rows[name] = {"in the box": str(all_of_them), "off-centre": str(share(values[off], episode[off], seed))}
        figures[f"solo {name}"] = all_of_them.mean
        if name not in ("own sound", "reachable (box holds a place's middle)"):
            gain = share(hits["own sound"] - values, episode, seed)
            rows[name]["own minus this"] = str(gain)
            figures[f"solo own sound minus {name}, lower bound"] = gain.low
    title = f"solo, {len(boxes)} pictures of {len(set(episode))} episodes, {off.sum()} off-centre"
    field = ciou_report(
        found | {"untrained, own sound": found_fresh[0]["own sound"]},
        [ciou.truth([(x, y, x + width, y + height)]) for x, y, width, height in boxes],
        hits,
        ("another kind's sound", "silence"),
    )
    figures["solo own sound, lower bound"] = share(hits["own sound"], episode, seed).low
    figures |= {f"solo {name}": value for name, value in field.figures.items()}
    return Report([table(title, rows), *field.tables], figures)


def box_hits(heatmaps: list[np.ndarray], boxes: list[Box]) -> np.ndarray:
    """1 where the highest place lies in the box, else 0: (n,)."""
    return np.array([inside(highest(heatmap), box) for heatmap, box in zip(heatmaps, boxes, strict=True)], float)


def reachable(heatmap: np.ndarray, box: Box) -> bool:
    """Whether the middle of some place of a map lies in the box."""
    height, width = heatmap.shape
    return any(inside(((k + 0.5) / width, (j + 0.5) / height), box) for j in range(height) for k in range(width))


def duo_hits(model, heard: list[np.ndarray], encounters: Encounters) -> dict[str, np.ndarray]:
    """How often each box is hit, (pairs, 2), by what is played: its own sound, the other kind's, or the mean map."""
    prior, hits = _prior(heard, encounters), {"own": [], "other": [], "mean map of many sounds": []}
    for number, seen in enumerate(see(model, encounters.duo, encounters.pairs)):
        first, second = (heard[k] for k in encounters.played[number])
        found = maps(model, seen, {"first": first, "second": second, "prior": prior})
        a, b, neither = (highest(found[name]) for name in ("first", "second", "prior"))
        one, two = encounters.pairs[number].boxes.values()
        hits["own"].append((inside(a, one), inside(b, two)))
        hits["other"].append((inside(b, one), inside(a, two)))
        hits["mean map of many sounds"].append((inside(neither, one), inside(neither, two)))
    return {name: np.array(values, float) for name, values in hits.items()}


def _duo(model, heard, fresh, heard_fresh, encounters: Encounters, seed: int) -> Report:
    own = duo_hits(model, heard, encounters)
    runs = [duo_hits(*each, encounters) for each in zip(fresh, heard_fresh, strict=True)]
    blank = {name: np.mean([run[name] for run in runs], axis=0) for name in own}
    deaf = _deaf_hits(model, encounters) | {"mean map of many sounds": own["mean map of many sounds"]}
    deaf |= {f"untrained, {name}": values for name, values in _deaf_hits(fresh[0], encounters).items()}
    deaf["centre"] = np.array([[inside((0.5, 0.5), box) for box in pair.boxes.values()] for pair in encounters.pairs])
    played = {"the model": (own["own"], own["other"]), f"untrained, {len(fresh)} seeds": (blank["own"], blank["other"])}
    played |= {name: (values.astype(float),) * 2 for name, values in deaf.items()}
    episode = np.repeat([pair.clip.key for pair in encounters.pairs], 2)

    def of(values: np.ndarray) -> Share:
        return share(values.ravel().astype(float), episode, seed)

    rows = {
        name: {"own sound": str(of(a)), "other's sound": str(of(b)), "gain": str(of(a - b))}
        | ({} if name == "the model" else {"own minus this": str(of(own["own"] - a))})
        for name, (a, b) in played.items()
    }
    gain = of(own["own"] - own["other"])
    figures = {
        "duo own sound": of(own["own"]).mean,
        "duo other's sound": of(own["other"]).mean,
        "duo gain": gain.mean,
        "duo gain, lower bound": gain.low,
        "duo gain, upper bound": gain.high,
        "duo gain, untrained": of(blank["own"] - blank["other"]).mean,
    }
    for name, (a, _) in list(played.items())[1:]:
        figures[f"duo own sound, {name}"] = of(a).mean
    title = f"duo, {len(encounters.pairs)} pictures of {len(set(episode))} episodes, both sounds each"
    return Report([table(title, rows)], figures)


def _deaf_hits(model, encounters: Encounters) -> dict[str, np.ndarray]:
    """Hits of each box, (pairs, 2), by maps that hear nothing."""
    pictures = (encounters.duo.frame(pair.clip, pair.frame) for pair in encounters.pairs)
    found = saliency(tower_features(model, pictures))
    return {
        name: np.array(
            [
                [inside(highest(heatmap), box) for box in pair.boxes.values()]
                for heatmap, pair in zip(heatmaps, encounters.pairs, strict=True)
            ]
        )
        for name, heatmaps in found.items()
    }


def ciou_report(found: dict[str, list], truths: list[np.ndarray], hits: dict, negatives: tuple[str, ...]) -> Report:
    """The field's figures of maps by what is played: cIoU, AUC, and AP and F1 against sounds that aren't there.

    Parameters
    ----------
    found : dict of str to list of ndarray, shape (h, w)
        Maps of the same pictures; "own sound" is one of them.
    truths : list of ndarray, shape (224, 224)
        As `ciou.truth` gives.
    hits : dict of str to ndarray, shape (pictures,)
        1 where the map's highest place is right, by the same names; more is taken, too.
    negatives : tuple of str
        Names of maps whose sound isn't in the picture.
    """
    ious = {name: [ciou.iou(*each) for each in zip(heatmaps, truths, strict=True)] for name, heatmaps in found.items()}
    ious["centre"] = [ciou.iou(centre_map(), target) for target in truths]
    ious["best possible"] = [ciou.best_iou(target) for target in truths]
    rows, figures = {}, {}
    for name, values in ious.items():
        rows[name] = {"cIoU@0.5": f"{ciou.success(values):.1f}", "AUC": f"{ciou.success_curve_area(values):.1f}"}
        figures |= {f"cIoU@0.5, {name}": ciou.success(values), f"AUC, {name}": ciou.success_curve_area(values)}
    for name, share_of in (("own sound", truths), ("centre", truths)):
        heatmaps = found.get(name) or [centre_map()] * len(truths)
        known = [ciou.iou(each, target, (target > 0).mean()) for each, target in zip(heatmaps, share_of, strict=True)]
        rows[name]["cIoU@0.5, area known"] = f"{ciou.success(known):.1f}"
        figures[f"cIoU@0.5 with the box's area known, {name}"] = ciou.success(known)
    right = {"IoU >= 0.5": np.array(ious["own sound"]) >= 0.5, "highest place": hits["own sound"] == 1}
    detection = {}
    for negative in negatives:
        confidence = [heatmap.max() for heatmap in found["own sound"] + found[negative]]
        positive = np.repeat([True, False], len(truths))
        for name, correct in right.items():
            ap, f1 = ciou.average_precision(confidence, np.concatenate([correct, correct]), positive)
            detection[f"against {negative}, right if {name}"] = {"AP": f"{ap:.1f}", "max F1": f"{f1:.1f}"}
            figures |= {f"AP against {negative}, {name}": ap, f"max F1 against {negative}, {name}": f1}
    return Report(
        [table("the higher half of the pixels", rows), table("confidence: the map's maximum", detection)], figures
    )
