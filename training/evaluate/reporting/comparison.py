"""Figures of held-out pairs beside chance and the same network untrained, as `avc` and `retrieval` print them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from openavc.models.contract import AudioVisualModel

from ..datasets.held_out import HeldOut
from ..metrics.correspondence import Represented, represent
from ..networks.untrained import untrained
from .report import write_report
from .tables import table

Measure = Callable[[AudioVisualModel, Represented, int], dict[str, float]]


def compare_with_untrained(
    title: str,
    measure: Measure,
    chance: dict[str, float],
    model: AudioVisualModel,
    pairs: HeldOut,
    json_path: Path | None,
    seed: int,
) -> None:
    """Measure a network and its untrained copy; print both beside chance, and write them as JSON."""
    represented = represent(model, pairs)
    trained = measure(model, represented, seed)
    fresh = untrained(model, 0)
    blank = measure(fresh, represent(fresh, pairs), seed)
    kinds = {model.name: trained, "untrained": blank, "chance": chance}
    rows = {
        key: {kind: f"{figures[key]:.2f}" if key in figures else "" for kind, figures in kinds.items()}
        for key in trained
    }
    click.echo(table(f"{title}, {len(represented)} pairs", rows))
    write_report(title, trained, json_path, untrained=blank, chance=chance, pairs=len(represented))
