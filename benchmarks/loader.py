"""Whether a recipe's batches come as fast as they are worked on, in one run of about a minute.

    python benchmarks/loader.py training/configs/ave_small.toml --data shards/train

Prints pairs per second of the loader alone, of the step alone on batches in memory, and of both together, as in
training, with the share of the time in which the step waits for data. All work is done by the functions of
training.train. Without `--data`, it runs on a corpus of noise made for the run: 20 s clips of 160 x 120 pixels at 24
kHz, like those of training.simulate; or, for recipes with sound above 24 kHz, 10 s clips of 455 x 256 pixels, like
those of training.prepare. Networks that see several frames get them at their own rate.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training` isn't installed with the package

from openavc.weights import build_model, choose_device
from training.corpora.scenes import frame_masks
from training.corpora.shards import Shards, encode_clip
from training.loading import check_batch, make_loader, make_pairs
from training.recipe import PRECISIONS, Recipe, read_recipe
from training.state import State
from training.steps import Step, to_training_mode, train_step

MOST_WAITING = 0.1  # share of the time; our own target
ENDLESS = 10**9  # steps
CORPORA = {  # by the highest sample rate in Hz that they serve: pixels, seconds, frames per second, format of the sound
    24_000: {"width": 160, "height": 120, "seconds": 20, "frame_rate": 8.75, "sound_format": "wav"},
    48_000: {"width": 455, "height": 256, "seconds": 10, "frame_rate": 5.0, "sound_format": "flac"},
}

# ---------------------------------------------------------------------------------------------------------- corpus


def write_corpus(
    folder: Path,
    sample_rate: int,
    clips: int = 16,
    classes: int = 1,
    frame_rate: float | None = None,
    channels: int = 1,
) -> None:
    """Write a shard of noise, with pictures of about as many bytes as photographs.

    Labels cycle through the classes, 8 clips make a group, and masks exclude no frame.

    Parameters
    ----------
    folder : Path
    sample_rate : int
        In Hz.
    clips, classes : int
        Number of clips, and of classes.
    frame_rate : float, optional
        Frames per second, instead of those in `CORPORA`.
    channels : int
        Channels of the sound.
    """
    import webdataset

    kind = next((kind for highest, kind in CORPORA.items() if sample_rate <= highest), CORPORA[48_000])
    rng = np.random.default_rng(0)
    times = np.arange(0, kind["seconds"], 1 / (frame_rate or kind["frame_rate"]))
    pictures = [_picture(kind["width"], kind["height"], rng) for _ in range(8)]
    frames = [pictures[number % len(pictures)] for number in range(len(times))]
    samples = rng.normal(0, 0.1, (kind["seconds"] * sample_rate, channels)).astype(np.float32)
    masks = frame_masks([[]] * len(times))
    with webdataset.TarWriter(str(folder / "000000.tar")) as writer:
        for clip in range(clips):
            about = {"labels": [f"class{clip % classes:03d}"], "group": clip // 8, "masks": masks}
            key = f"clip{clip:03d}"
            writer.write(encode_clip(key, samples, sample_rate, frames, times.tolist(), about, kind["sound_format"]))


def _picture(width: int, height: int, rng: np.random.Generator) -> bytes:
    """Make a JPEG of noise whose spread halves with each octave of spatial frequency, as in photographs."""
    import cv2

    picture = np.full((height, width, 3), 128, np.float32)
    for octave in range(6):
        coarse = rng.normal(0, 3.0 * 2**octave, (max(2, height >> octave), max(2, width >> octave), 3))
        picture += cv2.resize(coarse.astype(np.float32), (width, height))
    return cv2.imencode(".jpg", picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


# --------------------------------------------------------------------------------------------------------- measures


class Training:
    """The state of training.train for the first stage of a recipe, just before its loop."""

    def __init__(self, recipe: Recipe, shards: Shards, device: torch.device):
        self.recipe, self.stage, self.device = recipe, recipe.stages[0], device
        self.state = State(recipe, self.stage, device)
        self.pairs = make_pairs(recipe, self.stage, shards, self.state.model)
        self.step = Step(self.state.model, self.state.objective, PRECISIONS[recipe.precision])
        to_training_mode(self.state.model, self.stage.frozen)

    def batches(self) -> Callable[[], list[dict]]:
        """Return a function that returns the parts of the next batch."""
        loader = iter(make_loader(self.recipe, self.stage, self.pairs, self.device, 0, ENDLESS))
        return lambda: [next(loader) for _ in range(self.recipe.accumulate)]

    def update(self, parts: list[dict]) -> None:
        """Take one step."""
        train_step(self.step, self.state.optimizer, self.state.scaler, parts)


def repeat(action: Callable, least: float, clock: Callable[[], float]) -> tuple[list, float]:
    """Repeat an action at least twice and for at least `least` seconds; return its results and the time taken.

    A first run isn't counted: it starts the workers and warms up.
    """
    action()
    results, started = [], clock()
    while len(results) < 2 or clock() - started < least:
        results.append(action())
    return results, clock() - started


def loader_alone(training: Training, least: float, clock=time.monotonic) -> float:
    """Measure the pairs per second that the loader makes."""
    results, took = repeat(training.batches(), least, clock)
    return len(results) * training.recipe.batch_size / took


def step_alone(training: Training, least: float, clock=time.monotonic) -> float:
    """Measure the pairs per second that a step processes, always with the same batch."""
    parts = training.batches()()
    results, took = repeat(lambda: training.update(parts), least, clock)
    return len(results) * training.recipe.batch_size / took


def together(training: Training, least: float, clock=time.monotonic) -> tuple[float, float]:
    """Measure the pairs per second of both, and the share of the time in which the step waits for data.

    Call it after `step_alone`: a slow first step would let the loader get ahead.
    """
    batches = training.batches()

    def action() -> float:
        started = clock()
        parts = batches()
        waited = clock() - started
        training.update(parts)
        return waited

    waits, took = repeat(action, least, clock)
    return len(waits) * training.recipe.batch_size / took, sum(waits) / took


def measure(recipe: Recipe, shards: Shards, device: torch.device, least: float) -> dict[str, float]:
    """Measure the pairs per second of `loader`, `step` and `both`, and `waiting`, a share of the time of both."""
    training = Training(recipe, shards, device)
    loader, step = loader_alone(training, least), step_alone(training, least)
    both, waiting = together(training, least)
    return {"loader": loader, "step": step, "both": both, "waiting": waiting}


# ---------------------------------------------------------------------------------------------------------- command


def own_corpus(recipe: Recipe, folder: Path) -> Shards:
    """Make shards of noise that suit a recipe."""
    model, stage = build_model(recipe.model), recipe.stages[0]
    classes = stage.objective.get("classes", 2 if stage.data.by_class else 1)
    sound, rate = model.sound, model.frames.rate
    write_corpus(folder, sound.sample_rate, classes=classes, frame_rate=rate, channels=sound.channels)
    return Shards(folder)


@click.command(help=__doc__.split("\n")[0])
@click.argument(
    "path",
    metavar="CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path(__file__).parents[1] / "training/configs/ave_small.toml",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="Folder of shards; may be given several times. By default, noise.",
)
@click.option("--seconds", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Of each measurement.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Pairs a step, instead of the configuration's.")
@click.option("--accumulate", type=click.IntRange(min=1), help="Parts a process makes of its share of a batch.")
@click.option("--workers", type=click.IntRange(min=0), help="Of the loader, instead of the configuration's.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU; default: all cores but one.")
@click.option("--device", help="cpu, cuda ...; default: CUDA if there is one.")
def main(path, data, seconds, batch_size, accumulate, workers, threads, device):
    threads = threads or max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        try:
            own = None if workers is None else {"workers": workers}
            recipe = read_recipe(path, batch_size=batch_size, accumulate=accumulate, data=own)
            check_batch(recipe, recipe.stages[0])
            shards = Shards(*data) if data else own_corpus(recipe, Path(folder))
            device = choose_device(device)
            figures = measure(recipe, shards, device, seconds)
        except (ValueError, FileNotFoundError) as error:
            raise click.UsageError(str(error)) from None
    click.echo(
        f"{path.stem} on {device}: batches of {recipe.batch_size} pairs, {threads} threads, "
        f"{recipe.data.workers} workers of the loader, {len(shards.clips)} clips"
    )
    for name, text in (("loader", "loader alone"), ("step", "step alone"), ("both", "both together")):
        click.echo(f"{text}: {figures[name]:.0f} pairs a second")
    click.echo(f"the step waits for data {figures['waiting']:.1%} of the time (target: below {MOST_WAITING:.0%})")


if __name__ == "__main__":
    main()
