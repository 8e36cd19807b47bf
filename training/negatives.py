"""Negatives: the choice of a sound for a picture that it doesn't belong to.

A recipe names a kind, or several with their shares. Draws depend only on a random generator, which `training.pairs`
makes from (seed, position). The sound lies at a frame of its clip in positive and negative pairs alike, so its
position gives nothing away (Objects that Sound, section 3.3). Times are in seconds.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from .corpora.shards import StoredClip
    from .moments import Moments

_ROUNDING = 1e-6  # seconds


class Negatives(ABC):
    """A way to choose the sound of a negative pair."""

    @abstractmethod
    def draw(
        self, moments: Moments, clip: StoredClip, time: float, rng: np.random.Generator
    ) -> tuple[StoredClip, np.ndarray]:
        """Draw a sound for a picture.

        Parameters
        ----------
        moments : Moments
            The available clips, which can draw moments of them.
        clip : StoredClip
            Clip of the picture.
        time : float
            Middle of the picture's own sound.
        rng : Generator
            Random generator of the pair.

        Returns
        -------
        clip : StoredClip
            Clip of the sound.
        samples : ndarray, shape (n, channels)
        """

    def usable(self, times: np.ndarray, possible: np.ndarray, seconds: float, slack: float) -> np.ndarray:
        """Select the possible frames of a clip that leave room for such a negative: (frames,) bool.

        Parameters
        ----------
        times : ndarray, shape (frames,)
            Times of the frames.
        possible : ndarray of bool, shape (frames,)
            Frames with a window inside the clip.
        seconds : float
            Length of a window.
        slack : float
            Largest distance between a frame and the middle of its window.
        """
        return possible

    def requirement(self) -> str:
        """Return what a clip needs for it, in words that follow "clips that are long enough"; usually nothing."""
        return ""

    def check(self, moments: Moments) -> None:
        """Raise ValueError if there are clips without any such negative; by default all have some."""
        return


@dataclass(frozen=True)
class OtherClip(Negatives):
    """Takes the sound from a clip of another video.

    Parameters
    ----------
    same_folder : bool
        Whether it comes from the same folder of shards: where several are given, of voices and of a game, say, voices
        are told from voices, and not by what they are.
    """

    same_folder: bool = False

    def check(self, moments: Moments) -> None:
        """Raise ValueError if a folder from which both sounds are to come holds clips of one video only."""
        videos: dict[Path, set[str]] = {}
        for clip in moments.clips if self.same_folder else ():
            videos.setdefault(moments.folder(clip), set()).add(clip.source)
        if alone := [str(folder) for folder, sources in videos.items() if len(sources) < 2]:
            raise ValueError(f"same_folder needs clips of two videos in each folder; {', '.join(alone)} has one")

    def draw(
        self, moments: Moments, clip: StoredClip, time: float, rng: np.random.Generator
    ) -> tuple[StoredClip, np.ndarray]:
        """Draw a loud moment of another video."""
        while True:
            other = moments.clips[rng.integers(len(moments.clips))]
            fits = not self.same_folder or moments.folder(other) == moments.folder(clip)
            if fits and other.source != clip.source:
                return other, moments.draw(other, moments.usable(other), rng).samples

    def choose(self, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose, for each of n true pairs, a pair of another clip.

        Parameters
        ----------
        clips : ndarray of int, shape (n,)
            Number of each pair's clip.
        rng : Generator

        Returns
        -------
        indices : ndarray of int, shape (n,)
            Indices of the chosen pairs; the pair's own where there is no other clip.
        """
        return _choose(clips, rng, same=False)


@dataclass(frozen=True)
class SameClip(Negatives):
    """Takes the sound from another moment of the picture's own clip (AVTS's hard and super-hard negatives).

    Parameters
    ----------
    gap : float
        Least time between the two windows, in seconds; 0.5 in AVTS. Ignored if they may overlap.
    overlap : float
        Largest share of a window, below 1, in which the two may overlap; 0 if they may not.
    largest_gap : float, optional
        Largest time between the two windows. `SameClip(overlap=0.5, largest_gap=0)` gives windows that touch or
        overlap, AVTS's super-hard negatives.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    gap: float = 0.5
    overlap: float = 0.0
    largest_gap: float | None = None

    def __post_init__(self):
        if not (_is_number(self.gap) and self.gap >= 0):
            raise ValueError(f"gap must be a number of seconds of at least 0, got {self.gap!r}")
        if not (_is_number(self.overlap) and 0 <= self.overlap < 1):
            raise ValueError(f"overlap must be a share of a window, at least 0 and below 1, got {self.overlap!r}")
        least = 0 if self.overlap else self.gap
        if self.largest_gap is not None and not (_is_number(self.largest_gap) and self.largest_gap >= least):
            raise ValueError(f"largest_gap must be a number of seconds of at least {least:g}, got {self.largest_gap!r}")

    def distances(self, seconds: float) -> tuple[float, float]:
        """Return the least and the largest distance between the middles of two windows that last `seconds`."""
        least = seconds * (1 - self.overlap) if self.overlap else seconds + self.gap
        return least, math.inf if self.largest_gap is None else seconds + self.largest_gap

    def usable(self, times: np.ndarray, possible: np.ndarray, seconds: float, slack: float) -> np.ndarray:
        """Keep the frames with another possible frame at an allowed distance, however far both sounds are shifted."""
        least, largest = self.distances(seconds)
        least, largest = least + 2 * slack - _ROUNDING, largest - 2 * slack + _ROUNDING
        if least > largest:
            return np.zeros_like(possible)
        others = times[possible]
        after = np.searchsorted(others, times + largest, "right") > np.searchsorted(others, times + least, "left")
        before = np.searchsorted(others, times - least, "right") > np.searchsorted(others, times - largest, "left")
        return possible & (after | before)

    def draw(
        self, moments: Moments, clip: StoredClip, time: float, rng: np.random.Generator
    ) -> tuple[StoredClip, np.ndarray]:
        """Draw a loud moment of the same clip."""
        least, largest = self.distances(moments.sound.seconds)
        distance = np.abs(clip.frame_times - time)
        beside = (distance >= least + moments.slack - _ROUNDING) & (distance <= largest - moments.slack + _ROUNDING)
        return clip, moments.draw(clip, moments.possible(clip) & beside, rng).samples

    def requirement(self) -> str:
        """Ask for room for a second window."""
        least = f"{self.gap:g} s" if not self.overlap else f"{1 - self.overlap:g} windows from middle to middle"
        return f" and hold two windows at least {least} apart"

    def choose(self, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose, for each of n true pairs, another of its clip; arguments and result as for `OtherClip.choose`."""
        return _choose(clips, rng, same=True)


@dataclass(frozen=True)
class Mixture(Negatives):
    """Draws each negative from one of several kinds, by their shares.

    Parameters
    ----------
    kinds : tuple of Negatives
    shares : tuple of float
        Share of each kind, above 0; they add up to 1.

    Raises
    ------
    ValueError
        If there isn't one share above 0 for each kind, or they don't add up to 1.
    """

    kinds: tuple[Negatives, ...]
    shares: tuple[float, ...]

    def __post_init__(self):
        numbers = all(_is_number(share) and share > 0 for share in self.shares)
        if len(self.kinds) != len(self.shares) or not numbers or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(
                f"each kind of negatives needs its share above 0, and all must add up to 1; got {self.shares}"
            )

    def draw(
        self, moments: Moments, clip: StoredClip, time: float, rng: np.random.Generator
    ) -> tuple[StoredClip, np.ndarray]:
        """Draw a kind, and then a sound of that kind."""
        kind = self.kinds[rng.choice(len(self.kinds), p=np.array(self.shares) / sum(self.shares))]
        return kind.draw(moments, clip, time, rng)

    def usable(self, times: np.ndarray, possible: np.ndarray, seconds: float, slack: float) -> np.ndarray:
        """Keep the frames that leave room for every kind, so that a frame doesn't reveal its pair's kind."""
        return np.all([kind.usable(times, possible, seconds, slack) for kind in self.kinds], axis=0)

    def requirement(self) -> str:
        """Join the requirements of all kinds."""
        return "".join(kind.requirement() for kind in self.kinds)

    def check(self, moments: Moments) -> None:
        """Check each kind."""
        for kind in self.kinds:
            kind.check(moments)


KINDS: dict[str, type[Negatives]] = {"other_clip": OtherClip, "same_clip": SameClip}


def to_negatives(tables: list[dict]) -> Negatives:
    """Build negatives from the tables of a recipe.

    Parameters
    ----------
    tables : list of dict
        Each with a `kind` of `KINDS`, its options and, where there are several, its `share`.

    Raises
    ------
    ValueError
        If a kind or an option is unknown, or a value or a share is out of range.
    """
    if not tables:
        raise ValueError(f"negatives must name at least one kind of {', '.join(KINDS)}")
    kinds = tuple(_to_kind(table) for table in tables)
    if len(tables) > 1 and (missing := [table["kind"] for table in tables if "share" not in table]):
        raise ValueError(f"negatives of several kinds each need a share; {', '.join(missing)} has none")
    shares = tuple(table.get("share", 1.0) for table in tables)
    mixture = Mixture(kinds, shares)
    return mixture if len(kinds) > 1 else kinds[0]


def to_tables(negatives: Negatives) -> list[dict]:
    """Return negatives as the tables of a recipe, from which `to_negatives` builds the same ones."""
    if isinstance(negatives, Mixture):
        pairs = zip(negatives.kinds, negatives.shares, strict=True)
        return [table | {"share": share} for kind, share in pairs for table in to_tables(kind)]
    name = next(name for name, kind in KINDS.items() if isinstance(negatives, kind))
    given = dataclasses.asdict(negatives).items()
    return [{"kind": name} | {key: value for key, value in given if value is not None and value is not False}]


def _to_kind(table: dict) -> Negatives:
    options = {key: value for key, value in table.items() if key not in ("kind", "share")}
    name = table.get("kind")
    if name not in KINDS:
        raise ValueError(f"negatives must be of a kind of {', '.join(KINDS)}, got {name!r}")
    known = [field.name for field in dataclasses.fields(KINDS[name])]
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(
            f"negatives of kind {name!r} have no option {', '.join(unknown)}; they have {', '.join(known) or 'none'}"
        )
    return KINDS[name](**options)


def _choose(clips: np.ndarray, rng: np.random.Generator, same: bool) -> np.ndarray:
    """Choose for each pair the index of another one, of the same clip or of a different one."""
    chosen = []
    for index, number in enumerate(clips):
        candidates = np.flatnonzero((clips == number) == same)
        candidates = candidates[candidates != index]
        chosen.append(rng.choice(candidates) if len(candidates) else index)  # without candidates, itself: a tie
    return np.array(chosen)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
