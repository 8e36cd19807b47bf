"""Do a sound and a picture belong together? Scores of pairs, matrices of scores, scores along a video.

A score is the model's probability of correspondence. A recording longer than the model's window gets the mean over
its windows, half overlapping.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .audio import open_audio
from .inference import (
    audio_windows,
    check_frame_rate,
    get_model,
    image_squares,
    pair_rates,
    prepared_audio,
    prepared_images,
    run_batches,
    video_squares,
    video_windows,
)
from .motion import frames_of


def correspondence_score(audio, sr, image, model=None, *, device=None):
    """Probability that a sound and a picture belong together.

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
    ValueError
        If the numbers of recordings and pictures differ, or the model can't compare the two.
    """
    model = _comparing(model, device)
    recordings, rates = pair_rates(audio, sr)
    pictures = _pictures(image, model)
    single = not isinstance(audio, list) and not _is_stack(image, model)
    if len(recordings) == 1:
        return _single(_matrix(model, recordings, rates, pictures)[0], single)
    if len(recordings) != len(pictures):
        raise ValueError(f"{len(recordings)} recordings can't be paired with {len(pictures)} pictures: give as many")
    pairs = [
        _matrix(model, [recording], [rate], [picture])[0, 0]
        for recording, rate, picture in zip(recordings, rates, pictures, strict=True)
    ]
    return np.array(pairs)


def correspondence_matrix(audios, sr, images, model=None, *, device=None):
    """Probability of correspondence of each recording with each picture.

    Parameters
    ----------
    audios, sr, images, model
        As in `correspondence_score`, with any number of each.

    Returns
    -------
    scores : ndarray, shape (n_audios, n_images), float32
    """
    model = _comparing(model, device)
    recordings, rates = pair_rates(audios, sr)
    return _matrix(model, recordings, rates, _pictures(images, model))


class VideoScore(NamedTuple):
    """What `video_scores` returns."""

    scores: np.ndarray  # (T,) probabilities
    timestamps: np.ndarray  # (T,) seconds


def video_scores(path, model=None, *, frame_rate=1.0, device=None) -> VideoScore:
    """Probability that frame and sound belong together along a video, `frame_rate` times a second."""
    model = _comparing(model, device)
    check_frame_rate(frame_rate)
    blocks, rate = open_audio(path)
    squares = video_squares(path, frame_rate, model)
    times, images = zip(*represent_images(model, squares), strict=True)
    windows = video_windows(blocks, rate, path, times, model)
    sounds = np.stack([vector for _, vector in represent_windows(model, windows)])
    return VideoScore(probabilities(model, np.stack(images), sounds), np.array(times))


def _comparing(model, device):
    model = get_model(model, device)
    if not hasattr(model, "compare"):
        raise ValueError(f"{model.name} can't compare sound with pictures; choose another of openavc.list_models()")
    return model


def _is_stack(image, model) -> bool:
    return isinstance(image, list) or (getattr(image, "ndim", 0) == 4 and frames_of(model) == 1)


def _pictures(image, model) -> list[np.ndarray]:
    items = image if isinstance(image, list) else [image]
    if not items:
        raise ValueError("the list of pictures is empty")
    return [square for item in items for square in image_squares(item, model)]


def _single(scores: np.ndarray, single: bool):
    return float(scores[0]) if single else scores


def _matrix(model, recordings: list, rates: list, pictures: list[np.ndarray]) -> np.ndarray:
    images = np.stack([vector for _, vector in represent_images(model, enumerate(pictures))])  # (M, D)
    rows = []
    for recording, rate in zip(recordings, rates, strict=True):
        windows = audio_windows(recording, rate, model, hop_size=model.window_seconds / 2, center=False)
        total, count = np.zeros(len(images)), 0
        for _, sound in represent_windows(model, windows):
            total += probabilities(model, images, np.repeat(sound[None], len(images), axis=0))
            count += 1
        rows.append(total / count)
    return np.stack(rows).astype(np.float32)


def represent_windows(model, windows, batch_size=32):
    """(key, what `compare` takes) of (key, window) pairs."""
    return run_batches(
        iter(windows), batch_size, model, lambda batch: model.represent_audio(prepared_audio(model, batch))
    )


def represent_images(model, squares):
    """(key, what `compare` takes) of (key, square picture) pairs."""
    return run_batches(iter(squares), 32, model, lambda batch: model.represent_image(prepared_images(model, batch)))


def probabilities(model, images: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """Softmax of the model's two logits for each row: (n,) float32."""
    import torch

    parameter = next(model.parameters())
    image, sound = (torch.from_numpy(rows).to(parameter) for rows in (images, sounds))
    with torch.inference_mode():
        return model.compare(image, sound).float().softmax(dim=1)[:, 1].cpu().numpy()
