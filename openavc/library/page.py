"""Hits of a search as one HTML page: pictures are embedded in it, sounds and videos are played from their files."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import write_bytes
from ..media import video
from ..media.image import EXTENSIONS as PICTURES
from ..media.image import read_image, resize

if TYPE_CHECKING:
    from .search import Hit

_THUMBNAIL, _QUERY = 240, 480  # pixels of the longer side
_BEFORE, _AFTER = 1.0, 2.0  # seconds played around a moment; they cover its window, centred or not

_STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
ol { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); padding: 0; }
li { list-style-position: inside; overflow-wrap: anywhere; }
img, video { background: #eee; display: block; max-height: 30rem; max-width: 100%; }
audio { display: block; max-width: 100%; }
.path, .missing { color: #666; font-size: 0.8rem; }
"""


def thumbnail(source: Path, time: float | None, side: int) -> str:
    """Return a picture, or a video's frame at a time, as a data URI of a JPEG of at most `side` pixels a side.

    Raises
    ------
    FileNotFoundError, OSError
        If the file is missing or can't be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damage outside the frame that is shown
        picture = read_image(source, side) if time is None else video.read_frame(source, time)
    return _data_uri(picture, side)


def write_page(
    path: str | Path,
    query: str | Path,
    hits: list[Hit],
    draw: Callable[[Path, float | None, int], str] = thumbnail,
    is_text: bool = False,
) -> None:
    """Write a page with the query, a file or a text, on top, followed by its hits, the best first.

    Each hit shows its score, file and time; pictures and frames of videos are thumbnails, and sounds and videos have a
    player for the hit's moment. Missing files are reported on the page.

    Parameters
    ----------
    path : str or Path
        The page to write; its folder is created.
    query : str or Path
        The picture, the sound or the text that was searched for.
    hits : list of Hit
    draw : callable
        Called as `thumbnail`, which may be in another process.
    is_text : bool
        Whether the query is the text itself.

    Raises
    ------
    OSError
        If the page can't be written.
    """
    name = escape(str(query) if is_text else Path(query).name)
    shown = "" if is_text else _media(Path(query), None, _QUERY, draw)
    items = "\n".join(_hit(rank, hit, draw) for rank, hit in enumerate(hits, 1)) or "<li>nothing was found</li>"
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}: search</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Nearest to {name}</h1>\n"
        f"{shown}\n<ol>\n{items}\n</ol>\n</body>\n</html>\n"
    )
    # A name that isn't UTF-8 has surrogates, which can't be written.
    write_bytes(path, page.encode("utf-8", errors="xmlcharrefreplace"))


def _hit(rank: int, hit: Hit, draw: Callable) -> str:
    """Return the list item that shows a hit."""
    time = "" if hit.timestamp is None else f" at {hit.timestamp:.2f} s"
    name = escape(Path(hit.source).name)
    return (
        f'<li value="{rank}"><strong>{hit.score:.3f}</strong> {escape(hit.modality)}: {name}{time}\n'
        f"{_media(Path(hit.source), hit.timestamp, _THUMBNAIL, draw)}\n"
        f'<div class="path">{escape(hit.source)}</div></li>'
    )


def _media(source: Path, time: float | None, side: int, draw: Callable) -> str:
    """Return a picture, or a player for a moment of the file, or for all of it if `time` is None."""
    if not source.is_file():
        return '<div class="missing">missing: the file is not there any more</div>'
    address, part = escape(source.absolute().as_uri()), ""
    if time is not None:
        part = f"#t={max(0, time - _BEFORE):.2f},{time + _AFTER:.2f}"
    if source.suffix.lower() in PICTURES:
        picture, problem = _picture(source, None, side, draw)
        return f'<a href="{address}"><img src="{picture}" alt=""></a>' if picture else problem
    if source.suffix.lower() in video.EXTENSIONS:
        picture, problem = _picture(source, time or 0.0, side, draw)
        still = f' poster="{picture}"' if picture else ""
        return f'<video controls preload="none"{still} src="{address}{part}"></video>{problem}'
    return f'<audio controls preload="none" src="{address}{part}"></audio>'


def _picture(source: Path, time: float | None, side: int, draw: Callable) -> tuple[str, str]:
    """Return (data URI, "") of a picture, or of a video's frame at a time; ("", why not) if it can't be read."""
    try:
        return draw(source, time, side), ""
    except OSError as error:
        return "", f'<div class="missing">no picture: {escape(str(error))}</div>'


def _data_uri(picture: np.ndarray, side: int) -> str:
    """Return a picture (H, W, 3), uint8 or float32 in [0, 1], as a JPEG of at most `side` pixels a side."""
    import cv2

    scale = min(1, side / max(picture.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in picture.shape[:2])
    small = resize(picture, height, width)
    if small.dtype != np.uint8:
        small = (small.clip(0, 1) * 255).round().astype(np.uint8)
    jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
