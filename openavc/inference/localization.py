"""Maps of where in a picture, or in each frame of a video, the sound comes from.

A map is the model's probability that each position of a picture sounds, from a network that localises, such as
AVOL-Net. The network sees the entire picture, at the scale it was trained on, whatever its shape.
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
from ..media.file_object import BinaryFile, is_file
from ..media.image import enlarge, to_images, uncropped
from ..models.contract import Localizes
from .arguments import check_file, check_frame_rate, get_model, pair_rates
from .batches import batched, inference_of, prepared_audio, prepared_frames, represent_windows, stacked, to_numpy
from .inputs import audio_windows, read_picture

DEFAULT_MODEL = "avol-small"
BATCH_SIZE = 8  # uncropped pictures at once


def localize_sound(
    image: Any, audio: Any, sr: int | None = None, model: Any = None, *, device: Any = None
) -> np.ndarray:
    """Return the map of where in a picture the sound comes from (Objects that Sound, section 4).

    Parameters
    ----------
    image : array or tensor (H, W, 3), path, or binary file object
    audio : array or tensor (n,) or (n, channels), path, or binary file object
        For a recording longer than the model's window, the maps of its windows, which overlap by half, are averaged.
    sr : int or None
        Sample rate in Hz; None for a file.
    model : str, path, model or None
        As in `get_audio_embedding`; None for the localising model that ships with the package.
    device : optional
        As in `load_model`.

    Returns
    -------
    heatmap : ndarray, shape (H, W), float32
        In [0, 1], at the picture's own size, enlarged bilinearly from the network's coarser one. The maximum of the
        network's own map is the probability that sound and picture belong together, so the map stays dark if they
        don't. (`correspondence_score` may differ a little: it sees only the middle of the picture, as in training.)

    Raises
    ------
    ValueError, TypeError
        If the model can't localise, there is more than one picture or recording, or an array is invalid.
    FileNotFoundError, OSError
        For files that are missing or can't be decoded.
    """
    model = localizing_model(model, device)
    picture = one_picture(image)
    recordings, rates = pair_rates(audio, sr)
    if len(recordings) != 1:
        raise ValueError(f"one recording is localised at a time, got {len(recordings)}: call localize_sound for each")
    if model.frames.count > 1:
        raise ValueError(
            f"{model.name} takes clips of {model.frames.count} frames, not single pictures: use localize_video"
        )
    windows = audio_windows(recordings[0], rates[0], model, hop_size=model.sound.seconds / 2, center=False)
    seen = next(represent_pictures(model, [picture]))
    heard = [row for _, row in represent_windows(model, windows)]
    heatmap = torch.stack([map_logits(model, seen, row[None])[0].sigmoid() for row in heard]).mean(dim=0)
    return enlarge(to_numpy(heatmap, model), *picture.shape[:2])


def localize_video(
    path: str | os.PathLike | BinaryFile,
    model: Any = None,
    *,
    audio: str | os.PathLike | BinaryFile | None = None,
    frame_rate: float | None = None,
    device: Any = None,
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Map where the sound comes from in each frame of a video, in constant memory.

    Each frame is mapped independently, with the window of sound centred on its true time, and nothing is smoothed.

    Parameters
    ----------
    path : str, path, or binary file object
    model : str, path, model or None
        As in `localize_sound`.
    audio : str, path, or binary file object, optional
        Another recording to localise instead of the video's own sound, from the start of the video: the paper's
        mismatched pairs. It is followed by silence if it ends before the video, and cut off if it ends after it.
    frame_rate : float, optional
        Frames per second to map; all frames by default.
    device : optional
        As in `load_model`.

    Returns
    -------
    maps : iterator of (timestamp, frame, heatmap)
        Presentation time in seconds, the frame, uint8 (H, W, 3), and its map, float32 (H, W) in [0, 1].

    Raises
    ------
    ValueError
        If the model can't localise, or the frame rate is invalid.
    TypeError
        If `path` or `audio` is neither a path nor a binary file object.
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    check_file("path", path)
    if audio is not None:
        check_file("audio", audio)
    model = localizing_model(model, device)
    if frame_rate is not None:
        check_frame_rate(frame_rate)
    clips = video_clips(path, model.sound, model.frames, frame_rate, audio=audio)
    try:
        first = next(clips)  # a file without pictures or sound fails here, not on first use of the iterator
    except OSError as error:
        if audio is None and "holds no sound" in str(error):
            raise OSError(f"{error}; give another to localise: audio=, on the command line --mismatch") from error
        raise
    return _map_clips(model, itertools.chain([first], clips))


def _map_clips(model: Localizes, clips: Iterable[Clip]) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield (time, frame, map) for each clip of one frame."""
    for batch in batched(clips, BATCH_SIZE):
        seen = represent_uncropped(model, (to_images(clip.frames) for clip in batch))
        with inference_of(model):
            heard = model.represent_audio(prepared_audio(model, stacked(model, [clip.samples for clip in batch])))
        for clip, cells, sound in zip(batch, seen, heard, strict=True):
            heatmap = to_numpy(map_logits(model, cells, sound[None]).sigmoid(), model)[0]
            frame = clip.frames[len(clip.frames) // 2]
            yield clip.time, frame, enlarge(heatmap, *frame.shape[:2])


def localizing_model(model: Any = None, device: Any = None) -> Localizes:
    """Return the model an argument stands for, by default the one that ships; raise ValueError if it can't localise."""
    model = get_model(DEFAULT_MODEL if model is None else model, device)
    if not isinstance(model, Localizes):
        raise ValueError(
            f"{model.name} can't localise sound in pictures; {DEFAULT_MODEL} can, which ships with openavc"
        )
    return model


def represent_pictures(
    model: Localizes, pictures: Iterable[np.ndarray], batch_size: int = BATCH_SIZE
) -> Iterator[Tensor]:
    """Turn uncropped pictures (H, W, 3), float32 in [0, 1], into inputs of `map_logits`: (D, h, w) each.

    Neighbours of one shape share a batch.
    """
    return represent_uncropped(model, (picture[None] for picture in pictures), batch_size)


def represent_uncropped(
    model: Localizes, clips: Iterable[np.ndarray], batch_size: int = BATCH_SIZE
) -> Iterator[Tensor]:
    """Turn clips of uncropped frames (T, H, W, 3), float32 in [0, 1], into inputs of `map_logits`: (D, h, w) each."""
    for batch in uncropped_batches(model, clips, batch_size):
        with inference_of(model):
            rows = model.represent_frames(batch)
        yield from rows


def uncropped_batches(model: Localizes, clips: Iterable[np.ndarray], batch_size: int = BATCH_SIZE) -> Iterator[Tensor]:
    """Prepare clips of uncropped frames (T, H, W, 3) for the picture tower; neighbours of one shape share a batch."""
    height, width = model.frames.height, model.frames.width

    def resized(clip: np.ndarray) -> np.ndarray:
        return model.precompute_frames(np.stack([uncropped(frame, height, width, model.map_stride) for frame in clip]))

    for _, group in itertools.groupby(map(resized, clips), key=lambda clip: clip.shape):
        for batch in batched(group, batch_size):
            yield prepared_frames(model, stacked(model, batch))


def map_logits(model: Localizes, seen: Tensor, sounds: Tensor) -> Tensor:
    """Return the logits that each cell of one picture (D, h, w) sounds, for each of the sounds (N, D): (N, h, w)."""
    with inference_of(model):
        return model.localize(seen.expand(len(sounds), *seen.shape), sounds).float()


def one_picture(image: Any) -> np.ndarray:
    """Return the only picture in an argument, (H, W, 3), float32 in [0, 1]; raise ValueError if there are more."""
    items = image if isinstance(image, list) else [image]
    pictures = [picture for item in items for picture in ([read_picture(item)] if is_file(item) else to_images(item))]
    if len(pictures) != 1:
        raise ValueError(f"one picture is localised at a time, got {len(pictures)}: call localize_sound for each")
    return pictures[0]
