"""Picture files, decoded to the values that they hold: upright, in sRGB, at their own depth.

Who reads what is stated here and nowhere else. Pillow reads every picture with 8 bits a colour, as most other tools do,
and grey PNG, PGM and JPEG 2000 of 16. It would cut deeper colours down to 8 bits, so OpenCV reads these, once Pillow
has found the file sound, and TIFF of 16 bits or floats. PyAV reads two kinds of 16-bit or float TIFF that OpenCV takes
for something else: colours in planes apart, and grey with alpha.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..lines import warn
from .container import existing_file, make_reformatter
from .limits import check_pixels, most_pixels

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM", "GIF", "JPEG2000", "SUN", "QOI", "ICO")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", *_TIFF)
_AVIF = {b"avif", b"avis"}  # brands, like those of HEIC; other ISO media files are videos
_RECORDINGS = (b"\x1a\x45\xdf\xa3", b"OggS", b"fLaC", b"ID3")
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, ITU-T H.273
_SAME_COLOUR = 2  # of 255: a profile that moves no colour further than this is sRGB
_MOST_REDUCED = 16  # times as many pixels as may be decoded; a gigapixel by default, which takes seconds
_MOST_SCANS = 100  # of a progressive JPEG, which has about ten; each takes the time of a whole picture
_MOST_BANDS = 5  # that Pillow reads, CMYK and alpha; of more it logs a line without the file's name
# Tags and values of TIFF 6.0.
_ORIENTATION, _MIN_IS_WHITE, _RGB, _NOT_ALPHA, _MULTIPLIED, _UNSIGNED, _FLOAT, _PLANES_APART = 274, 0, 2, 0, 1, 1, 3, 2
_pillow_limit, _stderr = threading.Lock(), threading.Lock()  # both belong to the whole process


def read_pixels(path: str | os.PathLike, least_side: int | None = None) -> np.ndarray:
    """Decode a picture file.

    Parameters
    ----------
    path : str or Path
    least_side : int, optional
        If given, a JPEG with more pixels than are allowed, up to 16 times as many, is decoded at an eighth of its size,
        or at a quarter or half where both sides would have less than so many pixels. Progressive ones aren't, as they
        are decoded whole all the same.

    Returns
    -------
    pixels : ndarray, shape (H, W) or (H, W, C) with C of 3 or 4
        uint8, uint16 or floats, as `to_images` takes them; alpha isn't multiplied into the colours.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file can't be decoded or has too many pixels; the message names it and says why.
    """
    path = existing_file(path)
    with _told_with_name(path):
        tags = _tiff_tags(path)
        reader = _deep_tiff_reader(tags) if tags else None
        return _read_deep_tiff(path, tags, reader) if tags and reader else _read_with_pillow(path, least_side)


def read_as_stored(path: str | os.PathLike) -> np.ndarray:
    """Decode a picture file by OpenCV: pixels as stored, in the order RGB or RGBA; raise errors as `read_pixels` does.

    Pillow checks the file first: OpenCV doesn't say what is wrong.
    """
    path = existing_file(path)
    with _told_with_name(path):
        tags = _tiff_tags(path)
        if tags and _deep_tiff_reader(tags):
            _check_size(tags)
        else:
            with _opened(path) as image:
                _load(image)
        return _opencv(path)


# ------------------------------------------------------------------------------------------------------ by Pillow


def _read_with_pillow(path: Path, least_side: int | None) -> np.ndarray:
    from PIL import ImageOps

    with _opened(path, least_side) as image:
        peak, tags = _peak_of_deep_colours(image, path), dict(getattr(image, "tag_v2", {}))
        _load(image)  # finds damage
        if transfer := _hdr_transfer(path):
            warnings.warn(f"its colours are for HDR screens ({transfer}); they are taken as they are", stacklevel=2)
        if peak is not None:
            return _read_deep(path, image, peak)
        ImageOps.exif_transpose(image, in_place=True)
        if not image.mode.startswith(("I", "F")):
            return np.asarray(_in_srgb(image))
        grey = np.asarray(image)
        _warn_of_profile(image.info.get("icc_profile"), "L")
        if image.mode == "F":
            return grey
        grey = grey.astype(np.uint16)  # Pillow scales an "I" of a PGM to 16 bits
        if tags:  # a TIFF of 12 bits
            light = grey.astype(np.float32) / (2 ** tags[258][0] - 1)
            return 1 - light if tags.get(262) == _MIN_IS_WHITE else light
        key = image.info.get("transparency")
        return grey if key is None else _with_key(grey[..., None], (key,))


@contextmanager
def _opened(path: Path, least_side: int | None = None) -> Iterator[Any]:
    """Open a picture by its header, maybe to be decoded at a reduced size; raise ValueError if it has too many pixels.

    Arguments are those of `read_pixels`.
    """
    from PIL import Image

    with open(path, "rb") as file:  # given a path, Pillow maps files to memory, and turned TIFFs wrongly
        with _pillow_limit:  # our limit, which errors name and users set, takes the place of Pillow's
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = before
        with image:
            if least_side is None or not _is_reduced(image, least_side):
                check_pixels(*image.size, 4 * len(image.getbands()) if image.format == "JPEG2000" else 1)
            if image.format in ("JPEG", "MPO"):
                _check_scans(path.read_bytes())
            yield image


def _is_reduced(image: Any, least_side: int) -> bool:
    """Have a large JPEG decoded at a reduced size, by the discrete cosine transform of blocks of fewer pixels.

    Returns
    -------
    reduced : bool
        False if that isn't needed, or of no use.
    """
    pixels, most = image.width * image.height, most_pixels()
    if image.format not in ("JPEG", "MPO") or "progressive" in image.info or not most < pixels <= _MOST_REDUCED * most:
        return False
    scale = next((scale for scale in (8, 4, 2) if min(image.size) >= scale * least_side), 1)
    if scale == 1 or math.ceil(image.width / scale) * math.ceil(image.height / scale) > most:
        return False
    image.draft(image.mode, (image.width // scale, image.height // scale))
    return True


def _check_scans(data: bytes) -> None:
    """Raise ValueError if a JPEG has too many scans (ITU-T T.81, B.1.1)."""
    scans, position = 0, 2
    while (marker := _JPEG_MARKER.search(data, position)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        if scans > _MOST_SCANS:
            raise ValueError(f"it has more than {_MOST_SCANS} scans")


def _load(image: Any) -> None:
    """Decode an opened picture; what libtiff would print of a damaged TIFF becomes the error."""
    if not image.tile or image.tile[0].codec_name != "libtiff":
        image.load()
        return
    with _stderr, tempfile.TemporaryFile() as lines:
        sys.stderr.flush()
        shown = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            image.load()
        except OSError as error:
            lines.seek(0)
            said = lines.read().decode(errors="replace").splitlines()
            raise OSError(said[0].removeprefix("tempfile.tif: ") if said else str(error)) from error
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def _in_mode(image: Any, mode: str) -> Any:
    """Convert a picture to a mode; it isn't copied, as Pillow would, if it has that mode."""
    return image if image.mode == mode else image.convert(mode)


def _in_srgb(image: Any) -> Any:
    """Convert an 8-bit picture of any mode to RGB or RGBA, by its ICC profile if it has one."""
    has_alpha = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode == "La":
        image = image.convert("LA")
    profile = image.info.get("icc_profile")
    if not profile and image.mode != "LAB":
        return _in_mode(image, "RGBA" if has_alpha else "RGB")
    mode = {"1": "L", "LA": "L", "L": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(image.mode, "RGB")
    straight = _in_mode(image, "RGBA") if has_alpha else image
    colours = _by_profile(_in_mode(straight, mode), profile)
    if has_alpha:
        colours.putalpha(straight.getchannel("A"))
    return colours


def _by_profile(image: Any, data: bytes | None) -> Any:
    """Convert L, RGB, CMYK or LAB to RGB by an ICC profile, unless its colours are those of sRGB."""
    from PIL import ImageCms

    srgb: Any = ImageCms.createProfile("sRGB")
    try:
        profile: Any = ImageCms.createProfile("LAB") if image.mode == "LAB" else _profile(data)
        if image.mode in ("L", "RGB") and _is_srgb(profile, image.mode):
            return _in_mode(image, "RGB")
        return ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        warnings.warn(f"its ICC profile can't be applied and was ignored: {error}", stacklevel=2)
        return image.convert("RGB")


def _profile(data: bytes | None) -> Any:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(io.BytesIO(data or b""))


def _is_srgb(profile: Any, mode: str) -> bool:
    """Tell by a few hundred colours whether a profile leaves them where they are."""
    from PIL import Image, ImageCms

    steps = np.arange(256, dtype=np.uint8)
    colours = np.stack([steps, steps // 16 * 17, steps % 16 * 17], axis=1)[None]
    picture = Image.fromarray(colours[..., 0] if mode == "L" else colours)
    seen = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return bool(np.abs(np.asarray(seen).astype(int) - np.asarray(picture.convert("RGB"))).max() <= _SAME_COLOUR)


def _hdr_transfer(path: Path) -> str | None:
    """Return the name of the HDR transfer function that a PNG's or an AVIF's header declares, if it does."""
    head = _head(path, 4096)
    for mark, position in ((b"cICP", 5), (b"colrnclx", 11)):
        at = head.find(mark)
        if 0 <= at < len(head) - position and head[at + position] in HDR:
            return HDR[head[at + position]]
    return None


# ------------------------------------------------------------------------------- deep colours, by OpenCV and PyAV


def _peak_of_deep_colours(image: Any, path: Path) -> int | None:
    """Return the highest value of colours with more than 8 bits, in a file that Pillow has opened but not loaded."""
    if image.mode not in ("RGB", "RGBA") or image.format not in ("PNG", "PPM", "JPEG2000"):
        return None
    if image.format == "JPEG2000":  # ISO 15444-1, A.5.1: the depth stands 42 bytes after the codestream's start
        head = _head(path, 1 << 16)
        at = head.find(b"\xff\x4f\xff\x51")
        peak = 2 ** ((head[at + 42] & 0x7F) + 1) - 1 if 0 <= at < len(head) - 42 else 255
    elif image.format == "PPM":
        peak = image.tile[0].args[1] if image.tile[0].codec_name == "ppm" else 255
    else:
        peak = 65_535 if ";16" in str(image.tile[0].args) else 255
    return peak if peak > 255 else None


def _read_deep(path: Path, image: Any, peak: int) -> np.ndarray:
    """Read deep colours that Pillow has found sound."""
    pixels = _opencv(path)
    if "transparency" in image.info and pixels.shape[2] == 3:
        pixels = _with_key(pixels, image.info["transparency"])
    if peak != 65_535:
        pixels = pixels.astype(np.float32) / peak
    _warn_of_profile(image.info.get("icc_profile"), "RGB")
    return _turned(pixels, image.getexif().get(_ORIENTATION, 1))


def _tiff_tags(path: Path) -> dict | None:
    """Return the tags of a TIFF, or None if the file isn't one or its directory can't be read."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with open(path, "rb") as file:
        head = file.read(8)
        if head[:4] not in _TIFF:
            return None
        try:
            head += file.read(8) if 43 in head[2:4] else b""  # BigTIFF
            directory = ImageFileDirectory_v2(head)
            file.seek(directory.next)
            directory.load(file)
            tags = dict(directory)
        except Exception:  # whatever damage does to it: Pillow names it when it opens the file
            return None
    return tags if isinstance(tags.get(256), int) and isinstance(tags.get(257), int) else None


def _deep_tiff_reader(tags: dict) -> str | None:
    """Return who reads a TIFF that Pillow doesn't read at its depth; raise ValueError if nobody does."""
    bits, bands = tags.get(258, (1,))[0], tags.get(277, 1)
    kind, apart = tags.get(339, (_UNSIGNED,))[0], tags.get(284) == _PLANES_APART and bands > 1
    shallow = (bands == 1 and bits in (1, 2, 4, 8, 12)) or (bits == 8 and not (apart and bands == 2))
    of_another_kind = tags.get(262) not in (_MIN_IS_WHITE, 1, _RGB)  # palettes, CMYK and others
    if bands <= _MOST_BANDS and (of_another_kind or (kind == _UNSIGNED and shallow)):
        return None
    depths = {(16, _UNSIGNED), (32, _FLOAT), (64, _FLOAT)}
    if bands in (1, 3, 4) and (bits, kind) in depths and not apart:
        return "OpenCV"
    if (bands in (3, 4) and (bits, kind) in depths and bits < 64) or (bands, bits, kind, apart) == (2, 16, 1, False):
        return "PyAV"
    values = {_UNSIGNED: "whole numbers", 2: "signed whole numbers", _FLOAT: "floats"}.get(kind, "unknown numbers")
    raise ValueError(f"it holds {values} of {bits} bits per sample in {bands} bands, which aren't read: convert it")


def _check_size(tags: dict) -> None:
    """Raise ValueError if a deep TIFF, not decoded yet, has too many pixels."""
    divided = tags.get(277, 1) == 4 and tags.get(338, (2,))[0] == _MULTIPLIED  # as floats
    check_pixels(tags[256], tags[257], tags.get(277, 1) * max(tags[258][0] // 8, 4 * divided))


def _read_deep_tiff(path: Path, tags: dict, reader: str) -> np.ndarray:
    _check_size(tags)
    pixels = _opencv(path) if reader == "OpenCV" else _turned(_pyav(path), tags.get(_ORIENTATION, 1))
    if sorted(pixels.shape[:2]) != sorted((tags[256], tags[257])):
        raise ValueError(f"it declares {tags[256]} x {tags[257]} pixels but holds others")
    if tags.get(262) == _MIN_IS_WHITE:
        pixels = _black_to_white(pixels, reader)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        extra = tags.get(338, (2,))[0]
        pixels = (
            pixels[..., :3] if extra == _NOT_ALPHA else _divided_by_alpha(pixels) if extra == _MULTIPLIED else pixels
        )
    _warn_of_profile(tags.get(34675), "RGB" if tags.get(277, 1) > 2 else "L")
    return pixels


def _opencv(path: Path) -> np.ndarray:
    """Read pixels, in the order RGB or RGBA."""
    import cv2

    library: Any = cv2
    set_level = getattr(library, "setLogLevel", None) or library.utils.logging.setLogLevel  # until OpenCV 5, and since
    level = set_level(0)  # its lines on stderr name no file
    try:
        pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        set_level(level)
    if pixels is None:
        raise OSError("OpenCV can't decode it")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 else pixels


def _pyav(path: Path) -> np.ndarray:
    """Read a TIFF's pixels, in the order RGB or RGBA."""
    import av

    container: Any = av.open(io.BytesIO(path.read_bytes()), format="tiff_pipe")  # a path could have a % in it
    with container:
        frame = next(container.decode(video=0))
    if frame.format.name.startswith("ya16"):
        frame = make_reformatter().reformat(frame, format="rgba64le")
    return frame.to_ndarray()


def _black_to_white(pixels: np.ndarray, reader: str) -> np.ndarray:
    """Mend a deep TIFF whose lowest value is white: OpenCV inverts nothing, PyAV its alpha too."""
    white = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    return white - pixels if reader == "OpenCV" else np.dstack([pixels[..., :3], white - pixels[..., 3]])


def _with_key(pixels: np.ndarray, key: tuple) -> np.ndarray:
    """Add alpha to uint16 pixels (H, W, C), 0 where they have the value that a PNG declares as transparent."""
    opaque = (pixels != np.array(key, np.uint16)).any(axis=-1, keepdims=True)
    colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return np.concatenate([colours, opaque * np.uint16(65_535)], axis=-1)


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Undo the multiplication of colours by alpha."""
    values = pixels.astype(np.float32)
    values /= np.float32(1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max)
    alpha = values[..., 3:]
    np.divide(values[..., :3], alpha, out=values[..., :3], where=alpha > 0)
    return values.clip(0, 1, out=values)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels upright by the value of EXIF's tag 274."""
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 4):
        pixels = pixels[:, ::-1]
    quarter_turns = {3: 2, 4: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)  # anticlockwise
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def _warn_of_profile(data: bytes | None, mode: str) -> None:
    """Warn of an ICC profile other than sRGB's: they convert 8 bits only, and the depth is kept."""
    from PIL import ImageCms

    if not data:
        return
    try:
        if _is_srgb(_profile(data), mode):
            return
    except (ImageCms.PyCMSError, OSError):
        pass
    warnings.warn("its ICC profile was ignored, as its colours have more than 8 bits", stacklevel=2)


# --------------------------------------------------------------------------------------------- errors and warnings


@contextmanager
def _told_with_name(path: Path) -> Iterator[None]:
    """Put the file's name before what is warned of, and raise OSError with the reason for any failure to decode."""
    failure, reason = None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except PermissionError:
            raise
        except Exception as error:  # decoders raise all kinds on damaged files
            failure, reason = error, _reason(path, error)
    if failure is not None:
        raise OSError(f"{path} ({path.stat().st_size} bytes) can't be decoded as a picture: {reason}") from failure
    for text in dict.fromkeys(str(one.message) for one in caught if not issubclass(one.category, ResourceWarning)):
        warn(f"{path}: {' '.join(text.split())}")


def _is_recording(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a video or a recording: MP4, Matroska, AVI, WAV and so on."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _AVIF | _HEIC
    return head.startswith(_RECORDINGS) or (head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"))


def _reason(path: Path, error: Exception) -> str:
    """Say in one line why a file can't be decoded."""
    from PIL import UnidentifiedImageError

    size, head = path.stat().st_size, _head(path, 12)
    if not size:
        return "it is empty"
    if head[4:8] == b"ftyp" and head[8:] in _HEIC:
        return "HEIC isn't read: convert it to JPEG or PNG"
    if isinstance(error, ValueError) and not isinstance(error, OSError) and str(error).startswith(("it ", "the ")):
        return str(error)  # ours
    if isinstance(error, UnidentifiedImageError) and _is_recording(head):
        return "it is a video or a recording"
    if (whole := _declared_bytes(path)) > size:
        return f"it is cut off after {_amounts(size, whole)}"
    if "truncated" in str(error) or (head[:4] in _TIFF[:2] and _directory_of_tiff(head) >= size):
        return f"it is cut off after {_amounts(size)}"
    if isinstance(error, UnidentifiedImageError):
        known = head.startswith(_SIGNATURES) or head[4:8] in (b"ftyp", b"jP  ")
        return "its header is damaged" if known else f"it is none of {', '.join(_FORMATS)}"
    if isinstance(error, MemoryError):
        return "there isn't enough memory for it"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def _directory_of_tiff(head: bytes) -> int:
    return int.from_bytes(head[4:8], "little" if head[:2] == b"II" else "big")


def _amounts(*counts: int) -> str:
    most = max(counts)
    if most < 1000:
        return " of ".join(map(str, counts)) + " bytes"
    return " of ".join(f"{count / 1000:.{0 if most >= 10_000 else 1}f}" for count in counts) + " kB"


def _head(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def _declared_bytes(path: Path) -> int:
    """Return how long a picture file says it is; 0 if it doesn't say."""
    head = _head(path, 8)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:], "little")
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little")
    if head.startswith(b"\x89PNG"):
        return _end_of_parts(path, 8, 12, ">I4s")  # the length is the data's alone
    if head[4:] in (b"ftyp", b"jP  "):
        return _end_of_parts(path, 0, 0, ">I4s")
    if tags := _tiff_tags(path):
        starts, counts = (tags.get(name) or tags.get(other, ()) for name, other in ((273, 324), (279, 325)))
        pairs = zip(starts, counts, strict=False)  # damage can make anything of them
        return max(
            (start + count for start, count in pairs if isinstance(start, int) and isinstance(count, int)), default=0
        )
    return 0


def _end_of_parts(path: Path, start: int, extra: int, header: str) -> int:
    """Return where the last chunk of a PNG, or the last box of an AVIF or a JP2, ends by its own length."""
    with open(path, "rb") as file:
        while True:
            file.seek(start)
            part = file.read(8)
            if len(part) < 8:
                return start
            length, kind = struct.unpack(header, part)
            if kind == b"IEND" or length + extra < 8:  # lengths of 0 and 1 have other meanings in a box
                return 0
            start += length + extra
