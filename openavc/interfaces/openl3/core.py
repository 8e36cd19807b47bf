"""Embeddings of arrays of sound and of pictures, with OpenL3's signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...inference.arguments import check_frame_rates, pair_rates
from ...inference.batches import numpy_rows
from ...inference.inputs import open_source
from ...lines import warn
from ...models.contract import EmbedsAudio, EmbedsFrames
from ...models.frontends import openl3_frontend
from .models import kept_audio_model, kept_image_model
from .openl3_exceptions import OpenL3Error, as_openl3_error
from .openl3_warnings import OpenL3Warning
from .options import (
    FRAMING,
    FRONTENDS,
    INPUT_REPRS,
    check_audio,
    check_choice,
    check_common,
    check_framing,
    check_image,
    check_loaded,
)
from .pictures import check_stack, crops, embed_crops
from .sound import Recording, cut_windows, embed_recordings

_SPECTROGRAMS_AT_ONCE = 32


def get_audio_embedding(
    audio: Any,
    sr: Any,
    model: EmbedsAudio | None = None,
    input_repr: str | None = None,
    content_type: str = "music",
    embedding_size: int = 6144,
    center: bool = True,
    hop_size: float = 0.1,
    batch_size: int = 32,
    frontend: str = "kapre",
    verbose: bool = True,
    *,
    strict_openl3: bool = False,
) -> tuple[Any, Any]:
    """Embed one recording, or a list of them, in windows of one second.

    Parameters
    ----------
    audio : ndarray (n,) or (n, channels), or list of these
        Floats in [-1, 1], or integers, which are scaled by their type's range.
    sr : number, or list of them for a list
        In Hz.
    model : optional
        A network that `models.load_audio_embedding_model` returned. That function's options then have no effect here,
        but are still checked.
    input_repr : {"linear", "mel128", "mel256"}, optional
        "mel256" for the kapre frontends; required for those of librosa.
    content_type : {"music", "env"}
    embedding_size : {6144, 512}
    center : bool
        Whether a timestamp is the middle of its window.
    hop_size : float
        In seconds.
    batch_size : int
        Windows per pass through the network.
    frontend : str
        See `models.load_audio_embedding_model`.
    verbose : bool
        Whether to show a progress bar, on a terminal.
    strict_openl3 : bool
        Whether hops are truncated to full samples, while timestamps ignore that, as in OpenL3.

    Returns
    -------
    embedding : ndarray, shape (T, D), float32
    timestamps : ndarray, shape (T,), float64
        In seconds. For a list of recordings, two lists.

    Raises
    ------
    OpenL3Error
        For invalid sound, including NaN and infinity, or invalid options.

    Warns
    -----
    OpenL3Warning
        If a recording is silent or shorter than a second.
    """
    check_common(content_type, batch_size, verbose)
    check_framing(hop_size, center)
    input_repr, frontend = check_audio(model, input_repr, content_type, embedding_size, frontend)
    with as_openl3_error():
        items, rates = pair_rates(audio, sr)
    if model is None:
        model = kept_audio_model(input_repr, content_type, embedding_size, frontend)

    def recordings() -> Iterator[Recording]:
        for item, rate in zip(items, rates, strict=True):
            yield Recording(*open_source(item, rate, model.sound), "the audio")

    with as_openl3_error():
        embedded = embed_recordings(model, recordings(), hop_size, center, batch_size, verbose, strict_openl3)
    embeddings, timestamps = map(list, zip(*embedded, strict=True))
    return (embeddings, timestamps) if isinstance(audio, list) else (embeddings[0], timestamps[0])


def get_image_embedding(
    image: Any,
    frame_rate: Any = None,
    model: EmbedsFrames | None = None,
    input_repr: str = "mel256",
    content_type: str = "music",
    embedding_size: int = 8192,
    batch_size: int = 32,
    verbose: bool = True,
    *,
    strict_openl3: bool = False,
) -> Any:
    """Embed pictures, or the frames of a video.

    Parameters
    ----------
    image : ndarray (H, W, 3) or (N, H, W, 3), or list of these
        RGB, of at least 224 pixels a side: uint8, uint16, or floats in [0, 1].
    frame_rate : number, or list of them for a list, optional
        Frames per second; timestamps are returned only if it is given.
    model : optional
        A network that `models.load_image_embedding_model` returned. That function's options then have no effect here,
        but are still checked.
    input_repr : {"linear", "mel128", "mel256"}
        Spectrogram of the sound network that this one was trained with.
    content_type : {"music", "env"}
    embedding_size : {8192, 512}
    batch_size : int
        Pictures per pass through the network.
    verbose : bool
        Whether to show a progress bar, on a terminal.
    strict_openl3 : bool
        Whether pictures are scaled as in OpenL3, depending on their size and on the maximum of all N.

    Returns
    -------
    embedding : ndarray, shape (N, D), float32, or list of these for a list
    timestamps : ndarray, shape (N,), float64, or list of these
        In seconds; only with `frame_rate`.

    Raises
    ------
    OpenL3Error
        For invalid pictures or options.

    Warns
    -----
    OpenL3Warning
        If all pictures of an array are black.
    """
    check_common(content_type, batch_size, verbose)
    check_image(model, input_repr, content_type, embedding_size)
    stacks = [check_stack(item) for item in (image if isinstance(image, list) else [image])]
    if not stacks:
        raise OpenL3Error("the list of pictures is empty")
    with as_openl3_error():
        rates = check_frame_rates(frame_rate, len(stacks))
    if model is None:
        model = kept_image_model(input_repr, content_type, embedding_size)

    def keyed_crops() -> Iterator[tuple[int, np.ndarray]]:
        for index, stack in enumerate(stacks):
            for crop in crops(partial(iter, stack), "the picture", strict_openl3):
                yield index, crop

    vectors: list[list[np.ndarray]] = [[] for _ in stacks]
    with as_openl3_error():
        for index, row in numpy_rows(embed_crops(model, keyed_crops(), batch_size, verbose), model):
            vectors[index].append(row)
    embeddings = [np.stack(rows) for rows in vectors]
    if frame_rate is None:
        return embeddings if isinstance(image, list) else embeddings[0]
    timestamps = [np.arange(len(rows)) / rate for rows, rate in zip(vectors, rates, strict=True)]
    return (embeddings, timestamps) if isinstance(image, list) else (embeddings[0], timestamps[0])


def preprocess_audio(
    audio: Any,
    sr: Any,
    hop_size: float = 0.1,
    input_repr: str | None = None,
    center: bool = True,
    *,
    model: EmbedsAudio | None = None,
    frontend: str | None = None,
    strict_openl3: bool = False,
    **kw: Any,
) -> np.ndarray:
    """Cut sound into the windows that a network embeds, and optionally compute their spectrograms.

    Parameters
    ----------
    audio, sr, hop_size, center, strict_openl3
        As in `get_audio_embedding`, for one recording.
    input_repr : {"linear", "mel128", "mel256"}, optional
        Kind of spectrograms; if neither it nor a model is given, windows are returned.
    model : optional
        A network that `models.load_audio_embedding_model` returned: the spectrograms are those that it takes.
    frontend : str, optional
        Variant of the spectrograms without a model: "kapre", the default, as in `models.load_audio_embedding_model`.
        OpenL3's own function gives those of "librosa".

    Returns
    -------
    windows : ndarray, shape (T, 1, 48000), float64
        With `input_repr` or a model, spectrograms (T, frequencies, times, 1), float32, in decibels relative to their
        maximum.

    Raises
    ------
    OpenL3Error
        For invalid sound or options, or options that contradict the model.

    Warns
    -----
    OpenL3Warning
        If neither `model` nor `frontend` says which mel spectrograms are wanted.
    """
    if kw:
        raise OpenL3Error(f"preprocess_audio has no option {', '.join(map(repr, kw))}")
    check_framing(hop_size, center)
    check_choice("frontend", frontend, (None, *FRONTENDS))
    check_choice("input_repr", input_repr, (None, *INPUT_REPRS))
    if model is not None:
        check_loaded(model, input_repr=input_repr, frontend=frontend)
    if isinstance(audio, list):
        raise OpenL3Error("preprocess_audio takes one array, got a list")
    with as_openl3_error():
        [audio], [sr] = pair_rates(audio, sr)
        recording = Recording(*open_source(audio, sr, FRAMING), "the audio")
        windows = np.stack(list(cut_windows(recording, FRAMING, hop_size, center, strict_openl3)))  # (T, 48000, 1)
    if model is None and input_repr is None:
        return windows.transpose(0, 2, 1)
    prepare = _preparation(model, input_repr, frontend)
    batches = torch.from_numpy(windows).split(_SPECTROGRAMS_AT_ONCE)
    return torch.cat([prepare(batch) for batch in batches]).movedim(1, -1).numpy()


def _preparation(model: EmbedsAudio | None, input_repr: Any, frontend: str | None) -> Callable[[Tensor], Tensor]:
    """Return what turns windows (B, 48000, 1) into spectrograms (B, 1, frequencies, times): the model, if there is one.

    Warn if the variant of a mel spectrogram is left open: those of "linear" are one algorithm.
    """
    if model is not None:
        return lambda windows: model.prepare_audio(windows.to(model.device)).cpu()
    if frontend is None and input_repr != "linear":
        warn(
            "preprocess_audio gives spectrograms of frontend 'kapre', the default of load_audio_embedding_model, where "
            "OpenL3's gives those of 'librosa': pass model= for those of a model, or frontend= to choose",
            OpenL3Warning,
        )
    spectrogram = openl3_frontend(input_repr, FRONTENDS[frontend or "kapre"])
    return lambda windows: spectrogram(windows[..., 0]).unsqueeze(1)
