"""Separated sound of many videos: a folder of results each, written completely, and skipped when it is done.

The folder has `on_screen.wav` and `off_screen.wav`, the video with only the one and with only the other, a picture of
the spectrograms and, written last, `separation.json`, which says what it was made from.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_atomically, write_bytes
from ..lines import naming
from ..media import video
from ..media.audio import open_audio
from ..media.clips import SoundInput, model_sound
from ..media.dubbing import dubbed_ending, write_dubbed
from ..media.mp4 import SOUND_RATE
from ..version import package_version
from ..worker import Worker, WorkerDied, patience
from .extraction import UNREAD
from .planning import Job, Plan, plan_jobs
from .results import Outcome, describe, failure_reason, is_described

PARTS = ("on_screen", "off_screen")
RECORD = "separation.json"
PICTURE = "spectrograms.png"
Draw = Callable[[Path, dict[str, Path], int], None]  # writes a picture of sounds, by their titles, at a rate


@dataclass(frozen=True)
class SeparatingTask:
    """Separates videos with the same model and options, which are those of `separate_sources`; can be pickled."""

    model: Any = None
    side: str | None = None
    device: str | None = None

    extensions = video.EXTENSIONS
    unread = UNREAD["video"] - video.EXTENSIONS

    def load(self) -> Any:
        """Load the model, once per process; raise errors as `load_model` does, and ValueError if it can't separate."""
        from ..inference.separation import separating_model

        return separating_model(self.model, self.device)

    def check(self) -> None:
        """Raise ValueError if the model can't separate."""
        self.load()

    def record(self) -> dict[str, Any]:
        """Return what is stored about the model and the options beside each result."""
        model = self.load()
        return {"model": model.name, "weights_sha256": model.sha256, "parameters": {"side": self.side}}


def plan_folders(inputs: Iterable[str | Path], output: Path, extensions: set[str]) -> Plan:
    """Find the videos that paths, folders and globs stand for, and give each a folder; see `plan_jobs`."""
    return plan_jobs(inputs, output, extensions, ending="")


def separate_files_apart(
    jobs: Iterable[Job], task: SeparatingTask, draw: Draw, overwrite: bool, workers: Sequence[Worker]
) -> Iterator[Outcome]:
    """Separate videos one by one in the only worker, so that one which ends its decoder fails alone."""
    [worker] = workers
    for job in jobs:
        try:
            with naming(job.source):
                yield worker.call(separate_file, job, task, draw, overwrite, limit=patience())
        except WorkerDied as error:
            yield Outcome(job, "failed", str(error))


def separate_file(job: Job, task: SeparatingTask, draw: Draw, overwrite: bool = False) -> Outcome:
    """Separate one video, or skip it if that is done."""
    try:
        wanted = task.record()
        if not overwrite and is_done(job, wanted):
            return Outcome(job, "skipped")
        if not overwrite:
            check_replaceable(job)
        _separate(job, task, draw, wanted | {"version": package_version(), "source": describe(job.source)})
        return Outcome(job, "done")
    except Exception as error:  # decoders raise anything; the other files go on
        return Outcome(job, "failed", failure_reason(error))


def _separate(job: Job, task: SeparatingTask, draw: Draw, about: dict) -> None:
    """Write all files of a result, after a record that none is whole yet and before one that all are."""
    from ..inference.separation import separate_blocks

    model = task.load()
    blocks = separate_blocks(job.source, model, task.side)
    first = next(blocks)  # what can't be separated fails here, before anything is written
    _write_record(job, about, [])
    sounds = {part: job.target / f"{part}.wav" for part in PARTS}
    _write_sounds(list(sounds.values()), first, blocks, model.sound.sample_rate)
    ending = dubbed_ending(job.source)
    videos = [sound.with_suffix(ending) for sound in sounds.values()]
    for sound, target in zip(sounds.values(), videos, strict=True):
        heard, rate = open_audio(sound)
        with write_atomically(target) as partial:
            write_dubbed(partial, job.source, model_sound(heard, rate, SoundInput(SOUND_RATE, seconds=1.0)), ending)
    picture = job.target / PICTURE
    with write_atomically(picture) as partial:
        titles = {"mixture": job.source} | {part.replace("_", " "): path for part, path in sounds.items()}
        draw(partial, titles, model.sound.sample_rate)
    _write_record(job, about, [*sounds.values(), *videos, picture])


def _write_sounds(targets: list[Path], first: Any, blocks: Iterator[Any], sample_rate: int) -> None:
    """Write the two columns of blocks (n, 2) to two files, with 24 bits a sample."""
    import soundfile

    with contextlib.ExitStack() as stack:
        partials = [stack.enter_context(write_atomically(target)) for target in targets]
        files = [
            stack.enter_context(soundfile.SoundFile(partial, "w", sample_rate, 1, "PCM_24", format="WAV"))
            for partial in partials
        ]
        while first is not None:
            for file, column in zip(files, first.T, strict=True):
                file.write(column)
            first = next(blocks, None)


def _write_record(job: Job, about: dict, files: list[Path]) -> None:
    sizes = {path.name: path.stat().st_size for path in files}
    write_bytes(job.target / RECORD, (json.dumps(about | {"files": sizes}, indent=2) + "\n").encode())


def read_record(folder: Path) -> dict | None:
    """Return what a folder of results was made from, or None if it isn't one."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else None


def is_done(job: Job, wanted: dict) -> bool:
    """Whether all files of the result are there, for the same source, model and parameters."""
    record = read_record(job.target)
    if record is None or not record["files"] or any(record.get(key) != value for key, value in wanted.items()):
        return False
    sizes = record["files"].items()
    whole = all((job.target / name).is_file() and (job.target / name).stat().st_size == size for name, size in sizes)
    return whole and is_described(job.source, record.get("source", {}))


def check_replaceable(job: Job) -> None:
    """Raise FileExistsError if what is there shouldn't be lost: other files, or another video's result."""
    record = read_record(job.target)
    source = record.get("source", {}).get("path") if record else None
    if source == str(job.source) or not os.path.lexists(job.target) or not any(os.scandir(job.target)):
        return
    what = f"holds the separated sound of {source}" if record else "holds files that aren't a result of openavc"
    raise FileExistsError(f"{job.source}: {job.target} {what}; choose another --output, or --overwrite")
