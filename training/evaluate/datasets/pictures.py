"""Labelled pictures: folders of classes in ImageNet's layout, or arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.media.image import EXTENSIONS, read_image


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures, as paths or arrays (H, W, 3) uint8."""

    items: list
    labels: np.ndarray  # (n,) int

    def __getitem__(self, index: int) -> np.ndarray:
        """Return picture `index`, (H, W, 3) float32 in [0, 1]."""
        item = self.items[index]
        return read_image(item) if isinstance(item, Path) else item.astype(np.float32) / 255

    def __len__(self) -> int:
        return len(self.items)


def read_pictures(path: Path) -> tuple[Pictures, Pictures, list[str]]:
    """Read training pictures, test pictures and the names of their classes.

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
    splits = {
        split: [
            (path, path.parent.name)
            for path in sorted((folder / split).glob("*/*"))
            if path.suffix.lower() in EXTENSIONS
        ]
        for split in ("train", "val")
    }
    for split, pictures in splits.items():
        if not pictures:
            raise FileNotFoundError(f"{folder} has no pictures in {split}/CLASS/; train/ and val/ are needed")
    classes = sorted({name for _, name in splits["train"]})
    unknown = sorted({name for _, name in splits["val"]} - set(classes))
    if unknown:
        raise ValueError(f"{folder}: no training pictures of {', '.join(unknown)}")
    number = {name: index for index, name in enumerate(classes)}
    train, test = (
        Pictures([path for path, _ in pictures], np.array([number[name] for _, name in pictures]))
        for pictures in splits.values()
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
