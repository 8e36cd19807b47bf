"""Embeddings of files, written as .npz with OpenL3's signatures, names and keys; a failure doesn't stop other files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ...inference.batches import numpy_rows
from ...media.audio import open_audio
from ...media.container import existing_file, open_container
from ...media.video import read_frames
from ...models.contract import EmbedsAudio, EmbedsFrames
from .models import kept_audio_model, kept_image_model
from .openl3_exceptions import OpenL3Error
from .openl3_warnings import OpenL3Warning
from .options import check_audio, check_common, check_framing, check_image
from .pictures import check_stack, crops, embed_crops, read_picture
from .results import Job, ending, plan, raise_failures, reason_of, video_ending, write
from .sound import Recording, embed_recordings, open_soundtrack

_SQUASHED = (256, 256)  # pixels; OpenL3 scales all frames of videos to this size, whatever their shape


def process_audio_file(
    filepath: Any,
    output_dir: str | os.PathLike | None = None,
    suffix: str | None = None,
    model: EmbedsAudio | None = None,
    input_repr: str | None = None,
    content_type: str = "music",
    embedding_size: int = 6144,
    center: bool = True,
    hop_size: float = 0.1,
    batch_size: int = 32,
    overwrite: bool = False,
    frontend: str = "kapre",
    verbose: bool = True,
    *,
    strict_openl3: bool = False,
) -> None:
    """Embed sound files, or the sound of videos, into `<name>[_suffix].npz` with `embedding` and `timestamps`.

    Parameters
    ----------
    filepath : str, path, or list of these
    output_dir : str or path, optional
        Created if it doesn't exist. By default, each result is written beside its file.
    suffix : str, optional
        Appended to the names of the results.
    overwrite : bool
        Whether to embed files whose .npz already exists.
    verbose : bool
        Whether to print which files are written and skipped.
    model, input_repr, content_type, embedding_size, center, hop_size, batch_size, frontend, strict_openl3
        As in `get_audio_embedding`.

    Raises
    ------
    OpenL3Error
        For invalid options; or if files failed, after all others are embedded, with the reason for each.
    """
    check_common(content_type, batch_size, verbose)
    check_framing(hop_size, center)
    input_repr, frontend = check_audio(model, input_repr, content_type, embedding_size, frontend)
    jobs = plan(filepath, [ending(suffix)], output_dir, overwrite, verbose)
    if not jobs:
        return
    if model is None:
        model = kept_audio_model(input_repr, content_type, embedding_size, frontend)
    failures: dict[Any, Exception] = {}
    for job in jobs:
        try:
            recording = Recording(*open_audio(job.source, model.sound.dtype), str(job.source))
            [embedded] = embed_recordings(model, [recording], hop_size, center, batch_size, verbose, strict_openl3)
            write(job.targets[0], verbose, *embedded)
        except Exception as error:  # decoders raise anything; the other files go on
            failures[job.source] = error
    raise_failures(failures, len(jobs))


def process_image_file(
    filepath: Any,
    output_dir: str | os.PathLike | None = None,
    suffix: str | None = None,
    model: EmbedsFrames | None = None,
    input_repr: str = "mel256",
    content_type: str = "music",
    embedding_size: int = 8192,
    batch_size: int = 32,
    overwrite: bool = False,
    verbose: bool = True,
    *,
    strict_openl3: bool = False,
) -> None:
    """Embed picture files into `<name>[_suffix].npz`, which holds only `embedding` (1, D).

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
    jobs = plan(filepath, [ending(suffix)], output_dir, overwrite, verbose)
    if not jobs:
        return
    if model is None:
        model = kept_image_model(input_repr, content_type, embedding_size)
    failures: dict[Any, Exception] = {}

    def crops_of_jobs() -> Iterator[tuple[Job, np.ndarray]]:
        for job in jobs:
            try:
                stack = check_stack(read_picture(job.source, strict_openl3))
                [crop] = crops(partial(iter, stack), str(job.source), strict_openl3)
            except Exception as error:  # as in process_audio_file
                failures[job.source] = error
                continue
            yield job, crop

    for job, vector in numpy_rows(embed_crops(model, crops_of_jobs(), batch_size, verbose), model, batch_size):
        try:
            write(job.targets[0], verbose, vector[None])
        except OSError as error:
            failures[job.source] = error
    raise_failures(failures, len(jobs))


def process_video_file(
    filepath: Any,
    output_dir: str | os.PathLike | None = None,
    suffix: str | None = None,
    audio_model: EmbedsAudio | None = None,
    image_model: EmbedsFrames | None = None,
    input_repr: str | None = None,
    content_type: str = "music",
    audio_embedding_size: int = 6144,
    audio_center: bool = True,
    audio_hop_size: float = 0.1,
    image_embedding_size: int = 8192,
    audio_batch_size: int = 32,
    image_batch_size: int = 32,
    audio_frontend: str = "kapre",
    overwrite: bool = False,
    verbose: bool = True,
    *,
    strict_openl3: bool = False,
) -> None:
    """Embed videos into `<name>_audio[_suffix].npz` and `<name>_image[_suffix].npz`: `embedding` and `timestamps`.

    Sound that ends before the file is followed by zeros. A video without sound causes a warning and has only the second
    result.

    Parameters
    ----------
    filepath, output_dir, suffix, overwrite, verbose
        As in `process_audio_file`.
    audio_model, image_model, and the rest
        As in `get_audio_embedding` and `get_image_embedding`.
    strict_openl3 : bool
        Whether frames are squashed to 256 x 256, scaled by their common maximum, and timed by the frame rate truncated
        to a whole number, as in OpenL3. Otherwise they keep their shape and true times.

    Raises
    ------
    OpenL3Error
        As `process_audio_file` does.
    """
    check_common(content_type, audio_batch_size, verbose)
    check_common(content_type, image_batch_size, verbose)
    check_framing(audio_hop_size, audio_center)
    input_repr, frontend = check_audio(audio_model, input_repr, content_type, audio_embedding_size, audio_frontend)
    check_image(image_model, input_repr, content_type, image_embedding_size)
    jobs = plan(
        filepath, [f"audio{video_ending(suffix)}", f"image{video_ending(suffix)}"], output_dir, overwrite, verbose
    )
    if not jobs:
        return
    if audio_model is None:
        audio_model = kept_audio_model(input_repr, content_type, audio_embedding_size, frontend)
    if image_model is None:
        image_model = kept_image_model(input_repr, content_type, image_embedding_size)
    failures: dict[Any, Exception] = {}

    def embed_sound(path: Any) -> tuple[np.ndarray, np.ndarray] | None:
        if not _has_sound(path):
            warnings.warn(f"{path} has no sound: its pictures alone are embedded", OpenL3Warning, 3)
            return None
        recording = Recording(*open_soundtrack(path, audio_model.sound.dtype), str(path))
        options = (audio_hop_size, audio_center, audio_batch_size, verbose, strict_openl3)
        return embed_recordings(audio_model, [recording], *options)[0]

    def embed_pictures(path: Any) -> tuple[np.ndarray, np.ndarray] | None:
        return _embed_frames(path, image_model, image_batch_size, verbose, strict_openl3)

    for job in jobs:
        reasons = []
        for target, embed in zip(job.targets, (embed_sound, embed_pictures), strict=True):
            if os.path.exists(target) and not overwrite:
                continue
            try:
                if embedded := embed(job.source):
                    write(target, verbose, *embedded)
            except Exception as error:  # as in process_audio_file; the other half goes on
                reasons.append(reason_of(job.source, error))
        if reasons:
            failures[job.source] = OpenL3Error("; ".join(dict.fromkeys(reasons)))
    raise_failures(failures, len(jobs))


def _embed_frames(
    path: Any, model: EmbedsFrames, batch_size: int, verbose: bool, strict_openl3: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Embed the frames of a video; return (embedding (N, D), timestamps (N,))."""
    times: list[float] = []

    def frames() -> Iterator[np.ndarray]:
        times.clear()
        for time, frame in read_frames(path, size=_SQUASHED if strict_openl3 else None):
            times.append(time)
            yield frame

    keyed = ((None, crop) for crop in crops(frames, str(path), strict_openl3))
    embedding = np.stack([row for _, row in numpy_rows(embed_crops(model, keyed, batch_size, verbose), model)])
    if strict_openl3:
        return embedding, np.arange(len(embedding)) / _truncated_frame_rate(path)
    return embedding, np.array(times, dtype=np.float64)


def _truncated_frame_rate(path: Any) -> float:
    """Return the frames per second, truncated to a whole number as in OpenL3, unless that would be 0."""
    with open_container(existing_file(path)) as container:
        rate = float(container.streams.best("video").average_rate)
    return int(rate) or rate


def _has_sound(path: Any) -> bool:
    with open_container(existing_file(path)) as container:
        return container.streams.best("audio") is not None
