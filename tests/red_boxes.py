"""A localising model whose answer is known, and its inputs: red things sound when it is loud."""

import numpy as np
import torch.nn.functional as F
from fake_model import FakeModel
from videos import RATE, write_video

from openavc.models.contract import FramesInput, SoundInput

CLICK = 1.0  # seconds
LOUD = np.ones(RATE, dtype=np.float32)
TIMES = [0, 0.04, 0.2, 0.25, 0.8, 0.9, CLICK, 1.1, 1.3, 1.9]  # seconds, of the frames of `red_clip`


def redness(frames):
    """Return the means, over 8 x 8 pixels, of how red clips of one frame are: (B, 1, h, w)."""
    pictures = frames[:, 0].movedim(-1, 1)
    return F.avg_pool2d(pictures[:, :1] * (1 - pictures[:, 1:2]), 8)


class Red(FakeModel):
    """A cell sounds by sigmoid(16 * red * loudness - 8), red being the mean of 8 x 8 pixels, loudness the peak."""

    def __init__(self):
        peak = lambda samples: samples.abs().amax(dim=1)  # noqa: E731
        super().__init__(SoundInput(RATE, 0.5), FramesInput(64, 64), hears=peak, sees=redness, name="red")

    def localize(self, frames, audio):
        return 16 * super().localize(frames, audio) - 8


def red_box(height, width, box):
    """Draw a red box (top, bottom, left, right), in parts of the sides, on black; return (picture, mask)."""
    top, bottom, left, right = (
        round(part * side) for part, side in zip(box, (height, height, width, width), strict=True)
    )
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[top:bottom, left:right] = [255, 0, 0]
    inside = np.zeros((height, width), dtype=np.uint8)
    inside[top:bottom, left:right] = 1
    return picture, inside


def click(seconds=2.0, at=CLICK):
    """Return silence with a click at a time, in seconds."""
    sound = np.zeros(round(seconds * RATE), dtype=np.float32)
    sound[round(at * RATE) - 4 : round(at * RATE) + 5] = 0.9
    return sound


def red_clip(path, times=TIMES, **more):
    """Write a video with a red box in the top left quarter of black frames."""
    picture, _ = red_box(96, 128, (0, 0.5, 0, 0.5))
    return write_video(path, times, "mpeg4", pictures=[picture] * len(times), **more)
