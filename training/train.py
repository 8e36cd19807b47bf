"""Train a correspondence network on shards.

    python -m training.train training/configs/ave_small.toml --data shards/train --output runs/ave_small
    torchrun --nproc-per-node 8 -m training.train training/configs/l3_flickr.toml --data shards/flickr --output runs/l3

RUN holds the configuration, `log.jsonl`, curves for TensorBoard, the last checkpoint and, at the end,
`weights.safetensors`; with `--validation` also `validation.jsonl` and the weights that were best there. Called again
with the same RUN it goes on where the checkpoint is; data, model and optimizer then are what they would have been.
SIGTERM ends it cleanly, with a checkpoint.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from openavc.models.layers import weights_channels_last
from openavc.weights import build_model, load_model

from . import distributed
from .checkpoint import load_checkpoint, save_checkpoint, save_weights
from .config import OPTIMIZERS, PRECISIONS, check_config, check_groups, check_labels, read_config
from .data import Pairs, Sampling, Shards, concatenate
from .objectives import OBJECTIVES
from .record import Log, Validation, describe, record_config

LARGEST_GRADIENT = 10.0  # norm; ours: far above what is usual, stops explosions


def build(config: dict, device: torch.device):
    """(model, objective, optimizer), freshly initialised from the configuration's seed."""
    torch.manual_seed(config["seed"])
    model = weights_channels_last(build_model(config["model"]).to(device))
    modules = dict(model.named_modules())
    for name in config.get("frozen", []):
        if name not in modules:
            raise ValueError(
                f"frozen must name parts of the network, such as {', '.join(list(modules)[1:4])}, got {name!r}"
            )
        modules[name].requires_grad_(False)
    windows = config["data"].get("windows_per_clip", 1)
    options = {key: value for key, value in config["objective"].items() if key != "name"}
    objective = OBJECTIVES[config["objective"]["name"]](windows_per_clip=windows, **options).to(device)
    settings = config["optimizer"]
    optimizer = OPTIMIZERS[settings["name"]](
        [parameter for parameter in [*model.parameters(), *objective.parameters()] if parameter.requires_grad],
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
    )
    return model, objective, optimizer


def learning_rate(step: int, steps: int, settings: dict) -> float:
    """Linear warm-up, then constant, half a cosine down to 0, or times `decay` every `decay_steps`."""
    warmup = settings.get("warmup_steps", 0)
    rate = settings["learning_rate"] * min(1.0, (step + 1) / max(1, warmup))
    if settings["schedule"] == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    if settings["schedule"] == "step":
        rate *= settings["decay"] ** (step // settings["decay_steps"])
    return rate


# ---------------------------------------------------------------------------------------------------------- data


class Parts:
    """Positions in the data of each part of a batch that this process works on, for some steps.

    A batch's clips are cut into `world_size * accumulate` runs of neighbours; a process takes `accumulate` of them. So
    the parts of a batch are the same for one process that accumulates as for several that don't.
    """

    def __init__(self, config: dict, first_step: int, last_step: int):
        self.steps = range(first_step, last_step)
        self.clips = config["batch_size"] // config["data"].get("windows_per_clip", 1)
        self.accumulate = config.get("accumulate", 1)
        self.first = distributed.rank() * self.accumulate
        self.parts = distributed.world_size() * self.accumulate

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[range]:
        size = self.clips // self.parts
        for step in self.steps:
            for part in range(self.first, self.first + self.accumulate):
                start = step * self.clips + part * size
                yield range(start, start + size)


def make_loader(config: dict, shards: Shards, model, objective, first_step: int, last_step: int) -> DataLoader:
    """Parts of the batches of steps `first_step` to `last_step`, exactly those an uninterrupted run would see."""
    import cv2

    cv2.setNumThreads(1)  # here, as its threads don't outlive the fork of a worker, which would wait for them forever
    table = dict(config["data"])
    workers = table.pop("workers", 0)
    pairs = Pairs(shards, model, Sampling(negatives=objective.negatives, **table), config["seed"])
    check_groups(config, pairs.group_size)
    return DataLoader(
        pairs,
        batch_sampler=Parts(config, first_step, last_step),
        num_workers=workers,
        collate_fn=concatenate,
        prefetch_factor=4 if workers else None,
        pin_memory=next(model.parameters()).is_cuda,
        worker_init_fn=_outlive_signals,
    )


def _outlive_signals(worker: int) -> None:
    """A cluster sends SIGTERM to all processes; the batches already begun are wanted still."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def kill_workers() -> None:
    """End the workers that an error leaves behind: Python sends them SIGTERM, and would wait for them forever."""
    for worker in multiprocessing.active_children():
        worker.kill()


# ---------------------------------------------------------------------------------------------------------- steps


class Step(nn.Module):
    """Model and objective as one module, from a batch to its loss: what is run in parallel."""

    def __init__(self, model: nn.Module, objective: nn.Module, dtype: torch.dtype | None):
        super().__init__()
        self.model, self.objective, self.dtype = model, objective, dtype

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        image, spectrogram = self.model.prepare_image(batch["image"]), self.model.prepare_audio(batch["waveform"])
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype is not None):
            return self.objective(self.model, image, spectrogram, batch)


def to_training_mode(model: nn.Module, frozen: list[str]) -> None:
    """Training mode, but for what is frozen: its BatchNorm keeps its statistics."""
    model.train()
    for name in frozen:
        model.get_submodule(name).eval()


def train_step(step: nn.Module, optimizer, scaler, parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """One update from the parts of a batch, whose mean loss is followed; returns what the log shows.

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
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last or not hasattr(step, "no_sync") else step.no_sync():
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


def take_step(step: int, config: dict, module: nn.Module, optimizer, scaler, batches: Iterator) -> dict[str, float]:
    """Step number `step` with all that depends on its number alone: randomness, learning rate, data."""
    torch.manual_seed((config["seed"] * 1_000_003 + step) * distributed.world_size() + distributed.rank())
    rate = learning_rate(step, config["steps"], config["optimizer"])
    for group in optimizer.param_groups:
        group["lr"] = rate
    started = time.monotonic()
    parts = [next(batches) for _ in range(config.get("accumulate", 1))]
    waited = time.monotonic() - started
    shown = train_step(module, optimizer, scaler, parts)
    pace = config["batch_size"] / (time.monotonic() - started)
    return {"learning_rate": rate, **shown, "pairs_per_second": pace, "waited": waited}


class Interrupt:
    """Whether SIGTERM has come to any of the processes."""

    def __enter__(self) -> Interrupt:
        self.came = False
        self.before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _note(self, *_) -> None:
        self.came = True

    def anywhere(self, device: torch.device) -> bool:
        return distributed.mean(torch.tensor(float(self.came), device=device)).item() > 0


def train(
    config: dict,
    data: list[Path],
    run: Path,
    *,
    validation: Path | None = None,
    start_from: Path | None = None,
    stop_after: int | None = None,
    device=None,
    about: dict | None = None,
) -> int:
    """Train until the schedule's end, until `stop_after` steps are done, or until SIGTERM, from RUN's checkpoint.

    Parameters
    ----------
    config : dict
        A recipe, as `read_config` gives it.
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
        If the configuration makes no sense, or `run` was started with another one or other shards.
    FileNotFoundError
        If `data` holds no shards.
    FloatingPointError
        If a gradient isn't finite.
    """
    from tqdm import trange

    device = distributed.start(device)
    check_config(config)
    if config.get("needs_weights") and not start_from:
        raise ValueError("this recipe goes on from other weights: give them with --start-from")
    shards = Shards(*data)
    check_labels(config, shards)
    model, objective, optimizer = build(config, device)
    if start_from:
        begin_with(model, start_from)
    parts_of_a_batch = distributed.world_size() * config.get("accumulate", 1)
    about = describe(data, shards, start_from) | {"parts_of_a_batch": parts_of_a_batch} | (about or {})
    record_config(run, config | about)
    scaler = torch.amp.GradScaler(device.type, enabled=config["precision"] == "fp16")
    parts = {"model": model, "objective": objective, "optimizer": optimizer, "scaler": scaler}
    first, last = load_checkpoint(run, parts), min(config["steps"], stop_after or config["steps"])
    batches = iter(make_loader(config, shards, model, objective, first, last))
    step_module = distributed.parallel(
        Step(model, objective, PRECISIONS[config["precision"]]), config.get("sync_batch_norm", False)
    )
    validate = Validation(run, validation, model, config) if validation else None
    if validate and first:
        validate(first)  # if the run was stopped before
    to_training_mode(model, config.get("frozen", []))
    done = first
    with Log(run, first) as log, Interrupt() as interrupt:
        for step in trange(first, last, disable=None if distributed.rank() == 0 else True, unit="step"):
            log.write({"step": step + 1, **take_step(step, config, step_module, optimizer, scaler, batches)})
            done, stopping = step + 1, interrupt.anywhere(device)
            if done % config["checkpoint_every"] == 0 or done == last or stopping:
                log.flush()
                if distributed.rank() == 0:
                    save_checkpoint(run, done, parts)
            if stopping:
                break
            if validate:
                validate(done)
                to_training_mode(model, config.get("frozen", []))
    if distributed.rank() == 0:
        save_weights(run / "weights.safetensors", model, config["model"])
    distributed.wait_for_all()
    return max(first, done)


def begin_with(model: nn.Module, path: Path) -> None:
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
        table = read_config(config, batch_size=batch_size, steps=steps, accumulate=accumulate, seed=seed)
        done = train(
            table,
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
        click.echo(f"{done} of {table['steps']} steps done; weights in {run / 'weights.safetensors'}")
    distributed.stop()


if __name__ == "__main__":
    main()
