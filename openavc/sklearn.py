"""Transformers for scikit-learn's pipelines, from recordings or pictures to one vector each.

>>> from openavc.sklearn import AudioEmbedder
>>> features = AudioEmbedder().fit_transform(["dog.wav", "rain.wav"])  # doctest: +SKIP
"""

from .interfaces.scikit_learn import AudioEmbedder, ImageEmbedder

__all__ = ["AudioEmbedder", "ImageEmbedder"]
