"""Sound and videos of known samples and frames, written to files."""

from fractions import Fraction

import av
import cv2
import numpy as np

RATE = 8_000  # Hz, of the sound in most tests
UNEVEN = [0, 0.04, 0.2, 0.25, 1.0, 1.48]  # seconds
LAYOUTS = {1: "mono", 2: "stereo"}


def noise(samples, seed=0):
    """Return noise that 16 bits represent without rounding: (samples,) float32."""
    values = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    return np.round(values * 32768).astype(np.float32) / 32768


def tone(hertz, seconds, rate):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def greys(count, size=(32, 32)):
    """Draw pictures of one grey each, which grows by 8 from one to the next: (count, height, width, 3) uint8."""
    values = np.minimum(20 + 8 * np.arange(count), 255).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, *size, 3))


def numbers_of(means):
    """Return the numbers of `greys`, recognised by their means in [0, 1]."""
    return np.round((np.asarray(means) * 255 - 20) / 8).astype(int)


def texture(height, width):
    """Draw smooth noise, in [0, 1]."""
    rough = np.random.default_rng(0).random((height, width), dtype=np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.0)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def moving(right, down, frames=3, size=64):
    """Draw a run of a texture that moves so many pixels from one frame to the next."""
    margin = 64
    whole = texture(size + 2 * margin, size + 2 * margin)
    tops = [margin - down * k for k in range(frames)]
    lefts = [margin - right * k for k in range(frames)]
    return np.stack(
        [np.repeat(whole[top:, left:, None][:size, :size], 3, 2) for top, left in zip(tops, lefts, strict=True)]
    )


def write_sound(path, waveform, rate, codec, starts=(0,), channels="mono", container=None, picture=False):
    """Encode one stretch of sound at each of `starts` (seconds); `picture` adds one frame at 0 s."""
    with av.open(str(path), "w", format=container) as file:
        video = file.add_stream("ffv1", rate=25, width=32, height=32, pix_fmt="yuv420p") if picture else None
        stream = file.add_stream(codec, rate=rate, layout=channels)
        if video:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = 0
            file.mux([*video.encode(frame), *video.encode()])
        kind = {"fltp": "flt", "s32p": "s32"}.get(stream.format.name, "s16")  # PyAV makes of it what the codec takes
        samples = np.repeat(waveform, stream.layout.nb_channels)[None]
        if kind != "flt":
            samples = np.round(samples * 2.0 ** (int(kind[1:]) - 1)).astype(f"int{kind[1:]}")
        for start in starts:
            frame = av.AudioFrame.from_ndarray(samples, kind, channels)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def write_video(
    path,
    times,
    codec="ffv1",
    clock=1000,
    sound=None,
    rate=RATE,
    sound_start=0.0,
    size=(32, 32),
    pictures=None,
    pixels="yuv420p",
):
    """Write pictures (`greys` by default) at `times` (seconds), and sound (n,) or (n, channels) as 16-bit PCM."""
    pictures = greys(len(times), size) if pictures is None else pictures
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pixels)
        video.codec_context.time_base = Fraction(1, clock)
        if codec == "mpeg4":
            video.codec_context.qmax = 2
        samples = None if sound is None else np.round(np.reshape(sound, (len(sound), -1)) * 32768).astype(np.int16)
        layout = LAYOUTS[1 if samples is None else samples.shape[1]]
        audio = None if samples is None else file.add_stream("pcm_s16le", rate=rate, layout=layout)
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if audio:
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", layout)  # interleaved
            frame.sample_rate, frame.pts, frame.time_base = rate, round(sound_start * rate), Fraction(1, rate)
            file.mux([*audio.encode(frame), *audio.encode()])
    return path
