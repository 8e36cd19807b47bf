"""OpenL3: Look, Listen, and Learn More (Cramer, Wu, Salamon and Bello, ICASSP 2019), and what its code adds to it."""

from __future__ import annotations

from torch import Tensor, nn

from .contract import FramesInput, check_embedding
from .frontends import openl3_frontend
from .l3 import L3Net, grid_sizes, pools_to_a_point
from .layers import ConvTower, TwoTowers, check_widths, pool_to_grid, square_or_sides


class OpenL3Net(L3Net):
    """L3-Net that normalises its inputs: BatchNorm before the first convolution of both towers.

    As in L3-Net, features are max-pooled from raw conv4_2 and flattened in OpenL3's order: row, column, channel. The
    decision is also that of L3-Net; OpenL3's files contain neither it nor the last BatchNorm of the towers.

    Parameters
    ----------
    input_repr : {"linear", "mel128", "mel256"}
        The spectrogram: 257 x 197, 128 x 199 or 256 x 199.
    embedding_size : {6144, 512}, optional
        Size of the sound's features, 6144 by default; those of pictures then have 8192 or 512.
    widths : 4 int
        Channels of the towers' blocks; smaller ones than OpenL3's make a compact network, as in L3-Net.
    frontend : {"kapre-0.1.4", "kapre-0.3.5", "librosa", "librosa-0.10"}
        Variant of the spectrogram: the one that OpenL3 was trained on and computed up to 0.3.1, its default since 0.4,
        or its alternative with librosa before 0.9 or since. Only those of the mel representations differ.
    image_size : int
        224 in OpenL3. A multiple of 32 is pooled into equal cells; otherwise the map's last rows and columns are left
        out.
    """

    def __init__(
        self,
        input_repr="mel256",
        embedding_size=None,
        widths=(64, 128, 256, 512),
        frontend="kapre-0.1.4",
        image_size=224,
    ):
        super().__init__(embedding_size, widths, openl3_frontend(input_repr, frontend), image_size)
        _convert_to_openl3(self.image_tower, 3)
        _convert_to_openl3(self.audio_tower, 1)


class OpenL3Towers(TwoTowers):
    """The networks in OpenL3's files: towers up to raw conv4_2, for sound, pictures or both, without a decision.

    Parameters
    ----------
    input_repr : {"linear", "mel128", "mel256", "mel64-8khz"}
        The spectrogram, as in `OpenL3Net`; the last, 64 x 50, is that of EdgeL3's small networks.
    embedding_size : int, optional
        6144 (the default) or 512 for sound, where those of pictures have 8192 or 512; 8192 stands for 6144.
    widths, frontend, image_size
        As in `OpenL3Net`.
    modalities : ("audio", "image"), ("audio",) or ("image",)
        Which towers there are.
    rectified : bool
        Whether BatchNorm and ReLU follow conv4_2, as in EdgeL3's small networks.
    """

    def __init__(
        self,
        input_repr="mel256",
        embedding_size=None,
        widths=(64, 128, 256, 512),
        frontend="kapre-0.1.4",
        image_size=224,
        modalities=("audio", "image"),
        rectified=False,
    ):
        modalities = tuple(modalities)
        if modalities not in (("audio", "image"), ("audio",), ("image",)):
            raise ValueError(f"modalities must be audio, image or both in this order, got {modalities!r}")
        check_widths(widths)
        in_cells = grid_sizes(widths[-1], to_a_point=False)
        sizes = [in_cells[modality]["features"] for modality in modalities]
        to_a_point = pools_to_a_point(embedding_size, (*sizes, widths[-1]))
        embedded = {modality: grid_sizes(widths[-1], to_a_point)[modality] for modality in modalities}
        super().__init__(openl3_frontend(input_repr, frontend), FramesInput(*square_or_sides(image_size)), embedded)
        self.to_a_point = to_a_point
        for modality, channels in (("audio", 1), ("image", 3)):
            if modality in modalities:
                tower = ConvTower(channels, widths)
                _convert_to_openl3(tower, channels)
                tower.layers = tower.layers if rectified else tower.layers[:-2]
                self.add_module(f"{modality}_tower", tower)

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Max-pool conv4_2 of spectrograms (B, 1, bins, frames): (B, 6144) from 4 x 3 cells, or (B, 512)."""
        return self._embed("audio", spectrogram, embedding, (4, 3))

    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Max-pool conv4_2 of pictures (B, 3, 224, 224): (B, 8192) from 4 x 4 cells, or (B, 512)."""
        return self._embed("image", frames, embedding, (4, 4))

    def _embed(self, modality: str, x: Tensor, embedding: str, grid: tuple[int, int]) -> Tensor:
        check_embedding(self, modality, embedding)
        return pool_to_grid(self.get_submodule(f"{modality}_tower")(x), *((1, 1) if self.to_a_point else grid))


def _convert_to_openl3(tower: ConvTower, channels: int) -> None:
    """Turn L3-Net's tower into OpenL3's: a BatchNorm first, Keras' epsilon, and, for pictures, two swapped layers."""
    layers = tower.layers
    if channels == 3:  # only conv1_2 of pictures has ReLU before BatchNorm; the published weights were trained this way
        layers[4], layers[5] = layers[5], layers[4]
    layers.insert(0, nn.BatchNorm2d(channels))
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.momentum = 1e-3, 0.01  # the defaults of Keras, which calls the latter 0.99
