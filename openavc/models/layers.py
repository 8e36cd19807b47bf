"""The convolutional towers that all networks share, and what they state about their inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import FRONTENDS, Frontend
from ..image import height_and_width
from ..motion import only_frame, run_needed

_LAYERS = {2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d), 3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)}
_CONVOLUTIONS, _POOLS = (nn.Conv2d, nn.Conv3d), (nn.MaxPool2d, nn.MaxPool3d)
_MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of a map's axes


class ConvTower(nn.Module):
    """Four blocks of two convolutions, each with BatchNorm and ReLU; max-pools between the blocks.

    As it stands, with 3x3 convolutions and 2x2 pools: L3 paper, Figure 2, and Objects that Sound, Figure 2, where
    `first_stride` is 2.

    Parameters
    ----------
    in_channels : int
        3 for pictures, 1 for spectrograms.
    widths : sequence of 4 int
        Channels of the blocks.
    first_stride : int or (int, int)
        Stride of conv1_1, (frequency, time) for spectrograms.
    time_padding : bool
        Whether convolutions pad the second axis. Without, the map of a long spectrogram holds the maps of all the
        windows in it, each a slice.
    second_kernels : sequence of 4 (int, int) or of 4 (int, int, int)
        Of the second convolution of each block. The first has 3 in as many dimensions.
    last_pool : int or tuple of int
        Of the pool between the last two blocks.
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
        if not isinstance(widths, list | tuple) or len(widths) != 4:
            raise ValueError(f"widths must be the channels of 4 blocks, got {widths!r}")
        layers: list[nn.Module] = []
        for block, (width, kernel) in enumerate(zip(widths, second_kernels, strict=True)):
            if block:
                pool = _LAYERS[len(kernel)][2]
                layers.append(pool(last_pool if block == 3 else 2))
            layers += _block(in_channels, width, 1 if block else first_stride, kernel, time_padding)
            in_channels = width
        self.layers = _initialised(nn.Sequential(*layers))

    def raw(self, x: Tensor) -> Tensor:
        """conv4_2 before BatchNorm and ReLU, which the L3 paper's evaluation embeds: (B, widths[3], H, W)."""
        return self.layers[:-2](_channels_last(x))

    def spans(self, frames: int) -> list[tuple[int, int]]:
        """For the map of each block, if time isn't padded: the columns of a window of `frames`, and their stride."""
        columns, stride, found = frames, 1, []
        for layer in self.layers:
            if isinstance(layer, _POOLS):
                found.append((columns, stride))
            if isinstance(layer, (*_CONVOLUTIONS, *_POOLS)):
                kernel, step = _along_time(layer.kernel_size), _along_time(layer.stride)
                columns, stride = (columns - kernel) // step + 1, stride * step
        return [*found, (columns, stride)]

    def blocks(self, x: Tensor) -> list[Tensor]:
        """The maps that the four blocks end with."""
        return _maps(self.layers, x)

    def forward(self, x: Tensor) -> Tensor:
        """conv4_2 after BatchNorm and ReLU: (B, widths[3], H, W)."""
        return self.layers(_channels_last(x))


class TwoStreamTower(nn.Module):
    """A picture and its optical flow, each through blocks of its own up to pool3, then together (AVE+OF).

    Objects that Sound: a second copy of conv1_1 to pool3 sees the flow; conv4_1 and conv4_2 see the maps of both,
    14 x 14 x (256 + 256).

    Parameters
    ----------
    flow_channels : int
        20 in the paper: two of each of 10 fields.
    widths : sequence of 4 int
        As in `ConvTower`.
    """

    def __init__(self, flow_channels: int, widths=(64, 128, 256, 512)):
        super().__init__()
        self.picture, self.flow = (  # conv1_1 to pool3
            ConvTower(channels, widths, first_stride=2).layers[:-6] for channels in (3, flow_channels)
        )
        self.together = _initialised(nn.Sequential(*_block(2 * widths[2], widths[3])))

    def streams(self, x: Tensor) -> Tensor:
        """pool3 of both, side by side: (B, 2 * widths[2], H, W)."""
        picture, flow = _channels_last(x[:, :3]), _channels_last(x[:, 3:])
        return torch.cat([self.picture(picture), self.flow(flow)], dim=1)

    def raw(self, x: Tensor) -> Tensor:
        """As `ConvTower.raw`."""
        return self.together[:-2](self.streams(x))

    def blocks(self, x: Tensor) -> list[Tensor]:
        """The maps that the four blocks end with, the first three of both streams side by side."""
        both = zip(_maps(self.picture, x[:, :3]), _maps(self.flow, x[:, 3:]), strict=True)
        *maps, pooled = [torch.cat(pair, dim=1) for pair in both]
        return [*maps, self.together(pooled)]

    def forward(self, x: Tensor) -> Tensor:
        """conv4_2 after BatchNorm and ReLU, from pictures beside flow (B, 3 + flow_channels, H, W)."""
        return self.together(self.streams(x))


def _block(
    in_channels: int, width: int, first_stride=1, second_kernel=(3, 3), time_padding: bool = True
) -> list[nn.Module]:
    """Two convolutions, each with BatchNorm and ReLU."""
    convolution, batch_norm, _ = _LAYERS[len(second_kernel)]
    layers: list[nn.Module] = []
    for inside, kernel, stride in (
        (in_channels, (3,) * len(second_kernel), first_stride),
        (width, second_kernel, 1),
    ):
        padding = (*(size // 2 for size in kernel[:-1]), kernel[-1] // 2 if time_padding else 0)
        layers += [convolution(inside, width, kernel, stride, padding), batch_norm(width), nn.ReLU()]
    return layers


def _initialised(layers: nn.Sequential) -> nn.Sequential:
    """The same layers; the papers don't say how they begin, He-normal is the usual choice."""
    for layer in layers:
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return layers


def _maps(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What goes into each pool, and what comes out in the end; a tower's maps, those that its blocks end with."""
    maps, x = [], _channels_last(x)
    for layer in layers:
        if isinstance(layer, _POOLS):
            maps.append(x)
        x = layer(x)
    return [*maps, x]


class AudioVisualNet(nn.Module):
    """What every audio-visual network states about its inputs, and its one preprocessing.

    Inference and training both call `prepare_audio` and `prepare_image`.
    """

    def __init__(self, frontend: str | Frontend, image_size: int | tuple[int, int]):
        super().__init__()
        sides = image_size if isinstance(image_size, list | tuple) else [image_size] * 2
        if len(sides) != 2 or not all(type(side) is int and side >= 16 for side in sides):
            raise ValueError(f"image_size must be at least 16 pixels, or such a (height, width), got {image_size!r}")
        self.name = type(self).__name__  # `load_model` gives it the manifest's
        self.slice_samples: int | None = None  # windows so many samples apart can share one pass, see `embed_slices`
        self.image_size = tuple(image_size) if isinstance(image_size, list) else image_size  # pixels; see `fit`
        self.frames, self.join_frames = 1, only_frame  # consecutive ones, and how they make one image; see `motion`
        if not isinstance(frontend, Frontend) and frontend not in FRONTENDS:
            raise ValueError(f"unknown frontend {frontend!r}; known: {', '.join(FRONTENDS)}")
        self.frontend = frontend if isinstance(frontend, Frontend) else FRONTENDS[frontend]

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.frontend.sample_rate

    @property
    def window_seconds(self) -> float:
        return self.frontend.window_seconds

    @property
    def window_samples(self) -> int:
        return self.frontend.window_samples

    @property
    def waveform_dtype(self) -> str:
        """Of what `prepare_audio` takes."""
        return self.frontend.dtype

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one of the images that `prepare_image` takes, which `join_frames` makes of `frames` frames."""
        return (*height_and_width(self.image_size), 3)

    def prepare_audio(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, window_samples), or longer ones, to spectrograms (B, 1, bins, frames)."""
        return self.frontend.spectrogram(waveforms.float()).unsqueeze(1)

    def prepare_image(self, images: Tensor) -> Tensor:
        """Pictures (B, H, W, 3) of `image_size`, uint8 or floats in [0, 1], to (B, 3, H, W) in [-1, 1].

        Where the network takes runs of frames, images of `image_shape`, (B, ..., C), to (B, C, ...).
        """
        if self.frames > 1 and images.shape[1:] != self.image_shape:
            raise ValueError(f"{run_needed(self)}; got an image of shape {tuple(images.shape[1:])}")
        scale = 1 / 255 if not images.is_floating_point() else 1.0
        return images.movedim(-1, 1).float() * (2 * scale) - 1


def _channels_last(x: Tensor) -> Tensor:
    """The same with channels last in memory, which all layers keep: max-pools are several times faster so."""
    return x.clone(memory_format=_MEMORY_FORMATS[x.dim()])  # contiguous() leaves a single channel as it is


def weights_channels_last(network: nn.Module) -> nn.Module:
    """The same network, whose convolutions keep their weights as the maps are."""
    for layer in network.modules():
        if isinstance(layer, _CONVOLUTIONS):
            layer.to(memory_format=_MEMORY_FORMATS[layer.weight.dim()])
    return network


def _along_time(size: int | tuple[int, int]) -> int:
    return size if isinstance(size, int) else size[1]


def one_pass_tower(widths) -> ConvTower:
    """The compact sound tower, ours: a window's map is a slice of the map of the whole recording.

    Nothing is padded in time, and the field of view is small enough (32 of 77 frames) to leave 12 columns of a window
    to pool over: the last two blocks mix in time once, not twice, and the last pool is over frequency alone.
    """
    kernels = ((3, 3), (3, 3), (3, 1), (3, 1))
    return ConvTower(1, widths, (2, 1), time_padding=False, second_kernels=kernels, last_pool=(2, 1))


def motion_tower(widths) -> ConvTower:
    """Pictures of several frames, (B, 3, T, H, W), through 3-D convolutions (AVE+MF), to (B, widths[3], T / 8, H, W).

    Objects that Sound says no more than that the convolutions are 3-D; the rest is ours. They are 3 x 3 x 3. Time is
    halved where space is, by the stride of conv1_1 and by the pools, as maps of all 25 frames would cost 75 times what
    those of a picture do; so it is 17 times. The last pool leaves time alone: of 25 frames there are 3 by then (25, 13,
    6, 3), so that conv4_1 and conv4_2 see change, too.
    """
    return ConvTower(3, widths, first_stride=2, second_kernels=((3, 3, 3),) * 4, last_pool=(1, 2, 2))


def pool_windows(feature_map: Tensor, columns: int, step: int) -> tuple[Tensor, Tensor]:
    """Maximum and mean of each window of `columns`, `step` apart, of maps (B, C, H, W): (B, T, C) each."""
    maximum = feature_map.amax(dim=2).unfold(2, columns, step).amax(dim=3)  # (B, C, T)
    mean = feature_map.mean(dim=2).unfold(2, columns, step).mean(dim=3)
    return maximum.transpose(1, 2), mean.transpose(1, 2)


def pool_to_grid(feature_map: Tensor, rows: int, columns: int) -> Tensor:
    """Max-pool (B, C, H, W) into rows x columns equal cells and flatten in H, W, C order: (B, rows * columns * C)."""
    height, width = feature_map.shape[2] // rows, feature_map.shape[3] // columns
    pooled = F.max_pool2d(feature_map, (height, width))[:, :, :rows, :columns]
    return pooled.permute(0, 2, 3, 1).flatten(1)


def check_embedding(embedding: str, available: tuple[str, ...], model: str) -> None:
    """ValueError unless `embedding` is one that the model has."""
    if embedding not in available:
        raise ValueError(f"{model} has no embedding {embedding!r}; it has {', '.join(map(repr, available))}")
