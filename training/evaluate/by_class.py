"""Photographs and recordings of one class, on shards that training.prepare --by-class held out.

The score of a photograph with a recording is the mean similarity over windows that are spread over the recording.
Classes weigh the same, and each counts only where it has both photographs and recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

from openavc.inference.arguments import get_model
from openavc.inference.batches import inference_of, represent_clips, represent_windows
from openavc.models.contract import HasSimilarity

from .datasets.class_items import Items, find_items, read_photographs, read_windows
from .metrics.bootstrap import Share
from .metrics.by_class import Found, balanced_share, find_classes
from .networks.capabilities import check_similarity
from .networks.untrained import untrained
from .reporting.options import FOLDER, shared_options
from .reporting.report import write_report
from .reporting.tables import all_tables

DIRECTIONS = ("photograph to sound", "sound to photograph")
FIGURES = {
    "2AFC": "two_alternatives",
    "R@1, mean of a class": "first",
    "R@5, mean of a class": "among_five",
    "R@1, one of each class": "single",
}


@dataclass(frozen=True)
class Side:
    """Queries of one modality: their classes as numbers, their origins, and what they find."""

    classes: np.ndarray
    origins: np.ndarray
    found: Found


@click.command("by-class")
@shared_options
@click.option("--apart", type=FOLDER, help="Shards of repositories that weren't trained on: held-sources.")
@click.option("--windows", type=click.IntRange(min=1), default=5, show_default=True, help="Of a recording, at most.")
def by_class(model: str, data: Path, seed: int, json_path: Path | None, apart: Path | None, windows: int) -> None:
    """Photographs and recordings of a class: 2AFC by class, the right class first among all, each class and group."""
    network = check_similarity(get_model(model))
    sets = choose_sets(data, apart)
    tables: dict[str, dict] = {}
    figures: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    by_name: dict[str, dict] = {}
    for name, (photographs, recordings) in sets.items():
        classes = sorted(set(photographs.labels) & set(recordings.labels))
        sides = measure(network, photographs, recordings, classes, windows, seed)
        blank = measure(untrained(network, seed), photographs, recordings, classes, windows, seed)
        shares, fresh = summarise(sides, seed), summarise(blank, seed)
        title = f"{name}: {len(photographs.clips)} photographs, {len(recordings.clips)} recordings, %"
        tables[title] = _rows(network.name, shares, fresh, len(classes))
        figures |= {f"{name}, {key}": of.mean for key, of in shares.items()}
        intervals |= {f"{name}, {key}": [of.low, of.high] for key, of in shares.items()}
        categories = photographs.categories | recordings.categories
        by_name[name] = each_class(sides, classes)
        tables[f"{name}: each group, %"] = _shown(each_group(by_name[name], categories))
        tables[f"{name}: each class, %"] = _shown(by_name[name])
    click.echo(all_tables(tables))
    click.echo(
        "Classes weigh the same. 2AFC: a candidate of the own class against one of another; R@1: the own class first "
        "of all, by the mean score of its candidates, or with one candidate of each class drawn. Intervals: 95 %, by "
        "drawing the queries' origins anew. Pairs are by label; nothing here is video."
    )
    write_report(f"by class ({data.name})", figures, json_path, intervals=intervals, classes=by_name, tables=tables)


def choose_sets(data: Path, apart: Path | None) -> dict[str, tuple[Items, Items]]:
    """Combine held-out files of known sources with those of sources apart, where two classes have both kinds.

    Raises
    ------
    ValueError
        If not even two classes of `data` have both.
    """
    known = find_items(data)
    sets = {"held files": known}
    if apart:
        others = find_items(apart)
        sets |= {
            "sounds of held sources": (known[0], others[1]),
            "photographs of held sources": (others[0], known[1]),
            "both of held sources": others,
        }
    found = {}
    for name, (photographs, recordings) in sets.items():
        both = set(photographs.labels) & set(recordings.labels)
        if len(both) >= 2:
            found[name] = photographs.of(sorted(both)), recordings.of(sorted(both))
    if "held files" not in found:
        raise ValueError(f"{data} needs photographs and recordings of the same two classes at least")
    return found


def measure(
    network: HasSimilarity, photographs: Items, recordings: Items, classes: Sequence[str], windows: int, seed: int
) -> dict[str, Side]:
    """Measure what photographs find among recordings, and the reverse."""
    scores = score_all(network, photographs, recordings, windows)
    numbers = [np.array([classes.index(label) for label in items.labels]) for items in (photographs, recordings)]
    found = (find_classes(scores, *numbers, seed), find_classes(scores.T, *numbers[::-1], seed))
    return {
        direction: Side(number, items.origins, of)
        for direction, number, items, of in zip(DIRECTIONS, numbers, (photographs, recordings), found, strict=True)
    }


def score_all(network: HasSimilarity, photographs: Items, recordings: Items, windows: int) -> np.ndarray:
    """Score all photographs with all recordings: (photographs, recordings)."""
    seen = torch.stack([row for _, row in represent_clips(network, read_photographs(photographs, network))])
    heard = list(represent_windows(network, read_windows(recordings, network.sound, windows)))
    number = np.array([key for key, _ in heard])
    with inference_of(network):
        sounds = torch.stack([row for _, row in heard])
        scores = torch.cat([network.similarity(part, sounds).float().cpu() for part in seen.split(256)]).numpy()
    counts = np.bincount(number)
    return np.add.reduceat(scores, np.searchsorted(number, np.arange(len(counts))), axis=1) / counts


def summarise(sides: dict[str, Side], seed: int) -> dict[str, Share]:
    """Average each figure over classes, in percent, with its interval."""
    return {
        f"{direction}: {figure}": balanced_share(getattr(side.found, name), side.classes, side.origins, seed)
        for direction, side in sides.items()
        for figure, name in FIGURES.items()
    }


def each_class(sides: dict[str, Side], classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the counts of each class, and its 2AFC and R@1 in both directions, in percent."""
    photographs, recordings = (sides[direction] for direction in DIRECTIONS)
    return {
        name: {
            "photographs": float((photographs.classes == k).sum()),
            "recordings": float((recordings.classes == k).sum()),
            "2AFC by photograph": 100 * float(photographs.found.two_alternatives[photographs.classes == k].mean()),
            "2AFC by sound": 100 * float(recordings.found.two_alternatives[recordings.classes == k].mean()),
            "R@1 by photograph": 100 * float(photographs.found.first[photographs.classes == k].mean()),
            "R@1 by sound": 100 * float(recordings.found.first[recordings.classes == k].mean()),
        }
        for k, name in enumerate(classes)
    }


def each_group(by_class: dict[str, dict[str, float]], categories: dict[str, str]) -> dict[str, dict[str, float]]:
    """Average the figures of the classes of each group, and add up their counts."""
    groups: dict[str, list[dict[str, float]]] = {}
    for name, row in by_class.items():
        groups.setdefault(categories.get(name, "no group"), []).append(row)
    return {
        group: {"classes": float(len(rows))}
        | {
            key: float((np.sum if key in ("photographs", "recordings") else np.mean)([row[key] for row in rows]))
            for key in rows[0]
        }
        for group, rows in sorted(groups.items())
    }


def _rows(name: str, shares: dict[str, Share], blank: dict[str, Share], classes: int) -> dict[str, dict[str, str]]:
    chance = {"2AFC": 50.0, "R@1": 100 / classes, "R@5": 100 * min(1, 5 / classes)}
    return {
        f"{key}, {classes} classes": {
            name: str(of),
            "untrained": str(blank[key]),
            "chance": f"{chance[key.split(': ')[1].split(',')[0]]:.1f}",
        }
        for key, of in shares.items()
    }


def _shown(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, str]]:
    counts = ("classes", "photographs", "recordings")
    return {
        name: {key: f"{value:.0f}" if key in counts else f"{value:.1f}" for key, value in row.items()}
        for name, row in rows.items()
    }
