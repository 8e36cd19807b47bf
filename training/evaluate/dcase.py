"""Acoustic scenes with frozen embeddings (DCASE2014).

The L3 paper's probe (section 4.1): 60 evenly spaced 1 s windows a clip, features z-scored by the training clips, and a
one-against-all linear SVM, with C chosen across five parts of the training clips and scores averaged over a clip's
windows.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from openavc.inference.arguments import get_model

from .datasets.dcase import read_dcase
from .datasets.recordings import Recordings
from .metrics.probes import choose_c, svm_accuracy
from .reporting import published
from .reporting.options import shared_options, untrained_seeds_option
from .reporting.report import print_published
from .reporting.sound_probe import measure_probe

WINDOWS = 60  # per clip, in the paper


@click.command()
@shared_options
@untrained_seeds_option
def dcase(model: str, data: Path, seed: int, json_path: Path | None, untrained_seeds: int) -> None:
    """Acoustic scenes with frozen features, DCASE2014's layout: the L3 paper's linear SVM."""
    network, recordings = get_model(model), read_dcase(data)
    clips, classes = len(recordings.paths), len(recordings.classes)
    tested = int((recordings.folds == 0).sum())
    title = f"{data.name}, {clips - tested} clips to train, {tested} to test, {classes} scenes"
    seeds = range(seed, seed + untrained_seeds)
    measure_probe(title, f"DCASE ({data.name})", probe, WINDOWS, network, recordings, seeds, json_path)
    is_dcase2014 = (clips, tested, classes) == (200, 100, 10)
    note = "Those are on DCASE2014's 100 test clips of 10 scenes; "
    note += (
        "ours are, too, if these are its clips." if is_dcase2014 else "ours are on other clips and can't be compared."
    )
    print_published(published.DCASE2014, note)


def probe(features: list[np.ndarray], recordings: Recordings) -> dict[str, list[float]]:
    """Measure the accuracy on the test clips in percent, for the only split."""
    train = recordings.folds != 0
    c = choose_c(features, recordings.labels, recordings.folds, train)
    return {"SVM, C chosen": [100 * svm_accuracy(features, recordings.labels, train, ~train, c)]}
