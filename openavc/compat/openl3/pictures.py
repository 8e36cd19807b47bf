"""Pictures as OpenL3's network was trained to take them, or as OpenL3 gives them to it.

Both are shrunk to a shorter side of 256, where it is longer, and cropped to the middle 224. Training had [-1, 1];
OpenL3 gives it that for 8-bit pictures of exactly 224 x 224 alone, [0, 1] for those it shrinks, and divides the rest by
the maximum of the whole clip.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ...audio import existing_file
from ...image import read_image, to_images
from ...inference import run_batches
from .openl3_exceptions import OpenL3Error
from .openl3_warnings import OpenL3Warning
from .sound import shown

SIZE, _SHRUNK = 224, 256  # pixels


def squares(frames: Callable[[], Iterable[np.ndarray]], name: str, strict_openl3: bool) -> Iterator[np.ndarray]:
    """What the network takes, (224, 224, 3) float32, of each frame (H, W, 3); warns if all are black.

    `frames` is called twice with `strict_openl3`, where the maximum of all decides.
    """
    prepare, peak, lit = _as_trained, 1.0, False
    if strict_openl3:
        prepare = _as_published
        peak = max((float(np.abs(prepare(frame)).max()) for frame in frames()), default=1.0)
    for frame in frames():
        lit = lit or bool(frame.any())
        square = prepare(frame)
        yield square / np.float32(peak) if peak > 1 else square
    if not lit:
        warnings.warn(f"{name} is black all over; it is embedded all the same", OpenL3Warning, stacklevel=2)


def embed_squares(model, keyed: Iterator[tuple], batch_size: int, verbose) -> Iterator[tuple]:
    """(key, vector (D,)) of (key, square) pairs."""
    dtype = next(model.parameters()).dtype

    def network(batch):
        return model.embed_image(batch.permute(0, 3, 1, 2).to(dtype), "features")

    return run_batches(shown(keyed, verbose, "picture"), batch_size, model, network)


def check_stack(image) -> np.ndarray:
    """The pictures of an array (H, W, 3) or (N, H, W, 3) as a stack; OpenL3Error for anything else."""
    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise OpenL3Error(f"image must be an array or a list of arrays, got {type(image).__name__}")
    if image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise OpenL3Error(f"image must have shape (H, W, 3) or (N, H, W, 3), got {image.shape}; convert it to RGB")
    if image.size == 0:
        raise OpenL3Error(f"image is empty: its shape is {image.shape}")
    return image if image.ndim == 4 else image[None]


def read_picture(path, strict_openl3: bool) -> np.ndarray:
    """(H, W, 3): upright, grey as RGB, transparency on white; or, as OpenL3, as stored, less its alpha channel."""
    if not strict_openl3:
        return read_image(path)
    import cv2

    pixels = cv2.imdecode(np.fromfile(existing_file(path), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:
        raise OSError(f"{path} can't be decoded as a picture of three colours")
    return pixels[..., 2::-1]


def _as_trained(frame: np.ndarray) -> np.ndarray:
    """In [-1, 1], whatever its dtype, size and neighbours."""
    return 2 * _crop(_shrink(to_images(frame)[0])) - 1


def _as_published(frame: np.ndarray) -> np.ndarray:
    """Before the division by the maximum."""
    exact = frame.shape[:2] == (SIZE, SIZE)
    if frame.dtype.kind in "iu" and (exact or min(frame.shape[:2]) > _SHRUNK):
        scaled = frame.astype(np.float32) / np.iinfo(frame.dtype).max
        return 2 * scaled - 1 if exact and frame.dtype.kind == "u" else _crop(_shrink(scaled))
    return _crop(_shrink(frame.astype(np.float32)))


def _shrink(picture: np.ndarray) -> np.ndarray:
    """Bilinear without antialiasing, as in OpenL3, to a shorter side of 256 pixels, unless it is that short."""
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
    top, left = (side // 2 - SIZE // 2 for side in picture.shape[:2])
    return picture[top : top + SIZE, left : left + SIZE]
