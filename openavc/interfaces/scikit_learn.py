"""scikit-learn's interface: transformers from recordings or pictures to one vector each, for pipelines and searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..inference.arguments import get_model
from ..inference.embedding import get_audio_embedding, get_image_embedding
from ..models.contract import check_embedding


class AudioEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turns recordings into the mean of their embeddings over time. Nothing is learned by `fit`.

    Parameters
    ----------
    model : optional
        As in `openavc.get_audio_embedding`.
    sr : int, optional
        Sample rate of arrays, in Hz; files know theirs.
    embedding : str
        "features" or "joint".
    hop_size : float, optional
        Seconds between windows.
    device : optional
        As in `openavc.get_audio_embedding`.
    """

    def __init__(
        self,
        model: Any = None,
        sr: int | None = None,
        embedding: str = "features",
        hop_size: float | None = None,
        device: Any = None,
    ) -> None:
        self.model, self.sr, self.embedding = model, sr, embedding
        self.hop_size, self.device = hop_size, device

    def fit(self, X: Any, y: Any = None) -> AudioEmbedder:
        """Check the model, and keep the size of its embeddings.

        Parameters
        ----------
        X : list, or ndarray of shape (n, samples)
            Recordings: paths, or arrays as in `openavc.get_audio_embedding`. A matrix has one in each row.
        y : ignored
        """
        _recordings(self, X, reset=True)
        self._n_features_out = _size(self, "audio")
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed recordings, as given to `fit`: (n, D) float32."""
        check_is_fitted(self, "_n_features_out")
        options = {"embedding": self.embedding, "hop_size": self.hop_size, "device": self.device}
        recordings = list(_recordings(self, X, reset=False))
        found, _ = get_audio_embedding(recordings, self.sr, self.model, **options)
        return np.stack([rows.mean(axis=0) for rows in found])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class ImageEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turns pictures into their embeddings. Nothing is learned by `fit`.

    Parameters
    ----------
    model, embedding, device
        As in `openavc.get_image_embedding`.
    """

    def __init__(self, model: Any = None, embedding: str = "features", device: Any = None) -> None:
        self.model, self.embedding, self.device = model, embedding, device

    def fit(self, X: Sequence, y: Any = None) -> ImageEmbedder:
        """Check the model, and keep the size of its embeddings.

        Parameters
        ----------
        X : list
            Pictures: paths, or arrays as in `openavc.get_image_embedding`.
        y : ignored
        """
        self._n_features_out = _size(self, "image")
        return self

    def transform(self, X: Sequence) -> np.ndarray:
        """Embed pictures, as given to `fit`: (n, D) float32."""
        check_is_fitted(self, "_n_features_out")
        options = {"embedding": self.embedding, "device": self.device}
        return np.concatenate(get_image_embedding(list(X), self.model, **options))


def _size(embedder: Any, modality: str) -> int:
    model = get_model(embedder.model, embedder.device)
    check_embedding(model, modality, embedder.embedding)
    return model.embedding_sizes[modality][embedder.embedding]


def _recordings(embedder: AudioEmbedder, X: Any, reset: bool) -> Any:
    """Return recordings; what isn't a list of them must be a matrix of one a row, as scikit-learn checks it."""
    if isinstance(X, list | tuple) and not any(isinstance(row, list | tuple) for row in X):
        return X
    return validate_data(embedder, X, reset=reset, dtype=np.float32)
