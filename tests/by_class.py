"""Small folders of photographs and recordings by class: a class has a colour, and a pitch."""

import csv
import wave

import cv2
import numpy as np

COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "train": (30, 30, 200)}
PITCHES = {"cat": 500, "dog": 1500, "train": 3500}  # Hz
RATE = 16_000


def write_picture(path, colour, size=(40, 30), seed=0):
    """Write noise around a colour as JPEG; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-20, 20, (size[1], size[0], 3))
    cv2.imwrite(str(path), (np.array(colour) + noise).clip(0, 255).astype(np.uint8)[..., ::-1])
    return path


def tone(pitch, seconds, rate=RATE, level=0.3):
    return level * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def write_sound(path, samples, rate=RATE):
    """Write samples in [-1, 1], (n,) or (n, channels), as WAV of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = samples.reshape(len(samples), -1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(32767 * samples).astype("<i2").tobytes())
    return path


def write_classes(folder, pictures=6, recordings=4, seconds=1.5):
    """Write PICTURES and SOUNDS of three classes, and corpus.csv; return their paths."""
    rows = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for k in range(pictures):
            path = write_picture(folder / "PICTURES" / name / f"{name}{k}.jpg", colour, seed=10 * number + k)
            rows.append((path, "one/photos" if k % 2 else "two/photos", f"{name}/{k}.jpg"))
        for k in range(recordings):
            path = write_sound(folder / "SOUNDS" / name / f"{name}{k}.wav", tone(PITCHES[name] + 20 * k, seconds))
            rows.append((path, "one/sounds" if k % 2 else "two/sounds", f"audio/{name}{k}.wav"))
    with open(folder / "corpus.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "repository", "path", "group"])
        for path, repository, given in rows:
            table.writerow([path.relative_to(folder), repository, given, "things" if "train" in given else "animals"])
    return folder / "PICTURES", folder / "SOUNDS", folder / "corpus.csv"
