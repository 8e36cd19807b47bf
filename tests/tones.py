"""Shards of tones, whose clips and frames can be told apart, and a recipe small enough to train on them."""

from pathlib import Path

import numpy as np
import webdataset

from training.data import Sampling, encode_clip

RATE, FRAMES, SECONDS = 24_000, 20, 4.0

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


class Contract:
    """Just the inputs a model states."""

    image_size, sample_rate, window_seconds = 16, RATE, 1.0


def jpeg(picture: np.ndarray) -> bytes:
    """An RGB picture (H, W, 3), uint8, as a file."""
    import cv2

    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def write_tones(path: Path, clips, seconds: float = SECONDS, sound_format: str = "wav", blue=128, **about) -> None:
    """A tar of clips: clip c is a tone of 200 (c + 1) Hz, its frame k has red 10 c and green 5 k.

    Blue is of one value, or of each pixel of each frame: (20, 24, 32).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(RATE * seconds)) / RATE
    times = [(k + 1) * seconds / FRAMES for k in range(FRAMES)]
    with webdataset.TarWriter(str(path)) as writer:
        for clip in clips:
            tone = 0.5 * np.sin(2 * np.pi * 200 * (clip + 1) * time)
            pictures = np.full((FRAMES, 24, 32, 3), 10 * clip, np.uint8)
            pictures[..., 1] = 5 * np.arange(FRAMES)[:, None, None]
            pictures[..., 2] = blue
            frames = [jpeg(picture) for picture in pictures]
            writer.write(encode_clip(f"clip{clip}", tone, RATE, frames, times, about, sound_format))


def pitch(waveform) -> float:
    """Of one second, in Hz."""
    return float(np.abs(np.fft.rfft(np.asarray(waveform) * np.hanning(len(waveform)))).argmax())


def clip_of_sound(waveform) -> int:
    return round(pitch(waveform) / 200) - 1


def clip_of_picture(image) -> int:
    return round(float(image[..., 0].mean()) * 255 / 10)


def plain(**options) -> Sampling:
    """Without augmentation."""
    return Sampling(brightness=0, saturation=(1, 1), gain=(1, 1), flip=False, **options)
