"""Pictures and videos that show maps, spectrograms and curves, written to files.

PyTorch is imported only when something is localised, since another process may do that.
"""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_atomically
from .inference.peaks import Peaks, peaks_of_frames
from .media.audio import open_audio
from .media.clips import SoundInput, cut_stretches, model_sound
from .media.image import enlarge, resize
from .media.mp4 import SOUND_RATE, write_mp4

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".npy")  # file endings that `write_picture` supports
OPACITY = 0.75  # of the colours where the probability is 1
ACTIVATION_OPACITY = 0.35  # of the colours where an activation is the highest on its scale, as in the paper's code
_MARGIN = 32  # grey value around the picture
_BAND = 256  # rows drawn at once; in floats that takes many times the memory of the picture
_LEAST_ROWS, _MOST_COLUMNS = 480, 1920  # pixels: pictures with fewer rows are enlarged, up to this width


# -------------------------------------------------------------------------------------------------------- overlays


def overlay(picture: Any, heatmap: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Draw a map over a picture, with a colour bar beside it.

    The colour scale is the probability itself, from 0 to 1, and is never stretched to the range of a map: a sound that
    doesn't belong to the picture leaves the picture as it is. Colours become more opaque with the probability; where
    that is 0, there is no colour.

    Parameters
    ----------
    picture : array or tensor (H, W, 3), or path
    heatmap : ndarray, shape (h, w)
        In [0, 1], of any size; it is enlarged to the picture's.
    opacity : float
        Of the colours where the map is 1.

    Returns
    -------
    drawn : ndarray, shape (rows, columns, 3), uint8 RGB
        The picture is in the top left corner, at its own size or, if it has fewer than 480 rows, enlarged by the same
        factor on both sides. Rows and columns are even, as H.264 requires.

    Raises
    ------
    ValueError
        If the map is empty, isn't two-dimensional, or has values outside [0, 1].
    """
    from .inference.localization import one_picture

    picture, heatmap = one_picture(picture), np.asarray(heatmap, dtype=np.float32)
    if heatmap.ndim != 2 or not heatmap.size:
        raise ValueError(f"a map must have shape (height, width), got {heatmap.shape}")
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):  # also catches NaN
        raise ValueError(f"a map must lie in [0, 1], got values from {heatmap.min():g} to {heatmap.max():g}")
    height, width = _shown_size(*picture.shape[:2])
    bar = _colour_bar(max(_even(height), _LEAST_ROWS // 2), opacity)  # high enough for its numbers
    drawn = np.full((len(bar), _even(width) + bar.shape[1], 3), _MARGIN, dtype=np.uint8)
    picture, heatmap = resize(picture, height, width), enlarge(heatmap, height, width)
    for top in range(0, height, _BAND):
        rows = slice(top, min(height, top + _BAND))
        drawn[rows, :width] = _tint(picture[rows], heatmap[rows], opacity)
    drawn[:, _even(width) :] = bar
    return drawn


def _shown_size(height: int, width: int) -> tuple[int, int]:
    scale = max(1, min(_LEAST_ROWS / height, _MOST_COLUMNS / width))
    return round(height * scale), round(width * scale)


def _even(number: int) -> int:
    return number + number % 2


def _tint(picture: np.ndarray, heatmap: np.ndarray, opacity: float) -> np.ndarray:
    """Lay the colours of a map over a picture of the same size, in [0, 1]: (H, W, 3) uint8."""
    import cv2

    colours = cv2.applyColorMap(np.rint(heatmap * 255).astype(np.uint8), cv2.COLORMAP_PLASMA)[..., ::-1]
    share = opacity * heatmap[..., None]
    return np.rint((1 - share) * 255 * picture + share * colours).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _colour_bar(rows: int, opacity: float) -> np.ndarray:
    """Draw the colours from 0 (bottom) to 1 (top) on the margin's grey, with numbers: (rows, columns, 3) uint8."""
    import cv2

    unit = max(1.0, rows / _LEAST_ROWS)
    left, thick, top = (round(length * unit) for length in (12, 20, 16))  # pixels
    bar = np.full((rows, _even(round(80 * unit)), 3), _MARGIN, dtype=np.uint8)
    ramp = np.linspace(1, 0, rows - 2 * top, dtype=np.float32)[:, None].repeat(thick, axis=1)
    bar[top : rows - top, left : left + thick] = _tint(
        np.full((*ramp.shape, 3), _MARGIN / 255, np.float32), ramp, opacity
    )
    for value in (0, 0.25, 0.5, 0.75, 1):
        line = round(top + (1 - value) * (rows - 2 * top - 1))
        ends = (left + thick, line), (left + thick + round(4 * unit), line)
        cv2.line(bar, *ends, (255, 255, 255), round(unit))
        corner = (ends[1][0] + round(4 * unit), line + round(5 * unit))
        cv2.putText(
            bar, f"{value:g}", corner, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * unit, (255,) * 3, round(unit), cv2.LINE_AA
        )
    bar.flags.writeable = False  # all calls share the cached array
    return bar


# ----------------------------------------------------------------------------------------------------------- files


def write_picture(target: str | Path, picture: Any, heatmap: np.ndarray, ending: str) -> None:
    """Write the overlay as the kind of picture that `ending` names, or, for .npy, the map itself, float32 (H, W)."""
    import cv2

    if ending == ".npy":
        with open(target, "wb") as file:
            np.save(file, heatmap)
        return
    drawn = overlay(picture, heatmap)
    done, encoded = cv2.imencode(ending, drawn[..., ::-1])
    if not done:
        rows, columns = drawn.shape[:2]
        raise ValueError(f"{columns} x {rows} pixels are too many for {ending}: choose .png, or .npy for the bare map")
    encoded.tofile(target)


def write_video(
    target: str | Path,
    maps: Iterable[tuple[float, np.ndarray, np.ndarray]],
    path: str | os.PathLike,
    audio: str | os.PathLike | None = None,
    opacity: float = OPACITY,
) -> np.ndarray:
    """Write a video of overlays, with the sound that was localised.

    Frames keep their true times, and the sound, in mono as the model hears it, stays in step with them.

    Parameters
    ----------
    target : str or path
        An MP4 file, H.264 and AAC, whatever its name.
    maps : iterable of (timestamp, frame, heatmap)
        What `localize_video` returns for `path` and `audio`.
    path, audio : str or path
        As in `localize_video`. The video's own sound is written in full.
    opacity : float
        As in `overlay`.

    Returns
    -------
    peaks : ndarray, shape (n, 2)
        Time of each frame, in seconds, and the maximum of its map.
    """
    peaks = array("d")  # as of a long video there are many

    def drawn() -> Iterator[tuple[float, np.ndarray]]:
        for time, frame, heatmap in maps:
            peaks.extend((time, float(heatmap.max())))
            yield time, overlay(frame, heatmap, opacity)

    blocks, rate = open_audio(path if audio is None else audio)
    mono = model_sound(blocks, rate, SoundInput(SOUND_RATE, seconds=1.0))
    write_mp4(target, drawn(), mono, cut_sound=audio is not None)
    return np.array(peaks).reshape(-1, 2)


def draw_localized_picture(output: Path, image: Any, audio: Any, model: Any, device: Any = None) -> float:
    """Localise a sound in a picture and write the overlay, or the map, completely or not at all.

    Parameters
    ----------
    output : Path
        Its ending, one of `PICTURE_ENDINGS`, decides what is written.
    image, audio, model, device
        As in `localize_sound`.

    Returns
    -------
    peak : float
        The highest probability of the map.
    """
    from .inference.localization import localize_sound

    heatmap = localize_sound(image, audio, model=model, device=device)
    with write_atomically(output) as partial:
        write_picture(partial, image, heatmap, output.suffix.lower())
    return float(heatmap.max())


def draw_localized_video(
    output: Path,
    path: str | os.PathLike,
    model: Any,
    audio: str | os.PathLike | None = None,
    frame_rate: float | None = None,
    maximum: float | None = None,
    device: Any = None,
) -> tuple[int, Peaks]:
    """Localise the sound of a video and write a video of overlays, completely or not at all.

    Parameters
    ----------
    output : Path
    path, model, audio, frame_rate, maximum, device
        As in `localize_video`. A progress bar is shown if the standard error is a terminal.

    Returns
    -------
    frames : int
        Number of those that were written.
    peaks : Peaks
        As of `video_peaks`.
    """
    from tqdm import tqdm

    from .inference.activations import map_frames, video_activations
    from .inference.localization import check_video, localize_video
    from .models.contract import LocalizesInTime

    network = check_video(path, audio, model, device, frame_rate, maximum)
    with write_atomically(output) as partial:
        if isinstance(network, LocalizesInTime):
            activations = video_activations(path, network, audio)
            maps = tqdm(map_frames(path, activations, frame_rate, maximum), unit="frame", disable=None)
            frames = write_video(partial, maps, path, audio, ACTIVATION_OPACITY)
            return len(frames), activations.peaks()
        maps = tqdm(localize_video(path, network, audio=audio, frame_rate=frame_rate), unit="frame", disable=None)
        frames = write_video(partial, maps, path, audio)
        return len(frames), peaks_of_frames(frames)


# ---------------------------------------------------------------------------------------------------- spectrograms

_COLUMNS, _ROWS = 1200, 200  # pixels of a spectrogram
_LEFT, _TOP = 64, 28  # pixels beside and above each
_RANGE = 80.0  # dB from the loudest of the first sound, which is white-hot, to black


def draw_spectrograms(target: str | Path, sounds: dict[str, Path], sample_rate: int) -> None:
    """Write a PNG of the spectrograms of several sounds, one below the other, on one scale of colours.

    Parameters
    ----------
    target : str or path
        The file to write, whatever its ending.
    sounds : dict
        Title -> file of sound, or video; colours are relative to the loudest bin of the first one.
    sample_rate : int
        Rate, in Hz, to which all are brought, mixed down to mono.
    """
    import cv2

    levels = {title: _levels(path, sample_rate) for title, path in sounds.items()}
    loudest = next(iter(levels.values()))[0].max()
    drawn = np.full((len(sounds) * (_ROWS + 2 * _TOP), _COLUMNS + 2 * _LEFT, 3), _MARGIN, dtype=np.uint8)
    for number, (title, (decibels, seconds)) in enumerate(levels.items()):
        panel = drawn[number * (_ROWS + 2 * _TOP) :]
        shade = np.clip((decibels - loudest) / _RANGE + 1, 0, 1)[::-1]  # high frequencies above
        grey = np.rint(255 * resize(np.ascontiguousarray(shade), _ROWS, _COLUMNS)).astype(np.uint8)
        panel[_TOP : _TOP + _ROWS, _LEFT : _LEFT + _COLUMNS] = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)
        _write(panel, title, _LEFT, _TOP - 8)
        _write(panel, f"{sample_rate / 2000:g} kHz", 2, _TOP + 10)
        _write(panel, "0", 2, _TOP + _ROWS)
        for share in (0, 0.25, 0.5, 0.75, 1):
            _write(panel, f"{share * seconds:.1f} s", _LEFT + round(share * _COLUMNS), _TOP + _ROWS + 16)
    _, encoded = cv2.imencode(".png", drawn)
    encoded.tofile(target)


def _levels(path: Path, sample_rate: int) -> tuple[np.ndarray, float]:
    """Return a spectrogram of a file in dB, (bins, columns) float32, of at most `_COLUMNS` moments, and its seconds.

    The file is read twice, in constant memory: for its length, and for windows of 64 ms at these moments.
    """
    mono, window = SoundInput(sample_rate, seconds=1.0), round(0.064 * sample_rate)
    samples = sum(map(len, model_sound(*open_audio(path), mono)))
    columns = min(_COLUMNS, max(1, 2 * samples // window))
    starts = [round((column + 0.5) * samples / columns) - window // 2 for column in range(columns)]
    hann = np.hanning(window)
    pieces = cut_stretches(model_sound(*open_audio(path), mono), starts, window)
    spectra = [np.abs(np.fft.rfft(hann * piece[:, 0])) for _, piece in pieces]
    return 20 * np.log10(np.maximum(np.stack(spectra, axis=1), 1e-5)).astype(np.float32), samples / sample_rate


def _write(picture: np.ndarray, text: str, left: int, bottom: int) -> None:
    import cv2

    cv2.putText(picture, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,) * 3, 1, cv2.LINE_AA)
