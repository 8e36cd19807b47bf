"""Batches for each process: its positions in the data, their loading by workers, and checks before the start."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from openavc.models.contract import AudioVisualModel, Classifies
from openavc.parent import end_with_parent

from . import distributed
from .class_pairs import ClassPairs
from .corpora.shards import Shards
from .objectives import OBJECTIVES, check_capabilities
from .pairs import Pairs, concatenate
from .recipe import Recipe, Stage
from .state import build_objective, check_parts


class Parts:
    """Yields the positions in the data of each part of a batch that this process works on, for some steps of a stage.

    A batch's clips are cut into `world_size * accumulate` runs of neighbours; a process takes `accumulate` of them. So
    one process that accumulates works on the same parts as several processes that don't.
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


def make_pairs(recipe: Recipe, stage: Stage, shards: Shards, model: AudioVisualModel) -> Pairs | ClassPairs:
    """Make the pairs of a stage; ValueError unless the network and the shards have what it requires."""
    name = stage.objective["name"]
    check_capabilities(name, model)
    check_parts(model, stage.frozen, "frozen")
    check_labels(stage, shards)
    classes = None
    if isinstance(model, Classifies):
        check_classes(model, shards)
        classes = model.classes
    drawn, share = build_objective(stage).drawn, OBJECTIVES[name].negative_share
    pairs: Pairs | ClassPairs
    if stage.data.by_class:
        pairs = ClassPairs(shards, model, stage.data, stage.seed, classes)
    else:
        pairs = Pairs(shards, model, stage.data, stage.seed, share, stage.negatives, drawn, classes)
    check_batch(recipe, stage, pairs.group_size)
    return pairs


def make_loader(
    recipe: Recipe, stage: Stage, pairs: Pairs | ClassPairs, device: torch.device, first_step: int, last_step: int
) -> DataLoader:
    """Load this process's parts of the batches of steps `first_step` to `last_step`, as an uninterrupted run would."""
    import cv2

    cv2.setNumThreads(1)  # OpenCV's threads don't survive the fork of a worker, which would wait for them forever
    workers = stage.data.workers
    return DataLoader(
        pairs,
        batch_sampler=Parts(recipe, stage, first_step, last_step),
        num_workers=workers,
        collate_fn=concatenate,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_begin_worker,
    )


def _begin_worker(worker: int) -> None:
    """Ignore SIGTERM, which a cluster sends to all processes, so that batches in flight still arrive.

    If the parent is killed, the worker ends at once instead of with the batches it was asked for.
    """
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def kill_workers() -> None:
    """Kill the workers that an error leaves behind; they ignore Python's SIGTERM, so Python would wait forever."""
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise an error at their end
    for worker in multiprocessing.active_children():
        worker.kill()


def check_batch(recipe: Recipe, stage: Stage, group_size: int = 1) -> None:
    """Raise ValueError unless the batch divides evenly into the parts of all processes, in entire clips and groups."""
    windows, parts = stage.data.windows_per_clip, distributed.world_size() * recipe.accumulate
    multiple = windows * parts * group_size
    if recipe.batch_size % multiple or recipe.batch_size < 2 * windows * parts:
        groups = f"{group_size} clips a group, " if group_size > 1 else ""
        raise ValueError(
            f"batch_size must be a multiple of {multiple} ({groups}{windows} windows a clip, {parts} parts of a batch)"
            f"{'' if groups else ' with at least two clips a part'}, got {recipe.batch_size}"
        )


def check_classes(model: Classifies, shards: Shards) -> None:
    """Raise ValueError unless each clip has a label, its first, among the network's classes."""
    unknown = [name for name in shards.classes if name not in model.classes]
    if unknown or not all(clip.labels for clip in shards.clips):
        raise ValueError(
            f"each clip needs a label among the network's classes ({', '.join(model.classes)}); the shards have "
            f"{', '.join(unknown) or 'clips without'}: name all of theirs as classes in the configuration's [model]"
        )


def check_labels(stage: Stage, shards: Shards) -> None:
    """Raise ValueError if the objective needs labels that the shards don't have."""
    wanted = stage.objective.get("classes")
    if wanted is not None and (wanted != len(shards.classes) or not all(clip.labels for clip in shards.clips)):
        raise ValueError(
            f"the objective wants {wanted} classes and a label for each clip; "
            f"the shards have {len(shards.classes)} ({', '.join(shards.classes) or 'no labels'})"
        )
