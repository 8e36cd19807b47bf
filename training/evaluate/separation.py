"""Separation of sound on screen from sound off screen, on mixtures of held-out clips (Multisensory, section 3.4)."""

from __future__ import annotations

from pathlib import Path

import click

from openavc.inference.separation import separating_model
from openavc.models.contract import Separates

from .reporting.options import FOLDER, json_option, seed_option
from .reporting.report import write_report
from .reporting.tables import table


@click.command()
@click.option("--model", "models", multiple=True, required=True, help="Name or file; may be given several times.")
@click.option("--data", type=FOLDER, required=True, help="Shards of the clips on screen.")
@click.option("--voices", type=FOLDER, help="Shards of the sounds off screen.  [default: those of --data]")
@click.option("--mixtures", "number", type=click.IntRange(min=1), default=200, show_default=True)
@seed_option
@json_option
def separation(
    models: tuple[str, ...], data: Path, voices: Path | None, number: int, seed: int, json_path: Path | None
) -> None:
    """SDR, SIR and SAR of separated mixtures, in dB, beside the mixture's own; --model may be given several times."""
    from ..corpora.shards import Shards
    from .datasets.mixtures import Mixtures
    from .metrics.separation import KINDS, PARTS, measure

    networks = named_networks(models)
    first = next(iter(networks.values()))
    shards = Shards(data)
    mixtures = Mixtures(first, shards, Shards(voices) if voices else shards, number, first.source_level, seed)
    measured = measure(networks, mixtures)
    own, rows, figures = measured["mixture"], {}, {}
    for name, found in measured.items():
        values = {f"{kind} {part}": found.mean(kind, part) for part in PARTS for kind in KINDS}
        cells = {key: f"{value:.2f}" for key, value in values.items()}
        if name != "mixture":
            for part in PARTS:
                mean, low, high = found.gain(own, part, seed)
                cells[f"gain {part}"] = f"{mean:.2f} [{low:.2f}, {high:.2f}]"
                values |= {f"gain {part}": mean, f"gain {part}, low": low, f"gain {part}, high": high}
        else:  # nothing was separated, so artefacts and interference say nothing
            cells = {key: cell for key, cell in cells.items() if key.startswith("SDR")}
        rows[name + (" (best order)" if name in networks and networks[name].blind else "")] = cells
        figures |= {f"{name} {key}": value for key, value in values.items()}
    videos = len(set(own.sources.tolist()))
    title = f"{number} mixtures, {videos} videos on screen, dB"
    click.echo(table(title, rows))
    click.echo("gain: SDR above the mixture's own; intervals: 95 %, by drawing whole videos anew")
    of = f"{data.name}, {voices.name}" if voices else data.name
    tables = {f"separation ({of}), {title}": rows}
    write_report(f"separation ({of})", figures, json_path, tables=tables, mixtures=number, videos=videos)


def named_networks(models: tuple[str, ...]) -> dict[str, Separates]:
    """Load networks that are to be compared on the same mixtures; weights of one name are told apart by their path.

    Raises
    ------
    ValueError
        If one can't separate, or they take different inputs.
    """
    loaded = [(given, separating_model(given)) for given in models]
    names = [network.name for _, network in loaded]
    networks = {network.name if names.count(network.name) == 1 else given: network for given, network in loaded}
    first = loaded[0][1]
    for given, network in loaded:
        if (network.frames, network.sound, network.source_level) != (first.frames, first.sound, first.source_level):
            raise ValueError(f"{given} takes other frames or other sound than {models[0]}: measure it by itself")
    return networks
