"""Separation by the network that ships, of voices that it wasn't trained on."""

import numpy as np
from talking_faces import FACE_RATE, SOUND_RATE, decoded, held_out_faces
from videos import write_video

import openavc
from training.evaluate.metrics.separation import bss


def test_the_voice_of_the_face_is_lifted_above_another(shared, tmp_path):
    faces = held_out_faces(shared)[:12]
    gains = []
    for seen, unseen in zip(faces[:6], faces[6:], strict=True):
        (frames, own), (_, other) = decoded(seen), decoded(unseen)
        sounds = np.stack([0.05 * sound / np.sqrt(np.mean(sound**2)) for sound in (own, other)]).astype(np.float32)
        video = tmp_path / f"{seen.stem}.mkv"
        times = np.arange(len(frames)) / FACE_RATE
        write_video(video, times, clock=FACE_RATE, pictures=frames, sound=sounds.sum(axis=0), rate=SOUND_RATE)
        on_screen, off_screen, sample_rate = openavc.separate_sources(video)
        assert sample_rate == SOUND_RATE
        length = min(sounds.shape[1], len(on_screen))
        parts, sounds = np.stack([on_screen, off_screen])[:, :length], sounds[:, :length]
        mixture = np.repeat(sounds.sum(axis=0)[None], 2, axis=0)
        gains.append((bss(sounds, parts) - bss(sounds, mixture))[0, 0])  # SDR on screen
        np.testing.assert_allclose(parts.sum(axis=0), sounds.sum(axis=0), atol=0.01)
    print(f"gains {np.round(gains, 2)}, mean {np.mean(gains):.2f} dB")
    assert np.mean(gains) > 0.4  # dB
