"""Evaluate a model beside chance and the same network untrained.

python -m training.evaluate avc --model ave-small --data shards/held
python -m training.evaluate retrieval --model ave-small --data shards/held
python -m training.evaluate ndcg --model ave-small --model runs/l3_small/weights.safetensors --data shards/solo-held \\
    --cca-on shards/solo
python -m training.evaluate esc --model runs/ave_small/weights.safetensors --data esc10 --json esc.json
python -m training.evaluate esc --model ave-small --data esc10 --protocol paper
python -m training.evaluate dcase --model ave-small --data dcase2014
python -m training.evaluate images --model ave-small --data imagenet
python -m training.evaluate units --model ave-small --data shards/held --output units
python -m training.evaluate table1 --model runs/l3_small/weights.safetensors --data shards/solo-held \\
    --supervised runs/l3_small_supervised --pretrained runs/l3_small_pretrained/weights.safetensors
python -m training.evaluate localization --model avol-small --solo shards/solo-held --duo shards/duo-held
python -m training.evaluate localization --model avol-small --boxes vggss.json --videos vggsound
python -m training.evaluate localization --model runs/multisensory_small/weights.safetensors \\
    --solo shards/solo-sync-held
python -m training.evaluate sync --model runs/multisensory_small/weights.safetensors --data shards/sync-held
python -m training.evaluate beside --model runs/avts_small/weights.safetensors --model ave-natural \\
    --data shards/fire-held
python -m training.evaluate actions --model runs/actions/weights.safetensors --data shards/actions-held \\
    --confusion confusion.png
python -m training.evaluate separation --model runs/separation_small/weights.safetensors \\
    --model runs/separation_small_sound/weights.safetensors --data shards/held --mixtures 200
python -m training.evaluate by-class --model runs/ave_natural/weights.safetensors --data shards/natural/held \\
    --apart shards/natural/held-sources
python -m training.evaluate shortcuts --data shards/natural/train --held shards/natural/held
"""

from __future__ import annotations

import sys

import click

from openavc.lines import one_line, tell_warnings
from openavc.threads import VARIABLE, use_threads

from .actions import actions
from .avc import avc
from .beside import beside
from .by_class import by_class
from .dcase import dcase
from .esc import esc
from .images import images
from .localization import localization
from .ndcg import ndcg
from .retrieval import retrieval
from .separation import separation
from .shortcuts import shortcuts
from .sync import sync
from .table1 import table1
from .units import units


@click.group()
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help=f"Of the CPU; default: {VARIABLE}, or half of the cores, at most 8.",
)
def main(threads: int | None) -> None:
    """Evaluate a model beside chance and the same network untrained."""
    use_threads(threads)
    tell_warnings()


for command in (
    avc,
    retrieval,
    ndcg,
    table1,
    esc,
    dcase,
    images,
    units,
    localization,
    sync,
    beside,
    actions,
    separation,
    by_class,
    shortcuts,
):
    main.add_command(command)


def run() -> None:
    """Run the command, and report errors in its input in one line."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {one_line(error)}")


if __name__ == "__main__":
    run()
