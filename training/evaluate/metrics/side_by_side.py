"""Localisation among clips side by side, by networks that fuse clips with their sound (Multisensory, section 4).

Each clip of a row moves and could be what is heard; only one of them belongs to the sound.
"""

from __future__ import annotations

import numpy as np

from openavc.models.contract import LocalizesInTime

from ..datasets.boxes import inside
from ..datasets.side_by_side import Row, Rows
from ..networks.untrained import settle_clips
from .field import Maps, Report
from .hits import box_hits
from .solo_duo import CHANCE, OWN, hit_rows
from .solo_in_time import EXAMPLES, clip_maps

OTHER = "the sound of another in the row"


def measure(model: LocalizesInTime, fresh: list[LocalizesInTime], rows: Rows, seed: int) -> Report:
    """Measure how often a model's strongest place is in the clip that is heard, beside untrained networks and controls.

    Parameters
    ----------
    model : LocalizesInTime
    fresh : list of LocalizesInTime
        Untrained; their BatchNorm statistics are set.
    rows : Rows
    seed : int
    """
    made = list(rows)
    for network in fresh:
        settle_clips(network, (([row.frames], [row.own]) for row in made[:EXAMPLES]))
    boxes, groups = [row.box for row in made], np.array([row.source for row in made])
    hits = {name: box_hits(maps, boxes) for name, maps in _maps(model, made).items()}
    blank = [box_hits(_maps(network, made)[OWN], boxes) for network in fresh]
    hits[f"untrained, {OWN}"] = np.mean(blank, axis=0)
    hits["centre"] = np.array([inside((0.5, 0.5), box) for box in boxes], float)
    hits[CHANCE] = np.full(len(boxes), 1 / rows.beside)
    cells, figures = hit_rows(hits, groups, seed, "side by side")
    return Report({f"{rows.beside} side by side, {len(made)} pictures of {len(set(groups))} videos": cells}, figures)


def _maps(model: LocalizesInTime, rows: list[Row]) -> Maps:
    """Map each row for several sounds: name -> (h, w) of each."""
    return clip_maps(model, ((row.frames, row.own, row.other) for row in rows), OTHER)
