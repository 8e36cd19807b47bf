"""Recipes: what a training does, read from TOML, with every default in one place and every mistake told before a start.

A recipe may extend another (`extends = "other.toml"`, relative to its own file): tables are merged, its own values win.
It may be a curriculum, a list of `[[stages]]`, each with its `steps` and whatever else of [data], [optimizer],
[objective], negatives, frozen and seed differs from the recipe's. From one stage to the next the network's weights
carry on, and the objective's parameters, unless the stage changes [objective]; each stage begins with a new optimizer
and its own schedule of the learning rate, while positions in the data go on counting.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from .negatives import Negatives, OtherClip, to_negatives, to_tables
from .objectives import OBJECTIVES

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SCHEDULES = {  # what each needs in [optimizer]
    "constant": set(),
    "cosine": set(),
    "step": {"decay", "decay_steps"},
    "plateau": {"decay", "patience"},
}
REQUIRED = {"seed", "batch_size", "steps", "precision", "checkpoint_every", "model", "objective", "data", "optimizer"}


@dataclass(frozen=True)
class Data:
    """How pairs are drawn and augmented; times in seconds.

    Sound windows lie at a frame of their own clip, in positive and negative pairs alike, so where they lie on the grid
    of frames gives nothing away (Objects that Sound, section 3.3). All windows lie inside their clip, and those of one
    item don't overlap as long as the clip has a frame left for it.
    """

    windows_per_clip: int = 1
    misalignment: float = 0.0  # largest distance of the frame from the middle of its sound
    grid: float = 0.0  # middles of sounds are rounded to multiples of this; 0.04 in Objects that Sound
    quietest: float = -120.0  # dBFS; up to 8 windows are tried for a louder one
    grouped: bool = False  # whether the clips of a group, which differ in what sounds alone, stay neighbours
    mask: str | None = None  # of the clips, by its name: frames where it is false are left out
    gain: tuple[float, float] = (0.9, 1.1)  # one factor a window, L3 paper
    brightness: float = 32 / 255  # largest shift
    saturation: tuple[float, float] = (0.5, 1.5)
    flip: bool = True
    workers: int = 0  # processes that make batches


@dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients, and how the learning rate changes over the steps of a stage."""

    name: str
    learning_rate: float
    weight_decay: float
    schedule: str
    momentum: float | None = None  # of SGD, which needs it
    warmup_steps: int = 0
    decay: float | None = None  # factor of the learning rate, of the schedules "step" and "plateau"
    decay_steps: int | None = None  # of "step"
    patience: int | None = None  # of "plateau": validations without a better figure


@dataclass(frozen=True)
class Stage:
    """A stretch of a training, with all that holds in it."""

    first_step: int  # its own number counts from here
    steps: int
    first_position: int  # in the data
    seed: int
    objective: dict
    data: Data
    optimizer: Optimizer
    negatives: Negatives
    frozen: tuple[str, ...]
    new_objective: bool = True  # whether the objective begins anew

    @property
    def last_step(self) -> int:
        """Number of the step after its last."""
        return self.first_step + self.steps


@dataclass(frozen=True)
class Recipe:
    """All that a training does. What stages may change, they have, too: see `stage_at`."""

    seed: int
    batch_size: int  # pairs, over all processes
    steps: int  # of all stages
    precision: str
    checkpoint_every: int  # steps
    model: dict  # `architecture` and its options
    objective: dict  # `name` and its options
    data: Data
    optimizer: Optimizer
    negatives: Negatives = field(default_factory=OtherClip)
    stages: tuple[Stage, ...] = ()  # one of all the steps, if the recipe names none
    accumulate: int = 1  # parts that a process makes of its share of a batch
    sync_batch_norm: bool = False
    frozen: tuple[str, ...] = ()  # parts of the network
    needs_weights: bool = False  # to begin with
    validate_every: int | None = None  # steps; at the end alone if None

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step, counted from 0, belongs to; the last one for the end of the training."""
        return next((stage for stage in self.stages if step < stage.last_step), self.stages[-1])

    def to_json(self) -> dict:
        """Return the recipe with its defaults as what JSON and TOML hold; `to_recipe` makes the same recipe of it."""
        table = {key: _plain(value) for key, value in vars(self).items() if value is not None}
        first = self.stages[0]
        alone = len(self.stages) == 1 and all(vars(first)[key] == vars(self)[key] for key in _LAID_OVER)
        return table | {"stages": [] if alone else [_stage_table(stage) for stage in self.stages]}


# --------------------------------------------------------------------------------------------------------- reading

_LAID_OVER = ("seed", "objective", "data", "optimizer", "negatives", "frozen")  # by a stage
_KIND = {"model": "architecture", "objective": "name"}  # key of a table that tells whose options it holds
_COUNTS = {
    *("batch_size", "steps", "checkpoint_every", "accumulate", "validate_every"),
    *("windows_per_clip", "decay_steps", "patience"),
}


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """Read a recipe, with the given values instead of its own.

    Parameters
    ----------
    path : Path
        Of a TOML file.
    **changes
        Values of its keys; those that are None are left as they are, and tables are merged.

    Raises
    ------
    ValueError
        If it isn't TOML, extends itself, or can't work.
    FileNotFoundError
        If there is no such file, or none that it extends.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    return to_recipe(merge(read_tables(path), given))


def read_tables(path: Path) -> dict:
    """Read a TOML file with all that it extends, without looking at what it says; errors as for `read_recipe`."""
    tables: dict = {}
    for file in reversed(lineage(path)):
        own = _read_toml(file)
        own.pop("extends", None)
        tables = merge(tables, own)
    return tables


def lineage(path: Path) -> list[Path]:
    """Name a recipe's file, the one that it extends, the one that this extends, and so on.

    Raises
    ------
    ValueError
        If one of them isn't TOML, or extends itself.
    FileNotFoundError
        If there is no such file.
    """
    files = [Path(path)]
    while (other := _read_toml(files[-1]).get("extends")) is not None:
        if not isinstance(other, str):
            raise ValueError(f"{files[-1]}: extends must be the name of a file, got {other!r}")
        following = files[-1].parent / other
        if not following.is_file():
            raise FileNotFoundError(f"{files[-1]} extends {other}, but there is no file {following}")
        if any(following.samefile(file) for file in files):
            raise ValueError(f"{path} extends itself: {' -> '.join(file.name for file in [*files, following])}")
        files.append(following)
    return files


def _read_toml(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None


def merge(base: dict, own: dict) -> dict:
    """Lay tables over others: tables in both are merged in turn, other values are replaced.

    A [model] of another architecture and an [objective] of another name replace the ones below: those hold the options
    of something else.
    """
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        tables = isinstance(value, dict) and isinstance(below, dict)
        if tables and key in _KIND and value.get(_KIND[key], below.get(_KIND[key])) != below.get(_KIND[key]):
            tables = False
        merged[key] = merge(below, value) if tables else value
    return merged


def to_recipe(tables: dict) -> Recipe:
    """Make a recipe of what its file says.

    Raises
    ------
    ValueError
        For keys that are unknown or missing, and for values that can't work.
    """
    for table in ("model", "objective", "data", "optimizer"):
        if not isinstance(tables.get(table, {}), dict):
            raise ValueError(f"{table} must be a table, [{table}], got {tables[table]!r}")
    listed = tables.get("stages", [])
    if not (isinstance(listed, list) and all(isinstance(stage, dict) for stage in listed)):
        raise ValueError(f"stages must be a list of tables, [[stages]], got {listed!r}")
    if listed:
        tables = tables | {"steps": _steps(tables, listed)}
    _check_keys("the configuration", tables, REQUIRED, {key.name for key in fields(Recipe)})
    _check_values(tables)
    parts = _parts(tables)
    stages, first, position = [], 0, 0
    for number, own in enumerate(listed or [{"steps": tables["steps"]}]):
        stage = _stage(tables, own, number, first, position)
        stages.append(stage)
        first, position = (
            stage.last_step,
            position + stage.steps * (tables["batch_size"] // stage.data.windows_per_clip),
        )
    plain = {key: value for key, value in tables.items() if key not in parts}
    recipe = Recipe(**plain | parts | {"stages": tuple(stages)})
    for stage in stages:
        _check_stage(recipe, stage)
    return recipe


def _steps(tables: dict, listed: list[dict]) -> int:
    """Add up the steps of stages."""
    for number, stage in enumerate(listed):
        _check_keys(f"stage {number + 1}", stage, {"steps"}, {"steps", *_LAID_OVER})
        _check_values(stage)
    total = sum(stage["steps"] for stage in listed)
    if tables.get("steps", total) != total:
        raise ValueError(
            f"steps are those of all stages, {total}: leave them out or change the stages; got {tables['steps']}"
        )
    return total


def _stage(tables: dict, own: dict, number: int, first_step: int, first_position: int) -> Stage:
    below = {key: tables[key] for key in _LAID_OVER if key in tables}
    parts = _parts(merge(below, {key: value for key, value in own.items() if key != "steps"}))
    return Stage(
        first_step=first_step,
        steps=own["steps"],
        first_position=first_position,
        new_objective=number == 0 or "objective" in own,
        **{"seed": own.get("seed", tables["seed"])} | parts,
    )


def _parts(tables: dict) -> dict:
    """Turn what both a recipe and a stage hold into what it stands for."""
    _check_keys("[data]", tables["data"], set(), {key.name for key in fields(Data)})
    optional = {key.name for key in fields(Optimizer) if key.default is not dataclasses.MISSING}
    required = {key.name for key in fields(Optimizer)} - optional
    _check_keys("[optimizer]", tables["optimizer"], required, required | optional)
    _check_values(tables["data"])
    _check_values(tables["optimizer"])
    negatives = tables.get("negatives", [{"kind": "other_clip"}])
    negatives = [negatives] if isinstance(negatives, dict) else negatives
    if not (isinstance(negatives, list) and all(isinstance(table, dict) for table in negatives)):
        raise ValueError(f"negatives must be a list of tables, [[negatives]], got {negatives!r}")
    frozen = tables.get("frozen", [])
    if not isinstance(frozen, list | tuple):
        raise ValueError(f"frozen must be a list of parts of the network, got {frozen!r}")
    data = {key: tuple(value) if isinstance(value, list) else value for key, value in tables["data"].items()}
    return {
        "objective": tables["objective"],
        "data": Data(**data),
        "optimizer": Optimizer(**tables["optimizer"]),
        "negatives": to_negatives(negatives),
        "frozen": tuple(frozen),
    }


def _plain(value: Any) -> Any:
    """Turn what a recipe holds back into what its file says, defaults included."""
    if isinstance(value, Negatives):
        return to_tables(value)
    if isinstance(value, Data | Optimizer):
        return {key: _plain(own) for key, own in vars(value).items() if own is not None}
    return list(value) if isinstance(value, tuple) else value


def _stage_table(stage: Stage) -> dict:
    kept = {"steps": stage.steps} | {key: _plain(vars(stage)[key]) for key in _LAID_OVER}
    if not stage.new_objective:
        del kept["objective"]
    return kept


# -------------------------------------------------------------------------------------------------------- checking


def _check_keys(where: str, table: dict, required: set[str], known: set[str]) -> None:
    missing, unknown = sorted(required - table.keys()), sorted(table.keys() - known)
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown:
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _check_values(values: dict) -> None:
    for name in sorted(_COUNTS & values.keys()):
        if type(values[name]) is not int or values[name] < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {values[name]!r}")
    for name in ("learning_rate", "weight_decay", "decay", "momentum"):
        if type(values.get(name, 0)) not in (int, float) or values.get(name, 0) < 0:
            raise ValueError(f"{name} must be a number of at least 0, got {values[name]!r}")


def _check_stage(recipe: Recipe, stage: Stage) -> None:
    """Raise ValueError unless the values of a stage can work together."""
    optimizer = stage.optimizer
    for name, value, known in (
        ("precision", recipe.precision, PRECISIONS),
        ("optimizer", optimizer.name, OPTIMIZERS),
        ("schedule", optimizer.schedule, SCHEDULES),
        ("objective", stage.objective.get("name"), OBJECTIVES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if any(vars(optimizer)[name] is None for name in SCHEDULES[optimizer.schedule]):
        needed = " and ".join(sorted(SCHEDULES[optimizer.schedule]))
        raise ValueError(f"schedule {optimizer.schedule!r} needs {needed} in [optimizer]")
    if (optimizer.momentum is None) != (optimizer.name != "sgd"):
        raise ValueError(f"momentum is what 'sgd' needs in [optimizer], and no other; got {optimizer.momentum!r}")
    if optimizer.schedule == "plateau" and recipe.validate_every is None:
        raise ValueError("schedule 'plateau' needs validate_every")
    _check_objective(stage)


def _check_objective(stage: Stage) -> None:
    """Raise ValueError unless the objective has these options, and uses the negatives that are named."""
    name = stage.objective["name"]
    kind, options = OBJECTIVES[name], {key: value for key, value in stage.objective.items() if key != "name"}
    known = inspect.signature(kind).parameters.keys() - {"windows_per_clip"}  # it is told that of [data]
    try:
        inspect.signature(kind).bind(windows_per_clip=1, **options)
    except TypeError as error:
        has = ", ".join(sorted(known)) or "none"
        raise ValueError(f"objective {name!r}: {error}; its options are: {has}") from None
    if not kind.negatives and stage.negatives != OtherClip():
        raise ValueError(f"objective {name!r} takes its negatives from the batch: leave negatives out")
