"""Real videos to WebDataset shards: frames and sound with their true times, broken files reported and left out.

    python -m training.prepare videos/ --output shards/mine --held 0.1
    python -m training.prepare videos/ --list balanced_train_segments.csv --format audioset --output shards/audioset

Videos are cut into clips of `--clip-seconds`. A list names which videos to take, from when to when, and their labels,
in the format in which AudioSet, Kinetics or Flickr-SoundNet publish theirs; files are found by their identifier. Each
shard is renamed when it is whole, so a killed run goes on; what could not be read is in `failed.jsonl`.

`--held` puts that share of the videos into OUTPUT/held and the others into OUTPUT/train (Objects that Sound validates
on 10 % of its training list). A video falls on the same side whatever else is in the list, and so do all its cuts.
Each folder's `corpus.json` tells how many videos it was made of, and how; a training keeps it in its configuration.

A frame is kept with its true presentation time. `--frame-rate` chooses the first frame at or after each multiple of its
period and moves none: at 25, a video of 29.97 frames a second gives times that lie up to 33 ms after the 0.04 s grid.
Where a paper wants one (Objects that Sound: sound at multiples of 0.04 s, in positive and negative pairs alike), the
`grid` of training.data's sampling rounds the middle of the sound, at most half a period from the frame it belongs to.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from openavc.audio import open_audio, resample_blocks
from openavc.video import EXTENSIONS, read_frames

from .checkpoint import write_whole
from .data import encode_clip

VIDEOS_PER_SHARD = 20
_SHORTEST = 2  # seconds of a clip
_MOST_DEATHS = 2  # of workers at one video, which is then left out
# ID_000010_000020; where ID is YouTube's, also ID_10.000_20.000 (seconds), ID_10000_20000 (milliseconds) or ID_10: a
# shorter clip_000010 is more likely a video's own number
_CUT = re.compile(r"(.+)_\d{6}_\d{6}|([A-Za-z0-9_-]{11})(_\d+(\.\d+)?){0,2}")


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
    identifier: str = ""  # what it shares with other cuts of one video; by default, what its file's name tells

    @property
    def source(self) -> str:
        return self.identifier or identify(Path(self.path).stem)


def identify(name: str) -> str:
    """The identifier of the video that a file is of or was cut from, given its name or path without the extension.

    Cuts named as the published downloaders do share the identifier `ID`, whatever folder they are in: an ID of any
    length with two numbers of six digits (`ID_000010_000020`), or YouTube's 11 characters with one or two numbers of
    any form (`ID_10`, `ID_10_20`, `ID_10000_20000`, `ID_10.000_20.000`). Any other name is its own identifier.
    """
    cut = _CUT.fullmatch(name.rpartition("/")[2])
    return (cut[1] or cut[2]) if cut else name


def find_videos(folder: Path) -> list[Video]:
    """All videos below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in files)
    return [Video(str(path), identifier=identify(name)) for path, name in zip(files, names, strict=True)]


def is_held(source: str, share: float) -> bool:
    """Whether a video is among the held-out share, by its identifier alone; a larger share only adds to a smaller."""
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


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
            found.append(Video(str(whole[identifier]), start, end, labels, identify(identifier)))
        elif exact or identifier in cut:
            found.append(Video(str(exact or cut[identifier]), labels=labels, identifier=identify(identifier)))
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


class _Sound:
    """A stream of sound, read forwards: holds no more than the samples asked for and the last block."""

    def __init__(self, blocks: Iterator[np.ndarray]):
        self.blocks = blocks
        self.held: deque[np.ndarray] = deque()
        self.first = 0  # position of the first sample held
        self.last = 0  # position after the last sample read
        self.ended = False

    def read(self, first: int, last: int) -> np.ndarray:
        """Samples `first` to `last`, fewer where the sound ends before; `first` is not before an earlier one."""
        while self.last < last and not self.ended:
            block = next(self.blocks, None)
            self.ended = block is None
            if not self.ended:
                self.held.append(block)
                self.last += len(block)
            while self.held and self.first + len(self.held[0]) <= first:
                self.first += len(self.held.popleft())
        return np.concatenate([*self.held, np.empty(0, np.float32)])[max(0, first - self.first) : last - self.first]


def read_clips(video: Video, settings: Settings) -> Iterator[tuple[np.ndarray, list[bytes], list[float], float]]:
    """(waveform, JPEG frames, their times in the clip, start of the clip) of each clip of a video.

    Picture and sound are decoded side by side, so that memory is that of one clip. A last stretch shorter than 2 s is
    left out; ValueError if nothing remains.
    """
    blocks, rate = open_audio(video.path)
    sound = _Sound(resample_blocks(blocks, rate, settings.sample_rate))
    end = np.inf if video.end is None else video.end  # of picture and sound, as far as known
    found = False
    timed = read_frames(video.path, settings.frame_rate)
    for number, inside in itertools.groupby(timed, lambda pair: int((pair[0] - video.start) // settings.clip_seconds)):
        start = video.start + number * settings.clip_seconds
        if start >= end:
            break
        if number < 0:
            continue
        frames = [(time, _encode(frame, settings)) for time, frame in inside if time < end]
        first, last = (round(t * settings.sample_rate) for t in (start, min(start + settings.clip_seconds, end)))
        waveform = sound.read(first, last + 1)[: last - first]  # one sample more tells whether there is more
        if sound.ended:
            end = min(end, sound.last / settings.sample_rate)
        frames = [(time, jpeg) for time, jpeg in frames if time < end]
        if frames and len(waveform) >= _SHORTEST * settings.sample_rate:
            found = True
            yield waveform, [jpeg for _, jpeg in frames], [round(t - start, 6) for t, _ in frames], start
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
    """Write the clips of some videos into one tar, and what failed beside it.

    While it works, `.reading` names the video that it is at; at those that `.died` names twice, it doesn't try again.
    """
    import webdataset

    partial, failures = path.with_name(f"{path.name}.partial"), []
    reading, deaths = path.with_suffix(".reading"), _lines(path.with_suffix(".died"))
    with webdataset.TarWriter(str(partial), mtime=0) as writer:
        for number, video in enumerate(videos, start=first):
            if deaths.count(video.path) >= _MOST_DEATHS:
                reason = f"{video.path}: the process that read it died, {_MOST_DEATHS} times (killed, or out of memory)"
                failures.append({"video": video.path, "reason": reason, "clips": 0})
                continue
            reading.write_text(json.dumps(video.path) + "\n")
            for waveform, frames, times, start in _readable(video, settings, failures):
                about = {"source": video.source, "start": start, "labels": video.labels}
                key = f"{number:08d}-{round(start * 1000):09d}"
                writer.write(
                    encode_clip(key, waveform, settings.sample_rate, frames, times, about, settings.sound_format)
                )
    path.with_suffix(".failed").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    os.replace(partial, path)
    reading.unlink(missing_ok=True)


def _readable(video: Video, settings: Settings, failures: list[dict]) -> Iterator[tuple]:
    """The clips of a video up to where it can't be read, which is added to `failures`."""
    clips = 0
    try:
        for clip in read_clips(video, settings):
            yield clip
            clips += 1
    except Exception as error:  # whatever a decoder raises on one video, the others go on
        reason = str(error) or type(error).__name__
        named = reason if video.path in reason else f"{video.path}: {reason}"
        failures.append({"video": video.path, "reason": named, "clips": clips})


def _lines(path: Path) -> list:
    """What a file of JSON lines holds, nothing if there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _work(job: tuple[Path, int, list[Video], Settings]) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)  # one process a core does the rest
    torch.set_num_threads(1)
    write_shard(*job)


def _write_shards(jobs: list[tuple], workers: int) -> list[tuple]:
    """Write shards in processes of their own; those whose process died, which costs the others nothing.

    A pool breaks as a whole and doesn't tell at which job, so each worker is a pool of one.
    """
    from tqdm import tqdm

    waiting, running, died = deque(jobs), {}, []
    context = multiprocessing.get_context("spawn")
    idle = [ProcessPoolExecutor(1, context) for _ in range(min(workers, len(jobs)))]
    with tqdm(total=len(jobs), unit="shard", disable=None) as bar:
        while waiting or running:
            while waiting and idle:
                job, pool = waiting.popleft(), idle.pop()
                running[pool.submit(_work, job)] = job, pool
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, pool = running.pop(future)
                try:
                    future.result()
                except BrokenProcessPool:
                    died.append(job)
                    pool = ProcessPoolExecutor(1, context)
                idle.append(pool)
                bar.update()
    for pool in idle:
        pool.shutdown()
    return died


def _note_death(path: Path, videos: list[Video]) -> str:
    """Remember at which video a worker died; what to tell of it."""
    place = _lines(path.with_suffix(".reading"))
    with open(path.with_suffix(".died"), "a") as file:
        file.write("".join(json.dumps(video) + "\n" for video in place))
    at = f"while it read {place[0]}" if place else "before its first video"
    return f"the process of {path} died (killed, or out of memory) {at}; the shard's videos are " + ", ".join(
        video.path for video in videos
    )


def _sides(videos: list[Video], output: Path, held: float) -> dict[Path, list[Video]]:
    """Which videos go into which folder; ValueError if none go into one."""
    sides = {output: videos}
    if held:
        sides = {
            output / name: [video for video in videos if is_held(video.source, held) == side]
            for name, side in (("train", False), ("held", True))
        }
    for folder, inside in sides.items():
        if not inside:
            raise ValueError(f"no video falls into {folder.name} with held = {held}, of {len(videos)} in all")
    return sides


def _plan(sides: dict[Path, list[Video]], settings: Settings) -> list[tuple]:
    """What to write: (shard, number of its first video, videos, settings)."""
    return [
        (folder / f"{first // VIDEOS_PER_SHARD:06d}.tar", first, inside[first : first + VIDEOS_PER_SHARD], settings)
        for folder, inside in sides.items()
        for first in range(0, len(inside), VIDEOS_PER_SHARD)
    ]


def _describe(videos: list[Video], settings: Settings, held: float) -> dict:
    """What `corpus.json` says of shards of these videos, without their paths: those are in the digest alone."""
    listed = [(video.path, video.start, video.end, video.labels, video.source) for video in videos]
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return {"settings": asdict(settings), "held": held, "videos": len(videos), "sha256": digest}


def _write_record(folder: Path, about: dict) -> None:
    write_whole(folder / "corpus.json", (json.dumps(about) + "\n").encode())


def prepare(videos: list[Video], output: Path, settings: Settings, workers: int, held: float = 0.0) -> list[dict]:
    """Write all shards that are missing.

    Parameters
    ----------
    videos : list of Video
    output : Path
        Folder for the shards; with `held`, for the folders `train` and `held` of them.
    settings : Settings
    workers : int
        Processes.
    held : float
        Share of the videos, in [0, 1), that is held out.

    Returns
    -------
    failures : list of dict
        `video`, `reason` and the number of `clips` before it, of each video that couldn't be read to its end; also in
        `failed.jsonl`.

    Raises
    ------
    ValueError
        If there are no videos, none for one of the sides, or `output` holds shards of other videos or settings.
    RuntimeError
        If a worker died, when all other shards are written, with the names of its videos. The next call tries once
        more; a video at which two workers died is then left out as failed.
    """
    if not videos:
        raise ValueError("there are no videos to prepare")
    sides = _sides(videos, output, held)
    jobs = _plan(sides, settings)
    output.mkdir(parents=True, exist_ok=True)
    record, mine = output / "corpus.json", _describe(videos, settings, held)
    if record.exists() and json.loads(record.read_text()) != mine:
        raise ValueError(f"{output} holds shards of other videos or settings: take a new folder")
    _write_record(output, mine)
    for folder, inside in sides.items() if held else ():
        folder.mkdir(exist_ok=True)
        _write_record(folder, _describe(inside, settings, held) | {"side": folder.name})
    died = _write_shards([job for job in jobs if not job[0].exists()], workers)
    failures = [failure for path, *_ in jobs if path.exists() for failure in _lines(path.with_suffix(".failed"))]
    (output / "failed.jsonl").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    if died:
        told = "\n".join(_note_death(path, inside) for path, _, inside, _ in died)
        raise RuntimeError(f"{told}\nThe other {len(jobs) - len(died)} shards are written; start again to go on.")
    return failures


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
@click.option(
    "--held",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the videos that goes to OUTPUT/held. Cuts of one video stay together if they are named "
    "ID_000030_000040 or, where ID is YouTube's 11 characters, ID_30, ID_30_40, ID_30000_40000 or ID_30.000_40.000; a "
    "file of any other name is a video of its own.",
)
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes; default: all cores.")
def main(folder, output, list_path, kind, held, workers, **settings):
    videos, missing = (find_videos(folder), []) if list_path is None else read_list(list_path, kind, folder)
    try:
        failures = prepare(videos, output, Settings(**settings), workers, held)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    for failure in failures:
        click.echo(f"failed: {failure['reason']}", err=True)
    click.echo(
        f"{len(videos) - len(failures)} videos done, {len(failures)} failed, {len(missing)} of the list not found; "
        f"shards in {output}"
    )
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
