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
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from openavc.weights import build_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from .checkpoint import load_checkpoint, save_checkpoint, save_weights
from .data import Pairs, Sampling, Shards, concatenate
from .objectives import OBJECTIVES

PRECISIONS = {"float32": None, "bf16": torch.bfloat16}


def build(config: dict):
    """(model, objective, optimizer), freshly initialised from the configuration's seed."""
    torch.manual_seed(config["seed"])
    model = build_model(config["model"])
    objective = OBJECTIVES[config["objective"]["name"]](**without_name(config["objective"]))
    parameters = [*model.parameters(), *objective.parameters()]
    settings = config["optimizer"]
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings["name"]](
        parameters, lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    return model.to(memory_format=torch.channels_last), objective, optimizer


def without_name(table: dict) -> dict:
    """A configuration table's options."""
    return {key: value for key, value in table.items() if key != "name"}


def learning_rate(step: int, steps: int, settings: dict) -> float:
    """Linear warm-up, then constant or half a cosine down to 0."""
    warmup = settings.get("warmup_steps", 0)
    rate = settings["learning_rate"] * min(1.0, (step + 1) / max(1, warmup))
    if settings["schedule"] == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    return rate


def make_loader(config: dict, data: Path, model, objective, first_step: int, last_step: int) -> DataLoader:
    """Batches of steps `first_step` to `last_step`, exactly those an uninterrupted run would see."""
    table = dict(config["data"])
    workers = table.pop("workers")
    sampling = Sampling(negatives=objective.negatives, **table)
    clips = config["batch_size"] // sampling.windows_per_clip
    pairs = Pairs(Shards(data), model, sampling, config["seed"])
    positions = range(first_step * clips, last_step * clips)
    return DataLoader(
        pairs,
        clips,
        sampler=positions,
        num_workers=workers,
        collate_fn=concatenate,
        prefetch_factor=4 if workers else None,
    )


def train_step(model, objective, optimizer, batch: dict[str, Tensor], precision: str) -> dict[str, float]:
    """One update; returns what the log shows."""
    image = model.prepare_image(batch["image"]).to(memory_format=torch.channels_last)
    spectrogram = model.prepare_audio(batch["waveform"]).to(memory_format=torch.channels_last)
    dtype = PRECISIONS[precision]
    with torch.autocast(image.device.type, dtype, enabled=dtype is not None):
        loss, right = objective(model, image, spectrogram, batch["label"])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm=10.0)  # ours: far above what is usual, stops explosions
    optimizer.step()
    return {"loss": loss.item(), "right": right.item(), "gradient_norm": norm.item()}


def train(config: dict, data: Path, run: Path, stop_after: int | None = None) -> None:
    """Train until the schedule's end, or until `stop_after` steps are done, from the run's checkpoint if it has one."""
    from tqdm import trange

    run.mkdir(parents=True, exist_ok=True)
    record_config(run, config)
    model, objective, optimizer = build(config)
    parts = {"model": model, "objective": objective, "optimizer": optimizer}
    first, last = load_checkpoint(run, parts), min(config["steps"], stop_after or config["steps"])
    batches = iter(make_loader(config, data, model, objective, first, last))
    model.train()
    started = time.monotonic()
    with (run / "log.jsonl").open("a") as log:
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


def record_config(run: Path, config: dict) -> None:
    """Keep the configuration in the run; ValueError if the run was started with another."""
    path = run / "config.json"
    if path.exists():
        before = json.loads(path.read_text())
        changed = sorted(key for key in before.keys() | config.keys() if before.get(key) != config.get(key))
        if changed:
            raise ValueError(
                f"{run} was started with another configuration ({', '.join(changed)} differ): take a new folder"
            )
    path.write_text(json.dumps(config, indent=2) + "\n")


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
def main(config, data, run, batch_size, steps, stop_after, seed, threads):
    torch.set_num_threads(threads)
    given = {"batch_size": batch_size, "steps": steps, "seed": seed}
    table = tomllib.loads(config.read_text()) | {key: value for key, value in given.items() if value is not None}
    try:
        train(table, data, run, stop_after)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    main()
