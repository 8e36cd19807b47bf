"""Entries for `torch.hub.load(REPOSITORY, ENTRY, ...)`: networks, loaded as `openavc.load_model` does.

What they return is passed as `model=` to openavc's functions, such as `openavc.get_audio_embedding`.
"""

from __future__ import annotations

import typing  # torch.hub takes every public name that can be called for an entry, Any too

if typing.TYPE_CHECKING:
    from openavc.models.contract import AudioVisualModel

# What torch.hub looks for before it loads an entry: the packages of pyproject.toml, by the names of their modules.
dependencies = "torch numpy soundfile resampy cv2 PIL huggingface_hub filelock click tqdm safetensors av h5py".split()


def audio_embedding(name: str | None = None, **options: typing.Any) -> AudioVisualModel:
    """Load a network that embeds sound, for `openavc.get_audio_embedding`.

    Parameters
    ----------
    name : str, optional
        A name of `openavc.list_models()` or a weights file; by default the model that the project ships.
    **options
        `device`, `dtype` and options of the architecture, as in `openavc.load_model`.

    Raises
    ------
    ValueError
        If the network doesn't embed sound, or as in `openavc.load_model`.
    """
    return _load("audio", name, options)


def image_embedding(name: str | None = None, **options: typing.Any) -> AudioVisualModel:
    """Load a network that embeds pictures, for `openavc.get_image_embedding`.

    Parameters
    ----------
    name, **options
        As in `audio_embedding`.

    Raises
    ------
    ValueError
        If the network doesn't embed pictures, or as in `openavc.load_model`.
    """
    return _load("image", name, options)


def _load(modality: str, name: str | None, options: dict[str, typing.Any]) -> AudioVisualModel:
    """Load a network; raise ValueError unless it embeds a modality."""
    from openavc.models.contract import check_embedding
    from openavc.weights import load_model

    model = load_model(name, **options)
    check_embedding(model, modality, "features")
    return model
