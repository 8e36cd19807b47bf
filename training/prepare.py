"""Real videos to WebDataset shards: frames and sound with their true times, broken files reported and left out.

    python -m training.prepare videos/ --output shards/mine
    python -m training.prepare videos/ --list balanced_train_segments.csv --format audioset --output shards/audioset

Videos are cut into clips of `--clip-seconds`. A list names which videos to take, from when to when, and their labels,
in the format in which AudioSet, Kinetics or Flickr-SoundNet publish theirs; files are found by their identifier. Each
shard is renamed when it is whole, so a killed run goes on; what could not be read is in `failed.jsonl`.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from openavc.audio import open_audio, resample_blocks
from openavc.video import EXTENSIONS, read_frames

from .data import encode_clip

VIDEOS_PER_SHARD = 20
_SHORTEST = 2  # seconds of a clip


@dataclass(frozen=True)
class Settings:
    """What is kept of each video."""

    clip_seconds: float
    frame_rate: float
    size: int  # pixels, of the shorter side
    sample_rate: int
    sound_format: str
    quality: int  # of the JPEG frames


@dataclass(frozen=True)
class Video:
    """A stretch of a video file and what a list says of it."""

    path: str
    start: float = 0.0  # seconds
    end: float | None = None  # None: to its end
    labels: tuple[str, ...] = ()


def find_videos(folder: Path) -> list[Video]:
    """All videos below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    return [Video(str(path)) for path in files]


def read_list(path: Path, kind: str, folder: Path) -> tuple[list[Video], list[str]]:
    """The videos that a published list names, and the identifiers of which there is no file.

    A file is found by a name that is the identifier, or begins with it and `_` (`ID_000030.mp4`: a cut of the original,
    which is taken whole).

    Parameters
    ----------
    path : Path
    kind : {"audioset", "kinetics", "flickr"}
        AudioSet: `YTID, start_seconds, end_seconds, "label,label"` after comment lines. Kinetics (and Kinetics-Sounds):
        `label,youtube_id,time_start,time_end,split` with a header. Flickr-SoundNet: an identifier or path a line.
    """
    whole: dict[str, Path] = {}
    cut: dict[str, Path] = {}  # by all that stands before an underscore
    for video in find_videos(folder):
        file = Path(video.path)
        whole.setdefault(file.stem, file)
        for place in (place for place, letter in enumerate(file.stem) if letter == "_"):
            cut.setdefault(file.stem[:place], file)
    found, missing = [], []
    for identifier, start, end, labels in _READERS[kind](path):
        exact = None if end is None else whole.get(f"{identifier}_{round(start):06d}_{round(end):06d}")
        if identifier in whole:
            found.append(Video(str(whole[identifier]), start, end, labels))
        elif exact or identifier in cut:
            found.append(Video(str(exact or cut[identifier]), labels=labels))
        else:
            missing.append(identifier)
    return found, missing


def _audioset(path: Path) -> Iterator[tuple]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader((line for line in file if not line.startswith("#")), skipinitialspace=True):
            if row:
                yield row[0], float(row[1]), float(row[2]), tuple(row[3].split(","))


def _kinetics(path: Path) -> Iterator[tuple]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["youtube_id"], float(row["time_start"]), float(row["time_end"]), (row.get("label") or "",)


def _flickr(path: Path) -> Iterator[tuple]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield Path(line.split(",")[0].strip()).stem, 0.0, None, ()


_READERS = {"audioset": _audioset, "kinetics": _kinetics, "flickr": _flickr}


def read_clips(video: Video, settings: Settings) -> Iterator[tuple[np.ndarray, list[bytes], list[float], float]]:
    """(waveform, JPEG frames, their times in the clip, start of the clip) of each clip of a video.

    A last stretch shorter than 2 s is left out; ValueError if nothing remains.
    """
    blocks, rate = open_audio(video.path)
    waveform = np.concatenate(list(resample_blocks(blocks, rate, settings.sample_rate)))
    end = min(len(waveform) / settings.sample_rate, video.end if video.end is not None else np.inf)
    frames: list[list[tuple[float, bytes]]] = []
    for time, frame in read_frames(video.path, settings.frame_rate):
        number = int((time - video.start) // settings.clip_seconds)
        if number < 0 or time >= end:
            continue
        while len(frames) <= number:
            frames.append([])
        frames[number].append((time, _encode(frame, settings)))
    found = False
    for number, inside in enumerate(frames):
        start = video.start + number * settings.clip_seconds
        first, last = (round(t * settings.sample_rate) for t in (start, min(start + settings.clip_seconds, end)))
        if inside and last - first >= _SHORTEST * settings.sample_rate:
            found = True
            yield waveform[first:last], [jpeg for _, jpeg in inside], [round(t - start, 6) for t, _ in inside], start
    if not found:
        raise ValueError(f"{video.path} has no {_SHORTEST} s with picture and sound")


def _encode(frame: np.ndarray, settings: Settings) -> bytes:
    import cv2

    height, width = frame.shape[:2]
    scale = settings.size / min(height, width)
    if scale < 1:
        target = (round(width * scale), round(height * scale))
        frame = cv2.resize(frame, target, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, settings.quality])[1].tobytes()


def write_shard(path: Path, first: int, videos: list[Video], settings: Settings) -> None:
    """Write the clips of some videos into one tar, and what failed beside it."""
    import webdataset

    partial, failures = path.with_name(f"{path.name}.partial"), []
    with webdataset.TarWriter(str(partial), mtime=0) as writer:
        for number, video in enumerate(videos, start=first):
            try:
                for waveform, frames, times, start in read_clips(video, settings):
                    about = {"source": Path(video.path).name, "start": start, "labels": video.labels}
                    key = f"{number:08d}-{round(start * 1000):09d}"
                    writer.write(
                        encode_clip(key, waveform, settings.sample_rate, frames, times, about, settings.sound_format)
                    )
            except (OSError, ValueError) as error:
                failures.append({"video": video.path, "reason": str(error)})
    path.with_suffix(".failed").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    os.replace(partial, path)


def _work(job: tuple[Path, int, list[Video], Settings]) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)  # one process a core does the rest
    torch.set_num_threads(1)
    write_shard(*job)


def prepare(videos: list[Video], output: Path, settings: Settings, workers: int) -> list[dict]:
    """Write all shards that are missing; returns what failed, which is also in `failed.jsonl`.

    Raises
    ------
    ValueError
        If there are no videos, or `output` holds shards of other videos or settings.
    """
    from tqdm import tqdm

    if not videos:
        raise ValueError("there are no videos to prepare")
    output.mkdir(parents=True, exist_ok=True)
    record = output / "corpus.json"
    mine = json.dumps({"settings": asdict(settings), "videos": [list(asdict(video).values()) for video in videos]})
    if record.exists() and record.read_text() != mine:
        raise ValueError(f"{output} holds shards of other videos or settings: take a new folder")
    record.write_text(mine)
    jobs = [
        (output / f"{first // VIDEOS_PER_SHARD:06d}.tar", first, videos[first : first + VIDEOS_PER_SHARD], settings)
        for first in range(0, len(videos), VIDEOS_PER_SHARD)
    ]
    missing = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor(max(1, min(workers, len(missing))), multiprocessing.get_context("spawn")) as pool:
        for _ in tqdm(pool.map(_work, missing), total=len(missing), unit="shard", disable=None):
            pass
    lines = "".join(path.with_suffix(".failed").read_text() for path, *_ in jobs)
    (output / "failed.jsonl").write_text(lines)
    return [json.loads(line) for line in lines.splitlines()]


@click.command(help=__doc__.split("\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="VIDEOS")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the shards."
)
@click.option("--list", "list_path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Which videos.")
@click.option("--format", "kind", type=click.Choice(list(_READERS)), default="audioset", help="Of the list.")
@click.option("--clip-seconds", type=click.FloatRange(min=2), default=10.0, show_default=True)
@click.option("--frame-rate", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option("--size", type=click.IntRange(min=16), default=256, show_default=True, help="Shorter side, in pixels.")
@click.option("--sample-rate", type=click.IntRange(8000, 192_000), default=48_000, show_default=True)
@click.option("--sound-format", type=click.Choice(["wav", "flac"]), default="flac", show_default=True)
@click.option("--quality", type=click.IntRange(1, 100), default=90, show_default=True, help="Of the JPEG frames.")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes; default: all cores.")
def main(folder, output, list_path, kind, clip_seconds, frame_rate, size, sample_rate, sound_format, quality, workers):
    videos, missing = (find_videos(folder), []) if list_path is None else read_list(list_path, kind, folder)
    settings = Settings(clip_seconds, frame_rate, size, sample_rate, sound_format, quality)
    try:
        failures = prepare(videos, output, settings, workers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for failure in failures:
        click.echo(f"failed: {failure['reason']}", err=True)
    click.echo(
        f"{len(videos) - len(failures)} videos done, {len(failures)} failed, {len(missing)} of the list not found; "
        f"shards in {output}"
    )
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
