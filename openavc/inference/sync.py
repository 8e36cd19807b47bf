"""The offset between the sound and the pictures of a video (Multisensory, section 3; AVTS).

Each clip of frames is compared with the sound at every offset. Frames and each window of sound go through their own
part of the network once; what all clips of some seconds say is added up, and `offsets` concludes. Memory doesn't grow
with the video, but for a row of numbers for every five seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.clips import Stretch, video_stretches, window_around
from ..media.file_object import BinaryFile, name_of
from ..media.loudness import windows_loudness
from ..models.contract import Synchronizes
from ..progress import step
from .arguments import check_file, get_model, shortened
from .batches import batched, inference_of, represent_clips, represent_windows, to_numpy
from .inputs import crop_to
from .offsets import Block, SyncResult, candidates, conclude

DEFAULT_MODEL = "multisensory-small"
BLOCK = 5.0  # seconds of video within which the offset doesn't change
_QUIETEST = -60.0  # dBFS; quieter sound tells nothing
_STILLEST = 0.5 / 255  # mean change of a pixel over a clip; stiller pictures tell nothing
BATCH_SIZE = 16  # sounds at once
LARGEST_OFFSET = 30.0  # seconds


def sync_offset(
    video: str | os.PathLike | BinaryFile,
    model: Any = None,
    *,
    max_offset: float = 2.0,
    audio: str | os.PathLike | BinaryFile | None = None,
    device: Any = None,
) -> SyncResult:
    """Measure how far the sound of a video is from its pictures.

    Parameters
    ----------
    video : str, path, or binary file object
        Of any length.
    model : str, path, model or None
        As in `get_audio_embedding`, trained to tell sound in step from sound that isn't. By default
        `multisensory-small`, which knows talking faces and a computer game.
    max_offset : float
        Seconds, largest offset that is looked for, both ways.
    audio : str, path, or binary file object, optional
        Another file, whose sound is compared instead of the video's own.
    device : optional
        As in `load_model`.

    Returns
    -------
    SyncResult
        `offset` in seconds, positive if the sound comes late, or None if it can't be told; `confidence`, the
        probability that it is right within 0.1 s; the `offsets` tried and their `scores`; `segments`, more than one if
        the offset changes on the way. `str()` of it is a plain sentence.

    Raises
    ------
    ValueError, TypeError
        If the model can't tell sync, `max_offset` is out of range, the path is invalid, or the video is shorter than
        the clips that the network takes.
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    check_file("video", video)
    if audio is not None:
        check_file("audio", audio)
    network = synchronizing_model(model, device)
    if isinstance(max_offset, bool) or not (isinstance(max_offset, int | float) and 0 < max_offset <= LARGEST_OFFSET):
        raise ValueError(
            f"max_offset must be seconds, above 0, at most {LARGEST_OFFSET:g}, got {shortened(max_offset)}"
        )
    offsets = candidates(max_offset)
    clips = video_stretches(
        video, network.sound, network.frames, hop_size(network), float(offsets[-1]), crop_to(network), audio
    )
    blocks = list(to_blocks(network, clips, offsets))
    if not blocks:
        clip = f"{network.frames.count} frames at {network.frames.rate:g} a second"
        raise ValueError(f"{name_of(video)} is too short: {network.name} takes clips of {clip}")
    return conclude(offsets, blocks, network.evidence)


def synchronizing_model(model: Any = None, device: Any = None) -> Synchronizes:
    """Return the model an argument stands for, by default the one that ships, which must tell sync."""
    network = get_model(DEFAULT_MODEL if model is None else model, device)
    if not isinstance(network, Synchronizes):
        raise ValueError(
            f"{network.name} wasn't trained to tell whether sound is in step with pictures; {DEFAULT_MODEL} was, which "
            "ships with openavc"
        )
    return network


def hop_size(model: Synchronizes) -> float:
    """Return the seconds from one clip of frames to the next: half a window."""
    return model.sound.seconds / 2


def to_blocks(model: Synchronizes, stretches: Iterable[Stretch], offsets: np.ndarray) -> Iterator[Block]:
    """Add up what the clips of each block say about the offsets (K,)."""
    block, sounds = None, Sounds(model)
    for stretch in stretches:
        step()
        if block is not None and stretch.time >= block.start + BLOCK:
            block.end = stretch.time
            yield block
            block = Block.empty(stretch.time, len(offsets))
        if block is None:
            block = Block.empty(0.0, len(offsets))
        block.add(offset_logits(model, stretch, offsets, sounds), stretch.time + model.sound.seconds / 2)
    if block is not None:
        yield block


class Sounds:
    """Represents the windows of one recording, each once, though several clips of frames are compared with it."""

    def __init__(self, model: Synchronizes):
        self.model = model
        self.known: dict[int, Tensor] = {}  # by their first sample in the recording

    def represent(self, stretch: Stretch, starts: np.ndarray) -> list[Tensor]:
        """Return what represents the windows of a stretch that begin at its samples `starts`: K inputs of `compare`.

        Windows that begin before all of these are forgotten, as later clips don't ask for them.
        """
        wanted = {int(stretch.start + start): int(start) for start in starts}
        self.known = {place: row for place, row in self.known.items() if place >= min(wanted)}
        length = self.model.sound.samples
        new = ((at, stretch.samples[start : start + length]) for at, start in wanted.items() if at not in self.known)
        self.known |= dict(represent_windows(self.model, new, BATCH_SIZE))
        return [self.known[place] for place in wanted]


def offset_logits(
    model: Synchronizes, stretch: Stretch, offsets: np.ndarray, sounds: Sounds | None = None
) -> np.ndarray:
    """Compare a clip of frames with the sound at each offset: (K,) logits, NaN where there is nothing to compare.

    That is where the file has no such sound, or it is silent, or the pictures don't move. `sounds` knows windows of the
    same recording.
    """
    logits = np.full(len(offsets), np.nan)
    rate, length = model.sound.sample_rate, model.sound.samples
    starts = np.array([window_around(stretch.time + offset, model.sound.seconds, rate)[0] for offset in offsets])
    starts -= stretch.start
    inside = (starts >= 0) & (starts + length <= len(stretch.samples))
    if not inside.any() or np.abs(stretch.frames - stretch.frames[:1]).mean() < _STILLEST:
        return logits
    inside[inside] = windows_loudness(stretch.samples, starts[inside], length) >= _QUIETEST
    if not inside.any():
        return logits
    ((_, frames),) = represent_clips(model, [(None, stretch.frames)])
    heard = (sounds or Sounds(model)).represent(stretch, starts[inside])
    with inference_of(model):
        compared = [_logits(model, frames, torch.stack(batch)) for batch in batched(heard, BATCH_SIZE)]
    logits[inside] = to_numpy(torch.cat(compared), model)
    return logits


def _logits(model: Synchronizes, frames: Tensor, sounds: Tensor) -> Tensor:
    """Compare what represents one clip of frames (...) with what represents windows of sound (B, ...): (B,)."""
    return model.compare(frames.expand(len(sounds), *frames.shape), sounds).float().diff(dim=1)[:, 0]
