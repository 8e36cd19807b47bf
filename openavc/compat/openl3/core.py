"""Arrays to embeddings, with OpenL3's signatures."""

from __future__ import annotations

import numpy as np

from ...inference import check_frame_rates, open_source, pair_rates
from ...openl3_frontends import OPENL3_FRONTENDS
from .models import kept_audio_model, kept_image_model
from .openl3_exceptions import OpenL3Error, as_openl3_error
from .options import (
    FRAMING,
    FRONTENDS,
    INPUT_REPRS,
    check_audio,
    check_choice,
    check_common,
    check_framing,
    check_image,
)
from .pictures import check_stack, embed_squares, squares
from .sound import cut_windows, embed_recordings

_SPECTROGRAMS_AT_ONCE = 32


def get_audio_embedding(
    audio,
    sr,
    model=None,
    input_repr=None,
    content_type="music",
    embedding_size=6144,
    center=True,
    hop_size=0.1,
    batch_size=32,
    frontend="kapre",
    verbose=True,
    *,
    strict_openl3=False,
):
    """Embed sound, second by second.

    Parameters
    ----------
    audio : ndarray (n,) or (n, channels), or list of these
    sr : number, or list of them for a list
        In Hz.
    model : optional
        What `models.load_audio_embedding_model` returned. Then its representation, size and frontend hold; the
        arguments are checked all the same.
    input_repr : {"linear", "mel128", "mel256"}, optional
        "mel256" for the kapre frontends; required for those of librosa.
    content_type : {"music", "env"}
    embedding_size : {6144, 512}
    center : bool
        Whether a timestamp is the middle of its window.
    hop_size : float
        In seconds.
    batch_size : int
        Windows that go through the network at once.
    frontend : str
        See `models.load_audio_embedding_model`.
    verbose : bool
        Whether to show a progress bar, on a terminal.
    strict_openl3 : bool
        Whether hops are cut down to whole samples and timestamps ignore that, as in OpenL3.

    Returns
    -------
    embedding : ndarray, shape (T, D), float32
    timestamps : ndarray, shape (T,), float64
        In seconds. For a list, two lists.

    Raises
    ------
    OpenL3Error
        For sound and options that make no sense, NaN and infinity included.

    Warns
    -----
    OpenL3Warning
        If the sound is silent or shorter than a second.
    """
    check_common(content_type, batch_size, verbose)
    check_framing(hop_size, center)
    options = check_audio(model, input_repr, content_type, embedding_size, frontend)
    with as_openl3_error():
        items, rates = pair_rates(audio, sr)
    if model is None:
        model = kept_audio_model(options[0], content_type, embedding_size, options[1])

    def recordings():
        for item, rate in zip(items, rates, strict=True):
            yield *open_source(item, rate, model.frontend.dtype), "the audio"

    with as_openl3_error():
        found = embed_recordings(model, recordings(), hop_size, center, batch_size, verbose, strict_openl3)
    embeddings, timestamps = map(list, zip(*found, strict=True))
    return (embeddings, timestamps) if isinstance(audio, list) else (embeddings[0], timestamps[0])


def get_image_embedding(
    image,
    frame_rate=None,
    model=None,
    input_repr="mel256",
    content_type="music",
    embedding_size=8192,
    batch_size=32,
    verbose=True,
    *,
    strict_openl3=False,
):
    """Embed pictures, or the frames of a video.

    Parameters
    ----------
    image : ndarray (H, W, 3) or (N, H, W, 3), or list of these
        RGB, of at least 224 pixels a side: uint8, uint16, or floats in [0, 1].
    frame_rate : number, or list of them for a list, optional
        Frames a second; timestamps are returned if it is given.
    model : optional
        What `models.load_image_embedding_model` returned; the options of the model are checked all the same.
    input_repr : {"linear", "mel128", "mel256"}
        Of the network for sound that this one was trained with.
    content_type : {"music", "env"}
    embedding_size : {8192, 512}
    batch_size : int
        Pictures that go through the network at once.
    verbose : bool
        Whether to show a progress bar, on a terminal.
    strict_openl3 : bool
        Whether pictures are scaled as OpenL3 does, by their size and by the maximum of all N.

    Returns
    -------
    embedding : ndarray, shape (N, D), float32, or list of these for a list
    timestamps : ndarray, shape (N,), float64, or list of these
        In seconds; with `frame_rate` alone.

    Raises
    ------
    OpenL3Error
        For pictures and options that make no sense.

    Warns
    -----
    OpenL3Warning
        If an item of the list, all its pictures, is black.
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

    def keyed():
        for index, stack in enumerate(stacks):
            yield from ((index, square) for square in squares(lambda s=stack: s, "the picture", strict_openl3))

    found = [[] for _ in stacks]
    with as_openl3_error():
        for index, vector in embed_squares(model, keyed(), batch_size, verbose):
            found[index].append(vector)
    embeddings = [np.stack(vectors) for vectors in found]
    if frame_rate is None:
        return embeddings if isinstance(image, list) else embeddings[0]
    timestamps = [np.arange(len(vectors)) / rate for vectors, rate in zip(found, rates, strict=True)]
    return (embeddings, timestamps) if isinstance(image, list) else (embeddings[0], timestamps[0])


def preprocess_audio(
    audio, sr, hop_size=0.1, input_repr=None, center=True, *, frontend="librosa", strict_openl3=False, **kw
):
    """Windows, or their spectrograms, of sound.

    Parameters
    ----------
    audio, sr, hop_size, center, frontend, strict_openl3
        As in `get_audio_embedding`, one array.
    input_repr : {"linear", "mel128", "mel256"}, optional

    Returns
    -------
    windows : ndarray, shape (T, 1, 48000), float64
        If `input_repr` is None; otherwise spectrograms (T, frequencies, times, 1), float32, in decibels.
    """
    if kw:
        raise OpenL3Error(f"preprocess_audio has no option {', '.join(map(repr, kw))}")
    check_framing(hop_size, center)
    check_choice("frontend", frontend, FRONTENDS)
    check_choice("input_repr", input_repr, (None, *INPUT_REPRS))
    if isinstance(audio, list):
        raise OpenL3Error("preprocess_audio takes one array, got a list")
    with as_openl3_error():
        [audio], [sr] = pair_rates(audio, sr)
        blocks, rate = open_source(audio, sr, FRAMING.dtype)
        windows = np.stack(list(cut_windows(blocks, rate, FRAMING, "the audio", hop_size, center, strict_openl3)))
    if input_repr is None:
        return windows[:, None]
    import torch

    spectrogram = OPENL3_FRONTENDS[input_repr][FRONTENDS[frontend]].spectrogram
    parts = torch.from_numpy(windows).split(_SPECTROGRAMS_AT_ONCE)
    return torch.cat([spectrogram(part) for part in parts]).unsqueeze(-1).numpy()
