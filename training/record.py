"""What a run keeps of itself: its configuration, a line of log a step, curves, and figures on held-out shards."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from openavc.weights import load_model

from . import distributed
from .checkpoint import save_weights, write_whole
from .data import Shards


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
    """Keep the configuration in the run; ValueError if the run was started with another that gives other weights."""
    path = run / "config.json"
    if path.exists():
        before = json.loads(path.read_text())
        old, new = _decisive(before), _decisive(config)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if changed:
            raise ValueError(f"{run} was started with other values of {', '.join(changed)}: take a new folder")
    distributed.wait_for_all()  # until all have looked
    if distributed.rank() == 0 and not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(config, indent=2) + "\n").encode())


def _decisive(config: dict) -> dict:
    """What the weights depend on. The parts of a batch decide, not how many processes work on them."""
    free = {"recipe", "checkpoint_every", "validate_every", "accumulate"}
    kept = {key: value for key, value in config.items() if key not in free}
    return kept | {"data": {key: value for key, value in config["data"].items() if key != "workers"}}


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
                if name != "step" and value is not None:
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
