"""Embeddings of sound and pictures, learned from audio-visual correspondence.

>>> import openavc
>>> embedding, timestamps = openavc.get_audio_embedding("clip.wav")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import threads as threads  # so that openavc works in processes that are forked off this one

if TYPE_CHECKING:
    from .inference.embedding import FusedEmbedding as FusedEmbedding
    from .inference.embedding import VideoEmbedding as VideoEmbedding
    from .inference.embedding import get_audio_embedding as get_audio_embedding
    from .inference.embedding import get_image_embedding as get_image_embedding
    from .inference.embedding import get_video_embedding as get_video_embedding
    from .inference.embedding import stream_audio_embedding as stream_audio_embedding
    from .inference.localization import localize_sound as localize_sound
    from .inference.localization import localize_video as localize_video
    from .inference.offsets import SyncResult as SyncResult
    from .inference.offsets import SyncSegment as SyncSegment
    from .inference.scores import correspondence_matrix as correspondence_matrix
    from .inference.scores import correspondence_score as correspondence_score
    from .inference.scores import video_scores as video_scores
    from .inference.separation import Separation as Separation
    from .inference.separation import separate_sources as separate_sources
    from .inference.sync import sync_offset as sync_offset
    from .inference.text import get_text_embedding as get_text_embedding
    from .library.index import index_embeddings as index_embeddings
    from .library.search import search as search
    from .weights import list_models as list_models
    from .weights import load_model as load_model
    from .weights import model_info as model_info

    __version__: str

_MODULES = {
    "get_audio_embedding": "inference.embedding",
    "get_image_embedding": "inference.embedding",
    "get_video_embedding": "inference.embedding",
    "stream_audio_embedding": "inference.embedding",
    "get_text_embedding": "inference.text",
    "VideoEmbedding": "inference.embedding",
    "FusedEmbedding": "inference.embedding",
    "correspondence_score": "inference.scores",
    "correspondence_matrix": "inference.scores",
    "video_scores": "inference.scores",
    "localize_sound": "inference.localization",
    "localize_video": "inference.localization",
    "sync_offset": "inference.sync",
    "SyncResult": "inference.offsets",
    "SyncSegment": "inference.offsets",
    "separate_sources": "inference.separation",
    "Separation": "inference.separation",
    "search": "library.search",
    "index_embeddings": "library.index",
    "load_model": "weights",
    "list_models": "weights",
    "model_info": "weights",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: `import openavc` stays light."""
    if name == "__version__":
        from .version import package_version

        return package_version()
    if name not in _MODULES:
        raise AttributeError(f"module 'openavc' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
