"""The common API of HEAR 2021 (Holistic Evaluation of Audio Representations) to every model that embeds sound.

Users write `openavc.hear`. As HEAR asks, times are in milliseconds, and sounds are tensors at the rate of the model
that `load_model` returns. The embeddings are the features of `openavc.get_audio_embedding`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .. import weights
from ..inference.embedding import get_audio_embedding
from ..models.contract import AudioVisualModel, check_embedding

SAMPLE_RATES = (16_000, 22_050, 32_000, 44_100, 48_000)  # Hz, of HEAR's recordings
_HOP = 50  # milliseconds between timestamps: the longest that HEAR suggests


class HearModel(nn.Module):
    """A network that embeds sound, with the attributes that HEAR asks for.

    Parameters
    ----------
    network : AudioVisualModel

    Attributes
    ----------
    sample_rate : int
        Of the sounds to embed, in Hz: the network's own if HEAR has recordings at that rate, otherwise the highest of
        HEAR's, from which they are resampled.
    own_rate : int
        Of the sounds that the network hears, in Hz.
    scene_embedding_size, timestamp_embedding_size : int

    Raises
    ------
    ValueError
        If the network doesn't embed sound.
    """

    def __init__(self, network: AudioVisualModel):
        super().__init__()
        check_embedding(network, "audio", "features")
        assert network.sound is not None  # as it embeds audio
        self.network = network
        self.own_rate = own = network.sound.sample_rate
        self.sample_rate = own if own in SAMPLE_RATES else max(SAMPLE_RATES)
        self.scene_embedding_size = self.timestamp_embedding_size = network.embedding_sizes["audio"]["features"]


def load_model(model_file_path: str = "") -> HearModel:
    """Load a model that embeds sound.

    Parameters
    ----------
    model_file_path : str
        A weights file, a name of `openavc.list_models()`, or "" for the default model.

    Raises
    ------
    ValueError
        If the model doesn't embed sound, or as in `openavc.load_model`.
    OSError
        As in `openavc.load_model`.
    """
    return HearModel(weights.load_model(model_file_path or None))


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embed sounds every 50 ms.

    Parameters
    ----------
    audio : Tensor, shape (n_sounds, n_samples)
        Mono, in [-1, 1], at `model.sample_rate`.
    model : HearModel
        What `load_model` returned.

    Returns
    -------
    embeddings : Tensor, shape (n_sounds, n_timestamps, timestamp_embedding_size), float32
        Of windows centred on the timestamps; on the device of `audio`.
    timestamps : Tensor, shape (n_sounds, n_timestamps), float64
        In milliseconds, the same for all sounds.

    Raises
    ------
    TypeError, ValueError
        If `audio` isn't such a tensor or holds NaN or infinity, or `model` isn't a HearModel.
    """
    check_model(model)
    hop = _HOP * model.own_rate // 1000  # in whole samples, for intervals that are all the same
    return _embed(audio, model, hop / model.own_rate)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Embed sounds as a whole, by the mean of the embeddings of their windows.

    Parameters
    ----------
    audio, model
        As in `get_timestamp_embeddings`.

    Returns
    -------
    embeddings : Tensor, shape (n_sounds, scene_embedding_size), float32
        On the device of `audio`. The windows are as far apart as `openavc.get_audio_embedding` has them by default.

    Raises
    ------
    TypeError, ValueError
        As in `get_timestamp_embeddings`.
    """
    check_model(model)
    embeddings, _ = _embed(audio, model, None)
    return embeddings.mean(dim=1)


def check_model(model: object) -> None:
    """Raise TypeError unless a model is one that `load_model` returned."""
    if not isinstance(model, HearModel):
        raise TypeError(f"model must be what openavc.hear.load_model returned, got {type(model).__name__}")


def _embed(audio: Tensor, model: HearModel, hop_size: float | None) -> tuple[Tensor, Tensor]:
    """Embed windows `hop_size` seconds apart: (n_sounds, T, D), and their times in milliseconds (n_sounds, T)."""
    if not isinstance(audio, Tensor):
        raise TypeError(f"audio must be a tensor of shape (n_sounds, n_samples), got {type(audio).__name__}")
    if audio.ndim != 2 or len(audio) == 0:
        raise ValueError(f"audio must have shape (n_sounds, n_samples), at least one sound, got {tuple(audio.shape)}")
    sounds = list(audio)
    embeddings, seconds = get_audio_embedding(sounds, model.sample_rate, model.network, hop_size=hop_size)
    milliseconds = 1000 * np.stack(seconds)
    return torch.from_numpy(np.stack(embeddings)).to(audio.device), torch.from_numpy(milliseconds).to(audio.device)
