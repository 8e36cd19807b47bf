"""Maps of where in a picture, or in each frame of a video, the sound comes from.

A map is the model's probability that each position of a picture sounds, from a network that localises, such as
AVOL-Net; networks that fuse videos with their sound, such as Multisensory's, give activations instead. The network sees
the entire picture, at the scale it was trained on, whatever its shape.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..media.clips import video_clips
from ..media.file_object import BinaryFile, as_path, is_file
from ..media.image import enlarge, to_images, uncropped
from ..models.contract import AudioVisualModel, Localizes, LocalizesInTime
from .activations import advising_another_sound, map_frames, video_activations
from .arguments import check_file, check_frame_rate, get_model, pair_rates, shortened
from .batches import batched, inference_of, prepared_audio, prepared_frames, represent_windows, stacked, to_numpy
from .inputs import audio_windows, read_picture
from .peaks import Peaks, peaks_of_frames

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
        If the model can't localise sound in single pictures, there is more than one picture or recording, or an array
        is invalid.
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
    maximum: float | None = None,
    device: Any = None,
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Map where the sound comes from in each frame of a video, in constant memory.

    Each frame is mapped independently, with the window of sound centred on its true time, and nothing is smoothed. A
    network that fuses clips with their sound, such as Multisensory's, maps clips that overlap by half instead: the
    video is read to its end before the first map comes, and again for its frames. Between the times of such a network's
    maps, those of frames are interpolated.

    Parameters
    ----------
    path : str, path, or binary file object
    model : str, path, model or None
        As in `localize_sound`, or a network that fuses clips with their sound.
    audio : str, path, or binary file object, optional
        Another recording to localise instead of the video's own sound, from the start of the video: the paper's
        mismatched pairs. It is followed by silence if it ends before the video, and cut off if it ends after it.
    frame_rate : float, optional
        Frames per second to map; all frames by default.
    maximum : float, optional
        For networks that fuse clips: the activation that becomes 1, while half of it becomes 0; 35 in the paper's
        figures. By default it is the 97th percentile of the video's activations.
    device : optional
        As in `load_model`.

    Returns
    -------
    maps : iterator of (timestamp, frame, heatmap)
        Presentation time in seconds, the frame, uint8 (H, W, 3), and its map, float32 (H, W) in [0, 1]: probabilities,
        or, of a network that fuses clips, activations on the scale of `maximum`.

    Raises
    ------
    ValueError
        If the model can't localise, or the frame rate or the maximum is invalid.
    TypeError
        If `path` or `audio` is neither a path nor a binary file object.
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    network = check_video(path, audio, model, device, frame_rate, maximum)
    if isinstance(network, LocalizesInTime):
        maps = _map_in_time(network, path, audio, frame_rate, maximum)
    else:
        maps = _map_clips(network, path, audio, frame_rate)
    return _begun(next(maps), maps)  # a file without pictures or sound fails here, not on first use


def _begun(
    first: tuple[float, np.ndarray, np.ndarray], others: Iterator[tuple[float, np.ndarray, np.ndarray]]
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield the first map, which is computed already, and the others; what is closed early lets go of the file."""
    yield first
    yield from others


def video_peaks(
    path: str | os.PathLike | BinaryFile,
    model: Any = None,
    *,
    audio: str | os.PathLike | BinaryFile | None = None,
    frame_rate: float | None = None,
    device: Any = None,
) -> Peaks:
    """Measure how strongly a network responds to a video, by which the paper ranks videos (Multisensory, section 4).

    Arguments and errors are those of `localize_video`.

    Returns
    -------
    Peaks
        The highest probability of each frame's map, or, of a network that fuses clips, the highest activation of each
        of its maps.
    """
    network = check_video(path, audio, model, device, frame_rate, None)
    if isinstance(network, LocalizesInTime):
        return video_activations(path, network, audio).peaks()
    maps = localize_video(path, network, audio=audio, frame_rate=frame_rate)
    return peaks_of_frames((time, float(heatmap.max())) for time, _, heatmap in maps)


def check_video(
    path: Any, audio: Any, model: Any, device: Any, frame_rate: Any, maximum: Any
) -> Localizes | LocalizesInTime:
    """Check the arguments of `localize_video`, and return the network."""
    check_file("path", path)
    if audio is not None:
        check_file("audio", audio)
    network = video_localizing_model(model, device)
    if frame_rate is not None:
        check_frame_rate(frame_rate)
    if maximum is not None and not isinstance(network, LocalizesInTime):
        raise ValueError(f"maximum goes with networks that give activations; {network.name} gives probabilities")
    number = isinstance(maximum, int | float | np.floating) and not isinstance(maximum, bool)
    if maximum is not None and not (number and 0 < maximum < np.inf):
        raise ValueError(f"maximum must be an activation above 0, got {shortened(maximum)}")
    return network


def _map_in_time(
    model: LocalizesInTime, path: Any, audio: Any, frame_rate: float | None, maximum: float | None
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield (time, frame, map) of a file that is read twice, though an object can be read only once."""
    with as_path(path) as file:
        yield from map_frames(file, video_activations(file, model, audio), frame_rate, maximum)


def _map_clips(
    model: Localizes, path: Any, audio: Any, frame_rate: float | None
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield (time, frame, map) of each frame by itself."""
    clips = video_clips(path, model.sound, model.frames, frame_rate, audio=audio)
    with advising_another_sound(audio):
        clips = itertools.chain([next(clips)], clips)
    for batch in batched(clips, BATCH_SIZE):
        seen = represent_uncropped(model, (to_images(clip.frames) for clip in batch))
        with inference_of(model):
            heard = model.represent_audio(prepared_audio(model, stacked(model, [clip.samples for clip in batch])))
        for clip, cells, sound in zip(batch, seen, heard, strict=True):
            heatmap = to_numpy(map_logits(model, cells, sound[None]).sigmoid(), model)[0]
            frame = clip.frames[len(clip.frames) // 2]
            yield clip.time, frame, enlarge(heatmap, *frame.shape[:2])


def localizing_model(model: Any = None, device: Any = None) -> Localizes:
    """Return the model an argument stands for, by default the one that ships.

    Raises
    ------
    ValueError
        If it can't localise sound in single pictures.
    """
    network = get_model(DEFAULT_MODEL if model is None else model, device)
    if isinstance(network, LocalizesInTime) and not isinstance(network, Localizes):
        raise ValueError(
            f"{network.name} takes clips of {network.frames.count} frames with their sound, not single pictures: give "
            "it a video, to localize_video or openavc localize"
        )
    return _checked(network)


def video_localizing_model(model: Any = None, device: Any = None) -> Localizes | LocalizesInTime:
    """Return the model an argument stands for, by default the one that ships; raise ValueError if it can't localise.

    A network that fuses clips with their sound has its finest maps, unless it was loaded by the caller.
    """
    wanted = DEFAULT_MODEL if model is None else model
    network = get_model(wanted, device)
    if not isinstance(network, LocalizesInTime):
        return _checked(network)
    return cast(LocalizesInTime, get_model(wanted, device, **network.finest))


def _checked(network: AudioVisualModel) -> Localizes:
    if not isinstance(network, Localizes):
        raise ValueError(
            f"{network.name} can't localise sound in pictures; {DEFAULT_MODEL} can, which ships with openavc"
        )
    return network


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
