"""A probe for shortcuts: how well technical traces alone tell the class of a photograph or a recording.

A forest of decision trees learns from the traces of the training shards' files, as they were before they were brought
to one form, and guesses the classes of held-out ones. What it reaches beyond chance, a network could reach without
seeing or hearing anything, as far as the traces outlive the common form and augmentation.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from .datasets.class_items import Items, find_items
from .metrics.by_class import balanced_share, two_alternatives
from .reporting.options import FOLDER, json_option, seed_option
from .reporting.report import write_report
from .reporting.tables import table

PHOTOGRAPHS = ("bytes", "width", "height")
RECORDINGS = ("bytes", "seconds", "padding", "sample_rate", "channels", "bandwidth")
TREES = 200


@click.command()
@click.option("--data", type=FOLDER, required=True, help="Shards that were trained on.")
@click.option("--held", type=FOLDER, required=True, help="Shards that were held out.")
@seed_option
@json_option
def shortcuts(data: Path, held: Path, seed: int, json_path: Path | None) -> None:
    """The class of photographs and recordings from technical traces alone: size, length, rate, bandwidth."""
    known, unknown = find_items(data), find_items(held)
    classes = sorted(set(known[0].labels) & set(known[1].labels) & set(unknown[0].labels) & set(unknown[1].labels))
    if len(classes) < 2:
        raise ValueError(
            f"{data} and {held} share {len(classes)} classes with photographs and recordings; 2 are needed"
        )
    chance, rows, guesses, held_items = 100 / len(classes), {}, [], []
    for kind, names, train, test in zip(
        ("photographs", "recordings"), (PHOTOGRAPHS, RECORDINGS), known, unknown, strict=True
    ):
        inside, outside = train.of(classes), test.of(classes)
        guessed = guess(inside, outside, names, classes, seed)
        truth = numbers(outside, classes)
        rows[kind] = balanced_share((guessed.argmax(axis=1) == truth).astype(float), truth, outside.origins, seed)
        guesses.append(guessed)
        held_items.append(outside)
    truths = [numbers(items, classes) for items in held_items]
    pairs = two_alternatives(guesses[0] @ guesses[1].T, *truths)
    both = balanced_share(pairs, truths[0], held_items[0].origins, seed)
    shown = {
        f"class of {kind}, {', '.join(names)}": {"traces alone": str(rows[kind]), "chance": f"{chance:.1f}"}
        for kind, names in (("photographs", PHOTOGRAPHS), ("recordings", RECORDINGS))
    }
    shown["2AFC by class, both"] = {"traces alone": str(both), "chance": "50.0"}
    title = f"shortcuts, {len(classes)} classes, %"
    click.echo(table(title, shown))
    click.echo("Classes weigh the same. Traces are of the files before they were brought to one form.")
    figures = {kind: of.mean for kind, of in rows.items()} | {"2AFC": both.mean}
    write_report(
        f"shortcuts ({held.name})", figures, json_path, chance=chance, classes=len(classes), tables={title: shown}
    )


def numbers(items: Items, classes: list[str]) -> np.ndarray:
    """Number the classes of items: (n,) int."""
    return np.array([classes.index(label) for label in items.labels])


def guess(train: Items, test: Items, names: tuple[str, ...], classes: list[str], seed: int) -> np.ndarray:
    """Guess the classes of items by their traces, after learning from others: probabilities (n, classes)."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=1)
    forest.fit(train.traces(names), numbers(train, classes))
    return forest.predict_proba(test.traces(names))
