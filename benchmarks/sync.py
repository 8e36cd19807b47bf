"""Seconds of work that a minute of video costs, for each model that tells whether sound is in step.

    python benchmarks/sync.py [VIDEO] [--model NAME]... [--max-offset 1]

The models take turns on one video, by default the game's example; their weights are loaded before.
"""

import sys
from functools import partial
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `benchmarks.speed`

import openavc
from benchmarks.speed import in_turn

EXAMPLE = Path(__file__).parents[1] / "examples/freedoom.mp4"
MODELS = ("multisensory-small", "avts-small")


@click.command()
@click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=EXAMPLE)
@click.option("--model", "models", multiple=True, default=MODELS, show_default=True)
@click.option("--max-offset", type=float, default=1.0, show_default=True, help="Searched, seconds, both ways.")
def main(video: Path, models: tuple[str, ...], max_offset: float) -> None:
    """Print the seconds of each model, and how many times those of the last."""
    networks = [openavc.load_model(name) for name in models]
    measured = [partial(openavc.sync_offset, video, network, max_offset=max_offset) for network in networks]
    minutes = openavc.sync_offset(video, networks[0], max_offset=max_offset).segments[-1].end / 60
    times = in_turn(*measured, repeats=3)
    for name, seconds in zip(models, times, strict=True):
        print(f"{name}: {seconds / minutes:.1f} s a minute of video, {seconds / times[-1]:.2f} times {models[-1]}")


if __name__ == "__main__":
    main()
