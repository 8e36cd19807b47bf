"""Videos of bright spots, and a network whose activations are known: brightness times loudness, there and then."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from videos import write_video

from openavc.models.contract import FramesInput, LocalizesInTime, SoundInput

RATE, FRAME_RATE, CELL = 8_000, 25, 8  # Hz, frames a second, pixels
ROWS, COLUMNS = 9, 12  # cells of pictures that the network sees as they are: 72 = round(64 * 256 / 224 / 8) * 8
STRETCH = 4  # frames that a map is of
PERIOD = RATE // FRAME_RATE  # samples a frame


class SpotNet(LocalizesInTime):
    """Its activations are minus the mean brightness of 8 x 8 pixels times the mean of |samples| meanwhile."""

    map_stride = CELL

    def __init__(self, count=16):
        sound, frames = SoundInput(RATE, count / FRAME_RATE, 2), FramesInput(64, 64, count, FRAME_RATE)
        super().__init__(sound, frames, {})
        self.unused = nn.Parameter(torch.zeros(1))
        self.name, self.map_times = "spot-net", count // STRETCH

    def prepare_audio(self, samples):
        return samples

    def prepare_frames(self, frames):
        return frames.float() / (1 if frames.is_floating_point() else 255)

    def represent_audio(self, spectrogram):
        return spectrogram.abs().mean(dim=2).unflatten(1, (self.map_times, -1)).mean(dim=2)

    def represent_frames(self, frames):
        return F.avg_pool3d(frames.mean(dim=4)[:, None], (STRETCH, CELL, CELL))[:, 0]

    def activation_maps(self, frames, audio):
        return -frames * audio[..., None, None]

    def compare(self, frames, audio):
        z = self.activation_maps(frames, audio).mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(z), z], dim=1)


def spots(places, brightness=200):
    """Draw frames that are black but for the cell (row, column) of each: (frames, 72, 96, 3) uint8."""
    pictures = np.zeros((len(places), ROWS * CELL, COLUMNS * CELL, 3), np.uint8)
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = brightness
    return pictures


def steady(levels):
    """Make a sound that is as loud as given during each frame: (n,) float32."""
    signs = np.where(np.arange(len(levels) * PERIOD) % 2, 1, -1)
    return (np.repeat(levels, PERIOD) * signs).astype(np.float32)


def write_spots(path, pictures, sound):
    """Write frames without loss, and their sound."""
    times = np.arange(len(pictures)) / FRAME_RATE
    return write_video(path, times, pictures=pictures, sound=sound, rate=RATE, pixels="bgr0")


def cells(pictures):
    """Return the brightness of each cell, in [0, 1]: (frames, 9, 12)."""
    return pictures.reshape(len(pictures), ROWS, CELL, COLUMNS, CELL, 3).mean(axis=(2, 4, 5)) / 255


def between_stretches(values):
    """Average values (frames, ...) over stretches and interpolate the means linearly to the frames again."""
    means = values.reshape(-1, STRETCH, *values.shape[1:]).mean(axis=1)
    middles = (np.arange(len(means)) + 0.5) * STRETCH - 0.5
    flat = means.reshape(len(means), -1)
    rows = [np.interp(np.arange(len(values)), middles, column) for column in flat.T]
    return np.stack(rows, axis=1).reshape(values.shape)
