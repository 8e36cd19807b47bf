"""How well a network tells sync: the paper's two-way test, known shifts recovered, and whether confidences are right.

Multisensory, section 3. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openavc.inference.offsets import NEAR, STEP, Block, best, candidates, conclude, log_posterior
from openavc.inference.sync import offset_logits, to_blocks
from openavc.models.contract import Synchronizes
from openavc.models.layers import MOST_EVIDENCE

from ...corpora.shards import Shards, clip_middles
from ..datasets.shifted import Shifted, motion
from .bootstrap import Share, share

SURE = 0.8  # confidence from which answers are to be right
CLOSE = 0.2  # seconds, largest error of a close one
WEIGHTS = np.geomspace(0.01, MOST_EVIDENCE, 61)  # of evidence, among which `calibrate` chooses


@dataclass(frozen=True)
class Answer:
    """What a network finds for a clip whose sound is shifted, or foreign."""

    shifted: Shifted
    blocks: list[Block]
    offsets: np.ndarray  # (K,) that were tried

    @property
    def foreign(self) -> bool:
        """Whether no offset is right."""
        return self.shifted.sound.source != self.shifted.clip.source

    @property
    def logits(self) -> np.ndarray:
        """Sums over all windows: (K,)."""
        return np.sum([block.logits for block in self.blocks], axis=0)

    def likelihood(self, weight: float) -> float:
        """Return the probability of what is right under a weight of evidence: near the shift, or that none fits."""
        probability = np.exp(log_posterior(weight * self.logits))
        near = np.abs(self.offsets - self.shifted.shift) <= NEAR
        return float(probability[-1] if self.foreign else probability[:-1][near].sum())


def known_shifts(shards: Shards, model: Synchronizes, largest: float, seed: int) -> list[Shifted]:
    """Give every clip once its own sound with a random shift of up to `largest`, and once another video's sound.

    Raises
    ------
    ValueError
        If no clip has enough frames for the network.
    """
    clips = [clip for clip in shards.clips if clip_middles(clip, model.frames).any()]
    if not clips:
        frames = f"{model.frames.count} frames at {model.frames.rate:g} a second"
        raise ValueError(f"none of the {len(shards.clips)} clips has {frames}, as {model.name} takes them")
    shifted = []
    for number, clip in enumerate(clips):
        rng = np.random.default_rng([seed, number])
        shifted.append(Shifted(shards, clip, clip, float(rng.uniform(-largest, largest))))
        if others := [other for other in clips if other.source != clip.source]:
            shifted.append(Shifted(shards, clip, others[rng.integers(len(others))]))
    return shifted


def ask(model: Synchronizes, shifted: Sequence[Shifted], max_offset: float) -> list[Answer]:
    """Compare the frames of all clips with their sounds at every offset up to `max_offset`."""
    offsets = candidates(max_offset)
    return [Answer(clip, list(to_blocks(model, clip.stretches(model), offsets)), offsets) for clip in shifted]


def calibrate(answers: Sequence[Answer]) -> float:
    """Choose the weight of evidence under which what is right is likeliest; own and foreign sounds count as much."""

    def likelihood(weight: float) -> float:
        right = np.log([max(answer.likelihood(weight), 1e-6) for answer in answers])
        foreign = np.array([answer.foreign for answer in answers])
        return sum(right[kind].mean() for kind in (foreign, ~foreign) if kind.any())

    return float(max(WEIGHTS, key=likelihood))


def halves(answers: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """Split answers by places in two, so that a weight is chosen on one half and judged on the other."""
    places = {place: number for number, place in enumerate(dict.fromkeys(a.shifted.clip.place for a in answers))}
    first, second = ([a for a in answers if places[a.shifted.clip.place] % 2 == half] for half in (0, 1))
    return first, second


def two_way(model: Synchronizes, shards: Shards, gap: float, seed: int) -> tuple[Share, Share]:
    """Measure the paper's two-way test: each clip of frames with its own sound, and with one from elsewhere in it.

    Returns
    -------
    decided : Share
        Of both kinds of pair, those that the network decides rightly by itself.
    preferred : Share
        Of clips, those whose own sound has the higher logit.
    """
    logits, places = [], []
    for number, clip in enumerate(shards.clips):
        rng = np.random.default_rng([seed, number])
        for stretch in Shifted(shards, clip, clip).stretches(model):
            span = len(stretch.samples) / model.sound.sample_rate - model.sound.seconds  # of the windows' starts
            starts = rng.permutation(np.arange(0, span, STEP)) - (stretch.time - model.sound.seconds / 2)
            far = starts[np.abs(starts) >= gap][:1]
            found = offset_logits(model, stretch, np.append(0.0, far))
            if len(found) == 2 and np.isfinite(found).all():
                logits.append(found)
                places.append(clip.place)
    if not logits:
        raise ValueError(f"no clip has loud sound at two times at least {gap:g} s apart, with moving pictures")
    own, other = np.array(logits).T
    groups = np.array(places)
    decided = share(((own > 0).astype(float) + (other < 0)) / 2, groups, seed)
    return decided, share((own > other) + 0.5 * (own == other), groups, seed)


def recovered(answers: Sequence[Answer], weight: float, seed: int) -> dict[str, Share | float]:
    """Measure how well known shifts are recovered, and how often an answer is given where there is one.

    The error of a clip is that of the likeliest offset, also where it isn't sure enough to be told. Shares are in
    percent.
    """
    own = [answer for answer in answers if not answer.foreign]
    guesses = [best(answer.offsets, weight * answer.logits)[0] for answer in own]
    results = [conclude(answer.offsets, answer.blocks, weight) for answer in own]
    told = np.array([np.nan if result.offset is None else result.offset for result in results])
    late, places = np.array([answer.shifted.shift for answer in own]), places_of(own)
    sure = np.array([result.confidence >= SURE for result in results])
    foreign = [answer for answer in answers if answer.foreign]
    silent = [conclude(answer.offsets, answer.blocks, weight).offset is None for answer in foreign]
    figures: dict[str, Share | float] = errors_of(np.abs(guesses - late), places, seed)
    figures |= {"told": share(np.isfinite(told), places, seed), f"sure ({SURE:g})": share(sure, places, seed)}
    if sure.any():
        right = np.abs(told - late)[sure] <= NEAR
        figures[f"of these within {NEAR:g} s"] = share(right, places[sure], seed)
    if foreign:
        figures["foreign: can't tell"] = share(np.array(silent), places_of(foreign), seed)
    return figures


def places_of(answers: Sequence[Answer]) -> np.ndarray:
    """Return where the pictures of answers are from, by which intervals are drawn: (n,)."""
    return np.array([answer.shifted.clip.place for answer in answers])


def errors_of(errors: np.ndarray, places: np.ndarray, seed: int) -> dict[str, Share | float]:
    """Sum up absolute errors (n,), in seconds."""
    return {"median error, s": float(np.median(errors)), f"within {CLOSE:g} s": share(errors <= CLOSE, places, seed)}


def simple_guesses(answers: Sequence[Answer], model: Synchronizes, seed: int) -> dict[str, dict[str, Share | float]]:
    """Measure two guesses without a network on the same clips: that nothing is shifted, and `correlated`."""
    own = [answer for answer in answers if not answer.foreign]
    late, places = np.array([answer.shifted.shift for answer in own]), places_of(own)
    guessed = np.array([correlated(answer.shifted, model, answer.offsets) for answer in own])
    return {
        "zero": errors_of(np.abs(late), places, seed),
        "loudness and motion": errors_of(np.abs(guessed - late), places, seed),
    }


def correlated(shifted: Shifted, model: Synchronizes, offsets: np.ndarray) -> float:
    """Guess a shift without a network: where loudness follows how much the pictures change most closely."""
    times, changes = motion(shifted.shards, shifted.clip)
    samples = np.square(shifted.samples(model)).mean(axis=1)
    rate, period = model.sound.sample_rate, float(np.median(np.diff(times)))
    energy = np.concatenate([[0.0], np.cumsum(samples)])

    def loudness_at(moments: np.ndarray) -> np.ndarray:
        edges = np.clip(np.round((moments[:, None] + [-period / 2, period / 2]) * rate), 0, len(samples)).astype(int)
        return np.log10((energy[edges[:, 1]] - energy[edges[:, 0]]) / max(1, round(period * rate)) + 1e-8)

    scores = []
    for offset in offsets:
        moments = times + offset - shifted.shift  # in the stored sound
        inside = (moments >= 0) & (moments <= len(samples) / rate)
        pair = np.stack([changes[inside], loudness_at(moments[inside])]) if inside.sum() > 2 else np.zeros((2, 2))
        moved = (pair.std(axis=1) > 0).all()
        scores.append(float(np.corrcoef(pair)[0, 1]) if moved else -1.0)
    return float(offsets[int(np.argmax(scores))])
