"""Environmental sound classification with frozen embeddings: ESC-10, ESC-50 and folders like them.

Clips are cut into 1 s windows at hop 0.5 s. Features are z-scored with the training clips' statistics. Reported are
the L3 paper's probe, a one-against-all linear SVM on windows whose scores are averaged over the clip (section 4.1);
5 nearest neighbours by the cosine of clip means; and the SVM trained on one fold and tested on the others ("few-shot":
8 clips a class on ESC-10).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc import get_audio_embedding
from openavc.audio import FRONTENDS, read_audio, resample

HOP = 0.5  # seconds
SVM_C = 0.01


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


def embed_clips(model, dataset: Dataset) -> list[np.ndarray]:
    """Features (windows, D) of each clip."""
    options = {"hop_size": HOP, "center": False, "batch_size": 64}
    return [get_audio_embedding(path, model=model, **options)[0] for path in dataset.paths]


def log_mel_statistics(dataset: Dataset) -> list[np.ndarray]:
    """Mean, standard deviation and maximum over time of 64 log-mel bands, for the same windows: (windows, 192)."""
    import torch

    frontend = FRONTENDS["mel64"]
    hop = round(HOP * frontend.sample_rate)
    features = []
    for path in dataset.paths:
        waveform = torch.from_numpy(resample(*read_audio(path), frontend.sample_rate))
        waveform = torch.nn.functional.pad(waveform, (0, max(0, frontend.window_samples - len(waveform))))
        spectrogram = frontend.spectrogram(waveform.unfold(0, frontend.window_samples, hop))  # (W, 64, 80)
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


def _standardised(features: list[np.ndarray], train: np.ndarray) -> list[np.ndarray]:
    known = np.concatenate([features[index] for index in np.flatnonzero(train)])
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-8
    return [(clip - mean) / spread for clip in features]


def svm_accuracy(features: list[np.ndarray], labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Linear SVM on windows, one against all; a clip's class is the largest of its windows' mean scores."""
    from sklearn.svm import LinearSVC

    features = _standardised(features, train)
    chosen = np.flatnonzero(train)
    targets = np.concatenate([np.full(len(features[index]), labels[index]) for index in chosen])
    classifier = LinearSVC(C=SVM_C, random_state=0).fit(np.concatenate([features[index] for index in chosen]), targets)
    tested = np.flatnonzero(test)
    scores = np.stack([_scores(classifier, features[index]).mean(axis=0) for index in tested])
    return float((classifier.classes_[scores.argmax(axis=1)] == labels[tested]).mean())


def _scores(classifier, windows: np.ndarray) -> np.ndarray:
    """(windows, classes); for two classes scikit-learn gives the second one's alone."""
    scores = classifier.decision_function(windows)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)


def neighbour_accuracy(features: list[np.ndarray], labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """5 nearest neighbours by the cosine of clip means, majority vote."""
    from sklearn.neighbors import KNeighborsClassifier

    means = np.stack([clip.mean(axis=0) for clip in _standardised(features, train)])
    classifier = KNeighborsClassifier(5, metric="cosine").fit(means[train], labels[train])
    return float((classifier.predict(means[test]) == labels[test]).mean())
