"""AVOL-Net: Objects that Sound (Arandjelovic and Zisserman, ECCV 2018, arXiv 1712.06651), section 4."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .layers import AudioVisualNet, ConvTower, check_embedding, one_pass_tower


class AVOLNet(AudioVisualNet):
    """Finds what sounds in a picture: the sound's vector is compared with that of every place (Figure 4).

    There is no "joint" embedding: a picture has a vector at each of its places and scores by the best of them, so
    no single vector stands for it. `represent_audio` and `represent_image` give what is compared.

    Parameters
    ----------
    widths : 4 int
        Channels of the towers' blocks; (64, 128, 256, 512) in the paper.
    frontend : str
        "linear257" as in the paper, or "mel64".
    image_size : int or (int, int)
        Of the square picture, 224 in the paper, or its height and width.
    map_stride : {16, 8}
        Pixels from one place of the map to the next; 16 in the paper. 8 leaves out the last pool, for small pictures.
    one_pass : bool
        Whether sound goes through the compact `layers.one_pass_tower`, instead of the paper's.
    joint_size : int
        Of the vectors that are compared; 128 in the paper.
    pooling : {"max", "logsumexp"}
        How the map becomes one number in training (`forward`, `similarity`): its maximum as in the paper, or, ours,
        the logarithm of its mean exponential, a softer maximum that lets every place learn from every pair. The
        score that `compare` gives is that of the maximum either way.
    """

    embeddings = ("features",)

    def __init__(
        self,
        widths=(64, 128, 256, 512),
        frontend="linear257",
        image_size=224,
        map_stride=16,
        one_pass=False,
        joint_size=128,
        pooling="max",
    ):
        super().__init__(frontend, image_size)
        if pooling not in ("max", "logsumexp"):
            raise ValueError(f"pooling must be 'max' or 'logsumexp', got {pooling!r}")
        if map_stride not in (8, 16):
            raise ValueError(f"map_stride must be 8 or 16 pixels, got {map_stride!r}")
        self.pooling, self.map_stride = pooling, map_stride
        self.image_tower = ConvTower(3, widths, first_stride=2, last_pool=map_stride // 8)
        self.audio_tower = one_pass_tower(widths) if one_pass else ConvTower(1, widths, first_stride=2)
        self.audio_head = nn.Sequential(nn.Linear(widths[3], 128), nn.ReLU(), nn.Linear(128, joint_size))  # fc1, fc2
        # conv5, conv6: fc1 and fc2 at each place. The paper doesn't name the ReLU between them; fc1 has it.
        self.image_head = nn.Sequential(nn.Conv2d(widths[3], 128, 1), nn.ReLU(), nn.Conv2d(128, joint_size, 1))
        self.conv7 = nn.Conv2d(1, 1, 1)  # scale and shift
        # positive, or likeness would speak against correspondence; the size, which keeps products near 1, is ours
        nn.init.constant_(self.conv7.weight, joint_size**-0.5)
        nn.init.zeros_(self.conv7.bias)

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Spectrograms (B, 1, bins, frames) to the maximum over the last map: (B, 512)."""
        check_embedding(embedding, self.embeddings, "AVOL-Net")
        return self.audio_tower(spectrogram).amax(dim=(2, 3))

    def embed_image(self, image: Tensor, embedding: str = "features") -> Tensor:
        """Pictures (B, 3, size, size) to the maximum over the last map: (B, 512)."""
        check_embedding(embedding, self.embeddings, "AVOL-Net")
        return self.image_tower(image).amax(dim=(2, 3))

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """What `localize` and `compare` take: a vector, of any length, (B, 128)."""
        return self.audio_head(self.embed_audio(spectrogram))

    def represent_image(self, image: Tensor) -> Tensor:
        """What `localize` and `compare` take: a vector, of any length, at each of 14 x 14 places, (B, 128, 14, 14)."""
        return self.image_head(self.image_tower(image))

    def localize(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of "this place sounds" from what `represent_*` gave; their sigmoid is the paper's map: (B, 14, 14)."""
        product = torch.einsum("bdhw,bd->bhw", image, audio)
        return self.conv7(product.unsqueeze(1)).squeeze(1)

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) from what `represent_*` gave: (B, 2).

        They are (0, z) with z the maximum of the map, so their softmax is the sigmoid of z, and two-way cross-entropy
        the paper's logistic loss.
        """
        return _against_zero(self.localize(image, audio).amax(dim=(1, 2)))

    def similarity(self, images: Tensor, audios: Tensor) -> Tensor:
        """Scalar products over the root of their size, pooled over places, of all pictures and sounds: (N, M)."""
        places = torch.einsum("ndhw,md->nmhw", images, audios) / audios.shape[1] ** 0.5
        return self._pool(places)

    def _pool(self, places: Tensor) -> Tensor:
        """(..., H, W) to (...,)."""
        if self.pooling == "max":
            return places.amax(dim=(-2, -1))
        return places.logsumexp(dim=(-2, -1)) - math.log(places.shape[-2] * places.shape[-1])

    def forward(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) of each pair, pooled by `pooling`: (B, 2)."""
        return _against_zero(self._pool(self.localize(self.represent_image(image), self.represent_audio(spectrogram))))


def _against_zero(logit: Tensor) -> Tensor:
    """Logits (B,) to those of a two-way softmax, (B, 2)."""
    return torch.stack([torch.zeros_like(logit), logit], dim=1)
