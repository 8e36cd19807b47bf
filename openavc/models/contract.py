"""The contract of networks: the inputs that they state, and their abilities, each a class to inherit from.

`prepare_audio` turns sound into the input of the sound tower, `prepare_frames` does the same for frames; inference and
training both call them. Code checks `isinstance(model, Compares)`, never the name of an architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..media.clips import FramesInput, SoundInput
from ..media.image import fit

__all__ = [
    "AudioVisualModel",
    "Classifies",
    "Compares",
    "EmbedsAudio",
    "EmbedsFrames",
    "EmbedsText",
    "FramesInput",
    "Fuses",
    "HasSimilarity",
    "HasStreams",
    "HasTowers",
    "Localizes",
    "LocalizesInTime",
    "Separates",
    "Slices",
    "SoundInput",
    "Synchronizes",
    "check_embedding",
]


def unchanged(frames: np.ndarray) -> np.ndarray:
    """Return a clip's frames as they are."""
    return frames


class AudioVisualModel(nn.Module, ABC):
    """A network that states its inputs and its embeddings.

    Parameters
    ----------
    sound : SoundInput or None
        None for a network that hears nothing.
    frames : FramesInput or None
        None for a network that sees nothing.
    embedding_sizes : dict
        Modality -> embedding -> size, such as {"audio": {"features": 512, "joint": 128}, "image": {...}}. Modalities
        that the network doesn't embed are missing.
    """

    def __init__(
        self, sound: SoundInput | None, frames: FramesInput | None, embedding_sizes: dict[str, dict[str, int]]
    ):
        super().__init__()
        self.sound: SoundInput | None = sound
        self.frames: FramesInput | None = frames
        self.embedding_sizes = embedding_sizes
        self.name = type(self).__name__  # `load_model` sets it to the manifest's, and sets the two below
        self.sha256 = ""  # of the weights file
        self.revision = ""  # commit of the Hub's repository, of a folder that comes from there
        self.architecture: dict = {}  # for `build_model`
        self.options: dict = {}  # options of the architecture that `load_model` was given
        self.constants: frozenset[str] = frozenset()  # names of parameters that are never trained
        # Processes a clip's frames (T, H, W, 3) on the CPU, before they are batched; must be picklable.
        self.precompute_frames: Callable[[np.ndarray], np.ndarray] = unchanged

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return next(self.parameters()).dtype

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, channels) into the input of the sound tower."""
        raise self._unprepared("sound", self.sound, "prepare_audio")

    def fit_frame(self, frame: np.ndarray) -> np.ndarray:
        """Bring a picture (H, W, 3), floats in [0, 1], to the height and width that the network sees."""
        if self.frames is None:
            raise ValueError(f"{self.name} takes no pictures")
        return fit(frame, self.frames.height, self.frames.width)

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn frames (B, T, H, W, 3), uint8 or floats in [0, 1], into the input of the picture tower.

        Also accepts batches of what `precompute_frames` returned for each clip.
        """
        raise self._unprepared("pictures", self.frames, "prepare_frames")

    def _unprepared(self, kind: str, stated: object, method: str) -> Exception:
        if stated is None:
            return ValueError(f"{self.name} takes no {kind}")
        return TypeError(f"{type(self).__name__} states that it takes {kind}, but doesn't define {method}")


class EmbedsAudio(AudioVisualModel):
    """Turns a window of sound into a vector."""

    sound: SoundInput

    @abstractmethod
    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Embed the output of `prepare_audio`: (B, D)."""


class EmbedsFrames(AudioVisualModel):
    """Turns a picture, or a clip of frames, into a vector."""

    frames: FramesInput

    @abstractmethod
    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Embed the output of `prepare_frames`: (B, D)."""


class EmbedsText(AudioVisualModel):
    """Turns text into a vector of the space that it shares with sound and pictures; its sizes are those of "text"."""

    compared_with: tuple[str, ...]  # modalities that text has a vector to compare with

    @abstractmethod
    def embed_text(self, texts: list[str], modality: str) -> Tensor:
        """Embed texts to compare them with joint embeddings of a modality of `compared_with`: (B, D)."""


class Compares(AudioVisualModel):
    """Decides whether frames and sound belong together."""

    sound: SoundInput
    frames: FramesInput

    @abstractmethod
    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Turn the output of `prepare_audio` into an input of `compare`: (B, ...)."""

    @abstractmethod
    def represent_frames(self, frames: Tensor) -> Tensor:
        """Turn the output of `prepare_frames` into an input of `compare`: (B, ...)."""

    @abstractmethod
    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of (no correspondence, correspondence) of each pair: (B, 2)."""

    def forward(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the logits to train, from the outputs of `prepare_*`: (B, 2)."""
        return self.compare(self.represent_frames(frames), self.represent_audio(spectrogram))


class Localizes(Compares):
    """Tells where in a picture the sound comes from; takes pictures of any size that is a multiple of `map_stride`."""

    map_stride: int  # pixels from one cell of the map to the next

    @abstractmethod
    def localize(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of "this cell sounds" from the outputs of `represent_*`: (B, h, w)."""


class LocalizesInTime(Compares):
    """Tells where and when in a clip its frames and its sound, which it fuses, speak for or against belonging together.

    Takes frames of any size that is a multiple of `map_stride`. A clip's maps, and the cells of each, divide it evenly:
    the first of `map_times` maps is of the first of as many stretches of the clip.
    """

    map_stride: int  # pixels from one cell of a map to the next
    map_times: int  # maps of a clip
    finest: ClassVar[Mapping[str, Any]] = {}  # options of `load_model` that give the same weights their finest maps

    @abstractmethod
    def activation_maps(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of every place and time, from the outputs of `represent_*`: (B, map_times, h, w)."""


class Synchronizes(Compares):
    """Tells sound that is in step with frames from the same sound at other times.

    The difference of its logits is the logarithm of how much likelier being in step makes what it sees and hears.
    """

    evidence: float  # weight of a window's logits where those of neighbouring windows are added up, above 0


class HasStreams(Compares):
    """Represents frames and sound by maps over the same times: (B, C, T, h, w) and (B, D, T)."""


class HasSimilarity(Compares):
    """Compares all frames with all sounds, as contrastive objectives need."""

    @abstractmethod
    def similarity(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Compare the outputs of `represent_*` for N clips and M sounds: (N, M)."""


class HasTowers(AudioVisualModel):
    """Has convolutional towers, whose last maps (B, C, ..., h, w) can be inspected unit by unit."""

    image_tower: nn.Module
    audio_tower: nn.Module


class Slices(EmbedsAudio):
    """Embeds many windows of a recording in one pass, since a window's map is a slice of the recording's."""

    slice_samples: int | None = None  # windows that are multiples of it apart can share a pass; None if none can

    @abstractmethod
    def embed_slices(self, spectrogram: Tensor, embedding: str, hop_samples: int) -> Tensor:
        """Embed the windows, `hop_samples` apart, in long spectrograms: (B, T, D)."""


class Fuses(AudioVisualModel):
    """Turns frames and their sound into one vector, through one stream; its sizes are those of "video"."""

    sound: SoundInput
    frames: FramesInput

    @abstractmethod
    def embed_fused(self, frames: Tensor, spectrogram: Tensor, embedding: str = "joint") -> Tensor:
        """Embed the outputs of `prepare_frames` and `prepare_audio` for the same moments: (B, D)."""


class Classifies(AudioVisualModel):
    """Tells which of its classes frames and their sound show."""

    sound: SoundInput
    frames: FramesInput
    classes: tuple[str, ...]  # in the order of the logits

    @abstractmethod
    def classify(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the logits of the classes, from the outputs of `prepare_*` for the same moments: (B, classes)."""

    def forward(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the logits to train, from the outputs of `prepare_*`: (B, classes)."""
        return self.classify(frames, spectrogram)


class Separates(AudioVisualModel):
    """Separates a mixture into the sound of what its frames show and all other sound."""

    sound: SoundInput
    frames: FramesInput
    source_level: float  # root mean square of each part of the mixtures that it learns from
    edge: int  # samples at both ends of a window that `separate` lets fade out
    blind: bool  # whether it ignores the frames, so that either part may be the one on screen

    @abstractmethod
    def separate(self, frames: Tensor, samples: Tensor) -> Tensor:
        """Separate the outputs of `prepare_frames` and `prepare_audio` into waveforms on and off screen: (B, 2, n).

        The mixture may have any level, which the parts keep.
        """

    @abstractmethod
    def to_spectrogram(self, samples: Tensor) -> Tensor:
        """Turn sound (B, n, channels) into what is learned, magnitudes and phases in [-1, 1]: (B, 2, bins, times)."""

    @abstractmethod
    def separate_spectrogram(self, frames: Tensor, samples: Tensor) -> Tensor:
        """Predict `to_spectrogram` of both parts of a mixture at the level of training: (B, 2, 2, bins, times)."""


def check_embedding(model: AudioVisualModel, modality: str, embedding: str) -> None:
    """Raise ValueError unless the model has that embedding of that modality.

    Parameters
    ----------
    model : AudioVisualModel
    modality : {"audio", "image", "video"}
        "video" for a network that fuses sound and frames.
    embedding : str
        Such as "features" or "joint".
    """
    if modality not in model.embedding_sizes:
        raise ValueError(f"{model.name} doesn't embed {modality}; choose another model of openavc.list_models()")
    known = model.embedding_sizes[modality]
    if embedding not in known:
        raise ValueError(f"{model.name} has no embedding {embedding!r}; it has {', '.join(map(repr, known))}")
