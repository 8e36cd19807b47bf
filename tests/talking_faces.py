"""Clips of a talking face that the networks which ship weren't trained on, of the shared data."""

import av
import numpy as np

FACE_RATE, SOUND_RATE = 25, 24_000  # frames a second, Hz


def held_out_faces(shared):
    """Return clips of 3 s of the speaker s1: the last 50, which no network was trained on."""
    return sorted((shared / "data/grid/s1").glob("*.mp4"))[-50:]


def decoded(path):
    """Return a clip's frames (75, H, W, 3) and its sound (72000,), both from time 0."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    resampler, sound = av.AudioResampler("flt", "mono", SOUND_RATE), []
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            sound += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    waveform = np.concatenate(sound)[: 3 * SOUND_RATE]
    return np.stack(frames)[:75], np.pad(waveform, (0, 3 * SOUND_RATE - len(waveform)))
