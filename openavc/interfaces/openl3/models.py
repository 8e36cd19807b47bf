"""OpenL3's model loaders, under its names: `openl3.models.load_audio_embedding_model` and others.

They return networks of openavc (PyTorch), to be passed as `model=`. `openavc.weights` provides the files.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ... import weights
from ...models.contract import EmbedsAudio, EmbedsFrames
from .openl3_exceptions import OpenL3Error, as_openl3_error
from .options import (
    CONTENT_TYPES,
    IMAGE_SIZES,
    INPUT_REPRS,
    audio_model,
    check_audio,
    check_choice,
    check_image,
    image_model,
)


def load_audio_embedding_model(
    input_repr: str, content_type: str, embedding_size: int, frontend: str = "kapre"
) -> EmbedsAudio:
    """Load a network for sound.

    Parameters
    ----------
    input_repr : {"linear", "mel128", "mel256"}
    content_type : {"music", "env"}
    embedding_size : {6144, 512}
    frontend : str
        OpenL3's "kapre" (the same as "kapre-0.3.5") or "librosa"; "kapre-0.1.4", which the weights were trained on and
        OpenL3 used up to 0.3.1; or "librosa-0.10", that of OpenL3 0.4 with librosa 0.9 or later.

    Raises
    ------
    OpenL3Error
        For unknown values.
    OSError
        If the weights can't be downloaded.
    """
    input_repr, frontend = check_audio(None, input_repr, content_type, embedding_size, frontend)
    name = _name(input_repr, content_type)
    return audio_model(weights.load_model(name, embedding_size=embedding_size, frontend=frontend))


def load_image_embedding_model(input_repr: str, content_type: str, embedding_size: int) -> EmbedsFrames:
    """Load a network for pictures.

    Parameters
    ----------
    input_repr : {"linear", "mel128", "mel256"}
        Spectrogram of the sound network that it was trained with.
    content_type : {"music", "env"}
    embedding_size : {8192, 512}

    Raises
    ------
    OpenL3Error, OSError
        As `load_audio_embedding_model` does.
    """
    check_image(None, input_repr, content_type, embedding_size)
    return image_model(weights.load_model(_name(input_repr, content_type), embedding_size=embedding_size))


def load_audio_embedding_model_from_path(
    model_path: str | Path, input_repr: str, embedding_size: int, frontend: str = "kapre"
) -> EmbedsAudio:
    """Load a network for sound from OpenL3's .h5 or .h5.gz, or from .safetensors that openavc converted from one.

    Parameters
    ----------
    model_path : str or Path
    input_repr, embedding_size, frontend
        As in `load_audio_embedding_model`.

    Raises
    ------
    OpenL3Error
        For unknown values, and for files that are missing, damaged or without a network for sound.
    """
    input_repr, frontend = check_audio(None, input_repr, "music", embedding_size, frontend)
    with as_openl3_error():
        _check_modality(model_path, "audio")
        model = weights.load_model(model_path, input_repr=input_repr, embedding_size=embedding_size, frontend=frontend)
        return audio_model(model)


def load_image_embedding_model_from_path(model_path: str | Path, embedding_size: int) -> EmbedsFrames:
    """Load a network for pictures from OpenL3's .h5 or .h5.gz, or from .safetensors that openavc converted from one.

    Parameters
    ----------
    model_path : str or Path
    embedding_size : {8192, 512}

    Raises
    ------
    OpenL3Error
        For unknown values, and for files that are missing, damaged or without a network for pictures.
    """
    check_choice("embedding_size", embedding_size, IMAGE_SIZES)
    with as_openl3_error():
        _check_modality(model_path, "image")
        return image_model(weights.load_model(model_path, embedding_size=embedding_size))


def _check_modality(model_path: str | Path, modality: str) -> None:
    """Raise OpenL3Error unless a weights file contains the tower of a modality."""
    _, path = weights.locate(model_path)
    modalities = weights.modalities_of(Path(path))
    if modality not in modalities:
        kinds = {"audio": "audio", "image": "pictures"}
        raise OpenL3Error(f"{model_path} holds a tower of {kinds[modalities[0]]}, not of {kinds[modality]}")


def get_audio_embedding_model_path(input_repr: str, content_type: str) -> str:
    """Return the path of the weights for sound, downloading them unless they are cached."""
    return _path(input_repr, content_type)


def get_image_embedding_model_path(input_repr: str, content_type: str) -> str:
    """Return the path of the weights for pictures, downloading them unless they are cached."""
    return _path(input_repr, content_type)


def _path(input_repr: str, content_type: str) -> str:
    check_choice("input_repr", input_repr, INPUT_REPRS)
    check_choice("content_type", content_type, CONTENT_TYPES)
    return str(weights.fetch(_name(input_repr, content_type)))


def _name(input_repr: str, content_type: str) -> str:
    return f"openl3-{input_repr}-{content_type}"


@functools.lru_cache(maxsize=8)  # more combinations than one program uses
def kept_audio_model(input_repr: str, content_type: str, embedding_size: int, frontend: str) -> EmbedsAudio:
    """Return the network for calls without `model=`, which is loaded only once."""
    return load_audio_embedding_model(input_repr, content_type, embedding_size, frontend)


@functools.lru_cache(maxsize=8)
def kept_image_model(input_repr: str, content_type: str, embedding_size: int) -> EmbedsFrames:
    """Return the network for calls without `model=`, which is loaded only once."""
    return load_image_embedding_model(input_repr, content_type, embedding_size)
