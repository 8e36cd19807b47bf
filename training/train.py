"""Train a correspondence network on shards.

    python -m training.train training/configs/ave_small.toml --data shards/train --output runs/ave_small
    torchrun --nproc-per-node 8 -m training.train training/configs/l3_flickr.toml --data shards/flickr --output runs/l3

RUN holds the configuration, `log.jsonl`, curves for TensorBoard, the last checkpoint and, at the end,
`weights.safetensors`; with `--validation` also `validation.jsonl` and the weights that were best there. Called again
with the same RUN it goes on where the checkpoint is; data, model and optimizer then are what they would have been.
SIGTERM ends it cleanly, with a checkpoint.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from openavc.weights import build_model, choose_device, load_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from . import distributed
from .checkpoint import load_checkpoint, save_checkpoint, save_weights, write_whole
from .data import Pairs, Sampling, Shards, concatenate
from .objectives import OBJECTIVES

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SCHEDULES = ("constant", "cosine", "step")
REQUIRED = {
    "": {"seed", "batch_size", "steps", "precision", "checkpoint_every", "model", "objective", "data", "optimizer"},
    "data": set(),
    "optimizer": {"name", "learning_rate", "weight_decay", "schedule"},
}
TABLES = {  # what a configuration may hold; the options of [model] and [objective] are their classes'
    "": REQUIRED[""] | {"accumulate", "sync_batch_norm", "frozen", "validate_every"},
    "data": {field.name for field in fields(Sampling)} - {"negatives"} | {"workers"},
    "optimizer": REQUIRED["optimizer"] | {"warmup_steps", "decay", "decay_steps"},
}
LARGEST_GRADIENT = 10.0  # norm; ours: far above what is usual, stops explosions


# ------------------------------------------------------------------------------------------------- configuration


def read_config(path: Path, **changes) -> dict:
    """A recipe with the given values instead of its own; those that are None are left.

    Raises
    ------
    ValueError
        If it isn't TOML.
    """
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    return table | {key: value for key, value in changes.items() if value is not None}


def check_config(config: dict) -> None:
    """ValueError for keys that are unknown or missing, and for values that can't work."""
    for table, known in TABLES.items():
        where, keys = (f"[{table}]", config[table].keys()) if table else ("the configuration", config.keys())
        missing, unknown = sorted(REQUIRED[table] - keys), sorted(keys - known)
        if missing:
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        if unknown:
            raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    optimizer = config["optimizer"]
    for name, value, known in (
        ("precision", config["precision"], PRECISIONS),
        ("optimizer", optimizer["name"], OPTIMIZERS),
        ("schedule", optimizer["schedule"], SCHEDULES),
        ("objective", config["objective"].get("name"), OBJECTIVES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if optimizer["schedule"] == "step" and not {"decay", "decay_steps"} <= optimizer.keys():
        raise ValueError("schedule 'step' needs decay and decay_steps in [optimizer]")
    for name in ("batch_size", "steps", "checkpoint_every", "accumulate", "validate_every"):
        if not isinstance(config.get(name, 1), int) or config.get(name, 1) < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {config[name]!r}")
    check_objective(config["objective"], config["model"])
    check_batch(config)


def check_objective(objective: dict, model: dict) -> None:
    """ValueError unless the objective has these options and works with this network."""
    kind, architecture = OBJECTIVES[objective["name"]], model.get("architecture")
    known = inspect.signature(kind).parameters.keys() - {"windows_per_clip"}  # it is told that of [data]
    unknown = objective.keys() - known - {"name"}
    if unknown:
        raise ValueError(
            f"objective {objective['name']!r} has no option {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    if architecture not in kind.networks:
        raise ValueError(
            f"objective {objective['name']!r} works with the networks {', '.join(kind.networks)}, got {architecture!r}"
        )


def check_batch(config: dict) -> None:
    """ValueError unless the batch can be dealt out to processes and accumulated parts, in whole clips."""
    windows, parts = config["data"].get("windows_per_clip", 1), distributed.world_size() * config.get("accumulate", 1)
    if config["batch_size"] % (windows * parts) or config["batch_size"] < 2 * windows * parts:
        raise ValueError(
            f"batch_size must be a multiple of {windows * parts} ({windows} windows a clip, {parts} parts of a batch) "
            f"with at least two clips a part, got {config['batch_size']}"
        )


def build(config: dict, device: torch.device):
    """(model, objective, optimizer), freshly initialised from the configuration's seed."""
    torch.manual_seed(config["seed"])
    model = build_model(config["model"]).to(device=device, memory_format=torch.channels_last)
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
    table = dict(config["data"])
    workers = table.pop("workers", 0)
    sampling = Sampling(negatives=objective.negatives, **table)
    return DataLoader(
        Pairs(shards, model, sampling, config["seed"]),
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


# ---------------------------------------------------------------------------------------------------------- steps


class Step(nn.Module):
    """Model and objective as one module, from a batch to its loss: what is run in parallel."""

    def __init__(self, model: nn.Module, objective: nn.Module, dtype: torch.dtype | None):
        super().__init__()
        self.model, self.objective, self.dtype = model, objective, dtype

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        image = self.model.prepare_image(batch["image"]).to(memory_format=torch.channels_last)
        spectrogram = self.model.prepare_audio(batch["waveform"]).to(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype is not None):
            return self.objective(self.model, image, spectrogram, batch)


def to_training_mode(model: nn.Module, frozen: list[str]) -> None:
    """Training mode, but for what is frozen: its BatchNorm keeps its statistics."""
    model.train()
    for name in frozen:
        model.get_submodule(name).eval()


def train_step(step: nn.Module, optimizer, scaler, parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """One update from the parts of a batch, whose mean loss is followed; returns what the log shows.

    In fp16 a step whose gradients overflow is left out, and its norm isn't finite: the first few usually are.
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
    norm = torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
    scaler.step(optimizer)
    scaler.update()
    loss, right = distributed.mean(shown).tolist()
    return {"loss": loss, "right": right, "gradient_norm": norm.item()}


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
    """
    from tqdm import trange

    device = distributed.start(choose_device(device))
    check_config(config)
    shards = Shards(*data)
    check_labels(config, shards)
    model, objective, optimizer = build(config, device)
    if start_from:
        begin_with(model, start_from)
    record_config(run, config | describe(data, shards, start_from) | (about or {}))
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
    accumulate, done = config.get("accumulate", 1), first
    with Log(run, first) as log, Interrupt() as interrupt:
        for step in trange(first, last, disable=None if distributed.rank() == 0 else True, unit="step"):
            torch.manual_seed((config["seed"] * 1_000_003 + step) * distributed.world_size() + distributed.rank())
            rate = learning_rate(step, config["steps"], config["optimizer"])
            for group in optimizer.param_groups:
                group["lr"] = rate
            started = time.monotonic()
            batch = [next(batches) for _ in range(accumulate)]
            waited = time.monotonic() - started
            shown = train_step(step_module, optimizer, scaler, batch)
            pace = config["batch_size"] / (time.monotonic() - started)
            log.write({"step": step + 1, "learning_rate": rate, **shown, "pairs_per_second": pace, "waited": waited})
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


def check_labels(config: dict, shards: Shards) -> None:
    """ValueError if the objective wants labels that the shards don't have."""
    wanted = config["objective"].get("classes")
    if wanted is not None and (wanted != len(shards.classes) or not all(clip.labels for clip in shards.clips)):
        raise ValueError(
            f"the objective wants {wanted} classes and a label for each clip; "
            f"the shards have {len(shards.classes)} ({', '.join(shards.classes) or 'no labels'})"
        )


# ---------------------------------------------------------------------------------------------------- what is kept


def describe(data: list[Path], shards: Shards, start_from: Path | None) -> dict:
    """What else the run depends on: the shards and how they were made, their labels, the weights it began with."""
    corpora = [folder / "corpus.json" for folder in data]
    return {
        "corpus": [json.loads(path.read_text()) if path.exists() else None for path in corpora],
        "shards": [[path.name, path.stat().st_size] for path in shards.paths],
        "classes": shards.classes,
        "start_from": load_model(start_from, device="cpu").sha256 if start_from else None,
    }


def record_config(run: Path, config: dict) -> None:
    """Keep the configuration in the run; ValueError if the run was started with another."""
    path = run / "config.json"
    if path.exists():
        before = json.loads(path.read_text())
        changed = sorted(key for key in before.keys() | config.keys() if before.get(key) != config.get(key))
        if changed:
            raise ValueError(f"{run} was started with other values of {', '.join(changed)}: take a new folder")
    distributed.wait_for_all()  # until all have looked
    if distributed.rank() == 0 and not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(config, indent=2) + "\n").encode())


class Log:
    """`log.jsonl`, a line a step, and the same for TensorBoard; written by the first process alone.

    Lines of steps after the checkpoint, which will be done again, are dropped.
    """

    def __init__(self, run: Path, steps: int):
        self.run, self.steps = run, steps

    def __enter__(self) -> Log:
        self.file = self.board = None
        if distributed.rank() == 0:
            from torch.utils.tensorboard import SummaryWriter

            self.file = open_log(self.run / "log.jsonl", self.steps)
            self.board = SummaryWriter(self.run / "tensorboard", purge_step=self.steps + 1)
        return self

    def __exit__(self, *_) -> None:
        if self.file:
            self.file.close()
            self.board.close()

    def write(self, line: dict) -> None:
        if self.file:
            self.file.write(json.dumps(line) + "\n")
            for name, value in line.items():
                if name != "step":
                    self.board.add_scalar(name, value, line["step"])

    def flush(self) -> None:
        if self.file:
            self.file.flush()
            self.board.flush()


def open_log(path: Path, steps: int):
    """A log of a line a step, to be continued after so many steps."""
    lines = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    write_whole(path, "".join(lines).encode())
    return path.open("a")


class Validation:
    """Measures correspondence by type of pair on held-out shards; keeps the best weights in `best.safetensors`."""

    def __init__(self, run: Path, data: Path, model: nn.Module, config: dict):
        from .evaluate.correspondence import load_pairs

        self.path, self.best, self.model, self.config = (
            run / "validation.jsonl",
            run / "best.safetensors",
            model,
            config,
        )
        self.pairs = load_pairs(model, data, per_clip=4, seed=0) if distributed.rank() == 0 else None

    def __call__(self, step: int) -> None:
        """Measure, if it is time to and wasn't done."""
        steps = self.config["steps"]
        if step != steps and step % self.config.get("validate_every", steps) != 0:
            return
        if distributed.rank() == 0:
            self._measure(step)
        distributed.wait_for_all()

    def _measure(self, step: int) -> None:
        from .evaluate.correspondence import avc, represent

        before = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        if any(line["step"] == step for line in before):
            return
        self.model.eval()
        figures = avc(self.model, represent(self.model, self.pairs), seed=0)
        if all(figures["threshold"] > line["threshold"] for line in before):
            save_weights(self.best, self.model, self.config["model"])
        lines = [*before, {"step": step, **figures}]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())


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
    if distributed.rank() == 0:
        click.echo(f"{done} of {table['steps']} steps done; weights in {run / 'weights.safetensors'}")
    distributed.stop()


if __name__ == "__main__":
    main()
