"""Audio-visual correspondence on held-out shards (L3 paper, section 4.1)."""

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
@click.option("--per-clip", type=click.IntRange(min=2), default=10, show_default=True, help="Pairs a clip.")
def avc(model: str, data: Path, seed: int, json_path: Path | None, per_clip: int) -> None:
    """Audio-visual correspondence on held-out shards: accuracy, 2AFC, AUC, mean scores."""
    network = get_model(model)
    chance = dict.fromkeys(("own decision", "threshold", "2AFC other clip", "2AFC same clip", "AUC"), 50.0)
    pairs = load_pairs(network, data, per_clip, seed)
    compare_with_untrained("AVC", correspondence.avc, chance, network, pairs, json_path, seed)
    print_published(
        published.AVC,
        "Those are on other data (natural videos), by networks and training sets many times larger; chance is 50. "
        "People, asked informally in the L3 paper, were a few points above its network.",
    )
