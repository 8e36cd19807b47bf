"""AVOL-Net: Objects that Sound (Arandjelovic and Zisserman, ECCV 2018, arXiv 1712.06651), section 4."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .contract import FramesInput, HasSimilarity, Localizes, check_embedding
from .frontends import build_frontend
from .layers import ConvTower, TwoTowers, check_joint_size, check_widths, one_pass_tower, square_or_sides


class AVOLNet(TwoTowers, Localizes, HasSimilarity):
    """Finds what sounds in a picture by comparing the sound's vector with that of every cell of its map (Figure 4).

    There is no "joint" embedding: a picture has a vector at each cell of its map and is scored by the best of them, so
    no single vector represents it. `represent_audio` and `represent_frames` return what is compared.

    Parameters
    ----------
    widths : 4 int
        Channels of the towers' blocks; (64, 128, 256, 512) in the paper.
    frontend : str
        "linear257" as in the paper, or "mel64".
    image_size : int or (int, int)
        Side of the square picture, 224 in the paper; or height and width.
    map_stride : {16, 8}
        Pixels from one cell of the map to the next; 16 in the paper. 8 omits the last pool, for small pictures.
    one_pass : bool
        Whether sound goes through the compact `layers.one_pass_tower` instead of the paper's tower.
    joint_size : int
        Size of the vectors that are compared; 128 in the paper.
    pooling : {"max", "logsumexp"}
        How the map becomes one number in training (`forward`, `similarity`): its maximum as in the paper, or, ours,
        the logarithm of its mean exponential, a softer maximum that lets every cell learn from every pair. The score of
        `compare` always uses the maximum.
    """

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
        if pooling not in ("max", "logsumexp"):
            raise ValueError(f"pooling must be 'max' or 'logsumexp', got {pooling!r}")
        if map_stride not in (8, 16):
            raise ValueError(f"map_stride must be 8 or 16 pixels, got {map_stride!r}")
        check_widths(widths)
        check_joint_size(joint_size)
        sizes = {modality: {"features": widths[3]} for modality in ("audio", "image")}
        super().__init__(build_frontend(frontend), FramesInput(*square_or_sides(image_size)), sizes)
        self.pooling, self.map_stride = pooling, map_stride
        self.image_tower = ConvTower(3, widths, first_stride=2, last_pool=map_stride // 8)
        self.audio_tower = one_pass_tower(widths) if one_pass else ConvTower(1, widths, first_stride=2)
        self.audio_head = nn.Sequential(nn.Linear(widths[3], 128), nn.ReLU(), nn.Linear(128, joint_size))  # fc1, fc2
        # conv5, conv6: fc1 and fc2 at each cell. The paper doesn't name the ReLU between them; fc1 has it.
        self.image_head = nn.Sequential(nn.Conv2d(widths[3], 128, 1), nn.ReLU(), nn.Conv2d(128, joint_size, 1))
        self.conv7 = nn.Conv2d(1, 1, 1)  # scale and shift
        # positive, because similarity must not count against correspondence; the size, which keeps products near 1, is
        # ours
        nn.init.constant_(self.conv7.weight, joint_size**-0.5)
        nn.init.zeros_(self.conv7.bias)

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Return the maximum over the last map of spectrograms (B, 1, bins, frames): (B, 512)."""
        check_embedding(self, "audio", embedding)
        return self.audio_tower(spectrogram).amax(dim=(2, 3))

    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Return the maximum over the last map of pictures (B, 3, size, size): (B, 512)."""
        check_embedding(self, "image", embedding)
        return self.image_tower(frames).amax(dim=(2, 3))

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return the input of `localize` and `compare`: a vector, not normalised, (B, 128)."""
        return self.audio_head(self.embed_audio(spectrogram))

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return the input of `localize` and `compare`: a vector, not normalised, at each cell, (B, 128, 14, 14)."""
        return self.image_head(self.image_tower(frames))

    def localize(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of "this cell sounds", whose sigmoid is the paper's map: (B, 14, 14)."""
        product = torch.einsum("bdhw,bd->bhw", frames, audio)
        return self.conv7(product.unsqueeze(1)).squeeze(1)

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of (no correspondence, correspondence) from the outputs of `represent_*`: (B, 2).

        They are (0, z), where z is the maximum of the map, so their softmax is the sigmoid of z, and their two-way
        cross-entropy is the paper's logistic loss.
        """
        return _against_zero(self.localize(frames, audio).amax(dim=(1, 2)))

    def similarity(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return scalar products over the root of their size, pooled over cells, of all pictures and sounds: (N, M)."""
        cells = torch.einsum("ndhw,md->nmhw", frames, audio) / audio.shape[1] ** 0.5
        return self._pool(cells)

    def _pool(self, cells: Tensor) -> Tensor:
        """Pool maps (..., H, W) to numbers (...,)."""
        if self.pooling == "max":
            return cells.amax(dim=(-2, -1))
        return cells.logsumexp(dim=(-2, -1)) - math.log(cells.shape[-2] * cells.shape[-1])

    def forward(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the logits of (no correspondence, correspondence) of each pair, pooled by `pooling`: (B, 2)."""
        return _against_zero(
            self._pool(self.localize(self.represent_frames(frames), self.represent_audio(spectrogram)))
        )


def _against_zero(logit: Tensor) -> Tensor:
    """Turn logits (B,) into those of a two-way softmax, (B, 2)."""
    return torch.stack([torch.zeros_like(logit), logit], dim=1)
