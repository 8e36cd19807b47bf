"""Separation of a video's sound into what its pictures show and the rest (Owens & Efros, ECCV 2018, section 3.4).

arXiv 1804.03641. A u-net turns the spectrogram of a mixture into those of its two parts; on its way down it is given
what a Multisensory network, inside the same one, makes of the frames and the mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import FramesInput, Separates, SoundInput
from .layers import check_widths, square_or_sides
from .multisensory import Multisensory, pad_same
from .stft import STFT, masked

KERNEL = 4  # bins and times of each convolution
MERGED = (2, 3, 4)  # numbers of the convolutions behind which the features of frames and sound are merged
FEATURES = ("video", "frame", "none")
ESTIMATES = ("spectrograms", "masks")
PHASES = ("predicted", "mixture")
SOURCE_LEVEL = 0.1  # root mean square of each part of the mixtures that are learned from
_LEAST_LEVEL = 1e-4  # as in the authors' code; what is quieter stays quieter


def to_level(samples: Tensor, level: float) -> Tensor:
    """Scale samples (B, n, channels) to a root mean square; silence stays silent."""
    return samples * (level / _root_mean_square(samples).clamp(min=_LEAST_LEVEL))


def _root_mean_square(samples: Tensor) -> Tensor:
    return samples.square().mean(dim=(1, 2), keepdim=True).sqrt()


class Down(nn.Module):
    """A convolution that halves bins, and times too if asked, with BatchNorm and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(inputs, outputs, KERNEL, stride, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, inputs, bins, times) into (B, outputs, bins / 2, times or times / 2), rounded up."""
        return F.leaky_relu(self.norm(self.conv(pad_same(x, (KERNEL, KERNEL), self.stride))), 0.2)


class Up(nn.Module):
    """A ReLU and a transposed convolution, the reverse of `Down`; with BatchNorm unless it is a head."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int], head: bool = False):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, KERNEL, stride, padding=1, bias=head)
        self.norm = nn.Identity() if head else nn.BatchNorm2d(outputs, eps=1e-5)

    def forward(self, x: Tensor, bins: int, times: int) -> Tensor:
        """Turn (B, inputs, bins / 2, ...) into (B, outputs, bins, times)."""
        return self.norm(self.conv(x.relu())[..., :bins, :times])


class UNet(nn.Module):
    """The u-net of the paper, for spectrograms of any size: it halves times until one is left.

    Parameters
    ----------
    widths : sequence of 4 int
        Channels of the first four convolutions down; later ones have as many as the fourth. The paper's are (64, 128,
        256, 512).
    merged : sequence of 3 int
        Channels of the features that are merged behind the third, fourth and fifth convolution; 0 for none.
    times : int
        Of the spectrograms.
    outputs : int
        Maps of each part.

    Raises
    ------
    ValueError
        If there are too few times for five convolutions.
    """

    def __init__(self, widths: Sequence[int], merged: Sequence[int], times: int, outputs: int = 2):
        super().__init__()
        if times <= 4:
            raise ValueError(f"the spectrogram of a window must have at least 5 times, got {times}: lower the hop")
        depth = 2 + math.ceil(math.log2(times))  # the first two keep times
        strides = [(2, 1 if level < 2 else 2) for level in range(depth)]
        channels = [widths[min(level, 3)] for level in range(depth)]
        extra = dict(zip(MERGED, merged, strict=True))
        skips = [width + extra.get(level, 0) for level, width in enumerate(channels)]  # the merged maps
        self.down = nn.ModuleList(
            Down(inputs, width, stride) for inputs, width, stride in zip([2, *skips], channels, strides, strict=False)
        )
        inputs = [skips[-1], *(below + skip for below, skip in zip(channels[-2::-1], skips[-2::-1], strict=True))]
        self.up = nn.ModuleList(
            Up(width, output, stride)
            for width, output, stride in zip(inputs, channels[-2::-1], strides[::-1], strict=False)
        )
        self.heads = nn.ModuleList(Up(inputs[-1], outputs, strides[0], head=True) for _ in ("on screen", "off screen"))
        for layer in self.modules():
            if isinstance(layer, Down | Up) and not layer.conv.weight.is_meta:  # shapes have no numbers
                _initialise(layer)

    def forward(self, spectrogram: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Turn a mixture's spectrogram into maps of its parts.

        Parameters
        ----------
        spectrogram : Tensor, shape (B, 2, bins, times)
        features : sequence of 3 Tensor, shape (B, C, t)
            Of frames and sound, at any number of times; empty if none are merged.

        Returns
        -------
        parts : Tensor, shape (B, 2, outputs, bins, times)
            On screen and off screen, of any size.
        """
        extra, x, skips = dict(zip(MERGED, features, strict=False)), spectrogram, []
        for level, down in enumerate(self.down):
            x = down(x)
            if level in extra:
                x = merge(x, extra[level])
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            skip = skips.pop()
            x = torch.cat([up(x, *skip.shape[2:]), skip], dim=1)
        return torch.stack([head(x, *spectrogram.shape[2:]) for head in self.heads], dim=1)


def merge(x: Tensor, features: Tensor) -> Tensor:
    """Join features (B, C, t) to maps (B, D, bins, times) at every bin: (B, D + C, bins, times).

    Times are interpolated linearly; the paper doesn't say how.
    """
    resized = F.interpolate(features.to(x.dtype), size=x.shape[3], mode="linear", align_corners=False)
    return torch.cat([x, resized[:, :, None].expand(-1, -1, x.shape[2], -1)], dim=1)


def _initialise(layer: Down | Up) -> None:
    """Draw weights from N(0, 0.02), and scales of BatchNorm from N(1, 0.02)."""
    nn.init.normal_(layer.conv.weight, 0.0, 0.02)
    if layer.conv.bias is not None:
        nn.init.zeros_(layer.conv.bias)
    if isinstance(layer.norm, nn.BatchNorm2d):
        nn.init.normal_(layer.norm.weight, 1.0, 0.02)


class SeparationNet(Separates):
    """The network of section 3.4 and Figure 6, or a compact one of the same layers.

    The paper's batch renormalisation is plain BatchNorm here. Times are in samples of the sound.

    Parameters
    ----------
    widths : sequence of 4 int
        Channels of the u-net's first four convolutions; later ones have as many as the fourth.
    sync_widths : sequence of 4 int
        `widths` of the Multisensory network inside, whose other options are those of the same names.
    features : {"video", "frame", "none"}
        What the u-net is given beside the spectrogram. "frame": as if the frame in the middle stood still all the time.
        "none": nothing, so that the parts come in any order, and there is no Multisensory network.
    estimates : {"spectrograms", "masks"}
        What the u-net tells of each part: its magnitudes and phases, as in the paper, or, ours, which share of the
        mixture's spectrogram it is, at each bin and time. With shares, the two parts add up to the mixture.
    phase : {"predicted", "mixture"}
        The phase of the waveforms; with masks it is the mixture's in any case.
    window, hop, fft_size : int
        Of the Fourier transform; the paper's are 64 ms, 16 ms and 2048.
    image_size : int or (int, int)
        Pixels.
    frames : int
        Frames of a clip; 63 in the paper, 2.1 s.
    frame_rate : float
        Frames a second.
    sample_rate : int
        Hz; the sound is stereo and as long as the frames.
    frontend : str, optional
        Of the Multisensory network: a spectrogram of `frontends`, in place of the waveform.
    moving : bool
        Of the Multisensory network.
    norm_decay : float
        Of the running statistics of all BatchNorms.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        sync_widths: Sequence[int] = (64, 128, 256, 512),
        features: str = "video",
        estimates: str = "spectrograms",
        phase: str = "predicted",
        window: int = 1344,
        hop: int = 336,
        fft_size: int = 2048,
        image_size: int | Sequence[int] = 224,
        frames: int = 63,
        frame_rate: float = 29.97,
        sample_rate: int = 21_000,
        frontend: str | None = None,
        moving: bool = False,
        norm_decay: float = 0.9997,
    ):
        check_widths(widths)
        _check_choice("features", features, FEATURES)
        _check_choice("estimates", estimates, ESTIMATES)
        _check_choice("phase", phase, PHASES)
        super().__init__(
            SoundInput(sample_rate, frames / frame_rate, channels=2),
            FramesInput(*square_or_sides(image_size), count=frames, rate=frame_rate),
            {},
        )
        self.features, self.estimates, self.phase = features, estimates, phase
        self.blind, self.source_level = features == "none", SOURCE_LEVEL
        self.stft = STFT(self.sound.samples, window, hop, fft_size)
        self.edge = self.stft.edge
        self.sync: Multisensory | None = None
        if not self.blind:
            self.sync = Multisensory(
                sync_widths,
                image_size,
                frames,
                frame_rate,
                sample_rate,
                norm_decay=norm_decay,
                norm_scale=True,
                frontend=frontend,
                moving=moving,
            )
        first, second, _, fourth = sync_widths if self.sync else [0] * 4
        self.unet = UNet(widths, (first, second, fourth), self.stft.times, 1 if estimates == "masks" else 2)
        for layer in self.unet.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1 - norm_decay

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Return samples (B, n, 2) as they are: the two parts of the network prepare them differently."""
        return samples

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn frames (B, T, H, W, 3), uint8 or floats in [0, 1], into what `Multisensory` takes."""
        if self.sync is None:
            return frames
        prepared = self.sync.prepare_frames(frames)
        if self.features == "frame":
            middle = prepared.shape[2] // 2
            prepared = prepared[:, :, middle : middle + 1].expand_as(prepared)
        return prepared

    def to_spectrogram(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, channels) into the spectrogram of their mean, (B, 2, bins, times)."""
        return self.stft(samples.mean(dim=2))

    def video_features(self, frames: Tensor, samples: Tensor) -> list[Tensor]:
        """Return the means over all places of conv2_2, before the fusion, conv3_2 and conv5_2: (B, C, t) each."""
        if self.sync is None:
            return []
        heard = self.sync.prepare_audio(samples.float()).to(self.dtype)
        seen = self.sync.represent_frames(frames)
        third, _, fifth = self.sync.stages(seen, self.sync.represent_audio(heard))
        return [maps.mean(dim=(3, 4)) for maps in (seen, third, fifth)]

    def separate_spectrogram(self, frames: Tensor, samples: Tensor) -> Tensor:
        """Turn frames, prepared, and a mixture (B, n, 2) at the level of training into (B, 2, 2, bins, times)."""
        spectrogram = self.to_spectrogram(samples)
        parts = self.unet(spectrogram, self.video_features(frames, samples))
        return masked(spectrogram, parts.float().log_softmax(dim=1)) if self.estimates == "masks" else parts.tanh()

    def separate(self, frames: Tensor, samples: Tensor) -> Tensor:
        """Separate mixtures (B, n, 2) of any level into waveforms on and off screen, (B, 2, n), at that level."""
        level = math.sqrt(2) * self.source_level  # of the sum of two parts
        scaled = to_level(samples, level)
        parts = self.separate_spectrogram(frames, scaled.to(samples.dtype))
        mixture = scaled.mean(dim=2).repeat_interleave(2, dim=0)
        waveforms = self.stft.invert(parts.flatten(0, 1), mixture, self.phase == "predicted")
        return waveforms.unflatten(0, (-1, 2)) * (_root_mean_square(samples) / level)


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
