"""Folders on the Hub: the commit is resolved once and noted, with the digests that the Hub itself states of its files.

A note is a file of JSON, one for each model. As long as it is there, the same commit is used, offline too, and its
files are checked against the note at each use. Once it is deleted, the newest commit is resolved.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from ..atomic import write_bytes
from .folders import is_read
from .hub import from_hub


def notes_folder() -> Path:
    """Return the folder of notes: OPENAVC_HOME/commits if that is set, otherwise HF_HOME/openavc/commits."""
    from huggingface_hub import constants

    home = os.environ.get("OPENAVC_HOME")
    return (Path(home).expanduser() if home else Path(constants.HF_HOME) / "openavc") / "commits"


def from_hub_folder(entry: dict, source: dict, local_only: bool = False) -> Path:
    """Return a folder of the Hub, all files of which are the noted ones; resolve and download it if necessary."""
    from filelock import FileLock

    path = notes_folder() / f"{entry['name']}.json"
    note = _read(path, source)
    if local_only and note is None:
        raise FileNotFoundError(f"{source['repo']} has not been downloaded: run openavc download {entry['name']}")
    if note is not None and local_only:
        return _folder(entry, note, local_only=True)
    if note is not None:
        with contextlib.suppress(OSError):
            return _folder(entry, note, local_only=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        note = _read(path, source) or _resolve(entry, source)
        folder = _folder(entry, note)
        write_bytes(path, (json.dumps(note, indent=2) + "\n").encode())
    return folder


def _folder(entry: dict, note: dict, local_only: bool = False) -> Path:
    """Return the folder in the cache that holds the files of a note, each of which is checked, or downloaded."""
    folders = []
    for name, stated in note["files"].items():
        source = {"repo": note["repo"], "revision": note["commit"], "filename": name}
        folders.append(from_hub({"name": entry["name"]} | stated, source, local_only).parent)
    return folders[0]


def _read(path: Path, source: dict) -> dict | None:
    """Return the note of a repository's revision, or None if there is none that can be used."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        same = (note["repo"], note["revision"]) == (source["repo"], source["revision"])
        good = all(is_read(name) and {"bytes"} < stated.keys() for name, stated in note["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return note if same and good and note["files"] and note.get("commit") else None


def _resolve(entry: dict, source: dict) -> dict:
    """Ask the Hub for the commit of a revision, and for size and digest of the files in it that are read.

    Large files have their SHA-256 there, small ones the SHA-1 by which git identifies them.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    repo, revision = source["repo"], source["revision"]
    address = f"{repo} at {constants.ENDPOINT}"
    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError(
            f"{address} is not in the cache and HF_HUB_OFFLINE is set: run `openavc download {entry['name']}` with a "
            "network, copy the cache of another machine, or give the path of a folder that holds the model"
        )
    try:
        about = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except RevisionNotFoundError as error:
        raise OSError(f"{address} has no revision {revision!r}: install a newer openavc") from error
    except RepositoryNotFoundError as error:
        raise OSError(f"{address} doesn't exist, or isn't public: {_first_line(error)}") from error
    except HfHubHTTPError as error:
        raise OSError(f"{address} can't be asked: {_first_line(error)}. Try again.") from error
    except Exception as error:  # a broken connection raises any error of the HTTP library
        raise FileNotFoundError(
            f"{address} is not in the cache and the Hub can't be reached: run `openavc download {entry['name']}` with "
            f"a network, or copy the cache of another machine ({type(error).__name__}: {_first_line(error)})"
        ) from error
    files = {}
    for file in about.siblings or []:
        if is_read(file.rfilename):
            digest = {"sha256": file.lfs.sha256} if file.lfs else {"git_blob_sha1": file.blob_id}
            if None in digest.values():
                raise OSError(f"{address} states no digest of {file.rfilename}, so it can't be checked")
            files[file.rfilename] = {"bytes": file.size, **digest}
    if not files or not about.sha:
        raise OSError(f"{address} holds no model in transformers' layout")
    return {"repo": repo, "revision": revision, "commit": about.sha, "files": files}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
