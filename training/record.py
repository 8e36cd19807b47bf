"""The records of a run: its configuration, a log line for each step, curves, progress, and held-out figures."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from openavc.atomic import NO_ROOM, name_full_disk, write_bytes
from openavc.models.contract import AudioVisualModel
from openavc.weights import sha256_of

from . import distributed
from .checkpoint import save_weights
from .corpora.shards import Shards
from .recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def describe(data: list[Path], shards: Shards, start_from: Path | None) -> dict:
    """Describe what a run depends on besides its recipe: shards, their origin and labels, and the initial weights.

    `clip_seconds` holds, for each folder, how many clips there are and how long they are.
    """
    corpora = [folder / "corpus.json" for folder in data]
    return {
        "corpus": [json.loads(path.read_text()) if path.exists() else None for path in corpora],
        "clip_seconds": [_lengths(folder, shards) for folder in data],
        "shards": shards.describe(),
        "classes": shards.classes,
        "start_from": sha256_of(start_from) if start_from else None,
    }


def _lengths(folder: Path, shards: Shards) -> dict[str, float]:
    """Return the number of the clips in a folder, and their shortest, mean and longest length in seconds."""
    seconds = [clip.seconds for clip in shards.clips if shards.paths[clip.shard].parent == folder]
    if not seconds:
        return {}
    lengths = {"shortest": min(seconds), "mean": sum(seconds) / len(seconds), "longest": max(seconds)}
    return {"clips": len(seconds)} | {name: round(value, 3) for name, value in lengths.items()}


def record_config(run: Path, config: dict) -> None:
    """Write the run's configuration; ValueError if the run was started with one that leads to other weights."""
    path = run / "config.json"
    if path.exists():
        before = json.loads(path.read_text())
        old, new = _decisive_settings(before), _decisive_settings(config)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if changed:
            raise ValueError(f"{run} was started with other values of {', '.join(changed)}: take a new folder")
    distributed.wait_for_all()  # all have looked before the first one writes
    if distributed.rank() == 0 and not path.exists():
        write_bytes(path, (json.dumps(config, indent=2) + "\n").encode())


def _decisive_settings(config: dict) -> dict:
    """Return the settings that the weights depend on; how processes share the parts of a batch isn't among them.

    Those that older runs lack have the values that were the only ones then.
    """
    free = {"recipe", "checkpoint_every", "accumulate"}
    free |= {"began_with", "clip_seconds"}  # follow from start_from's digest and the shards; older runs lack them
    if "validation" not in config:  # no schedule depends on the figures
        free.add("validate_every")
    kept = {key: value for key, value in config.items() if key not in free}
    stages = [_with_decisive_data(stage) for stage in config.get("stages", [])]
    return {"fresh": []} | _with_decisive_data(kept) | {"stages": stages}


def _with_decisive_data(table: dict) -> dict:
    data = {key: value for key, value in table["data"].items() if key != "workers"}
    return table | {"data": {"shorter": False} | data}


class Log:
    """Writes `log.jsonl`, a line for each step, and the same curves for TensorBoard; only the first process writes.

    Lines of steps after the checkpoint are dropped, as these steps will be repeated.
    """

    def __init__(self, run: Path, steps: int):
        self.path, self.curves, self.steps = run / "log.jsonl", run / "tensorboard", steps

    def __enter__(self) -> Log:
        self.file = self.board = None
        if distributed.rank() == 0:
            from torch.utils.tensorboard import SummaryWriter

            with contextlib.ExitStack() as opened:
                opened.enter_context(_full_disks_passed_over())
                self.file = open_log(self.path, self.steps)
                opened.callback(self._close, self.path, self.file)
                with name_full_disk(self.curves):
                    self.board = SummaryWriter(self.curves, purge_step=self.steps + 1)
                opened.callback(self._close, self.curves, self.board)
                self.opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.opened.close()

    @staticmethod
    def _close(path: Path, opened: TextIO | SummaryWriter) -> None:
        with name_full_disk(path):
            opened.close()

    def write(self, line: dict) -> None:
        """Append the line of a step."""
        if self.file:
            with name_full_disk(self.path):
                self.file.write(json.dumps(line) + "\n")
            with name_full_disk(self.curves):
                for name, value in line.items():
                    if name != "step" and value is not None:
                        self.board.add_scalar(name, value, line["step"])

    def flush(self) -> None:
        """Flush all lines written so far to disk."""
        if self.file:
            with name_full_disk(self.path):
                self.file.flush()
            with name_full_disk(self.curves):
                self.board.flush()


@contextlib.contextmanager
def _full_disks_passed_over() -> Iterator[None]:
    """Say nothing of a full disk in TensorBoard's thread, which raises the error in the main one, too."""

    def pass_over(failure: threading.ExceptHookArgs) -> None:
        if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in NO_ROOM):
            before(failure)

    before, threading.excepthook = threading.excepthook, pass_over
    try:
        yield
    finally:
        threading.excepthook = before


def open_log(path: Path, steps: int) -> TextIO:
    """Open a log with a line for each step for appending, cut off after `steps` lines."""
    lines = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    write_bytes(path, "".join(lines).encode())
    return path.open("a")


class Progress:
    """Shows how far a training is, with its loss: as a bar on a terminal, otherwise in a line now and then.

    Only the first process shows anything, on the standard error.

    Parameters
    ----------
    first, last : int
        Steps done when the training starts, and when it will stop.
    every : float
        Seconds between two lines.
    """

    def __init__(self, first: int, last: int, every: float = 30.0):
        self.last, self.every, self.next_line = last, every, 0.0
        self.leads, self.terminal = distributed.rank() == 0, sys.stderr.isatty()
        self.bar = tqdm(total=last, initial=first, disable=not (self.leads and self.terminal), unit="step")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, step: int, figures: dict) -> None:
        """Show that `step` steps are done, and the last one's figures."""
        self.bar.set_postfix(loss=f"{figures['loss']:.4f}", refresh=False)
        self.bar.update()
        due = time.monotonic() >= self.next_line or step == self.last
        if self.leads and not self.terminal and due:
            self.next_line = time.monotonic() + self.every
            print(
                f"step {step} of {self.last}: loss {figures['loss']:.4f}, {figures['right']:.1%} right, "
                f"{figures['pairs_per_second']:.0f} pairs a second",
                file=sys.stderr,
                flush=True,
            )


def read_lines(path: Path) -> list:
    """Read a file of JSON lines; an empty list if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Validation:
    """Measures correspondence on held-out shards, by type of pair; keeps the best weights in `best.safetensors`.

    Only the first process measures; it sends the figures to the others.

    Parameters
    ----------
    run : Path
        Folder of the run; gets `validation.jsonl`, a line for each measurement.
    data : Path
        Folder of shards.
    model : AudioVisualModel
    recipe : Recipe
        Says when to measure.
    """

    def __init__(self, run: Path, data: Path, model: AudioVisualModel, recipe: Recipe):
        from .evaluate.datasets.held_out import load_pairs

        self.path, self.best, self.model, self.recipe = (
            run / "validation.jsonl",
            run / "best.safetensors",
            model,
            recipe,
        )
        self.pairs = load_pairs(model, data, per_clip=4, seed=0) if distributed.rank() == 0 else None
        self.lines = distributed.from_first(read_lines(self.path))

    def figures(self, first_step: int, last_step: int) -> list[float]:
        """Return the figures measured after `first_step` steps and up to `last_step`."""
        return [line["threshold"] for line in self.lines if first_step < line["step"] <= last_step]

    def __call__(self, step: int) -> None:
        """Measure after `step` steps, if a measurement is due and hasn't been made yet."""
        steps = self.recipe.steps
        if step != steps and step % (self.recipe.validate_every or steps) != 0:
            return
        if distributed.rank() == 0 and not any(line["step"] == step for line in self.lines):
            self._measure(step)
        self.lines = distributed.from_first(self.lines)

    def _measure(self, step: int) -> None:
        from .evaluate.metrics.correspondence import avc, represent

        self.model.eval()
        figures = avc(self.model, represent(self.model, self.pairs), seed=0)
        if all(figures["threshold"] > line["threshold"] for line in self.lines):
            save_weights(self.best, self.model, self.recipe.model)
        self.lines = [*self.lines, {"step": step, **figures}]
        write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
