"""AVE-Net: Objects that Sound (Arandjelovic and Zisserman, ECCV 2018, arXiv 1712.06651), section 3."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..media.flow import check_flow_method, with_flow
from .ave_motion import FRAME_RATE, TwoStreamTower, check_frame_count, check_frame_rate, motion_tower
from .contract import FramesInput, HasSimilarity, Slices, check_embedding
from .frontends import build_frontend
from .layers import (
    ConvTower,
    TwoTowers,
    channels_first,
    check_joint_size,
    check_widths,
    decide_halfway,
    logits_of_distance,
    one_pass_tower,
    pool_windows,
    square_or_sides,
)


class AVENet(TwoTowers, Slices, HasSimilarity):
    """Embeds pictures and sounds in one space, where their distance tells whether they belong together (Figure 2).

    Parameters
    ----------
    widths : 4 int
        Channels of the towers' blocks; (64, 128, 256, 512) in the paper.
    frontend : str
        "linear257" as in the paper, or "mel64".
    image_size : int
        224 in the paper.
    one_pass : bool
        Whether sound goes through the compact `layers.one_pass_tower` instead of the paper's tower.
    features : {"max", "blocks"}
        The "features" embedding: the maximum of the last map, which the paper's fc1 also takes; or, ours, the
        concatenated maxima and means of the maps of the last three blocks.
    joint_size : int
        Dimensions of the space that sound and pictures share; 128 in the paper.
    motion : {None, "frames", "flow"}
        The motion that the network sees: none; the frames around the picture, through 3-D convolutions (the paper's
        AVE+MF); or the optical flow between these, through a second stream (AVE+OF).
    frames : int, optional
        Number of consecutive frames for `motion`, which must be odd; by default the paper's 25 of AVE+MF, or 11,
        between which lie the 10 fields of flow of AVE+OF.
    frame_rate : float
        Rate of these frames, in Hz; 25 in the paper.
    flow_method : {"dis", "tvl1"}
        See `media.flow.optical_flow`; "tvl1" is the paper's, and needs OpenCV's contributed modules.
    """

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
        frame_rate=FRAME_RATE,
    ):
        if features not in ("max", "blocks"):
            raise ValueError(f"features must be 'max' or 'blocks', got {features!r}")
        check_widths(widths)
        check_joint_size(joint_size)
        count = check_frame_count(motion, frames)
        check_frame_rate(frame_rate)
        super().__init__(
            build_frontend(frontend),
            FramesInput(*square_or_sides(image_size), count, frame_rate if count > 1 else None),
            _embedding_sizes(widths, features, joint_size, motion),
        )
        self.features, self.motion = features, motion
        if motion == "flow":
            self.precompute_frames = functools.partial(with_flow, method=check_flow_method(flow_method))
            self.image_tower = TwoStreamTower(2 * (count - 1), widths)
        elif motion == "frames":
            self.image_tower = motion_tower(widths)
        else:
            self.image_tower = ConvTower(3, widths, first_stride=2)
        self.audio_tower = one_pass_tower(widths) if one_pass else ConvTower(1, widths, first_stride=2)
        if one_pass:
            self.spans = self.audio_tower.spans(self.frontend.shape[1])
            self.slice_samples = self.spans[-1][1] * self.frontend.hop_samples
        self.image_head = _head(widths[3], joint_size)
        self.audio_head = _head(widths[3], joint_size)
        self.fc3 = decide_halfway(2.0)  # section 3.2; unit vectors are up to 2 apart

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn clips (B, T, H, W, 3), uint8 or floats in [0, 1], into the input of the picture tower, in [-1, 1].

        Pictures become (B, 3, H, W), runs of frames (B, 3, T, H, W). With optical flow, clips, or what
        `precompute_frames` returned for them, become (B, 3 + 2 (T - 1), H, W).
        """
        if self.motion == "flow" and frames.dim() == 4:  # already with its flow
            return channels_first(frames)
        if frames.shape[1] != self.frames.count:
            takes = f"clips of {self.frames.count} frames" if self.motion else "single pictures, (B, 1, H, W, 3)"
            raise ValueError(f"{self.name} takes {takes}, got {tuple(frames.shape)}")
        if self.motion == "flow":
            colours = frames if frames.is_floating_point() else frames / 255
            computed = [self.precompute_frames(clip) for clip in colours.float().cpu().numpy()]
            return channels_first(torch.from_numpy(np.stack(computed)).to(frames.device))
        return channels_first(frames if self.motion == "frames" else frames[:, 0])

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Embed spectrograms (B, 1, bins, frames): features (B, D) or unit vectors of the joint space (B, 128)."""
        check_embedding(self, "audio", embedding)
        return self._embed(self._maps(self.audio_tower, spectrogram, embedding), self.audio_head, embedding)

    def embed_slices(self, spectrogram: Tensor, embedding: str, hop_samples: int) -> Tensor:
        """Embed the windows in long spectrograms (B, 1, bins, frames) in one pass: (B, T, D).

        The embeddings equal those of the windows cut out one by one. `hop_samples`, from one window to the next, must
        be a multiple of `slice_samples`.
        """
        check_embedding(self, "audio", embedding)
        if self.slice_samples is None or hop_samples < 1 or hop_samples % self.slice_samples:
            step = f"must be a multiple of {self.slice_samples}" if self.slice_samples else "needs one_pass=True"
            raise ValueError(f"one pass for windows {hop_samples} samples apart: that {step}")
        hop = hop_samples // self.frontend.hop_samples  # frames
        maps = self._maps(self.audio_tower, spectrogram, embedding)
        spans = self.spans[-len(maps) :]
        pooled = [pool_windows(m, columns, hop // stride) for m, (columns, stride) in zip(maps, spans, strict=True)]
        return self._embed_pooled(pooled, self.audio_head, embedding)

    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Embed the output of `prepare_frames`: features (B, D) or unit vectors (B, 128)."""
        check_embedding(self, "image", embedding)
        return self._embed(self._maps(self.image_tower, frames, embedding), self.image_head, embedding)

    def _maps(self, tower: Any, x: Tensor, embedding: str) -> list[Tensor]:
        """Return the maps that the embedding is pooled from: those of the last three blocks, or only the last."""
        if embedding == "joint" or self.features == "max":
            return [tower(x)]
        return tower.blocks(x)[1:]

    def _embed(self, maps: list[Tensor], head: nn.Module, embedding: str) -> Tensor:
        return self._embed_pooled([_pooled(m) for m in maps], head, embedding)

    def _embed_pooled(self, pooled: list[tuple[Tensor, Tensor]], head: nn.Module, embedding: str) -> Tensor:
        """Combine the (maximum, mean) of each of the `_maps`, (..., C), into the embedding (..., D)."""
        maximum = pooled[-1][0]  # (..., widths[3])
        if embedding == "joint":
            return F.normalize(head(maximum).float(), dim=-1)
        if self.features == "max":
            return maximum
        return torch.cat([part for both in pooled for part in both], dim=-1)

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return the input of `compare`: the joint embedding (B, 128)."""
        return self.embed_audio(spectrogram, "joint")

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return the input of `compare`: the joint embedding (B, 128)."""
        return self.embed_frames(frames, "joint")

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of (no correspondence, correspondence) from the distance of unit vectors: (B, 2)."""
        return logits_of_distance(frames, audio, self.fc3)

    def similarity(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the scalar products of all joint embeddings of pictures (N, 128) and sounds (M, 128): (N, M)."""
        return frames @ audio.T


def _embedding_sizes(widths: Sequence[int], features: str, joint_size: int, motion: str | None) -> dict:
    """Return sizes by modality and embedding; blocks give a maximum and a mean each, and flow doubles the first two."""
    streams = {"audio": 1, "image": 2 if motion == "flow" else 1}
    blocks = {modality: 2 * (number * sum(widths[1:3]) + widths[3]) for modality, number in streams.items()}
    return {
        modality: {"features": size if features == "blocks" else widths[3], "joint": joint_size}
        for modality, size in blocks.items()
    }


def _pooled(feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum and the mean of maps (B, C, ...) over space, and over time if there is any: (B, C) each."""
    axes = tuple(range(2, feature_map.dim()))
    return feature_map.amax(dim=axes), feature_map.mean(dim=axes)


def _head(features: int, joint_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, joint_size))  # fc1, fc2
