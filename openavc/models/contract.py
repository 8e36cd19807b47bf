"""What every network states about its inputs, and what it can do: each ability is a class that it inherits.

Sound goes through `prepare_audio` to what the sound tower takes, frames through `prepare_frames`; inference and
training call the same two. Code asks `isinstance(model, Compares)`, never for the name of an architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..media.clips import FramesInput, SoundInput

__all__ = [
    "AudioVisualModel",
    "Compares",
    "EmbedsAudio",
    "EmbedsFrames",
    "FramesInput",
    "Fuses",
    "HasSimilarity",
    "HasTowers",
    "Localizes",
    "Slices",
    "SoundInput",
    "check_embedding",
]


def unchanged(frames: np.ndarray) -> np.ndarray:
    """Return a clip's frames as they are."""
    return frames


class AudioVisualModel(nn.Module, ABC):
    """A network that states what it takes and what it gives.

    Parameters
    ----------
    sound : SoundInput or None
        None for a network that hears nothing.
    frames : FramesInput or None
        None for a network that sees nothing.
    embedding_sizes : dict
        Modality -> embedding -> size, such as {"audio": {"features": 512, "joint": 128}, "image": {...}}. Modalities
        that it doesn't embed are missing.
    """

    def __init__(
        self, sound: SoundInput | None, frames: FramesInput | None, embedding_sizes: dict[str, dict[str, int]]
    ):
        super().__init__()
        self.sound: SoundInput | None = sound
        self.frames: FramesInput | None = frames
        self.embedding_sizes = embedding_sizes
        self.name = type(self).__name__  # `load_model` gives it the manifest's, and the two below
        self.sha256 = ""  # of the weights file
        self.architecture: dict = {}  # for `build_model`
        # What can be done with a clip's frames (T, H, W, 3) on the CPU, before they are batched; must be picklable.
        self.precompute_frames: Callable[[np.ndarray], np.ndarray] = unchanged

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, channels) into what the sound tower takes."""
        raise ValueError(f"{self.name} takes no sound")

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn frames (B, T, H, W, 3), uint8 or floats in [0, 1], into what the picture tower takes.

        Batches of what `precompute_frames` made of each clip are taken as well.
        """
        raise ValueError(f"{self.name} takes no pictures")


class EmbedsAudio(AudioVisualModel):
    """Turns a window of sound into a vector."""

    sound: SoundInput

    @abstractmethod
    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Embed what `prepare_audio` gave: (B, D)."""


class EmbedsFrames(AudioVisualModel):
    """Turns a picture, or a clip of frames, into a vector."""

    frames: FramesInput

    @abstractmethod
    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Embed what `prepare_frames` gave: (B, D)."""


class Compares(AudioVisualModel):
    """Decides whether frames and sound belong together."""

    sound: SoundInput
    frames: FramesInput

    @abstractmethod
    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Turn what `prepare_audio` gave into what `compare` takes: (B, ...)."""

    @abstractmethod
    def represent_frames(self, frames: Tensor) -> Tensor:
        """Turn what `prepare_frames` gave into what `compare` takes: (B, ...)."""

    @abstractmethod
    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Give the logits of (no correspondence, correspondence) of each pair: (B, 2)."""

    def forward(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Give the logits that are trained, from what `prepare_*` gave: (B, 2)."""
        return self.compare(self.represent_frames(frames), self.represent_audio(spectrogram))


class Localizes(Compares):
    """Tells where in a picture the sound comes from; takes pictures of any size that is a multiple of `map_stride`."""

    map_stride: int  # pixels from one cell of the map to the next

    @abstractmethod
    def localize(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Give the logits of "this cell sounds" from what `represent_*` gave: (B, h, w)."""


class HasSimilarity(Compares):
    """Compares any frames with any sound, which contrastive objectives need."""

    @abstractmethod
    def similarity(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Compare what `represent_*` gave of N clips and of M sounds: (N, M)."""


class HasTowers(AudioVisualModel):
    """Has convolutional towers, whose last maps (B, C, ..., h, w) can be looked at unit by unit."""

    image_tower: nn.Module
    audio_tower: nn.Module


class Slices(EmbedsAudio):
    """Embeds many windows of a recording in one pass, since a window's map is a slice of the recording's."""

    slice_samples: int | None = None  # windows whole multiples of it apart can share a pass; None if none can

    @abstractmethod
    def embed_slices(self, spectrogram: Tensor, embedding: str, hop_samples: int) -> Tensor:
        """Embed the windows, `hop_samples` apart, in long spectrograms: (B, T, D)."""


class Fuses(AudioVisualModel):
    """Turns frames and their sound into one vector, through one stream; its size is among those of "video"."""

    sound: SoundInput
    frames: FramesInput

    @abstractmethod
    def embed_fused(self, frames: Tensor, spectrogram: Tensor, embedding: str = "joint") -> Tensor:
        """Embed what `prepare_frames` and `prepare_audio` gave of the same moments: (B, D)."""


def check_embedding(model: AudioVisualModel, modality: str, embedding: str) -> None:
    """Raise ValueError unless the model embeds that modality in that way.

    Parameters
    ----------
    model : AudioVisualModel
    modality : {"audio", "image", "video"}
        The last of a network that fuses sound and frames.
    embedding : str
        Such as "features" or "joint".
    """
    if modality not in model.embedding_sizes:
        raise ValueError(f"{model.name} doesn't embed {modality}; choose another model of openavc.list_models()")
    known = model.embedding_sizes[modality]
    if embedding not in known:
        raise ValueError(f"{model.name} has no embedding {embedding!r}; it has {', '.join(map(repr, known))}")
