"""Videos of flashes and bursts of sound at random times, and a network that tells whether they come together."""

import numpy as np
import torch
from torch import nn
from videos import write_video

from openavc.models.contract import FramesInput, SoundInput, Synchronizes

RATE, FRAME_RATE, PERIOD = 8_000, 25, 320  # Hz, frames a second, samples a frame


class FlashNet(Synchronizes):
    """Correlates the brightness of frames with the loudness of the sound at each of them."""

    def __init__(self, evidence=1.0):
        frames = FramesInput(16, 16, count=32, rate=FRAME_RATE)
        super().__init__(SoundInput(RATE, 32 / FRAME_RATE, channels=2), frames, {})
        self.unused = nn.Parameter(torch.zeros(1))
        self.evidence, self.name = evidence, "flash-net"

    def prepare_audio(self, samples):
        return samples.float()

    def prepare_frames(self, frames):
        return frames.float() / (1 if frames.is_floating_point() else 255)

    def represent_audio(self, spectrogram):
        loud = spectrogram.square().mean(dim=2).unflatten(1, (32, PERIOD)).mean(dim=2)
        return self.standard(loud)

    def represent_frames(self, frames):
        return self.standard(frames.mean(dim=(2, 3, 4)))

    def standard(self, rows):
        rows = rows - rows.mean(dim=1, keepdim=True)
        return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-6)

    def compare(self, frames, audio):
        correlation = (frames * audio).sum(dim=1)
        return torch.stack([torch.zeros_like(correlation), 10 * (correlation - 0.5)], dim=1)


def events(seconds, seed=0):
    """Draw which frames flash: (frames,) bool, about three a second."""
    return np.random.default_rng(seed).random(round(seconds * FRAME_RATE)) < 0.12


def bursts(flashing, late=0.0, length=None, seed=1):
    """Make noise that is loud while frames flash, `late` seconds after them: (n,)."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, len(flashing) * PERIOD)
    loud = np.repeat(np.where(flashing, 1.0, 0.02), PERIOD)
    shift = round(late * RATE)
    heard = np.roll(noise * loud, shift)
    if shift > 0:
        heard[:shift] = 0.02 * noise[:shift]
    elif shift < 0:
        heard[shift:] = 0.02 * noise[shift:]
    return heard[:length].astype(np.float32)


def write_flashes(path, flashing, sound, frame_rate=FRAME_RATE, still=False):
    """Write frames that are bright or dark, `frame_rate` of them a second, each shown for its share of the events."""
    times = np.arange(round(len(flashing) / FRAME_RATE * frame_rate)) / frame_rate
    shown = flashing[np.minimum((times * FRAME_RATE + 1e-6).astype(int), len(flashing) - 1)]
    levels = np.where(shown & (not still), 220, 30).astype(np.uint8)
    pictures = np.broadcast_to(levels[:, None, None, None], (len(times), 32, 32, 3))
    return write_video(path, times, pictures=pictures, sound=sound, rate=RATE, clock=30_000)
