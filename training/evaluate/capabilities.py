"""Which abilities of a network an evaluation needs."""

from __future__ import annotations

from openavc.models.contract import AudioVisualModel, Compares, HasTowers


def check_compares(model: AudioVisualModel) -> None:
    """Raise ValueError unless the model compares sound with what is seen."""
    if not isinstance(model, Compares):
        raise ValueError(f"{model.name} doesn't compare sounds with pictures; choose another of openavc.list_models()")


def check_towers(model: AudioVisualModel) -> None:
    """Raise ValueError unless the model has towers whose last maps can be looked at."""
    if not isinstance(model, HasTowers):
        raise ValueError(f"{model.name} has no image_tower and audio_tower, whose units could be looked at")
