"""Networks that one table compares, by names that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openavc.inference.arguments import get_model
from openavc.models.contract import AudioVisualModel


def named_models(models: Sequence[str]) -> dict[str, AudioVisualModel]:
    """Load models, and name each as the manifest or its file does, or, in the folder of a run, as the run.

    Raises
    ------
    ValueError
        If two models have one name.
    """
    networks = {}
    for given in models:
        model = get_model(given)
        networks[Path(given).parent.name if Path(given).stem == "weights" else model.name] = model
    if len(networks) < len(models):
        raise ValueError(f"two of the models have one name: {', '.join(models)}")
    return networks
