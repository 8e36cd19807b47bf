"""What the recipes cost: parameters, FLOPs, GPU-hours and money, cores that feed a GPU, storage, hours of a laptop.

    python benchmarks/planning.py --videos FOLDER

FLOPs are counted by PyTorch on the full-size networks, without running them. Hours and money follow from the options.
Measured per second of CPU time of one core are the loader and a step of the recipes called small or natural; if
`--videos` names a folder of some videos, the storage that training.prepare needs for them is also measured. The tables
of docs/planning.md are its output.
"""

import math
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training` isn't installed with the package

from benchmarks.loader import Training, loader_alone, own_corpus, step_alone
from openavc.models.contract import AudioVisualModel
from training import prepare
from training.corpora.lists import find_videos
from training.corpora.shards import Shards
from training.recipe import PRECISIONS, Recipe, merge, read_recipe, to_recipe
from training.state import build
from training.steps import Step, to_training_mode

RECIPES = sorted((Path(__file__).parents[1] / "training/configs").glob("*.toml"))
ARITHMETIC = ("FP32", "TF32", "BF16")
# Peak TFLOP/s in each arithmetic without sparsity, from NVIDIA's data sheets of A100 (SXM, 80 GB) and H100 (SXM); the
# prices, in dollars an hour, are a guess.
GPUS = (("A100", 19.5, 156.0, 312.0, 2.0), ("H100", 67.0, 494.0, 989.0, 3.0))
CORPORA = {  # clips of 10 s; the papers' numbers; we aren't sure of OpenL3's two
    "Flickr-SoundNet": 500_000,
    "AudioSet-Instruments": 263_000,
    "OpenL3 music": 296_000,
    "OpenL3 environmental": 195_000,
    "Kinetics-Sounds": 19_000,
}
FEW = 6  # videos to measure storage on
BATCH = 128  # most pairs in a batch that is measured


# ------------------------------------------------------------------------------------------------------ arithmetic


@dataclass(frozen=True)
class Work:
    """The work that a recipe asks for."""

    name: str
    precision: str
    parameters: int
    pair: float  # FLOPs of forward and backward
    pairs: int
    bytes: int  # of a pair, sent from the loader to the GPU

    @property
    def total(self) -> float:
        """FLOPs in all."""
        return self.pair * self.pairs

    def hours(self, peak: float, share: float) -> float:
        """Return GPU-hours at a given share of a peak in TFLOP/s."""
        return self.total / (peak * 1e12 * share) / 3600

    def pace(self, peak: float, share: float) -> float:
        """Return the pairs per second of one GPU at a given share of a peak in TFLOP/s."""
        return peak * 1e12 * share / self.pair


@dataclass(frozen=True)
class Density:
    """The density of shards: bytes per pixel of a picture, and per second of sound."""

    pixel: float
    sound: float

    def clip(self, seconds: float, frame_rate: float, width: int, height: int) -> float:
        """Return the bytes of a clip."""
        return seconds * (frame_rate * width * height * self.pixel + self.sound)


def cores(step: float, loader: float) -> int:
    """Count the cores needed for loaders of `loader` pairs per second each to keep up with a step of `step`."""
    return math.ceil(step / loader)


# ---------------------------------------------------------------------------------------------------------- counts


def frames_shape(model: AudioVisualModel) -> tuple[int, ...]:
    """Return the shape of a clip's frames as the loader provides them."""
    return model.precompute_frames(np.zeros(model.frames.shape, np.float32)).shape


def synthetic_batch(model: AudioVisualModel, pairs: int, shape: tuple[int, ...], drawn: int) -> dict[str, torch.Tensor]:
    """Make pairs of black pictures and silence, as the loader would; `shape` is that of a clip's frames.

    `drawn` negatives come with each, if any.
    """
    sound = model.sound.samples, model.sound.channels
    negatives = {"negatives": torch.zeros(pairs, drawn, *sound)} if drawn else {}
    return negatives | {
        "frames": torch.zeros(pairs, *shape),
        "samples": torch.zeros(pairs, *sound),
        "label": torch.zeros(pairs, dtype=torch.long),
        "target": torch.zeros(pairs, dtype=torch.long),
        "group": torch.zeros(pairs, dtype=torch.long),
    }


def count(name: str, recipe: Recipe) -> Work:
    """Count a step of a full batch, of the first stage in a curriculum, on tensors that have shapes but no content.

    A multiplication and an addition are two FLOPs. Only convolutions and matrix products are counted, forward and
    backward: not the Fourier transform of the sound, BatchNorm, ReLU, pooling or the optimizer.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, objective, _ = build(recipe, torch.device("cpu"))
    to_training_mode(model, recipe.stages[0].frozen)
    step, shape = Step(model, objective, PRECISIONS[recipe.precision]), frames_shape(model)
    trained = [parameter for parameter in step.parameters() if parameter.requires_grad]
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        loss, _ = step(synthetic_batch(model, recipe.batch_size, shape, objective.drawn))
        torch.autograd.grad(loss, trained, allow_unused=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    pair = counter.get_total_flops() / recipe.batch_size
    size = sum(tensor.nbytes for tensor in synthetic_batch(model, 1, shape, objective.drawn).values())
    return Work(name, recipe.precision, parameters, pair, recipe.steps * recipe.batch_size, size)


def is_small(name: str) -> bool:
    """Whether a recipe is for a few cores, by its name."""
    return "small" in name or "natural" in name


# ------------------------------------------------------------------------------------------------------- measures


def measure_core(recipe: Recipe, seconds: float, step: bool) -> tuple[float, float | None]:
    """Measure the pairs per second of CPU time of the loader and, if `step`, of the step, on noise."""
    small = {"data": {"workers": 0}, "batch_size": min(BATCH, recipe.batch_size), "accumulate": 1}
    recipe = to_recipe(merge(recipe.to_json(), small))
    with tempfile.TemporaryDirectory() as folder:
        training = Training(recipe, own_corpus(recipe, Path(folder)), torch.device("cpu"))
        loader = loader_alone(training, seconds, time.process_time)
        return loader, step_alone(training, seconds, time.process_time) if step else None


def prepare_settings() -> prepare.Settings:
    """Return the default settings of the command."""
    defaults = {parameter.name: parameter.default for parameter in prepare.main.params}
    defaults |= {"size": prepare.VIDEO_SIZE, "sample_rate": prepare.VIDEO_RATE}
    return prepare.Settings(**{field.name: defaults[field.name] for field in fields(prepare.Settings)})


def measure_density(folder: Path) -> tuple[Density, str]:
    """Measure the shards that training.prepare makes of a few videos by default; raise ValueError if none can be read.

    Returns
    -------
    density : Density
    about : str
        Clips it was measured on.
    """
    videos = find_videos(folder)[:FEW]
    with tempfile.TemporaryDirectory() as output:
        prepare.write_shard(Path(output) / "000000.tar", 0, videos, prepare_settings())
        shards = Shards(output)
        if not shards.clips:
            raise ValueError(f"of the first {len(videos)} videos in {folder} none can be read")
        pixels = sum(len(clip.frame_times) * shards.frame(clip, 0)[..., 0].size for clip in shards.clips)
        pictures = sum(clip.members["mjpeg"][1] for clip in shards.clips)
        sounds = sum(clip.sound[1] for clip in shards.clips)
        seconds = sum(clip.seconds for clip in shards.clips)
        height, width = shards.frame(shards.clips[0], 0).shape[:2]
    about = f"{len(shards.clips)} clips, {seconds:.0f} s, the first of {width} x {height} pixels"
    return Density(pictures / pixels, sounds / seconds), about


# ----------------------------------------------------------------------------------------------------------- tables


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def number(value: float) -> str:
    """Format a number with two significant digits, and with all digits before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def work_table(works: list[Work]) -> str:
    """Tabulate the work that the recipes ask for."""
    head = ["recipe", "precision", "parameters, M", "GFLOP a pair", "pairs, M", "PFLOP in all", "kB a pair"]
    rows = [
        [
            work.name,
            work.precision,
            f"{work.parameters / 1e6:.2f}",
            f"{work.pair / 1e9:.2f}",
            number(work.pairs / 1e6),
            number(work.total / 1e15),
            number(work.bytes / 1e3),
        ]
        for work in works
    ]
    return table(head, rows)


def gpu_table(works: list[Work], gpus, share: float) -> str:
    """Tabulate GPU-hours and dollars."""
    head = ["recipe", *(f"{name} {kind}" for name, *_ in gpus for kind in ARITHMETIC)]
    rows = []
    for work in works:
        cells = [(work.hours(peak, share), price) for _, *peaks, price in gpus for peak in peaks]
        rows.append([work.name, *(f"{number(hours)} h, ${number(hours * price)}" for hours, price in cells)])
    return table(head, rows)


def loader_table(works: list[Work], measured: dict[str, tuple], gpus, share: float) -> str:
    """Tabulate the pairs per second of a GPU, and the cores that feed it."""
    head = ["recipe", "loader, pairs/s a core", *(f"{name} {kind}" for name, *_ in gpus for kind in ARITHMETIC[1:])]
    rows = []
    for work in works:
        paces = [work.pace(peak, share) for _, _, *peaks, _ in gpus for peak in peaks]
        loader, _ = measured[work.name]
        cells = [f"{number(pace)} pairs/s, {cores(pace, loader)} cores" for pace in paces]
        rows.append([work.name, number(loader), *cells])
    return table(head, rows)


def small_table(works: list[Work], measured: dict[str, tuple]) -> str:
    """Tabulate the hours on a CPU."""
    head = ["recipe", "step, pairs/s a core", "GFLOP/s", "loader, pairs/s a core", "hours on one core and a loader's"]
    rows = []
    for work in works:
        loader, step = measured[work.name]
        figures = step, step * work.pair / 1e9, loader, work.pairs / min(step, loader) / 3600
        rows.append([work.name, *map(number, figures)])
    return table(head, rows)


def storage_table(density: Density, settings: prepare.Settings) -> str:
    """Tabulate the storage of each corpus's shards, for 16:9 videos of at least the size in the settings."""
    size, width = settings.size, round(settings.size * 16 / 9)
    clip = density.clip(settings.clip_seconds, settings.frame_rate, width, size)
    head = ["corpus", "clips", "GB"]
    return table(head, [[name, f"{clips:,}", number(clip * clips / 1e9)] for name, clips in CORPORA.items()])


# ---------------------------------------------------------------------------------------------------------- command


@click.command(help=__doc__.split("\n")[0])
@click.option(
    "--gpu",
    "gpus",
    type=(str, float, float, float, float),
    multiple=True,
    default=GPUS,
    show_default=True,
    help="Name, peak TFLOP/s in FP32, TF32 and BF16, price an hour; may be given several times.",
)
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), default=0.3, show_default=True, help="Of the peak."
)
@click.option("--seconds", type=click.FloatRange(min=0), default=3.0, show_default=True, help="Of each measurement.")
@click.option("--videos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="To measure storage on.")
def main(gpus, share, seconds, videos):
    torch.set_num_threads(1)
    recipes = {path.stem: read_recipe(path) for path in RECIPES}
    works = [count(name, recipe) for name, recipe in recipes.items()]
    large, small = ([work for work in works if is_small(work.name) == kind] for kind in (False, True))
    click.echo(f"Work\n\n{work_table(works)}\n")
    click.echo(f"GPU-hours and dollars at {share:.0%} of the peak\n\n{gpu_table(large, gpus, share)}\n")
    measured = {work.name: measure_core(recipes[work.name], seconds, work in small) for work in works}
    click.echo(f"A GPU at {share:.0%} of the peak, and its loader\n\n{loader_table(large, measured, gpus, share)}\n")
    click.echo(f"Small recipes on one core\n\n{small_table(small, measured)}\n")
    if videos:
        try:
            density, about = measure_density(videos)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        click.echo(
            f"Shards by the defaults of training.prepare: {density.pixel:.3f} bytes a pixel, "
            f"{density.sound / 1e3:.0f} kB a second of sound ({about})\n\n{storage_table(density, prepare_settings())}"
        )


if __name__ == "__main__":
    main()
