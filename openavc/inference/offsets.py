"""Offsets of sound against pictures: what the logits of many windows say together, and where along a video it changes.

A window's logit is the evidence that its frames and a sound, some offset away, are in step: the logarithm of how much
likelier that makes them. Evidence of several windows adds up. Beside all offsets there is the hypothesis that no offset
fits, such as for a foreign sound, whose evidence is always 0. Offsets and times are in seconds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

STEP = 0.04  # seconds from one candidate to the next
CAN_TELL = 0.5  # least confidence at which an offset is named
NEAR = 0.1  # seconds by which an offset may be wrong, for the confidence
_IN_STEP = STEP / 2  # largest offset that is called none
_FITS = 0.5  # probability, before anything is seen, that some offset fits
_CHANGES = 1e-3  # probability that the offset changes from a block to the next
_LARGEST_DRIFT = 0.125  # seconds, largest change between neighbouring segments of a sound that drifts


@dataclass(frozen=True)
class SyncSegment:
    """A part of a video with one offset between sound and pictures."""

    start: float  # seconds
    end: float
    offset: float | None  # seconds, positive: the sound comes late; None: can't be told
    confidence: float  # probability that the offset is right within 0.1 s

    def __str__(self) -> str:
        return f"{described(self.offset)} from {clock(self.start)} to {clock(self.end)}"


@dataclass(frozen=True, eq=False)
class SyncResult:
    """How far the sound of a video is from its pictures, as `sync_offset` returns it.

    Attributes
    ----------
    offset : float or None
        Seconds, positive if the sound comes late; that of the longest segment if there are several. None if it can't be
        told: the confidence is below 0.5.
    confidence : float
        Probability, in [0, 1], that the offset is right within 0.1 s.
    offsets : ndarray, shape (K,), float64
        Offsets that were tried, in seconds.
    scores : ndarray, shape (K,), float32
        Mean logit of the network at each of them, over the entire video; NaN where no window had both.
    segments : list of SyncSegment
        Parts of the video with one offset each, in order; more than one if it jumps or drifts.
    """

    offset: float | None
    confidence: float
    offsets: np.ndarray
    scores: np.ndarray
    segments: list[SyncSegment]

    @property
    def told(self) -> list[float]:
        """Offsets of the segments where one can be told, in order."""
        return [segment.offset for segment in self.segments if segment.offset is not None]

    @property
    def drifts(self) -> bool:
        """Whether the offset grows or falls by small amounts, as when a recorder's clock is wrong."""
        changes = np.diff(self.told)
        one_way = (changes > 0).all() or (changes < 0).all()
        return len(changes) > 1 and bool(one_way and (np.abs(changes) <= _LARGEST_DRIFT).all())

    @property
    def _why_not(self) -> str:
        if np.isnan(self.scores).all():
            return "nowhere do the pictures move while there is sound for a whole clip"
        within = f"from {self.offsets[0]:g} to {self.offsets[-1]:g} s"
        return f"the network finds no offset {within} that clearly fits (confidence {self.confidence:.2f})"

    def __str__(self) -> str:
        """Say it in plain words."""
        if self.offset is None:
            return f"can't tell whether sound and pictures are in step: {self._why_not}"
        if len(self.segments) == 1:
            return f"{described(self.offset)} (confidence {self.confidence:.2f})"
        if self.drifts:
            return f"it drifts: at first {described(self.told[0])}, at the end {described(self.told[-1])}"
        return "; ".join(map(str, self.segments))


def described(offset: float | None) -> str:
    """Say an offset in plain words."""
    if offset is None:
        return "can't tell"
    if abs(offset) < _IN_STEP:
        return "sound and pictures are in step"
    return f"the sound is {abs(offset):.2f} s {'late' if offset > 0 else 'early'}"


def clock(seconds: float) -> str:
    """Format a time as minutes and seconds, such as 2:30."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def candidates(max_offset: float) -> np.ndarray:
    """List the offsets to try, from -max_offset to max_offset: (K,) seconds, 0 among them."""
    steps = math.floor(max_offset / STEP + 1e-9)
    return np.arange(-steps, steps + 1) * STEP


@dataclass
class Block:
    """What the windows of some seconds of a video say, within which the offset doesn't change."""

    start: float  # seconds
    end: float
    logits: np.ndarray  # (K,) sums over the windows
    counts: np.ndarray  # (K,) of the windows that had a sound at the offset

    @classmethod
    def empty(cls, start: float, offsets: int) -> Block:
        """Make a block without windows yet."""
        return cls(start, start, np.zeros(offsets), np.zeros(offsets, dtype=int))

    def add(self, logits: np.ndarray, end: float) -> None:
        """Add the logits (K,) of a window, NaN where it says nothing; the block then reaches to its end."""
        self.counts += np.isfinite(logits)
        self.logits += np.nan_to_num(logits)
        self.end = end


def conclude(offsets: np.ndarray, blocks: list[Block], weight: float) -> SyncResult:
    """Conclude from the blocks of a video what the offset is, and where it changes.

    Parameters
    ----------
    offsets : ndarray, shape (K,)
        As `candidates` lists them.
    blocks : list of Block
        At least one, in order.
    weight : float
        Weight of each window's evidence: below 1 where neighbouring windows say the same, above 1 for a network that is
        less sure than it might be.
    """
    logits = np.stack([block.logits for block in blocks])
    segments: list[SyncSegment] = []
    for first, last in runs(most_likely(weight * logits)):
        offset, confidence = best(offsets, weight * logits[first:last].sum(axis=0))
        told = offset if confidence >= CAN_TELL else None
        start = blocks[first].start
        if segments and segments[-1].offset is None and told is None:
            before = segments.pop()
            start, confidence = before.start, max(before.confidence, confidence)
        segments.append(SyncSegment(start, blocks[last - 1].end, told, confidence))
    sure = [segment for segment in segments if segment.offset is not None]
    chosen = max(sure or segments, key=lambda segment: segment.end - segment.start)
    with np.errstate(invalid="ignore"):
        scores = (logits.sum(axis=0) / sum(block.counts for block in blocks)).astype(np.float32)
    return SyncResult(chosen.offset, chosen.confidence, offsets, scores, segments)


def best(offsets: np.ndarray, evidence: np.ndarray) -> tuple[float, float]:
    """Return the likeliest offset, between candidates, and the probability that it is right within 0.1 s.

    Parameters
    ----------
    offsets : ndarray, shape (K,)
    evidence : ndarray, shape (K,)
    """
    peak = int(evidence.argmax())
    near = np.abs(offsets - offsets[peak]) <= NEAR + 1e-9
    probability = np.exp(log_posterior(evidence))[:-1]
    return float(offsets[peak] + STEP * _vertex(evidence, peak)), float(probability[near].sum())


def log_posterior(evidence: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability of each offset and, last, that none fits: (K + 1,)."""
    joint = np.append(math.log(_FITS / len(evidence)) + evidence, math.log(1 - _FITS))
    return joint - np.logaddexp.reduce(joint)


def _vertex(evidence: np.ndarray, peak: int) -> float:
    """Return where the parabola through a peak and its neighbours is highest, in steps from the peak."""
    if not 0 < peak < len(evidence) - 1:
        return 0.0
    left, middle, right = evidence[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip((left - right) / (2 * bend), -0.5, 0.5))


def most_likely(evidence: np.ndarray) -> np.ndarray:
    """Find the likeliest course of the offset over blocks (Viterbi): (blocks,) numbers of candidates, K for none.

    Parameters
    ----------
    evidence : ndarray, shape (blocks, K)
    """
    states = np.pad(evidence, ((0, 0), (0, 1)))  # the last: no offset fits
    count = states.shape[1]
    stays, changes = math.log(1 - _CHANGES), math.log(_CHANGES / (count - 1))
    total = np.append(np.full(count - 1, math.log(_FITS / (count - 1))), math.log(1 - _FITS)) + states[0]
    origins = np.tile(np.arange(count), (len(states), 1))
    for block in range(1, len(states)):
        leader = int(total.argmax())
        jumped = total[leader] + changes > total + stays
        origins[block][jumped] = leader
        total = np.where(jumped, total[leader] + changes, total + stays) + states[block]
    path = [int(total.argmax())]
    for block in range(len(states) - 1, 0, -1):
        path.append(int(origins[block][path[-1]]))
    return np.array(path[::-1])


def runs(states: np.ndarray) -> list[tuple[int, int]]:
    """Split a course into runs of one state: (first, last + 1) of each."""
    return list(itertools.pairwise([0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]))
