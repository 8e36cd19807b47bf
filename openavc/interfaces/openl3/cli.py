"""OpenL3's command line: `python -m openavc.compat.openl3 {audio|image|video} FILES_OR_FOLDERS...`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import Any

from ...extraction.extraction import EXTENSIONS
from .files import process_audio_file, process_image_file, process_video_file
from .openl3_exceptions import OpenL3Error
from .options import AUDIO_SIZES, CONTENT_TYPES, FRONTENDS, IMAGE_SIZES, INPUT_REPRS


def main(args: list[str] | None = None) -> None:
    """Embed the files named on the command line; exit with status -1 if there are none, 1 if any failed."""
    options = parse_args(args)
    files = find_files(options.inputs, options.modality)
    if not files:
        print(f"openl3: no files found in {', '.join(options.inputs)}", file=sys.stderr)
        sys.exit(-1)
    warnings.showwarning = lambda message, *_, **__: print(f"openl3: warning: {message}", file=sys.stderr)
    try:
        _run(options, files)
    except (OpenL3Error, OSError) as error:
        print(f"openl3: {error}", file=sys.stderr)
        sys.exit(1)


def _run(options: argparse.Namespace, files: list[str]) -> None:
    common: dict[str, Any] = {
        "output_dir": options.output_dir,
        "suffix": options.suffix,
        "input_repr": options.input_repr,
        "content_type": options.content_type,
        "overwrite": options.overwrite,
        "verbose": not options.quiet,
        "strict_openl3": options.strict_openl3,
    }
    audio: dict[str, Any] = {
        "embedding_size": options.audio_embedding_size,
        "center": not options.no_audio_centering,
        "hop_size": options.audio_hop_size,
        "batch_size": options.audio_batch_size,
        "frontend": options.audio_frontend,
    }
    image: dict[str, Any] = {"embedding_size": options.image_embedding_size, "batch_size": options.image_batch_size}
    if options.modality == "audio":
        process_audio_file(files, **common, **audio)
    elif options.modality == "image":
        process_image_file(files, **common, **image)
    else:
        audio = {f"audio_{name}": value for name, value in audio.items()}
        image = {f"image_{name}": value for name, value in image.items()}
        process_video_file(files, **common, **audio, **image)


def find_files(inputs: list[str], modality: str) -> list[str]:
    """Return the given files, and the files in the given folders whose extension fits the modality.

    Subfolders aren't searched.
    """
    files = []
    for item in inputs:
        if not os.path.isdir(item):
            files.append(item)
            continue
        names = sorted(name for name in os.listdir(item) if os.path.splitext(name)[1].lower() in EXTENSIONS[modality])
        files += [path for name in names if os.path.isfile(path := os.path.join(item, name))]
    return files


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
    add("-t", "--audio-hop-size", type=_positive_float, default=0.1, help="seconds")
    add("-ab", "--audio-batch-size", type=_positive_int, default=32)
    add("-is", "--image-embedding-size", type=int, default=8192, choices=IMAGE_SIZES)
    add("-ib", "--image-batch-size", type=_positive_int, default=32)
    add("-af", "--audio-frontend", default="kapre", choices=list(FRONTENDS))
    add("-ow", "--overwrite", action="store_true", help="embed files whose result is there, too")
    add("-q", "--quiet", action="store_true")
    add("--strict-openl3", action="store_true", help="OpenL3's own numbers, where openavc's are better")
    return parser.parse_args(args)


def _positive_float(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text}")
    return value
