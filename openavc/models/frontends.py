"""Spectrograms, the networks' input from a waveform, as modules with their window and filters as buffers.

There are L3-Net's log-spectrogram, a compact log-mel spectrogram of ours, and OpenL3's three kinds, each in the
variants that its releases have had. OpenL3's take one second at 48 kHz with a periodic Hann window and a hop of 242
samples, and end in decibels below the window's maximum, 80 at most, so they don't depend on loudness. They take 10
log10 of a magnitude, on purpose: 80 such "dB" are really 160, less than float32 rounding leaves in a bin without
energy, so they are computed in float64. EdgeL3's, at 8 kHz, is the first variant at a smaller size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# --------------------------------------------------------------------------------------------------------- modules


class Frontend(nn.Module):
    """Turns waveforms (B, n) into spectrograms (B, bins, frames).

    Its buffers move with the model, stay in its own precision, and aren't part of the weights.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    shape : (int, int)
        Bins and frames of a window of one second.
    hop_samples : int
        Samples from one frame to the next.
    window_length, n_fft : int
        Of the short-time Fourier transform, in samples; the periodic Hann window is followed by zeros up to `n_fft`.
    filters : ndarray, shape (bands, n_fft // 2 + 1), optional
        Filters of mel bands.
    precision : torch.dtype
        Type of numbers to compute in.
    """

    seconds = 1.0  # of a window

    def __init__(
        self,
        sample_rate: int,
        shape: tuple[int, int],
        hop_samples: int,
        window_length: int,
        n_fft: int,
        filters: np.ndarray | None = None,
        precision: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.sample_rate, self.shape, self.hop_samples = sample_rate, shape, hop_samples
        self.n_fft, self.precision = n_fft, precision
        self.window: Tensor
        self.filters: Tensor
        # Made on the CPU: for shapes alone, on the device "meta", PyTorch would import its compiler.
        window = torch.hann_window(window_length, dtype=precision, device="cpu").to(torch.empty(0).device)
        self.register_buffer("window", window, persistent=False)
        if filters is not None:
            self.register_buffer("filters", torch.tensor(filters, dtype=precision), persistent=False)

    @property
    def dtype(self) -> str:
        """Name of the precision, in which waveforms are also resampled."""
        return str(self.precision).removeprefix("torch.")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frontend:
        """Move the buffers along to another device, but not to half precision."""
        for name, buffer in self.named_buffers(recurse=False):
            self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def power(self, waveforms: Tensor) -> Tensor:
        """Return squared magnitudes of the short-time Fourier transform, unpadded: (B, n_fft // 2 + 1, frames)."""
        return stft_power(waveforms.to(self.precision), self.window, self.hop_samples, self.n_fft)


class LogSpectrogram(Frontend):
    """L3-Net's log-magnitudes, 257 x 199: 10 ms windows, half overlapping, 512-point transform; no normalisation.

    Parameters
    ----------
    scale : float
        Divisor of the magnitudes; 5 in a re-implementation that calls it the L3 paper's normalisation, which the paper
        doesn't give.
    """

    def __init__(self, scale: float = 1.0):
        super().__init__(48_000, (257, 199), hop_samples=240, window_length=480, n_fft=512)
        self.scale = scale

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (B, n) into spectrograms (B, 257, frames)."""
        magnitudes = self.power(waveforms).clamp(min=1e-24).log() / 2
        return magnitudes if self.scale == 1 else magnitudes / self.scale


class LogMel(Frontend):
    """Log-mel bands, by default 64 and 80 frames per second without padding; about zero mean and unit spread.

    Parameters
    ----------
    sample_rate, shape, hop_samples, window_length, n_fft
        As of `Frontend`.
    lowest : float
        Start of the first filter, in Hz; the last ends at half the sample rate.
    padding : (int, int)
        Samples before and after the waveform.
    """

    def __init__(
        self,
        sample_rate: int = 24_000,
        shape: tuple[int, int] = (64, 77),
        hop_samples: int = 300,
        window_length: int = 1024,
        n_fft: int = 1024,
        lowest: float = 50.0,
        padding: tuple[int, int] = (0, 0),
    ):
        filters = mel_filter_bank(sample_rate, n_fft, shape[0], lowest, sample_rate / 2)
        super().__init__(sample_rate, shape, hop_samples, window_length, n_fft, filters=filters)
        self.padding = padding

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (B, n) into spectrograms (B, bands, frames)."""
        power = self.power(F.pad(waveforms, self.padding) if any(self.padding) else waveforms)
        return ((self.filters @ power + 1e-4).log() - 1.0) / 4.0  # 1e-4: noise at -66 dBFS in one of 64 bins


class OpenL3Linear(Frontend):
    """OpenL3's magnitudes of a 512-point transform in decibels, without padding; the same in all variants."""

    def __init__(self) -> None:
        super().__init__(48_000, (257, 197), 242, window_length=512, n_fft=512, precision=torch.float64)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (B, 48000) into spectrograms (B, 257, 197), float32."""
        return _decibels(self.power(waveforms).sqrt())


class OpenL3Mel(Frontend):
    """OpenL3's mel bands in decibels.

    Parameters
    ----------
    bands : int
        128 or 256.
    scale : {"htk", "slaney"}
        Mel scale of the filters, which have area 1.
    padding : (int, int)
        Samples before and after the waveform.
    padding_mode : {"constant", "reflect"}
    of_power : bool
        Whether the filters are applied to the power, and the root is taken of the bands; otherwise they are applied to
        the magnitude.
    sample_rate, frames, hop_samples, n_fft : int
        EdgeL3 uses other values.
    """

    def __init__(
        self,
        bands: int,
        scale: str,
        padding: tuple[int, int],
        padding_mode: str = "constant",
        of_power: bool = False,
        sample_rate: int = 48_000,
        frames: int = 199,
        hop_samples: int = 242,
        n_fft: int = 2048,
    ):
        filters = mel_filter_bank(sample_rate, n_fft, bands, 0.0, sample_rate / 2, scale=scale, equal_area=True)
        super().__init__(sample_rate, (bands, frames), hop_samples, n_fft, n_fft, filters, torch.float64)
        self.padding, self.padding_mode, self.of_power = padding, padding_mode, of_power

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (B, sample_rate) into spectrograms (B, bands, frames), float32."""
        power = self.power(F.pad(waveforms.to(self.precision), self.padding, mode=self.padding_mode))
        if self.of_power:
            return _decibels((self.filters @ power).sqrt())
        return _decibels(self.filters @ power.sqrt())


def _decibels(magnitude: Tensor) -> Tensor:
    """Turn magnitudes (B, bins, frames) into decibels below the maximum, in [-80, 0], float32."""
    decibels = 10 * magnitude.clamp(min=1e-10).log10()
    return (decibels - decibels.amax(dim=(1, 2), keepdim=True)).clamp(min=-80).float()


# ----------------------------------------------------------------------------------------------------- arithmetic


def stft_power(waveforms: Tensor, window: Tensor, hop_length: int, n_fft: int) -> Tensor:
    """Compute the squared magnitudes of the short-time Fourier transform, without padding.

    Parameters
    ----------
    waveforms : Tensor, shape (B, n_samples)
    window : Tensor, shape (window_length,)
        Followed by zeros up to `n_fft`.
    hop_length, n_fft : int
        In samples.

    Returns
    -------
    power : Tensor, shape (B, n_fft // 2 + 1, 1 + (n_samples - window_length) // hop_length)
    """
    frames = waveforms.unfold(-1, len(window), hop_length)  # (B, T, window_length)
    spectrum = torch.fft.rfft(frames * window, n=n_fft)  # (B, T, n_fft // 2 + 1)
    return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def mel_filter_bank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    low: float,
    high: float,
    scale: str = "htk",
    equal_area: bool = False,
) -> np.ndarray:
    """Make triangular filters, evenly spaced on a mel scale.

    Parameters
    ----------
    sample_rate, n_fft : int
        In Hz and samples.
    n_mels : int
        Number of filters.
    low, high : float
        Start of the first filter and end of the last, in Hz.
    scale : {"htk", "slaney"}
        The HTK book's 2595 log10(1 + f / 700), or that of Slaney's Auditory Toolbox, linear up to 1 kHz.
    equal_area : bool
        Whether filters have area 1 over the frequency in Hz; otherwise they have height 1.

    Returns
    -------
    filters : ndarray, shape (n_mels, n_fft // 2 + 1), float32
    """
    to_mel, to_hertz = _MEL_SCALES[scale]
    first, last = to_mel(np.array([low, high]))
    edges = to_hertz(np.linspace(first, last, n_mels + 2))  # Hz
    frequencies = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    if equal_area:
        filters *= 2 / (edges[2:] - edges[:-2])[:, None]
    return filters.astype(np.float32)


_SLANEY_STEP = math.log(6.4) / 27  # of the logarithmic part: 27 mels from 1 to 6.4 kHz


def _slaney_mel(hertz: np.ndarray) -> np.ndarray:
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) / _SLANEY_STEP)


def _slaney_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(_SLANEY_STEP * (np.maximum(mel, 15) - 15)))


_MEL_SCALES: dict[str, tuple[Callable, Callable]] = {  # to mel, to Hz
    "htk": (lambda hertz: 2595 * np.log10(1 + hertz / 700), lambda mel: 700 * (10 ** (mel / 2595) - 1)),
    "slaney": (_slaney_mel, _slaney_hertz),
}


# ------------------------------------------------------------------------------------------------------- by name

FRONTENDS: dict[str, Callable[[], Frontend]] = {  # a window's spectrogram is a slice of the recording's
    "linear257": LogSpectrogram,
    "linear257-scaled": partial(LogSpectrogram, scale=5.0),
    "mel64": LogMel,
}
AVTS_FRONTENDS = FRONTENDS | {  # windows of 25 ms, 10 ms apart, 40 filters; padded to 100 times in a second
    "mel40": partial(LogMel, 16_000, (40, 100), 160, window_length=400, n_fft=512, padding=(120, 120))
}
# Variants of the mel spectrogram: the one that OpenL3's weights were trained on (<= 0.3.1), the default of OpenL3 0.4,
# and its alternative with librosa before 0.9 or since.
VARIANTS: dict[str, Callable[[int], Frontend]] = {
    "kapre-0.1.4": partial(OpenL3Mel, scale="htk", padding=(982, 982), of_power=True),
    "kapre-0.3.5": partial(OpenL3Mel, scale="slaney", padding=(0, 1964)),
    "librosa": partial(OpenL3Mel, scale="slaney", padding=(1024, 1024), padding_mode="reflect"),
    "librosa-0.10": partial(OpenL3Mel, scale="slaney", padding=(1024, 1024)),
}
OPENL3_FRONTENDS: dict[str, dict[str, Callable[[], Frontend]]] = {  # input representation -> variant
    "linear": dict.fromkeys(VARIANTS, OpenL3Linear),
    "mel128": {variant: partial(mel, 128) for variant, mel in VARIANTS.items()},
    "mel256": {variant: partial(mel, 256) for variant, mel in VARIANTS.items()},
}
_EDGEL3_FFT: dict[str, Any] = {"sample_rate": 8000, "frames": 50, "hop_samples": 160, "n_fft": 1024}
EDGEL3_FRONTENDS: dict[str, dict[str, Callable[[], Frontend]]] = {
    "mel64-8khz": {"kapre-0.1.4": partial(OpenL3Mel, 64, scale="htk", padding=(432, 432), of_power=True, **_EDGEL3_FFT)}
}


def build_frontend(name: str, known: dict[str, Callable[[], Frontend]] = FRONTENDS) -> Frontend:
    """Build one of the known frontends by name; raise ValueError with the known names for others."""
    if name not in list(known):  # a list, unlike a dict, also compares what can't be hashed
        raise ValueError(f"unknown frontend {name!r}; known: {', '.join(known)}")
    return known[name]()


def openl3_frontend(input_repr: str, variant: str) -> Frontend:
    """Build a variant of one of OpenL3's spectrograms; raise ValueError with the known names for others."""
    known = OPENL3_FRONTENDS | EDGEL3_FRONTENDS
    if input_repr not in list(known):
        raise ValueError(f"unknown input_repr {input_repr!r}; known: {', '.join(known)}")
    if variant not in list(known[input_repr]):
        raise ValueError(f"unknown frontend {variant!r}; known: {', '.join(known[input_repr])}")
    return known[input_repr][variant]()
