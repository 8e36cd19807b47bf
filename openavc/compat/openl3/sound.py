"""Sound as OpenL3 frames it: float64 windows of a second at 48 kHz, and the time of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from ...audio import Frontend, count_windows, open_audio, open_container, resample_blocks, window_start
from ...inference import check_hop, cut_stretches, embed_windows, warn_if_silent
from .openl3_warnings import OpenL3Warning


def cut_windows(blocks, rate, frontend: Frontend, name, hop_size, center, strict_openl3) -> Iterator[np.ndarray]:
    """Windows of mono blocks, as many as cover every sample; half a window of zeros first, if `center`."""
    sample_rate, length = frontend.sample_rate, frontend.window_samples
    hop = exact_hop(hop_size, frontend) if strict_openl3 else check_hop(hop_size, frontend)
    sound = warn_if_silent(resample_blocks(blocks, rate, sample_rate), name, frontend, OpenL3Warning)
    silence = [np.zeros(length // 2)] if center else []
    starts = (window_start(k, hop, sample_rate) for k in itertools.count())

    def count(samples: int) -> int:
        return count_windows(samples, length, hop, sample_rate)

    for _, window in cut_stretches(itertools.chain(silence, sound), starts, length, count):
        yield window


def exact_hop(hop_size, frontend: Frontend) -> float:
    """The hop that OpenL3 really takes: cut down to whole samples, at least one."""
    return max(1, int(check_hop(hop_size, frontend) * frontend.sample_rate)) / frontend.sample_rate


def window_times(count: int, hop_size, frontend: Frontend, strict_openl3) -> np.ndarray:
    """(count,) float64 seconds: of the first samples; with `strict_openl3` multiples of the hop, wherever those are."""
    hop = check_hop(hop_size, frontend)
    samples = hop * frontend.sample_rate
    if strict_openl3 or abs(samples - round(samples)) < 1e-6:  # the same, but for rounding
        return np.arange(count) * hop
    return np.array([window_start(k, hop, frontend.sample_rate) for k in range(count)]) / frontend.sample_rate


def embed_recordings(model, recordings, hop_size, center, batch_size, verbose, strict_openl3) -> list[tuple]:
    """(embedding (T, D), timestamps (T,)) of each (blocks, rate, name); windows of all share batches."""

    def windows():
        for index, (blocks, rate, name) in enumerate(recordings):
            for window in cut_windows(blocks, rate, model.frontend, name, hop_size, center, strict_openl3):
                yield index, window

    found: dict[int, list] = {}
    for index, vector in embed_windows(model, shown(windows(), verbose, "window"), "features", batch_size):
        found.setdefault(index, []).append(vector)
    return [
        (np.stack(vectors), window_times(len(vectors), hop_size, model.frontend, strict_openl3))
        for vectors in found.values()
    ]


def shown(items: Iterable, verbose, unit: str) -> Iterator:
    """The same items, with a progress bar if that is wanted and there is a terminal."""
    from tqdm import tqdm

    return iter(tqdm(items, unit=unit, leave=False, disable=None if verbose else True))


def open_soundtrack(path, dtype: str) -> tuple[Iterator[np.ndarray], int]:
    """Mono blocks and rate of a video's sound, with zeros to the end of the file where the sound ends before it."""
    blocks, rate = open_audio(path, dtype)
    with open_container(path) as container:
        length = round((container.duration or 0) * rate / 1_000_000)  # the container counts microseconds

    def padded():
        received = 0
        for block in blocks:
            received += len(block)
            yield block
        for start in range(received, length, rate):
            yield np.zeros(min(rate, length - start), dtype=dtype)

    return padded(), rate
