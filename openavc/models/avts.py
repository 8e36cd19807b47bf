"""AVTS: cooperative learning of audio and video from self-supervised synchronization (Korbar et al., NeurIPS 2018).

A residual network for clips of 25 frames, whose convolutions span time only in its first layers, and a network in the
manner of VGG for their sound. Both end in vectors of one space, whose Euclidean distance says whether the two belong
to the same moment. arXiv 1807.00230, section 3; what it leaves open is an option here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import AudioVisualModel, FramesInput, HasSimilarity, Synchronizes, check_embedding
from .frontends import AVTS_FRONTENDS, build_frontend
from .layers import (
    TwoTowers,
    channels_first,
    check_evidence,
    check_joint_size,
    check_widths,
    decide_halfway,
    initialised,
    logits_of_distance,
    shortened,
    square_or_sides,
    what_moves,
)

FRAMES = 25  # of a clip, one second
MARGIN = 0.99  # distance of unlike pairs beyond which the paper's loss is 0


class MixedTower(nn.Module):
    """An 18-layer residual network for frames, "MCx": convolutions span three frames before group x, one from there on.

    The names of its parameters are those of torchvision's `mc3_18`, whose weights it takes without `fc`.

    Parameters
    ----------
    widths : sequence of 4 int
        Channels of the groups conv2_x to conv5_x; the stem has those of the first.
    first_flat : int
        x, the first group without time: 2 or 3 in the paper.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512), first_flat: int = 3):
        super().__init__()
        check_widths(widths)
        if first_flat not in (2, 3):
            raise ValueError(f"first_flat must be 3 (MC3) or 2 (MC2), got {first_flat!r}")
        self.stem = nn.Sequential(
            nn.Conv3d(3, widths[0], (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(widths[0]), nn.ReLU()
        )
        layers, inputs = [], widths[0]
        for group, width in enumerate(widths, start=2):
            spans, stride = 3 if group < first_flat else 1, 1 if group == 2 else 2
            layers.append(
                nn.Sequential(ResidualBlock(inputs, width, spans, stride), ResidualBlock(width, width, spans, 1))
            )
            inputs = width
        self.layer1, self.layer2, self.layer3, self.layer4 = layers  # conv2_x to conv5_x
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d) and not layer.weight.is_meta:  # shapes have no numbers
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor) -> Tensor:
        """Turn frames (B, 3, T, H, W) into the maps of conv5_x: (B, widths[3], T, H / 16, W / 16)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(frames)))))


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm, added to the input: `BasicBlock` of torchvision's networks for video.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    spans : {3, 1}
        Frames that a convolution spans.
    stride : {1, 2}
        Along rows and columns; also along time if it spans three frames.
    """

    def __init__(self, inputs: int, outputs: int, spans: int, stride: int):
        super().__init__()
        strides = (stride if spans > 1 else 1, stride, stride)
        self.conv1 = nn.Sequential(_convolution(inputs, outputs, spans, strides), nn.BatchNorm3d(outputs), nn.ReLU())
        self.conv2 = nn.Sequential(_convolution(outputs, outputs, spans, (1, 1, 1)), nn.BatchNorm3d(outputs))
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, strides, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, inputs, T, H, W) into (B, outputs, ...)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return (self.conv2(self.conv1(x)) + shortcut).relu()


def _convolution(inputs: int, outputs: int, spans: int, stride: tuple[int, int, int]) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, (spans, 3, 3), stride, (spans // 2, 1, 1), bias=False)


class SoundTower(nn.Sequential):
    """Five blocks conv_1 to conv_5 of one 3x3 convolution with BatchNorm, with pools between them.

    The paper says VGG-like, and conv_1 to conv_5; its channels aren't known.

    Parameters
    ----------
    widths : sequence of 5 int
        Channels of the blocks.
    """

    def __init__(self, widths: Sequence[int]):
        layers: list[nn.Module] = []
        inputs = 1
        for block, width in enumerate(widths):
            layers += [nn.MaxPool2d(2)] if block else []
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        super().__init__(*layers)
        initialised(self)


class AVTSNet(TwoTowers, HasSimilarity, Synchronizes):
    """Embeds clips of frames and their sound in one space, where those of the same moment are near (Figure 1).

    Parameters
    ----------
    widths : 4 int
        Channels of the frames' groups; (64, 128, 256, 512) in the paper.
    sound_widths : 5 int
        Channels of the sound's blocks, which aren't known of the paper's network.
    first_flat : {3, 2}
        The first group of convolutions that don't span time: MC3 or MC2.
    image_size : int or (int, int)
        Pixels; 224 in the paper.
    frames : int
        Frames of a clip; 25 in the paper, 1 s.
    frame_rate : float
        Frames a second.
    frontend : str
        Spectrogram of one second; 40 mel filters and 100 times are likely the paper's, which has filter banks.
    time_parts : int
        Equal parts of a clip's time whose mean maps stand side by side in "features". 1 is the paper's mean over all of
        it, which keeps what happens but not when; more are ours.
    moving : bool
        Ours: whether frames are shown as what their clip's mean picture leaves of them, with unit spread.
    joint_size : int
        Width of the two fully connected layers that end each network; not known of the paper's.
    normalized : bool
        Whether the vectors that are compared have unit length; the paper doesn't say.
    evidence : float
        As of `Multisensory`.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    def __init__(
        self,
        widths=(64, 128, 256, 512),
        sound_widths=(64, 128, 256, 512, 512),
        first_flat=3,
        image_size=224,
        frames=FRAMES,
        frame_rate=25.0,
        frontend="mel40",
        time_parts=1,
        moving=False,
        joint_size=1024,
        normalized=False,
        evidence=1.0,
    ):
        check_widths(widths)
        check_sound_widths(sound_widths)
        check_joint_size(joint_size)
        check_evidence(evidence)
        clip = FramesInput(*square_or_sides(image_size), frames, frame_rate)
        check_time_parts(time_parts, clip)
        spectrogram = build_frontend(frontend, AVTS_FRONTENDS)
        cells = sound_widths[4] * (spectrogram.shape[0] // 16) * (spectrogram.shape[1] // 16)
        sizes = {
            "audio": {"features": cells, "joint": joint_size},
            "image": {"features": widths[3] * time_parts, "joint": joint_size},
        }
        super().__init__(spectrogram, clip, sizes)
        self.time_parts, self.moving = time_parts, moving
        self.normalized, self.evidence = normalized, evidence
        self.image_tower = MixedTower(widths, first_flat)
        self.audio_tower = SoundTower(sound_widths)
        self.image_head = _head(widths[3] * time_parts, joint_size)
        self.audio_head = _head(cells, joint_size)
        self.decision = decide_halfway(MARGIN)

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn clips (B, T, H, W, 3), uint8 or floats in [0, 1], into (B, 3, T, H, W).

        They are in [-1, 1]; or, with `moving`, what the clip's mean picture leaves of them, with unit spread.
        """
        return prepare_clips(self, frames, self.moving)

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Embed spectrograms (B, 1, bins, times): conv_5, flattened, or vectors of the joint space (B, D)."""
        check_embedding(self, "audio", embedding)
        features = self.audio_tower(spectrogram).flatten(1)
        return features if embedding == "features" else self._joint(self.audio_head(features))

    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Embed clips (B, 3, T, H, W): means of the last map over parts of time, or joint vectors (B, D)."""
        check_embedding(self, "image", embedding)
        features = mean_parts(self.image_tower(frames), self.time_parts)
        return features if embedding == "features" else self._joint(self.image_head(features))

    def _joint(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors.float(), dim=1) if self.normalized else vectors

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return the input of `compare`: the joint embedding (B, D)."""
        return self.embed_audio(spectrogram, "joint")

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return the input of `compare`: the joint embedding (B, D)."""
        return self.embed_frames(frames, "joint")

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of (another moment, the same moment) from the distance of joint embeddings: (B, 2)."""
        return logits_of_distance(frames, audio, self.decision)

    def similarity(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the negated distances of all joint embeddings of clips (N, D) and sounds (M, D): (N, M)."""
        return -torch.cdist(frames.float(), audio.float())


def prepare_clips(model: AudioVisualModel, frames: Tensor, moving: bool) -> Tensor:
    """Turn clips (B, T, H, W, 3) of as many frames as the model takes into (B, 3, T, H, W), as `AVTSNet` sees them."""
    count = model.frames.count if model.frames else 0
    if frames.shape[1] != count:
        raise ValueError(f"{model.name} takes clips of {count} frames, got {tuple(frames.shape)}")
    colours = channels_first(frames)
    return what_moves(colours) if moving else colours


def check_time_parts(time_parts: int, frames: FramesInput) -> None:
    """Raise ValueError unless a clip can be taken in so many parts of time."""
    if type(time_parts) is not int or not 1 <= time_parts <= frames.count:
        raise ValueError(f"time_parts must be 1 to the number of frames, {frames.count}, got {time_parts!r}")


def mean_parts(maps: Tensor, time_parts: int) -> Tensor:
    """Average maps (B, C, T, h, w) over equal parts of their time, side by side: (B, C * time_parts)."""
    return F.adaptive_avg_pool3d(maps, (time_parts, 1, 1)).flatten(1)


def check_sound_widths(widths: Sequence[int]) -> None:
    """Raise ValueError unless there are 5 widths, one per block, each a whole number of at least 1."""
    listed = list(widths) if isinstance(widths, list | tuple) else []
    if len(listed) != 5 or not all(type(width) is int and width >= 1 for width in listed):
        raise ValueError(f"sound_widths must be the channels of 5 blocks, got {shortened(widths)}")


def _head(features: int, joint_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, joint_size), nn.ReLU(), nn.Linear(joint_size, joint_size))  # fc6, fc7
