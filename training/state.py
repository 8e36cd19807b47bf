"""The state of a training run: network, objective and optimizer, built from a recipe, carried from stage to stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from openavc.models.contract import AudioVisualModel
from openavc.models.layers import weights_channels_last
from openavc.weights import build_model

from .objectives import OBJECTIVES, Objective
from .recipe import OPTIMIZERS, Recipe, Stage


def build(
    recipe: Recipe, device: torch.device, stage: Stage | None = None
) -> tuple[AudioVisualModel, Objective, torch.optim.Optimizer]:
    """Build network, objective and optimizer, freshly initialised from the recipe's seed.

    Parameters
    ----------
    recipe : Recipe
    device : torch.device
    stage : Stage, optional
        Stage whose objective and optimizer are built; the first by default.
    """
    stage = stage or recipe.stages[0]
    torch.manual_seed(recipe.seed)
    model = weights_channels_last(build_model(recipe.model).to(device))
    freeze(model, stage.frozen)
    objective = build_objective(stage).to(device)
    return model, objective, build_optimizer(stage, model, objective)


def freeze(model: AudioVisualModel, names: Sequence[str]) -> None:
    """Freeze the named parts of a network, and unfreeze all others but its constants; ValueError for unknown parts."""
    check_parts(model, names, "frozen")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in model.constants)
    for name in names:
        model.get_submodule(name).requires_grad_(False)


def check_parts(model: nn.Module, names: Sequence[str], key: str) -> None:
    """Raise ValueError unless the network has parts of these names, which stand under a key of the recipe."""
    modules = dict(model.named_modules())
    trained = [name for name, part in model.named_children() if next(part.parameters(), None) is not None]
    for name in names:
        if name not in modules:
            raise ValueError(f"{key} must name parts of the network, such as {', '.join(trained[:3])}, got {name!r}")


def build_objective(stage: Stage) -> Objective:
    """Build the objective of a stage, freshly initialised."""
    options = {key: value for key, value in stage.objective.items() if key != "name"}
    return OBJECTIVES[stage.objective["name"]](windows_per_clip=stage.data.windows_per_clip, **options)


def build_optimizer(stage: Stage, model: nn.Module, objective: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a stage, for all parameters that aren't frozen."""
    settings = stage.optimizer
    momentum = {} if settings.momentum is None else {"momentum": settings.momentum}
    return OPTIMIZERS[settings.name](
        [parameter for parameter in [*model.parameters(), *objective.parameters()] if parameter.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        **momentum,
    )


class State:
    """Everything that changes during a run: network, objective, optimizer and scaler of the loss, in one stage.

    Parameters
    ----------
    recipe : Recipe
    stage : Stage
        Stage to start in.
    device : torch.device
    """

    def __init__(self, recipe: Recipe, stage: Stage, device: torch.device):
        self.device = device
        self.model, self.objective, self.optimizer = build(recipe, device, stage)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")

    def enter(self, stage: Stage) -> None:
        """Enter the next stage: weights carry over, and the objective's unless it is new; the optimizer is new."""
        torch.manual_seed(stage.seed)
        freeze(self.model, stage.frozen)
        objective = build_objective(stage).to(self.device)
        if not stage.new_objective:
            objective.load_state_dict(self.objective.state_dict())
        self.objective = objective
        self.optimizer = build_optimizer(stage, self.model, objective)

    def parts(self) -> dict[str, Any]:
        """Return the parts that a checkpoint keeps, by name."""
        return {
            "model": self.model,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }
