"""The command line: options and help, named as in the Python API; the work is done elsewhere.

Nothing heavy is imported before a command runs, so `openavc --help` answers at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import click

from .lines import naming, one_line, print_any_letter, say, tell, tell_warnings
from .named import Named
from .threads import VARIABLE, use_threads

EPILOG = "Exit status: 0 if nothing failed, 1 if some did, 2 for wrong usage."


class _Command(click.Command):
    """A command whose epilog keeps its line breaks, and for which an error of the system is a line, not a traceback."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except BrokenPipeError:  # click knows what to do
            raise
        except OSError as error:
            raise click.ClickException(str(error)) from None

    def format_epilog(self, context, formatter):
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog + "\n")


class _Commands(click.Group):
    """Commands whose errors fit one line each."""

    def make_context(self, *arguments, **more):
        with _in_one_line():
            return super().make_context(*arguments, **more)

    def invoke(self, context):
        with _in_one_line():
            return super().invoke(context)


@contextmanager
def _in_one_line():
    """Make one line of errors, to which click would add lines on the usage; `openavc` alone shows the help."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.ClickException as error:
        refusal = click.ClickException(one_line(error.format_message()))
        refusal.exit_code = error.exit_code
        raise refusal from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="openavc")
def main():
    """Embeddings of sound and pictures, learned from audio-visual correspondence.

    Example: openavc audio *.wav --output emb/
    """
    print_any_letter()
    tell_warnings()


def _use_threads(context, option, number):
    try:
        use_threads(number)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


_THREADS = click.Option(
    ["--threads"],
    type=click.IntRange(min=1),
    expose_value=False,
    callback=_use_threads,
    help=f"Of the CPU, that networks compute with.  [default: {VARIABLE}, or half of the cores, at most 8]",
)


def _command(example: str):
    def decorate(function):
        command = main.command(cls=_Command, epilog=f"Example:\n\n    {example}\n\n{EPILOG}")(function)
        command.params.append(_THREADS)
        return command

    return decorate


def _options(*options):
    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _model_option(default: str):
    return click.option("--model", help=f"Name (see `openavc models`) or weights file.  [default: {default}]")


_model = _model_option("ave-natural")
_device = click.option("--device", help="cpu, cuda, cuda:1 ...  [default: CUDA if there is one]")
_many = _options(
    click.argument("inputs", nargs=-1, required=True, metavar="FILES_OR_FOLDERS..."),
    click.option("--output", type=Named(path_type=Path, file_okay=False), required=True, help="Folder of results."),
    _model,
    click.option("--embedding", type=click.Choice(["features", "joint"]), default="features", show_default=True),
    click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True),
    _device,
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        help="Files at once, each in a process with --threads.  [default: what cores and memory carry; 1 on a GPU]",
    ),
    click.option(
        "--format",
        "file_format",
        type=click.Choice(["npz", "parquet"]),
        default="npz",
        show_default=True,
        help="Of the results; parquet has one row a window.",
    ),
    click.option("--overwrite", is_flag=True, help="Recompute results that already exist."),
)
_frame_rate = click.option(
    "--frame-rate", type=click.FloatRange(min=0, min_open=True), help="Frames a second.  [default: all; PE-AV 1]"
)


@_command("openavc audio *.wav recordings/ --output emb/")
@_many
@click.option("--hop-size", type=float, help="Seconds between two windows.  [default: 0.1; PE-AV 1]")
@click.option("--center/--no-center", default=True, show_default=True, help="Centre windows on their timestamps.")
def audio(**options):
    """Embed recordings, or the sound of videos. One .npz each: embedding (T, D), timestamps and metadata."""
    _embed("audio", **options)


@_command("openavc image photos/ --output emb/")
@_many
def image(**options):
    """Embed pictures. One .npz each: embedding (1, D), timestamps, which is 0, and metadata."""
    _embed("image", **options)


@_command("openavc video clips/ --output emb/ --frame-rate 10")
@_many
@_frame_rate
def video(**options):
    """Embed the frames of videos and the sound around each. One .npz each: audio (T, D), image (T, D), timestamps
    and metadata."""
    _embed("video", **options)


def _embed(modality, inputs, output, overwrite, jobs, file_format, **options):
    """Embed files, report, and exit with the right status."""
    from .extraction.apart import embed_files_apart
    from .extraction.extraction import Extraction
    from .extraction.parquet import ENDING, check_parquet
    from .extraction.planning import plan_jobs

    ending = f".{file_format}"
    if ending == ENDING:
        _load(check_parquet)
    extraction = Extraction(modality, **options)
    plan, work = partial(plan_jobs, ending=ending), partial(embed_files_apart, extraction=extraction)
    _work_on(inputs, output, extraction, plan, work, overwrite, partial(_number_of_workers, jobs, extraction))


def _number_of_workers(given, extraction, jobs, worker):
    """Return how many workers to use for so many jobs, by default as many as the machine carries."""
    from .workers import carried_workers

    if given is None and jobs > 1:
        given = carried_workers() if worker.call(extraction.computes_on_cpu) else 1
    return max(1, min(jobs, given or 1))


def _work_on(inputs, output, task, plan, work, overwrite, number=lambda jobs, worker: 1):
    """Plan, load, work on files with a progress bar, report, and exit with the right status.

    The task knows the endings of its files and checks its model; `plan` finds jobs, `work` does them in workers, of
    which `number` tells how many there should be once the first has loaded the model.
    """
    from .extraction.planning import passed_over, standing_for_nothing
    from .extraction.results import counted
    from .media.clips import SHORT

    jobs = _found(plan, inputs, output, task.extensions)
    others = _listed(passed_over(inputs, jobs, task.unread))
    if not jobs:
        known = " ".join(sorted(task.extensions))
        raise click.UsageError(f"no files found in {', '.join(inputs)}{others}; known endings: {known}")
    for item in standing_for_nothing(inputs, task.extensions):
        tell(f"warning: no files found in {item}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"the folder {output} can't be made: {error.strerror}") from None
    counts = dict.fromkeys(("done", "skipped", "failed"), 0)
    try:
        with ExitStack() as others_too, _worker() as worker, _summed_up(SHORT):
            _load(worker.call, task.check)  # which loads the model
            workers = _joined_by_others(worker, number(len(jobs), worker), others_too)
            _tell_failures(counted(work(jobs, overwrite=overwrite, workers=workers), counts, len(jobs)))
    except KeyboardInterrupt:
        tell(f"stopped with {counts['done']} done; the same command goes on from there")
        sys.exit(130)
    where = next(iter(jobs)).target if len(jobs) == 1 else output
    results = f"; results in {where}" if counts["done"] or counts["skipped"] else ""
    say(", ".join(f"{number} {status}" for status, number in counts.items()) + others + results)
    sys.exit(1 if counts["failed"] else 0)


def _found(find, inputs, *arguments):
    """Find the files that inputs stand for, or exit with a message."""
    try:
        return find(inputs, *arguments)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _listed(passed_over) -> str:
    """List the numbers of files that were passed over, by extension; nothing if there are none."""
    kinds = ", ".join(f"{number} {ending}" for ending, number in sorted(passed_over.items()))
    return f", {passed_over.total()} passed over ({kinds})" if kinds else ""


@contextmanager
def _summed_up(words):
    """Show the warnings with these words in one line at the end: the first one, and how many others there were."""
    show, kept = warnings.showwarning, []

    def keep(message, *place, **more):
        if words in str(message):
            kept.append(message)
        else:
            show(message, *place, **more)

    warnings.showwarning = keep
    try:
        yield
    finally:
        warnings.showwarning = show
        if kept:
            others = f" ({len(kept) - 1} more such files)" if len(kept) > 1 else ""
            tell(f"warning: {kept[0]}{others}")


def _tell_failures(outcomes):
    for outcome in outcomes:
        if outcome.status == "failed":
            name, reason = str(outcome.job.source), outcome.reason
            named = name in reason or repr(name) in reason
            tell(f"failed: {reason if named else f'{name}: {reason}'}")


def _load(load, *arguments):
    """Load a model, or exit with a message: status 2 for an unknown name, 1 if the weights can't be obtained."""
    from .worker import WorkerDied

    try:
        return load(*arguments)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from None
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    except WorkerDied as error:
        raise click.ClickException(f"the model can't be loaded: {error}") from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


def _worker():
    """Return a worker that is watched, or exit with status 2 if what it may take is no number."""
    from .progress import count_layers
    from .worker import Worker, patience

    try:
        patience()
        return Worker(count_layers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _joined_by_others(worker, number, stack):
    """Return a worker and others like it, so many in all, which share the memory and end with the stack."""
    worker.share_memory(number)
    others = [stack.enter_context(_worker()) for _ in range(number - 1)]
    for other in others:
        other.share_memory(number)
    return [worker, *others]


def _answer(worker, files, function, *arguments, hint="", watched=True):
    """Return what a worker answers to a call; exit with a message if that fails, or if a file ends the worker.

    A call that isn't watched may take any time without progress.
    """
    from .extraction.results import failure_reason
    from .worker import WorkerDied, patience

    named = [file for file in files if file]
    try:
        with naming(*named):
            return worker.call(function, *arguments, limit=patience() if watched else None)
    except WorkerDied as error:
        raise click.ClickException(f"{' and '.join(map(str, named))}: {error}") from None
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{failure_reason(error)}{hint}") from None
    except Exception as error:  # decoders and a damaged library raise anything
        raise click.ClickException(f"{' and '.join(map(str, named))}: {failure_reason(error)}") from None


def _apart(load, function, *arguments, files, model, device, hint=""):
    """Load a model and call a function of some files with it in a worker; exit with a message if either fails."""
    with _worker() as worker:
        _load(worker.call, load, model, device)
        return _answer(worker, files, function, *arguments, model, device, hint=hint)


def _load_any(model, device):
    from .inference.arguments import get_model

    get_model(model, device)


def _load_given(model, device):
    if model is not None:  # otherwise the library tells which
        _load_any(model, device)


def _load_of_library(db, model, device):
    from .library.search import model_of_library

    model_of_library(db, model, device)


def _load_localizing(model, device):
    from .inference.localization import localizing_model

    localizing_model(model, device)


def _load_localizing_video(model, device):
    from .inference.localization import video_localizing_model

    video_localizing_model(model, device)


def _score_pair(sound, picture, model, device):
    from .inference.scores import correspondence_score

    return correspondence_score(sound, None, picture, model, device=device)


def _score_video(path, frame_rate, model, device):
    from .inference.scores import video_scores

    return tuple(video_scores(path, model, frame_rate=frame_rate, device=device))


def _localize_picture(picture, audio, output, model, device):
    from .drawing import draw_localized_picture

    return draw_localized_picture(output, picture, audio, model, device)


def _localize_video(video, mismatch, output, frame_rate, maximum, model, device):
    from .drawing import draw_localized_video

    return draw_localized_video(output, video, model, mismatch, frame_rate, maximum, device)


def _measure_peaks(video, mismatch, frame_rate, model, device):
    from .inference.localization import video_peaks

    return video_peaks(video, model, audio=mismatch, frame_rate=frame_rate, device=device)


def _load_synchronizing(model, device):
    from .inference.sync import synchronizing_model

    return synchronizing_model(model, device).sha256


def _measure_offset(video, audio, max_offset, model, device):
    from .inference.sync import sync_offset

    return sync_offset(video, model, max_offset=max_offset, audio=audio, device=device)


def _fix_video(video, target, result, max_offset, model, device):
    from .extraction.sync import check_fixable, fix_video

    return fix_video(video, target, check_fixable(result), model=model, max_offset=max_offset, device=device)


def _find_nearest(query, kind, db, options, model, device):
    from .library.search import search

    return search(db, **{kind: query}, **options, model=model, device=device)


_path = Named(path_type=Path)
_file = Named(path_type=Path, dir_okay=False)


@_command("openavc score clip.mp4            or: openavc score growl.wav monster.png")
@click.argument("inputs", nargs=-1, required=True, metavar="VIDEO | SOUND PICTURE")
@_model
@click.option("--frame-rate", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--plot", type=_file, help="Draw a video's scores, as .png, .svg or .pdf.")
@_device
@click.option("--overwrite", is_flag=True, help="Replace the drawing that is there.")
def score(inputs, model, frame_rate, plot, device, overwrite):
    """Tell whether sound and picture belong together. They are those of a video, or of two files.

    For a video, one line a moment and the mean; for a sound and a picture, their score.
    """
    if len(inputs) > 2:
        raise click.UsageError(f"give a video, or first a sound, then a picture; got {len(inputs)} files")
    if plot:
        _check_drawn(plot)
        _check_writable(plot, overwrite, map(Path, inputs))
    if len(inputs) == 2:
        if plot:
            raise click.UsageError("--plot draws the scores along a video, not the one of two files")
        hint = " (the sound comes first, then the picture)"
        say(f"{_apart(_load_any, _score_pair, *inputs, files=inputs, model=model, device=device, hint=hint):.3f}")
        return
    scores, timestamps = _apart(_load_any, _score_video, *inputs, frame_rate, files=inputs, model=model, device=device)
    for time, value in zip(timestamps, scores, strict=True):
        say(f"{time:8.2f} s  {value:.3f}")
    say(f"    mean    {scores.mean():.3f}")
    if plot:
        from .plotting import draw_scores

        _drawn(draw_scores, plot, timestamps, scores, Path(inputs[0]).name)


def _check_drawn(output):
    """Exit unless a drawing can be of the kind that its name says."""
    if output and output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"the drawing {output} must end in .png, .svg or .pdf")


def _drawn(draw, output, *arguments):
    """Draw, or exit with a message."""
    try:
        draw(output, *arguments)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(f"{output} can't be drawn: {error}") from None


@_command("openavc plot emb/clip.npz --output clip.png")
@click.argument("source", type=Named(path_type=Path, dir_okay=False), metavar="RESULT.npz | log.jsonl")
@click.option("--output", type=_file, required=True, help="The drawing, .png, .svg or .pdf.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def plot(source, output, overwrite):
    """Draw a result over time, or a training. Of a result: waveform, principal components, similarity of all moments.

    Of the log.jsonl of a training: its loss, and what is right.
    """
    _check_drawn(output)
    _check_writable(output, overwrite, [source])
    if source.suffix == ".jsonl":
        from .plotting import draw_training

        _drawn(draw_training, output, source)
    else:
        with _worker() as worker:  # which decodes the source
            if not _answer(worker, [source], _drawn_result, output, source):
                tell(f"without a waveform: what {source} was made of isn't there any more, or was changed")
    say(str(output))


def _drawn_result(output, source):
    from .plotting import draw_result

    return draw_result(output, source)


@_command(
    "openavc localize clip.mp4 --output out.mp4\n    openavc localize monster.png --audio growl.wav --output map.png\n"
    "    openavc localize clips/ --rank"
)
@click.argument("sources", nargs=-1, required=True, metavar="VIDEO | PICTURE | VIDEOS_OR_FOLDERS...", type=_path)
@click.option("--audio", type=_file, help="The sound to localise in a picture.")
@click.option(
    "--mismatch", type=_file, help="A sound to put to a video instead of its own; silence where it has ended."
)
@click.option("--output", type=_file, help="Of a video, .mp4; of a picture, a picture, or .npy for the bare map.")
@click.option("--rank", is_flag=True, help="List videos by their strongest response instead.")
@click.option(
    "--maximum",
    type=click.FloatRange(min=0, min_open=True),
    help="Activation that is drawn as 1, and half of it as 0.  [default: the 97th percentile of a video's]",
)
@_frame_rate
@_model_option("avol-small")
@_device
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def localize(sources, audio, mismatch, output, rank, maximum, frame_rate, model, device, overwrite):
    """Show where in a video or a picture the sound comes from.

    The colours are probabilities, by the bar at the side: 0 leaves the picture as it is. Those of a network that fuses
    clips with their sound are activations, on the scale of --maximum. With --rank, a line for each video: rank, highest
    probability or activation, time, file.
    """
    from .drawing import PICTURE_ENDINGS
    from .media.image import EXTENSIONS

    if rank:
        if output or audio or maximum:
            raise click.UsageError("--rank draws nothing: leave --output, --audio and --maximum out")
        _rank(sources, mismatch, frame_rate, model, device)
    source = sources[0]
    if len(sources) > 1 or source.is_dir():
        raise click.UsageError("give one video or picture; --rank takes several, and folders")
    if output is None:
        raise click.UsageError("give --output, where to draw, or --rank")
    is_picture = source.suffix.lower() in EXTENSIONS
    if is_picture and audio is None:
        raise click.UsageError(f"{source} is a picture: give its sound as --audio")
    if is_picture and (mismatch or frame_rate or maximum):
        raise click.UsageError(f"{source} is a picture: --mismatch, --frame-rate and --maximum go with videos")
    if not is_picture and audio:
        raise click.UsageError(f"--audio goes with a picture; to put {audio} to the video {source}, use --mismatch")
    endings = PICTURE_ENDINGS if is_picture else (".mp4",)
    if output.suffix.lower() not in endings:
        raise click.UsageError(f"--output {output} must end in {' or '.join(endings)}")
    _check_writable(output, overwrite, [source, audio, mismatch])
    named = {"model": model, "device": device}
    if is_picture:
        peak = _apart(_load_localizing, _localize_picture, source, audio, output, files=[source, audio], **named)
        say(f"highest probability {peak:.3f}; {output}")
        return
    arguments, files = (source, mismatch, output, frame_rate, maximum), [source, mismatch]
    frames, peaks = _apart(_load_localizing_video, _localize_video, *arguments, files=files, **named)
    value, time = peaks.highest
    average = f"highest {peaks.quantity} {value:.3f} at {time:.2f} s, {peaks.values.mean():.3f} on average"
    say(f"{frames} frames, {average}; {output}")


def _rank(sources, mismatch, frame_rate, model, device):
    """List videos by the highest value of their maps, the highest first, and exit with the right status."""
    from .extraction.extraction import EXTENSIONS
    from .extraction.planning import find_files

    videos, found = _found(find_files, sources, EXTENSIONS["video"]), []
    if not videos:
        raise click.UsageError(f"no videos found in {', '.join(map(str, sources))}")
    with _worker() as worker:
        _load(worker.call, _load_localizing_video, model, device)
        for video in videos:
            try:
                files = [video, mismatch]
                peaks = _answer(worker, files, _measure_peaks, video, mismatch, frame_rate, model, device)
                found.append((*peaks.highest, video))
            except click.ClickException as error:
                tell(f"failed: {error.message}")
    for number, (value, time, video) in enumerate(sorted(found, key=lambda item: -item[0]), 1):
        say(f"{number:>4}  {value:8.3f}  {time:8.2f} s  {video}")
    sys.exit(0 if len(found) == len(videos) else 1)


@_command("openavc sync clip.mp4 --fix fixed.mp4 --plot curve.png")
@click.argument("inputs", nargs=-1, required=True, metavar="VIDEOS_OR_FOLDERS...")
@click.option("--audio", type=_file, help="Another file, whose sound is compared with one video.")
@click.option(
    "--max-offset",
    type=click.FloatRange(0, 30, min_open=True),
    default=2.0,
    show_default=True,
    help="Largest that is looked for, seconds.",
)
@click.option("--fix", type=_file, help="Write one video with its sound moved into step; nothing is encoded anew.")
@click.option("--plot", type=_file, help="Draw the scores of one video's offsets, as .png, .svg or .pdf.")
@click.option("--csv", "table", type=_file, help="Write a table with a line for each segment of each video.")
@_model_option("multisensory-small")
@_device
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def sync(inputs, audio, max_offset, fix, plot, table, model, device, overwrite):
    """Measure by how much the sound of videos is late or early.

    Offsets are seconds; the confidence is the probability that one is right within 0.1 s. Below 0.5 it says that it
    can't tell. A long video is measured all along: if the offset jumps or drifts, its segments are named.
    """
    from tqdm import tqdm

    from .extraction.extraction import EXTENSIONS
    from .extraction.planning import find_files
    from .media.remux import CONTAINERS

    videos = _found(find_files, inputs, EXTENSIONS["video"])
    if not videos:
        raise click.UsageError(f"no videos found in {', '.join(inputs)}")
    for name, value in (("--audio", audio), ("--fix", fix), ("--plot", plot)):
        if value and len(videos) > 1:
            raise click.UsageError(f"{name} goes with one video, got {len(videos)}")
    _check_drawn(plot)
    if fix and fix.suffix.lower() not in CONTAINERS:
        raise click.UsageError(f"--fix {fix} must end in one of {' '.join(CONTAINERS)}")
    if fix and audio:
        raise click.UsageError("--fix moves a video's own sound: leave --audio out")
    for output in filter(None, (fix, plot)):
        _check_writable(output, overwrite, [*videos, audio])
    if table:
        _check_writable(table, True, videos)
    counts = dict.fromkeys(("done", "skipped", "failed"), 0)
    with _worker() as worker:
        digest = _load(worker.call, _load_synchronizing, model, device)
        with _sync_table(table, max_offset, digest, overwrite) as rows, tqdm(videos, unit="file", disable=None) as bar:
            for video in bar:
                try:
                    if rows and rows.has(video):
                        counts["skipped"] += 1
                        continue
                    result = _answer(worker, [video, audio], _measure_offset, video, audio, max_offset, model, device)
                    say(f"{video}: {result}")
                    if rows:
                        rows.add(video, result)
                    _write_sync(worker, video, result, fix, plot, max_offset, model, device)
                    counts["done"] += 1
                except click.ClickException as error:
                    counts["failed"] += 1
                    tell(f"failed: {error.message}")
    if len(videos) > 1 or counts["skipped"]:
        words = ", ".join(f"{number} {status}" for status, number in counts.items())
        say(f"{words}{f'; all in {table}' if table else ''}")
    sys.exit(1 if counts["failed"] else 0)


def _sync_table(path, max_offset, digest, overwrite):
    """Open the table of offsets, if one is wanted, or exit with a message."""
    from .extraction.sync import SyncTable

    if path is None:
        return nullcontext()
    try:
        return SyncTable(path, max_offset, digest, anew=overwrite)
    except OSError as error:
        raise click.UsageError(str(error)) from None


def _write_sync(worker, video, result, fix, plot, max_offset, model, device):
    """Draw what was measured of a video, and write it with its sound moved, if asked to."""
    if plot:
        from .plotting import draw_sync_curve

        _drawn(draw_sync_curve, plot, result)
    if fix:
        checked = _answer(worker, [video], _fix_video, video, fix, result, max_offset, model, device)
        say(f"{fix}: written and measured again: {checked}")


def _check_writable(output, overwrite, sources):
    """Exit unless an output is new, or may be replaced and is none of the sources."""
    if output.exists() and not overwrite:
        raise click.UsageError(f"{output} is there already: choose another, or --overwrite")
    if output.exists() and any(file and file.exists() and output.samefile(file) for file in sources):
        raise click.UsageError(f"{output} is what is to be read: choose another")


@_command("openavc separate clip.mp4 --output sep/")
@click.argument("inputs", nargs=-1, required=True, metavar="FILES_OR_FOLDERS...")
@click.option("--output", type=Named(path_type=Path, file_okay=False), required=True, help="Folder of results.")
@click.option("--side", type=click.Choice(["left", "right"]), help="The half of the picture that the model sees.")
@_model_option("separation-small")
@_device
@click.option("--overwrite", is_flag=True, help="Separate again what is done.")
def separate(inputs, output, side, model, device, overwrite):
    """Separate the sound of what videos show from the rest. A folder each: on_screen and off_screen, both as .wav and
    as the video with only that sound, and a picture of spectrograms."""
    from .drawing import draw_spectrograms
    from .extraction.separated import SeparatingTask, plan_folders, separate_files_apart

    task = SeparatingTask(model=model, side=side, device=device)
    work = partial(separate_files_apart, task=task, draw=draw_spectrograms)
    _work_on(inputs, output, task, plan_folders, work, overwrite)


_library = click.option(
    "--db", type=Named(path_type=Path, file_okay=False), required=True, help="Folder of the library."
)


@_command("openavc index emb/ --db library/")
@click.argument("inputs", nargs=-1, required=True, metavar="FILES_OR_FOLDERS...")
@_library
@click.option("--prune", is_flag=True, help="Remove the vectors whose result is gone.")
def index(inputs, db, prune):
    """Put results into a library to search. They are of `openavc audio | image | video --embedding joint`.

    Results that are already in it are skipped; newer ones replace older ones of the same source and kind.
    """
    from .extraction.planning import standing_for_nothing
    from .extraction.results import counted
    from .library.index import ENDINGS, add_results, find_results
    from .library.table import count_vectors

    paths = _found(find_results, inputs)
    if not paths and not prune:
        raise click.UsageError(f"no .npz or .parquet found in {', '.join(inputs)}")
    for item in standing_for_nothing(inputs, ENDINGS):
        tell(f"warning: no .npz or .parquet found in {item}")
    counts = dict.fromkeys(("added", "skipped", "failed", *(["removed"] if prune else [])), 0)
    try:
        _tell_failures(counted(add_results(paths, db, prune), counts, len(paths)))
        vectors = count_vectors(db)
    except KeyboardInterrupt:
        tell(f"stopped with {counts['added']} added; the same command goes on from there")
        sys.exit(130)
    except (ImportError, OSError, ValueError, RuntimeError) as error:  # a damaged library raises the last two
        raise click.ClickException(str(error)) from None
    said = ", ".join(f"{number} {status}" for status, number in counts.items())
    say(f"{said}; {vectors} vectors in {db}/")
    sys.exit(1 if counts["failed"] else 0)


@_command(
    "openavc search --db library/ --image monster.png --html results.html\n"
    '    openavc search --db library/ --text "a dog barks"'
)
@_library
@click.option("--image", "picture", type=click.Path(), help="Picture to search for.")
@click.option("--audio", "recording", type=click.Path(), help="Sound, or video with sound, to search for.")
@click.option("--text", help="What to search for, in a library of a model that knows text, such as pe-av-small.")
@click.option("--modality", type=click.Choice(["audio", "image"]), help="What to search.  [default: both]")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits wanted.")
@click.option("--moments", is_flag=True, help="Show every moment, not only the best of each file.")
@click.option("--exact", is_flag=True, help="Compare with every vector; by default large libraries are approximate.")
@click.option("--html", type=Named(path_type=Path, dir_okay=False), help="Write a page of the hits, too.")
@click.option("--model", help="The library's weights, if it isn't one of `openavc models`.")
@_device
def search(db, picture, recording, text, modality, k, moments, exact, html, model, device):
    """Find what is nearest to a picture, a sound or a text. Printed are rank, cosine similarity, modality, time, file.

    A sound longer than the model's window is searched for by the mean of its windows' embeddings. Vectors of the
    query's own modality are usually nearer than the other's: --modality searches only one.
    """
    from .library.page import thumbnail, write_page
    from .worker import patience

    queries = {"image": picture, "audio": recording, "text": text}
    given = [(query, kind) for kind, query in queries.items() if query is not None]
    if len(given) != 1:
        raise click.UsageError("give one of --image, --audio and --text")
    (query, kind), files = given[0], [] if text else [given[0][0]]
    options = {"modality": modality, "k": k, "moments": moments, "exact": exact}
    with _worker() as worker:
        _load(worker.call, _load_given, model, device)
        _answer(worker, [db], _load_of_library, db, model, device, watched=False)  # which may have to be downloaded
        hits = _answer(worker, files or [db], _find_nearest, query, kind, db, options, model, device)
        for rank, hit in enumerate(hits, 1):
            time = "" if hit.timestamp is None else f"{hit.timestamp:.2f} s"
            say(f"{rank:>4}  {hit.score:6.3f}  {hit.modality}  {time:>10}  {hit.source}")
        if html is not None:
            try:
                write_page(html, query, hits, partial(worker.call, thumbnail, limit=patience()), kind == "text")
            except OSError as error:
                raise click.ClickException(f"the page {html} can't be written: {error}") from None


@_command("openavc models --json")
@click.option("--json", "as_json", is_flag=True, help="The whole manifest.")
def models(as_json):
    """List the models. The default comes first, your own, which training.export wrote, last."""
    from .weights import read_manifest

    if as_json:
        click.echo(json.dumps(read_manifest(), indent=2))
        return
    for entry in read_manifest():
        place = " or ".join(source["type"].removesuffix("-folder") for source in entry["sources"])
        sizes = ", ".join(f"{kind} {_size(size)}" for kind, size in entry["embedding_size"].items())
        bytes_ = f"{entry['bytes'] / 1e6:.1f} MB" if entry.get("bytes") else ""
        about = ("+".join(entry["modalities"]), sizes, bytes_, entry["license"], place)
        say(f"{entry['name']:<19} {'; '.join(filter(None, about))}")


def _size(size) -> str:
    """Format one size, or the sizes of sound and pictures, as in 6144/8192."""
    return "/".join(map(str, size.values())) if isinstance(size, dict) else str(size)


@_command("openavc download NAME")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def download(names):
    """Fetch and verify weights for work without a network later."""
    from .weights import fetch

    _print_each(names, lambda name: str(fetch(name)))


@_command("openavc verify")
@click.argument("names", nargs=-1, metavar="[NAME...]")
def verify(names):
    """Check the weights on this machine. All models by default, against the manifest."""
    from .weights import list_models, verify_local

    def state(name):
        path = verify_local(name)
        return "not downloaded" if path is None else f"good, {path}"

    _print_each(names or list_models(), state)


@_command("openavc export ave-small --output onnx/")
@click.argument("model", metavar="NAME")
@click.option("--output", type=Named(path_type=Path, file_okay=False), required=True, help="Folder of the files.")
@click.option("--embedding", type=click.Choice(["features", "joint"]), default="features", show_default=True)
@click.option("--format", "file_format", type=click.Choice(["onnx"]), default="onnx", show_default=True)
def export(model, output, embedding, file_format):
    """Write a model's towers as ONNX. NAME-audio.onnx takes windows of sound, NAME-image.onnx pictures or clips."""
    from .interfaces.onnx import export_onnx

    for path, about in _load(partial(export_onnx, output, model, embedding=embedding)).values():
        say(f"{path}: " + ", ".join(f"{key} {value}" for key, value in about.items() if key != "weights_sha256"))


@_command("openavc import-openl3 openl3_audio_mel256_music-v0_4_0.h5.gz")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE [FILE]", type=Named(path_type=Path))
@click.option(
    "--output", type=Named(path_type=Path, dir_okay=False), help="[default: beside FILE, ending in .safetensors]"
)
@click.option(
    "--input-repr",
    type=click.Choice(["linear", "mel128", "mel256"]),
    help="The spectrogram, if neither the file nor its name tells it.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def import_openl3(inputs, output, input_repr, overwrite):
    """Convert OpenL3's or EdgeL3's weights. An .h5 or .h5.gz, or one of sound and one of pictures, become safetensors.

    The result is given as --model, or to load_model; so can be the .h5 files themselves.
    """
    from .media.container import existing_file
    from .weights.keras import ENDINGS, convert

    if len(inputs) > 2:
        raise click.UsageError(f"give a file of sound, one of pictures, or one of each; got {len(inputs)}")
    if output is None:
        ending = next((ending for ending in ENDINGS if inputs[0].name.endswith(ending)), inputs[0].suffix)
        output = inputs[0].with_name(inputs[0].name.removesuffix(ending) + ".safetensors")
    if output.exists() and not overwrite:
        raise click.UsageError(f"{output} is there already: choose another --output, or --overwrite")
    try:
        architecture = convert(*map(existing_file, inputs), target=output, input_repr=input_repr)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    what = " ".join([*architecture["modalities"], architecture.get("input_repr", "")]).strip()
    say(f"{output}: {what}")


def _print_each(names, state):
    """Print a line for each model and exit: status 1 if any file can't be obtained, 2 for an unknown name."""
    failed = False
    for name in names:
        try:
            say(f"{name}: {state(name)}")
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        except OSError as error:
            failed = True
            tell(f"failed: {name}: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
