"""Curves and matrices by matplotlib: offsets of sync, scores along a video, embeddings over time, trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_atomically
from .extraction.results import is_described, opened_result, read_metadata
from .inference.inputs import model_sound
from .inference.offsets import SyncResult
from .media.audio import open_audio
from .models.contract import SoundInput

_MOST_MOMENTS = 1000  # of a matrix; of a longer result as many, evenly spaced
_COMPONENTS = 3
_RATE, _PIECE = 8000, 80  # Hz of the sound whose envelope is drawn, and samples of which extremes are kept
_SMOOTHED = 100  # parts of a training, whose means make a curve


def draw_sync_curve(path: Path, result: SyncResult) -> None:
    """Draw the scores of all offsets between sound and pictures, and the one that was found."""
    with _figure(path, (7, 3.5)) as figure:
        axis = figure.subplots()
        axis.plot(result.offsets, result.scores)
        for segment in result.segments:
            if segment.offset is not None:
                axis.axvline(segment.offset, linestyle="--", color="tab:red")
        axis.set(title=str(result), xlabel="the sound comes late by, seconds", ylabel="mean logit of the network")


def draw_scores(path: Path, timestamps: np.ndarray, scores: np.ndarray, title: str) -> None:
    """Draw the scores along a video: how likely sound and picture belong together, at each time."""
    with _figure(path, (7, 3)) as figure:
        axis = figure.subplots()
        axis.plot(timestamps, scores, marker="." if len(scores) < _MOST_MOMENTS else "")
        axis.axhline(scores.mean(), linestyle="--", color="tab:grey")
        axis.set(title=title, xlabel="seconds", ylabel="score", ylim=(0, 1))


def draw_result(path: Path, result: Path) -> bool:
    """Draw what `openavc audio` or `video` wrote: principal components over time, and the similarity of all moments.

    Above them stands the waveform of the source, if it is still the file that was embedded. Of a video, sound and
    pictures have their components, and the matrix compares sounds (down) with pictures (across) if both have one size.

    Returns
    -------
    sounding : bool
        Whether there is a waveform.

    Raises
    ------
    ValueError
        If the result has a single moment, as that of a picture.
    OSError
        If it can't be read.
    """
    metadata = read_metadata(result)
    if metadata is None:
        raise OSError(f"{result} isn't a result of openavc audio or video")
    with opened_result(result) as archive:
        arrays = {name: archive[name] for name in ("embedding", "audio", "image") if name in archive}
        times = archive["timestamps"]
    if len(times) < 2:
        raise ValueError(f"{result} has {len(times)} moment; only what lasts has a course to draw")
    source = Path(metadata["source"]["path"])
    sounding = source.is_file() and is_described(source, metadata["source"])
    heights = [1] * sounding + [1] * len(arrays) + [4]
    with _figure(path, (8, 2 * sum(heights))) as figure:
        *strips, square = figure.subplots(len(heights), height_ratios=heights)
        if sounding:
            _draw_envelope(strips.pop(0), source)
        for axis, (name, embedding) in zip(strips, arrays.items(), strict=True):
            axis.plot(times, principal_components(embedding, _COMPONENTS))
            axis.set(ylabel=f"{name}:\nprincipal components", xlim=(times[0], times[-1]))
        _draw_similarity(square, list(arrays.values()), times)
        figure.suptitle(f"{metadata['source']['name']}, {metadata['model']}")
    return sounding


def principal_components(embedding: np.ndarray, number: int) -> np.ndarray:
    """Project rows (T, D) on the directions in which they vary most: (T, number), or fewer if there are fewer."""
    centred = embedding - embedding.mean(axis=0)
    _, _, directions = np.linalg.svd(_thinned(centred), full_matrices=False)
    return centred @ directions[:number].T


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the cosines of all rows (N, D) with all others (M, D): (N, M); those of zeros are 0."""
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (first, second)]
    return units[0] @ units[1].T


def draw_training(path: Path, log: Path) -> None:
    """Draw the loss and the share that is right along a training, from its `log.jsonl`.

    Raises
    ------
    ValueError
        If the file isn't such a log.
    """
    try:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        steps, loss, right = (np.array([line[key] for line in lines], float) for key in ("step", "loss", "right"))
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{log} isn't the log.jsonl of a training") from None
    if len(steps) == 0:
        raise ValueError(f"{log} has no steps yet")
    with _figure(path, (7, 5)) as figure:
        above, below = figure.subplots(2, sharex=True)
        for axis, values, name in ((above, loss, "loss"), (below, 100 * right, "right, %")):
            axis.plot(steps, values, color="tab:blue", alpha=0.3)
            parts = min(_SMOOTHED, len(steps))
            means = [[part.mean() for part in np.array_split(of, parts)] for of in (steps, values)]
            axis.plot(*means, color="tab:blue")
            axis.set(ylabel=name)
        below.set(xlabel="steps")


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Yield a figure, and write it in full or not at all; ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{error}; curves need matplotlib: pip install 'openavc[plots]'") from None
    figure = Figure(figsize=size, layout="constrained")
    yield figure
    with write_atomically(path) as partial:
        figure.savefig(partial, dpi=100, format=path.suffix[1:].lower())


def _draw_envelope(axis: Any, source: Path) -> None:
    """Draw the extremes of a file's sound over time, read in constant memory."""
    blocks = (block[:, 0] for block in model_sound(*open_audio(source), SoundInput(_RATE, seconds=1.0)))
    pieces = [part for block in blocks for part in np.array_split(block, max(1, len(block) // _PIECE))]
    low, high = (np.array([extreme(piece) for piece in pieces if len(piece)]) for extreme in (np.min, np.max))
    ends = np.cumsum([len(piece) for piece in pieces if len(piece)]) / _RATE
    axis.fill_between(ends, low, high, step="pre", linewidth=0)
    axis.set(ylabel="waveform", xlim=(0, ends[-1]))


def _draw_similarity(axis: Any, arrays: list[np.ndarray], times: np.ndarray) -> None:
    """Draw the cosines of the moments of one array, or of the first with those of the second if they can be."""
    first, second = arrays[0], arrays[-1] if arrays[-1].shape == arrays[0].shape else arrays[0]
    span = (times[0], times[-1])
    shown = similarity(_thinned(first), _thinned(second))
    drawn = axis.imshow(shown, origin="lower", extent=(*span, *span), aspect="auto", interpolation="nearest")
    axis.figure.colorbar(drawn, ax=axis, label="cosine")
    axis.set(xlabel="seconds", ylabel="seconds")


def _thinned(rows: np.ndarray) -> np.ndarray:
    """Return at most `_MOST_MOMENTS` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_MOMENTS)).round().astype(int)]
