"""Do a sound and a picture belong together? Scores of pairs, matrices of scores, scores along a video.

A score is the model's probability of correspondence. A recording longer than the model's window gets the mean over
its windows, half overlapping.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..models.contract import Compares
from .arguments import check_frame_rate, get_model, pair_rates
from .batches import BATCH_SIZE, batched, prepared_clips, represent_clips, represent_windows, to_numpy
from .inputs import audio_windows, image_clips, model_clips


def correspondence_score(audio: Any, sr: Any, image: Any, model: Any = None, *, device: Any = None) -> Any:
    """Return the probability that a sound and a picture belong together.

    Parameters
    ----------
    audio : array or tensor (n,) or (n, channels), path, or list of these
    sr : int or None
        Sample rate in Hz (a list of rates for a list); None for paths.
    image : array or tensor (H, W, 3) or (N, H, W, 3), path, or list of these
        One recording with N pictures is compared with each; N recordings go with N pictures.
    model : str, path, model or None
        As in `get_audio_embedding`.

    Returns
    -------
    score : float, or ndarray of shape (N,) for a list or a stack of pictures or recordings
        In [0, 1]. Scores of one model may be compared with each other, those of two models may not.

    Raises
    ------
    ValueError, TypeError
        If the numbers of recordings and pictures differ, the model can't compare the two, or an array makes no sense.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = _comparing(model, device)
    recordings, rates = pair_rates(audio, sr)
    pictures = _pictures(image, model)
    single = not isinstance(audio, list) and not _is_stack(image, model)
    if len(recordings) == 1:
        scores = _matrix(model, recordings, rates, pictures)[0]
        return float(scores[0]) if single else scores
    if len(recordings) != len(pictures):
        raise ValueError(f"{len(recordings)} recordings can't be paired with {len(pictures)} pictures: give as many")
    pairs = [
        _matrix(model, [recording], [rate], [picture])[0, 0]
        for recording, rate, picture in zip(recordings, rates, pictures, strict=True)
    ]
    return np.array(pairs)


def correspondence_matrix(audios: Any, sr: Any, images: Any, model: Any = None, *, device: Any = None) -> np.ndarray:
    """Return the probability of correspondence of each recording with each picture.

    Parameters
    ----------
    audios : array or tensor (n,) or (n, channels), path, or list of these
    sr : int or None
        Sample rate in Hz (a list of rates for a list); None for paths.
    images : array or tensor (H, W, 3) or (N, H, W, 3), path, or list of these
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
        If the model can't compare the two, or an array makes no sense.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = _comparing(model, device)
    recordings, rates = pair_rates(audios, sr)
    return _matrix(model, recordings, rates, _pictures(images, model))


class VideoScore(NamedTuple):
    """What `video_scores` returns."""

    scores: np.ndarray  # (T,) probabilities
    timestamps: np.ndarray  # (T,) seconds


def video_scores(
    path: str | os.PathLike, model: Any = None, *, frame_rate: float = 1.0, device: Any = None
) -> VideoScore:
    """Return the probability that picture and sound belong together along a video.

    Parameters
    ----------
    path : str or path
    model : str, path, model or None
        As in `get_audio_embedding`.
    frame_rate : float
        Scores a second. Each is of a frame (of the clip around it, for a model that sees motion) and the window of
        sound centred on its presentation time.
    device : optional
        As in `load_model`.

    Returns
    -------
    VideoScore
        `scores`, (T,) float32 in [0, 1], and `timestamps`, (T,) float64 in seconds.

    Raises
    ------
    ValueError
        If the model can't compare sound with pictures, or the frame rate makes no sense.
    FileNotFoundError, OSError
        If the file is missing, can't be decoded, or lacks pictures or sound.
    """
    model = _comparing(model, device)
    check_frame_rate(frame_rate)
    times, scores = [], []
    for batch in batched(model_clips(path, model, frame_rate), BATCH_SIZE):
        with torch.inference_mode():
            frames, sound = prepared_clips(model, batch)
            scores.append(probabilities(model, model.represent_frames(frames), model.represent_audio(sound)))
        times += [clip.time for clip in batch]
    return VideoScore(to_numpy(torch.cat(scores)), np.array(times, dtype=np.float64))


def _comparing(model: Any, device: Any) -> Compares:
    model = get_model(model, device)
    if not isinstance(model, Compares):
        raise ValueError(f"{model.name} can't compare sound with pictures; choose another of openavc.list_models()")
    return model


def _is_stack(image: Any, model: Compares) -> bool:
    return isinstance(image, list) or (getattr(image, "ndim", 0) == 4 and model.frames.count == 1)


def _pictures(image: Any, model: Compares) -> list[np.ndarray]:
    """Return the frames (T, H, W, 3), precomputed, of each picture."""
    items = image if isinstance(image, list) else [image]
    if not items:
        raise ValueError("the list of pictures is empty")
    return [frames for item in items for frames in image_clips(item, model)]


def _matrix(model: Compares, recordings: list, rates: list, pictures: list[np.ndarray]) -> np.ndarray:
    seen = torch.stack([row for _, row in represent_clips(model, enumerate(pictures))])  # (M, ...)
    rows = []
    for recording, rate in zip(recordings, rates, strict=True):
        windows = audio_windows(recording, rate, model, hop_size=model.sound.seconds / 2, center=False)
        total, count = np.zeros(len(seen)), 0
        for _, heard in represent_windows(model, windows):
            total += to_numpy(probabilities(model, seen, heard.expand(len(seen), *heard.shape)))
            count += 1
        rows.append(total / count)
    return np.stack(rows).astype(np.float32)


def probabilities(model: Compares, frames: Tensor, audio: Tensor) -> Tensor:
    """Take the softmax of the model's two logits for each row of what `represent_*` gave: (n,) float32."""
    with torch.inference_mode():
        return model.compare(frames, audio).float().softmax(dim=1)[:, 1]
