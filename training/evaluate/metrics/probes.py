"""Classifiers on frozen features of recordings: a list of arrays (windows, D), one for each recording."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

SVM_C = 0.01
_MOST_STEPS = 500  # of fitting an SVM
_FLAT = 1e-3  # largest slope at which that ends, of the largest at the start
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
    features = standardised(features, train)
    chosen, tested = np.flatnonzero(train), np.flatnonzero(test)
    classes, targets = np.unique(labels[chosen], return_inverse=True)
    windows = np.concatenate([features[index] for index in chosen])
    weights, bias = fit_svm(windows, np.repeat(targets, [len(features[index]) for index in chosen]), c)
    scores = np.stack([(features[index] @ weights + bias).mean(axis=0) for index in tested])
    return float((classes[scores.argmax(axis=1)] == labels[tested]).mean())


def fit_svm(windows: np.ndarray, targets: np.ndarray, c: float, flat: float = _FLAT) -> tuple[np.ndarray, np.ndarray]:
    """Fit a linear SVM for each class against all others, all at once: what scikit-learn's LinearSVC minimises.

    That is half the squared length of weights and bias, and `c` times the sum of squared hinges. LinearSVC fits one
    class after another, which takes over half an hour for ESC-50; together they are a few dozen products of matrices.

    Parameters
    ----------
    windows : ndarray, shape (n, D), float32
    targets : ndarray of int, shape (n,)
        Class of each window, 0 to K - 1.
    c : float
    flat : float
        Largest slope at which fitting ends, as a share of the largest at the start, where all weights are 0.

    Returns
    -------
    weights : ndarray, shape (D, K)
    bias : ndarray, shape (K,)
    """
    inputs = torch.from_numpy(np.pad(windows, ((0, 0), (0, 1)), constant_values=1))
    signs = 2 * F.one_hot(torch.from_numpy(targets)).to(inputs.dtype) - 1
    weights = torch.zeros(inputs.shape[1], signs.shape[1], dtype=inputs.dtype, requires_grad=True)
    first_slope = float((2 * c * inputs.T @ signs).abs().max())
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_MOST_STEPS,
        tolerance_grad=flat * first_slope,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        hinges = (1 - signs * (inputs @ weights)).clamp(min=0)
        value = weights.square().sum() / 2 + c * hinges.square().sum()
        value.backward()
        return value

    optimizer.step(objective)  # type: ignore[arg-type]
    fitted = weights.detach().numpy()
    return fitted[:-1], fitted[-1]


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
