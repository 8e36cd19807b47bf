"""Names of OpenL3's results, which files are still to be embedded, and what is said of those that failed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...extraction.results import write_arrays
from .openl3_exceptions import OpenL3Error
from .options import check_choice


def get_output_path(filepath: str | os.PathLike, suffix: str, output_dir: str | os.PathLike | None = None) -> str:
    """Return the path of a file's result: its name without extension, then "_" and `suffix`.

    The "_" is left out if `suffix` begins with ".". `output_dir` is the file's own folder by default.
    """
    name = os.path.splitext(os.path.basename(filepath))[0]
    return _result_path(name, suffix, output_dir or os.path.dirname(filepath))


def _result_path(name: str, suffix: str, folder: str | os.PathLike) -> str:
    return os.path.join(folder, name + suffix if suffix.startswith(".") else f"{name}_{suffix}")


def ending(suffix: str | None) -> str:
    return f"{suffix or ''}.npz"


def video_ending(suffix: str | None) -> str:
    """Return the part of a result's name after "audio" or "image"."""
    return f"_{suffix}.npz" if suffix else ".npz"


class Job(NamedTuple):
    """One file to embed, and where its results go."""

    source: Any  # str or path
    targets: list[str]


def plan(filepath: Any, endings: list[str], output_dir: Any, overwrite: bool, verbose: bool) -> list[Job]:
    """Return one job per file, except for files whose results all exist and aren't to be overwritten."""
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
            jobs.append(Job(source, targets))
    return jobs


def _targets(paths: list, endings: list[str], output_dir: Any) -> dict[Any, list[str]]:
    """Return the paths of each file's results, under OpenL3's names.

    Results that would share a name go to folders below `output_dir` that mirror those of the files; names that still
    clash keep the extension, as in clip.wav.npz.
    """
    paths = list({os.path.abspath(path): path for path in paths}.values())
    targets = {path: [get_output_path(path, end, output_dir) for end in endings] for path in paths}
    if output_dir and (clashing := _clashing(targets)):
        common = os.path.commonpath([_folder(path) for path in paths])
        for path in clashing:
            folder = os.path.join(output_dir, os.path.relpath(_folder(path), common))
            targets[path] = [os.path.normpath(get_output_path(path, end, folder)) for end in endings]
    for path in _clashing(targets):
        folder = os.path.dirname(targets[path][0])
        targets[path] = [_result_path(os.path.basename(path), end, folder) for end in endings]
    if clashing := _clashing(targets):
        raise OpenL3Error(f"results of {', '.join(map(str, clashing))} would have one name: embed them apart")
    return targets


def _clashing(targets: dict[Any, list[str]]) -> list:
    """Return the files whose results would have the same name as another file's."""
    uses = Counter(os.path.abspath(results[0]) for results in targets.values())
    return [path for path, results in targets.items() if uses[os.path.abspath(results[0])] > 1]


def _folder(path: Any) -> str:
    return os.path.dirname(os.path.abspath(path))


def write(target: str, verbose: bool, embedding: np.ndarray, timestamps: np.ndarray | None = None) -> None:
    arrays = {"embedding": embedding} if timestamps is None else {"embedding": embedding, "timestamps": timestamps}
    write_arrays(Path(target), arrays)
    _say(verbose, f"{target} is written")


def _say(verbose: bool, message: str) -> None:
    if verbose:
        print(f"openl3: {message}")


def raise_failures(failures: dict[Any, Exception], files: int) -> None:
    """Raise OpenL3Error with the reason for each failure, if there are any."""
    if not failures:
        return
    reasons = [reason_of(path, error) for path, error in failures.items()]
    done = f"; {files - len(failures)} others were embedded" if files > len(failures) else ""
    raise OpenL3Error(
        f"{len(failures)} of {files} files failed{done}: " + "; ".join(reasons) if files > 1 else reasons[0]
    )


def reason_of(path: Any, error: Exception) -> str:
    """Return the reason why a file failed, including its name."""
    expected = isinstance(error, OpenL3Error | OSError | ValueError | TypeError) and str(error)
    reason = str(error) if expected else f"{type(error).__name__}: {error}"
    return reason if str(path) in reason else f"{path}: {reason}"
