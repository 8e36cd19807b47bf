"""The convolutional towers and poolings that the papers' networks share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import EmbedsAudio, EmbedsFrames, FramesInput, HasTowers, SoundInput
from .frontends import Frontend

Network = TypeVar("Network", bound=nn.Module)
_LAYERS: dict[int, Any] = {2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d), 3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)}
_CONVOLUTIONS, _POOLS = (nn.Conv2d, nn.Conv3d), (nn.MaxPool2d, nn.MaxPool3d)
LARGEST_SIDE = 4096  # pixels; one such picture takes about a gigabyte in the first layers
MOST_EVIDENCE = 10  # of a network that is far less sure than it might be
_STILL = 0.005  # spread of values in [-1, 1] around a clip's mean picture below which noise isn't to be amplified
_MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of a map's axes


class ConvTower(nn.Module):
    """Four blocks of two convolutions, each with BatchNorm and ReLU, and max-pools between the blocks.

    With the defaults, 3x3 convolutions and 2x2 pools, it is the tower of the L3 paper, Figure 2; with a `first_stride`
    of 2, that of Objects that Sound, Figure 2.

    Parameters
    ----------
    in_channels : int
        3 for pictures, 1 for spectrograms.
    widths : sequence of 4 int
        Channels of the blocks.
    first_stride : int or (int, int)
        Stride of conv1_1, (frequency, time) for spectrograms.
    time_padding : bool
        Whether convolutions pad the second axis. Without padding, the map of a long spectrogram contains the maps of
        all its windows, each as a slice.
    second_kernels : sequence of 4 (int, int) or of 4 (int, int, int)
        Kernel of the second convolution of each block. That of the first has 3 in each dimension.
    last_pool : int or tuple of int
        Kernel of the pool between the last two blocks.
    """

    def __init__(
        self,
        in_channels: int,
        widths=(64, 128, 256, 512),
        first_stride=1,
        time_padding=True,
        second_kernels=((3, 3),) * 4,
        last_pool=(2, 2),
    ):
        super().__init__()
        check_widths(widths)
        layers: list[nn.Module] = []
        for block, (width, kernel) in enumerate(zip(widths, second_kernels, strict=True)):
            if block:
                pool = _LAYERS[len(kernel)][2]
                layers.append(pool(last_pool if block == 3 else 2))
            layers += conv_block(in_channels, width, 1 if block else first_stride, kernel, time_padding)
            in_channels = width
        self.layers = initialised(nn.Sequential(*layers))

    def raw(self, x: Tensor) -> Tensor:
        """Return conv4_2 before BatchNorm and ReLU, as embedded in the L3 paper: (B, widths[3], H, W)."""
        return self.layers[:-2](channels_last(x))

    def spans(self, frames: int) -> list[tuple[int, int]]:
        """Return (columns of a window of `frames`, their stride) in each block's map, if time isn't padded."""
        columns, stride, spans = frames, 1, []
        for layer in self.layers:
            if isinstance(layer, _POOLS):
                spans.append((columns, stride))
            if isinstance(layer, (*_CONVOLUTIONS, *_POOLS)):
                kernel, step = _along_time(layer.kernel_size), _along_time(layer.stride)
                columns, stride = (columns - kernel) // step + 1, stride * step
        return [*spans, (columns, stride)]

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Return the output maps of the four blocks."""
        return block_maps(self.layers, x)

    def forward(self, x: Tensor) -> Tensor:
        """Return conv4_2 after BatchNorm and ReLU: (B, widths[3], H, W)."""
        return self.layers(channels_last(x))


def conv_block(
    in_channels: int, width: int, first_stride=1, second_kernel=(3, 3), time_padding: bool = True
) -> list[nn.Module]:
    """Make two convolutions, each with BatchNorm and ReLU."""
    convolution, batch_norm, _ = _LAYERS[len(second_kernel)]
    layers: list[nn.Module] = []
    for inside, kernel, stride in (
        (in_channels, (3,) * len(second_kernel), first_stride),
        (width, second_kernel, 1),
    ):
        padding = (*(size // 2 for size in kernel[:-1]), kernel[-1] // 2 if time_padding else 0)
        layers += [convolution(inside, width, kernel, stride, padding), batch_norm(width), nn.ReLU()]
    return layers


def initialised(layers: nn.Sequential) -> nn.Sequential:
    """Initialise convolutions He-normal, the usual choice, as the papers don't specify any."""
    for layer in layers:
        if isinstance(layer, _CONVOLUTIONS) and not layer.weight.is_meta:  # shapes have no numbers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers


def block_maps(layers: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Run a tower and return the output maps of its blocks: the input of each pool and the final output."""
    maps, x = [], channels_last(x)
    for layer in layers:
        if isinstance(layer, _POOLS):
            maps.append(x)
        x = layer(x)
    return [*maps, x]


class TwoTowers(EmbedsAudio, EmbedsFrames, HasTowers):
    """A tower for pictures and one for spectrograms, with the papers' preparation of both.

    Parameters
    ----------
    frontend : Frontend
    frames : FramesInput
    embedding_sizes : dict
        As in `AudioVisualModel`.
    """

    def __init__(self, frontend: Frontend, frames: FramesInput, embedding_sizes: dict[str, dict[str, int]]):
        sound = SoundInput(frontend.sample_rate, frontend.seconds, dtype=frontend.dtype)
        super().__init__(
            sound if "audio" in embedding_sizes else None,
            frames if "image" in embedding_sizes else None,
            embedding_sizes,
        )
        self.frontend = frontend

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, 1), of one window or of many, into spectrograms (B, 1, bins, frames)."""
        if samples.shape[-1] != 1:
            raise ValueError(f"{self.name} takes mono sound, (B, n, 1), got {tuple(samples.shape)}")
        return self.frontend(samples[..., 0]).unsqueeze(1)

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn pictures (B, 1, H, W, 3), uint8 or floats in [0, 1], into (B, 3, H, W) in [-1, 1]."""
        if frames.shape[1] != 1:
            raise ValueError(f"{self.name} takes single pictures, (B, 1, H, W, 3), got {tuple(frames.shape)}")
        return channels_first(frames[:, 0])


def channels_first(frames: Tensor) -> Tensor:
    """Turn colours (B, ..., C), uint8 or floats in [0, 1], into (B, C, ...) in [-1, 1]."""
    scale = 1.0 if frames.is_floating_point() else 1 / 255
    return frames.movedim(-1, 1).float() * (2 * scale) - 1


def check_widths(widths: Sequence[int]) -> None:
    """Raise ValueError unless there are 4 widths, one per block, each a whole number of at least 1."""
    if not isinstance(widths, list | tuple) or len(widths) != 4:
        raise ValueError(f"widths must be the channels of 4 blocks, got {shortened(widths)}")
    if not all(type(width) is int and width >= 1 for width in widths):
        raise ValueError(f"widths must be whole numbers of at least 1, got {shortened(widths)}")


def check_joint_size(size: int) -> None:
    """Raise ValueError unless a joint space can have that many dimensions."""
    if type(size) is not int or size < 1:
        raise ValueError(f"joint_size must be a whole number of at least 1, got {shortened(size)}")


def check_evidence(evidence: float) -> None:
    """Raise ValueError unless a window's logit can have that weight beside those of its neighbours."""
    if not 0 < evidence <= MOST_EVIDENCE:
        raise ValueError(f"evidence must be above 0 and at most {MOST_EVIDENCE}, got {evidence!r}")


def shortened(value: object) -> str:
    """Return a value as text for a message, however long it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def square_or_sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and width that the option `image_size` stands for; raise ValueError if it is invalid."""
    sides: list = list(image_size) if isinstance(image_size, list | tuple) else [image_size] * 2
    if len(sides) != 2 or not all(type(side) is int and 16 <= side <= LARGEST_SIDE for side in sides):
        raise ValueError(
            f"image_size must be 16 to {LARGEST_SIDE} pixels, or such a (height, width), got {shortened(image_size)}"
        )
    return sides[0], sides[1]


def what_moves(colours: Tensor) -> Tensor:
    """Return what a clip's mean picture leaves of its frames (B, 3, T, H, W), with unit spread over each clip."""
    changing = colours - colours.mean(dim=2, keepdim=True)
    return changing / (changing.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt() + _STILL)


def channels_last(x: Tensor) -> Tensor:
    """Copy maps to channels-last memory, which all layers keep: it makes max-pools several times faster."""
    return x.clone(memory_format=_MEMORY_FORMATS[x.dim()])  # contiguous() leaves a single channel as it is


def weights_channels_last(network: Network) -> Network:
    """Lay out the weights of a network's convolutions channels-last, like its maps, and return the network."""
    for layer in network.modules():
        if isinstance(layer, _CONVOLUTIONS):
            layer.weight.data = channels_last(layer.weight.data)
    return network


def _along_time(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[1]


def one_pass_tower(widths: Sequence[int]) -> ConvTower:
    """Build the compact sound tower, ours: a window's map is a slice of the map of the whole recording.

    Nothing is padded in time, and the field of view is small enough (32 of 77 frames) to leave 12 columns of a window
    to pool over: the last two blocks mix in time once, not twice, and the last pool is only over frequency.
    """
    kernels = ((3, 3), (3, 3), (3, 1), (3, 1))
    return ConvTower(1, widths, (2, 1), time_padding=False, second_kernels=kernels, last_pool=(2, 1))


def decide_halfway(largest: float) -> nn.Linear:
    """Make the layer for `logits_of_distance`; it is undecided at half the largest distance.

    A larger distance must count against correspondence from the start (Objects that Sound, section 3.2).
    """
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.bias.copy_(torch.tensor([-largest / 2, largest / 2]))
    return layer


def logits_of_distance(frames: Tensor, audio: Tensor, decision: nn.Linear) -> Tensor:
    """Return the logits of (no correspondence, correspondence) from the distances of vectors (B, D): (B, 2)."""
    distance = pair_distances(frames, audio)[:, None]
    weight, bias = decision.weight[:, 0], decision.bias  # no matrix product: autocast would round it
    return distance.to(weight.dtype) * weight + bias


def pair_distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the Euclidean distances of vectors (B, D), with a finite gradient at 0: (B,)."""
    return ((first - second).square().sum(dim=-1) + 1e-12).sqrt()


def pool_windows(feature_map: Tensor, columns: int, step: int) -> tuple[Tensor, Tensor]:
    """Return the maximum and the mean of windows of `columns`, `step` apart, in maps (B, C, H, W): (B, T, C) each."""
    maximum = feature_map.amax(dim=2).unfold(2, columns, step).amax(dim=3)  # (B, C, T)
    mean = feature_map.mean(dim=2).unfold(2, columns, step).mean(dim=3)
    return maximum.transpose(1, 2), mean.transpose(1, 2)


def pool_to_grid(feature_map: Tensor, rows: int, columns: int) -> Tensor:
    """Max-pool (B, C, H, W) into rows x columns equal cells and flatten in H, W, C order: (B, rows * columns * C)."""
    height, width = feature_map.shape[2] // rows, feature_map.shape[3] // columns
    pooled = F.max_pool2d(feature_map, (height, width))[:, :, :rows, :columns]
    return pooled.permute(0, 2, 3, 1).flatten(1)
