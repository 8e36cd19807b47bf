"""AVE-Net: Objects that Sound (Arandjelovic and Zisserman, ECCV 2018, arXiv 1712.06651), section 3."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..image import height_and_width
from ..motion import check_flow_method, whole_run, with_flow
from .layers import (
    AudioVisualNet,
    ConvTower,
    TwoStreamTower,
    check_embedding,
    motion_tower,
    one_pass_tower,
    pool_windows,
)

_FRAMES = {None: (1, 1), "frames": (25, 7), "flow": (11, 3)}  # by motion: the paper's, and the fewest that will do


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
    one_pass : bool
        Whether sound goes through the compact `layers.one_pass_tower`, instead of the paper's.
    features : {"max", "blocks"}
        What the "features" embedding is: the maximum of the last map, which is what the paper's fc1 sees, or, ours, the
        maxima and means of the maps of the last three blocks side by side.
    joint_size : int
        Of the space that sound and pictures share; 128 in the paper.
    motion : {None, "frames", "flow"}
        What is seen beside a picture: nothing; the frames around it, by 3-D convolutions (the paper's AVE+MF); or the
        optical flow between these, by a second stream (AVE+OF).
    frames : int, optional
        How many consecutive frames that takes, an odd number; by default the paper's 25 of AVE+MF, or 11, between which
        lie the 10 fields of flow of AVE+OF.
    flow_method : {"dis", "tvl1"}
        See `motion.optical_flow`; "tvl1" is the paper's, and needs OpenCV's contributed modules.
    """

    embeddings = ("features", "joint")

    def __init__(
        self,
        widths=(64, 128, 256, 512),
        frontend="linear257",
        image_size=224,
        one_pass=False,
        features="max",
        joint_size=128,
        motion=None,
        frames=None,
        flow_method="dis",
    ):
        super().__init__(frontend, image_size)
        if features not in ("max", "blocks"):
            raise ValueError(f"features must be 'max' or 'blocks', got {features!r}")
        self.features = features
        self.motion, self.frames = motion, _check_frames(motion, frames)
        if motion == "flow":
            self.join_frames = functools.partial(with_flow, method=check_flow_method(flow_method))
            self.image_tower = TwoStreamTower(2 * (self.frames - 1), widths)
        elif motion == "frames":
            self.join_frames, self.image_tower = whole_run, motion_tower(widths)
        else:
            self.image_tower = ConvTower(3, widths, first_stride=2)
        self.audio_tower = one_pass_tower(widths) if one_pass else ConvTower(1, widths, first_stride=2)
        if one_pass:
            self.spans = self.audio_tower.spans(self.frontend.shape[1])
            self.slice_samples = self.spans[-1][1] * self.frontend.hop_samples
        self.image_head = _head(widths[3], joint_size)
        self.audio_head = _head(widths[3], joint_size)
        self.fc3 = nn.Linear(1, 2)
        with torch.no_grad():  # section 3.2: a larger distance must speak against correspondence from the start
            self.fc3.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.fc3.bias.copy_(torch.tensor([-1.0, 1.0]))  # undecided at distance 1, halfway of [0, 2]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, 3); of frames (T, H, W, 3); beside flow (H, W, 3 + 2 (T - 1))."""
        size = height_and_width(self.image_size)
        return {
            None: (*size, 3),
            "frames": (self.frames, *size, 3),
            "flow": (*size, 3 + 2 * (self.frames - 1)),
        }[self.motion]

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Spectrograms (B, 1, bins, frames) to pooled features (B, D) or unit vectors of the joint space (B, 128)."""
        check_embedding(embedding, self.embeddings, "AVE-Net")
        return self._embed(self._maps(self.audio_tower, spectrogram, embedding), self.audio_head, embedding)

    def embed_slices(self, spectrogram: Tensor, embedding: str, hop_samples: int) -> Tensor:
        """Long spectrograms (B, 1, bins, frames) to the embeddings of the windows in them, (B, T, D), in one pass.

        They equal those of the windows cut out. `hop_samples`, between two windows, is a multiple of `slice_samples`.
        """
        check_embedding(embedding, self.embeddings, "AVE-Net")
        if self.slice_samples is None or hop_samples < 1 or hop_samples % self.slice_samples:
            step = f"must be a multiple of {self.slice_samples}" if self.slice_samples else "needs one_pass=True"
            raise ValueError(f"one pass for windows {hop_samples} samples apart: that {step}")
        hop = hop_samples // self.frontend.hop_samples  # frames
        maps = self._maps(self.audio_tower, spectrogram, embedding)
        spans = self.spans[-len(maps) :]
        pooled = [pool_windows(m, columns, hop // stride) for m, (columns, stride) in zip(maps, spans, strict=True)]
        return self._embed_pooled(pooled, self.audio_head, embedding)

    def embed_image(self, image: Tensor, embedding: str = "features") -> Tensor:
        """Pictures (B, 3, size, size), or what `prepare_image` gives, to features (B, D) or unit vectors (B, 128)."""
        check_embedding(embedding, self.embeddings, "AVE-Net")
        return self._embed(self._maps(self.image_tower, image, embedding), self.image_head, embedding)

    def _maps(self, tower: ConvTower, x: Tensor, embedding: str) -> list[Tensor]:
        """The maps that the embedding is pooled from: those of the last three blocks, or the last alone."""
        if embedding == "joint" or self.features == "max":
            return [tower(x)]
        return tower.blocks(x)[1:]

    def _embed(self, maps: list[Tensor], head: nn.Module, embedding: str) -> Tensor:
        return self._embed_pooled([_pooled(m) for m in maps], head, embedding)

    def _embed_pooled(self, pooled: list[tuple[Tensor, Tensor]], head: nn.Module, embedding: str) -> Tensor:
        """(maximum, mean) of each of the `_maps`, (..., C), to the embedding (..., D)."""
        maximum = pooled[-1][0]  # (..., widths[3])
        if embedding == "joint":
            return F.normalize(head(maximum).float(), dim=-1)
        if self.features == "max":
            return maximum
        return torch.cat([part for both in pooled for part in both], dim=-1)

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """What `compare` takes: the joint embedding (B, 128)."""
        return self.embed_audio(spectrogram, "joint")

    def represent_image(self, image: Tensor) -> Tensor:
        """What `compare` takes: the joint embedding (B, 128)."""
        return self.embed_image(image, "joint")

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) from the Euclidean distance of unit vectors: (B, 2)."""
        distance = ((image - audio).square().sum(dim=-1, keepdim=True) + 1e-12).sqrt()  # finite gradient at 0
        weight, bias = self.fc3.weight[:, 0], self.fc3.bias  # no matrix product: autocast would round it
        return distance.to(weight.dtype) * weight + bias

    def similarity(self, images: Tensor, audios: Tensor) -> Tensor:
        """Scalar products of all joint embeddings of pictures (N, 128) and sounds (M, 128): (N, M)."""
        return images @ audios.T

    def forward(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Logits of (no correspondence, correspondence) of each pair: (B, 2)."""
        return self.compare(self.represent_image(image), self.represent_audio(spectrogram))


def _check_frames(motion: str | None, frames: int | None) -> int:
    """The number of frames, by default the paper's; ValueError if there is no such motion, or it can't be so many."""
    if motion not in _FRAMES:
        raise ValueError(f"motion must be None, 'frames' or 'flow', got {motion!r}")
    usual, fewest = _FRAMES[motion]
    frames = usual if frames is None else frames
    if type(frames) is not int or frames < fewest or frames % 2 == 0 or (motion is None and frames > 1):
        possible = f"an odd number of at least {fewest}" if motion else "1"
        raise ValueError(f"frames must be {possible} with motion={motion!r}, got {frames!r}")
    return frames


def _pooled(feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum and mean over space, and time if there is any, of maps (B, C, ...): (B, C) each."""
    axes = tuple(range(2, feature_map.dim()))
    return feature_map.amax(dim=axes), feature_map.mean(dim=axes)


def _head(features: int, joint_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, joint_size))  # fc1, fc2
