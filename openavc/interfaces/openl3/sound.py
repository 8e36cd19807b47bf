"""Sound as OpenL3 frames it: float64 windows of a second at 48 kHz, and the time of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from ...inference.arguments import check_hop
from ...inference.batches import embed_windows, numpy_rows
from ...media.audio import open_audio
from ...media.clips import SoundInput, count_windows, cut_stretches, model_sound, warn_if_silent, window_start
from ...media.container import open_container
from ...models.contract import EmbedsAudio
from .openl3_warnings import OpenL3Warning

Item = TypeVar("Item")


class Recording(NamedTuple):
    """One recording, as a stream."""

    blocks: Iterator[np.ndarray]  # (n, channels) each
    sample_rate: int  # Hz
    name: str  # for warnings


def cut_windows(
    recording: Recording, sound: SoundInput, hop_size: float, center: bool, strict_openl3: bool
) -> Iterator[np.ndarray]:
    """Cut windows (n, 1) that cover every sample; with `center`, half a window of zeros comes first."""
    sample_rate, length = sound.sample_rate, sound.samples
    hop = truncated_hop(hop_size, sound) if strict_openl3 else check_hop(hop_size, sound)
    resampled = model_sound(recording.blocks, recording.sample_rate, sound)
    heard = warn_if_silent(resampled, recording.name, sound, OpenL3Warning)
    silence = [np.zeros((length // 2, 1))] if center else []
    starts = (window_start(k, hop, sample_rate) for k in itertools.count())

    def count(samples: int) -> int:
        return count_windows(samples, length, hop, sample_rate)

    for _, window in cut_stretches(itertools.chain(silence, heard), starts, length, count):
        yield window


def truncated_hop(hop_size: float, sound: SoundInput) -> float:
    """Return the hop that OpenL3 actually uses, in seconds: truncated to full samples, at least one."""
    return max(1, int(check_hop(hop_size, sound) * sound.sample_rate)) / sound.sample_rate


def window_times(count: int, hop_size: float, sound: SoundInput, strict_openl3: bool) -> np.ndarray:
    """Return when each window begins, in seconds: (count,) float64; with `strict_openl3` multiples of the hop."""
    hop = check_hop(hop_size, sound)
    samples = hop * sound.sample_rate
    if strict_openl3 or abs(samples - round(samples)) < 1e-6:  # the same, except for rounding
        return np.arange(count) * hop
    return np.array([window_start(k, hop, sound.sample_rate) for k in range(count)]) / sound.sample_rate


def embed_recordings(
    model: EmbedsAudio,
    recordings: Iterable[Recording],
    hop_size: float,
    center: bool,
    batch_size: int,
    verbose: bool,
    strict_openl3: bool,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Embed recordings, whose windows share batches; return (embedding (T, D), timestamps (T,)) of each."""

    def windows() -> Iterator[tuple[int, np.ndarray]]:
        for index, recording in enumerate(recordings):
            for window in cut_windows(recording, model.sound, hop_size, center, strict_openl3):
                yield index, window

    vectors: dict[int, list[np.ndarray]] = {}
    rows = embed_windows(model, shown(windows(), verbose, "window"), "features", batch_size)
    for index, row in numpy_rows(rows, model):
        vectors.setdefault(index, []).append(row)
    return [
        (np.stack(rows), window_times(len(rows), hop_size, model.sound, strict_openl3)) for rows in vectors.values()
    ]


def shown(items: Iterable[Item], verbose: bool, unit: str) -> Iterator[Item]:
    """Pass items on, with a progress bar if `verbose` and on a terminal."""
    from tqdm import tqdm

    return iter(tqdm(items, unit=unit, leave=False, disable=None if verbose else True))


def open_soundtrack(path: str | Path, dtype: str) -> tuple[Iterator[np.ndarray], int]:
    """Open the sound of a video, followed by zeros if the file lasts longer: blocks (n, channels), rate in Hz."""
    path = Path(path)
    blocks, rate = open_audio(path, dtype)
    with open_container(path) as container:
        length = round((container.duration or 0) * rate / 1_000_000)  # the container counts microseconds

    def padded() -> Iterator[np.ndarray]:
        received, channels = 0, 1
        for block in blocks:
            received, channels = received + len(block), block.shape[1]
            yield block
        for start in range(received, length, rate):
            yield np.zeros((min(rate, length - start), channels), dtype=dtype)

    return padded(), rate
