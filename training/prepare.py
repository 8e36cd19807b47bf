"""Real videos to WebDataset shards: frames and sound with their true times, broken files reported and left out.

    python -m training.prepare videos/ --output shards/mine --held 0.1
    python -m training.prepare videos/ --list balanced_train_segments.csv --format audioset --output shards/audioset
    python -m training.prepare videos/ --class-folders --silent keep --output shards/actions

Videos are cut into clips of `--clip-seconds`. A list names the videos to take, their start and end, and their labels,
in the format in which AudioSet, Kinetics, Flickr-SoundNet, UCF-101 or HMDB-51 publish theirs; files are found by their
identifier. Or the folders in which the videos lie are their labels. Each shard is renamed when it is complete, so a
killed run can continue; videos that can't be read are in `failed.jsonl`.

`--held` puts that share of the videos into OUTPUT/held and the others into OUTPUT/train (Objects that Sound validates
on 10 % of its training list). A video falls on the same side whatever else is in the list, and so do all its cuts.
Each folder's `corpus.json` records how many videos it was made from, and how; a run keeps it in its configuration.

Frames keep their true presentation times. `--frame-rate` chooses the first frame at or after each multiple of its
period and moves none: at 25, a video of 29.97 frames a second gives times that lie up to 33 ms after the 0.04 s grid.
Where a paper requires a grid (Objects that Sound: sound at multiples of 0.04 s, in positive and negative pairs alike),
the `grid` of a recipe's [data] rounds the middle of the sound, which stays within half a period of its frame.

    python -m training.prepare --by-class PICTURES SOUNDS --held 0.1 --output shards/natural

packs photographs and recordings in folders by class instead, in one form (`corpora/by_class.py`), for pairs by class.

Sound keeps its channels, at most two, or is mixed to `--channels`. With `--silent keep` the sound of a video that has
none is zeros, as long as its pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from openavc.atomic import write_bytes
from openavc.lines import tell, tell_warnings
from openavc.locks import only_user
from openavc.media.audio import has_sound, to_channels
from openavc.media.resample import resample_blocks
from openavc.media.video import Video, read_frames
from openavc.named import Named
from openavc.worker import WorkerDied, WorkerKilled

from .corpora.by_class import PICTURE, RECORDING, ClassFile, CommonForm, find_class_files, read_numbers, without
from .corpora.lists import READERS, ListedVideo, find_videos, is_held, label_by_folders, read_list
from .corpora.processes import write_in_processes
from .corpora.shards import encode_clip
from .corpora.tars import check_writer, is_whole, write_tar
from .record import read_lines

VIDEOS_PER_SHARD = 20
VIDEO_SIZE, VIDEO_RATE = 256, 48_000  # pixels, of the shorter side; Hz
CLASS_SIZE = 144  # pixels, of the shorter side of photographs
CLASS_RATE = 24_000  # Hz, of recordings
OF_VIDEOS = {"list_path", "kind", "class_folders", "clip_seconds", "shortest", "silent", "frame_rate", "channels"}
OF_CLASSES = {"about", "leave_out", "held_sources"}
_MOST_DEATHS = 2  # of workers at one video before it is left out


@dataclass(frozen=True)
class Settings:
    """How videos are cut, resized and encoded."""

    clip_seconds: float
    frame_rate: float
    size: int  # pixels, of the shorter side
    sample_rate: int
    sound_format: str
    quality: int  # of the JPEG frames
    channels: int | None = None  # of the sound; None: as recorded, at most two
    shortest: float = 2.0  # seconds, of a clip
    silent: str = "refuse"  # or "keep": zeros for a video without a stream of sound

    @property
    def per_shard(self) -> int:
        """Videos in a shard."""
        return VIDEOS_PER_SHARD

    def clips(self, video: ListedVideo) -> Iterator[tuple[np.ndarray, list[bytes], list[float], dict]]:
        """Cut a video into clips, as `read_clips` does, each with what is known about it."""
        for samples, frames, times, start in read_clips(video, self):
            yield samples, frames, times, {"source": video.source, "start": start, "labels": video.labels}


Form = Settings | CommonForm


class _SoundStream:
    """A stream of sound that is read forwards; keeps only the samples asked for and the last block."""

    def __init__(self, blocks: Iterator[np.ndarray]):
        self.blocks = blocks
        self.kept: deque[np.ndarray] = deque()
        self.first = 0  # position of the first sample kept
        self.last = 0  # position after the last sample read
        self.ended = False

    def read(self, first: int, last: int) -> np.ndarray:
        """Read samples `first` to `last`, fewer where the sound ends earlier; `first` never goes back."""
        while self.last < last and not self.ended:
            block = next(self.blocks, None)
            self.ended = block is None
            if block is not None:
                self.kept.append(block)
                self.last += len(block)
            while len(self.kept) > 1 and self.first + len(self.kept[0]) <= first:
                self.first += len(self.kept.popleft())
        return np.concatenate(self.kept)[max(0, first - self.first) : max(0, last - self.first)]


class _Silence:
    """Zeros in the place of the sound of a video that has none."""

    ended = False

    def __init__(self, channels: int):
        self.channels = channels

    def read(self, first: int, last: int) -> np.ndarray:
        """Return as many zeros as there are samples from `first` to `last`."""
        return np.zeros((last - first, self.channels), np.float32)


@contextlib.contextmanager
def _open(
    path: str, settings: Settings
) -> Iterator[tuple[_SoundStream | _Silence, Iterator[tuple[float, np.ndarray]]]]:
    """Open a video, and give its sound, and its frames with their times."""
    if settings.silent == "keep" and not has_sound(path):
        yield _Silence(settings.channels or 1), read_frames(path, settings.frame_rate)
        return
    with Video(path) as media:
        yield _open_sound(media, settings), media.frames(settings.frame_rate)


def _open_sound(media: Video, settings: Settings) -> _SoundStream:
    """Open the sound of a video, converted to the channels and the sample rate of the settings."""
    blocks = media.sound()
    first = next(blocks)
    channels = settings.channels or min(2, first.shape[1])
    mixed = (to_channels(block, channels) for block in itertools.chain([first], blocks))
    return _SoundStream(resample_blocks(mixed, media.sample_rate, settings.sample_rate))


def read_clips(video: ListedVideo, settings: Settings) -> Iterator[tuple[np.ndarray, list[bytes], list[float], float]]:
    """Cut a video into clips.

    Frames and sound are decoded side by side, so memory holds only one clip. A last stretch that is shorter than
    `settings.shortest` is left out.

    Yields
    ------
    samples : ndarray, shape (n, channels)
    frames : list of bytes
        JPEG files.
    times : list of float
        Times of the frames, in seconds from the start of the clip.
    start : float
        Start of the clip in the file, in seconds.

    Raises
    ------
    ValueError
        If no clip remains.
    FileNotFoundError, OSError
        If the file is missing or can't be decoded.
    """
    with _open(video.path, settings) as (sound, timed):
        end = np.inf if video.end is None else video.end  # of frames and sound, as far as it is known
        empty = True
        length = settings.clip_seconds
        for number, inside in itertools.groupby(timed, lambda pair: int((pair[0] - video.start) // length)):
            start = video.start + number * length
            if start >= end:
                break
            if number < 0:
                continue
            frames = [(time, _encode(frame, settings)) for time, frame in inside if time < end]
            stop = min(start + length, end)
            if isinstance(sound, _Silence) and frames:  # which lasts as long as the pictures
                stop = min(stop, frames[-1][0] + 1 / settings.frame_rate)
            first, last = (round(t * settings.sample_rate) for t in (start, stop))
            samples = sound.read(first, last + 1)[: last - first]  # one more sample shows whether the sound goes on
            if sound.ended:
                end = min(end, sound.last / settings.sample_rate)
            frames = [(time, jpeg) for time, jpeg in frames if time < end]
            if frames and len(samples) >= settings.shortest * settings.sample_rate:
                empty = False
                yield samples, [jpeg for _, jpeg in frames], [round(t - start, 6) for t, _ in frames], start
        if empty:
            raise ValueError(f"{video.path} has no {settings.shortest:g} s with picture and sound")


def _encode(frame: np.ndarray, settings: Settings) -> bytes:
    import cv2

    height, width = frame.shape[:2]
    scale = settings.size / min(height, width)
    if scale < 1:
        target = (round(width * scale), round(height * scale))
        frame = cv2.resize(frame, target, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, settings.quality])[1].tobytes()


def write_shard(path: Path, first: int, videos: Sequence[ListedVideo], settings: Form, shards: int = 1) -> None:
    """Write the clips of some videos into one tar of `shards`, and a list of the failed videos beside it.

    Meanwhile `.reading` names the current video; videos that `.died` names twice aren't tried again.
    """
    failures: list[dict] = []
    reading, deaths = path.with_suffix(".reading"), _read_deaths(path)
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(write_tar(path, shards))
        stack.callback(reading.unlink, missing_ok=True)  # unless this process dies
        for number, video in enumerate(videos, start=first):
            of_it = [reason for path, reason in deaths if path == video.path]
            if len(of_it) >= _MOST_DEATHS:
                reason = f"{video.path}: the process that read it died, {_MOST_DEATHS} times: {of_it[-1]}"
                failures.append({"video": video.path, "reason": reason, "clips": 0})
                continue
            reading.write_text(json.dumps(video.path) + "\n")
            for samples, frames, times, about in _readable_clips(video, settings, failures):
                key = f"{number:08d}-{round(about['start'] * 1000):09d}"
                write(encode_clip(key, samples, settings.sample_rate, frames, times, about, settings.sound_format))
        write_bytes(path.with_suffix(".failed"), _as_lines(failures))


def _as_lines(failures: list[dict]) -> bytes:
    return "".join(json.dumps(failure) + "\n" for failure in failures).encode()


def _readable_clips(video: Any, settings: Form, failures: list[dict]) -> Iterator[tuple]:
    """Yield the clips of a video up to the first error, which is added to `failures`."""
    clips = 0
    try:
        for clip in settings.clips(video):
            yield clip
            clips += 1
    except Exception as error:  # whatever a decoder raises on one video, the others continue
        reason = str(error) or type(error).__name__
        named = reason if video.path in reason else f"{video.path}: {reason}"
        failures.append({"video": video.path, "reason": named, "clips": clips})


def _work(job: tuple[Path, int, Sequence[ListedVideo], Form, int]) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)  # there is already one process for each core
    torch.set_num_threads(1)
    write_shard(*job)


def _read_deaths(path: Path) -> list[tuple[str, str]]:
    """Return the videos at which workers that wrote a shard died, and how; earlier versions noted only the videos."""
    noted = read_lines(path.with_suffix(".died"))
    return [(line, "how isn't known") if isinstance(line, str) else (line["video"], line["reason"]) for line in noted]


def note_death(path: Path, videos: Sequence[ListedVideo], death: WorkerDied) -> str:
    """Record at which video the worker that wrote a shard died, and return a message about it.

    If it was killed from outside, nothing is recorded, as the video needn't be the reason.

    Parameters
    ----------
    path : Path
        Path of the shard.
    videos : list of ListedVideo
        Videos of the shard.
    death : WorkerDied
        How it died.
    """
    at = read_lines(path.with_suffix(".reading"))
    if not isinstance(death, WorkerKilled):
        with open(path.with_suffix(".died"), "a") as file:
            file.write("".join(json.dumps({"video": video, "reason": str(death)}) + "\n" for video in at))
    when = f"while it read {at[0]}" if at else "before its first video"
    names = ", ".join(video.path for video in videos)
    return f"the process of {path} died {when}: {death}; the shard's videos are {names}"


def _split(
    videos: Sequence[ListedVideo], output: Path, held: float, apart: Sequence[str] = ()
) -> dict[Path, list[ListedVideo]]:
    """Divide the videos among the output folders; ValueError if a folder gets none."""
    if not (held or apart):
        return {output: list(videos)}
    sides: dict[Path, list[ListedVideo]] = {output / "train": []}
    sides |= {output / "held": []} if held else {}
    sides |= {output / "held-sources": []} if apart else {}
    together = {video.source for video in videos if isinstance(video, ClassFile) and video.is_from(apart)}
    for video in videos:
        name = "held-sources" if video.source in together else "held" if is_held(video.source, held) else "train"
        sides[output / name].append(video)
    for folder, inside in sides.items():
        if not inside:
            why = f"with held = {held}" if folder.name != "held-sources" else f"of {', '.join(apart)}"
            raise ValueError(f"no video falls into {folder.name} {why}, of {len(videos)} in all")
    return sides


def _plan(sides: dict[Path, list[ListedVideo]], settings: Form) -> list[tuple]:
    """List the shards to write: path, number of its first video, videos, settings and number of shards of each."""
    jobs = []
    for folder, inside in sides.items():
        starts = range(0, len(inside), settings.per_shard)
        for number, first in enumerate(starts):
            videos = inside[first : first + settings.per_shard]
            jobs.append((folder / f"{number:06d}.tar", first, videos, settings, len(starts)))
    return jobs


def describe_corpus(videos: Sequence[ListedVideo], settings: Form, held: float, apart: Sequence[str] = ()) -> dict:
    """Describe the origin of shards for `corpus.json`; the videos' paths enter only into the digest."""
    listed = [(video.path, video.start, video.end, video.labels, video.source) for video in videos]
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    about = {"settings": asdict(settings), "held": held} | ({"held_sources": list(apart)} if apart else {})
    return about | _count(videos) | {"sha256": digest}


def _count(videos: Sequence[ListedVideo]) -> dict:
    """Count the videos, or the photographs and the recordings by their repositories."""
    files = [video for video in videos if isinstance(video, ClassFile)]
    if not files:
        return {"videos": len(videos)}
    kinds = Counter(file.kind for file in files)
    classes = {file.labels[0] for file in files}
    repositories = dict(sorted(Counter(file.repository for file in files if file.repository).items()))
    return {
        "photographs": kinds[PICTURE],
        "recordings": kinds[RECORDING],
        "classes": len(classes),
        "repositories": repositories,
    }


def _write_record(folder: Path, about: dict) -> None:
    write_bytes(folder / "corpus.json", (json.dumps(about) + "\n").encode())


def _read_record(path: Path) -> dict:
    """Read `corpus.json`; older shards, which don't record all settings, are mono, of 2 s at least, and have sound."""
    about = json.loads(path.read_text())
    if "videos" not in about:
        return about
    return about | {"settings": {"channels": 1, "shortest": 2.0, "silent": "refuse"} | about["settings"]}


def prepare(
    videos: Sequence[ListedVideo],
    output: Path,
    settings: Form,
    workers: int,
    held: float = 0.0,
    apart: Sequence[str] = (),
) -> list[dict]:
    """Write all shards that are missing.

    Parameters
    ----------
    videos : sequence of ListedVideo
        Or of ClassFile, with a `CommonForm`.
    output : Path
        Folder for the shards; with `held`, for their folders `train` and `held`.
    settings : Settings or CommonForm
    workers : int
        Number of processes.
    held : float
        Share of the videos, in [0, 1), that is held out.
    apart : sequence of str
        Repositories, as `ClassFile.is_from` takes them, whose files go into a folder `held-sources`; and so do the
        others of their origins.

    Returns
    -------
    failures : list of dict
        `video`, `reason` and the number of `clips` before the error, for each video that couldn't be read to its end;
        also in `failed.jsonl`.

    Raises
    ------
    ValueError
        If there are no videos, none for `train` or `held`, or `output` holds shards of other videos or settings, or
        webdataset is missing.
    OSError
        If another process writes to `output`, or the disk is full; shards that are written stay.
    RuntimeError
        If a worker died; raised after all other shards are written, with the names of its videos. The next call tries
        once more; a video at which two workers died is then left out as failed, unless they were killed from outside.
    """
    if not videos:
        raise ValueError("there are no videos to prepare")
    check_writer()
    sides = _split(videos, output, held, apart)
    jobs = _plan(sides, settings)
    with only_user(output):
        record, mine = output / "corpus.json", describe_corpus(videos, settings, held, apart)
        if record.exists() and _read_record(record) != mine:
            raise ValueError(f"{output} holds shards of other videos or settings: take a new folder")
        _write_record(output, mine)
        for folder, inside in sides.items() if held or apart else ():
            folder.mkdir(exist_ok=True)
            _write_record(folder, describe_corpus(inside, settings, held, apart) | {"side": folder.name})
        for path, *_ in jobs:  # of a run that was killed
            path.with_suffix(".reading").unlink(missing_ok=True)
        died = write_in_processes(_work, [job for job in jobs if not is_whole(job[0])], workers)
        failures = [
            failure for path, *_ in jobs if path.exists() for failure in read_lines(path.with_suffix(".failed"))
        ]
        write_bytes(output / "failed.jsonl", _as_lines(failures))
        if died:
            told = "\n".join(note_death(path, inside, death) for (path, _, inside, *_), death in died)
            raise RuntimeError(f"{told}\nThe other {len(jobs) - len(died)} shards are written; start again to go on.")
    return failures


@click.command(help=__doc__.split("\n")[0])
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="[VIDEOS]", required=False
)
@click.option(
    "--by-class",
    nargs=2,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="PICTURES SOUNDS",
    help="Instead of videos: photographs and recordings, each in a folder for each class.",
)
@click.option(
    "--about",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --by-class: a CSV file of columns file, repository, path, group (of the class), origin.",
)
@click.option(
    "--leave-out",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --by-class: numbers of Freesound, one a line, whose sounds are left out.",
)
@click.option(
    "--held-sources",
    multiple=True,
    metavar="REPOSITORY",
    help="With --by-class and --about: goes to OUTPUT/held-sources, whole; a name, or a pattern such as 'owner/*', of "
    "`repository` or `repository:path`. Several may be given.",
)
@click.option("--output", type=Named(path_type=Path, file_okay=False), required=True, help="Folder for the shards.")
@click.option(
    "--list",
    "list_path",
    type=click.Path(exists=True, path_type=Path),
    help="Which videos; for HMDB-51, the folder of its lists.",
)
@click.option(
    "--format", "kind", type=click.Choice(list(READERS)), default="audioset", show_default=True, help="Of the list."
)
@click.option("--class-folders", is_flag=True, help="Label each video with the subfolder of VIDEOS in which it lies.")
@click.option("--clip-seconds", type=click.FloatRange(min=2), default=10.0, show_default=True)
@click.option(
    "--shortest",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Seconds of the shortest clip that is kept, and so of the shortest video.",
)
@click.option(
    "--silent",
    type=click.Choice(["refuse", "keep"]),
    default="refuse",
    show_default=True,
    help="What to do with a video without sound: leave it out, or keep it with zeros.",
)
@click.option("--frame-rate", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option(
    "--size",
    type=click.IntRange(min=16),
    default=None,
    help=f"Shorter side, in pixels; default: {VIDEO_SIZE}, with --by-class {CLASS_SIZE}.",
)
@click.option(
    "--sample-rate",
    type=click.IntRange(8000, 192_000),
    default=None,
    help=f"Default: {VIDEO_RATE}, with --by-class {CLASS_RATE}.",
)
@click.option(
    "--channels", type=click.IntRange(1, 2), default=None, help="Of the sound; default: as recorded, at most 2."
)
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
@click.pass_context
def main(context, folder, by_class, output, held, workers, **options):
    tell_warnings()
    try:
        check_command(context, folder, by_class)
        given = {name: value for name, value in options.items() if value is not None}
        chosen = choose_files(*by_class, **given) if by_class else choose_videos(folder, **given)
        videos, missing, settings = chosen
        failures = prepare(videos, output, settings, workers, held, options["held_sources"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    for failure in failures:
        tell(f"failed: {failure['reason']}")
    kind = "files" if by_class else "videos"
    click.echo(
        f"{len(videos) - len(failures)} {kind} done, {len(failures)} failed, {len(missing)} "
        f"{'left out' if by_class else 'of the list not found'}; shards in {output}"
    )
    raise SystemExit(1 if failures else 0)


def check_command(context: click.Context, folder: Path | None, by_class: tuple[Path, Path] | None) -> None:
    """Raise ValueError unless there are either videos or photographs and recordings, with options of their own."""
    if (folder is None) == (by_class is None):
        raise ValueError("give a folder of VIDEOS, or photographs and recordings with --by-class: one of the two")
    given = {
        name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    other = given & (OF_VIDEOS if by_class else OF_CLASSES)
    if other:
        names = ", ".join(sorted(f"--{name.removesuffix('_path').replace('_', '-')}" for name in other))
        raise ValueError(f"{names} {'is' if len(other) == 1 else 'are'} for {'videos' if by_class else '--by-class'}")


def choose_videos(
    folder: Path,
    kind: str,
    class_folders: bool,
    held_sources: tuple[str, ...],
    list_path: Path | None = None,
    size: int = VIDEO_SIZE,
    sample_rate: int = VIDEO_RATE,
    **settings: Any,
) -> tuple[list[ListedVideo], list[str], Settings]:
    """Return the videos that the command names, those of the list that are missing, and the settings."""
    form = Settings(size=size, sample_rate=sample_rate, **settings)
    if form.shortest > form.clip_seconds:
        raise ValueError(f"no clip of {form.clip_seconds:g} s has --shortest {form.shortest:g} s")
    if list_path and class_folders:
        raise ValueError("--list gives the labels, and so do --class-folders: take one of the two")
    videos, missing = (find_videos(folder), []) if list_path is None else read_list(list_path, kind, folder)
    return label_by_folders(videos, folder) if class_folders else videos, missing, form


def choose_files(
    pictures: Path,
    sounds: Path,
    sound_format: str,
    quality: int,
    about: Path | None = None,
    leave_out: Path | None = None,
    size: int = CLASS_SIZE,
    sample_rate: int = CLASS_RATE,
    **_: Any,
) -> tuple[list[ClassFile], list[ClassFile], CommonForm]:
    """Return the photographs and recordings that the command names, those that are left out, and their form."""
    found = find_class_files(pictures, sounds, about)
    kept = without(found, read_numbers(leave_out)) if leave_out else found
    names = {file.path for file in kept}
    dropped = [file for file in found if file.path not in names]
    return kept, dropped, CommonForm(size, sample_rate, sound_format, quality)


if __name__ == "__main__":
    main()
