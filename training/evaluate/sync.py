"""Is the sound in step with the pictures, and if not, by how much (Multisensory, section 3)?"""

from __future__ import annotations

from pathlib import Path

import click

from openavc.inference.sync import synchronizing_model
from openavc.named import Named

from ..checkpoint import save_weights
from .metrics.bootstrap import Share
from .networks.untrained import untrained
from .reporting.options import FOLDER, json_option, model_option, seed_option
from .reporting.report import write_report
from .reporting.tables import all_tables


@click.command()
@model_option
@click.option("--data", type=FOLDER, required=True, multiple=True, help="Held-out shards; may be given several times.")
@click.option("--shift", type=click.FloatRange(min=0.0), default=0.5, show_default=True, help="Largest known, seconds.")
@click.option("--max-offset", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Searched, seconds.")
@click.option("--gap", type=click.FloatRange(min=0.0), default=0.5, show_default=True, help="Of the two-way test.")
@click.option(
    "--calibrate",
    "calibrated",
    type=Named(path_type=Path, dir_okay=False),
    help="Choose the weight of evidence on half of the videos, and write the weights with it here.",
)
@seed_option
@json_option
def sync(
    model: str,
    data: tuple[Path, ...],
    shift: float,
    max_offset: float,
    gap: float,
    calibrated: Path | None,
    seed: int,
    json_path: Path | None,
) -> None:
    """Two-way test of sync, known shifts recovered, and whether confidences are right; beside two simple guesses."""
    from ..corpora.shards import Shards
    from .metrics.sync import ask, calibrate, halves, known_shifts, recovered, simple_guesses, two_way

    network, shards = synchronizing_model(model), Shards(*data)
    names = " and ".join(folder.name for folder in data)
    fresh = untrained(network, seed)
    tests = {name: two_way(each, shards, gap, seed) for name, each in (("trained", network), ("untrained", fresh))}
    decided = {name: {"decided": str(own), "2AFC": str(pair)} for name, (own, pair) in tests.items()}
    tables = {f"two-way, {gap:g} s or more, %": decided}
    answers, weight = ask(network, known_shifts(shards, network, shift, seed), max_offset), network.evidence
    if calibrated:
        chosen_on, answers = halves(answers)
        if not (chosen_on and answers):
            raise ValueError(f"--calibrate needs videos of at least two places, {names} has one")
        weight = calibrate(chosen_on)
        save_weights(calibrated, network, network.architecture | {"evidence": weight})
        click.echo(f"weight of evidence {weight:.3g}, chosen on one half of the videos; below is the other half")
    found = {network.name: recovered(answers, weight, seed)} | simple_guesses(answers, network, seed)
    title = f"shifts of up to {shift:g} s, {sum(not answer.foreign for answer in answers)} clips, %"
    tables[title] = {name: {key: _cell(value) for key, value in row.items()} for name, row in found.items()}
    click.echo(all_tables(tables))
    click.echo("intervals: 95 %, by drawing whole levels or videos anew; chance of both two-way figures is 50")
    figures = {f"{name} decided": own.mean for name, (own, _) in tests.items()}
    figures |= {f"{name} 2AFC": pair.mean for name, (_, pair) in tests.items()}
    figures |= {f"{name} {key}": _number(value) for name, row in found.items() for key, value in row.items()}
    write_report(f"sync ({names})", figures, json_path, tables=tables, evidence=weight)


def _cell(value: Share | float) -> str:
    return str(value) if isinstance(value, Share) else f"{value:.3f}"


def _number(value: Share | float) -> float:
    return value.mean if isinstance(value, Share) else value
