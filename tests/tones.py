"""Shards of tones, whose clips and frames can be told apart, and a recipe small enough to train on them."""

from pathlib import Path

import numpy as np
import webdataset
from fake_model import FakeModel

from openavc.models.contract import FramesInput, SoundInput
from training.corpora.shards import encode_clip
from training.recipe import Data, Recipe, merge, to_recipe

RATE, FRAMES, SECONDS = 24_000, 20, 4.0
FRAME_RATE = FRAMES / SECONDS  # 5 a second

RECIPE = {
    "seed": 0,
    "batch_size": 8,
    "steps": 5,
    "precision": "float32",
    "checkpoint_every": 3,
    "model": {"architecture": "ave", "widths": [4, 4, 8, 8], "frontend": "mel64", "image_size": 16, "joint_size": 8},
    "objective": {"name": "correspondence"},
    "data": {},
    "optimizer": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-5, "schedule": "constant"},
}


def recipe(**changes) -> Recipe:
    """Return RECIPE with other values; tables are merged."""
    return to_recipe(merge(RECIPE, changes))


def listener(size=16, count=1, rate=FRAME_RATE, seconds=1.0, channels=1) -> FakeModel:
    """Return a test double that takes windows of the tones, and `count` of their frames."""
    frames = FramesInput(size, size, count, rate if count > 1 else None)
    return FakeModel(SoundInput(RATE, seconds, channels), frames)


def jpeg(picture: np.ndarray) -> bytes:
    """Encode an RGB picture (H, W, 3), uint8, as a file."""
    import cv2

    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def write_tones(
    path: Path, clips, seconds: float = SECONDS, sound_format: str = "wav", blue=128, frames: int = FRAMES, **about
) -> None:
    """Write a tar of clips: clip c is a tone of 200 (c + 1) Hz, its frame k has red 10 c and green 5 k.

    Blue is one value, or has a value for each pixel of each frame: (20, 24, 32).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(RATE * seconds)) / RATE
    times = [round((k + 1) * seconds / frames, 6) for k in range(frames)]
    with webdataset.TarWriter(str(path)) as writer:
        for clip in clips:
            tone = 0.5 * np.sin(2 * np.pi * 200 * (clip + 1) * time)
            pictures = np.full((frames, 24, 32, 3), 10 * clip, np.uint8)
            pictures[..., 1] = (5 * np.arange(frames) % 256)[:, None, None]
            pictures[..., 2] = blue
            encoded = [jpeg(picture) for picture in pictures]
            writer.write(encode_clip(f"clip{clip}", tone, RATE, encoded, times, about, sound_format))


def pitch(waveform) -> float:
    """Return the pitch of one second, in Hz."""
    waveform = np.asarray(waveform).reshape(len(waveform), -1)[:, 0]
    return float(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax())


def clip_of_sound(waveform) -> int:
    return round(pitch(waveform) / 200) - 1


def clip_of_picture(image) -> int:
    return round(float(image[..., 0].mean()) * 255 / 10)


def plain(**options) -> Data:
    """Return data options without augmentation."""
    return Data(brightness=0, saturation=(1, 1), gain=(1, 1), flip=False, **options)
