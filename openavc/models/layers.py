"""The convolutional tower that all networks share, and what they state about their inputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import FRONTENDS, Frontend


class ConvTower(nn.Module):
    """Four blocks of two 3x3 convolutions, each with BatchNorm and ReLU; 2x2 max-pools between the blocks.

    L3 paper, Figure 2, and Objects that Sound, Figure 2, where `first_stride` is 2.

    Parameters
    ----------
    in_channels : int
        3 for pictures, 1 for spectrograms.
    widths : sequence of 4 int
        Channels of the blocks.
    first_stride : int or (int, int)
        Stride of conv1_1, (frequency, time) for spectrograms.
    """

    def __init__(self, in_channels: int, widths=(64, 128, 256, 512), first_stride=1):
        super().__init__()
        if not isinstance(widths, list | tuple) or len(widths) != 4:
            raise ValueError(f"widths must be the channels of 4 blocks, got {widths!r}")
        layers: list[nn.Module] = []
        for block, width in enumerate(widths):
            if block:
                layers.append(nn.MaxPool2d(2))
            stride = 1 if block else first_stride
            layers += [nn.Conv2d(in_channels, width, 3, stride=stride, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # the papers don't say; He-normal is the usual choice
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def raw(self, x: Tensor) -> Tensor:
        """conv4_2 before BatchNorm and ReLU, which the L3 paper's evaluation embeds: (B, widths[3], H, W)."""
        return self.layers[:-2](x)

    def forward(self, x: Tensor) -> Tensor:
        """conv4_2 after BatchNorm and ReLU: (B, widths[3], H, W)."""
        return self.layers(x)


class AudioVisualNet(nn.Module):
    """What every audio-visual network states about its inputs, and its one preprocessing.

    Inference and training both call `prepare_audio` and `prepare_image`.
    """

    def __init__(self, frontend: str | Frontend, image_size: int):
        super().__init__()
        if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 16:
            raise ValueError(f"image_size must be at least 16 pixels, got {image_size!r}")
        self.name = type(self).__name__  # `load_model` gives it the manifest's
        self.image_size = image_size  # pixels, of the square picture
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

    def prepare_audio(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, window_samples) to spectrograms (B, 1, bins, frames)."""
        return self.frontend.spectrogram(waveforms.float()).unsqueeze(1)

    def prepare_image(self, images: Tensor) -> Tensor:
        """Pictures (B, image_size, image_size, 3), uint8 or floats in [0, 1], to (B, 3, H, W) in [-1, 1]."""
        scale = 1 / 255 if not images.is_floating_point() else 1.0
        return images.permute(0, 3, 1, 2).float() * (2 * scale) - 1


def pool_to_grid(feature_map: Tensor, rows: int, columns: int) -> Tensor:
    """Max-pool (B, C, H, W) into rows x columns equal cells and flatten in H, W, C order: (B, rows * columns * C)."""
    height, width = feature_map.shape[2] // rows, feature_map.shape[3] // columns
    pooled = F.max_pool2d(feature_map, (height, width))[:, :, :rows, :columns]
    return pooled.permute(0, 2, 3, 1).flatten(1)


def check_embedding(embedding: str, available: tuple[str, ...], model: str) -> None:
    """ValueError unless `embedding` is one that the model has."""
    if embedding not in available:
        raise ValueError(f"{model} has no embedding {embedding!r}; it has {', '.join(map(repr, available))}")
