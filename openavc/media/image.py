"""Pictures from arrays and files, (H, W, 3), RGB, float32 in [0, 1], at the size that a network takes.

A picture gives the same values whatever its dtype and whatever pictures it is stacked with.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .arrays import to_array
from .picture_file import read_pixels

EXTENSIONS = set(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .avifs .bmp .tif .tiff .gif .ppm .pgm .pbm .pnm "
    ".jp2 .j2k .j2c .jpc .jpx .jpf .dib .ico .qoi .ras".split()
)
_TAKEN = "uint8, uint16, or floats in [0, 1]"
_ROUNDING = 1e-4  # beyond [0, 1], which rounding in a caller's arithmetic may cause
_OVERSHOOT = 0.25  # beyond [0, 1], which bicubic resizing may cause
_BAND = 256  # rows turned to floats at once; with alpha that takes many times the memory of the picture
_RESIZE = 256 / 224  # the L3 paper's: shorter side 256, then a crop of 224


def read_image(path: str | os.PathLike, least_side: int | None = None) -> np.ndarray:
    """Read an image as RGB.

    It is turned upright and converted to sRGB by its ICC profile; 16-bit depth is kept, unconverted; transparent parts
    are laid on white.

    Parameters
    ----------
    path : str or Path
    least_side : int, optional
        Allows a JPEG that has more pixels than are allowed to be read at an eighth, a quarter or half of its size, with
        sides of at least so many pixels.

    Returns
    -------
    image : ndarray, shape (H, W, 3), float32 in [0, 1]

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file can't be decoded or has more pixels than allowed (2**26, or the environment variable
        `OPENAVC_MAX_PIXELS`); the message names it and says why.
    """
    pixels = read_pixels(path, least_side)
    try:
        image = np.empty((*pixels.shape[:2], 3), np.float32)
        for top in range(0, len(pixels), _BAND):
            image[top : top + _BAND] = to_images(pixels[top : top + _BAND])[0]
        return image
    except (TypeError, ValueError) as error:  # a TIFF of floats, say
        raise OSError(f"{path} holds a kind of picture that isn't taken: {error}") from error


def to_images(image: Any) -> np.ndarray:
    """Turn an array or tensor into a stack of RGB pictures.

    Parameters
    ----------
    image : array or tensor, shape (H, W), (H, W, C) or (N, H, W, C) with C of 1, 3 or 4
        uint8, uint16, or floats in [0, 1].

    Returns
    -------
    images : ndarray, shape (N, H, W, 3), float32 in [0, 1]

    Raises
    ------
    ValueError
        If `image` is empty, has another shape, or contains floats outside [0, 1].
    TypeError
        If `image` isn't an array of such numbers.
    """
    stack = to_stack(image)
    if stack.size == 0:
        raise ValueError(f"image is empty: its shape is {image.shape}; at least one pixel is needed")
    stack = _to_float(stack)
    if stack.shape[-1] == 1:
        return np.repeat(stack, 3, axis=-1)
    if stack.shape[-1] == 4:
        alpha = stack[..., 3:]
        return stack[..., :3] * alpha + (1 - alpha)  # on white
    return stack


def to_stack(image: Any) -> np.ndarray:
    """Turn an array or tensor into pictures (N, H, W, C) with unchanged values; raise errors as `to_images` does."""
    image = to_array(image, "image", _TAKEN)
    if image.ndim == 2:
        return image[None, :, :, None]
    if image.ndim == 3 and image.shape[2] in (1, 3, 4):
        return image[None]
    if image.ndim == 4 and image.shape[3] in (1, 3, 4):
        return image
    hint = ""
    if image.ndim in (3, 4) and image.shape[-3] in (1, 3, 4):
        hint = "; channels come last: move them with numpy.moveaxis(image, -3, -1)"
    raise ValueError(f"image must have shape (H, W, 3) or (N, H, W, 3), got {image.shape}{hint}")


def _to_float(stack: np.ndarray) -> np.ndarray:
    if stack.dtype in (np.uint8, np.uint16):
        values = stack.astype(np.float32)
        values /= np.iinfo(stack.dtype).max
        return values
    if stack.dtype.kind != "f":
        raise TypeError(f"image must be {_TAKEN}, got dtype {stack.dtype}: convert bytes with astype('uint8')")
    low, high = float(stack.min()), float(stack.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also catches NaN
        hint = _hint(stack, low, high)
        raise ValueError(f"a picture of floats must lie in [0, 1], got values from {low:g} to {high:g}{hint}")
    values = stack.astype(np.float32)
    return values.clip(0, 1, out=values)


def _hint(stack: np.ndarray, low: float, high: float) -> str:
    """Return what brings floats into [0, 1] if they look like integers in disguise, or just miss it."""
    for bits, most in ((8, 255), (16, 65_535)):  # whole numbers, or, if they were resized, some of the high ones
        if low >= 0 and 1 < high <= most and (high > most / 2 or (stack == np.rint(stack)).all()):
            return f"; if these are {bits}-bit values, divide by {most}"
    if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
        return "; if resizing overshot, numpy.clip(image, 0, 1)"
    return "; if they are meant to lie in [-1, 1], (image + 1) / 2" if -1 <= low < 0 and high <= 1 else ""


def shrink_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a picture to just cover 256 / 224 of a size, so that pieces of that size can be cropped from it."""
    rows, columns = image.shape[:2]
    scale = max(round(height * _RESIZE) / rows, round(width * _RESIZE) / columns)
    if scale == 1:
        return image
    return resize(image, max(height, round(rows * scale)), max(width, round(columns * scale)))


def side_to_fit(height: int, width: int) -> int:
    """Return how many pixels the sides of a picture need at least for `fit` to take means of two or more a side."""
    return 2 * round(max(height, width) * _RESIZE)


def uncropped(image: np.ndarray, height: int, width: int, multiple: int) -> np.ndarray:
    """Resize an entire picture to the scale of `shrink_to`, (H, W, 3), with sides stretched to a `multiple` of pixels.

    The longer side is limited to 4 times that of the size at this scale; otherwise a narrow stripe could take any
    amount of memory.
    """
    rows, columns = image.shape[:2]
    scale = _RESIZE * min(max(height / rows, width / columns), 4 * max(height, width) / max(rows, columns))
    return resize(image, *(max(1, round(side * scale / multiple)) * multiple for side in (rows, columns)))


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a picture or a map, averaging areas where it shrinks and interpolating pixels where it grows."""
    import cv2

    rows, columns = image.shape[:2]
    if (height, width) == (rows, columns):
        return image
    if (height - rows) * (width - columns) < 0:  # grows and shrinks: cv2 would average neither side
        return resize(resize(image, height, columns), height, width)
    shrinks = height < rows or width < columns
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def enlarge(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a map (h, w) of values in [0, 1] to a picture's size, bilinearly; values lie at the centres of cells.

    Where the picture has fewer pixels than the map has cells, each pixel gets the mean of the cells in it.
    """
    return resize(heatmap, height, width).clip(0, 1)  # rounding can leave [0, 1]


def _centre(image: np.ndarray) -> np.ndarray:
    """Return the middle of a picture, at most 4 times as long as wide: the rest won't be seen but costs memory."""
    height, width = image.shape[:2]
    longest = 4 * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return image[top : height - top, left : width - left]


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink a picture by `shrink_to` and crop the centre, (height, width, 3)."""
    shrunk = shrink_to(_centre(image), height, width)
    top, left = (shrunk.shape[0] - height) // 2, (shrunk.shape[1] - width) // 2
    return shrunk[top : top + height, left : left + width]
