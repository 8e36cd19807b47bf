"""Photographs and recordings of labelled shards, as `training.prepare --by-class` writes them, read for a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.media.clips import SoundInput
from openavc.models.contract import AudioVisualModel

from ...corpora.shards import Shards, StoredClip


@dataclass(frozen=True)
class Items:
    """Photographs, or recordings, of some shards, with what is known about them."""

    shards: Shards
    clips: list[StoredClip]
    about: list[dict]

    @property
    def labels(self) -> np.ndarray:
        """Class of each, (n,) str."""
        return np.array([clip.labels[0] for clip in self.clips], dtype=object)

    @property
    def origins(self) -> np.ndarray:
        """Origin of each, (n,) str."""
        return np.array([clip.source for clip in self.clips], dtype=object)

    @property
    def categories(self) -> dict[str, str]:
        """Category of each class that has one."""
        return {
            clip.labels[0]: about["category"]
            for clip, about in zip(self.clips, self.about, strict=True)
            if about.get("category")
        }

    def of(self, classes: Sequence[str]) -> Items:
        """Keep those of some classes."""
        kept = [k for k, clip in enumerate(self.clips) if clip.labels[0] in set(classes)]
        return Items(self.shards, [self.clips[k] for k in kept], [self.about[k] for k in kept])

    def traces(self, names: Sequence[str]) -> np.ndarray:
        """Return technical traces of what each was before it was brought to one form: (n, len(names)).

        Raises
        ------
        ValueError
            If they weren't kept.
        """
        try:
            return np.array([[about["traces"][name] for name in names] for about in self.about], dtype=np.float64)
        except KeyError as error:
            raise ValueError(f"the shards keep no {error} of their files: prepare them with --by-class") from None


def find_items(folder: Path) -> tuple[Items, Items]:
    """Find the photographs and the recordings in a folder of shards; ValueError if one of the two is missing."""
    shards = Shards(folder)
    labelled = [clip for clip in shards.clips if clip.labels]
    photographs = [clip for clip in labelled if len(clip.frame_times) and not clip.samples]
    recordings = [clip for clip in labelled if clip.samples and not len(clip.frame_times)]
    if not photographs or not recordings:
        raise ValueError(
            f"{folder} holds {len(photographs)} photographs and {len(recordings)} recordings with labels: both are "
            "needed, as training.prepare --by-class makes them"
        )
    found = [Items(shards, clips, [shards.about(clip) for clip in clips]) for clips in (photographs, recordings)]
    return found[0], found[1]


def read_photographs(items: Items, model: AudioVisualModel) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each photograph and its centre at the network's size, as `represent_clips` takes them."""
    for number, clip in enumerate(items.clips):
        yield number, model.precompute_frames(items.shards.frames_at(clip, 0, model.frames))


def read_windows(items: Items, sound: SoundInput, most: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each recording with each of its windows, (n, channels); at most so many, evenly spread.

    A recording that is shorter than a window lies in its middle, between zeros.
    """
    for number, clip in enumerate(items.clips):
        first, last = sound.seconds / 2, clip.seconds - sound.seconds / 2
        count = min(most, 1 + max(0, int((last - first) / (sound.seconds / 2))))
        middles = np.linspace(first, last, count) if count > 1 else [clip.seconds / 2]
        for middle in middles:
            yield (
                number,
                items.shards.sound(clip, float(middle), sound.seconds, sound.sample_rate, sound.channels),
            )
