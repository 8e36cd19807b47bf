"""Checks that a network has the capabilities that an evaluation needs."""

from __future__ import annotations

from openavc.models.contract import AudioVisualModel, Classifies, Compares, HasSimilarity, HasTowers


def check_compares(model: AudioVisualModel) -> None:
    """Raise ValueError unless the model compares sounds with pictures."""
    if not isinstance(model, Compares):
        raise ValueError(f"{model.name} doesn't compare sounds with pictures; choose another of openavc.list_models()")


def check_similarity(model: AudioVisualModel) -> HasSimilarity:
    """Return the model; raise ValueError unless it compares any sound with any picture by one similarity."""
    if not isinstance(model, HasSimilarity):
        raise ValueError(f"{model.name} has no similarity of any sound with any picture; choose an AVE-Net or AVOL-Net")
    return model


def check_classifies(model: AudioVisualModel) -> Classifies:
    """Return the model; raise ValueError unless it tells classes."""
    if not isinstance(model, Classifies):
        raise ValueError(f"{model.name} tells no classes; fine-tune it with the objective recognition first")
    return model


def check_towers(model: AudioVisualModel) -> None:
    """Raise ValueError unless the model has towers whose last maps can be inspected."""
    if not isinstance(model, HasTowers) or not {"audio", "image"} <= model.embedding_sizes.keys():
        raise ValueError(f"{model.name} has no image_tower and audio_tower, whose units could be looked at")
