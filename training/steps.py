"""One training step: from the parts of a batch to an update, at the learning rate of the schedule."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from openavc.models.contract import AudioVisualModel

from . import distributed
from .objectives import Objective
from .recipe import Optimizer, Recipe, Stage
from .state import State

LARGEST_GRADIENT = 10.0  # norm, unless a recipe names another; ours: far above usual norms, only stops explosions


class Step(nn.Module):
    """Model and objective as one module, from batch to loss, to be run in parallel."""

    def __init__(self, model: AudioVisualModel, objective: Objective, dtype: torch.dtype | None):
        super().__init__()
        self.model, self.objective, self.dtype = model, objective, dtype

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        frames, spectrogram = self.model.prepare_frames(batch["frames"]), self.model.prepare_audio(batch["samples"])
        with torch.autocast(frames.device.type, self.dtype, enabled=self.dtype is not None):
            return self.objective(self.model, frames, spectrogram, batch)


def to_training_mode(model: nn.Module, frozen: Sequence[str]) -> None:
    """Set a network to training mode, except its frozen parts, whose BatchNorm keeps its statistics."""
    model.train()
    for name in frozen:
        model.get_submodule(name).eval()


def train_step(
    step: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: list[dict[str, Tensor]],
    largest_gradient: float = LARGEST_GRADIENT,
) -> dict[str, float | None]:
    """Make one update that follows the mean loss over the parts of a batch, and return the figures for the log.

    Gradients whose norm over all parameters is beyond `largest_gradient` are scaled down to it.

    In fp16 a step whose gradients overflow is skipped, as the first few usually are; its norm is logged as None.

    Raises
    ------
    FloatingPointError
        If the gradient isn't finite in another precision; nothing is changed then.
    """
    device = next(step.parameters()).device
    optimizer.zero_grad(set_to_none=True)
    shown = torch.zeros(2, device=device)
    for number, part in enumerate(parts):
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in part.items()}
        last, parallel = number == len(parts) - 1, isinstance(step, nn.parallel.DistributedDataParallel)
        with step.no_sync() if parallel and not last else contextlib.nullcontext():
            loss, right = step(batch)
            scaler.scale(loss / len(parts)).backward()
        shown += torch.stack([loss.detach(), right]) / len(parts)
    scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest_gradient).item()
    if not math.isfinite(norm) and not scaler.is_enabled():
        raise FloatingPointError(f"the gradient's norm is {norm}: look at the data, or lower the learning rate")
    scaler.step(optimizer)
    scaler.update()
    loss, right = distributed.mean(shown).tolist()
    return {"loss": loss, "right": right, "gradient_norm": norm if math.isfinite(norm) else None}


def take_step(
    step: int,
    recipe: Recipe,
    stage: Stage,
    state: State,
    module: nn.Module,
    batches: Iterator[dict[str, Tensor]],
    figures: Sequence[float],
) -> dict[str, float | None]:
    """Take step number `step`, whose randomness, learning rate and data depend only on that number."""
    torch.manual_seed((stage.seed * 1_000_003 + step) * distributed.world_size() + distributed.rank())
    rate = learning_rate(step - stage.first_step, stage.steps, stage.optimizer, figures)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    started = time.monotonic()
    parts = [next(batches) for _ in range(recipe.accumulate)]
    waited = time.monotonic() - started
    largest = LARGEST_GRADIENT if stage.optimizer.largest_gradient is None else stage.optimizer.largest_gradient
    shown = train_step(module, state.optimizer, state.scaler, parts, largest)
    pace = recipe.batch_size / (time.monotonic() - started)
    return {"learning_rate": rate, **shown, "pairs_per_second": pace, "waited": waited}


def learning_rate(step: int, steps: int, settings: Optimizer, figures: Sequence[float] = ()) -> float:
    """Return the learning rate of a step of a stage.

    After a linear warm-up it is constant, falls along half a cosine to 0, or is multiplied by `decay`: every
    `decay_steps`, or when validations stop improving ("plateau").

    Parameters
    ----------
    step : int
        Step within the stage, counted from 0.
    steps : int
        Length of the stage.
    settings : Optimizer
    figures : sequence of float
        Results of the validations in the stage so far; higher is better.
    """
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if settings.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    if settings.schedule == "step":
        rate *= settings.decay ** (step // settings.decay_steps)
    if settings.schedule == "plateau":
        rate *= settings.decay ** count_plateaus(figures, settings.patience)
    return rate


def count_plateaus(figures: Sequence[float], patience: int) -> int:
    """Count how often `patience` figures in a row were no better than the best before them."""
    best, waited, plateaus = -math.inf, 0, 0
    for figure in figures:
        waited = 0 if figure > best else waited + 1
        best = max(best, figure)
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus
