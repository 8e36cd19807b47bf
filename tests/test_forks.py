"""openavc in processes that are forked off one that has used it, with two threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import torch

import openavc

rng = np.random.default_rng(0)
SOUND = rng.uniform(-0.5, 0.5, 30_000).astype(np.float32)
PICTURES = rng.integers(0, 256, (2, 240, 320, 3), np.uint8)
PICTURE = sys.argv[2] + ".png"


def audio(number):  # at another rate, so that it is resampled
    return openavc.get_audio_embedding(SOUND, 44_100, hop_size=0.5)[0]


def image(number):
    return openavc.get_image_embedding(PICTURES)


def score(number):
    return openavc.correspondence_score(SOUND, 44_100, PICTURE)


def localize(number):
    return openavc.localize_sound(PICTURE, SOUND, 44_100)


def video(number):
    return openavc.get_video_embedding(sys.argv[2], frame_rate=0.5).image


class Items(torch.utils.data.Dataset):
    def __init__(self, function):
        self.function = function

    def __len__(self):
        return 4

    def __getitem__(self, number):
        return torch.as_tensor(np.asarray(self.function(number), dtype=np.float32))


def pool(function):
    with multiprocessing.get_context("fork").Pool(2) as processes:
        return processes.map_async(function, range(4)).get(GUARD)


def executor(function):
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as processes:
        return list(processes.map(function, range(4), timeout=GUARD))


def loader(function):
    data = torch.utils.data.DataLoader(
        Items(function), batch_size=None, num_workers=2, timeout=GUARD, multiprocessing_context="fork"
    )
    return [item.numpy() for item in data]


GUARD = 60
if __name__ == "__main__":
    torch.set_num_threads(2)
    cv2.imwrite(PICTURE, np.kron(PICTURES[0], np.ones((4, 4, 1), np.uint8)))
    for function in (audio, image, score, localize, video):
        expected = function(0)
        for found in globals()[sys.argv[1]](function):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        print(function.__name__, flush=True)
"""
EXAMPLE = Path(__file__).parents[1] / "examples" / "freedoom.mp4"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
@pytest.mark.parametrize("kind", ["pool", "executor", "loader"])
def test_forked_processes_compute_what_the_first_one_did(kind, tmp_path):
    script, example = tmp_path / "program.py", tmp_path / "example.mp4"
    script.write_text(PROGRAM)
    example.write_bytes(EXAMPLE.read_bytes())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(
        [sys.executable, script, kind, example],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        done, said = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        done, said = process.communicate()
    assert done.split() == ["audio", "image", "score", "localize", "video"], said
