"""Multisensory: one network that sees 4.2 s of frames and hears their raw stereo sound (Owens & Efros, ECCV 2018).

arXiv 1804.03641. A stream of its own for each modality, fused early; what lies behind the fusion tells whether sound
and frames are in step. Convolutions and pools pad as TensorFlow's "SAME" does, in which the network was written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import (
    FramesInput,
    Fuses,
    HasStreams,
    LocalizesInTime,
    SoundInput,
    Synchronizes,
    check_embedding,
)
from .frontends import build_frontend
from .layers import channels_first, check_evidence, check_widths, square_or_sides, what_moves

COMPANDING = 255  # of the waveform, as in mu-law telephony


def compand(samples: Tensor) -> Tensor:
    """Compress samples in [-1, 1] to the same range: sign(x) log(1 + 255 |x|) / log(256)."""
    return samples.sign() * torch.log1p(COMPANDING * samples.abs()) / math.log1p(COMPANDING)


class SameConv1d(nn.Conv1d):
    """A convolution over time, padded as TensorFlow's "SAME"."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, n): (B, out, ceil(n / stride))."""
        return super().forward(pad_same(x, self.kernel_size, self.stride))


class SameConv3d(nn.Conv3d):
    """A convolution over time, rows and columns, padded as TensorFlow's "SAME"."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, T, H, W): each axis becomes ceil(size / stride) long."""
        return super().forward(pad_same(x, self.kernel_size, self.stride))


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad maps (B, C, ...) so that a kernel at a stride gives ceil(size / stride); the odd one goes to the end."""
    pads: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((math.ceil(size / step) - 1) * step + width - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # F.pad begins with the last axis
    return F.pad(x, pads, value=value) if any(pads) else x


class Norms:
    """Makes BatchNorm layers as the paper's network has them: eps 1e-3, and no learned scale while it is pretrained.

    Parameters
    ----------
    decay : float
        Of the running statistics; the paper's 0.9997 takes some ten thousand steps to settle.
    scale : bool
        Whether a scale is learned; the paper does so when it fine-tunes and separates.
    """

    def __init__(self, decay: float, scale: bool):
        self.decay, self.scale = decay, scale

    def __call__(self, width: int, dimensions: int) -> nn.Module:
        layer = nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm3d
        norm = layer(width, eps=1e-3, momentum=1 - self.decay)
        norm.weight.requires_grad_(self.scale)  # else a constant, under the same name as a scale that is learned
        return norm


def convolution(inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], bias: bool) -> nn.Module:
    """Make a convolution over time, or over time, rows and columns, by the length of its kernel."""
    layer = SameConv1d if len(kernel) == 1 else SameConv3d
    return layer(inputs, outputs, tuple(kernel), tuple(stride), bias=bias)  # type: ignore[arg-type]


def conv_norm(inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], norms: Norms) -> nn.Sequential:
    """Make a convolution without bias and its BatchNorm."""
    return nn.Sequential(convolution(inputs, outputs, kernel, stride, bias=False), norms(outputs, len(kernel)))


class Subsample(nn.Module):
    """Takes every `stride`-th place of each axis, the first included: a max-pool over single places."""

    def __init__(self, stride: Sequence[int]):
        super().__init__()
        self.places: Any = (..., *(slice(None, None, step) for step in stride))

    def forward(self, x: Tensor) -> Tensor:
        """Subsample (B, C, ...)."""
        return x[self.places]


def make_logits(inputs: int, logits: int) -> nn.Module:
    """Make the convolution of single places from conv5_2, or its mean, to logits."""
    return convolution(inputs, logits, (1, 1, 1), (1, 1, 1), bias=True)


def draw_weights(network: nn.Module) -> None:
    """Draw the weights of all convolutions, with a variance that follows from the number of their inputs."""
    for layer in network.modules():
        if isinstance(layer, SameConv1d | SameConv3d) and not layer.weight.is_meta:  # shapes have no numbers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


class Block(nn.Module):
    """A residual block: convolution, BatchNorm, ReLU, convolution with bias; plus the input; BatchNorm, ReLU.

    The input goes past unchanged, subsampled if the block has a stride, or through a convolution of single places with
    BatchNorm if the number of channels changes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], norms: Norms):
        super().__init__()
        ones = (1,) * len(kernel)
        self.first = conv_norm(inputs, outputs, kernel, stride, norms)
        self.second = convolution(outputs, outputs, kernel, ones, bias=True)
        self.shortcut: nn.Module = Subsample(stride) if max(stride) > 1 else nn.Identity()
        if inputs != outputs:
            self.shortcut = conv_norm(inputs, outputs, ones, stride, norms)
        self.norm = norms(outputs, len(kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, inputs, ...) into (B, outputs, ...)."""
        return self.norm(self.second(self.first(x).relu()) + self.shortcut(x)).relu()


class Fusion(nn.Module):
    """Joins the sound to every place of the frames' maps, by two convolutions of single places and a shortcut.

    The shortcut keeps the frames' channels and the last of the sound's, so that it has as many as the result.
    """

    def __init__(self, frames: int, sound: int, hidden: int, norms: Norms):
        super().__init__()
        ones = (1, 1, 1)
        self.kept = sound - frames
        self.hidden = conv_norm(frames + sound, hidden, ones, ones, norms)
        self.out = convolution(hidden, sound, ones, ones, bias=True)
        self.norm = norms(sound, 3)

    def concatenated(self, frames: Tensor, sound: Tensor) -> Tensor:
        """Lay sound (B, S, T) over frames (B, F, T, H, W), behind their channels: (B, F + S, T, H, W)."""
        return torch.cat([frames, sound[..., None, None].expand(*sound.shape, *frames.shape[3:])], dim=1)

    def forward(self, frames: Tensor, sound: Tensor) -> Tensor:
        """Fuse frames (B, F, T, H, W) and sound (B, S, T): (B, S, T, H, W)."""
        both = self.concatenated(frames, sound)
        short = torch.cat([both[:, : frames.shape[1]], both[:, both.shape[1] - self.kept :]], dim=1)
        return self.norm(self.out(self.hidden(both).relu()) + short).relu()


class MultisensoryTrunk(Fuses):
    """The layers from frames and sound to conv5_2; what follows, and the weights to begin with, a network adds.

    Parameters
    ----------
    widths, image_size, frames, frame_rate, sample_rate, spatial_stride, frontend, moving
        As of `Multisensory`.
    norms : Norms
        Makes the BatchNorm layers.
    """

    def __init__(
        self,
        widths: Sequence[int],
        image_size: int | Sequence[int],
        frames: int,
        frame_rate: float,
        sample_rate: int,
        spatial_stride: int,
        frontend: str | None,
        moving: bool,
        norms: Norms,
    ):
        check_widths(widths)
        first, second, third, fourth = widths
        if first > second:
            raise ValueError(f"the second of the widths must be at least the first, got {list(widths)}")
        if spatial_stride not in (1, 2):
            raise ValueError(f"spatial_stride must be 1 or 2, got {spatial_stride!r}")
        super().__init__(
            SoundInput(sample_rate, frames / frame_rate, channels=2),
            FramesInput(*square_or_sides(image_size), count=frames, rate=frame_rate),
            {"video": {"features": fourth}},
        )
        cube, once, half = (3, 3, 3), (1, 1, 1), (2, 2, 2)
        self.moving = moving
        self.frames_first = conv_norm(3, first, (5, 7, 7), half, norms)
        self.frames_blocks = nn.Sequential(
            Block(first, first, cube, once, norms), Block(first, first, cube, half, norms)
        )
        self.frontend = build_frontend(frontend) if frontend else None
        if self.frontend:
            if self.frontend.sample_rate != sample_rate:
                raise ValueError(f"{frontend} takes {self.frontend.sample_rate} Hz, got sample_rate {sample_rate}")
            self.sound_first = conv_norm(2 * self.frontend.shape[0], third, (3,), (1,), norms)
            self.sound_blocks = nn.Sequential(
                Block(third, third, (3,), (2,), norms), Block(third, third, (3,), (2,), norms)
            )
        else:
            self.sound_first = conv_norm(2, first, (65,), (4,), norms)
            self.sound_blocks = nn.Sequential(
                Block(first, second, (15,), (4,), norms),
                Block(second, second, (15,), (4,), norms),
                Block(second, third, (15,), (4,), norms),
            )
        self.sound_last = conv_norm(third, second, (3,), (1,), norms)
        self.fusion = Fusion(first, second, fourth, norms)
        last = (1, spatial_stride, spatial_stride)
        self.stage3 = nn.Sequential(Block(second, second, cube, once, norms), Block(second, second, cube, once, norms))
        self.stage4 = nn.Sequential(Block(second, third, cube, half, norms), Block(third, third, cube, once, norms))
        self.stage5 = nn.Sequential(Block(third, fourth, cube, last, norms), Block(fourth, fourth, cube, once, norms))
        self.constants = frozenset(name for name, value in self.named_parameters() if not value.requires_grad)

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, 2) into companded waveforms (B, 2, n), or spectrograms (B, 2 bands, times).

        The spectrograms of both channels lie one behind the other, with zero mean and unit spread in each window.
        """
        channels = samples.transpose(1, 2)
        if not self.frontend:
            return compand(channels)
        spectrograms = self.frontend(channels.flatten(0, 1)).unflatten(0, channels.shape[:2]).flatten(1, 2)
        mean, spread = spectrograms.mean(dim=(1, 2), keepdim=True), spectrograms.std(dim=(1, 2), keepdim=True)
        return (spectrograms - mean) / (spread + 1e-3)

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn frames (B, T, H, W, 3), uint8 or floats in [0, 1], into (B, 3, T, H, W).

        They are in [-1, 1]; or, with `moving`, what the clip's mean picture leaves of them, with unit spread.
        """
        colours = channels_first(frames)
        return what_moves(colours) if self.moving else colours

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return the maps of the frames before the fusion, conv2_2: (B, widths[0], T / 4, H / 8, W / 8)."""
        x = self.frames_first(frames).relu()
        x = F.max_pool3d(pad_same(x, (1, 3, 3), (1, 2, 2), value=-math.inf), (1, 3, 3), (1, 2, 2))
        return self.frames_blocks(x)

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return the sound before the fusion, conv5_1, at the times of `represent_frames`: (B, widths[1], T / 4).

        The paper's fractional max-pool is drawn at random in training; here its places are fixed, as in the authors'
        released code.
        """
        x = self.sound_first(spectrogram).relu()
        x = x if self.frontend else F.max_pool1d(x, 4)
        times = math.ceil(math.ceil(self.frames.count / 2) / 2)
        return self.sound_last(F.adaptive_max_pool1d(self.sound_blocks(x), times)).relu()

    def stages(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps of conv3_2, conv4_2 and conv5_2 from the outputs of `represent_*`: (B, C, T, h, w) each."""
        third = self.stage3(self.fusion(frames, audio))
        fourth = self.stage4(third)
        return third, fourth, self.stage5(fourth)

    def embed_fused(self, frames: Tensor, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Embed the outputs of `prepare_frames` and `prepare_audio`: the mean of conv5_2 over all places, (B, D)."""
        check_embedding(self, "video", embedding)
        maps = self.stages(self.represent_frames(frames), self.represent_audio(spectrogram))[-1]
        return maps.mean(dim=(2, 3, 4))


class Multisensory(MultisensoryTrunk, Synchronizes, HasStreams, LocalizesInTime):
    """The network of the paper's Table 1 and Figure 2, or a compact one of the same layers.

    Parameters
    ----------
    widths : sequence of 4 int
        Channels of the stages; those of the streams and the fusion follow from them. The paper's are (64, 128, 256,
        512).
    image_size : int or (int, int)
        Pixels; 224 in the paper.
    frames : int
        Frames of a clip; 125 in the paper, 4.2 s.
    frame_rate : float
        Frames a second.
    sample_rate : int
        Hz; the sound is stereo and as long as the frames.
    spatial_stride : {2, 1}
        Of the last stage; 1 gives activation maps of twice the resolution (the paper's network for figures).
    norm_decay : float
        Of BatchNorm's running statistics.
    norm_scale : bool
        Whether BatchNorm learns a scale, as when the network is fine-tuned.
    frontend : str, optional
        Spectrogram of `frontends` in place of the waveform; the paper's Table of action recognition has such a network,
        whose layers it doesn't give: these are ours.
    moving : bool
        Whether it sees only what moves, as strong in a still face as in a game: frames without the clip's mean picture,
        with unit spread; ours.
    evidence : float
        Weight of a window's logit where those of neighbouring windows are added up, as `sync_offset` does; measured by
        `training.evaluate sync` so that confidences are right as often as they say.
    """

    finest: ClassVar[Mapping[str, Any]] = {"spatial_stride": 1}  # the paper's network for figures

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        image_size: int | Sequence[int] = 224,
        frames: int = 125,
        frame_rate: float = 29.97,
        sample_rate: int = 21_000,
        spatial_stride: int = 2,
        norm_decay: float = 0.9997,
        norm_scale: bool = False,
        frontend: str | None = None,
        moving: bool = False,
        evidence: float = 1.0,
    ):
        norms = Norms(norm_decay, norm_scale)
        super().__init__(widths, image_size, frames, frame_rate, sample_rate, spatial_stride, frontend, moving, norms)
        check_evidence(evidence)
        self.evidence = evidence
        self.map_stride = 16 * spatial_stride
        self.map_times = math.ceil(frames / 8)
        self.logit = make_logits(widths[-1], 1)
        draw_weights(self)

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits (0, z) of (out of step, in step), whose softmax is the sigmoid of z: (B, 2)."""
        z = self.logit(self.stages(frames, audio)[-1].mean(dim=(2, 3, 4), keepdim=True)).flatten(1)
        return torch.cat([torch.zeros_like(z), z], dim=1)

    def activation_maps(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logit of every place and time, from the outputs of `represent_*`: (B, T / 8, h, w).

        Their mean is the clip's logit; the paper's class activation maps (Figures 1 and 5) are their absolute values.
        """
        return self.logit(self.stages(frames, audio)[-1])[:, 0]
