"""Which files inputs stand for, and where the result of each goes; made for a million of them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One file to embed, and where its result goes."""

    source: Path
    target: Path


class Plan:
    """Jobs in order, no two of which share a source or a target.

    Only the names of the sources are held: objects for a million jobs would take gigabytes.

    Parameters
    ----------
    starts : dict of str to int
        Source, absolute -> where in it the part begins after which its result is named.
    output : Path
        Folder of the results.
    ending : str
        Of the names of results.
    """

    def __init__(self, starts: dict[str, int], output: Path, ending: str) -> None:
        self._starts, self._output, self._ending = starts, output, ending
        self._kept = _keeping_their_ending(starts)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Job]:
        for source, start in self._starts.items():
            name = _name(source, start, self._kept) + self._ending
            yield Job(Path(source), self._output / name)

    def has_source(self, path: str) -> bool:
        """Whether there is a job for a file, named by its absolute path."""
        return path in self._starts


def plan_jobs(inputs: Iterable[str | Path], output: Path, extensions: set[str], ending: str = ".npz") -> Plan:
    """Find the files that paths, folders and globs stand for, and give each a result below `output`.

    A folder keeps its structure, a file its name. If two results would share a name, all are placed by their path below
    the folder common to all sources, and files that differ only in their extension keep it.

    Parameters
    ----------
    inputs : iterable of str or Path
        Files of any name, folders (searched recursively for `extensions`), or glob patterns.
    output : Path
    extensions : set of str
    ending : str
        Of the names of results; empty for folders.
    """
    starts: dict[str, int] = {}
    for item in inputs:
        for file, length in expand(item, extensions):
            source = os.path.abspath(file)
            starts.setdefault(source, len(source) - length)
    if _collide(starts):
        common = os.path.join(os.path.commonpath({os.path.dirname(source) for source in starts}), "")
        starts = dict.fromkeys(starts, len(common))
    return Plan(starts, output, ending)


def standing_for_nothing(inputs: Iterable[str | Path], extensions: set[str]) -> list[str]:
    """Return the inputs in which no file is found: folders, or globs of folders, that hold none of the extensions."""
    return [str(item) for item in inputs if next(expand(item, extensions), None) is None]


def find_files(inputs: Iterable[str | Path], extensions: set[str]) -> list[Path]:
    """Find the files that paths, folders and globs stand for, each once, named as they were given."""
    return [Path(file) for file in dict.fromkeys(file for item in inputs for file, _ in expand(item, extensions))]


def passed_over(inputs: Iterable[str | Path], plan: Plan, extensions: set[str]) -> Counter[str]:
    """Count, by extension, the files in folders that look like media and that no job is for.

    Parameters
    ----------
    inputs : iterable of str or Path
        As given to `plan_jobs`.
    plan : Plan
        What it planned.
    extensions : set of str
        Of files that look like media and aren't searched for.
    """
    media = {os.path.abspath(file) for item in inputs for file, _ in expand(item, extensions)}
    return Counter(_split(source)[1].lower() for source in media if not plan.has_source(source))


def expand(item: str | Path, extensions: set[str]) -> Iterator[tuple[str, int]]:
    """Yield the files that a path, a folder or a glob stands for, each with the length of its path below that folder.

    What is missing, a glob that matches nothing, and a folder that can't be listed are yielded like files: reading them
    fails by name. An empty `item` raises ValueError.
    """
    if str(item) == "":
        raise ValueError('an empty name was given; "." names the current folder')
    path = Path(item)
    if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
        for below in _files_below(str(path), "", extensions):
            yield os.path.join(path, below), len(below)
    elif not os.path.lexists(path) and (matches := glob.glob(str(item), recursive=True)):
        for match in sorted([*matches, *_closed_to(path)]):
            yield from expand(match, extensions)
    else:
        yield str(path), len(os.path.basename(os.path.abspath(path)))


def _closed_to(pattern: Path) -> set[str]:
    """Return the folders into which the wildcards of a pattern lead, and that can't be listed."""
    leading = [str(parent) for parent in pattern.parents if glob.has_magic(str(parent))]
    found = {folder for parent in leading for folder in glob.glob(parent, recursive=True) if os.path.isdir(folder)}
    return {folder for folder in found if not os.access(folder, os.R_OK | os.X_OK)}


def _files_below(top: str, folder: str, extensions: set[str]) -> Iterator[str]:
    """Yield the files of these extensions that aren't hidden, and the folders that can't be listed, in order.

    They, like the folder, are named from the top.
    """
    place = os.path.join(top, folder)
    try:
        if not os.access(place, os.X_OK):  # without it, only names can be read
            raise PermissionError(place)
        with os.scandir(place) as entries:
            folders, files = _sorted_out(entries, extensions)
    except OSError:
        yield folder
        return
    for name in sorted([*folders, *files]):
        if name in folders:
            yield from _files_below(top, os.path.join(folder, name), extensions)
        else:
            yield os.path.join(folder, name)


def _sorted_out(entries: Iterable[os.DirEntry], extensions: set[str]) -> tuple[set[str], list[str]]:
    """Return the names of folders, and of files of these extensions."""
    folders, files = set(), []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.add(entry.name)
        elif _split(entry.name)[1].lower() in extensions and entry.name[0] != "." and _is_file(entry):
            files.append(entry.name)
    return folders, files


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _split(path: str) -> tuple[str, str]:
    """Split a path before its extension, as `Path.suffix` has it: neither `.hidden` nor `clip.` have one."""
    name = os.path.basename(path)
    length = len(name) - name.rfind(".")
    return (path[:-length], path[-length:]) if 1 < length < len(name) else (path, "")


def _name(source: str, start: int, kept: set[str]) -> str:
    """Return what the result of a source is named after: the end of its path, without the extension unless kept."""
    return source[start:] if source in kept else _split(source[start:])[0]


def _keeping_their_ending(starts: dict[str, int]) -> set[str]:
    """Return the sources whose results must keep their extension, `clip.wav.npz`, as they would share a name."""
    kept: set[str] = set()
    if not _collide(starts):
        return kept
    while True:
        times = Counter(_name(source, start, kept) for source, start in starts.items())
        clashing = {source for source, start in starts.items() if times[_name(source, start, kept)] > 1} - kept
        if not clashing:
            return kept
        kept |= clashing


def _collide(starts: dict[str, int]) -> bool:
    """Whether two results would share a name."""
    return len({_name(source, start, set()) for source, start in starts.items()}) < len(starts)
