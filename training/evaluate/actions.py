"""Recognition of what happens in videos, by networks fine-tuned to classify (Multisensory paper, section 5).

Each video's softmax is averaged over clips that are spread evenly over it; how many the paper took is unsure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from openavc.models.contract import AudioVisualModel, Classifies
from openavc.named import Named

from ..corpora.shards import Shards
from .datasets.labelled_videos import find_labelled_videos
from .metrics.bootstrap import Share, share
from .metrics.recognition import class_probabilities, confusion
from .networks.capabilities import check_classifies
from .networks.named import named_models
from .reporting import published
from .reporting.confusion_picture import draw_confusion
from .reporting.options import FOLDER, json_option, seed_option
from .reporting.report import print_published, write_report
from .reporting.tables import all_tables


@dataclass(frozen=True)
class Recognised:
    """What one network recognises, in percent where it isn't said."""

    top1: Share
    more: Share | None  # than the first network
    shares: np.ndarray  # (classes, classes), confusion in [0, 1]
    by_class: dict[str, float]  # of classes with videos

    @property
    def mean(self) -> float:
        """Mean accuracy over classes."""
        return float(np.mean(list(self.by_class.values())))


@click.command()
@click.option("--model", "models", multiple=True, required=True, help="Name or weights file; several are compared.")
@click.option("--data", type=FOLDER, required=True, help="Shards with labels.")
@click.option("--clips", type=click.IntRange(min=1), default=5, show_default=True, help="Of each video.")
@click.option("--confusion", "picture", type=Named(path_type=Path, dir_okay=False), help="Draw it here, as PNG.")
@seed_option
@json_option
def actions(
    models: tuple[str, ...], data: Path, clips: int, picture: Path | None, seed: int, json_path: Path | None
) -> None:
    """Recognition of a video's class: top-1 accuracy, accuracy of each class, who is taken for whom."""
    networks = check_networks(named_models(models))
    classes, shards = next(iter(networks.values())).classes, Shards(data)
    videos = find_labelled_videos(shards, classes)
    targets = np.array([video.target for video in videos])
    predicted = {
        name: class_probabilities(network, shards, videos, clips).argmax(axis=1) for name, network in networks.items()
    }
    places = np.array([video.clips[0].place for video in videos])
    found = recognised(predicted, targets, places, classes, seed)
    counts = np.bincount(targets, minlength=len(classes))
    title = f"actions, {len(videos)} videos, {len(classes)} classes"
    chance = 100 / len(classes)
    click.echo(
        all_tables({f"{title}, %": _rows(found, chance), "of each class, %": _class_rows(found, classes, counts)})
    )
    click.echo(f"Up to {clips} clips a video; intervals: 95 %, by drawing whole levels or videos anew.")
    write_report(
        f"actions ({data.name})",
        {f"{name} top-1": of.top1.mean for name, of in found.items()}
        | {f"{name} mean of classes": of.mean for name, of in found.items()},
        json_path,
        intervals={name: [of.top1.low, of.top1.high] for name, of in found.items()},
        classes={name: of.by_class for name, of in found.items()},
        chance=chance,
        videos=len(videos),
        clips=clips,
    )
    if picture:
        draw_confusion(picture, {name: of.shares for name, of in found.items()}, classes)
    print_published(published.ACTIONS, "Those are on UCF-101, 101 classes of real videos: other data.")


def check_networks(networks: dict[str, AudioVisualModel]) -> dict[str, Classifies]:
    """Return the networks; raise ValueError unless all of them classify, into the same classes."""
    checked = {name: check_classifies(network) for name, network in networks.items()}
    (first, network), *others = checked.items()
    for name, other in others:
        if other.classes != network.classes:
            raise ValueError(
                f"{name} has other classes ({', '.join(other.classes)}) than {first} ({', '.join(network.classes)})"
            )
    return checked


def recognised(
    predicted: dict[str, np.ndarray], targets: np.ndarray, places: np.ndarray, classes: tuple[str, ...], seed: int
) -> dict[str, Recognised]:
    """Measure the predictions (videos,) of each network against the true classes (videos,), drawing places anew."""
    found: dict[str, Recognised] = {}
    first = next(iter(predicted.values())) == targets
    for number, (name, guesses) in enumerate(predicted.items()):
        right, shares = guesses == targets, confusion(targets, guesses, len(classes))
        more = share(right.astype(float) - first, places, seed) if number else None
        by_class = {classes[k]: 100 * float(shares[k, k]) for k in np.unique(targets)}
        found[name] = Recognised(share(right, places, seed), more, shares, by_class)
    return found


def _rows(found: dict[str, Recognised], chance: float) -> dict[str, dict[str, str]]:
    rows = {}
    for name, of in found.items():
        rows[name] = {"top-1": str(of.top1), "mean of classes": f"{of.mean:.1f}"}
        if len(found) > 1:
            rows[name]["more than the first"] = str(of.more or "")
    return rows | {"chance": {"top-1": f"{chance:.1f}", "mean of classes": f"{chance:.1f}"}}


def _class_rows(
    found: dict[str, Recognised], classes: tuple[str, ...], counts: np.ndarray
) -> dict[str, dict[str, str]]:
    return {
        name: {"videos": str(count)} | {network: f"{of.by_class[name]:.1f}" for network, of in found.items()}
        for name, count in zip(classes, counts, strict=True)
        if count
    }
