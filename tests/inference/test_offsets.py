"""What the logits of windows say together: posterior, segments, drift and words, by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest

from openavc.inference.offsets import (
    STEP,
    Block,
    SyncResult,
    SyncSegment,
    best,
    candidates,
    clock,
    conclude,
    described,
    log_posterior,
    most_likely,
    runs,
)

OFFSETS = candidates(1.0)  # 51


def peak(offset, height=10.0, width=0.06):
    """Evidence that is highest at an offset, and below zero far from it."""
    return height * (1.5 * np.exp(-((OFFSETS - offset) ** 2) / (2 * width**2)) - 0.5)


def blocks(*evidence, seconds=5.0):
    return [
        Block(k * seconds, (k + 1) * seconds, np.asarray(row), np.ones(len(OFFSETS), dtype=int))
        for k, row in enumerate(evidence)
    ]


def test_candidates_lie_a_step_apart_around_zero():
    assert len(OFFSETS) == 51
    assert np.diff(OFFSETS) == pytest.approx(STEP)
    assert OFFSETS[25] == 0
    assert OFFSETS[[0, -1]] == pytest.approx([-1, 1])


def test_the_posterior_is_bayes_rule_with_even_odds_that_an_offset_fits():
    evidence = np.array([0.0, 2.0, -1.0])
    joint = [0.5 / 3 * math.exp(value) for value in evidence] + [0.5]
    np.testing.assert_allclose(np.exp(log_posterior(evidence)), np.array(joint) / sum(joint))


def test_without_evidence_nothing_is_told():
    offset, confidence = best(OFFSETS, np.zeros(51))
    assert confidence == pytest.approx(0.5 * 3 / 51, rel=0.4)  # of the first candidate, with two or so beside it
    result = conclude(OFFSETS, blocks(np.zeros(51)), 1.0)
    assert result.offset is None
    assert str(result).startswith("can't tell")
    assert -1 <= offset <= 1


@pytest.mark.parametrize("true", [0.24, -0.4, 0.013, 0.37])
def test_the_offset_lies_between_candidates_at_the_vertex_of_a_parabola(true):
    parabola = 20 - 900 * (OFFSETS - true) ** 2
    offset, confidence = best(OFFSETS, parabola)
    assert offset == pytest.approx(true, abs=1e-9)
    assert confidence > 0.9


def test_confidence_is_the_probability_within_a_tenth_of_a_second():
    evidence = np.full(51, -50.0)
    evidence[[10, 12, 13, 30]] = [5.0, 4.0, 3.0, 4.5]  # 0.08 and 0.12 s beside the peak, and far away
    joint = 0.5 / 51 * np.exp([5.0, 4.0, 3.0, 4.5])
    assert best(OFFSETS, evidence)[1] == pytest.approx(joint[:2].sum() / (joint.sum() + 0.5), rel=1e-6)


def test_more_windows_make_it_surer_and_weights_less_sure():
    one, many = blocks(peak(0.2, 2.0)), blocks(*[peak(0.2, 2.0)] * 6)
    confidences = [conclude(OFFSETS, found, 1.0).confidence for found in (one, many)]
    assert confidences[0] < confidences[1]
    assert conclude(OFFSETS, many, 0.2).confidence < confidences[1]


def test_two_halves_with_different_offsets_are_two_segments():
    result = conclude(OFFSETS, blocks(*[peak(0.0)] * 7, *[peak(0.4)] * 5), 1.0)
    assert [(segment.start, segment.end) for segment in result.segments] == [(0, 35), (35, 60)]
    assert [segment.offset for segment in result.segments] == pytest.approx([0.0, 0.4], abs=0.02)
    assert result.offset == pytest.approx(0.0, abs=0.02)  # that of the longer one
    assert not result.drifts
    assert str(result) == (
        "sound and pictures are in step from 0:00 to 0:35; the sound is 0.40 s late from 0:35 to 1:00"
    )


def test_a_block_that_says_otherwise_by_chance_makes_no_segment():
    weak = peak(-0.6, 3.0)
    result = conclude(OFFSETS, blocks(*[peak(0.2)] * 4, weak, *[peak(0.2)] * 4), 1.0)
    assert len(result.segments) == 1


def test_stretches_that_cant_be_told_are_joined_and_named():
    result = conclude(OFFSETS, blocks(*[peak(0.2)] * 4, *[np.full(51, -8.0)] * 3, *[peak(0.2)] * 4), 1.0)
    assert [segment.offset is None for segment in result.segments] == [False, True, False]
    assert "can't tell from 0:20 to 0:35" in str(result)


def test_a_drift_is_said():
    result = conclude(OFFSETS, blocks(*[peak(offset) for offset in np.repeat(np.arange(0, 0.5, 0.08), 6)]), 1.0)
    assert result.drifts
    assert str(result) == "it drifts: at first sound and pictures are in step, at the end the sound is 0.48 s late"


def test_the_likeliest_course_is_that_of_all_courses():
    rng = np.random.default_rng(0)
    evidence = rng.normal(0, 4, (4, 3))
    states = np.pad(evidence, ((0, 0), (0, 1)))

    def value(course):
        prior = math.log(0.5 / 3) if course[0] < 3 else math.log(0.5)
        steps = sum(math.log(0.999 if a == b else 0.001 / 3) for a, b in pairwise(course))
        return prior + steps + sum(states[k, state] for k, state in enumerate(course))

    everything = [np.unravel_index(k, (4,) * 4) for k in range(4**4)]
    assert tuple(most_likely(evidence)) == tuple(max(everything, key=value))


def test_runs_by_hand():
    assert runs(np.array([3, 3, 1, 1, 1, 3])) == [(0, 2), (2, 5), (5, 6)]


def test_scores_are_means_over_the_windows_that_had_a_sound():
    block = Block(0.0, 1.0, np.zeros(3), np.zeros(3, dtype=int))
    block.add(np.array([1.0, np.nan, np.nan]), 1.0)
    block.add(np.array([3.0, 5.0, np.nan]), 2.0)
    assert block.end == 2.0
    np.testing.assert_array_equal(conclude(np.arange(3.0), [block], 1.0).scores, [2.0, 5.0, np.nan])


def test_words():
    assert described(0.24) == "the sound is 0.24 s late"
    assert described(-0.24) == "the sound is 0.24 s early"
    assert described(0.01) == "sound and pictures are in step"
    assert clock(150) == "2:30"
    segment = SyncSegment(0.0, 9.6, 0.24, 0.93)
    result = SyncResult(0.24, 0.93, OFFSETS, np.zeros(51, np.float32), [segment])
    assert str(result) == "the sound is 0.24 s late (confidence 0.93)"
