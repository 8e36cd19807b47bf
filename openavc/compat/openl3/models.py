"""OpenL3's models by its names: `openl3.models.load_audio_embedding_model` and its kin.

They return networks of openavc (PyTorch), to be passed as `model=`. What the weights are, and where they come from, is
`openavc.load_model`'s to know.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ... import weights
from .openl3_exceptions import OpenL3Error, as_openl3_error
from .options import (
    CONTENT_TYPES,
    IMAGE_SIZES,
    INPUT_REPRS,
    check_audio,
    check_choice,
    check_image,
)


def load_audio_embedding_model(input_repr, content_type, embedding_size, frontend="kapre"):
    """Load a network for sound.

    Parameters
    ----------
    input_repr : {"linear", "mel128", "mel256"}
    content_type : {"music", "env"}
    embedding_size : {6144, 512}
    frontend : str
        OpenL3's "kapre" (which is "kapre-0.3.5") or "librosa", or "kapre-0.1.4", the one that the weights were
        trained on and OpenL3 up to 0.3.1 had, or "librosa-0.10", that of OpenL3 0.4 with librosa 0.9 or later.

    Raises
    ------
    OpenL3Error
        For values that don't exist.
    OSError
        If the weights can't be had.
    """
    input_repr, frontend = check_audio(None, input_repr, content_type, embedding_size, frontend)
    return weights.load_model(_name(input_repr, content_type), embedding_size=embedding_size, frontend=frontend)


def load_image_embedding_model(input_repr, content_type, embedding_size):
    """Load a network for pictures: `embedding_size` is 8192 or 512, `input_repr` that of its partner for sound."""
    check_image(None, input_repr, content_type, embedding_size)
    return weights.load_model(_name(input_repr, content_type), embedding_size=embedding_size)


def load_audio_embedding_model_from_path(model_path, input_repr, embedding_size, frontend="kapre"):
    """Load a network for sound from a file: OpenL3's .h5 or .h5.gz, or what openavc made of one."""
    input_repr, frontend = check_audio(None, input_repr, "music", embedding_size, frontend)
    with as_openl3_error():
        _check_holds(model_path, "audio")
        options = {"input_repr": input_repr, "embedding_size": embedding_size, "frontend": frontend}
        return weights.load_model(model_path, **options)


def load_image_embedding_model_from_path(model_path, embedding_size):
    """Load a network for pictures from a file: OpenL3's .h5 or .h5.gz, or what openavc made of one."""
    check_choice("embedding_size", embedding_size, IMAGE_SIZES)
    with as_openl3_error():
        _check_holds(model_path, "image")
        return weights.load_model(model_path, embedding_size=embedding_size)


def _check_holds(model_path, modality: str) -> None:
    _, path = weights.locate(model_path)
    held = weights.modalities_of(Path(path))
    if modality not in held:
        kinds = {"audio": "audio", "image": "pictures"}
        raise OpenL3Error(f"{model_path} holds a tower of {kinds[held[0]]}, not of {kinds[modality]}")


def get_audio_embedding_model_path(input_repr, content_type):
    """Path of the weights for sound, fetched if they aren't there yet."""
    return _path(input_repr, content_type)


def get_image_embedding_model_path(input_repr, content_type):
    """Path of the weights for pictures, fetched if they aren't there yet."""
    return _path(input_repr, content_type)


def _path(input_repr, content_type) -> str:
    check_choice("input_repr", input_repr, INPUT_REPRS)
    check_choice("content_type", content_type, CONTENT_TYPES)
    return str(weights.fetch(_name(input_repr, content_type)))


def _name(input_repr: str, content_type: str) -> str:
    return f"openl3-{input_repr}-{content_type}"


@functools.lru_cache(maxsize=8)  # beyond all combinations that one program uses
def kept_audio_model(input_repr: str, content_type: str, embedding_size: int, frontend: str):
    """The network that a call without `model=` uses, loaded once."""
    return load_audio_embedding_model(input_repr, content_type, embedding_size, frontend)


@functools.lru_cache(maxsize=8)
def kept_image_model(input_repr: str, content_type: str, embedding_size: int):
    """The network that a call without `model=` uses, loaded once."""
    return load_image_embedding_model(input_repr, content_type, embedding_size)
