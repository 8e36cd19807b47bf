"""Files read by openavc beside PyAV's and Pillow's own plain decoding; each that differs is printed with what does.

    python benchmarks/formats.py ../shared/data/clips ../shared/data/odd

Plain decoding takes every frame of the first stream as it comes, with the times that it states, and knows nothing of
damage, gaps or orientation. So a difference isn't a fault: docs/formats.md says what is done on purpose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import click
import numpy as np
from PIL import Image, UnidentifiedImageError

from openavc.media import image, video
from openavc.media.audio import SOUND_EXTENSIONS, read_audio
from openavc.media.resample import resample

LONGEST_DIFFERENCE = 0.05  # seconds, less than which lengths needn't agree
LEAST_CORRELATION = 0.999
ROUNDING = 0.0015  # seconds
LEAST_PIXELS = 1 / 255  # mean difference of colours


def plain_sound(path: Path) -> tuple[np.ndarray, int]:
    """Decode the first sound stream, from the start of the file: mono samples and rate."""
    with av.open(f"file:{path}") as container:
        streams = [stream for stream in container.streams.audio if stream.codec_context]
        stream = streams[0]
        rate, start = stream.codec_context.sample_rate, (container.start_time or 0) / av.time_base
        resampler = av.AudioResampler(format="flt")
        blocks: list[np.ndarray] = []
        for frame in container.decode(stream):
            if not blocks and frame.time is not None:
                blocks.append(np.zeros(max(0, round((frame.time - start) * rate))))
            for converted in resampler.resample(frame):
                blocks.append(converted.to_ndarray().reshape(-1, converted.layout.nb_channels).mean(axis=1))
        return np.concatenate([*blocks, np.zeros(0)]), rate


def plain_times(path: Path) -> np.ndarray:
    """Decode the first picture stream: the times of its frames, from the start of the file."""
    with av.open(f"file:{path}") as container:
        start = (container.start_time or 0) / av.time_base
        return np.array([frame.time - start for frame in container.decode(video=0)])


def plain_picture(path: Path) -> np.ndarray:
    """Decode a picture: RGB in [0, 1]."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"), dtype=np.float32) / 255


def sound_differences(path: Path, plain: tuple[np.ndarray, int]) -> Iterator[str]:
    """Compare rate, length and samples of a file's sound."""
    expected, expected_rate = plain
    samples, rate = read_audio(path)
    found = samples.mean(axis=1)
    if rate != expected_rate:
        yield f"rate {rate} Hz, plainly {expected_rate} Hz"
        found = resample(found[:, None], rate, expected_rate)[:, 0]
    seconds, expected_seconds = len(found) / expected_rate, len(expected) / expected_rate
    if abs(seconds - expected_seconds) > LONGEST_DIFFERENCE:
        yield f"{seconds:.2f} s of sound, plainly {expected_seconds:.2f} s"
    common = min(len(found), len(expected))
    if not common:
        return
    correlation = best_correlation(found[:common], expected[:common], expected_rate)
    if not correlation >= LEAST_CORRELATION:
        yield f"correlation {correlation:.4f}"


def best_correlation(one: np.ndarray, other: np.ndarray, rate: int) -> float:
    """Correlate two signals at the best shift of up to 0.1 s; 1 if both are silent."""
    if not one.any() and not other.any():
        return 1.0
    size = 2 ** int(np.ceil(np.log2(2 * len(one))))
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    farthest = rate // 10
    near = np.concatenate([product[: farthest + 1], product[-farthest:]])
    return float(near.max() / np.sqrt(np.square(one).sum() * np.square(other).sum()))


def frame_differences(path: Path, expected: np.ndarray) -> Iterator[str]:
    """Compare number and times of a video's frames."""
    found = np.array([time for time, _ in video.read_frames(path, size=(16, 16))])
    if len(found) != len(expected):
        yield f"{len(found)} frames, plainly {len(expected)}"
    elif (farthest := np.abs(found - expected).max()) > ROUNDING:
        yield f"times of frames differ by up to {farthest:.3f} s"


def picture_differences(path: Path, expected: np.ndarray) -> Iterator[str]:
    """Compare a picture's size and colours."""
    found = image.read_image(path)
    if found.shape != expected.shape:
        yield f"{found.shape[1]} x {found.shape[0]} pixels, plainly {expected.shape[1]} x {expected.shape[0]}"
    elif (mean := np.abs(found - expected).mean()) > LEAST_PIXELS:
        yield f"colours differ by {255 * mean:.1f} of 255"


def differences(path: Path) -> Iterator[str]:
    """Compare everything that a file holds."""
    ending = path.suffix.lower()
    comparisons: list[tuple[Callable, Callable]] = []
    if ending in image.EXTENSIONS:
        comparisons.append((plain_picture, picture_differences))
    if ending in SOUND_EXTENSIONS | video.EXTENSIONS:
        comparisons.append((plain_sound, sound_differences))
    if ending in video.EXTENSIONS:
        comparisons.append((plain_times, frame_differences))
    for decode, compare in comparisons:
        try:
            expected = decode(path)
        except IndexError:  # no stream of that kind
            continue
        except (av.FFmpegError, UnidentifiedImageError, ValueError) as error:
            yield f"plainly not decoded: {type(error).__name__}"
            continue
        try:
            yield from compare(path, expected)
        except (OSError, ValueError) as error:
            yield f"refused: {' '.join(str(error).split())}"


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--leave-out", multiple=True, help="Names of files that end their decoder.")
def main(folders, leave_out):
    warnings.simplefilter("ignore")
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    known = image.EXTENSIONS | SOUND_EXTENSIONS | video.EXTENSIONS
    compared = [path for path in paths if path.suffix.lower() in known and path.name not in leave_out]
    differing = 0
    for path in compared:
        if found := list(differences(path)):
            differing += 1
            print(f"{path.name}: {'; '.join(found)}")
    print(f"{differing} of {len(compared)} files differ")


if __name__ == "__main__":
    main()
