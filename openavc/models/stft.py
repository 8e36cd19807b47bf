"""Spectrograms with phase, as numbers from -1 to 1, and the way back to waveforms (Owens & Efros, ECCV 2018, 3.4).

A spectrogram is a map (B, 2, bins, times) of magnitudes, in dB from -100 to 80, and of phases, divided by pi. It lacks
the highest bin, so that the number of bins is even.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUIETEST, LOUDEST = -100.0, 80.0  # dB, of a bin; they become -1 and 1
_LEAST = 10 ** (QUIETEST / 20)  # magnitude
_LEAST_WEIGHT = 1e-4  # where windows overlap in less, at both ends, waveforms fade out


def masked(spectrogram: Tensor, logarithms: Tensor) -> Tensor:
    """Take shares of a spectrogram (B, 2, bins, times), given as natural logarithms (B, parts, 1, bins, times).

    Returns
    -------
    parts : Tensor, shape (B, parts, 2, bins, times)
        With the phase of the whole.
    """
    level, phase = spectrogram[:, None].split(1, dim=2)
    quieter = level + logarithms * (20 / math.log(10)) * 2 / (LOUDEST - QUIETEST)
    return torch.cat([quieter.clamp(min=-1), phase.expand_as(quieter)], dim=2)


class STFT(nn.Module):
    """Turns mono waveforms of a fixed length into spectrograms with phase, and back; nothing is padded.

    Parameters
    ----------
    samples : int
        Length of the waveforms.
    window : int
        Samples of the Hann window; the paper's are 64 ms.
    hop : int
        Samples from one window to the next; the paper's are 16 ms.
    size : int
        Of the Fourier transform, even; windows are filled up with zeros.

    Raises
    ------
    ValueError
        If these can't work together.
    """

    def __init__(self, samples: int, window: int, hop: int, size: int):
        super().__init__()
        if not (0 < hop <= window // 2 and window <= min(size, samples) and size % 2 == 0):
            raise ValueError(
                "a window must be at least two hops long, and at most as long as the sound and as the Fourier "
                f"transform, which is even; got a window of {window}, a hop of {hop}, {samples} samples and {size}"
            )
        self.samples, self.hop, self.size = samples, hop, size
        self.bins, self.times = size // 2, 1 + (samples - window) // hop
        # Made on the CPU: for shapes alone, on the device "meta", PyTorch would import its compiler.
        hann = torch.hann_window(window, device="cpu").to(torch.empty(0).device)
        self.register_buffer("window", hann, persistent=False)
        self.window: Tensor

    @property
    def edge(self) -> int:
        """Samples at both ends that few windows cover, and that `invert` therefore lets fade out."""
        return self.hop + (self.samples - len(self.window)) % self.hop

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn waveforms (B, samples) into spectrograms (B, 2, bins, times)."""
        spectrum = self._spectrum(waveform)[:, :-1]
        decibels = 20 * spectrum.abs().clamp(min=_LEAST).log10()
        return torch.stack([2 * (decibels - QUIETEST) / (LOUDEST - QUIETEST) - 1, spectrum.angle() / math.pi], dim=1)

    def invert(self, spectrogram: Tensor, mixture: Tensor, own_phase: bool = True) -> Tensor:
        """Turn spectrograms back into waveforms.

        Parameters
        ----------
        spectrogram : Tensor, shape (B, 2, bins, times)
        mixture : Tensor, shape (B, samples)
            Its phase is the highest bin's, at -100 dB.
        own_phase : bool
            Whether the other bins have the spectrogram's phase, not the mixture's.

        Returns
        -------
        waveform : Tensor, shape (B, samples)
            As the spectrogram was made from, except that `edge` samples at both ends fade out.
        """
        level, phase = spectrogram.float().unbind(dim=1)
        magnitude = 10 ** (((level + 1) / 2 * (LOUDEST - QUIETEST) + QUIETEST) / 20)
        magnitude = F.pad(magnitude, (0, 0, 0, 1), value=_LEAST)  # the highest bin
        of_mixture = self._spectrum(mixture).angle()
        phases = torch.cat([math.pi * phase, of_mixture[:, -1:]], dim=1) if own_phase else of_mixture
        window = self.window.float()
        frames = torch.fft.irfft(torch.polar(magnitude, phases), n=self.size, dim=1)[:, : len(window)]
        return self._overlapped(frames * window[:, None]) / self._weights()

    def _spectrum(self, waveform: Tensor) -> Tensor:
        """Transform (B, samples) into complex (B, bins + 1, times)."""
        frames = waveform.float().unfold(1, len(self.window), self.hop)  # (B, times, window)
        return torch.fft.rfft(frames * self.window.float(), n=self.size).transpose(1, 2)

    def _weights(self) -> Tensor:
        """Return by how much the windows weigh each sample, on the way there and back: (1, samples)."""
        squares = self.window.float().square()[None, :, None].expand(1, -1, self.times)
        return self._overlapped(squares).clamp(min=_LEAST_WEIGHT)

    def _overlapped(self, frames: Tensor) -> Tensor:
        """Add frames (B, window, times) up where they overlap: (B, samples)."""
        covered = (self.times - 1) * self.hop + len(self.window)
        added = F.fold(frames, (1, covered), (1, len(self.window)), stride=(1, self.hop))[:, 0, 0]
        return F.pad(added, (0, self.samples - covered))
