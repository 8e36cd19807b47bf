"""Classifiers on frozen features of recordings: a list of arrays (windows, D), one for each recording."""

from __future__ import annotations

from typing import Any

import numpy as np

SVM_C = 0.01
CANDIDATES = (1e-4, 1e-3, 1e-2, 1e-1)  # of the SVM's C; features are z-scored


def standardised(features: list[np.ndarray], train: np.ndarray) -> list[np.ndarray]:
    """Scale features to z-scores by the statistics of the training clips' windows (L3 paper, section 4.1)."""
    known = np.concatenate([features[index] for index in np.flatnonzero(train)])
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-8
    return [(clip - mean) / spread for clip in features]


def svm_accuracy(
    features: list[np.ndarray], labels: np.ndarray, train: np.ndarray, test: np.ndarray, c: float = SVM_C
) -> float:
    """Train a linear SVM on windows, one against all, and test it on clips by the mean score of their windows.

    Parameters
    ----------
    features : list of ndarray, shape (windows, D)
        Features of each clip.
    labels : ndarray of int, shape (clips,)
    train, test : ndarray of bool, shape (clips,)

    Returns
    -------
    accuracy : float
        Accuracy on the test clips, in [0, 1].
    """
    from sklearn.svm import LinearSVC

    features = standardised(features, train)
    chosen = np.flatnonzero(train)
    targets = np.concatenate([np.full(len(features[index]), labels[index]) for index in chosen])
    windows = np.concatenate([features[index] for index in chosen])
    classifier = LinearSVC(C=c, dual="auto", random_state=0).fit(windows, targets)
    tested = np.flatnonzero(test)
    scores = np.stack([_scores(classifier, features[index]).mean(axis=0) for index in tested])
    return float((classifier.classes_[scores.argmax(axis=1)] == labels[tested]).mean())


def _scores(classifier: Any, windows: np.ndarray) -> np.ndarray:
    """Score windows for each class, (windows, classes); of two classes, scikit-learn scores only the second."""
    scores = classifier.decision_function(windows)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)


def choose_c(features: list[np.ndarray], labels: np.ndarray, folds: np.ndarray, train: np.ndarray) -> float:
    """Choose the C of `CANDIDATES` that is best by cross-validation over the training folds.

    Clips outside `train` aren't used. If several values are equally good, the smallest is taken.

    Raises
    ------
    ValueError
        If all training clips are in one fold.
    """
    inner = sorted(set(folds[train]))
    if len(inner) < 2:
        raise ValueError(f"C is chosen across training folds, at least two are needed, there is only {inner[0]}")
    accuracy = [
        np.mean([svm_accuracy(features, labels, train & (folds != k), train & (folds == k), c) for k in inner])
        for c in CANDIDATES
    ]
    return CANDIDATES[int(np.argmax(accuracy))]


def neighbour_accuracy(features: list[np.ndarray], labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Measure the accuracy of the majority of the 5 nearest neighbours, by the cosine of clip means."""
    from sklearn.neighbors import KNeighborsClassifier

    means = np.stack([clip.mean(axis=0) for clip in standardised(features, train)])
    classifier = KNeighborsClassifier(5, metric="cosine").fit(means[train], labels[train])
    return float((classifier.predict(means[test]) == labels[test]).mean())
