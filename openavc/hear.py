"""HEAR 2021's common API: the import name that `hear-validator openavc.hear` and `heareval` take.

>>> import openavc.hear
>>> model = openavc.hear.load_model()  # doctest: +SKIP
>>> embeddings, milliseconds = openavc.hear.get_timestamp_embeddings(audio, model)  # doctest: +SKIP
"""

from .interfaces.hear import HearModel, get_scene_embeddings, get_timestamp_embeddings, load_model

__all__ = ["HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
