"""Augmentation of pictures beyond crops and colours: pieces of any size, coarser pictures, JPEG's marks, grey.

It hides what a photograph's source gives away, rather than what it shows: its size, its sharpness, its file. Everything
is off by default, and depends on the random generator of the pair alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openavc.media.image import resize

Range = tuple[float, float]
_TRIES = 10  # pieces drawn to find one inside the picture


@dataclass(frozen=True)
class PictureAugmentation:
    """Shares of the pictures that are changed, and the ranges from which the changes are drawn evenly.

    Raises
    ------
    ValueError
        If a share isn't in [0, 1], or a range doesn't go upwards.
    """

    area: Range = (1.0, 1.0)  # of the piece, as a share of the picture; (1, 1): crops as without augmentation
    aspect: Range = (0.75, 4 / 3)  # of the piece, width by height, even in its logarithm
    contrast: Range = (1.0, 1.0)  # factor on the distance from the mean
    grey: float = 0.0  # share
    coarse: float = 0.0  # share that is shrunk and enlarged again
    coarsest: int = 32  # pixels, of the shorter side
    jpeg: float = 0.0  # share that is encoded and decoded
    quality: Range = (30.0, 95.0)  # of the JPEG file

    def __post_init__(self):
        for name in ("area", "aspect", "contrast", "quality"):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise ValueError(f"{name} must be a range [low, high] above 0, got {list(value)}")
        for name in ("grey", "coarse", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share of the pictures in [0, 1], got {getattr(self, name)!r}")
        if self.area[1] > 1:
            raise ValueError(f"area must be shares of the picture, at most 1, got {list(self.area)}")
        if type(self.coarsest) is not int or self.coarsest < 4:
            raise ValueError(f"coarsest must be at least 4 pixels, got {self.coarsest!r}")

    @property
    def in_pieces(self) -> bool:
        """Whether pieces are cropped by their area."""
        return self.area[0] < 1


def random_piece(
    picture: np.ndarray, height: int, width: int, settings: PictureAugmentation, rng: np.random.Generator
) -> np.ndarray:
    """Crop a piece of random area and aspect, and resize it: a random resized crop.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), float32
    height, width : int
        Size of the result, in pixels.
    settings : PictureAugmentation
    rng : Generator

    Returns
    -------
    piece : ndarray, shape (height, width, 3), float32
    """
    rows, columns = picture.shape[:2]
    for _ in range(_TRIES):
        area, aspect = rng.uniform(*settings.area) * rows * columns, np.exp(rng.uniform(*np.log(settings.aspect)))
        high, wide = max(1, round(float(np.sqrt(area / aspect)))), max(1, round(float(np.sqrt(area * aspect))))
        if high <= rows and wide <= columns:
            break
    else:
        high = wide = min(rows, columns)
    top, left = int(rng.integers(rows - high + 1)), int(rng.integers(columns - wide + 1))
    return resize(picture[top : top + high, left : left + wide], height, width)


def degrade(picture: np.ndarray, settings: PictureAugmentation, rng: np.random.Generator) -> np.ndarray:
    """Change contrast, colour, sharpness and encoding at random: (H, W, 3) float32 in [0, 1], of the same size."""
    height, width = picture.shape[:2]
    if settings.contrast != (1.0, 1.0):
        mean = picture.mean()
        picture = ((picture - mean) * np.float32(rng.uniform(*settings.contrast)) + mean).clip(0, 1)
    if rng.random() < settings.grey:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < settings.coarse:
        shorter = min(height, width)
        scale = rng.uniform(min(settings.coarsest, shorter), shorter) / shorter
        picture = resize(resize(picture, max(1, round(height * scale)), max(1, round(width * scale))), height, width)
    if rng.random() < settings.jpeg:
        picture = _through_jpeg(picture, round(rng.uniform(*settings.quality)))
    return picture


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    encoded = cv2.imencode(".jpg", np.rint(255 * picture).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(np.float32) / 255
