"""Is the sound in step with the pictures, and if not, by how much (Multisensory, section 3)?"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from openavc.inference.sync import synchronizing_model

from .networks.untrained import untrained
from .reporting.options import FOLDER, json_option, model_option, seed_option
from .reporting.report import write_report
from .reporting.tables import table


@click.command()
@model_option
@click.option("--data", type=FOLDER, required=True, multiple=True, help="Held-out shards; may be given several times.")
@click.option("--shift", type=click.FloatRange(min=0.0), default=0.5, show_default=True, help="Largest known, seconds.")
@click.option("--max-offset", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Searched, seconds.")
@click.option("--gap", type=click.FloatRange(min=0.0), default=0.5, show_default=True, help="Of the two-way test.")
@click.option("--calibrate", is_flag=True, help="Choose the weight of evidence, on half of the videos.")
@seed_option
@json_option
def sync(
    model: str,
    data: tuple[Path, ...],
    shift: float,
    max_offset: float,
    gap: float,
    calibrate: bool,
    seed: int,
    json_path: Path | None,
) -> None:
    """Two-way test of sync, known shifts recovered, and whether confidences are right; beside two simple guesses."""
    from ..corpora.shards import Shards
    from .metrics.sync import ask, correlated, errors_of, interleaved, known_shifts, recovered, two_way
    from .metrics.sync import calibrate as choose

    network = synchronizing_model(model)
    fresh = untrained(network, seed)
    figures = {}
    for folder in data:
        shards = Shards(folder)
        tests = {name: two_way(each, shards, gap, seed) for name, each in (("trained", network), ("untrained", fresh))}
        rows = {name: {"decided, %": str(own), "2AFC, %": str(pair)} for name, (own, pair) in tests.items()}
        click.echo(table(f"{folder}: two-way, {gap:g} s or more", rows) + "\n")
        shifted = list(known_shifts(shards, shift, seed))
        answers, weight = ask(network, shifted, max_offset), network.evidence
        if calibrate:
            chosen_on, answers = interleaved(answers)
            weight = choose(chosen_on)
            click.echo(f"weight of evidence {weight:.3g}, chosen on half of the videos; figures are of the other half")
        own = [clip for clip in shifted if clip.sound is clip.clip]
        late, groups = np.array([clip.shift for clip in own]), np.arange(len(own))
        guessed = np.array([correlated(clip, network, answers.offsets) for clip in own])
        results = {
            network.name: recovered(answers, weight, seed),
            "zero": errors_of(np.abs(late), groups, seed),
            "loudness and motion": errors_of(np.abs(guessed - late), groups, seed),
        }
        click.echo(table(f"{folder}: shifts of up to {shift:g} s", results) + "\n")
        figures |= {f"{folder.name} {name}": test.mean for name, (test, _) in tests.items()}
        figures |= {f"{folder.name} 2AFC {name}": pair.mean for name, (_, pair) in tests.items()}
    click.echo("intervals: 95 %, by drawing whole videos anew; chance of both two-way figures is 50")
    write_report("sync", figures, json_path)
