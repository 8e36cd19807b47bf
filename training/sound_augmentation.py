"""Augmentation of windows of sound: mixing, reverberation, bandwidth, missing bands and stretches, noise.

It hides what a recording's source gives away, rather than what sounds: its noise, its bandwidth, its room. Each kind
has a share of the windows; everything is off by default, and depends on the random generator of the pair alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

Range = tuple[float, float]
_QUIET = 1e-8  # root mean square below which a window has no level to mix to
_FALL = 60.0  # dB, after which reverberation counts as gone
_LOWEST_BAND = 100.0  # Hz


@dataclass(frozen=True)
class SoundAugmentation:
    """Shares of the windows that are changed, and the ranges from which the changes are drawn evenly.

    Raises
    ------
    ValueError
        If a share isn't in [0, 1], or a range doesn't go upwards.
    """

    same_class: float = 0.0  # share into which another recording of the class is mixed
    same_class_level: Range = (-10.0, 0.0)  # dB, of the other to the window
    background: float = 0.0  # share behind which any recording stands
    background_level: Range = (-30.0, -10.0)  # dB
    reverberation: float = 0.0  # share
    decay: Range = (0.1, 0.8)  # seconds in which reverberation falls by 60 dB
    low_pass: float = 0.0  # share
    cut_off: Range = (1500.0, 11_000.0)  # Hz, even in octaves
    bands: int = 0  # most bands that are missing (SpecAugment's frequency masks, on the waveform)
    widest_band: float = 1.0  # octaves
    stretches: int = 0  # most stretches that are silent (SpecAugment's time masks)
    longest_stretch: float = 0.15  # seconds
    noise: float = 0.0  # share
    noise_level: Range = (-50.0, -15.0)  # dB, of the noise to the window; its colour is between white and brown

    def __post_init__(self):
        for key in fields(self):
            value = getattr(self, key.name)
            if isinstance(value, tuple):
                if len(value) != 2 or not value[0] <= value[1]:
                    raise ValueError(f"{key.name} must be a range [low, high], got {list(value)}")
            elif not value >= 0:
                raise ValueError(f"{key.name} must be at least 0, got {value!r}")
        for name in ("same_class", "background", "reverberation", "low_pass", "noise"):
            if not getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share of the windows in [0, 1], got {getattr(self, name)!r}")


def augment_sound(
    samples: np.ndarray,
    sample_rate: int,
    settings: SoundAugmentation,
    rng: np.random.Generator,
    of_the_class: Callable[[], np.ndarray],
    of_any: Callable[[], np.ndarray],
) -> np.ndarray:
    """Change a window at random.

    Parameters
    ----------
    samples : ndarray, shape (n, channels), float32
    sample_rate : int
        In Hz.
    settings : SoundAugmentation
    rng : Generator
    of_the_class, of_any : callable
        Draw another window of the class, or of any; called only if it is mixed in.

    Returns
    -------
    samples : ndarray, shape (n, channels), float32
    """
    if rng.random() < settings.same_class:
        samples = mix(samples, of_the_class(), rng.uniform(*settings.same_class_level))
    if rng.random() < settings.background:
        samples = mix(samples, of_any(), rng.uniform(*settings.background_level))
    samples = _filtered(samples, sample_rate, settings, rng)
    if rng.random() < settings.noise:
        colour = rng.uniform(0, 1)
        samples = mix(samples, coloured_noise(samples.shape, colour, rng), rng.uniform(*settings.noise_level))
    return _with_gaps(samples, sample_rate, settings, rng)


def mix(samples: np.ndarray, other: np.ndarray, level: float) -> np.ndarray:
    """Add another window, whose level to the first is given in dB; silence changes nothing, and isn't changed."""
    own, its = (float(np.sqrt(np.mean(np.square(sound)))) for sound in (samples, other))
    if min(own, its) < _QUIET:
        return samples
    return samples + other * np.float32(own / its * 10 ** (level / 20))


def coloured_noise(shape: tuple[int, ...], colour: float, rng: np.random.Generator) -> np.ndarray:
    """Make noise whose amplitude falls as frequency to the power of `colour`: 0 is white, 0.5 pink, 1 brown."""
    from scipy import fft

    white = rng.standard_normal(shape, dtype=np.float32)
    spectrum = fft.rfft(white, axis=0)
    fall = np.arange(1, len(spectrum) + 1, dtype=np.float32) ** np.float32(-colour)
    return fft.irfft(spectrum * fall[:, None], n=shape[0], axis=0)


def _filtered(
    samples: np.ndarray, sample_rate: int, settings: SoundAugmentation, rng: np.random.Generator
) -> np.ndarray:
    """Apply reverberation, a low-pass and missing bands, all in one pass over the spectrum."""
    from scipy import fft

    echoes = None
    if rng.random() < settings.reverberation:
        echoes = room_response(rng.uniform(*settings.decay), sample_rate, rng)
    cut_off = None
    if rng.random() < settings.low_pass:
        cut_off = float(np.exp(rng.uniform(*np.log(settings.cut_off))))
    bands = [_band(sample_rate, settings, rng) for _ in range(rng.integers(settings.bands + 1))]
    if echoes is None and cut_off is None and not bands:
        return samples
    length = fft.next_fast_len(len(samples) + (0 if echoes is None else len(echoes)), real=True)
    spectrum = fft.rfft(samples, n=length, axis=0)
    frequencies = np.fft.rfftfreq(length, 1 / sample_rate).astype(np.float32)
    if echoes is not None:
        spectrum *= fft.rfft(echoes, n=length)[:, None]
    if cut_off is not None:
        order = int(rng.integers(2, 9))  # of the Butterworth filter, whose phase is left out
        spectrum /= np.sqrt(1 + (frequencies / np.float32(cut_off)) ** (2 * order))[:, None]
    for low, high in bands:
        spectrum[(frequencies >= low) & (frequencies < high)] = 0
    return fft.irfft(spectrum, n=length, axis=0)[: len(samples)].astype(np.float32)


def room_response(decay: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make the response of a simple room: the direct sound, and noise that falls by 60 dB in `decay` seconds."""
    count = max(1, round(decay * sample_rate))
    fall = 10 ** (-_FALL / 20 * np.arange(count, dtype=np.float32) / count)
    echoes = rng.standard_normal(count, dtype=np.float32) * fall
    echoes *= np.float32(rng.uniform(0.1, 0.7)) / np.sqrt(np.square(echoes).sum())  # energy below the direct sound's
    echoes[0] = 1
    return echoes


def _band(sample_rate: int, settings: SoundAugmentation, rng: np.random.Generator) -> tuple[float, float]:
    """Draw the lower and the upper frequency of a band, in Hz."""
    low = float(np.exp(rng.uniform(np.log(_LOWEST_BAND), np.log(sample_rate / 2))))
    return low, low * 2 ** rng.uniform(0, settings.widest_band)


def _with_gaps(
    samples: np.ndarray, sample_rate: int, settings: SoundAugmentation, rng: np.random.Generator
) -> np.ndarray:
    """Silence some stretches."""
    count = int(rng.integers(settings.stretches + 1))
    if count:
        samples = samples.copy()
    for _ in range(count):
        length = min(len(samples), round(rng.uniform(0, settings.longest_stretch) * sample_rate))
        first = int(rng.integers(len(samples) - length + 1))
        samples[first : first + length] = 0
    return samples
