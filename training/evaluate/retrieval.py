"""Retrieval of each pair's own partner among 100 candidates, on held-out shards."""

from __future__ import annotations

from pathlib import Path

import click

from openavc.inference.arguments import get_model

from .datasets.held_out import load_pairs
from .metrics import correspondence
from .reporting import published
from .reporting.comparison import compare_with_untrained
from .reporting.options import shared_options
from .reporting.report import print_published


@click.command()
@shared_options
@click.option("--per-clip", type=click.IntRange(min=1), default=10, show_default=True, help="Pairs a clip.")
def retrieval(model: str, data: Path, seed: int, json_path: Path | None, per_clip: int) -> None:
    """100-way retrieval on held-out shards, pictures to sounds and back."""
    network = get_model(model)
    chance = {f"{kind} R@{k}": float(k) for kind in ("image to audio", "audio to image", "mean") for k in (1, 5, 10)}
    pairs = load_pairs(network, data, per_clip, seed)
    compare_with_untrained("retrieval", correspondence.retrieval, chance, network, pairs, json_path, seed)
    print_published(
        published.RETRIEVAL,
        "Those are on other data, and by another measure (nDCG@30 of labels) or among more candidates than our 100.",
    )
