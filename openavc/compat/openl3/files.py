"""Files to .npz beside them, with OpenL3's signatures, names and keys; one that fails costs nothing but itself."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...audio import open_audio, open_container
from ...files import write_arrays
from ...video import read_frames
from .models import kept_audio_model, kept_image_model
from .openl3_exceptions import OpenL3Error
from .openl3_warnings import OpenL3Warning
from .options import check_audio, check_choice, check_common, check_framing, check_image
from .pictures import check_stack, embed_squares, read_picture, squares
from .sound import embed_recordings, open_soundtrack

_SQUASHED = (256, 256)  # pixels: OpenL3 scales frames of videos so, whatever their shape


def process_audio_file(
    filepath,
    output_dir=None,
    suffix=None,
    model=None,
    input_repr=None,
    content_type="music",
    embedding_size=6144,
    center=True,
    hop_size=0.1,
    batch_size=32,
    overwrite=False,
    frontend="kapre",
    verbose=True,
    *,
    strict_openl3=False,
):
    """Embed sound files, or the sound of videos, into `<name>[_suffix].npz` with `embedding` and `timestamps`.

    Parameters
    ----------
    filepath : str, path, or list of these
    output_dir : str or path, optional
        Made if it isn't there; beside each file by default.
    suffix : str, optional
    overwrite : bool
        Whether to embed files whose .npz is there.
    verbose : bool
        Whether to say what is written and skipped.
    model, input_repr, content_type, embedding_size, center, hop_size, batch_size, frontend, strict_openl3
        As in `get_audio_embedding`.

    Raises
    ------
    OpenL3Error
        For options that make no sense; and after all files have been tried, naming those that failed and why.
    """
    check_common(content_type, batch_size, verbose)
    check_framing(hop_size, center)
    options = check_audio(model, input_repr, content_type, embedding_size, frontend)
    jobs = _plan(filepath, [_ending(suffix)], output_dir, overwrite, verbose)
    if jobs and model is None:
        model = kept_audio_model(options[0], content_type, embedding_size, options[1])
    failures = {}
    for job in jobs:
        try:
            recording = (*open_audio(job.source, model.frontend.dtype), job.source)
            found = embed_recordings(model, [recording], hop_size, center, batch_size, verbose, strict_openl3)
            _write(job.targets[0], verbose, *found[0])
        except Exception as error:  # whatever a decoder raises on one file, the others go on
            failures[job.source] = error
    _raise_failures(failures, len(jobs))


def process_image_file(
    filepath,
    output_dir=None,
    suffix=None,
    model=None,
    input_repr="mel256",
    content_type="music",
    embedding_size=8192,
    batch_size=32,
    overwrite=False,
    verbose=True,
    *,
    strict_openl3=False,
):
    """Embed picture files into `<name>[_suffix].npz` with `embedding` (1, D) alone.

    Parameters
    ----------
    filepath, output_dir, suffix, overwrite, verbose
        As in `process_audio_file`.
    model, input_repr, content_type, embedding_size, batch_size, strict_openl3
        As in `get_image_embedding`; pictures of several files share a batch.

    Raises
    ------
    OpenL3Error
        As `process_audio_file` does.
    """
    check_common(content_type, batch_size, verbose)
    check_image(model, input_repr, content_type, embedding_size)
    jobs = _plan(filepath, [_ending(suffix)], output_dir, overwrite, verbose)
    if jobs and model is None:
        model = kept_image_model(input_repr, content_type, embedding_size)
    failures = {}

    def keyed():
        for job in jobs:
            try:
                stack = check_stack(read_picture(job.source, strict_openl3))
                [square] = squares(lambda stack=stack: stack, job.source, strict_openl3)
            except Exception as error:  # as in process_audio_file
                failures[job.source] = error
                continue
            yield job, square

    for job, vector in embed_squares(model, keyed(), batch_size, verbose) if jobs else []:
        try:
            _write(job.targets[0], verbose, vector[None])
        except OSError as error:
            failures[job.source] = error
    _raise_failures(failures, len(jobs))


def process_video_file(
    filepath,
    output_dir=None,
    suffix=None,
    audio_model=None,
    image_model=None,
    input_repr=None,
    content_type="music",
    audio_embedding_size=6144,
    audio_center=True,
    audio_hop_size=0.1,
    image_embedding_size=8192,
    audio_batch_size=32,
    image_batch_size=32,
    audio_frontend="kapre",
    overwrite=False,
    verbose=True,
    *,
    strict_openl3=False,
):
    """Embed videos into `<name>_audio[_suffix].npz` and `<name>_image[_suffix].npz`: `embedding` and `timestamps`.

    Sound is taken to last as long as the file; a video without any gives the pictures' file alone, and a warning.

    Parameters
    ----------
    filepath, output_dir, suffix, overwrite, verbose
        As in `process_audio_file`.
    audio_model, image_model, and the rest
        As in `get_audio_embedding` and `get_image_embedding`.
    strict_openl3 : bool
        Whether frames are squashed to 256 x 256, scaled by the clip's maximum, and timed by the rate cut down to a
        whole number, as in OpenL3. Otherwise they keep their shape and true times.

    Raises
    ------
    OpenL3Error
        As `process_audio_file` does.
    """
    check_common(content_type, audio_batch_size, verbose)
    check_common(content_type, image_batch_size, verbose)
    check_framing(audio_hop_size, audio_center)
    options = check_audio(audio_model, input_repr, content_type, audio_embedding_size, audio_frontend)
    check_image(image_model, options[0], content_type, image_embedding_size)
    jobs = _plan(filepath, [f"audio{_tail(suffix)}", f"image{_tail(suffix)}"], output_dir, overwrite, verbose)
    if jobs and audio_model is None:
        audio_model = kept_audio_model(options[0], content_type, audio_embedding_size, options[1])
    if jobs and image_model is None:
        image_model = kept_image_model(options[0], content_type, image_embedding_size)
    failures = {}

    def embed_sound(path):
        if not _has_sound(path):
            warnings.warn(f"{path} has no sound: its pictures alone are embedded", OpenL3Warning, 3)
            return None
        recording = (*open_soundtrack(path, audio_model.frontend.dtype), path)
        framing = (audio_hop_size, audio_center, audio_batch_size, verbose, strict_openl3)
        return embed_recordings(audio_model, [recording], *framing)[0]

    def embed_pictures(path):
        return _embed_frames(path, image_model, image_batch_size, verbose, strict_openl3)

    for job in jobs:
        reasons = []
        for target, embed in zip(job.targets, (embed_sound, embed_pictures), strict=True):
            if os.path.exists(target) and not overwrite:
                continue
            try:
                if found := embed(job.source):
                    _write(target, verbose, *found)
            except Exception as error:  # as in process_audio_file; the other half goes on
                reasons.append(_reason(job.source, error))
        if reasons:
            failures[job.source] = OpenL3Error("; ".join(dict.fromkeys(reasons)))
    _raise_failures(failures, len(jobs))


def _embed_frames(path, model, batch_size, verbose, strict_openl3) -> tuple[np.ndarray, np.ndarray]:
    """(embedding (N, D), timestamps (N,)) of a video."""
    times: list[float] = []

    def frames() -> Iterator[np.ndarray]:
        times.clear()
        for time, frame in read_frames(path, size=_SQUASHED if strict_openl3 else None):
            times.append(time)
            yield frame

    keyed = ((None, square) for square in squares(frames, str(path), strict_openl3))
    embedding = np.stack([vector for _, vector in embed_squares(model, keyed, batch_size, verbose)])
    if strict_openl3:
        return embedding, np.arange(len(embedding)) / _whole_frame_rate(path)
    return embedding, np.array(times, dtype=np.float64)


def _whole_frame_rate(path) -> float:
    """Frames a second, cut down to a whole number as OpenL3 does, if anything is left."""
    with open_container(path) as container:
        rate = float(container.streams.best("video").average_rate)
    return int(rate) or rate


def _has_sound(path) -> bool:
    with open_container(path) as container:
        return container.streams.best("audio") is not None


# ----------------------------------------------------------------------------------------------- names and outcome


def get_output_path(filepath, suffix, output_dir=None):
    """Path of a file's result: its name without extension, then `suffix`, after "_" unless it begins with "."."""
    name = os.path.splitext(os.path.basename(filepath))[0]
    return _place(name, suffix, output_dir or os.path.dirname(filepath))


def _place(name: str, suffix: str, folder) -> str:
    return os.path.join(folder, name + suffix if suffix.startswith(".") else f"{name}_{suffix}")


def _ending(suffix) -> str:
    return f"{suffix or ''}.npz"


def _tail(suffix) -> str:
    """What follows "audio" and "image" in the names of a video's results."""
    return f"_{suffix}.npz" if suffix else ".npz"


class _Job(NamedTuple):
    source: str | os.PathLike
    targets: list[str]


def _plan(filepath, endings: list[str], output_dir, overwrite, verbose) -> list[_Job]:
    """What there is to do: each file once, those left out whose results are all there."""
    check_choice("overwrite", overwrite, (True, False))
    paths = filepath if isinstance(filepath, list) else [filepath]
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise OpenL3Error(f"filepath must be a str, a path or a list of these, got {type(path).__name__}")
    jobs = []
    for source, targets in _targets(paths, endings, output_dir).items():
        if not overwrite and all(map(os.path.exists, targets)):
            _say(verbose, f"{source} is skipped, {' and '.join(targets)} is there")
        else:
            jobs.append(_Job(source, targets))
    return jobs


def _targets(paths: list, endings: list[str], output_dir) -> dict:
    """Results of each file, under OpenL3's names.

    Where two files would share one, they go to folders like their own, or keep their extension: clip.wav.npz.
    """
    paths = list({os.path.abspath(path): path for path in paths}.values())
    named = {path: [get_output_path(path, ending, output_dir) for ending in endings] for path in paths}
    if output_dir and (clashing := _clashing(named)):
        common = os.path.commonpath([_folder(path) for path in paths])
        for path in clashing:
            folder = os.path.join(output_dir, os.path.relpath(_folder(path), common))
            named[path] = [os.path.normpath(get_output_path(path, ending, folder)) for ending in endings]
    for path in _clashing(named):
        folder = os.path.dirname(named[path][0])
        named[path] = [_place(os.path.basename(path), ending, folder) for ending in endings]
    if clashing := _clashing(named):
        raise OpenL3Error(f"results of {', '.join(map(str, clashing))} would have one name: embed them apart")
    return named


def _clashing(named: dict) -> list:
    times = Counter(os.path.abspath(targets[0]) for targets in named.values())
    return [path for path, targets in named.items() if times[os.path.abspath(targets[0])] > 1]


def _folder(path) -> str:
    return os.path.dirname(os.path.abspath(path))


def _write(target: str, verbose, embedding: np.ndarray, timestamps: np.ndarray | None = None) -> None:
    arrays = {"embedding": embedding} if timestamps is None else {"embedding": embedding, "timestamps": timestamps}
    write_arrays(Path(target), arrays)
    _say(verbose, f"{target} is written")


def _say(verbose, message: str) -> None:
    if verbose:
        print(f"openl3: {message}")


def _raise_failures(failures: dict, files: int) -> None:
    """OpenL3Error with the reason of each."""
    if not failures:
        return
    reasons = [_reason(path, error) for path, error in failures.items()]
    done = f"; {files - len(failures)} others were embedded" if files > len(failures) else ""
    raise OpenL3Error(
        f"{len(failures)} of {files} files failed{done}: " + "; ".join(reasons) if files > 1 else reasons[0]
    )


def _reason(path, error: Exception) -> str:
    """What went wrong, with the file's name."""
    expected = isinstance(error, OpenL3Error | OSError | ValueError | TypeError) and str(error)
    reason = str(error) if expected else f"{type(error).__name__}: {error}"
    return reason if str(path) in reason else f"{path}: {reason}"
