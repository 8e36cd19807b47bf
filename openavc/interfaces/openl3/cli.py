"""OpenL3's command line: `python -m openavc.compat.openl3 {audio|image|video} FILES_OR_FOLDERS...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ...extraction.extraction import EXTENSIONS
from ...lines import print_any_letter, tell, tell_warnings
from ...threads import use_threads
from .files import process_audio_file, process_image_file, process_video_file
from .openl3_exceptions import OpenL3Error
from .options import AUDIO_SIZES, CONTENT_TYPES, FRONTENDS, IMAGE_SIZES, INPUT_REPRS, check_choice

Number = TypeVar("Number", int, float)


def main(args: list[str] | None = None) -> None:
    """Embed the files named on the command line; exit with status -1 if there are none, 1 if any failed."""
    options = vars(parse_args(args))
    try:
        use_threads(options.pop("threads"))
    except ValueError as error:
        tell(f"openl3: {error}")
        sys.exit(2)
    center, verbose = not options.pop("no_audio_centering"), not options.pop("quiet")
    print_any_letter()
    tell_warnings("openl3: warning: ")
    try:
        run(**options, audio_center=center, verbose=verbose)
    except (OpenL3Error, OSError) as error:
        tell(f"openl3: {error}")
        sys.exit(1)


def run(
    modality: str,
    inputs: Any,
    output_dir: str | os.PathLike | None = None,
    suffix: str | None = None,
    input_repr: str = "mel256",
    content_type: str = "music",
    audio_embedding_size: int = 6144,
    audio_center: bool = True,
    audio_hop_size: float = 0.1,
    audio_batch_size: int = 32,
    image_embedding_size: int = 8192,
    image_batch_size: int = 32,
    audio_frontend: str = "kapre",
    overwrite: bool = False,
    verbose: bool = False,
    *,
    strict_openl3: bool = False,
) -> None:
    """Do what the command line does: embed files, and those in folders, as `process_<modality>_file` do.

    Parameters
    ----------
    modality : {"audio", "image", "video"}
    inputs : str, path, or iterable of these
        Files, and folders, whose files of the modality's endings are taken; subfolders aren't searched.
    output_dir, suffix, overwrite, verbose
        As in `process_audio_file`.
    audio_embedding_size, image_embedding_size, and the rest
        As in `process_video_file`.

    Raises
    ------
    OpenL3Error
        As `process_audio_file` does.
    SystemExit
        With status -1, if the folders hold no file of the modality.
    """
    check_choice("modality", modality, EXTENSIONS)
    files = _find_files(inputs, modality)
    if not files:
        print(f"openl3: No files found in {inputs}. Aborting.")
        sys.exit(-1)
    common: dict[str, Any] = {
        "output_dir": output_dir,
        "suffix": suffix,
        "input_repr": input_repr,
        "content_type": content_type,
        "overwrite": overwrite,
        "verbose": verbose,
        "strict_openl3": strict_openl3,
    }
    audio: dict[str, Any] = {
        "embedding_size": audio_embedding_size,
        "center": audio_center,
        "hop_size": audio_hop_size,
        "batch_size": audio_batch_size,
        "frontend": audio_frontend,
    }
    image: dict[str, Any] = {"embedding_size": image_embedding_size, "batch_size": image_batch_size}
    if modality == "audio":
        process_audio_file(files, **common, **audio)
    elif modality == "image":
        process_image_file(files, **common, **image)
    else:
        audio = {f"audio_{name}": value for name, value in audio.items()}
        image = {f"image_{name}": value for name, value in image.items()}
        process_video_file(files, **common, **audio, **image)
    if verbose:
        print("openl3: Done!")


def _find_files(inputs: Any, modality: str) -> list[Any]:
    """Return the files that `run` is given; those that don't exist are left for it to name beside other failures."""
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if not isinstance(inputs, Iterable):
        raise OpenL3Error(f"inputs must be a path or a list of paths, got {inputs!r}")
    found = (_files_in(item, EXTENSIONS[modality]) if os.path.isdir(item) else [item] for item in inputs)
    return [file for files in found for file in files]


def get_file_list(input_list: Iterable[str | os.PathLike]) -> list[str]:
    """Return the files in a list, by absolute paths, and every file in its folders; subfolders aren't searched.

    Parameters
    ----------
    input_list : list, or other iterable, of str or path

    Raises
    ------
    argparse.ArgumentTypeError
        If `input_list` is a string or not iterable.
    OpenL3Error
        If a file or folder doesn't exist.
    """
    if not isinstance(input_list, Iterable) or isinstance(input_list, str | bytes):
        raise argparse.ArgumentTypeError(f"input_list must be a list of paths, got {input_list!r}")
    files = []
    for item in input_list:
        if os.path.isdir(item):
            files += _files_in(item)
        elif os.path.isfile(item):
            files.append(os.path.abspath(item))
        else:
            raise OpenL3Error(f"there is no file or folder {item}")
    return files


def _files_in(folder: str | os.PathLike, endings: Iterable[str] | None = None) -> list[str]:
    """Return the paths of a folder's files in the order of their names: all, or those with given endings."""
    names = sorted(os.listdir(folder))
    taken = [name for name in names if endings is None or os.path.splitext(name)[1].lower() in endings]
    return [path for name in taken if os.path.isfile(path := os.path.join(folder, name))]


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Parse OpenL3's options and ours; `args` is the command line of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m openavc.compat.openl3", description="Embed sounds, pictures or videos with OpenL3's networks."
    )
    add = parser.add_argument
    add("modality", choices=["audio", "image", "video"])
    add("inputs", nargs="+", help="files, or folders of files")
    add("-o", "--output-dir", help="folder of the results; beside each file by default")
    add("-x", "--suffix", help="end of the results' names")
    add("-i", "--input-repr", default="mel256", choices=INPUT_REPRS)
    add("-c", "--content-type", default="music", choices=CONTENT_TYPES)
    add("-as", "--audio-embedding-size", type=int, default=6144, choices=AUDIO_SIZES)
    add("-n", "--no-audio-centering", action="store_true", help="begin windows on their timestamps")
    add("-t", "--audio-hop-size", type=positive_float, default=0.1, help="seconds")
    add("-ab", "--audio-batch-size", type=positive_int, default=32)
    add("-is", "--image-embedding-size", type=int, default=8192, choices=IMAGE_SIZES)
    add("-ib", "--image-batch-size", type=positive_int, default=32)
    add("-af", "--audio-frontend", default="kapre", choices=list(FRONTENDS))
    add("-ow", "--overwrite", action="store_true", help="embed files whose result is there, too")
    add("-q", "--quiet", action="store_true")
    add("--strict-openl3", action="store_true", help="OpenL3's own numbers, where openavc's are better")
    add("--threads", type=positive_int, help="of the CPU")
    return parser.parse_args(args)


def positive_float(value: Any) -> float:
    """Return a number, or the number that a text gives; raise argparse.ArgumentTypeError unless it is positive."""
    return _positive(float, "number", value)


def positive_int(value: Any) -> int:
    """Return a number, or the number that a text gives, as int; raise ArgumentTypeError unless it is positive."""
    return _positive(int, "whole number", value)


def _positive(kind: Callable[[Any], Number], noun: str, value: Any) -> Number:
    try:
        if (number := kind(value)) > 0:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"must be a positive {noun}, got {value!r}")
