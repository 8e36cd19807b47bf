"""Picture classification with a linear layer on frozen features (L3 paper, section 4.2): ImageNet, or arrays.

The layer is trained with Adam on random crops and flips, and tested on centre crops. Before it, features are
normalised by the running statistics of the training pictures (ours; otherwise features of different scales would
need different learning rates).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openavc.inference.arguments import get_model
from openavc.inference.batches import prepared_frames, stacked
from openavc.media.image import fit, shrink_to
from openavc.models.contract import AudioVisualModel, check_embedding

from .datasets.pictures import Pictures, read_pictures
from .networks.untrained import untrained
from .reporting import published
from .reporting.options import PATH, UNTRAINED_SEEDS, json_option, model_option
from .reporting.report import print_published, write_report
from .reporting.tables import spread, table

BATCH_SIZE = 64  # ours, as are the next two
LEARNING_RATE = 1e-3
EPOCHS = 30
RAW_SIDE = 16  # pixels, of the pictures in the baseline "raw pixels"


@click.command()
@model_option
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Folder with train/CLASS/* and val/CLASS/*, or .npz with x_train, y_train, x_test, y_test, classes.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first of the seeds.")
@click.option("--seeds", type=click.IntRange(min=1), default=UNTRAINED_SEEDS, show_default=True, help="How many.")
@click.option("--epochs", type=click.IntRange(min=1), default=EPOCHS, show_default=True)
@json_option
def images(model: str, data: Path, seed: int, seeds: int, epochs: int, json_path: Path | None) -> None:
    """Picture classification with a linear layer on frozen features, ImageNet's layout or arrays."""
    network = get_model(model)
    check_embedding(network, "image", "features")
    train, test, classes = read_pictures(data)
    size = network.frames.height, network.frames.width

    def measure(features: Features, k: int) -> float:
        return linear_probe(features, train, test, len(classes), size, k, epochs)

    numbers = range(seed, seed + seeds)
    runs = {
        network.name: [measure(features_of(network), k) for k in numbers],
        "untrained": [measure(features_of(untrained(network, k)), k) for k in numbers],
        "raw pixels": [measure(RAW_PIXELS, k) for k in numbers],
    }
    kinds = (f"{seeds} seeds of the layer", f"{seeds} seeds of both", f"16 x 16, {seeds} seeds")
    rows = {f"{name} ({kind})": {"top-1": spread(runs[name])} for name, kind in zip(runs, kinds, strict=True)}
    rows["chance"] = {"top-1": f"{100 / len(classes):.1f}"}
    click.echo(table(f"{data.name}, {len(train)} to train, {len(test)} to test, {len(classes)} classes", rows))
    write_report(f"images ({data.name})", {"top-1": float(np.mean(runs[network.name]))}, json_path, runs=runs)
    is_imagenet = (len(classes), len(test)) == (1000, 50_000)
    note = "Those are on ImageNet's 1,000 classes, from 1.28 million training pictures; "
    note += (
        "so are ours, if these are its pictures." if is_imagenet else "ours are on other data and can't be compared."
    )
    print_published(published.IMAGENET, note)


@dataclass(frozen=True)
class Features:
    """A frozen map from pictures to vectors."""

    size: int  # D
    represent: Callable[[np.ndarray], Tensor]  # crops (B, H, W, 3) in [0, 1] to (B, D)


def features_of(model: AudioVisualModel) -> Features:
    """Return the frozen features of a network; one that sees several frames gets each picture as a still clip.

    Raises
    ------
    ValueError
        If the network doesn't embed pictures.
    """
    check_embedding(model, "image", "features")

    def represent(crops: np.ndarray) -> Tensor:
        clips = [model.precompute_frames(np.repeat(crop[None], model.frames.count, axis=0)) for crop in crops]
        with torch.no_grad():
            return model.embed_frames(prepared_frames(model, stacked(model, clips)), "features").float().cpu()

    return Features(model.embedding_sizes["image"]["features"], represent)


def raw_pixels(crops: np.ndarray) -> Tensor:
    """Average crops (B, H, W, 3) down to 16 x 16: (B, 768)."""
    return F.adaptive_avg_pool2d(torch.from_numpy(crops).permute(0, 3, 1, 2), RAW_SIDE).flatten(1)


RAW_PIXELS = Features(3 * RAW_SIDE**2, raw_pixels)


def linear_probe(
    features: Features,
    train: Pictures,
    test: Pictures,
    classes: int,
    size: tuple[int, int],
    seed: int,
    epochs: int = EPOCHS,
) -> float:
    """Train a linear layer on frozen features and measure its top-1 accuracy in percent.

    Parameters
    ----------
    features : Features
    train, test : Pictures
    classes : int
        Number of classes.
    size : (int, int)
        Height and width of the crops, in pixels.
    seed : int
    epochs : int
    """
    torch.manual_seed(seed)
    classifier = nn.Sequential(nn.BatchNorm1d(features.size, affine=False), nn.Linear(features.size, classes))
    optimizer = torch.optim.Adam(classifier[1].parameters(), lr=LEARNING_RATE)
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        for chosen in _batches(rng.permutation(len(train))):
            crops = np.stack([_augmented(train[index], size, rng) for index in chosen])
            loss = F.cross_entropy(classifier(features.represent(crops)), torch.from_numpy(train.labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return 100 * _accuracy(classifier.eval(), features, test, size)


def _batches(order: np.ndarray) -> list[np.ndarray]:
    """Split into batches of nearly equal size: a batch of a single picture couldn't be normalised."""
    return np.array_split(order, max(1, round(len(order) / BATCH_SIZE)))


def _augmented(image: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Crop a picture at random, and flip it half of the time."""
    height, width = size
    image = shrink_to(image, height, width)
    top, left = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    crop = image[top : top + height, left : left + width]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


@torch.no_grad()
def _accuracy(classifier: nn.Module, features: Features, test: Pictures, size: tuple[int, int]) -> float:
    right = 0
    for chosen in _batches(np.arange(len(test))):
        crops = np.stack([fit(test[index], *size) for index in chosen])
        right += int((classifier(features.represent(crops)).argmax(dim=1).numpy() == test.labels[chosen]).sum())
    return right / len(test)
