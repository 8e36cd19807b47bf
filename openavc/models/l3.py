"""L3-Net: Look, Listen and Learn (Arandjelovic and Zisserman, ICCV 2017, arXiv 1705.08168)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import AudioVisualNet, ConvTower, check_embedding, one_pass_tower, pool_to_grid


class L3Net(AudioVisualNet):
    """Decides whether a picture and one second of sound come from the same video (Figure 2).

    Inputs are a 224 x 224 RGB picture and a 257 x 199 log-spectrogram (1 s at 48 kHz, 10 ms windows, 5 ms hop).

    Parameters
    ----------
    embedding_size : {6144, 512}, optional
        Of the sound's "features": conv4_2, 32 x 24, max-pooled to 4 x 3 (the default), or to a point. Pictures then
        give 8192 or 512.
    widths : 4 int
        Channels of the towers' blocks; smaller ones than the paper's make a compact network, whose features
        have 12 or 1 times the last width for sound, 16 or 1 times for pictures.
    frontend : str
        "linear257", "linear257-scaled" (divided by 5; unsure whether the paper does so), or the compact "mel64".
    image_size : int
        224 in the paper.
    first_stride : int
        Of conv1_1 of both towers; 1 in the paper, 2 in the L3-Net that Objects that Sound compares with.
    one_pass : bool
        Whether sound goes through the compact `layers.one_pass_tower`, instead of the paper's.
    """

    title = "L3-Net"
    embeddings = ("features",)

    def __init__(
        self,
        embedding_size=None,
        widths=(64, 128, 256, 512),
        frontend="linear257",
        image_size=224,
        first_stride=1,
        one_pass=False,
    ):
        super().__init__(frontend, image_size)
        self.image_tower = ConvTower(3, widths, first_stride)
        self.audio_tower = one_pass_tower(widths) if one_pass else ConvTower(1, widths, first_stride)
        self.whole = pools_to_a_point(embedding_size, (12 * widths[-1], widths[-1]))
        self.fusion = nn.Sequential(nn.Linear(2 * widths[-1], 128), nn.ReLU(), nn.Linear(128, 2))  # fc1, fc2

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Spectrograms (B, 1, 257, 199) to max-pooled raw conv4_2: (B, 6144) from 4 x 3 cells, or (B, 512)."""
        check_embedding(embedding, self.embeddings, self.title)
        return pool_to_grid(self.audio_tower.raw(spectrogram), *((1, 1) if self.whole else (4, 3)))

    def embed_image(self, image: Tensor, embedding: str = "features") -> Tensor:
        """Pictures (B, 3, 224, 224) to max-pooled raw conv4_2: (B, 8192) from 4 x 4 cells, or (B, 512)."""
        check_embedding(embedding, self.embeddings, self.title)
        return pool_to_grid(self.image_tower.raw(image), *((1, 1) if self.whole else (4, 4)))

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """pool4, the maximum over the map: (B, 512)."""
        return self.audio_tower(spectrogram).amax(dim=(2, 3))

    def represent_image(self, image: Tensor) -> Tensor:
        """pool4, the maximum over the map: (B, 512)."""
        return self.image_tower(image).amax(dim=(2, 3))

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) from what `represent_*` gave: (B, 2)."""
        return self.fusion(torch.cat([image, audio], dim=1))

    def forward(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) of each pair: (B, 2)."""
        return self.compare(self.represent_image(image), self.represent_audio(spectrogram))


def pools_to_a_point(embedding_size: int | None, sizes: tuple[int, ...]) -> bool:
    """Whether it is the last and smallest of the sizes, and not None; ValueError if it is none of them."""
    if embedding_size is not None and embedding_size not in sizes:
        raise ValueError(f"embedding_size must be one of {', '.join(map(str, sizes))}, got {embedding_size!r}")
    return embedding_size == sizes[-1]
