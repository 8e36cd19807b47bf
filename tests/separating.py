"""A separation network that computes fast, and one that separates by a rule that tests can foretell."""

import torch
from torch import nn

from openavc.models.contract import FramesInput, Separates, SoundInput

SMALL = {  # options of a separation network that computes fast
    "widths": [4, 4, 8, 8],
    "sync_widths": [4, 4, 8, 8],
    "image_size": 32,
    "frames": 8,
    "frame_rate": 16.0,
    "sample_rate": 8000,
    "window": 256,
    "hop": 64,
    "fft_size": 256,
}


class ByBrightness(Separates):
    """Takes for the sound on screen as much of each window's mixture as its frames are bright, on average.

    With white frames, that is all of it. At both ends of a window it gives nonsense, as many samples as `edge`.
    """

    source_level, blind = 0.1, False

    def __init__(self, rate=8000, seconds=0.5, count=5, edge=30):
        super().__init__(SoundInput(rate, seconds, 2), FramesInput(16, 16, count, count / seconds), {})
        self.unused = nn.Parameter(torch.zeros(1))
        self.edge, self.name, self.batches = edge, "by brightness", []

    def prepare_audio(self, samples):
        return samples

    def prepare_frames(self, frames):
        return frames if frames.is_floating_point() else frames / 255

    def to_spectrogram(self, samples):
        raise NotImplementedError

    def separate_spectrogram(self, frames, samples):
        raise NotImplementedError

    def separate(self, frames, samples):
        self.batches.append(len(frames))
        share, mixture = frames.mean(dim=(1, 2, 3, 4))[:, None], samples.mean(dim=2)
        parts = torch.stack([share * mixture, (1 - share) * mixture], dim=1)
        parts[..., : self.edge], parts[..., parts.shape[-1] - self.edge :] = 1e3, 1e3
        return parts
