"""Train a correspondence network on shards.

    python -m training.train training/configs/ave_small.toml --data shards/train --output runs/ave_small

RUN holds the configuration, `log.jsonl`, the last checkpoint and, at the end, `weights.safetensors`. Called again with
the same RUN it goes on where the checkpoint is; data, model and optimizer then are what they would have been.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from openavc.weights import build_model, choose_device

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from .checkpoint import load_checkpoint, save_checkpoint, save_weights
from .data import Pairs, Sampling, Shards, concatenate
from .objectives import OBJECTIVES

PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SCHEDULES = ("constant", "cosine")
TABLES = {  # what a configuration holds; the options of [model] and [objective] are their classes'
    "": {"seed", "batch_size", "steps", "precision", "checkpoint_every", "model", "objective", "data", "optimizer"},
    "data": {field.name for field in fields(Sampling)} - {"negatives"} | {"workers"},
    "optimizer": {"name", "learning_rate", "weight_decay", "schedule", "warmup_steps"},
}


def check_config(config: dict) -> None:
    """ValueError for keys that are unknown or missing, and for values that can't work."""
    missing = TABLES[""] - config.keys()
    if missing:
        raise ValueError(f"the configuration lacks {', '.join(sorted(missing))}")
    for table, known in TABLES.items():
        unknown = sorted((config[table] if table else config).keys() - known)
        if unknown:
            where = f"[{table}]" if table else "the configuration"
            raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    optimizer = config["optimizer"]
    for name, value, known in (
        ("precision", config["precision"], PRECISIONS),
        ("optimizer", optimizer["name"], OPTIMIZERS),
        ("schedule", optimizer["schedule"], SCHEDULES),
        ("objective", config["objective"]["name"], OBJECTIVES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    windows = config["data"].get("windows_per_clip", 1)
    if config["batch_size"] % windows or config["batch_size"] < 2 * windows:
        raise ValueError(
            f"batch_size must be a multiple of {windows}, of at least two clips, got {config['batch_size']}"
        )


def build(config: dict, device: torch.device):
    """(model, objective, optimizer), freshly initialised from the configuration's seed."""
    torch.manual_seed(config["seed"])
    model = build_model(config["model"]).to(device=device, memory_format=torch.channels_last)
    windows = config["data"].get("windows_per_clip", 1)
    options = {key: value for key, value in config["objective"].items() if key != "name"}
    objective = OBJECTIVES[config["objective"]["name"]](windows_per_clip=windows, **options).to(device)
    settings = config["optimizer"]
    optimizer = OPTIMIZERS[settings["name"]](
        [*model.parameters(), *objective.parameters()],
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
    )
    return model, objective, optimizer


def learning_rate(step: int, steps: int, settings: dict) -> float:
    """Linear warm-up, then constant or half a cosine down to 0."""
    warmup = settings.get("warmup_steps", 0)
    rate = settings["learning_rate"] * min(1.0, (step + 1) / max(1, warmup))
    if settings["schedule"] == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    return rate


def make_loader(config: dict, shards: Shards, model, objective, first_step: int, last_step: int) -> DataLoader:
    """Batches of steps `first_step` to `last_step`, exactly those an uninterrupted run would see."""
    table = dict(config["data"])
    workers = table.pop("workers", 0)
    sampling = Sampling(negatives=objective.negatives, **table)
    clips = config["batch_size"] // sampling.windows_per_clip
    return DataLoader(
        Pairs(shards, model, sampling, config["seed"]),
        clips,
        sampler=range(first_step * clips, last_step * clips),
        num_workers=workers,
        collate_fn=concatenate,
        prefetch_factor=4 if workers else None,
    )


def train_step(model, objective, optimizer, batch: dict[str, Tensor], precision: str) -> dict[str, float]:
    """One update; returns what the log shows."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    image = model.prepare_image(batch["image"]).to(memory_format=torch.channels_last)
    spectrogram = model.prepare_audio(batch["waveform"]).to(memory_format=torch.channels_last)
    dtype = PRECISIONS[precision]
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        loss, right = objective(model, image, spectrogram, batch["label"])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm=10.0)  # ours: far above what is usual, stops explosions
    optimizer.step()
    return {"loss": loss.item(), "right": right.item(), "gradient_norm": norm.item()}


def train(config: dict, data: Path, run: Path, stop_after: int | None = None, device=None) -> int:
    """Train until the schedule's end, or until `stop_after` steps are done, from the run's checkpoint if it has one.

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

    check_config(config)
    shards = Shards(data)
    model, objective, optimizer = build(config, choose_device(device))
    record_config(run, config | {"shards": [[path.name, path.stat().st_size] for path in shards.paths]})
    parts = {"model": model, "objective": objective, "optimizer": optimizer}
    first, last = load_checkpoint(run, parts), min(config["steps"], stop_after or config["steps"])
    batches = iter(make_loader(config, shards, model, objective, first, last))
    model.train()
    started = time.monotonic()
    with open_log(run / "log.jsonl", first) as log:
        for step in trange(first, last, disable=None, unit="step"):
            rate = learning_rate(step, config["steps"], config["optimizer"])
            for group in optimizer.param_groups:
                group["lr"] = rate
            shown = train_step(model, objective, optimizer, next(batches), config["precision"])
            pace = (step + 1 - first) * config["batch_size"] / (time.monotonic() - started)
            log.write(json.dumps({"step": step + 1, "learning_rate": rate, **shown, "pairs_per_second": pace}) + "\n")
            if (step + 1) % config["checkpoint_every"] == 0 or step + 1 == last:
                log.flush()
                save_checkpoint(run, step + 1, parts)
    save_weights(run / "weights.safetensors", model, config["model"])
    return max(first, last)


def open_log(path: Path, steps: int):
    """The log, to be continued: lines of steps after the checkpoint, which will be done again, are dropped."""
    lines = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    path.write_text("".join(lines))
    return path.open("a")


def record_config(run: Path, config: dict) -> None:
    """Keep the configuration in the run; ValueError if the run was started with another."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / "config.json"
    if not path.exists():
        path.write_text(json.dumps(config, indent=2) + "\n")
        return
    before = json.loads(path.read_text())
    changed = sorted(key for key in before.keys() | config.keys() if before.get(key) != config.get(key))
    if changed:
        raise ValueError(f"{run} was started with other values of {', '.join(changed)}: take a new folder")


@click.command(help=__doc__.split("\n")[0])
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Folder of shards."
)
@click.option(
    "--output", "run", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--batch-size", type=click.IntRange(min=2), help="Pairs a step, instead of the configuration's.")
@click.option("--steps", type=click.IntRange(min=1), help="Length of the schedule, instead of the configuration's.")
@click.option("--stop-after", type=click.IntRange(min=1), help="Stop with a checkpoint when so many steps are done.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's.")
@click.option("--threads", type=click.IntRange(min=1), default=max(1, (os.cpu_count() or 2) - 1), help="Of the CPU.")
@click.option("--device", help="cpu, cuda ...; default: CUDA if there is one.")
def main(config, data, run, batch_size, steps, stop_after, seed, threads, device):
    torch.set_num_threads(threads)
    given = {"batch_size": batch_size, "steps": steps, "seed": seed}
    try:
        table = tomllib.loads(config.read_text()) | {key: value for key, value in given.items() if value is not None}
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{config} is not TOML: {error}") from None
    try:
        done = train(table, data, run, stop_after, device)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"{done} of {table['steps']} steps done; weights in {run / 'weights.safetensors'}")


if __name__ == "__main__":
    main()
