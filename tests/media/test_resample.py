"""Resampling gives resampy's numbers, at once or block by block, for any number of channels."""

import numpy as np
import pytest
import resampy
from videos import noise

from openavc.media.resample import resample, resample_blocks


@pytest.mark.parametrize(
    "source, target",
    [
        (44_100, 24_000),
        (48_000, 24_000),
        (44_100, 48_000),
        (8_000, 24_000),
        (192_000, 48_000),
        (44_056, 24_000),
        (48_000, 1_000),
        (11_025, 48_000),
        (37, 24_000),
        (24_000, 24_000),
    ],
)
@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("float64", 1e-10)])
def test_resampling_gives_the_numbers_of_resampy(source, target, dtype, rounding):
    waveform = noise(source * 13 // 10 + 7).astype(dtype)
    expected = resampy.resample(waveform, source, target, filter="kaiser_best")
    found = resample(waveform, source, target)
    assert found.dtype == dtype
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=rounding)


@pytest.mark.parametrize(
    "source, target, lengths",
    [(1_000, 1_600, [1]), (44_100, 24_000, [441, 1, 99_991, 17_000]), (44_056, 24_000, [50_000]), (50, 80, [7])],
)
def test_resampling_block_by_block_gives_the_whole(source, target, lengths):
    waveform = noise(source * 10 + 3)
    cuts = np.cumsum(np.resize(lengths, len(waveform)))
    blocks = np.split(waveform, cuts[cuts < len(waveform)])
    found = list(resample_blocks(blocks, source, target))
    assert len(found) > 1  # it doesn't wait for the end
    expected = resampy.resample(waveform, source, target, filter="kaiser_best")
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 3, 44_099, 44_100, 44_101, 100_003])
@pytest.mark.parametrize("source, target", [(44_100, 24_000), (24_000, 44_100), (44_100, 44_100)])
def test_resampled_length_is_the_floor_of_the_ratio_and_at_least_one(samples, source, target):
    assert len(resample(np.zeros(samples, np.float32), source, target)) == max(1, samples * target // source)
