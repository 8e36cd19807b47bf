"""Does a network prefer the sound of a moment to that of half a second away (AVTS, section 3)?"""

from __future__ import annotations

from pathlib import Path

import click

from openavc.inference.arguments import get_model

from .metrics.correspondence import prefers_own
from .networks.untrained import untrained
from .reporting.options import FOLDER, json_option, seed_option
from .reporting.report import write_report
from .reporting.tables import table


@click.command()
@click.option("--model", "models", multiple=True, required=True, help="Name or file; may be given several times.")
@click.option("--data", type=FOLDER, required=True, multiple=True, help="Held-out shards; may be given several times.")
@click.option("--seconds", type=click.FloatRange(min=0.0, min_open=True), default=0.5, show_default=True)
@click.option("--per-clip", type=click.IntRange(min=1), default=10, show_default=True, help="Pairs a clip.")
@seed_option
@json_option
def beside(
    models: tuple[str, ...], data: tuple[Path, ...], seconds: float, per_clip: int, seed: int, json_path: Path | None
) -> None:
    """Sound in step against that of the same clip half a second off: how often a network prefers the former."""
    from ..corpora.shards import Shards
    from .datasets.held_out import Beside

    networks = {name: get_model(name) for name in models}
    first = next(iter(networks))
    networks[f"{first}, untrained"] = untrained(networks[first], seed)
    columns = {folder.name: Shards(folder) for folder in data}
    found = {
        name: {
            key: prefers_own(network, Beside(shards, network, per_clip, seed, seconds), seed)
            for key, shards in columns.items()
        }
        for name, network in networks.items()
    }
    rows = {name: {key: str(value) for key, value in row.items()} for name, row in found.items()}
    title = f"sound in step against {seconds:g} s off, %"
    click.echo(table(title, rows | {"chance": dict.fromkeys(columns, "50.0")}))
    click.echo("intervals: 95 %, by drawing whole levels or videos anew")
    figures = {f"{name} on {key}": value.mean for name, row in found.items() for key, value in row.items()}
    write_report("beside", figures, json_path, tables={title: rows}, seconds=seconds)
