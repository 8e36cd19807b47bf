"""What the networks are trained to do: the papers' losses, and a contrastive one of ours.

An objective takes the model and a batch of pairs and returns the loss and how often it was right. `negatives` is
the share of labelled negatives it wants among the pairs; 0 if it makes its own from the other pairs of the batch.
`networks` are the architectures it works with.
Every objective is told how many neighbouring pairs of the batch come from one clip.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import distributed


class Correspondence(nn.Module):
    """Cross-entropy on "do they belong together?", of the network's own decision.

    For L3-Net the two-way softmax of its fusion layers (L3 paper, section 2), for AVE-Net that of the scaled and
    shifted distance (Objects that Sound, section 3.2), for AVOL-Net the logistic loss of the maximum over the map
    (section 4): its logits are (0, z), whose softmax is the sigmoid of z.
    """

    negatives = 0.5
    networks = ("l3", "openl3", "ave", "avol")

    def __init__(self, windows_per_clip: int = 1):
        super().__init__()

    def forward(self, model, image: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits, label = model(image, spectrogram).float(), batch["label"]  # (B, 2), (B,)
        return F.cross_entropy(logits, label), (logits.argmax(dim=1) == label).float().mean()


class Contrastive(nn.Module):
    """Symmetric InfoNCE over the pairs of all processes; ours, in neither paper.

    Each picture is to find its sound among all sounds of the batch and the other way round, by the network's
    `similarity` over a learned temperature. If the corpus comes in groups (`Sampling.grouped`), it is among those of
    its own group. The network's own two-way decision is fitted beside it on as many true pairs as pairs of
    neighbouring clips, without moving the embeddings, so that scores are probabilities at even odds.
    With gradient accumulation the negatives are those of the same part of the batch.

    Parameters
    ----------
    temperature : float
        At the start.
    distractors : bool
        Whether silence and white noise are among the sounds that a picture searches, so that it learns that they
        aren't its own.
    windows_per_clip : int
        Neighbouring pairs of one clip.
    """

    negatives = 0.0
    networks = ("ave", "avol")  # what has a similarity of any picture with any sound

    def __init__(self, temperature: float = 0.1, distractors: bool = False, windows_per_clip: int = 1):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.distractors = distractors
        self.shift = windows_per_clip  # to a pair of another clip

    def forward(self, model, image: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.distractors:
            spectrogram = torch.cat([spectrogram, model.prepare_audio(silence_and_noise(model)).to(spectrogram)])
        image, audio = model.represent_image(image), model.represent_audio(spectrogram)  # (B, D) or (B, D, H, W)
        audio, strange = audio[: len(image)], audio[len(image) :]
        with torch.autocast(image.device.type, enabled=False):  # which would round similarities to 8 bits
            image, audio, strange = image.float(), audio.float(), strange.float()
            images, audios = distributed.gather(image), distributed.gather(audio)  # those of all processes
            others = batch["group"][:, None] != distributed.gather(batch["group"])  # (B, world * B)
            by_image = torch.cat([model.similarity(image, audios), model.similarity(image, strange)], dim=1)
            contrast, right = self._contrast(by_image, model.similarity(images, audio).T, others)
            other = distributed.own_rows(audios.detach().roll(self.shift, dims=0))  # (B, D)
            return contrast + self._decision(model, image.detach(), audio.detach(), other), right

    def _contrast(self, by_image: Tensor, by_audio: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of finding the partner and how often it is found, from (B, world * B) similarities.

        `others` marks those of other groups, which aren't searched. `by_image` may have more columns, of distractors.
        """
        scale, more = self.log_scale.clamp(max=math.log(100)).exp(), by_image.shape[1] - others.shape[1]
        by_image = (scale * by_image).masked_fill(F.pad(others, (0, more)), -math.inf)
        by_audio = (scale * by_audio).masked_fill(others, -math.inf)
        target = torch.arange(len(by_image), device=by_image.device) + distributed.rank() * len(by_image)
        loss = (F.cross_entropy(by_image, target) + F.cross_entropy(by_audio, target)) / 2
        return loss, (by_image.argmax(dim=1) == target).float().mean()

    def _decision(self, model, image: Tensor, audio: Tensor, other: Tensor) -> Tensor:
        logits = model.compare(torch.cat([image, image]), torch.cat([audio, other])).float()
        label = torch.arange(2, device=image.device).flip(0).repeat_interleave(len(image))  # 1s, then 0s
        return F.cross_entropy(logits, label)


def silence_and_noise(model) -> Tensor:
    """A window of silence, and one of white noise at a random level of -80 to -20 dBFS: (2, window_samples)."""
    device = next(model.parameters()).device
    noise = torch.randn(model.window_samples, device=device) * 10 ** (-4 + 3 * torch.rand((), device=device))
    return torch.stack([torch.zeros_like(noise), noise])


class Classification(nn.Module):
    """Each tower learns the clip's label by itself, through a linear layer: the supervised baselines of L3's Table 1.

    Parameters
    ----------
    classes : int
        Labels in the corpus.
    features : int
        Size of what the towers represent.
    """

    negatives = 0.0
    networks = ("l3", "openl3", "ave")  # a vector for each picture

    def __init__(self, classes: int, features: int, windows_per_clip: int = 1):
        super().__init__()
        self.image_classifier = nn.Linear(features, classes)
        self.audio_classifier = nn.Linear(features, classes)

    def forward(self, model, image: Tensor, spectrogram: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        target = batch["target"]
        by_image = self.image_classifier(model.represent_image(image)).float()  # (B, classes)
        by_audio = self.audio_classifier(model.represent_audio(spectrogram)).float()
        right = (by_image.argmax(dim=1) == target).float() + (by_audio.argmax(dim=1) == target).float()
        return F.cross_entropy(by_image, target) + F.cross_entropy(by_audio, target), right.mean() / 2


OBJECTIVES = {"correspondence": Correspondence, "contrastive": Contrastive, "classification": Classification}
