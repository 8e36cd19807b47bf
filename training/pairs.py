"""Pairs of frames and sound from shards, with augmentation, for training.

Everything is a function of (seed, position): the n-th pair of a run is the same whatever the number of workers, and
after a restart. Pairs carry a label, 1 if frames and sound belong together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from openavc.media.image import shrink_to
from openavc.models.contract import AudioVisualModel

from .corpora.shards import Shards, StoredClip, clip_frames, too_slow
from .moments import Moments
from .negatives import Negatives, OtherClip
from .recipe import Data


class Pairs(Dataset):
    """Data set of pairs: item `position` holds `windows_per_clip` pairs of one clip.

    Each pass visits every clip once, in a new order. Clips are left out if they are shorter than a window, have no room
    for the negatives, have frames too far apart for a network that sees several, or, with `grouped`, belong to a group
    of which another clip is left out.

    Items are dicts of `frames` (n, T, height, width, 3) in [0, 1], or what the network's `precompute_frames` makes of
    each clip; `samples` (n, window samples, channels); `label` (n,); `target` (n,), the index of the first label of the
    picture's clip among `classes`, or -1; `group` (n,), the number of the clip's group, 0 without groups; and, where
    negatives are drawn for each pair, `negatives` (n, drawn, window samples, channels) and `lags` (n, drawn), by how
    many seconds they come after the frames; NaN for those of another clip.

    Parameters
    ----------
    shards : Shards
    model : AudioVisualModel
        Only its description of inputs is kept, not the network: worker processes get a copy of this object.
    data : Data
    seed : int
    share : float
        Share of negative pairs; 0 where the objective makes its negatives from the batch.
    negatives : Negatives
        How the sound of a negative pair is chosen.
    drawn : int
        Negatives drawn for each true pair, beside its own sound.
    classes : sequence of str, optional
        Labels in the order in which targets number them; by default the corpus's own, sorted.

    Raises
    ------
    ValueError
        If fewer than two videos have a usable clip, or clips lack the groups or the mask that `data` asks for.
    """

    def __init__(
        self,
        shards: Shards,
        model: AudioVisualModel,
        data: Data,
        seed: int,
        share: float = 0.5,
        negatives: Negatives | None = None,
        drawn: int = 0,
        classes: Sequence[str] | None = None,
    ):
        self.shards, self.data, self.seed, self.share, self.drawn = shards, data, seed, share, drawn
        self.negatives = negatives if negatives and (share or drawn) else OtherClip()
        self.sound, self.frames, self.precompute_frames = model.sound, model.frames, model.precompute_frames
        self.moments = Moments(shards, self.sound, self.frames, data, self.negatives)
        self.clips = self.moments.clips
        self.classes = list(shards.classes if classes is None else classes)
        self.group_size = 1
        if data.grouped:
            self.clips, self.group_size = complete_groups(shards, self.clips)
        if len({clip.source for clip in self.clips}) < 2:
            raise ValueError(self._shortage())
        self.negatives.check(self.moments)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def _shortage(self) -> str:
        """Explain which clips are needed, and why there are too few."""
        count, rate = self.frames.count, self.frames.rate or 0.0
        run = f" and have {count} frames around one of their moments" if count > 1 else ""
        text = (
            f"for negatives, clips of at least two videos are needed that are {self.sound.seconds:.2f} s long"
            f"{run}{self.negatives.requirement()}; there are {len(self.clips)} such clips"
        )
        if slow := sum(too_slow(clip, self.frames) for clip in self.shards.clips):
            text += f"; the frames of {slow} others are too far apart: prepare with --frame-rate {rate:g}"
        return text

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, position])
        number = self._number(position)
        clip = self.clips[number]
        target = self.classes.index(clip.labels[0]) if clip.labels else -1
        taken: list[float] = []
        pairs = [self._pair(clip, taken, rng) for _ in range(self.data.windows_per_clip)]
        frames, samples, labels = zip(*pairs, strict=True)
        sounds = torch.from_numpy(np.stack(samples))  # (n, 1 + drawn, window samples, channels)
        item = {
            "frames": torch.from_numpy(np.stack(frames)),
            "samples": sounds[:, 0],
            "label": torch.tensor(labels),
            "target": torch.full((len(labels),), target),
            "group": torch.full((len(labels),), number // self.group_size if self.data.grouped else 0),
        }
        return item | {"negatives": sounds[:, 1:]} if self.drawn else item

    def _number(self, position: int) -> int:
        """Return the number of the clip visited at a position."""
        epoch, rank = divmod(position, len(self.clips))
        if self._order[0] != epoch:
            groups = np.arange(len(self.clips)).reshape(-1, self.group_size)
            self._order = (epoch, np.random.default_rng([self.seed, epoch, 1]).permutation(groups).ravel())
        return int(self._order[1][rank])

    def _pair(self, clip: StoredClip, taken: list[float], rng: np.random.Generator) -> tuple:
        """Draw a pair whose sound avoids those at the times `taken`, if it can, and add its own time to them.

        Returns the frames, the sounds (1 + drawn, samples, channels), all with one gain, and the label.
        """
        positive = rng.random() >= self.share
        moment = self.moments.draw(clip, self._free_frames(clip, taken), rng)
        taken.append(moment.time)
        samples = moment.samples
        if not positive:  # its picture also shows a loud moment, so pictures offer no shortcut
            _, samples = self.negatives.draw(self.moments, clip, moment.time, rng)
        drawn = [self.negatives.draw(self.moments, clip, moment.time, rng)[1] for _ in range(self.drawn)]
        frames = self.shards.frames(clip, clip_frames(clip, moment.index, self.frames))
        augmented = augment(frames, self.frames.height, self.frames.width, self.data, rng)
        gain = np.float32(rng.uniform(*self.data.gain))
        return self.precompute_frames(augmented), np.stack([samples, *drawn]) * gain, int(positive)

    def _free_frames(self, clip: StoredClip, taken: list[float]) -> np.ndarray:
        """Select the usable frames whose sound doesn't overlap those taken; all usable ones if there is no room."""
        usable, distance = self.moments.usable(clip), self.sound.seconds + self.moments.reach
        beside = usable & np.all([np.abs(clip.frame_times - other) >= distance for other in taken], axis=0)
        return beside if beside.any() else usable


def augment(frames: np.ndarray, height: int, width: int, data: Data, rng: np.random.Generator) -> np.ndarray:
    """Crop, flip and recolour frames at random (L3 paper), all frames of a clip alike.

    Parameters
    ----------
    frames : ndarray, shape (T, H, W, 3), float32 in [0, 1]
    height, width : int
        Size of the crop, in pixels.
    data : Data
        Ranges of brightness and saturation, and whether to flip.
    rng : Generator

    Returns
    -------
    frames : ndarray, shape (T, height, width, 3), float32 in [0, 1]
    """
    shrunk = [shrink_to(frame, height, width) for frame in frames]
    rows, columns = shrunk[0].shape[:2]
    top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
    return flip_and_recolour(np.stack([frame[top : top + height, left : left + width] for frame in shrunk]), data, rng)


def flip_and_recolour(frames: np.ndarray, data: Data, rng: np.random.Generator) -> np.ndarray:
    """Flip and recolour frames (T, H, W, 3) at random, all alike."""
    step = -1 if data.flip and rng.random() < 0.5 else 1
    saturation = np.float32(rng.uniform(*data.saturation))
    brightness = np.float32(rng.uniform(-1, 1) * data.brightness)
    return _recoloured(np.ascontiguousarray(frames[:, :, ::step]), saturation, brightness)


def _recoloured(frames: np.ndarray, saturation: np.float32, brightness: np.float32) -> np.ndarray:
    """Scale the distances from grey by `saturation`, and add `brightness` to all values."""
    grey = frames.mean(axis=-1, keepdims=True)
    return np.clip(grey + (frames - grey) * saturation + brightness, 0, 1)


def complete_groups(shards: Shards, clips: list[StoredClip]) -> tuple[list[StoredClip], int]:
    """Keep the clips of complete groups, and put those of one group side by side.

    Returns
    -------
    clips : list of StoredClip
    size : int
        Number of clips in a group.

    Raises
    ------
    ValueError
        If a clip has no group.
    """
    if any(clip.group is None for clip in clips):
        raise ValueError("grouped = true needs clips in groups, as training.simulate makes in the scenes solo and duo")
    groups: dict[tuple, list[StoredClip]] = {}
    for clip in clips:  # each folder numbers its own groups
        groups.setdefault((shards.paths[clip.shard].parent, clip.group), []).append(clip)
    size = max(map(len, groups.values()), default=1)
    complete = [group for group in groups.values() if len(group) == size]
    return [clip for group in complete for clip in group], size


def concatenate(items: Sequence[dict]) -> dict[str, torch.Tensor]:
    """Collate items into one batch of pairs; windows of one clip stay neighbours."""
    return {name: torch.cat([item[name] for item in items]) for name in items[0]}
