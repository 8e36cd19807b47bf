"""Table 1 of the L3 paper: baselines that learned from labels what L3-Net learns without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from openavc.weights import load_model, sha256_of

from ..checkpoint import load_checkpoint
from ..objectives import Classification
from .correspondence import HeldOutPairs, represent


class DirectCombination(nn.Module):
    """Says of a picture and a sound how likely their labels are the same, from two classifiers.

    The score is the scalar product of the two softmaxes (L3 paper, section 3.2, "supervised direct combination").

    Parameters
    ----------
    run : Path
        Run of the objective `classification`.
    """

    def __init__(self, run: Path):
        super().__init__()
        self.model = load_model(run / "weights.safetensors")
        config = json.loads((run / "config.json").read_text())
        options = {key: value for key, value in config["objective"].items() if key != "name"}
        self.objective, self.classes = Classification(**options), config["classes"]
        load_checkpoint(run, {"objective": self.objective})
        self.to(next(self.model.parameters()).device).eval()
        self.prepare_image, self.prepare_audio = self.model.prepare_image, self.model.prepare_audio

    def represent_image(self, image: Tensor) -> Tensor:
        """Probabilities of the labels: (B, classes)."""
        return self.objective.image_classifier(self.model.represent_image(image)).softmax(dim=1)

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Probabilities of the labels: (B, classes)."""
        return self.objective.audio_classifier(self.model.represent_audio(spectrogram)).softmax(dim=1)

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits whose softmax is (1 - s, s), with the scalar product s: (B, 2)."""
        score = (image * audio).sum(dim=1).clamp(1e-6, 1 - 1e-6)
        return torch.stack([1 - score, score], dim=1).log()


def check_pretrained(pretrained: Path, supervised: Path) -> None:
    """ValueError if weights are known to have begun with others than those of the run `supervised`."""
    record = pretrained.parent / "config.json"
    if not record.exists():
        return
    began, wanted = json.loads(record.read_text()).get("start_from"), sha256_of(supervised / "weights.safetensors")
    if began != wanted:
        raise ValueError(
            f"{pretrained} didn't begin with the weights of {supervised}: {record} says start_from = {began}, they are "
            f"{wanted}; train l3_small_pretrained.toml with --start-from {supervised / 'weights.safetensors'}"
        )


def label_accuracy(direct: DirectCombination, pairs: HeldOutPairs, data: Path) -> dict[str, float]:
    """How often each tower names the label of a held-out clip, in percent, and chance.

    Raises
    ------
    ValueError
        If a clip of `data` has no label, or one that the towers didn't learn.
    """
    known = ", ".join(direct.classes)
    if None in pairs.labels:
        raise ValueError(
            f"{pairs.labels.count(None)} of {len(pairs.labels)} pairs of {data} are of clips without a label; each "
            f"must have one of {known}"
        )
    if unknown := sorted(set(pairs.labels) - set(direct.classes)):
        raise ValueError(
            f"{data} has labels that the supervised run didn't learn: {', '.join(unknown)}; it knows {known}"
        )
    target = np.array([direct.classes.index(label) for label in pairs.labels])
    found = represent(direct, pairs)
    return {
        "picture": 100 * float((found.image.argmax(axis=1) == target).mean()),
        "sound": 100 * float((found.audio.argmax(axis=1) == target).mean()),
        "chance": 100 / len(direct.classes),
    }
