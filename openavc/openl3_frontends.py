"""OpenL3's spectrograms: three kinds, each in the variants that its releases have had.

All take one second at 48 kHz with a periodic Hann window and a hop of 242 samples, and end in decibels below the
window's maximum, 80 at most, so that loudness is not in them. 10 log10 is taken of a magnitude, on purpose: 80 "dB"
are 160, less than float32 rounding leaves of a bin without energy, so everything here is computed in float64. EdgeL3's,
at 8 kHz, is the first variant in the small.
"""

from __future__ import annotations

from functools import partial

from .audio import Frontend, mel_filter_bank, stft_power

_RATE, _HOP = 48_000, 242  # Hz, samples
_MEL_FFT = 2048  # samples; 512 for "linear"


def _linear(waveforms):
    """Magnitudes of a 512-point transform, not padded; the same in all variants."""
    return _decibels(stft_power(waveforms.double(), 512, _HOP, 512).sqrt())


def _mel_kapre_014(waveforms, bands: int):
    """HTK bands of the power, then the root; zeros on both sides. What OpenL3's weights were trained on (<= 0.3.1)."""
    power = _mel_power(waveforms, 982, 982)
    return _decibels((_filters(bands, "htk", power) @ power).sqrt())


def _mel_kapre_035(waveforms, bands: int):
    """Slaney bands of the magnitude; zeros at the end alone. The default of OpenL3 0.4."""
    power = _mel_power(waveforms, 0, 1964)
    return _decibels(_filters(bands, "slaney", power) @ power.sqrt())


def _mel_librosa(waveforms, bands: int):
    """Slaney bands of the magnitude; mirrored at both ends. OpenL3 0.4 with librosa before 0.9."""
    power = _mel_power(waveforms, 1024, 1024, mode="reflect")
    return _decibels(_filters(bands, "slaney", power) @ power.sqrt())


def _mel_librosa_010(waveforms, bands: int):
    """The same, with zeros at both ends: librosa 0.9 and later."""
    power = _mel_power(waveforms, 1024, 1024)
    return _decibels(_filters(bands, "slaney", power) @ power.sqrt())


def _mel_edgel3(waveforms):
    """64 HTK bands at 8 kHz, otherwise as `_mel_kapre_014`: what EdgeL3's SEA models hear."""
    import torch.nn.functional as F

    power = stft_power(F.pad(waveforms.double(), (432, 432)), 1024, 160, 1024)
    return _decibels((_filters(64, "htk", power, 8000, 1024) @ power).sqrt())


def _mel_power(waveforms, before: int, after: int, mode: str = "constant"):
    import torch.nn.functional as F

    return stft_power(F.pad(waveforms.double(), (before, after), mode=mode), _MEL_FFT, _HOP, _MEL_FFT)


def _filters(bands: int, scale: str, power, rate: int = _RATE, n_fft: int = _MEL_FFT):
    """Mel filters of area 1 up to half the rate, beside `power` in device and dtype."""
    import torch

    filters = mel_filter_bank(rate, n_fft, bands, 0.0, rate / 2, scale=scale, equal_area=True)
    return torch.from_numpy(filters).to(power)


def _decibels(magnitude):
    """(B, bins, frames) in [-80, 0], float32."""
    level = 10 * magnitude.clamp(min=1e-10).log10()
    return (level - level.amax(dim=(1, 2), keepdim=True)).clamp(min=-80).float()


def _frontend(shape: tuple[int, int], spectrogram) -> Frontend:
    return Frontend(_RATE, 1.0, shape, _HOP, spectrogram, dtype="float64")


VARIANTS = {
    "kapre-0.1.4": _mel_kapre_014,
    "kapre-0.3.5": _mel_kapre_035,
    "librosa": _mel_librosa,
    "librosa-0.10": _mel_librosa_010,
}
OPENL3_FRONTENDS = {  # input representation -> variant
    "linear": dict.fromkeys(VARIANTS, _frontend((257, 197), _linear))
} | {
    f"mel{bands}": {
        variant: _frontend((bands, 199), partial(spectrogram, bands=bands)) for variant, spectrogram in VARIANTS.items()
    }
    for bands in (128, 256)
}

EDGEL3_FRONTENDS = {"mel64-8khz": {"kapre-0.1.4": Frontend(8000, 1.0, (64, 50), 160, _mel_edgel3, dtype="float64")}}


def openl3_frontend(input_repr: str, variant: str) -> Frontend:
    """The spectrogram of a representation in a variant; ValueError with those that there are."""
    known = OPENL3_FRONTENDS | EDGEL3_FRONTENDS
    if input_repr not in known:
        raise ValueError(f"unknown input_repr {input_repr!r}; known: {', '.join(known)}")
    if variant not in known[input_repr]:
        raise ValueError(f"unknown frontend {variant!r}; known: {', '.join(known[input_repr])}")
    return known[input_repr][variant]
