"""A red thing that whistles and a blue one that hums, and networks that know both."""

import numpy as np
import torch
from fake_model import FakeModel
from torch import nn

from openavc.models.contract import FramesInput, LocalizesInTime, SoundInput
from openavc.models.frontends import build_frontend

RATE, HEIGHT, WIDTH = 24_000, 120, 160
FRAME_RATE = 10  # of clips
KINDS = {"Red": (0, 6000), "Blue": (2, 150)}  # colour's channel, and the sound's pitch in Hz


class Cells(nn.Module):
    """Computes how red and how blue 8 x 8 pixels are, above one half: (B, 2, h, w); random if `blind`."""

    def __init__(self, blind):
        super().__init__()
        self.blind = blind

    def forward(self, frames):
        if self.blind:
            return torch.rand(len(frames), 2, frames.shape[2] // 8, frames.shape[3] // 8)
        pictures = 2 * frames[:, 0].movedim(-1, 1) - 1
        return nn.functional.avg_pool2d(pictures, 8)[:, [0, 2]].relu()


class Halves(nn.Module):
    """Tells whether a sound is high or low: (B, 2); both if `deaf`."""

    def __init__(self, deaf):
        super().__init__()
        self.frontend, self.deaf = build_frontend("mel64"), deaf

    def forward(self, samples):
        spectrogram = self.frontend(samples[..., 0])
        halves = torch.stack([spectrogram[:, 32:].mean((1, 2)), spectrogram[:, :32].mean((1, 2))], dim=1)
        return torch.ones(len(halves), 2) if self.deaf else nn.functional.one_hot(halves.argmax(1), 2).float()


class Oracle(FakeModel):
    """Knows both things: cells are represented by their red and blue, sounds by whether they are high or low."""

    def __init__(self, deaf=False, blind=False):
        cells = Cells(blind)
        super().__init__(SoundInput(RATE, 1.0), FramesInput(72, 96), hears=Halves(deaf), sees=cells)
        self.image_tower = cells


class KnowsBoth(LocalizesInTime):
    """Its activations are negative where a thing is red and the sound is high, or blue and low; all of them if deaf."""

    map_stride, map_times = 8, 5

    def __init__(self, deaf=False):
        super().__init__(SoundInput(RATE, 1.0), FramesInput(72, 96, 10, FRAME_RATE), {})
        self.unused, self.cells, self.hears = nn.Parameter(torch.zeros(1)), Cells(False), Halves(deaf)

    def prepare_audio(self, samples):
        return samples

    def prepare_frames(self, frames):
        return frames

    def represent_audio(self, spectrogram):
        return self.hears(spectrogram) * (spectrogram.abs().amax(dim=(1, 2)) > 0)[:, None]

    def represent_frames(self, frames):
        rows = [self.cells(pair.mean(dim=1, keepdim=True)) for pair in frames.split(2, dim=1)]
        return torch.stack(rows, dim=1)  # (B, 5, 2, h, w)

    def activation_maps(self, frames, audio):
        return -torch.einsum("btdhw,bd->bthw", frames, audio)

    def compare(self, frames, audio):
        z = self.activation_maps(frames, audio).mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(z), z], dim=1)


def draw(boxes):
    """Draw a black picture with a coloured box of each kind."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for kind, (x, y, width, height) in boxes.items():
        rows = slice(round(y * HEIGHT), round((y + height) * HEIGHT))
        picture[rows, round(x * WIDTH) : round((x + width) * WIDTH), KINDS[kind][0]] = 250
    return picture


def tone(kind, seconds=3.0):
    return 0.5 * np.sin(2 * np.pi * KINDS[kind][1] * np.arange(round(RATE * seconds)) / RATE)
