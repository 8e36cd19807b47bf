"""AVE-Net: Objects that Sound (Arandjelovic and Zisserman, ECCV 2018, arXiv 1712.06651), section 3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import AudioVisualNet, ConvTower, check_embedding


class AVENet(AudioVisualNet):
    """Embeds pictures and sounds in one space, where the distance tells whether they belong together (Figure 2).

    Parameters
    ----------
    widths : 4 int
        Channels of the towers' blocks; (64, 128, 256, 512) in the paper.
    frontend : str
        "linear257" as in the paper, or "mel64".
    image_size : int
        224 in the paper.
    audio_first_stride : int or (int, int)
        Stride of conv1_1 of the sound tower in (frequency, time); 2 in the paper.
    features : {"max", "max-mean"}
        How the last map is pooled for the "features" embedding: its maximum, which is what the paper's fc1 sees,
        or maximum and mean side by side.
    joint_size : int
        Of the space that sound and pictures share; 128 in the paper.
    """

    embeddings = ("features", "joint")

    def __init__(
        self,
        widths=(64, 128, 256, 512),
        frontend="linear257",
        image_size=224,
        audio_first_stride=2,
        features="max",
        joint_size=128,
    ):
        super().__init__(frontend, image_size)
        if features not in ("max", "max-mean"):
            raise ValueError(f"features must be 'max' or 'max-mean', got {features!r}")
        self.features = features
        self.image_tower = ConvTower(3, widths, first_stride=2)
        self.audio_tower = ConvTower(1, widths, first_stride=audio_first_stride)
        self.image_head = _head(widths[3], joint_size)
        self.audio_head = _head(widths[3], joint_size)
        self.fc3 = nn.Linear(1, 2)
        with torch.no_grad():  # section 3.2: a larger distance must speak against correspondence from the start
            self.fc3.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.fc3.bias.copy_(torch.tensor([-1.0, 1.0]))  # undecided at distance 1, halfway of [0, 2]

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Spectrograms (B, 1, bins, frames) to pooled features (B, D) or unit vectors of the joint space (B, 128)."""
        check_embedding(embedding, self.embeddings, "AVE-Net")
        return self._embed(self.audio_tower(spectrogram), self.audio_head, embedding)

    def embed_image(self, image: Tensor, embedding: str = "features") -> Tensor:
        """Pictures (B, 3, size, size) to pooled features (B, D) or unit vectors of the joint space (B, 128)."""
        check_embedding(embedding, self.embeddings, "AVE-Net")
        return self._embed(self.image_tower(image), self.image_head, embedding)

    def _embed(self, feature_map: Tensor, head: nn.Module, embedding: str) -> Tensor:
        maximum = feature_map.amax(dim=(2, 3))  # (B, widths[3])
        if embedding == "joint":
            return F.normalize(head(maximum).float(), dim=1)
        if self.features == "max":
            return maximum
        return torch.cat([maximum, feature_map.mean(dim=(2, 3))], dim=1)

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """What `compare` takes: the joint embedding (B, 128)."""
        return self.embed_audio(spectrogram, "joint")

    def represent_image(self, image: Tensor) -> Tensor:
        """What `compare` takes: the joint embedding (B, 128)."""
        return self.embed_image(image, "joint")

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) from the Euclidean distance of unit vectors: (B, 2)."""
        distance = ((image - audio).square().sum(dim=1, keepdim=True) + 1e-12).sqrt()  # finite gradient at 0
        return self.fc3(distance.to(self.fc3.weight.dtype))

    def forward(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) of each pair: (B, 2)."""
        return self.compare(self.represent_image(image), self.represent_audio(spectrogram))


def _head(features: int, joint_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, joint_size))  # fc1, fc2
