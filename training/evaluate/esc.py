"""Environmental sound classification with frozen embeddings: ESC-10, ESC-50 and folders like them.

Features are z-scored with the training clips' statistics. `probe` takes 1 s windows every 0.5 s and measures a
one-against-all linear SVM on windows, with scores averaged over the clip; 5 nearest neighbours by the cosine of clip
means; and the SVM trained on one fold and tested on the others ("few-shot": 8 clips a class on ESC-10). `paper_probe`
is the L3 paper's (section 4.1): 10 evenly spaced windows a clip, and the SVM's C chosen on the training folds.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from openavc.inference.arguments import get_model

from .datasets.esc import read_esc
from .datasets.recordings import Recordings
from .metrics.probes import choose_c, neighbour_accuracy, svm_accuracy
from .reporting import published
from .reporting.options import shared_options, untrained_seeds_option
from .reporting.report import print_published
from .reporting.sound_probe import measure_probe

WINDOWS = 10  # per clip, in the paper


@click.command()
@shared_options
@click.option(
    "--protocol",
    type=click.Choice(["hop", "paper"]),
    default="hop",
    show_default=True,
    help="Windows every 0.5 s and C = 0.01, or the L3 paper's 10 windows a clip and a C chosen on the training folds.",
)
@untrained_seeds_option
def esc(model: str, data: Path, seed: int, json_path: Path | None, protocol: str, untrained_seeds: int) -> None:
    """Sound classification with frozen features: linear SVM, 5 nearest neighbours, few-shot."""
    network, recordings = get_model(model), read_esc(data)
    clips, classes = len(recordings.paths), len(recordings.classes)
    measure, windows = (paper_probe, WINDOWS) if protocol == "paper" else (probe, None)
    name = f"ESC ({data.name})" if protocol == "hop" else f"ESC ({data.name}, paper's protocol)"
    title = f"{data.name}, {clips} clips, {classes} classes"
    seeds = range(seed, seed + untrained_seeds)
    measure_probe(title, name, measure, windows, network, recordings, seeds, json_path)
    is_esc50 = (clips, classes) == (2000, 50) and protocol == "paper"
    note = "Those are on ESC-50's 2,000 clips of 50 classes; "
    note += "so are ours." if is_esc50 else "ours are on other clips or by another protocol and can't be compared."
    print_published(published.ESC50, note)


def probe(features: list[np.ndarray], recordings: Recordings) -> dict[str, list[float]]:
    """Measure the accuracy of the three classifiers in percent, for each fold."""
    figures: dict[str, list[float]] = {"SVM": [], "5-NN": [], "few-shot": []}
    for fold in sorted(set(recordings.folds)):
        inside = recordings.folds == fold
        figures["SVM"].append(100 * svm_accuracy(features, recordings.labels, ~inside, inside))
        figures["5-NN"].append(100 * neighbour_accuracy(features, recordings.labels, ~inside, inside))
        figures["few-shot"].append(100 * svm_accuracy(features, recordings.labels, inside, ~inside))
    return figures


def paper_probe(features: list[np.ndarray], recordings: Recordings) -> dict[str, list[float]]:
    """Measure the accuracy of the L3 paper's SVM in percent, for each fold, with C chosen only on the others."""
    accuracy = []
    for fold in sorted(set(recordings.folds)):
        inside = recordings.folds == fold
        c = choose_c(features, recordings.labels, recordings.folds, ~inside)
        accuracy.append(100 * svm_accuracy(features, recordings.labels, ~inside, inside, c))
    return {"SVM, C chosen": accuracy}
