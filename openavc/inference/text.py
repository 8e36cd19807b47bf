"""Embeddings of text, for models that share their space with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.contract import AudioVisualModel, EmbedsText
from ..weights import read_manifest
from .arguments import get_model, shortened
from .batches import BATCH_SIZE, batched, inference_of, to_numpy


def get_text_embedding(text: Any, model: Any = None, *, modality: str = "audio", device: Any = None) -> np.ndarray:
    """Embed a text, or a list of them, to compare it with joint embeddings of sound or of pictures.

    Parameters
    ----------
    text : str or list of str
    model : str, path, model or None
        As in `get_audio_embedding`; one that embeds text, such as "pe-av-small".
    modality : {"audio", "image"}
        What the text is compared with: the model has a vector of it for each. "image" also stands for clips of frames.
    device : optional
        As in `load_model`.

    Returns
    -------
    embedding : ndarray, shape (N, D), float32
        A row for each text.

    Raises
    ------
    ValueError
        If the model doesn't embed text, the modality is unknown, or a text is empty.
    TypeError
        If `text` isn't a string or a list of strings.
    """
    loaded = check_text(get_model(model, device))
    if modality not in loaded.compared_with:
        known = " or ".join(map(repr, loaded.compared_with))
        raise ValueError(f"modality must be {known}, which the text is compared with, got {shortened(modality)}")
    texts = text if isinstance(text, list) else [text]
    if not texts:
        raise ValueError("the list of texts is empty")
    for each in texts:
        if not isinstance(each, str):
            raise TypeError(f"text must be a string or a list of strings, got {type(each).__name__}")
        if not each.strip():
            raise ValueError(f"a text is empty: {each!r}")
    rows = []
    for batch in batched(texts, BATCH_SIZE):
        with inference_of(loaded):
            rows.append(to_numpy(loaded.embed_text(batch, modality), loaded))
    return np.concatenate(rows)


def check_text(model: AudioVisualModel) -> EmbedsText:
    """Return the model; raise ValueError, which names models that do, unless it embeds text."""
    if isinstance(model, EmbedsText):
        return model
    able = ", ".join(repr(entry["name"]) for entry in read_manifest() if "text" in entry["modalities"])
    raise ValueError(f"{model.name} doesn't embed text; these models do: {able}")
