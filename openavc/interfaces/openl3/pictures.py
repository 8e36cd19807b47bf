"""Pictures prepared for OpenL3's network: as in its training, or as OpenL3's own code prepares them.

Both shrink a picture to a shorter side of 256 pixels, if that side is longer, and crop the middle 224 x 224. The
network was trained on values in [-1, 1]. OpenL3 keeps to that only for 8-bit pictures of exactly 224 x 224: it scales
pictures that it shrinks to [0, 1], and divides all others by the maximum of their clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ...inference.batches import run_batches
from ...lines import warn
from ...media.arrays import is_array, to_array
from ...media.image import read_image, to_images
from ...media.picture_file import read_as_stored
from ...models.contract import EmbedsFrames
from .openl3_exceptions import OpenL3Error, as_openl3_error
from .openl3_warnings import OpenL3Warning
from .sound import shown

SIZE, _SHRUNK = 224, 256  # pixels

Key = TypeVar("Key")


def crops(frames: Callable[[], Iterable[np.ndarray]], name: str, strict_openl3: bool) -> Iterator[np.ndarray]:
    """Crop and scale frames to what the network takes; warn if all are black.

    Parameters
    ----------
    frames : callable
        Opens the frames (H, W, 3) of one picture or clip. It is called twice with `strict_openl3`, which scales by
        their common maximum.
    name : str
        Name of the input in the warning.
    strict_openl3 : bool
        Whether to scale as OpenL3 does, not as in training.

    Yields
    ------
    crop : ndarray, shape (224, 224, 3), float32
    """
    scale, peak, lit = _as_trained, 1.0, False
    if strict_openl3:
        scale = _as_published
        peak = max((float(np.abs(scale(frame)).max()) for frame in frames()), default=1.0)
    for frame in frames():
        lit = lit or bool(frame.any())
        crop = scale(frame)
        yield crop / np.float32(peak) if peak > 1 else crop
    if not lit:
        warn(f"{name} is black all over; it is embedded all the same", OpenL3Warning)


def embed_crops(
    model: EmbedsFrames, keyed_crops: Iterable[tuple[Key, np.ndarray]], batch_size: int, verbose: bool
) -> Iterator[tuple[Key, Tensor]]:
    """Embed (key, crop) pairs; yield (key, row (D,)) for each."""

    def network(batch: Tensor) -> Tensor:
        return model.embed_frames(batch.permute(0, 3, 1, 2).to(model.dtype), "features")

    return run_batches(shown(keyed_crops, verbose, "picture"), batch_size, model, network)


def check_stack(image: Any) -> np.ndarray:
    """Turn an array or tensor (H, W, 3) or (N, H, W, 3) into a stack (N, H, W, 3); refuse anything else."""
    if not is_array(image):
        raise OpenL3Error(f"image must be an array or a list of arrays, got {type(image).__name__}")
    with as_openl3_error():
        image = to_array(image, "image", "uint8, uint16, or floats in [0, 1]")
    if image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise OpenL3Error(f"image must have shape (H, W, 3) or (N, H, W, 3), got {image.shape}; convert it to RGB")
    if image.size == 0:
        raise OpenL3Error(f"image is empty: its shape is {image.shape}")
    return image if image.ndim == 4 else image[None]


def read_picture(path: str | Path, strict_openl3: bool) -> np.ndarray:
    """Read a picture (H, W, 3) as `read_image` does, or as OpenL3 does: as stored, without transparency."""
    if not strict_openl3:
        return read_image(path)
    pixels = read_as_stored(path)
    if pixels.ndim != 3:
        raise OSError(f"{path} can't be decoded as a picture of three colours")
    return pixels[..., :3]


def _as_trained(frame: np.ndarray) -> np.ndarray:
    """Scale a frame to [-1, 1], whatever its dtype and size."""
    return 2 * _crop(_shrink(to_images(frame)[0])) - 1


def _as_published(frame: np.ndarray) -> np.ndarray:
    """Scale a frame as OpenL3 does, except for the division by the maximum of its clip."""
    exact = frame.shape[:2] == (SIZE, SIZE)
    if frame.dtype.kind in "iu" and (exact or min(frame.shape[:2]) > _SHRUNK):
        scaled = frame.astype(np.float32) / np.iinfo(frame.dtype).max
        return 2 * scaled - 1 if exact and frame.dtype.kind == "u" else _crop(_shrink(scaled))
    return _crop(_shrink(frame.astype(np.float32)))


def _shrink(picture: np.ndarray) -> np.ndarray:
    """Shrink a picture to a shorter side of 256 pixels, bilinearly and without antialiasing, as OpenL3 does."""
    import cv2

    height, width = picture.shape[:2]
    shorter = min(height, width)
    if shorter < SIZE:
        raise OpenL3Error(f"a picture must have at least {SIZE} pixels a side, got {width} x {height}: enlarge it")
    if shorter <= _SHRUNK:
        return picture
    scale = _SHRUNK / shorter
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)


def _crop(picture: np.ndarray) -> np.ndarray:
    """Cut out the middle 224 x 224 pixels."""
    top, left = (side // 2 - SIZE // 2 for side in picture.shape[:2])
    return picture[top : top + SIZE, left : left + SIZE]
