"""What the networks are trained to do: the papers' losses, and a contrastive one of ours.

An objective takes the model and a batch of pairs and returns the loss and how often it was right. `negatives` is
the share of labelled negatives it wants among the pairs; 0 if it makes its own from the other pairs of the batch.
Every objective is told how many neighbouring pairs of the batch come from one clip.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Correspondence(nn.Module):
    """Two-way softmax cross-entropy on "do they belong together?", for L3-Net and AVE-Net.

    L3 paper, section 2; Objects that Sound, section 3.
    """

    negatives = 0.5

    def __init__(self, windows_per_clip: int = 1):
        super().__init__()

    def forward(self, model, image: Tensor, spectrogram: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(image, spectrogram).float()  # (B, 2)
        return F.cross_entropy(logits, label), (logits.argmax(dim=1) == label).float().mean()


class Contrastive(nn.Module):
    """Symmetric InfoNCE over the batch; ours, in neither paper.

    Each picture is to find its sound among all sounds of the batch and the other way round, by the dot product of
    unit vectors over a learned temperature. The network's own two-way decision is fitted beside it on as many true
    pairs as pairs of neighbouring clips, without moving the embeddings, so that scores are probabilities at even odds.
    """

    negatives = 0.0

    def __init__(self, temperature: float = 0.1, windows_per_clip: int = 1):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.shift = windows_per_clip  # to a pair of another clip

    def forward(self, model, image: Tensor, spectrogram: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        image, audio = model.represent_image(image), model.represent_audio(spectrogram)  # (B, D) each
        similarity = image @ audio.T * self.log_scale.clamp(max=math.log(100)).exp()  # (B, B)
        target = torch.arange(len(image), device=image.device)
        contrast = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        right = (similarity.argmax(dim=1) == target).float().mean()
        return contrast + self._decision(model, image.detach(), audio.detach()), right

    def _decision(self, model, image: Tensor, audio: Tensor) -> Tensor:
        both = torch.cat([audio, audio.roll(self.shift, dims=0)])
        logits = model.compare(torch.cat([image, image]), both).float()
        label = torch.arange(2, device=image.device).flip(0).repeat_interleave(len(image))  # 1s, then 0s
        return F.cross_entropy(logits, label)


OBJECTIVES = {"correspondence": Correspondence, "contrastive": Contrastive}
