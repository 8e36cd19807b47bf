"""OpenL3: Look, Listen, and Learn More (Cramer, Wu, Salamon and Bello, ICASSP 2019), and what its code adds to it."""

from __future__ import annotations

from torch import nn

from ..openl3_frontends import OPENL3_FRONTENDS
from .l3 import L3Net
from .layers import ConvTower


class OpenL3Net(L3Net):
    """L3-Net that normalises its inputs: BatchNorm before the first convolution of both towers.

    As in L3-Net, features are max-pooled from raw conv4_2 and flattened row, column, channel: OpenL3's order. The
    decision is L3-Net's too; OpenL3's files don't hold it, nor the last BatchNorm of the towers.

    Parameters
    ----------
    input_repr : {"linear", "mel128", "mel256"}
        The spectrogram: 257 x 197, 128 x 199 or 256 x 199.
    embedding_size : {6144, 512}, optional
        Of the sound's features, 6144 by default; pictures then give 8192 or 512.
    widths : 4 int
        Channels of the towers' blocks; smaller ones than OpenL3's make a compact network, as in L3-Net.
    frontend : {"kapre-0.1.4", "kapre-0.3.5", "librosa", "librosa-0.10"}
        Whose spectrogram: what OpenL3 was trained on and gave up to 0.3.1, its default since 0.4, or its other one,
        with librosa before 0.9 or after. They differ for the mel representations.
    image_size : int
        224 in OpenL3. A multiple of 32 is pooled into equal cells; otherwise the map's last rows and columns are left
        out.
    """

    title = "OpenL3"

    def __init__(
        self,
        input_repr="mel256",
        embedding_size=None,
        widths=(64, 128, 256, 512),
        frontend="kapre-0.1.4",
        image_size=224,
    ):
        if input_repr not in OPENL3_FRONTENDS:
            raise ValueError(f"unknown input_repr {input_repr!r}; known: {', '.join(OPENL3_FRONTENDS)}")
        variants = OPENL3_FRONTENDS[input_repr]
        if frontend not in variants:
            raise ValueError(f"unknown frontend {frontend!r}; known: {', '.join(variants)}")
        super().__init__(embedding_size, widths, variants[frontend], image_size)
        # conv1_2 of pictures, alone: ReLU before BatchNorm, a slip that the published weights were trained with
        layers = self.image_tower.layers
        layers[4], layers[5] = layers[5], layers[4]
        _normalise_input(self.image_tower, 3)
        _normalise_input(self.audio_tower, 1)

    def prepare_audio(self, waveforms):
        """Waveforms (B, 48000), float64 or less, to spectrograms (B, 1, bins, frames)."""
        return self.frontend.spectrogram(waveforms).unsqueeze(1)


def _normalise_input(tower: ConvTower, channels: int) -> None:
    tower.layers.insert(0, nn.BatchNorm2d(channels))
    for layer in tower.layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.momentum = 1e-3, 0.01  # Keras' defaults, which calls the latter 0.99
