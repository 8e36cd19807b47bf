"""The sources of a model's file: the package, the user's own folder, the Hugging Face Hub, or converted OpenL3 files.

The manifest names the sources of each model in the order in which they are tried. Every file is checked against its
digest before it is used, and downloads are kept in a cache.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from ..atomic import write_bytes
from ..regular import check_regular
from . import keras
from .digests import digests_of, sha256_of
from .entries import DIGESTS, check_entry
from .hub import from_hub, verified
from .manifest import model_info, own_folder
from .snapshots import from_hub_folder
from .tensors import read_origin

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def fetch(name: str) -> Path:
    """Return the path of a model's verified file, or folder, which is downloaded on first use.

    Parameters
    ----------
    name : str
        One of `list_models()`.

    Raises
    ------
    ValueError
        If there is no such model.
    OSError
        If no source has the right file; the message gives the reason for each and what to do.
    """
    return fetch_entry(model_info(name))


def fetch_entry(entry: dict) -> Path:
    """Return the path of a model's verified file, like `fetch`, for an entry that needn't be in the manifest yet.

    Parameters
    ----------
    entry : dict
        As in the manifest.

    Raises
    ------
    ValueError
        If the entry is incomplete, lacks a digest, or names a file outside of the folder that it belongs in.
    OSError
        If no source has the right file; the message gives the reason for each and what to do.
    """
    check_entry(entry)
    failures = []
    for source in entry["sources"]:
        try:
            return _FETCHERS[source["type"]](entry, source)
        except OSError as error:
            failures.append(str(error))
    raise OSError(f"the weights of {entry['name']!r} can't be had: " + "; ".join(failures))


def verify_local(name: str) -> Path | None:
    """Return the path of a model's verified file if it is already on this machine, otherwise None.

    Parameters
    ----------
    name : str
        One of `list_models()`.

    Raises
    ------
    ValueError
        If there is no such model.
    OSError
        If the file is damaged, or if its only source is the package or the user's own folder, which lacks it.
    """
    entry = model_info(name)
    for source in entry["sources"]:
        try:
            return _FETCHERS[source["type"]](entry, source, local_only=True)
        except FileNotFoundError:
            if all(other["type"] in ("package", "own") for other in entry["sources"]):
                raise
    return None


# ----------------------------------------------------------------------------------------------------- the package


def _from_package(entry: dict, source: dict, local_only: bool = False) -> Path:
    """Return the file that ships inside the package."""
    path = PRETRAINED / entry["file"]
    if not path.exists():
        raise FileNotFoundError(f"{path}, which the package should hold, is missing: install openavc again")
    return verified(path, entry, "Install openavc again: pip install --force-reinstall --no-deps openavc.")


# ------------------------------------------------------------------------------------------- the user's own folder


def _from_own_folder(entry: dict, source: dict, local_only: bool = False) -> Path:
    """Return the file of a model that the user exported."""
    path = own_folder() / entry["file"]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: export the model again")
    return verified(path, entry, "Export the model again with --overwrite, or delete both of its files.")


# ------------------------------------------------------------------------------------------ OpenL3's authors' files


def converted_folder() -> Path:
    """Return the folder of converted files: OPENAVC_HOME/converted if that is set, otherwise HF_HOME/openavc."""
    from huggingface_hub import constants

    home = os.environ.get("OPENAVC_HOME")
    return Path(home).expanduser() / "converted" if home else Path(constants.HF_HOME) / "openavc"


def _from_url(entry: dict, source: dict, local_only: bool = False) -> Path:
    """Return OpenL3's files for sound and pictures, converted to one; download and convert them if necessary.

    The SHA-256 of the converted file is written beside it, in the format of the command `sha256sum`, and the digests of
    what it was converted from into its header; both are checked every time. Processes wait for one another.
    """
    from filelock import FileLock

    folder = converted_folder()
    target = folder / entry["file"]
    if local_only:
        return _verified_conversion(target, entry, source)
    with contextlib.suppress(OSError):
        return _verified_conversion(target, entry, source)
    folder.mkdir(parents=True, exist_ok=True)
    for ending in (".safetensors", ".lock", ".sha256", ".partial"):
        _check_inside(target.with_suffix(ending), folder)
    with FileLock(target.with_suffix(".lock")):
        try:
            return _verified_conversion(target, entry, source)  # another process was faster
        except FileNotFoundError:
            damage = ""
        except OSError as error:
            damage = f"{error} "
        try:
            _download_and_convert(entry, source, target)
        except (OSError, ValueError) as error:
            raise OSError(f"{damage}{error}") from error
    return target


def _check_inside(path: Path, folder: Path) -> None:
    """Raise OSError if a link leads what is written to `path` out of its folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OSError(f"{path} is a link to {path.resolve()}: nothing is written outside of {folder}; delete the link")


def _verified_conversion(target: Path, entry: dict, source: dict) -> Path:
    """Return `target` if it has the SHA-256 of the manifest, or else the one beside it, and the manifest's origin."""
    digest = target.with_suffix(".sha256")
    if not target.exists():
        raise FileNotFoundError(f"{target} has not been downloaded: run openavc download {entry['name']}")
    actual = sha256_of(target)
    if digest.exists():
        check_regular(digest)
    beside = digest.read_text(errors="replace").split(" ")[0] if digest.exists() else "missing"
    place, expected = ("the manifest", entry["sha256"]) if entry["sha256"] else (digest.name, beside)
    advice = f"Run: openavc download {entry['name']}, which replaces it."
    if actual != expected:
        raise OSError(
            f"{target} is damaged and is not used: its SHA-256 is {actual}, that in {place} is {expected}. {advice}"
        )
    origin, files = read_origin(target), source["files"]
    if not origin:
        raise OSError(
            f"{target} is not used: it doesn't say which files it was converted from, as earlier versions of openavc "
            f"didn't write it. {advice}"
        )
    if len(origin) != len(files) or not all(map(_has_digests, origin, files)):
        raise OSError(
            f"{target} is not used: by its header, it wasn't converted from the files that the manifest names, "
            f"{' and '.join(file['url'] for file in files)}. {advice}"
        )
    return target


def _has_digests(digests: dict, file: dict) -> bool:
    """Whether digests, by their names, are those that the manifest gives for a file."""
    return all(digests.get(kind) == file[kind] for kind in DIGESTS.keys() & file.keys())


def _download_and_convert(entry: dict, source: dict, target: Path) -> None:
    """Download and convert files; write the digest first, so that no file without its own digest passes as valid."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError(
            f"{target} can't be made, as HF_HUB_OFFLINE is set: run `openavc download {entry['name']}` with a network, "
            "or copy the cache of another machine"
        )
    # Only one process at a time works here; what a killed one left is deleted.
    downloads = target.with_suffix(".partial")
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    try:
        paths = [_download(file, downloads, entry["name"]) for file in source["files"]]
        _, content = keras.to_safetensors(*paths, input_repr=entry["options"]["input_repr"])
    finally:
        shutil.rmtree(downloads, ignore_errors=True)
    digest = digests_of(content)["sha256"]
    if entry["sha256"] not in (None, digest):
        raise OSError(
            f"{target} isn't written: its SHA-256 would be {digest}, that in the manifest is {entry['sha256']}; "
            "install openavc again"
        )
    write_bytes(target.with_suffix(".sha256"), f"{digest}  {target.name}\n".encode())
    write_bytes(target, content)
    logging.getLogger(__name__).warning("%s: %s; licence %s", entry["name"], entry["attribution"], entry["license"])


def _download(file: dict, folder: Path, name: str) -> Path:
    """Download a file from its address into a folder; raise OSError unless it has the digests in the manifest."""
    import http.client
    import urllib.request

    from tqdm import tqdm

    url = file["url"]
    path, received = folder / url.rsplit("/", 1)[1], 0
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, open(path, "wb") as output:
            size = int(answer.headers.get("Content-Length", 0))
            with tqdm(total=size or None, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
                while block := answer.read(1 << 20):
                    received += output.write(block)
                    bar.update(len(block))
        if received < size:
            raise ConnectionError(f"the connection broke after {received} of {size} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{url} can't be downloaded: {error}. Try again: openavc download {name}; or load the file by its path, "
            "if you have it"
        ) from error
    content = path.read_bytes()
    actual = digests_of(content)
    for kind in actual.keys() & file.keys():
        if actual[kind] != file[kind]:
            raise OSError(
                f"{url} is damaged or was replaced and is not used: it has {len(content)} bytes and the {kind} "
                f"{actual[kind]}, expected is {file[kind]}"
            )
    return path


_FETCHERS = {
    "package": _from_package,
    "own": _from_own_folder,
    "hub": from_hub,
    "hub-folder": from_hub_folder,
    "url": _from_url,
}
