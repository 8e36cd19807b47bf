"""Photographs and recordings in folders by class: which files there are, of what origin, and the form they are kept in.

Photographs become clips of one frame without sound, recordings clips of sound without frames; `training.class_pairs`
pairs those of one class. Kinds of file give classes away by what isn't heard or seen: their level, their padding, their
size. So all are brought to one form; what they were before is kept as their `traces`, to measure how much it tells.
"""

from __future__ import annotations

import csv
import fnmatch
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from openavc.media.audio import SOUND_EXTENSIONS, read_audio, to_channels
from openavc.media.image import EXTENSIONS, read_image, resize
from openavc.media.resample import resample

from .lists import ListedVideo
from .origins import FREESOUND, identify_origin

PICTURE, RECORDING = "picture", "recording"
_PEAK = 0.9  # of every recording
_BLOCK = 0.01  # seconds, whose loudness decides what is silent
_EDGE = 0.999  # share of the energy below a recording's bandwidth


@dataclass(frozen=True)
class ClassFile(ListedVideo):
    """A photograph or a recording of a class, its only label."""

    kind: str = PICTURE
    repository: str = ""  # where it is from
    category: str = ""  # of the class, such as animals
    given: str = ""  # its path in the repository

    def is_from(self, patterns: Iterable[str]) -> bool:
        """Whether its repository, or `repository:path`, matches one of the patterns, in which `*` stands for any."""
        names = (self.repository, f"{self.repository}:{self.given}")
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)


@dataclass(frozen=True)
class CommonForm:
    """The one form of photographs and recordings: not too large, of one rate, mono, as loud, trimmed of silence."""

    per_shard: ClassVar[int] = 500  # files

    size: int  # pixels, of the shorter side, at most
    sample_rate: int  # Hz
    sound_format: str
    quality: int  # of the JPEG files
    silence: float = -60.0  # dB below the loudest 10 ms; what is below at the ends is cut off

    def clips(self, file: ClassFile) -> Iterator[tuple[np.ndarray, list[bytes], list[float], dict]]:
        """Read a file as its only clip.

        Yields
        ------
        samples : ndarray, shape (n, 1)
            None of a photograph.
        frames : list of bytes
            One JPEG file; none of a recording.
        times : list of float
            0 for a photograph.
        about : dict
            Kind, origin, class, repository and category; and `traces`, what the file was before.

        Raises
        ------
        ValueError
            If a recording is silent.
        FileNotFoundError, OSError
            If the file is missing or can't be decoded.
        """
        about = {"source": file.source, "start": 0.0, "labels": file.labels, "kind": file.kind}
        about |= {"repository": file.repository, "category": file.category}
        if file.kind == PICTURE:
            frame, traces = _read_picture(file.path, self.size, self.quality)
            yield np.zeros((0, 1), np.float32), [frame], [0.0], about | {"traces": traces}
        else:
            samples, traces = _read_recording(file.path, self.sample_rate, self.silence)
            yield samples, [], [], about | {"traces": traces}


def _read_picture(path: str, size: int, quality: int) -> tuple[bytes, dict]:
    """Read a picture, upright, as a JPEG file with a shorter side of at most `size`; and what it was."""
    import cv2

    image = read_image(path)
    height, width = image.shape[:2]
    scale = min(1.0, size / min(height, width))
    pixels = np.rint(255 * resize(image, *(max(1, round(side * scale)) for side in (height, width)))).astype(np.uint8)
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return encoded, {"bytes": os.path.getsize(path), "width": width, "height": height}


def _read_recording(path: str, sample_rate: int, silence: float) -> tuple[np.ndarray, dict]:
    """Read a recording, (n, 1), trimmed, mono, at one rate and with one peak; and what it was."""
    recorded, rate = read_audio(path)
    mono = to_channels(recorded, 1)
    first, last = loud_stretch(mono[:, 0], rate, silence)
    if first == last:
        raise ValueError(f"{path} is silent")
    traces = {
        "bytes": os.path.getsize(path),
        "seconds": len(mono) / rate,
        "padding": (len(mono) - (last - first)) / rate,
        "sample_rate": rate,
        "channels": recorded.shape[1],
        "bandwidth": bandwidth(mono[first:last, 0], rate),
    }
    samples = resample(mono[first:last], rate, sample_rate)
    return samples * np.float32(_PEAK / max(float(np.abs(samples).max()), 1e-9)), traces


def loud_stretch(samples: np.ndarray, sample_rate: int, silence: float) -> tuple[int, int]:
    """Find the stretch without the silence at both ends, in blocks of 10 ms.

    Parameters
    ----------
    samples : ndarray, shape (n,)
    sample_rate : int
        In Hz.
    silence : float
        Power of a silent block below that of the loudest one, in dB.

    Returns
    -------
    first, last : int
        Of the samples to keep; equal if all are 0.
    """
    length = max(1, round(_BLOCK * sample_rate))
    power = np.add.reduceat(np.square(samples, dtype=np.float64), np.arange(0, len(samples), length))
    loud = np.flatnonzero(power > power.max() * 10 ** (silence / 10))
    if len(loud) == 0:
        return 0, 0
    return int(loud[0]) * length, min(len(samples), (int(loud[-1]) + 1) * length)


def bandwidth(samples: np.ndarray, sample_rate: int) -> float:
    """Return the frequency, in Hz, below which 99.9 % of the energy of samples (n,) lie, whatever their mean."""
    energy = np.square(np.abs(np.fft.rfft(samples - samples.mean())))
    below = np.cumsum(energy)
    return float(np.searchsorted(below, _EDGE * below[-1]) * sample_rate / len(samples))


# ----------------------------------------------------------------------------------------------------------- files


def find_class_files(pictures: Path, sounds: Path, about: Path | None = None) -> list[ClassFile]:
    """Find the photographs and the recordings in two folders by class.

    Classes that lack either are left out, with a warning.

    Parameters
    ----------
    pictures, sounds : Path
        Folders of one folder a class, whose names are the labels.
    about : Path, optional
        CSV file with a header that says more about some of the files: `file` (their path from the CSV's folder),
        `repository`, `path` (their path there), `group` (the category of the class) and, if it is known better than by
        the name, `origin`, which cuts of one recording share. Without it, the name of a file tells its origin, see
        `identify_origin`.

    Raises
    ------
    ValueError
        If no class has both, or `about` isn't such a table.
    OSError
        If a folder can't be read.
    """
    rows = _read_about(about)
    found = [*_find(pictures, PICTURE, EXTENSIONS, rows), *_find(sounds, RECORDING, SOUND_EXTENSIONS, rows)]
    classes = [{file.labels[0] for file in found if file.kind == kind} for kind in (PICTURE, RECORDING)]
    both = classes[0] & classes[1]
    if not both:
        raise ValueError(f"no class has files in both {pictures} and {sounds}: they must hold one folder a class")
    if alone := sorted(classes[0] ^ classes[1]):
        warnings.warn(f"left out, without photographs or without recordings: {', '.join(alone)}", stacklevel=2)
    return [file for file in found if file.labels[0] in both]


def _find(folder: Path, kind: str, extensions: set[str], rows: dict[Path, dict]) -> Iterator[ClassFile]:
    """Find the files of one kind, in the order of their paths."""
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(path for path in place.rglob("*") if path.suffix.lower() in extensions and path.is_file()):
            file = ClassFile(str(path), labels=(place.name,), identifier=identify_origin(path.name), kind=kind)
            yield _with_row(file, rows.get(path.resolve()))


def _with_row(file: ClassFile, row: dict | None) -> ClassFile:
    """Add what a table says about a file."""
    if row is None:
        return file
    repository, given = row.get("repository") or "", row.get("path") or ""
    origin = row.get("origin") or (identify_origin(given, repository) if given else file.identifier)
    return replace(file, identifier=origin, repository=repository, given=given, category=row.get("group") or "")


def _read_about(path: Path | None) -> dict[Path, dict]:
    """Read a table about files, by their paths."""
    if path is None:
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "file" not in (reader.fieldnames or []):
            named = ", ".join(reader.fieldnames or []) or "none"
            raise ValueError(f"{path} must be a CSV file whose header names a column 'file', got the columns {named}")
        return {(path.parent / row["file"]).resolve(): row for row in reader}


def without(files: list[ClassFile], numbers: Iterable[str]) -> list[ClassFile]:
    """Return the files that aren't from the sounds of these numbers on freesound.org."""
    unwanted = {FREESOUND + number for number in numbers}
    return [file for file in files if file.identifier not in unwanted]


def read_numbers(path: Path) -> list[str]:
    """Read Freesound numbers, one a line; ValueError for any other line."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if wrong := [line for line in lines if not line.isdecimal()]:
        raise ValueError(f"{path} must hold numbers of Freesound, one a line, got {wrong[0]!r}")
    return lines
