"""Environmental sound classification with frozen embeddings: ESC-10, ESC-50 and folders like them.

Features are z-scored with the training clips' statistics. `probe` takes 1 s windows at hop 0.5 s and reports a
one-against-all linear SVM on windows whose scores are averaged over the clip; 5 nearest neighbours by the cosine of
clip means; and the SVM trained on one fold and tested on the others ("few-shot": 8 clips a class on ESC-10).
`paper_probe` is the L3 paper's (section 4.1): 10 evenly spaced windows a clip, and the SVM's C chosen on the training
folds.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc import get_audio_embedding
from openavc.audio import FRONTENDS, read_audio, resample
from openavc.inference import embed_windows

from .probes import choose_c, neighbour_accuracy, svm_accuracy

HOP = 0.5  # seconds
WINDOWS = 10  # a clip, in the paper


@dataclass(frozen=True)
class Dataset:
    """Labelled clips in folds."""

    paths: list[Path]
    labels: np.ndarray  # (n,) int
    folds: np.ndarray  # (n,) int
    classes: list[str]


def read_dataset(folder: Path) -> Dataset:
    """Read `meta.csv` (filename, fold, class or category); files lie in the folder, `audio/` or a folder a class.

    Where all clips are of one fold, three folds are made: the recordings (column src_file) of each class are dealt out
    in turn, so that no recording is in two folds and each class is in all three if it has three recordings.
    """
    if not (folder / "meta.csv").exists():
        raise FileNotFoundError(f"{folder} has no meta.csv with the columns filename, fold and class or category")
    with open(folder / "meta.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [row.get("class") or row["category"] for row in rows]
    paths = [_find(folder, row["filename"], name) for row, name in zip(rows, names, strict=True)]
    classes = sorted(set(names))
    folds = np.array([int(row["fold"]) for row in rows])
    if len(set(folds)) == 1:
        folds = np.array(_deal([row["src_file"] for row in rows], names))
    return Dataset(paths, np.array([classes.index(name) for name in names]), folds, classes)


def _deal(sources: list[str], names: list[str]) -> list[int]:
    """A fold of three for each clip, by its recording's place among the recordings of its class."""
    fold: dict[str, int] = {}
    for name in sorted(set(names)):
        recordings = sorted({source for source, other in zip(sources, names, strict=True) if other == name})
        for place, source in enumerate(recordings):
            fold.setdefault(source, place % 3)
    return [fold[source] for source in sources]


def _find(folder: Path, name: str, label: str) -> Path:
    for path in (folder / name, folder / "audio" / name, folder / label / name):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{name}, named in {folder / 'meta.csv'}, is neither in {folder}, nor in audio/ or {label}/"
    )


def embed_clips(model, dataset: Dataset, windows: int | None = None) -> list[np.ndarray]:
    """Features (windows, D) of each clip, of so many evenly spaced windows or of those at hop 0.5 s."""
    if windows is None:
        options = {"hop_size": HOP, "center": False, "batch_size": 64}
        return [get_audio_embedding(path, model=model, **options)[0] for path in dataset.paths]
    return [_embed_evenly(model, path, windows) for path in dataset.paths]


def _embed_evenly(model, path: Path, windows: int) -> np.ndarray:
    cut = evenly_spaced(resample(*read_audio(path), model.sample_rate), model.window_samples, windows)
    return np.stack([vector for _, vector in embed_windows(model, enumerate(cut), "features", 64)])


def evenly_spaced(waveform: np.ndarray, length: int, windows: int) -> np.ndarray:
    """Windows from the first sample to the last, (windows, length); zeros follow sound shorter than one."""
    waveform = np.pad(waveform, (0, max(0, length - len(waveform))))
    starts = np.linspace(0, len(waveform) - length, windows).round().astype(int)
    return np.stack([waveform[start : start + length] for start in starts])


def log_mel_statistics(dataset: Dataset, windows: int | None = None) -> list[np.ndarray]:
    """Mean, standard deviation and maximum over time of 64 log-mel bands, for the same windows: (windows, 192)."""
    import torch

    frontend = FRONTENDS["mel64"]
    hop = round(HOP * frontend.sample_rate)
    features = []
    for path in dataset.paths:
        waveform = resample(*read_audio(path), frontend.sample_rate)
        if windows is None:
            waveform = np.pad(waveform, (0, max(0, frontend.window_samples - len(waveform))))
            cut = torch.from_numpy(waveform).unfold(0, frontend.window_samples, hop)
        else:
            cut = torch.from_numpy(evenly_spaced(waveform, frontend.window_samples, windows))
        spectrogram = frontend.spectrogram(cut)  # (W, 64, 80)
        parts = [spectrogram.mean(dim=2), spectrogram.std(dim=2), spectrogram.amax(dim=2)]
        features.append(torch.cat(parts, dim=1).numpy())
    return features


def probe(features: list[np.ndarray], dataset: Dataset) -> dict[str, list[float]]:
    """Accuracy in percent of the three probes, for each fold."""
    figures: dict[str, list[float]] = {"SVM": [], "5-NN": [], "few-shot": []}
    for fold in sorted(set(dataset.folds)):
        inside = dataset.folds == fold
        figures["SVM"].append(100 * svm_accuracy(features, dataset.labels, ~inside, inside))
        figures["5-NN"].append(100 * neighbour_accuracy(features, dataset.labels, ~inside, inside))
        figures["few-shot"].append(100 * svm_accuracy(features, dataset.labels, inside, ~inside))
    return figures


def paper_probe(features: list[np.ndarray], dataset: Dataset) -> dict[str, list[float]]:
    """Accuracy in percent of the L3 paper's probe for each fold, its C chosen on the other folds alone."""
    accuracy = []
    for fold in sorted(set(dataset.folds)):
        inside = dataset.folds == fold
        c = choose_c(features, dataset.labels, dataset.folds, ~inside)
        accuracy.append(100 * svm_accuracy(features, dataset.labels, ~inside, inside, c))
    return {"SVM, C chosen": accuracy}
