"""Resampling with the results of resampy's best filter, as one matrix product; at once or block by block, alike."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_BLOCK_SECONDS = 30  # of sound resampled at once
_LARGEST_FILTER_BANK = 4_000_000  # floats; rates whose ratio needs more go to resampy itself


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample like `resampy.resample(..., filter="kaiser_best")`, equal up to rounding but much faster.

    Parameters
    ----------
    samples : ndarray, shape (n_samples,) or (n_samples, n_channels), float32 or float64
    source_rate, target_rate : int
        In Hz.

    Returns
    -------
    resampled : ndarray, shape (n,) or (n, n_channels), of the same dtype
        n is max(1, floor(n_samples * target_rate / source_rate)).
    """
    block = _BLOCK_SECONDS * source_rate
    blocks = (samples[start : start + block] for start in range(0, len(samples), block))
    return np.concatenate(list(resample_blocks(blocks, source_rate, target_rate)))


def resample_blocks(blocks: Iterable[np.ndarray], source_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of blocks (n,) or (n, n_channels), with the same samples as `resample` of all at once."""
    if source_rate == target_rate:
        yield from blocks
        return
    # Cuts fall on full seconds, where input and output samples coincide, with at least a second of context on both
    # sides, which is longer than the filter.
    context = max(1, math.ceil(400 * max(1, source_rate / target_rate) / source_rate))  # seconds
    before, after = context * source_rate, context * source_rate
    start = context * target_rate
    buffer, received, sent = np.zeros(0), 0, 0
    for block in blocks:
        buffer = np.concatenate([buffer if received else _zeros_like(block, before), block])
        received += len(block)
        seconds = (len(buffer) - before - after) // source_rate
        if seconds >= 1:
            part = buffer[: before + seconds * source_rate + after]
            yield _resample_whole(part, source_rate, target_rate)[start : start + seconds * target_rate]
            sent += seconds * target_rate
            buffer = buffer[seconds * source_rate :]
    if not received:
        return
    total = max(1, received * target_rate // source_rate)
    buffer = np.concatenate([buffer, _zeros_like(buffer, after)])
    yield _resample_whole(buffer, source_rate, target_rate)[start : start + total - sent]


def _zeros_like(samples: np.ndarray, length: int) -> np.ndarray:
    return np.zeros((length, *samples.shape[1:]), dtype=np.float32)


def _resample_whole(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    bank = _filter_bank(source_rate, target_rate, samples.dtype.name)
    if bank is None:
        import resampy

        resampled = resampy.resample(samples, source_rate, target_rate, axis=0, filter="kaiser_best")
        return resampled.astype(samples.dtype)
    filters, left, inputs = bank  # (taps, outputs per step), context to the left, inputs per step
    import torch

    taps, outputs = filters.shape
    length = len(samples) * target_rate // source_rate
    steps = math.ceil(length / outputs)
    padded = np.zeros((*samples.shape[1:], (steps - 1) * inputs + taps), dtype=samples.dtype)  # channels first
    kept = min(len(samples), padded.shape[-1] - left)
    padded[..., left : left + kept] = samples[:kept].T
    frames = torch.from_numpy(padded).unfold(-1, taps, inputs)  # (..., steps, taps)
    return np.ascontiguousarray((frames @ filters).flatten(-2)[..., :length].numpy().T)


@functools.lru_cache(maxsize=8)
def _filter_bank(source_rate: int, target_rate: int, dtype: str) -> tuple[torch.Tensor, int, int] | None:
    """Return resampy's interpolated filter, sampled once at each phase: (taps, phases), left context, inputs per step.

    Output sample t lies at input time t * source / target. Over one period of `inputs` input samples and
    `outputs` output samples the phases repeat, so resampling is one matrix product. Returns None if the matrix would be
    too large.
    """
    from resampy.filters import get_filter

    ratio = Fraction(target_rate, source_rate)
    repeat = math.ceil(64 / ratio.numerator)  # periods per step: wide matrix products are faster
    outputs, inputs = ratio.numerator * repeat, ratio.denominator * repeat
    half, precision, _ = get_filter("kaiser_best")
    table = precision  # samples of the filter between two zero crossings
    scale = min(1.0, target_rate / source_rate)
    half = half * scale
    slope = np.diff(half, append=half[-1])
    step = int(scale * table)  # truncated, as resampy does
    reach = len(half) // step + 1
    if (2 * reach + inputs + 1) * outputs > _LARGEST_FILTER_BANK:
        return None
    filters = np.zeros((2 * reach + inputs + 1, outputs))
    for output in range(outputs):
        nearest, remainder = divmod(output * inputs, outputs)
        fraction = scale * remainder / outputs
        for distance, direction in ((fraction, -1), (scale - fraction, 1)):
            position = distance * table
            offset = int(position)
            index = offset + step * np.arange((len(half) - offset) // step)
            weights = half[index] + (position - offset) * slope[index]
            first = nearest + (direction > 0)  # the left wing starts at the nearest input, the right one after it
            np.add.at(filters[:, output], reach + first + direction * np.arange(len(index)), weights)
    import torch

    return torch.from_numpy(filters.astype(dtype)), reach, inputs
