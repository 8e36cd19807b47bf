"""What a file may claim: each limit, and the environment variable that sets another one.

Headers are checked before anything is allocated; what no header says is counted while the file is read.
"""

from __future__ import annotations

import os
from pathlib import Path

MOST_PIXELS = 2**26  # 8192 x 8192, which take 0.8 GB as floats
_MOST_BYTES = 8  # of a pixel as it is decoded, four colours of 16 bits; larger ones count as several
_LOWEST_RATE, _HIGHEST_RATE = 100, 1_000_000  # Hz
_LONGEST_GAP = 600.0  # seconds; a longer one is a mistake of the file's, not a pause
_MOST_GAPS = 20  # seconds of gaps to a second of sound
_BYTES_OF_PICTURES = 1000  # a second, at least, of a video whose sound pauses
_BYTES_OF_SOUND = 20  # a second, at least; the thriftiest codecs take 50, and plain samples one each
_SAMPLES_OF_A_BYTE, _LEAST_BYTES_OF_SOUND = 400, 5  # of silence in FLAC, at low rates; a second, whatever the rate
_CHANGES = 100  # of the sample rate, and one a second
_PACKETS = 100_000  # of sound, and 5000 a second; no codec has a tenth of that
_PACKETS_A_SECOND = 5000


def most_pixels() -> int:
    """Return how many pixels a picture may have: OPENAVC_MAX_PIXELS if that is set, otherwise 2**26."""
    return _whole("OPENAVC_MAX_PIXELS", MOST_PIXELS, "pixels")


def check_pixels(width: int, height: int, size: int = 1) -> None:
    """Raise ValueError if a picture has more pixels than may be decoded, each of which then takes `size` bytes."""
    most = most_pixels()
    if width * height * max(size, _MOST_BYTES) > most * _MOST_BYTES:
        what = f"{width} x {height} pixels" + (f" of {size} bytes" if size > _MOST_BYTES else "")
        raise ValueError(f"it has {what}, the limit is {most:,}; OPENAVC_MAX_PIXELS sets another")


def check_rate(rate: int, path: Path) -> int:
    """Return the sample rate that a file claims; raise OSError if no sound has it."""
    lowest = _whole("OPENAVC_LOWEST_RATE", _LOWEST_RATE, "Hz")
    highest = _whole("OPENAVC_HIGHEST_RATE", _HIGHEST_RATE, "Hz")
    if lowest <= rate <= highest:
        return rate
    raise OSError(
        f"{path} claims a sample rate of {rate} Hz; {lowest} to {highest} Hz are taken "
        "(OPENAVC_LOWEST_RATE and OPENAVC_HIGHEST_RATE in the environment change that)"
    )


def check_changes(changes: int, seconds: float, path: Path) -> None:
    """Raise OSError if the sample rate of a sound has changed so often that each change would take its time."""
    if changes > _CHANGES + seconds:
        raise OSError(f"{path} changes its sample rate {changes} times within {seconds:.1f} s; one a second is taken")


def check_packets(packets: int, seconds: float, path: Path) -> None:
    """Raise OSError if a sound comes in so many packets that each has hardly a sample."""
    if packets > _PACKETS + _PACKETS_A_SECOND * seconds:
        raise OSError(
            f"{path} has {packets} packets within {seconds:.1f} s of sound; {_PACKETS_A_SECOND} a second are taken"
        )


def longest_gap() -> float:
    """Return the longest gap that is kept, in seconds: OPENAVC_LONGEST_GAP if that is set, otherwise ten minutes."""
    given = os.environ.get("OPENAVC_LONGEST_GAP") or str(_LONGEST_GAP)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"OPENAVC_LONGEST_GAP must be a positive number of seconds such as 600, got {given!r}")
    return seconds


def check_gaps(gaps: float, sound: float, path: Path, has_pictures: bool) -> None:
    """Raise OSError if the gaps of a recording add up to far more than its sound, and than its pictures may last.

    Parameters
    ----------
    gaps, sound : float
        Their seconds until now.
    path : Path
    has_pictures : bool
    """
    pictures = path.stat().st_size / _BYTES_OF_PICTURES if has_pictures else 0.0
    most = longest_gap() + _MOST_GAPS * sound + pictures
    if gaps > most:
        raise OSError(
            f"{path}: its gaps add up to {gaps:.0f} s beside {sound:.3g} s of sound; {most:.0f} s are taken "
            "(OPENAVC_LONGEST_GAP, in seconds, allows more)"
        )


def check_length(samples: int, rate: int, path: Path) -> None:
    """Raise OSError if a recording has so many samples, at a rate in Hz, that the file has no bytes for them."""
    size = path.stat().st_size
    silence = max(_LEAST_BYTES_OF_SOUND, rate / _SAMPLES_OF_A_BYTE)
    most = longest_gap() + size / min(_BYTES_OF_SOUND, silence, rate)
    if samples / rate > most:
        raise OSError(
            f"{path} unpacks {size} bytes to more than {most:.0f} s of sound "
            "(OPENAVC_LONGEST_GAP, in seconds, allows more)"
        )


def _whole(variable: str, default: int, unit: str) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the environment variable {variable} must be a whole number of {unit}, got {text!r}")
    return int(text)
