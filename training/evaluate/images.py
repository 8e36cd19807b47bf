"""Picture classification with a linear layer on frozen features (L3 paper, section 4.2): ImageNet, or arrays.

The layer is trained with Adam on random crops and flips, and tested on centre crops. Before it features are
normalised by the running statistics of the training pictures (ours; without, features of different scale would
need different learning rates).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openavc.image import EXTENSIONS, fit, read_image, shrink_to
from openavc.inference import check_embedding_option, prepared_images

BATCH_SIZE = 64  # ours, as the following two
LEARNING_RATE = 1e-3
EPOCHS = 30
RAW_SIDE = 16  # pixels, of the raw pictures


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures, as paths or arrays (H, W, 3) uint8."""

    items: list
    labels: np.ndarray  # (n,) int

    def __getitem__(self, index: int) -> np.ndarray:
        """Picture `index`, (H, W, 3) float32 in [0, 1]."""
        item = self.items[index]
        return read_image(item) if isinstance(item, Path) else item.astype(np.float32) / 255

    def __len__(self) -> int:
        return len(self.items)


def read_dataset(path: Path) -> tuple[Pictures, Pictures, list[str]]:
    """Training pictures, test pictures and classes.

    Parameters
    ----------
    path : Path
        A folder with `train/CLASS/*` and `val/CLASS/*`, ImageNet's layout, or an .npz file with x_train, x_test
        (n, H, W, 3) uint8, y_train, y_test (n,) and classes (names in order of the index).

    Raises
    ------
    FileNotFoundError
        If a folder has no such pictures.
    ValueError
        If arrays are missing or don't fit, or a class is only in `val`.
    """
    return _read_folders(path) if path.is_dir() else _read_arrays(path)


def _read_folders(folder: Path) -> tuple[Pictures, Pictures, list[str]]:
    found = {
        split: [
            (path, path.parent.name)
            for path in sorted((folder / split).glob("*/*"))
            if path.suffix.lower() in EXTENSIONS
        ]
        for split in ("train", "val")
    }
    for split, pictures in found.items():
        if not pictures:
            raise FileNotFoundError(f"{folder} has no pictures in {split}/CLASS/; train/ and val/ are needed")
    classes = sorted({name for _, name in found["train"]})
    unknown = sorted({name for _, name in found["val"]} - set(classes))
    if unknown:
        raise ValueError(f"{folder}: no training pictures of {', '.join(unknown)}")
    number = {name: index for index, name in enumerate(classes)}
    train, test = (
        Pictures([path for path, _ in pictures], np.array([number[name] for _, name in pictures]))
        for pictures in found.values()
    )
    return train, test, classes


def _read_arrays(path: Path) -> tuple[Pictures, Pictures, list[str]]:
    names = ("x_train", "y_train", "x_test", "y_test", "classes")
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in names if name not in file]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file) or 'no arrays'}")
        arrays = {name: file[name] for name in names}
    classes = [str(name) for name in arrays["classes"]]
    splits = []
    for split in ("train", "test"):
        pictures, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].astype(int)
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError(f"{path}: x_{split} must be (n, H, W, 3) uint8, got {pictures.shape} {pictures.dtype}")
        if labels.shape != pictures.shape[:1] or labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(f"{path}: y_{split} must be a class number below {len(classes)} for each of its pictures")
        splits.append(Pictures(list(pictures), labels))
    return splits[0], splits[1], classes


def features_of(model) -> Callable[[Tensor], Tensor]:
    """Square pictures (B, size, size, 3) to frozen features (B, D); ValueError for a model of sounds alone."""
    check_embedding_option(model, "image", "features")
    device = next(model.parameters()).device

    def represent(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return model.embed_image(prepared_images(model, pictures.to(device)), "features").float().cpu()

    return represent


def raw_pixels(pictures: Tensor) -> Tensor:
    """Square pictures (B, size, size, 3), averaged down to 16 x 16: (B, 768)."""
    return F.adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2), RAW_SIDE).flatten(1)


def linear_probe(
    represent: Callable[[Tensor], Tensor],
    train: Pictures,
    test: Pictures,
    classes: int,
    size: int,
    seed: int,
    epochs: int = EPOCHS,
) -> float:
    """Top-1 accuracy in percent of a linear layer on what `represent` gives for squares of `size` pixels."""
    torch.manual_seed(seed)
    features = represent(torch.zeros(1, size, size, 3)).shape[1]
    classifier = nn.Sequential(nn.BatchNorm1d(features, affine=False), nn.Linear(features, classes))
    optimizer = torch.optim.Adam(classifier[1].parameters(), lr=LEARNING_RATE)
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        for chosen in _batches(rng.permutation(len(train))):
            pictures = np.stack([_augmented(train[index], size, rng) for index in chosen])
            logits = classifier(represent(torch.from_numpy(pictures)))
            loss = F.cross_entropy(logits, torch.from_numpy(train.labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return 100 * _accuracy(classifier.eval(), represent, test, size)


def _batches(order: np.ndarray) -> list[np.ndarray]:
    """Parts of nearly one size, so that none has a single picture, which can't be normalised."""
    return np.array_split(order, max(1, round(len(order) / BATCH_SIZE)))


def _augmented(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop, flipped or not."""
    image = shrink_to(image, size)
    top, left = (rng.integers(side - size + 1) for side in image.shape[:2])
    image = image[top : top + size, left : left + size]
    return image[:, ::-1] if rng.random() < 0.5 else image


@torch.no_grad()
def _accuracy(classifier: nn.Module, represent, test: Pictures, size: int) -> float:
    right = 0
    for chosen in _batches(np.arange(len(test))):
        squares = torch.from_numpy(np.stack([fit(test[index], size) for index in chosen]))
        right += int((classifier(represent(squares)).argmax(dim=1).numpy() == test.labels[chosen]).sum())
    return right / len(test)
