"""Scores of whether a sound and a picture belong together: of pairs, in matrices, along a video.

A score is the model's probability of correspondence. A recording longer than the model's window gets the mean score of
its windows, which overlap by half.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..media.file_object import BinaryFile
from ..models.contract import Compares
from .arguments import check_file, check_frame_rate, get_model, pair_rates
from .batches import BATCH_SIZE, batched, inference_of, prepared_clips, represent_clips, represent_windows, to_numpy
from .inputs import audio_windows, image_clips, model_clips


def correspondence_score(audio: Any, sr: Any, image: Any, model: Any = None, *, device: Any = None) -> Any:
    """Return the probability that a sound and a picture belong together.

    Parameters
    ----------
    audio : array or tensor (n,) or (n, channels), path, binary file object, or list of these
    sr : int or None
        Sample rate in Hz (a list of rates for a list); None for files.
    image : array or tensor (H, W, 3) or (N, H, W, 3), path, binary file object, or list of these
        One recording is compared with each of N pictures; N recordings are paired with N pictures.
    model : str, path, model or None
        As in `get_audio_embedding`.
    device : optional
        As in `load_model`.

    Returns
    -------
    score : float, or ndarray of shape (N,), float32, for a list or a stack of pictures or recordings
        In [0, 1]. Scores can be compared only within one model.

    Raises
    ------
    ValueError, TypeError
        If the numbers of recordings and pictures differ, the model can't compare the two, or an array is invalid.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = _comparing_model(model, device)
    recordings, rates = pair_rates(audio, sr)
    pictures = _pictures(image, model)
    single = not isinstance(audio, list) and not _is_stack(image, model)
    if len(recordings) == 1:
        scores = _score_matrix(model, recordings, rates, pictures)[0]
        return float(scores[0]) if single else scores
    if len(recordings) != len(pictures):
        raise ValueError(f"{len(recordings)} recordings can't be paired with {len(pictures)} pictures: give as many")
    pairs = [
        _score_matrix(model, [recording], [rate], [picture])[0, 0]
        for recording, rate, picture in zip(recordings, rates, pictures, strict=True)
    ]
    return np.array(pairs)


def correspondence_matrix(audios: Any, sr: Any, images: Any, model: Any = None, *, device: Any = None) -> np.ndarray:
    """Return the probability of correspondence between each recording and each picture.

    Parameters
    ----------
    audios : array or tensor (n,) or (n, channels), path, binary file object, or list of these
    sr : int or None
        Sample rate in Hz (a list of rates for a list); None for files.
    images : array or tensor (H, W, 3) or (N, H, W, 3), path, binary file object, or list of these
    model : str, path, model or None
        As in `get_audio_embedding`.
    device : optional
        As in `load_model`.

    Returns
    -------
    scores : ndarray, shape (n_audios, n_images), float32
        In [0, 1].

    Raises
    ------
    ValueError, TypeError
        If the model can't compare the two, or an array is invalid.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = _comparing_model(model, device)
    recordings, rates = pair_rates(audios, sr)
    return _score_matrix(model, recordings, rates, _pictures(images, model))


class VideoScore(NamedTuple):
    """Scores along a video, as `video_scores` returns them."""

    scores: np.ndarray  # (T,) probabilities
    timestamps: np.ndarray  # (T,) seconds


def video_scores(
    path: str | os.PathLike | BinaryFile, model: Any = None, *, frame_rate: float = 1.0, device: Any = None
) -> VideoScore:
    """Return the probability that picture and sound belong together, at moments along a video.

    Parameters
    ----------
    path : str, path, or binary file object
    model : str, path, model or None
        As in `get_audio_embedding`.
    frame_rate : float
        Scores per second. Each compares a frame (or the clip around it, for a model that sees motion) with the window
        of sound centred on its presentation time.
    device : optional
        As in `load_model`.

    Returns
    -------
    VideoScore
        `scores`, (T,) float32 in [0, 1], and `timestamps`, (T,) float64 in seconds.

    Raises
    ------
    ValueError, TypeError
        If the model can't compare sound with pictures, or the path or the frame rate is invalid.
    FileNotFoundError, OSError
        If the file is missing, can't be decoded, or lacks pictures or sound.
    """
    check_file("path", path)
    model = _comparing_model(model, device)
    check_frame_rate(frame_rate)
    times, scores = [], []
    for batch in batched(model_clips(path, model, frame_rate), BATCH_SIZE):
        with inference_of(model):
            frames, sound = prepared_clips(model, batch)
            scores.append(probabilities(model, model.represent_frames(frames), model.represent_audio(sound)))
        times += [clip.time for clip in batch]
    return VideoScore(to_numpy(torch.cat(scores), model), np.array(times, dtype=np.float64))


def _comparing_model(model: Any, device: Any) -> Compares:
    model = get_model(model, device)
    if not isinstance(model, Compares):
        raise ValueError(f"{model.name} can't compare sound with pictures; choose another of openavc.list_models()")
    return model


def _is_stack(image: Any, model: Compares) -> bool:
    return isinstance(image, list) or (getattr(image, "ndim", 0) == 4 and model.frames.takes_pictures)


def _pictures(image: Any, model: Compares) -> list[np.ndarray]:
    """Return the precomputed frames (T, H, W, 3) of each picture."""
    items = image if isinstance(image, list) else [image]
    if not items:
        raise ValueError("the list of pictures is empty")
    return [frames for item in items for frames in image_clips(item, model)]


def _score_matrix(model: Compares, recordings: list, rates: list, pictures: list[np.ndarray]) -> np.ndarray:
    seen = torch.stack([row for _, row in represent_clips(model, enumerate(pictures))])  # (M, ...)
    rows = []
    for recording, rate in zip(recordings, rates, strict=True):
        windows = audio_windows(recording, rate, model, hop_size=model.sound.seconds / 2, center=False)
        heard = (row for _, row in represent_windows(model, windows))
        scores = [probabilities(model, seen, row.expand(len(seen), *row.shape)) for row in heard]
        rows.append(torch.stack(scores).mean(dim=0))
    return to_numpy(rows, model)


def probabilities(model: Compares, frames: Tensor, audio: Tensor) -> Tensor:
    """Return the probability of correspondence for each row of the outputs of `represent_*`: (n,) float32."""
    with inference_of(model):
        return model.compare(frames, audio).float().softmax(dim=1)[:, 1]
