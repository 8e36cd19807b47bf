"""Recipes: the settings of a training run with their defaults, read from TOML and checked before the run starts.

A recipe may extend another (`extends = "other.toml"`, relative to its own file): tables are merged, its own values win.
It may be a curriculum: a list of `[[stages]]`, each with its `steps` and with those of [data], [optimizer],
[objective], negatives, frozen and seed that differ from the recipe's. From one stage to the next the network's weights
carry over, and so do the objective's parameters unless the stage changes [objective]; each stage starts with a new
optimizer and its own learning-rate schedule, while positions in the data continue.
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
from .picture_augmentation import PictureAugmentation
from .sound_augmentation import SoundAugmentation

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SCHEDULES = {  # keys that each needs in [optimizer]
    "constant": set(),
    "cosine": set(),
    "step": {"decay", "decay_steps"},
    "plateau": {"decay", "patience"},
}
BY_CLASS = ("uniform", "square_root", "count")  # share of each class: the same, or by its number of recordings
REQUIRED = {"seed", "batch_size", "steps", "precision", "checkpoint_every", "model", "objective", "optimizer"}


@dataclass(frozen=True)
class Data:
    """How pairs are drawn and augmented; times in seconds.

    Sound windows lie at a frame of their own clip, in positive and negative pairs alike, so their position on the grid
    of frames gives nothing away (Objects that Sound, section 3.3). All windows lie inside their clip, and those of one
    item don't overlap unless the clip has no frame left for another window.
    """

    windows_per_clip: int = 1
    misalignment: float = 0.0  # largest distance between a frame and the middle of its sound
    grid: float = 0.0  # middles of sounds are rounded to multiples of this; 0.04 in Objects that Sound
    quietest: float = -120.0  # dBFS; up to 8 windows are tried to find one that is loud enough
    grouped: bool = False  # whether clips of a group, which differ only in the source of sound, stay neighbours
    shorter: bool = False  # whether shorter clips are taken: frames at their ends are repeated, sound goes on as zeros
    mask: str | None = None  # name of a mask of the clips; frames where it is false are left out
    gain: tuple[float, float] = (0.9, 1.1)  # factor for each window (L3 paper)
    brightness: float = 32 / 255  # largest shift
    saturation: tuple[float, float] = (0.5, 1.5)
    flip: bool = True
    workers: int = 0  # processes that make batches
    by_class: str | None = None  # of BY_CLASS: pairs are a photograph and a recording of a class, see `class_pairs`
    sound: SoundAugmentation | None = None  # of pairs by class; None: only their gain
    picture: PictureAugmentation | None = None  # of pairs by class; None: crops and colours


@dataclass(frozen=True)
class Optimizer:
    """The update rule, and the schedule of the learning rate over the steps of a stage."""

    name: str
    learning_rate: float
    weight_decay: float
    schedule: str
    momentum: float | None = None  # required by SGD, unknown to the others
    warmup_steps: int = 0
    decay: float | None = None  # factor on the learning rate, in the schedules "step" and "plateau"
    decay_steps: int | None = None  # between two decays, in the schedule "step"
    patience: int | None = None  # validations without improvement before a decay, in the schedule "plateau"
    largest_gradient: float | None = None  # norm beyond which gradients are scaled down; None: 10


@dataclass(frozen=True)
class Stage:
    """A part of a training run, with the settings that apply in it."""

    first_step: int  # in the run, counted from 0
    steps: int
    first_position: int  # in the data, where the stage starts
    seed: int
    objective: dict
    data: Data
    optimizer: Optimizer
    negatives: Negatives
    frozen: tuple[str, ...]
    new_objective: bool = True  # whether the objective starts with fresh parameters

    @property
    def last_step(self) -> int:
        """Number of the step after the last one."""
        return self.first_step + self.steps


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; those that stages may change are also in each stage, see `stage_at`."""

    seed: int
    batch_size: int  # pairs, over all processes
    steps: int  # of all stages together
    precision: str
    checkpoint_every: int  # steps
    model: dict  # `architecture` and its options
    objective: dict  # `name` and its options
    data: Data
    optimizer: Optimizer
    negatives: Negatives = field(default_factory=OtherClip)
    stages: tuple[Stage, ...] = ()  # a single one with all steps if the recipe names none
    accumulate: int = 1  # parts into which a process splits its share of a batch
    sync_batch_norm: bool = False
    frozen: tuple[str, ...] = ()  # parts of the network that aren't trained
    fresh: tuple[str, ...] = ()  # parts of the network that don't begin with the given weights
    needs_weights: bool = False  # whether it must start from given weights
    validate_every: int | None = None  # steps; None: only at the end

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step, counted from 0, belongs to; the last one for the end of the training."""
        return next((stage for stage in self.stages if step < stage.last_step), self.stages[-1])

    def to_json(self) -> dict:
        """Return the recipe, defaults included, as plain values for JSON and TOML; `to_recipe` reads them back."""
        table = {key: _plain(value) for key, value in vars(self).items() if value is not None}
        first = self.stages[0]
        alone = len(self.stages) == 1 and all(vars(first)[key] == vars(self)[key] for key in _STAGE_KEYS)
        return table | {"stages": [] if alone else [_stage_table(stage) for stage in self.stages]}


# --------------------------------------------------------------------------------------------------------- reading

_STAGE_KEYS = ("seed", "objective", "data", "optimizer", "negatives", "frozen")  # that a stage may override
_AUGMENTATIONS = {"sound": SoundAugmentation, "picture": PictureAugmentation}
# table -> key that decides which options it holds
_KIND = {"model": "architecture", "objective": "name", "optimizer": "name", "negatives": "kind"}
_COUNTS = {
    *("batch_size", "steps", "checkpoint_every", "accumulate", "validate_every"),
    *("windows_per_clip", "decay_steps", "patience"),
}


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """Read a recipe, and replace some of its values.

    Parameters
    ----------
    path : Path
        TOML file.
    **changes
        New values by key; None keeps the recipe's own value, and tables are merged.

    Raises
    ------
    ValueError
        If the file isn't TOML, the recipe extends itself, or its values can't work.
    FileNotFoundError
        If the file, or one that it extends, doesn't exist.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    return to_recipe(merge(read_tables(path), given))


def read_tables(path: Path) -> dict:
    """Read a TOML file, merged with all that it extends, without checking values; other errors as for `read_recipe`."""
    tables: dict = {}
    for file in reversed(lineage(path)):
        own = _read_toml(file)
        own.pop("extends", None)
        tables = merge(tables, own)
    return tables


def lineage(path: Path) -> list[Path]:
    """List a recipe's file, the file that it extends, the file that this one extends, and so on.

    Raises
    ------
    ValueError
        If one of them isn't TOML, or extends itself.
    FileNotFoundError
        If one of them doesn't exist.
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
    """Merge a recipe's own tables into the base's: tables in both are merged recursively, other values are replaced.

    A table of another kind (a [model] of another architecture, an [objective] of another name, negatives of another
    kind) replaces the base's, whose options belong to something else. A recipe's own stages replace the base's steps,
    another objective its negatives, and another optimizer its momentum.
    """
    merged = dict(base)
    if "stages" in own:
        merged.pop("steps", None)
    if _is_other_kind("objective", base.get("objective"), own.get("objective")):
        merged.pop("negatives", None)
    for key, value in own.items():
        below = base.get(key)
        if _is_other_kind(key, below, value):
            below = {option: kept for option, kept in below.items() if key == "optimizer" and option != "momentum"}
        merged[key] = merge(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def _is_other_kind(key: str, below: Any, own: Any) -> bool:
    """Whether two tables of one key both name what they are of, and differ in that."""
    if key not in _KIND or not (isinstance(below, dict) and isinstance(own, dict)):
        return False
    return own.get(_KIND[key], below.get(_KIND[key])) != below.get(_KIND[key])


def to_recipe(tables: dict) -> Recipe:
    """Build a recipe from the tables of its file.

    Raises
    ------
    ValueError
        If keys are unknown or missing, or values can't work.
    """
    for table in ("model", "objective", "data", "optimizer"):
        if not isinstance(tables.get(table, {}), dict):
            raise ValueError(f"{table} must be a table, [{table}], got {tables[table]!r}")
    listed = tables.get("stages", [])
    if not (isinstance(listed, list) and all(isinstance(stage, dict) for stage in listed)):
        raise ValueError(f"stages must be a list of tables, [[stages]], got {listed!r}")
    tables = {"data": {}} | tables
    if listed:
        tables = tables | {"steps": _steps(tables, listed)}
    _check_keys("the configuration", tables, REQUIRED, {key.name for key in fields(Recipe)})
    _check_values(tables)
    parts = _shared_parts(tables)
    stages, first, position = [], 0, 0
    for own in listed or [{"steps": tables["steps"]}]:
        stage = _stage(tables, own, stages[-1] if stages else None, first, position)
        stages.append(stage)
        first, position = (
            stage.last_step,
            position + stage.steps * (tables["batch_size"] // stage.data.windows_per_clip),
        )
    plain = {key: value for key, value in tables.items() if key not in parts}
    fresh = _parts_of_the_network("fresh", tables)
    recipe = Recipe(**plain | parts | {"stages": tuple(stages), "fresh": fresh})
    for stage in stages:
        _check_stage(recipe, stage)
    return recipe


def _steps(tables: dict, listed: list[dict]) -> int:
    """Add up the steps of all stages; ValueError if the recipe gives another sum."""
    for number, stage in enumerate(listed):
        _check_keys(f"stage {number + 1}", stage, {"steps"}, {"steps", *_STAGE_KEYS})
        _check_values(stage)
    total = sum(stage["steps"] for stage in listed)
    if tables.get("steps", total) != total:
        raise ValueError(
            f"steps are those of all stages, {total}: leave them out (--steps, too) or change the stages; got "
            f"{tables['steps']}"
        )
    return total


def _stage(tables: dict, own: dict, before: Stage | None, first_step: int, first_position: int) -> Stage:
    below = {key: tables[key] for key in _STAGE_KEYS if key in tables}
    parts = _shared_parts(merge(below, {key: value for key, value in own.items() if key != "steps"}))
    return Stage(
        first_step=first_step,
        steps=own["steps"],
        first_position=first_position,
        new_objective=before is None or "objective" in own or parts["objective"] != before.objective,
        **{"seed": own.get("seed", tables["seed"])} | parts,
    )


def _shared_parts(tables: dict) -> dict:
    """Build the objects that a recipe and its stages both hold, from their tables."""
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
    data = _with_tuples(tables["data"]) | {
        key: _augmentation(key, kind, tables["data"][key])
        for key, kind in _AUGMENTATIONS.items()
        if tables["data"].get(key) is not None
    }
    return {
        "objective": tables["objective"],
        "data": Data(**data),
        "optimizer": Optimizer(**tables["optimizer"]),
        "negatives": to_negatives(negatives),
        "frozen": _parts_of_the_network("frozen", tables),
    }


def _with_tuples(table: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _augmentation(key: str, kind: type, table: Any) -> Any:
    """Build the augmentation of sound or picture from its table."""
    if not isinstance(table, dict):
        raise ValueError(f"{key} must be a table, [data.{key}], got {table!r}")
    _check_keys(f"[data.{key}]", table, set(), {option.name for option in fields(kind)})
    try:
        return kind(**_with_tuples(table))
    except (TypeError, ValueError) as error:
        raise ValueError(f"[data.{key}]: {error}") from None


def _parts_of_the_network(key: str, tables: dict) -> tuple[str, ...]:
    names = tables.get(key, [])
    if not isinstance(names, list | tuple):
        raise ValueError(f"{key} must be a list of parts of the network, got {names!r}")
    return tuple(names)


def _plain(value: Any) -> Any:
    """Turn a value of a recipe back into plain TOML, defaults included."""
    if isinstance(value, Negatives):
        return to_tables(value)
    if isinstance(value, Data | Optimizer | SoundAugmentation | PictureAugmentation):
        return {key: _plain(own) for key, own in vars(value).items() if own is not None}
    return list(value) if isinstance(value, tuple) else value


def _stage_table(stage: Stage) -> dict:
    kept = {"steps": stage.steps} | {key: _plain(vars(stage)[key]) for key in _STAGE_KEYS}
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
    if type(values.get("seed", 0)) is not int or values.get("seed", 0) < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {values['seed']!r}")
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
    largest = optimizer.largest_gradient
    if largest is not None and not (type(largest) in (int, float) and largest > 0):
        raise ValueError(f"largest_gradient must be a norm above 0, got {largest!r}")
    if optimizer.schedule == "plateau" and recipe.validate_every is None:
        raise ValueError("schedule 'plateau' needs validate_every")
    _check_by_class(stage)
    _check_objective(stage)


def _check_by_class(stage: Stage) -> None:
    """Raise ValueError unless the options of pairs by class, and those of others, stand alone."""
    data, default = stage.data, Data()
    if data.by_class is None:
        if lost := [name for name in _AUGMENTATIONS if vars(data)[name] is not None]:
            raise ValueError(f"[data.{lost[0]}] is for pairs by class: give by_class, one of {', '.join(BY_CLASS)}")
        return
    if data.by_class not in BY_CLASS:
        raise ValueError(f"by_class must be one of {', '.join(BY_CLASS)}, got {data.by_class!r}")
    for name in ("windows_per_clip", "misalignment", "grid", "grouped", "mask"):
        if vars(data)[name] != vars(default)[name]:
            raise ValueError(f"{name} = {vars(data)[name]!r} has no meaning with by_class: leave it out")


def _check_objective(stage: Stage) -> None:
    """Raise ValueError unless the objective has the stage's options and uses its negatives."""
    name = stage.objective["name"]
    kind, options = OBJECTIVES[name], {key: value for key, value in stage.objective.items() if key != "name"}
    known = inspect.signature(kind).parameters.keys() - {"windows_per_clip"}  # that comes from [data]
    try:
        inspect.signature(kind).bind(windows_per_clip=1, **options)
        objective = kind(windows_per_clip=1, **options)
    except TypeError as error:
        has = ", ".join(sorted(known)) or "none"
        raise ValueError(f"objective {name!r}: {error}; its options are: {has}") from None
    if stage.data.by_class and not objective.takes_classes:
        raise ValueError(
            f"with by_class, an objective must know classes: 'contrastive' with same_class = 'positive' or 'ignored', "
            f"or 'classification'; got {name!r}, to which another item of the same class may be a negative"
        )
    if not (kind.negative_share or objective.drawn) and stage.negatives != OtherClip():
        raise ValueError(f"objective {name!r} takes its negatives from the batch: leave negatives out")
