"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from openavc.named import Named

UNTRAINED_SEEDS = 5  # by default

PATH = click.Path(exists=True, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

model_option = click.option("--model", required=True, help="Name or weights file.")
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Of whatever is drawn.")
json_option = click.option(
    "--json", "json_path", type=Named(path_type=Path, dir_okay=False), help="Write them here, too."
)
untrained_seeds_option = click.option(
    "--untrained-seeds", type=click.IntRange(min=1), default=UNTRAINED_SEEDS, show_default=True
)


def shared_options(function: Callable) -> Callable:
    """Add --model, --data (a folder), --seed and --json to a command."""
    data_option = click.option("--data", type=FOLDER, required=True)
    return model_option(data_option(seed_option(json_option(function))))
