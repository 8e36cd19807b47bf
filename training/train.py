"""Train a correspondence network on shards.

    python -m training.train training/configs/ave_small.toml --data shards/train --output runs/ave_small
    torchrun --nproc-per-node 8 -m training.train training/configs/l3_flickr.toml --data shards/flickr --output runs/l3

RUN holds the configuration, `log.jsonl`, curves for TensorBoard, the last checkpoint and, at the end,
`weights.safetensors`; with `--validation` also `validation.jsonl` and the weights that were best there. Called again
with the same RUN it goes on where the checkpoint is; data, model and optimizer then are what they would have been, also
between two stages of a recipe. SIGTERM ends it cleanly, with a checkpoint.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from openavc.models.contract import AudioVisualModel
from openavc.models.layers import weights_channels_last
from openavc.weights import build_model, load_model

from . import distributed
from .checkpoint import load_checkpoint, save_checkpoint, save_weights, steps_done
from .corpora.shards import Shards
from .objectives import OBJECTIVES, Objective, check_capabilities
from .pairs import Pairs, concatenate
from .recipe import OPTIMIZERS, PRECISIONS, Optimizer, Recipe, Stage, read_recipe
from .record import Log, Validation, describe, record_config

LARGEST_GRADIENT = 10.0  # norm; ours: far above what is usual, stops explosions


# ------------------------------------------------------------------------------------------------- what is trained


def build(
    recipe: Recipe, device: torch.device, stage: Stage | None = None
) -> tuple[AudioVisualModel, Objective, torch.optim.Optimizer]:
    """Build network, objective and optimizer, freshly initialised from the recipe's seed.

    Parameters
    ----------
    recipe : Recipe
    device : torch.device
    stage : Stage, optional
        Whose objective and optimizer they are; by default the first's.
    """
    stage = stage or recipe.stages[0]
    torch.manual_seed(recipe.seed)
    model = weights_channels_last(build_model(recipe.model).to(device))
    freeze(model, stage.frozen)
    objective = build_objective(stage).to(device)
    return model, objective, build_optimizer(stage, model, objective)


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Let gradients reach all of a network but the named parts; ValueError if it has no such part."""
    check_frozen(model, names)
    model.requires_grad_(True)
    for name in names:
        model.get_submodule(name).requires_grad_(False)


def check_frozen(model: nn.Module, names: Sequence[str]) -> None:
    """Raise ValueError unless these are parts of the network."""
    modules = dict(model.named_modules())
    trained = [name for name, part in model.named_children() if next(part.parameters(), None) is not None]
    for name in names:
        if name not in modules:
            raise ValueError(f"frozen must name parts of the network, such as {', '.join(trained[:3])}, got {name!r}")


def build_objective(stage: Stage) -> Objective:
    """Build the objective of a stage, freshly initialised."""
    options = {key: value for key, value in stage.objective.items() if key != "name"}
    return OBJECTIVES[stage.objective["name"]](windows_per_clip=stage.data.windows_per_clip, **options)


def build_optimizer(stage: Stage, model: nn.Module, objective: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a stage, for all that isn't frozen."""
    settings = stage.optimizer
    momentum = {} if settings.momentum is None else {"momentum": settings.momentum}
    return OPTIMIZERS[settings.name](
        [parameter for parameter in [*model.parameters(), *objective.parameters()] if parameter.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        **momentum,
    )


class State:
    """All that changes while a run goes on: network, objective, optimizer and scaler of the loss, in one stage.

    Parameters
    ----------
    recipe : Recipe
    stage : Stage
        To begin in.
    device : torch.device
    """

    def __init__(self, recipe: Recipe, stage: Stage, device: torch.device):
        self.device = device
        self.model, self.objective, self.optimizer = build(recipe, device, stage)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")

    def enter(self, stage: Stage) -> None:
        """Go over to the next stage: weights carry on, and the objective unless it is new, but no optimizer."""
        torch.manual_seed(stage.seed)
        freeze(self.model, stage.frozen)
        objective = build_objective(stage).to(self.device)
        if not stage.new_objective:
            objective.load_state_dict(self.objective.state_dict())
        self.objective = objective
        self.optimizer = build_optimizer(stage, self.model, objective)

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "model": self.model,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }


def learning_rate(step: int, steps: int, settings: Optimizer, figures: Sequence[float] = ()) -> float:
    """Return the learning rate of a step of a stage.

    After a linear warm-up it is constant, falls along half a cosine to 0, or is multiplied by `decay`: every
    `decay_steps`, or where validations bring no better figure ("plateau").

    Parameters
    ----------
    step : int
        From 0, within the stage.
    steps : int
        Of the stage.
    settings : Optimizer
    figures : sequence of float
        Of the validations in the stage so far, the higher the better.
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


# ---------------------------------------------------------------------------------------------------------- checks


def check_run(recipe: Recipe, validation: Path | None = None, start_from: Path | None = None) -> None:
    """Raise ValueError unless the recipe works with these processes and with what it is given."""
    for stage in recipe.stages:
        check_batch(recipe, stage)
        if stage.optimizer.schedule == "plateau" and not validation:
            raise ValueError(
                "schedule 'plateau' follows the figures of validations: give held-out shards with --validation"
            )
    if recipe.sync_batch_norm and not torch.cuda.is_available():
        raise ValueError("sync_batch_norm works only on CUDA, which isn't available here")
    if recipe.needs_weights and not start_from:
        raise ValueError("this recipe goes on from other weights: give them with --start-from")


def check_batch(recipe: Recipe, stage: Stage, group_size: int = 1) -> None:
    """Raise ValueError unless the batch can be dealt out to processes and their parts, in whole clips and groups."""
    windows, parts = stage.data.windows_per_clip, distributed.world_size() * recipe.accumulate
    multiple = windows * parts * group_size
    if recipe.batch_size % multiple or recipe.batch_size < 2 * windows * parts:
        groups = f"{group_size} clips a group, " if group_size > 1 else ""
        raise ValueError(
            f"batch_size must be a multiple of {multiple} ({groups}{windows} windows a clip, {parts} parts of a batch)"
            f"{'' if groups else ' with at least two clips a part'}, got {recipe.batch_size}"
        )


def check_labels(stage: Stage, shards: Shards) -> None:
    """Raise ValueError if the objective wants labels that the shards don't have."""
    wanted = stage.objective.get("classes")
    if wanted is not None and (wanted != len(shards.classes) or not all(clip.labels for clip in shards.clips)):
        raise ValueError(
            f"the objective wants {wanted} classes and a label for each clip; "
            f"the shards have {len(shards.classes)} ({', '.join(shards.classes) or 'no labels'})"
        )


# ---------------------------------------------------------------------------------------------------------- data


class Parts:
    """Positions in the data of each part of a batch that this process works on, for some steps of a stage.

    A batch's clips are cut into `world_size * accumulate` runs of neighbours; a process takes `accumulate` of them. So
    the parts of a batch are the same for one process that accumulates as for several that don't.
    """

    def __init__(self, recipe: Recipe, stage: Stage, first_step: int, last_step: int):
        self.steps = range(first_step, last_step)
        self.clips = recipe.batch_size // stage.data.windows_per_clip
        self.offset = stage.first_position - stage.first_step * self.clips
        self.accumulate = recipe.accumulate
        self.first = distributed.rank() * self.accumulate
        self.parts = distributed.world_size() * self.accumulate

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[range]:
        size = self.clips // self.parts
        for step in self.steps:
            for part in range(self.first, self.first + self.accumulate):
                start = self.offset + step * self.clips + part * size
                yield range(start, start + size)


def make_pairs(recipe: Recipe, stage: Stage, shards: Shards, model: AudioVisualModel) -> Pairs:
    """Make the pairs of a stage; ValueError unless the network and the shards have what it wants."""
    name = stage.objective["name"]
    check_capabilities(name, model)
    check_frozen(model, stage.frozen)
    check_labels(stage, shards)
    pairs = Pairs(shards, model, stage.data, stage.seed, OBJECTIVES[name].negatives, stage.negatives)
    check_batch(recipe, stage, pairs.group_size)
    return pairs


def make_loader(
    recipe: Recipe, stage: Stage, pairs: Pairs, device: torch.device, first_step: int, last_step: int
) -> DataLoader:
    """Load parts of the batches of steps `first_step` to `last_step`, those that an uninterrupted run would see."""
    import cv2

    cv2.setNumThreads(1)  # here, as its threads don't outlive the fork of a worker, which would wait for them forever
    workers = stage.data.workers
    return DataLoader(
        pairs,
        batch_sampler=Parts(recipe, stage, first_step, last_step),
        num_workers=workers,
        collate_fn=concatenate,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_outlive_signals,
    )


def _outlive_signals(worker: int) -> None:
    """Ignore SIGTERM, which a cluster sends to all processes: the batches already begun are wanted still."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def kill_workers() -> None:
    """End the workers that an error leaves behind: Python sends them SIGTERM, and would wait for them forever."""
    for worker in multiprocessing.active_children():
        worker.kill()


# ---------------------------------------------------------------------------------------------------------- steps


class Step(nn.Module):
    """Model and objective as one module, from a batch to its loss: what is run in parallel."""

    def __init__(self, model: AudioVisualModel, objective: Objective, dtype: torch.dtype | None):
        super().__init__()
        self.model, self.objective, self.dtype = model, objective, dtype

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        frames, spectrogram = self.model.prepare_frames(batch["frames"]), self.model.prepare_audio(batch["samples"])
        with torch.autocast(frames.device.type, self.dtype, enabled=self.dtype is not None):
            return self.objective(self.model, frames, spectrogram, batch)


def to_training_mode(model: nn.Module, frozen: Sequence[str]) -> None:
    """Set a network to training mode, but for what is frozen: its BatchNorm keeps its statistics."""
    model.train()
    for name in frozen:
        model.get_submodule(name).eval()


def train_step(
    step: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, parts: list[dict[str, Tensor]]
) -> dict[str, float | None]:
    """Make one update from the parts of a batch, whose mean loss is followed; returns what the log shows.

    In fp16 a step whose gradients overflow is left out, as the first few usually are; its norm is logged as None.

    Raises
    ------
    FloatingPointError
        If the gradient isn't finite otherwise; nothing is changed then.
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
    norm = torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT).item()
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
    """Take step number `step` with all that depends on its number alone: randomness, learning rate, data."""
    torch.manual_seed((stage.seed * 1_000_003 + step) * distributed.world_size() + distributed.rank())
    rate = learning_rate(step - stage.first_step, stage.steps, stage.optimizer, figures)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    started = time.monotonic()
    parts = [next(batches) for _ in range(recipe.accumulate)]
    waited = time.monotonic() - started
    shown = train_step(module, state.optimizer, state.scaler, parts)
    pace = recipe.batch_size / (time.monotonic() - started)
    return {"learning_rate": rate, **shown, "pairs_per_second": pace, "waited": waited}


class Interrupt:
    """Whether SIGTERM has come to any of the processes."""

    def __enter__(self) -> Interrupt:
        self.came = False
        self.before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _note(self, *_: object) -> None:
        self.came = True

    def anywhere(self, device: torch.device) -> bool:
        """Whether it has come so far; the same answer in all processes, which must ask together."""
        return distributed.mean(torch.tensor(float(self.came), device=device)).item() > 0


# ------------------------------------------------------------------------------------------------------------ runs


def train(
    recipe: Recipe,
    data: list[Path],
    run: Path,
    *,
    validation: Path | None = None,
    start_from: Path | None = None,
    stop_after: int | None = None,
    device: str | None = None,
    about: dict | None = None,
) -> int:
    """Train until the schedule's end, until `stop_after` steps are done, or until SIGTERM, from RUN's checkpoint.

    Parameters
    ----------
    recipe : Recipe
        As `read_recipe` gives it.
    data : list of Path
        Folders of shards.
    run : Path
        Is made if it isn't there.
    validation : Path, optional
        Folder of shards to measure on, every `validate_every` steps and at the end.
    start_from : Path, optional
        Weights of a network of the same kind to begin with.
    stop_after : int, optional
        Stop when so many steps are done.
    device : str, optional
        CUDA if there is one.
    about : dict, optional
        More to keep in RUN's configuration.

    Returns
    -------
    steps : int
        How many are done now.

    Raises
    ------
    ValueError
        If the recipe can't work here, or `run` was started with another one or other shards.
    FileNotFoundError
        If `data` holds no shards.
    FloatingPointError
        If a gradient isn't finite.
    """
    from tqdm import tqdm

    device = distributed.start(device)
    check_run(recipe, validation, start_from)
    shards = Shards(*data)
    state = State(recipe, recipe.stage_at(max(0, steps_done(run) - 1)), device)  # the stage that the checkpoint is of
    if start_from:
        begin_with(state.model, start_from)
    pairs = [make_pairs(recipe, stage, shards, state.model) for stage in recipe.stages]
    parts_of_a_batch = distributed.world_size() * recipe.accumulate
    kept = describe(data, shards, start_from) | {"parts_of_a_batch": parts_of_a_batch} | (about or {})
    if validation and any(stage.optimizer.schedule == "plateau" for stage in recipe.stages):
        kept |= {"validation": Shards(validation).describe()}  # what the learning rate depends on
    record_config(run, recipe.to_json() | kept)
    first = done = load_checkpoint(run, state.parts())
    last, stopping = min(recipe.steps, stop_after or recipe.steps), False
    validate = Validation(run, validation, state.model, recipe) if validation else None
    if validate and first:
        validate(first)  # if the run was stopped before
    quiet = None if distributed.rank() == 0 else True
    bar = tqdm(total=last, initial=first, disable=quiet, unit="step")
    with Log(run, first) as log, Interrupt() as interrupt, bar:
        for number, stage in enumerate(recipe.stages):
            until = min(stage.last_step, last)
            if done >= until or stopping:
                continue
            if number and done == stage.first_step:
                state.enter(stage)
            batches = iter(make_loader(recipe, stage, pairs[number], device, done, until))
            step_module = Step(state.model, state.objective, PRECISIONS[recipe.precision])
            module = distributed.parallel(step_module, recipe.sync_batch_norm)
            to_training_mode(state.model, stage.frozen)
            for step in range(done, until):
                figures = validate.figures(stage.first_step, step) if validate else ()
                shown = take_step(step, recipe, stage, state, module, batches, figures)
                log.write({"step": step + 1, **shown})
                done, stopping = step + 1, interrupt.anywhere(device)
                bar.update()
                if done % recipe.checkpoint_every == 0 or done == last or stopping:
                    log.flush()
                    if distributed.rank() == 0:
                        save_checkpoint(run, done, state.parts())
                if stopping:
                    break
                if validate:
                    validate(done)
                    to_training_mode(state.model, stage.frozen)
    if distributed.rank() == 0:
        save_weights(run / "weights.safetensors", state.model, recipe.model)
    distributed.wait_for_all()
    return done


def begin_with(model: AudioVisualModel, path: Path) -> None:
    """Give the model the weights of a file; ValueError if they are another network's."""
    try:
        model.load_state_dict(load_model(path, device="cpu").state_dict())
    except RuntimeError as error:
        raise ValueError(f"{path} doesn't fit the configuration's [model]: {error}") from None


# -------------------------------------------------------------------------------------------------------- command


@click.command(help=__doc__.split("\n")[0])
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    multiple=True,
    help="Folder of shards; may be given several times.",
)
@click.option(
    "--output", "run", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--validation", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Held-out shards.")
@click.option(
    "--start-from", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Weights to begin with."
)
@click.option("--batch-size", type=click.IntRange(min=2), help="Pairs a step, instead of the configuration's.")
@click.option("--steps", type=click.IntRange(min=1), help="Length of the schedule, instead of the configuration's.")
@click.option("--accumulate", type=click.IntRange(min=1), help="Parts a process makes of its share of a batch.")
@click.option("--stop-after", type=click.IntRange(min=1), help="Stop with a checkpoint when so many steps are done.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU; default: all cores but one.")
@click.option("--device", help="cpu, cuda ...; default: CUDA if there is one.")
def main(config, data, run, validation, start_from, batch_size, steps, accumulate, stop_after, seed, threads, device):
    atexit.register(kill_workers)
    cores = (os.cpu_count() or 2) // distributed.processes_here()
    torch.set_num_threads(threads or max(1, cores - 1))
    try:
        recipe = read_recipe(config, batch_size=batch_size, steps=steps, accumulate=accumulate, seed=seed)
        done = train(
            recipe,
            list(data),
            run,
            validation=validation,
            start_from=start_from,
            stop_after=stop_after,
            device=device,
            about={"recipe": config.as_posix()},
        )
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from None
    except FloatingPointError as error:
        raise click.ClickException(f"{error}; RUN's checkpoint is as it was") from None
    if distributed.rank() == 0:
        click.echo(f"{done} of {recipe.steps} steps done; weights in {run / 'weights.safetensors'}")
    distributed.stop()


if __name__ == "__main__":
    main()
