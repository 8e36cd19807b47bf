"""Where in a picture is what sounds? Maps of pictures and of the frames of videos.

A map is the model's probability that each place of a picture sounds, from a network that localises such as AVOL-Net.
The network sees all of the picture, at the scale it was trained on, whatever its shape.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.clips import Clip, video_clips
from ..media.image import enlarge, read_image, to_images, uncropped
from ..models.contract import Localizes
from .arguments import check_frame_rate, get_model, is_path, pair_rates
from .batches import batched, prepared_audio, prepared_frames, represent_windows, stacked, to_numpy
from .inputs import audio_windows

DEFAULT_MODEL = "avol-small"
BATCH_SIZE = 8  # whole pictures at once


def localize_sound(
    image: Any, audio: Any, sr: int | None = None, model: Any = None, *, device: Any = None
) -> np.ndarray:
    """Return the map of where in a picture the sound comes from (Objects that Sound, section 4).

    Parameters
    ----------
    image : array or tensor (H, W, 3), or path
    audio : array or tensor (n,) or (n, channels), or path
        A recording longer than the model's window gets the mean of the maps of its windows, half overlapping.
    sr : int or None
        Sample rate in Hz; None for a path.
    model : str, path, model or None
        As in `get_audio_embedding`; None is the localising model that ships in the package.

    Returns
    -------
    heatmap : ndarray, shape (H, W), float32
        In [0, 1], at the picture's own size, enlarged bilinearly from the network's coarser one. The maximum of the
        network's own map is the probability that sound and picture belong together, so it stays dark where they don't.
        (`correspondence_score` may differ a little: it sees the middle of the picture, as in training.)

    Raises
    ------
    ValueError, TypeError
        If the model can't localise, there is more than one picture or recording, or an array makes no sense.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = localizing_model(model, device)
    picture = one_picture(image)
    recordings, rates = pair_rates(audio, sr)
    if len(recordings) != 1:
        raise ValueError(f"one recording is localised at a time, got {len(recordings)}: call localize_sound for each")
    windows = audio_windows(recordings[0], rates[0], model, hop_size=model.sound.seconds / 2, center=False)
    seen = next(represent_pictures(model, [picture]))
    total, count = np.zeros(1, dtype=np.float32), 0
    for _, heard in represent_windows(model, windows):
        total, count = total + to_numpy(map_logits(model, seen, heard[None]).sigmoid())[0], count + 1
    return enlarge(total / count, *picture.shape[:2])


def localize_video(
    path: str | os.PathLike,
    model: Any = None,
    *,
    audio: str | os.PathLike | None = None,
    frame_rate: float | None = None,
    device: Any = None,
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Give the map of where the sound comes from in each frame of a video, in constant memory.

    Each frame is worked on by itself, with the window of sound centred on its true time, and nothing is smoothed.

    Parameters
    ----------
    path : str or path
    model : str, path, model or None
        As in `localize_sound`.
    audio : str or path, optional
        Another recording to localise instead of the video's own sound, from the start of the video: the paper's
        mismatched pairs. Where it has ended there is silence, and where the video has ended it is cut off.
    frame_rate : float, optional
        Frames a second to localise; all frames by default.

    Returns
    -------
    iterator of (timestamp, frame, heatmap)
        Presentation time in seconds, the frame, uint8 (H, W, 3), and its map, float32 (H, W) in [0, 1].

    Raises
    ------
    ValueError
        If the model can't localise, or the frame rate makes no sense.
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    for name, file in {"path": path, "audio": path if audio is None else audio}.items():
        if not is_path(file):
            raise TypeError(f"{name} must be a str or path, got {type(file).__name__}")
    model = localizing_model(model, device)
    if frame_rate is not None:
        check_frame_rate(frame_rate)
    clips = video_clips(path, model.sound, model.frames, frame_rate, audio=audio)
    try:
        first = next(clips)  # a file without pictures or sound fails here, not at the first use
    except OSError as error:
        if audio is None and "holds no sound" in str(error):
            raise OSError(f"{error}; give another to localise: audio=, on the command line --mismatch") from error
        raise
    return _maps(model, itertools.chain([first], clips))


def _maps(model: Localizes, clips: Iterable[Clip]) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Give (time, frame, map) of each clip of one frame."""
    for batch in batched(clips, BATCH_SIZE):
        seen = represent_pictures(model, (to_images(clip.frames[0])[0] for clip in batch))
        with torch.inference_mode():
            heard = model.represent_audio(prepared_audio(model, stacked(model, [clip.samples for clip in batch])))
        for clip, cells, sound in zip(batch, seen, heard, strict=True):
            heatmap = to_numpy(map_logits(model, cells, sound[None]).sigmoid())[0]
            yield clip.time, clip.frames[0], enlarge(heatmap, *clip.frames.shape[1:3])


def localizing_model(model: Any = None, device: Any = None) -> Localizes:
    """Return the model an argument stands for, by default the one that ships; ValueError if it can't localise."""
    model = get_model(DEFAULT_MODEL if model is None else model, device)
    if not isinstance(model, Localizes):
        raise ValueError(
            f"{model.name} can't localise sound in pictures; {DEFAULT_MODEL} can, which ships with openavc"
        )
    return model


def represent_pictures(
    model: Localizes, pictures: Iterable[np.ndarray], batch_size: int = BATCH_SIZE
) -> Iterator[Tensor]:
    """Turn uncropped pictures (H, W, 3), float32 in [0, 1], into what `map_logits` takes: (D, h, w) each.

    Neighbours of one shape share a batch.
    """
    for batch in picture_batches(model, pictures, batch_size):
        with torch.inference_mode():
            rows = model.represent_frames(batch)
        yield from rows


def picture_batches(model: Localizes, pictures: Iterable[np.ndarray], batch_size: int = BATCH_SIZE) -> Iterator[Tensor]:
    """Prepare uncropped pictures (H, W, 3) for the picture tower; neighbours of one shape share a batch."""
    frames = model.frames
    resized = (uncropped(picture, frames.height, frames.width, model.map_stride) for picture in pictures)
    for _, group in itertools.groupby(resized, key=lambda picture: picture.shape):
        for batch in batched(group, batch_size):
            yield prepared_frames(model, stacked(model, [picture[None] for picture in batch]))


def map_logits(model: Localizes, seen: Tensor, sounds: Tensor) -> Tensor:
    """Give the logits that each cell of one picture, (D, h, w), sounds, for each of the sounds (N, D): (N, h, w)."""
    with torch.inference_mode():
        return model.localize(seen.expand(len(sounds), *seen.shape), sounds).float()


def one_picture(image: Any) -> np.ndarray:
    """Return the only picture of an argument, (H, W, 3), float32 in [0, 1]."""
    items = image if isinstance(image, list) else [image]
    pictures = [picture for item in items for picture in ([read_image(item)] if is_path(item) else to_images(item))]
    if len(pictures) != 1:
        raise ValueError(f"one picture is localised at a time, got {len(pictures)}: call localize_sound for each")
    return pictures[0]
