"""Kill commands at random moments, start them again, and compare what they end with.

    nice python benchmarks/kills.py audio image video localize index prepare simulate train torchrun --kills 30

Each command runs once undisturbed. Then it is killed (SIGKILL) at random moments and started again at once into the
same folder, until it ends by itself; that is repeated until there were as many kills. Once the process that was started
is killed alone, and once its whole group. Printed is what is left of them: runs whose results differ by a bit from the
undisturbed one's, files that the undisturbed run doesn't have (in the output, the temporary folder and shared memory;
but for FOREIGN ones), and processes that live on.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a checkout
EXAMPLE = ROOT / "examples" / "freedoom.mp4"
MARK = "OPENAVC_KILLS"  # variable of the environment by which processes are known, whoever their parent is
SHARED_MEMORY = Path("/dev/shm")
FOREIGN = ("pymp-", "torchelastic_", "sem.mp-")  # of multiprocessing and torchrun: sockets, empty logs, semaphores
ENDING = 5.0  # seconds that processes may take to notice that their parent has ended

RECIPE = """
seed = 0
batch_size = 4
steps = 60
precision = "float32"
checkpoint_every = 5
[model]
architecture = "ave"
widths = [4, 4, 8, 8]
frontend = "mel64"
image_size = 32
joint_size = 8
[objective]
name = "correspondence"
[data]
workers = 1
[optimizer]
name = "adam"
learning_rate = 1e-3
weight_decay = 1e-5
schedule = "constant"
"""


def contents(output: Path) -> dict[str, bytes]:
    """Return all files of a folder, by their paths in it."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Command:
    """A command to kill.

    `arguments` returns what follows `python`, for a folder of inputs and one for the output; `inputs` makes the former;
    `results` returns what must be the same, and has a name for each file that may be there. `renders` is true if it may
    leave shared memory of ViZDoom; nothing else may render meanwhile.
    """

    arguments: Callable[[Path, Path], list]
    inputs: Callable[[Path], None] = lambda folder: None
    results: Callable[[Path], dict] = contents
    renders: bool = False


def make_videos(folder: Path) -> None:
    for number in range(50):
        os.link(EXAMPLE, folder / f"video{number}.mp4")


def make_sounds(folder: Path) -> None:
    import numpy as np
    import soundfile

    for number in range(60):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 20 * 16_000)
        soundfile.write(folder / f"{number}.wav", noise, 16_000)


def make_pictures(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    for number in range(200):
        colours = np.random.default_rng(number).integers(0, 256, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(colours).save(folder / f"{number}.png")


def make_joint(folder: Path) -> None:
    sounds = folder / "sounds"
    sounds.mkdir()
    make_sounds(sounds)
    command = [sys.executable, "-m", "openavc", "audio", sounds, "--embedding", "joint", "--output", folder / "joint"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def rows_of(output: Path) -> dict:
    """Return the rows that searches see in a library; the names of its files are LanceDB's own."""
    from openavc.library.table import open_library

    rows = open_library(output).search().limit(10**9).to_arrow().to_pylist()
    return {"rows": sorted((row["result"], row["timestamp"], row["vector"]) for row in rows)}


def make_shards(folder: Path) -> None:
    videos = folder / "videos"
    videos.mkdir()
    make_videos(videos)
    command = [sys.executable, "-m", "training.prepare", videos, "--output", folder / "shards", "--size", "64"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (folder / "recipe.toml").write_text(RECIPE)


def run_of(output: Path) -> dict:
    """Return what a run of `training.train` ends with; curves, times and a checkpoint's way of storing are its own."""
    import json

    import torch

    found = {name: content for name, content in contents(output).items() if not name.startswith("tensorboard/")}
    lines = [json.loads(line) for line in found["log.jsonl"].splitlines()]
    steps = [(line["step"], line["loss"], line["gradient_norm"]) for line in lines]
    state = torch.load(output / "checkpoint.pt", weights_only=True)
    return found | {"log.jsonl": steps, "checkpoint.pt": bits(state)}


def bits(state: object) -> object:
    """Return the content of a checkpoint with the bytes of its tensors."""
    import torch

    if isinstance(state, dict):
        return {key: bits(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [bits(value) for value in state]
    return (str(state.dtype), state.shape, state.numpy().tobytes()) if isinstance(state, torch.Tensor) else state


def embedding(command: str, *options: str) -> Callable[[Path, Path], list]:
    return lambda inputs, output: ["-m", "openavc", command, inputs, "--output", output, *options]


def localizing(inputs: Path, output: Path) -> list:
    options = ["--frame-rate", "5", "--overwrite"]
    return ["-m", "openavc", "localize", EXAMPLE, "--output", output / "where.mp4", *options]


def indexing(inputs: Path, output: Path) -> list:
    return ["-m", "openavc", "index", inputs / "joint", "--db", output]


def training(inputs: Path, output: Path) -> list:
    options = ["--data", inputs / "shards", "--output", output, "--threads", "1", "--device", "cpu"]
    return ["-m", "training.train", inputs / "recipe.toml", *options]


def preparing(inputs: Path, output: Path) -> list:
    return ["-m", "training.prepare", inputs, "--output", output, "--workers", "2", "--size", "64"]


def rendering(inputs: Path, output: Path) -> list:
    return ["-m", "training.simulate", "--output", output, "--episodes", "24", "--seconds", "1", "--workers", "2"]


def training_in_two(inputs: Path, output: Path) -> list:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *training(inputs, output)]


COMMANDS = {
    "audio": Command(embedding("audio"), make_sounds),
    "image": Command(embedding("image"), make_pictures),
    "video": Command(embedding("video", "--frame-rate", "2"), make_videos),
    "localize": Command(localizing),
    "index": Command(indexing, make_joint, rows_of),
    "prepare": Command(preparing, make_videos),
    "simulate": Command(rendering, renders=True),
    "train": Command(training, make_shards, run_of),
    "torchrun": Command(training_in_two, make_shards, run_of),
}


def mapped() -> set[Path]:
    """Return the shared memory that living processes use."""
    found: set[Path] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # the process has ended, or is another user's
            lines = maps.read_text(errors="replace").splitlines()
            found.update(Path(line.split()[-1]) for line in lines if str(SHARED_MEMORY) in line)
    return found


@dataclass
class Count:
    """What kills have left."""

    kills: int = 0
    ends: int = 0  # runs that came to their end
    differing: list[str] = field(default_factory=list)  # results
    files: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        left = f"{len(self.differing)} results differ, {len(self.files)} files and {len(self.processes)} processes left"
        named = [*self.differing, *self.files, *self.processes]
        return f"{self.kills} kills, {self.ends} ends: {left}" + "".join(f"\n    {name}" for name in named)


class Bench:
    """Runs and kills one command in a folder of its own."""

    def __init__(self, command: Command, folder: Path):
        self.command, self.folder = command, folder
        self.inputs, self.temporary = folder / "inputs", folder / "temporary"
        for made in (self.inputs, self.temporary):
            made.mkdir()
        command.inputs(self.inputs)
        self.shared_memory = set(SHARED_MEMORY.glob("*"))
        started = time.monotonic()
        self._finish(self._start(folder / "whole"))
        self.seconds = time.monotonic() - started
        self.expected = command.results(folder / "whole")
        self.before = {path.name for path in self.temporary.iterdir()}

    def kill(self, kills: int, alone: bool, rng: random.Random) -> Count:
        """Kill the command so many times, and look at what each end leaves."""
        count, kind = Count(), "alone" if alone else "group"
        output = self.folder / f"{kind}0"
        while True:
            process = self._start(output)
            if count.kills < kills:
                try:
                    process.wait(rng.uniform(0, self.seconds))
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL) if alone else os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    count.kills += 1
                    continue
            self._finish(process)
            self._look(output, count)
            if count.kills == kills:
                return count
            output = self.folder / f"{kind}{count.ends}"

    def _start(self, output: Path) -> subprocess.Popen:
        command = [sys.executable, *map(str, self.command.arguments(self.inputs, output))]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            MARK: str(self.folder),
        }
        log = (self.folder / "log").open("w")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def _finish(self, process: subprocess.Popen) -> None:
        if process.wait():
            raise click.ClickException(
                f"it ended with status {process.returncode}: {(self.folder / 'log').read_text()}"
            )

    def _look(self, output: Path, count: Count) -> None:
        count.ends += 1
        until = time.monotonic() + ENDING
        while any((living := self._living(), left := self._left())) and time.monotonic() < until:
            time.sleep(0.1)  # processes may be ending, and others use shared memory, too
        count.processes += living
        found = self.command.results(output)
        count.differing += [f"{output}/{name}" for name in self.expected if found.get(name) != self.expected[name]]
        count.files += [f"{output}/{name}" for name in found if name not in self.expected]
        count.files += left

    def _left(self) -> list[str]:
        """Return the files in the temporary folder and the shared memory that nobody uses and that weren't there."""
        left = [path for path in self.temporary.iterdir() if path.name not in self.before]
        if self.command.renders:
            left += set(SHARED_MEMORY.glob("*")) - self.shared_memory - mapped()
        return [str(path) for path in left if not path.name.startswith(FOREIGN)]

    def _living(self) -> list[str]:
        """Return the command lines of the processes that this bench started and that haven't ended."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}={self.folder}".encode() in (process / "environ").read_bytes().split(b"\0")
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has ended, or is another user's
                continue
            if marked and line:
                found.append(line)
        return found


@click.command(help=__doc__.split("\n")[0])
@click.argument("names", type=click.Choice(sorted(COMMANDS)), nargs=-1, required=True)
@click.option("--kind", "kinds", type=click.Choice(["alone", "group"]), multiple=True, default=["alone", "group"])
@click.option("--kills", type=click.IntRange(min=1), default=30, show_default=True, help="Of each kind.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the moments.")
def main(names: tuple[str, ...], kinds: tuple[str, ...], kills: int, seed: int) -> None:
    clean = True
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(COMMANDS[name], Path(folder))
            for kind in kinds:
                count = bench.kill(kills, kind == "alone", random.Random(f"{seed} {name} {kind}"))
                click.echo(f"{name}, {kind} (seed {seed}, {bench.seconds:.1f} s undisturbed): {count}")
                clean &= not (count.differing or count.files or count.processes)
    raise SystemExit(0 if clean else 1)


if __name__ == "__main__":
    main()
