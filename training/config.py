"""Recipes: reading a configuration, and telling what is wrong with it before anything is begun."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from pathlib import Path

import torch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from . import distributed
from .data import Sampling, Shards
from .objectives import OBJECTIVES

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SCHEDULES = ("constant", "cosine", "step")
REQUIRED = {
    "": {"seed", "batch_size", "steps", "precision", "checkpoint_every", "model", "objective", "data", "optimizer"},
    "data": set(),
    "optimizer": {"name", "learning_rate", "weight_decay", "schedule"},
}
COUNTS = {
    *("batch_size", "steps", "checkpoint_every", "accumulate", "validate_every"),
    *("windows_per_clip", "decay_steps"),
}
TABLES = {  # what a configuration may hold; the options of [model] and [objective] are their classes'
    "": REQUIRED[""] | {"accumulate", "sync_batch_norm", "frozen", "needs_weights", "validate_every"},
    "data": {field.name for field in fields(Sampling)} - {"negatives"} | {"workers"},
    "optimizer": REQUIRED["optimizer"] | {"warmup_steps", "decay", "decay_steps"},
}


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
    for table in ("model", "objective", "data", "optimizer"):
        if not isinstance(config.get(table, {}), dict):
            raise ValueError(f"{table} must be a table, [{table}], got {config[table]!r}")
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
    values = config | config["data"] | optimizer
    for name in COUNTS & values.keys():
        if type(values[name]) is not int or values[name] < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {values[name]!r}")
    for name in ("learning_rate", "weight_decay", "decay"):
        if type(values.get(name, 0)) not in (int, float) or values.get(name, 0) < 0:
            raise ValueError(f"{name} must be a number of at least 0, got {values[name]!r}")
    if not isinstance(config.get("frozen", []), list):
        raise ValueError(f"frozen must be a list of parts of the network, got {config['frozen']!r}")
    if config.get("sync_batch_norm") and not torch.cuda.is_available():
        raise ValueError("sync_batch_norm works on CUDA alone, which isn't available here")
    check_objective(config["objective"], config["model"])
    check_batch(config)


def check_objective(objective: dict, model: dict) -> None:
    """ValueError unless the objective has these options and works with this network."""
    kind, architecture = OBJECTIVES[objective["name"]], model.get("architecture")
    known = inspect.signature(kind).parameters.keys() - {"windows_per_clip"}  # it is told that of [data]
    try:
        inspect.signature(kind).bind(windows_per_clip=1, **{key: objective[key] for key in objective.keys() - {"name"}})
    except TypeError as error:
        has = ", ".join(sorted(known)) or "none"
        raise ValueError(f"objective {objective['name']!r}: {error}; its options are: {has}") from None
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


def check_groups(config: dict, group_size: int) -> None:
    """ValueError unless each part of a batch holds whole groups of clips."""
    windows, parts = config["data"].get("windows_per_clip", 1), distributed.world_size() * config.get("accumulate", 1)
    if config["batch_size"] % (windows * parts * group_size):
        raise ValueError(
            f"batch_size must be a multiple of {windows * parts * group_size} ({group_size} clips a group, {windows} "
            f"windows a clip, {parts} parts of a batch), got {config['batch_size']}"
        )


def check_labels(config: dict, shards: Shards) -> None:
    """ValueError if the objective wants labels that the shards don't have."""
    wanted = config["objective"].get("classes")
    if wanted is not None and (wanted != len(shards.classes) or not all(clip.labels for clip in shards.clips)):
        raise ValueError(
            f"the objective wants {wanted} classes and a label for each clip; "
            f"the shards have {len(shards.classes)} ({', '.join(shards.classes) or 'no labels'})"
        )
