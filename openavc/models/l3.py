"""L3-Net: Look, Listen and Learn (Arandjelovic and Zisserman, ICCV 2017, arXiv 1705.08168)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .contract import Compares, FramesInput, check_embedding
from .frontends import Frontend, build_frontend
from .layers import ConvTower, TwoTowers, check_widths, one_pass_tower, pool_to_grid, square_or_sides


class L3Net(TwoTowers, Compares):
    """Decides whether a picture and one second of sound come from the same video (Figure 2).

    Inputs are a 224 x 224 RGB picture and a 257 x 199 log-spectrogram (1 s at 48 kHz, 10 ms windows, 5 ms hop).

    Parameters
    ----------
    embedding_size : {6144, 512}, optional
        Size of the sound's "features": conv4_2, 32 x 24, max-pooled to 4 x 3 (the default), or to a point. Those of
        pictures then have 8192 or 512.
    widths : 4 int
        Channels of the towers' blocks; smaller ones than the paper's make a compact network, whose features
        have 12 or 1 times the last width for sound, 16 or 1 times for pictures.
    frontend : str
        "linear257", "linear257-scaled" (divided by 5; it is unclear whether the paper does so), or the compact "mel64".
    image_size : int
        224 in the paper.
    first_stride : int
        Stride of conv1_1 in both towers; 1 in the paper, 2 in the L3-Net that Objects that Sound compares with.
    one_pass : bool
        Whether sound goes through the compact `layers.one_pass_tower` instead of the paper's tower.
    """

    image_tower: ConvTower
    audio_tower: ConvTower

    def __init__(
        self,
        embedding_size=None,
        widths=(64, 128, 256, 512),
        frontend="linear257",
        image_size=224,
        first_stride=1,
        one_pass=False,
    ):
        frontend = frontend if isinstance(frontend, Frontend) else build_frontend(frontend)
        check_widths(widths)
        if first_stride not in (1, 2):
            raise ValueError(f"first_stride must be 1 or 2, got {first_stride!r}")
        to_a_point = pools_to_a_point(embedding_size, (12 * widths[-1], widths[-1]))
        super().__init__(frontend, FramesInput(*square_or_sides(image_size)), grid_sizes(widths[-1], to_a_point))
        self.to_a_point = to_a_point
        self.image_tower = ConvTower(3, widths, first_stride)
        self.audio_tower = one_pass_tower(widths) if one_pass else ConvTower(1, widths, first_stride)
        self.fusion = nn.Sequential(nn.Linear(2 * widths[-1], 128), nn.ReLU(), nn.Linear(128, 2))  # fc1, fc2

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Max-pool raw conv4_2 of spectrograms (B, 1, 257, 199): (B, 6144) from 4 x 3 cells, or (B, 512)."""
        check_embedding(self, "audio", embedding)
        return pool_to_grid(self.audio_tower.raw(spectrogram), *((1, 1) if self.to_a_point else (4, 3)))

    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Max-pool raw conv4_2 of pictures (B, 3, 224, 224): (B, 8192) from 4 x 4 cells, or (B, 512)."""
        check_embedding(self, "image", embedding)
        return pool_to_grid(self.image_tower.raw(frames), *((1, 1) if self.to_a_point else (4, 4)))

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return pool4, the maximum over the map: (B, 512)."""
        return self.audio_tower(spectrogram).amax(dim=(2, 3))

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return pool4, the maximum over the map: (B, 512)."""
        return self.image_tower(frames).amax(dim=(2, 3))

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of (no correspondence, correspondence) from the outputs of `represent_*`: (B, 2)."""
        return self.fusion(torch.cat([frames, audio], dim=1))


def pools_to_a_point(embedding_size: int | None, sizes: tuple[int, ...]) -> bool:
    """Whether the given size is the last and smallest one; raise ValueError unless it is among `sizes` or None."""
    if embedding_size is not None and embedding_size not in sizes:
        raise ValueError(f"embedding_size must be one of {', '.join(map(str, sizes))}, got {embedding_size!r}")
    return embedding_size == sizes[-1]


def grid_sizes(width: int, to_a_point: bool) -> dict[str, dict[str, int]]:
    """Return the sizes of features: `width` channels in 4 x 3 cells for sound, 4 x 4 for pictures, or one for each."""
    cells = {"audio": 1, "image": 1} if to_a_point else {"audio": 12, "image": 16}
    return {modality: {"features": count * width} for modality, count in cells.items()}
