"""How well a network tells sync: the paper's two-way test, known shifts recovered, and whether confidences are right.

Multisensory, section 3. Times are in seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openavc.inference.offsets import CAN_TELL, STEP, Block, best, candidates, conclude, log_posterior
from openavc.inference.sync import offset_logits, to_blocks
from openavc.models.contract import Synchronizes

from ...corpora.shards import Shards
from ..datasets.shifted import Shifted, motion
from .bootstrap import Share, share

SURE = 0.8  # confidence from which answers are to be right
RIGHT = 0.1  # seconds, largest error of a right answer
CLOSE = 0.2  # seconds, largest error of a close one
WEIGHTS = np.geomspace(0.01, 1, 41)  # of evidence, among which `calibrate` chooses


@dataclass(frozen=True)
class Answers:
    """What was found for n clips whose sound is `shift` late, or foreign (NaN)."""

    shift: np.ndarray  # (n,)
    blocks: list[list[Block]]
    source: np.ndarray  # (n,) number of each clip's video
    offsets: np.ndarray  # (K,) that were tried

    @property
    def foreign(self) -> np.ndarray:
        """Whether no offset is right: (n,) bool."""
        return np.isnan(self.shift)


def known_shifts(shards: Shards, largest: float, seed: int) -> Iterator[Shifted]:
    """Give every clip once its own sound with a random shift of up to `largest`, and once another video's sound."""
    for number, clip in enumerate(shards.clips):
        rng = np.random.default_rng([seed, number])
        yield Shifted(shards, clip, clip, float(rng.uniform(-largest, largest)))
        others = [other for other in shards.clips if other.source != clip.source]
        if others:
            yield Shifted(shards, clip, others[rng.integers(len(others))])


def ask(model: Synchronizes, shifted: Sequence[Shifted], max_offset: float) -> Answers:
    """Compare the frames of all clips with their sounds at every offset up to `max_offset`."""
    offsets = candidates(max_offset)
    blocks = [list(to_blocks(model, clip.stretches(model), offsets)) for clip in shifted]
    shifts = [clip.shift if clip.sound.source == clip.clip.source else math.nan for clip in shifted]
    sources = np.unique([clip.clip.source for clip in shifted], return_inverse=True)[1]
    return Answers(np.array(shifts), blocks, sources, offsets)


def calibrate(answers: Answers) -> float:
    """Choose the weight of evidence under which the right answers, and none for foreign sounds, are likeliest.

    An answer is right within 0.1 s; half of the likelihood comes from clips with their own sound.
    """

    def likelihood(weight: float) -> float:
        right = np.array([_right(answers.offsets, weight * _sum(row), shift) for row, shift in _rows(answers)])
        foreign = answers.foreign
        return sum(np.log(np.maximum(right[kind], 1e-6)).mean() for kind in (foreign, ~foreign) if kind.any())

    return float(max(WEIGHTS, key=likelihood))


def _rows(answers: Answers) -> Iterator[tuple[list[Block], float]]:
    return zip(answers.blocks, answers.shift, strict=True)


def _sum(blocks: list[Block]) -> np.ndarray:
    return np.sum([block.logits for block in blocks], axis=0)


def _right(offsets: np.ndarray, evidence: np.ndarray, shift: float) -> float:
    """Return the probability of offsets within 0.1 s of a shift, or that none fits if the sound is foreign."""
    probability = np.exp(log_posterior(evidence))
    if math.isnan(shift):
        return float(probability[-1])
    return float(probability[:-1][np.abs(offsets - shift) <= RIGHT].sum())


def two_way(model: Synchronizes, shards: Shards, gap: float, seed: int) -> tuple[Share, Share]:
    """Measure the paper's two-way test: each clip of frames with its own sound, and with one from elsewhere in it.

    Returns
    -------
    decided : Share
        Of both kinds of pair, those that the network decides rightly by itself.
    preferred : Share
        Of clips, those whose own sound has the higher logit.
    """
    logits, sources = [], []
    for number, clip in enumerate(shards.clips):
        rng = np.random.default_rng([seed, number])
        for stretch in Shifted(shards, clip, clip).stretches(model):
            span = len(stretch.samples) / model.sound.sample_rate - model.sound.seconds  # of the windows' starts
            starts = rng.permutation(np.arange(0, span, STEP)) - (stretch.time - model.sound.seconds / 2)
            far = starts[np.abs(starts) >= gap][:1]
            found = offset_logits(model, stretch, np.append(0.0, far))
            if len(found) == 2 and np.isfinite(found).all():
                logits.append(found)
                sources.append(number)
    if not logits:
        raise ValueError(f"no clip has loud sound at two times at least {gap:g} s apart, with moving pictures")
    own, other = np.array(logits).T
    groups = np.array(sources)
    decided = share(((own > 0).astype(float) + (other < 0)) / 2, groups, seed)
    return decided, share((own > other) + 0.5 * (own == other), groups, seed)


def recovered(answers: Answers, weight: float, seed: int) -> dict[str, str]:
    """Measure how well known shifts are recovered, and how often an answer is given where there is one."""
    kept = [(blocks, shift, source) for (blocks, shift), source in zip(_rows(answers), answers.source, strict=True)]
    own = [(blocks, shift, source) for blocks, shift, source in kept if not math.isnan(shift)]
    found = [best(answers.offsets, weight * _sum(blocks)) for blocks, _, _ in own]
    errors = np.abs([offset - shift for (offset, _), (_, shift, _) in zip(found, own, strict=True)])
    confidence, groups = np.array([sure for _, sure in found]), np.array([source for *_, source in own])
    sure = confidence >= SURE
    foreign = [conclude(answers.offsets, blocks, weight) for blocks, shift, _ in kept if math.isnan(shift)]
    return {
        **errors_of(errors, groups, seed),
        "told, %": str(share(confidence >= CAN_TELL, groups, seed)),
        f"sure (>= {SURE:g})": f"{sure.sum()} of {len(sure)}",
        f"of these within {RIGHT:g} s, %": str(share(errors[sure] <= RIGHT, groups[sure], seed)) if sure.any() else "-",
        "foreign sound: can't tell, %": f"{100 * np.mean([result.offset is None for result in foreign]):.0f}"
        if foreign
        else "-",
    }


def errors_of(errors: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, str]:
    """Sum up absolute errors (n,) in seconds."""
    return {
        "median error, s": f"{np.median(errors):.3f}",
        f"within {CLOSE:g} s, %": str(share(errors <= CLOSE, groups, seed)),
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


def interleaved(answers: Answers) -> tuple[Answers, Answers]:
    """Split answers in two by their videos, so that a weight is chosen on one half and judged on the other."""
    even = answers.source % 2 == 0
    halves = []
    for chosen in (even, ~even):
        blocks = list(itertools.compress(answers.blocks, chosen))
        halves.append(Answers(answers.shift[chosen], blocks, answers.source[chosen], answers.offsets))
    return halves[0], halves[1]
