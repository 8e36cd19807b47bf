"""Train by the five schemes of AVTS's first table, and compare them: easy and hard negatives, at once or in turn.

Schemes are made from the last two stages of a recipe, the first with easy negatives and the second with easy and hard
ones. All take as many steps. Stages before these two, which the paper hasn't, are common to all: the schemes of a seed
begin with the weights that they leave. As in the paper the schemes are judged on easy negatives alone.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from openavc.named import Named
from openavc.weights import load_model

from .evaluate.datasets.held_out import load_pairs
from .evaluate.metrics.correspondence import avc, represent
from .evaluate.reporting.options import FILE, FOLDER, json_option
from .evaluate.reporting.published import AVTS_SCHEMES
from .evaluate.reporting.report import print_published, write_report
from .evaluate.reporting.tables import spread, table
from .negatives import Mixture, SameClip, to_tables
from .recipe import PRECISIONS, Recipe, read_recipe, to_recipe
from .train import train

FIGURES = {"threshold": "accuracy", "2AFC other clip": "2AFC other clip", "2AFC same clip": "2AFC same clip"}


def schemes(recipe: Recipe) -> dict[str, Recipe]:
    """Make the recipes of the five schemes.

    Raises
    ------
    ValueError
        Unless the recipe has two stages or more, and the last adds negatives of the same clip to those before it.
    """
    mixed = recipe.stages[-1].negatives
    if len(recipe.stages) < 2 or not isinstance(mixed, Mixture):
        raise ValueError(
            f"schemes are made from two stages or more, the last with a mixture of negatives; got {len(recipe.stages)}"
        )
    hard = [kind for kind in mixed.kinds if isinstance(kind, SameClip)]
    if not hard:
        raise ValueError(f"the last stage needs negatives of the same clip, it has {to_tables(mixed)}")
    first, last = (stage.steps for stage in recipe.stages[-2:])
    easy = recipe.stages[-2].negatives

    def made(*stages: tuple[int, object]) -> Recipe:
        return _with_stages(recipe, [{"steps": steps, "negatives": to_tables(kind)} for steps, kind in stages])

    return {
        "single stage, easy": made((first + last, easy)),
        "single stage, easy and hard": made((first + last, mixed)),
        "curriculum, easy": made((first, easy), (last, easy)),
        "curriculum, easy and hard": made((first, easy), (last, mixed)),
        "curriculum, hard": made((first, easy), (last, hard[0])),
    }


def before_schemes(recipe: Recipe) -> Recipe | None:
    """Make the recipe of what is common to all schemes: the stages before the last two, if there are any."""
    common = recipe.to_json()["stages"][:-2]
    return _with_stages(recipe, common) if common else None


def _with_stages(recipe: Recipe, stages: list[dict]) -> Recipe:
    kept = {key: value for key, value in recipe.to_json().items() if key not in ("steps", "negatives")}
    return to_recipe(kept | {"stages": stages})


@click.command(help=__doc__.split("\n")[0])
@click.argument("config", type=FILE)
@click.option("--data", type=FOLDER, required=True, multiple=True, help="Shards to train on; may be given again.")
@click.option("--held", type=FOLDER, required=True, help="Held-out shards; each half's threshold is that of the other.")
@click.option("--output", type=Named(file_okay=False, path_type=Path), required=True, help="Folder of runs.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each scheme.")
@click.option("--per-clip", type=click.IntRange(min=2), default=10, show_default=True, help="Pairs of a held-out clip.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU; default: all cores.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="Instead of the configuration's.")
@json_option
def main(
    config: Path,
    data: tuple[Path, ...],
    held: Path,
    output: Path,
    seeds: int,
    per_clip: int,
    threads: int | None,
    precision: str | None,
    json_path: Path | None,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    measured: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        try:
            whole = read_recipe(config, seed=seed, precision=precision)
            recipes, common = schemes(whole), before_schemes(whole)
        except ValueError as error:
            raise click.UsageError(f"{config}: {error}") from None
        begun = None
        if common:
            train(common, list(data), output / f"common-{seed}", about={"scheme": "common to all"})
            begun = output / f"common-{seed}" / "weights.safetensors"
        for name, recipe in recipes.items():
            run = output / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"
            train(recipe, list(data), run, start_from=begun, about={"scheme": name})
            network = load_model(run / "weights.safetensors")
            figures = avc(network, represent(network, load_pairs(network, held, per_clip, 0)), 0)
            for key, shown in FIGURES.items():
                measured.setdefault(name, {}).setdefault(shown, []).append(figures[key])
            click.echo(f"{name}, seed {seed}: {figures['threshold']:.1f} %")
    rows = {name: {key: spread(values) for key, values in row.items()} for name, row in measured.items()}
    click.echo("\n" + table(f"{seeds} seeds, %", rows | {"chance": dict.fromkeys(FIGURES.values(), "50.0")}))
    means = {f"{name} {key}": sum(values) / seeds for name, row in measured.items() for key, values in row.items()}
    write_report("schemes", means, json_path, module="training.schemes")
    print_published(AVTS_SCHEMES, "Those are on Kinetics, over 90 epochs, judged on easy negatives; chance is 50.")


if __name__ == "__main__":
    main()
