"""Localisation by the network of sync that ships: which of several talking faces, side by side, is heard."""

import numpy as np
import pytest
from talking_faces import FACE_RATE, SOUND_RATE, decoded, held_out_faces
from videos import write_video

import openavc
from openavc.media.image import resize

HEIGHT, WIDTH = 144, 180  # of a face, in pixels


@pytest.fixture(scope="module")
def clips(shared):
    return [decoded(path) for path in held_out_faces(shared)[:9]]


def in_a_row(clips, heard, path):
    """Write clips of 3 s side by side, with the sound of one of them."""
    tiles = [np.stack([resize(frame / 255, HEIGHT, WIDTH) for frame in frames]) for frames, _ in clips]
    pictures = (255 * np.concatenate(tiles, axis=2)).round().astype(np.uint8)
    times = np.arange(len(pictures)) / FACE_RATE
    sound = clips[heard][1]
    return write_video(path, times, codec="mpeg4", clock=FACE_RATE, pictures=pictures, sound=sound, rate=SOUND_RATE)


def test_the_face_that_is_heard_is_found_among_three(clips, tmp_path):
    found = []
    for first in (0, 3, 6):
        row = clips[first : first + 3]
        for heard in range(3):
            path = in_a_row(row, heard, tmp_path / f"{first}-{heard}.mkv")
            maps = [heatmap for _, _, heatmap in openavc.localize_video(path, "multisensory-small", frame_rate=5)]
            of_faces = np.mean(maps, axis=0).reshape(HEIGHT, 3, WIDTH).mean(axis=(0, 2))
            found.append(of_faces.argmax() == heard)
    assert sum(found) >= 8
