"""Table 1 of the L3 paper: baselines that learn from labels what L3-Net learns without them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from openavc.inference.arguments import get_model
from openavc.models.contract import Compares
from openavc.weights import load_model, sha256_of

from ..checkpoint import load_checkpoint
from ..objectives import Classification
from .datasets.held_out import load_pairs
from .metrics.correspondence import Represented, avc, represent
from .networks.capabilities import check_compares
from .networks.untrained import untrained
from .reporting import published
from .reporting.options import FILE, FOLDER, shared_options
from .reporting.report import print_published, write_report
from .reporting.tables import table


@click.command()
@shared_options
@click.option("--per-clip", type=click.IntRange(min=2), default=10, show_default=True, help="Pairs a clip.")
@click.option(
    "--supervised",
    type=FOLDER,
    required=True,
    help="Run of the objective classification (l3_small_supervised.toml).",
)
@click.option(
    "--pretrained",
    type=FILE,
    required=True,
    help="Weights trained for correspondence on the frozen towers of that run (l3_small_pretrained.toml).",
)
def table1(
    model: str, data: Path, seed: int, json_path: Path | None, per_clip: int, supervised: Path, pretrained: Path
) -> None:
    """L3's Table 1: correspondence by L3-Net and by both supervised baselines, on held-out shards."""
    check_pretrained(pretrained, supervised)
    network, direct = get_model(model), DirectCombination(supervised)
    networks = {
        "supervised direct combination": direct,
        "supervised pretraining": get_model(pretrained),
        network.name: network,
        "untrained": untrained(network, seed),
    }
    pairs = load_pairs(network, data, per_clip, seed)
    by_label = represent(direct, pairs)
    labels = label_accuracy(direct.classes, by_label, data)
    represented = {name: by_label if each is direct else represent(each, pairs) for name, each in networks.items()}
    figures = {name: avc(networks[name], rows, seed) for name, rows in represented.items()}
    kinds = ("threshold", "2AFC other clip", "AUC")
    rows = {name: {kind: f"{measured[kind]:.1f}" for kind in kinds} for name, measured in figures.items()}
    rows["chance"] = dict.fromkeys(kinds, "50.0")
    click.echo(table(f"Table 1, {len(represented[network.name])} pairs", rows))
    click.echo(f"The supervised towers name the label: {', '.join(f'{k} {v:.1f} %' for k, v in labels.items())}.")
    thresholds = {f"{name} threshold": measured["threshold"] for name, measured in figures.items()}
    write_report("table 1", thresholds, json_path, **labels)
    print_published(published.TABLE1, "Those are on Kinetics-Sounds, 34 classes: other data; chance is 50.")


class DirectCombination(Compares):
    """Estimates how likely a picture and a sound have the same label, from two classifiers.

    The score is the scalar product of their softmaxes (L3 paper, section 3.2, "supervised direct combination").

    Parameters
    ----------
    run : Path
        Folder of a run with the objective `classification`.

    Raises
    ------
    ValueError
        If its model doesn't compare sounds with pictures.
    """

    def __init__(self, run: Path):
        model = load_model(run / "weights.safetensors")
        check_compares(model)
        super().__init__(model.sound, model.frames, {})
        self.model, self.precompute_frames = model, model.precompute_frames
        config = json.loads((run / "config.json").read_text())
        options = {key: value for key, value in config["objective"].items() if key != "name"}
        self.objective, self.classes = Classification(**options), config["classes"]
        load_checkpoint(run, {"objective": self.objective})
        self.to(model.device).eval()

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, channels) into spectrograms, as the supervised model does."""
        return self.model.prepare_audio(samples)

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn frames (B, T, H, W, 3) into what the supervised model takes."""
        return self.model.prepare_frames(frames)

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return the probabilities of the labels: (B, classes)."""
        return self.objective.image_classifier(self.model.represent_frames(frames)).softmax(dim=1)

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return the probabilities of the labels: (B, classes)."""
        return self.objective.audio_classifier(self.model.represent_audio(spectrogram)).softmax(dim=1)

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return logits whose softmax is (1 - s, s), with the scalar product s: (B, 2)."""
        score = (frames * audio).sum(dim=1).clamp(1e-6, 1 - 1e-6)
        return torch.stack([1 - score, score], dim=1).log()


def check_pretrained(pretrained: Path, supervised: Path) -> None:
    """Raise ValueError if weights are known not to have been trained from those of the run `supervised`."""
    record = pretrained.parent / "config.json"
    if not record.exists():
        return
    began, wanted = json.loads(record.read_text()).get("start_from"), sha256_of(supervised / "weights.safetensors")
    if began != wanted:
        raise ValueError(
            f"{pretrained} didn't begin with the weights of {supervised}: {record} says start_from = {began}, they are "
            f"{wanted}; train l3_small_pretrained.toml with --start-from {supervised / 'weights.safetensors'}"
        )


def label_accuracy(classes: list[str], pairs: Represented, data: Path) -> dict[str, float]:
    """Measure how often each supervised tower names the label of a held-out clip.

    Parameters
    ----------
    classes : list of str
        Classes that the towers learned.
    pairs : Represented
        Pairs as a `DirectCombination` represents them, by the probabilities of the classes.
    data : Path
        Folder that the pairs come from, for messages.

    Returns
    -------
    figures : dict
        "picture", "sound" and "chance", in percent.

    Raises
    ------
    ValueError
        If a clip of `data` has no label, or one that the towers didn't learn.
    """
    known = ", ".join(classes)
    if None in pairs.labels:
        raise ValueError(
            f"{pairs.labels.count(None)} of {len(pairs.labels)} pairs of {data} are of clips without a label; each "
            f"must have one of {known}"
        )
    if unknown := sorted(set(pairs.labels) - set(classes)):
        raise ValueError(
            f"{data} has labels that the supervised run didn't learn: {', '.join(unknown)}; it knows {known}"
        )
    target = np.array([classes.index(label) for label in pairs.labels])

    def accuracy(probabilities: Tensor) -> float:
        return 100 * float((probabilities.argmax(dim=1).cpu().numpy() == target).mean())

    return {"picture": accuracy(pairs.frames), "sound": accuracy(pairs.audio), "chance": 100 / len(classes)}
