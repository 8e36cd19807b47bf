"""Embeddings of sound and pictures, learned from audio-visual correspondence.

>>> import openavc
>>> embedding, timestamps = openavc.get_audio_embedding("clip.wav")  # doctest: +SKIP
"""

import importlib

_WHERE = {
    "get_audio_embedding": "inference",
    "get_image_embedding": "inference",
    "get_video_embedding": "inference",
    "stream_audio_embedding": "inference",
    "VideoEmbedding": "inference",
    "correspondence_score": "correspondence",
    "correspondence_matrix": "correspondence",
    "video_scores": "correspondence",
    "localize_sound": "localization",
    "localize_video": "localization",
    "search": "search",
    "index_embeddings": "search",
    "load_model": "weights",
    "list_models": "weights",
    "model_info": "weights",
}
__all__ = [*_WHERE, "__version__"]


def __getattr__(name: str):
    """Public names are imported when first used: `import openavc` stays light."""
    if name == "__version__":
        from .files import package_version

        return package_version()
    if name not in _WHERE:
        raise AttributeError(f"module 'openavc' has no attribute {name!r}")
    module = importlib.import_module(f".{_WHERE[name]}", __name__)
    # Importing `search` puts the module here, whoever does it first: it can be called, and is the function for users.
    value = globals()[name] = module if name == _WHERE[name] else getattr(module, name)
    return value


def __dir__():
    return sorted([*globals(), *__all__])
