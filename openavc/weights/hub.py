"""Files on the Hugging Face Hub: downloaded once, kept in a cache, and checked against their digest at each use."""

from __future__ import annotations

import os
from pathlib import Path

from .digests import git_blob_sha1, sha256_of


def verified(path: Path, entry: dict, advice: str) -> Path:
    """Return `path` if it has the entry's digest; otherwise raise OSError with the advice.

    The digest is `sha256` or, for small files of the Hub, `git_blob_sha1`.
    """
    kind, title = ("sha256", "SHA-256") if entry.get("sha256") else ("git_blob_sha1", "git's SHA-1")
    try:
        actual = sha256_of(path) if kind == "sha256" else git_blob_sha1(path.read_bytes())
    except OSError as error:
        raise OSError(f"{error}. {advice}") from error
    if actual != entry[kind]:
        raise OSError(
            f"{path} is damaged or was replaced and is not used: it has {path.stat().st_size} bytes and {title} "
            f"{actual}, expected are {entry['bytes']} bytes and {entry[kind]}. {advice}"
        )
    return path


def cache_folder() -> Path | None:
    """Return the folder of downloads: OPENAVC_HOME/hub if that is set, otherwise None for the Hub's own (HF_HOME)."""
    home = os.environ.get("OPENAVC_HOME")
    return Path(home).expanduser() / "hub" if home else None


def from_hub(entry: dict, source: dict, local_only: bool = False) -> Path:
    """Download a file, or take it from the cache; a damaged one is deleted and downloaded once more."""
    if local_only:
        path = Path(_download_from_hub(entry, source, local_only=True))
        return verified(path, entry, f"Run: openavc download {entry['name']}, which replaces it.")
    damage, remains = "", False
    for _ in range(2):
        try:
            path = Path(_download_from_hub(entry, source, anew=remains))
        except OSError as error:
            raise OSError(damage + str(error)) from error
        try:
            return verified(path, entry, "It was deleted.")
        except OSError as error:
            damage = f"{error} "
            remains = _delete_from_hub_cache(path)
    raise OSError(f"{damage}Try again: openavc download {entry['name']}.")


def _delete_from_hub_cache(path: Path) -> bool:
    """Delete a file, and what it links to unless that lies outside of the cache; return whether the latter remains."""
    from huggingface_hub import constants

    blob, cache = path.resolve(), cache_folder() or Path(constants.HF_HUB_CACHE)
    if blob.is_relative_to(cache.resolve()):
        blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return blob.exists()


def _download_from_hub(
    entry: dict, source: dict, local_only: bool = False, anew: bool = False, broke: bool = False
) -> str:
    """Return the cached path of a file from the Hub, downloading it if necessary, or whatever is there (`anew`).

    hf_hub_download locks, resumes and renames, so two processes may fetch the same file at once. Before version 1.20
    it resumes only when it is called again, which is done unless the connection `broke` before.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    address = f"{source['repo']}/{source['filename']} at {constants.ENDPOINT}"
    options = {"revision": source["revision"], "cache_dir": cache_folder(), "local_files_only": local_only}
    unreachable = (LocalEntryNotFoundError, ValueError) if anew else LocalEntryNotFoundError
    try:
        return hf_hub_download(source["repo"], source["filename"], force_download=anew, **options)
    except unreachable as error:
        state = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub can't be reached"
        raise FileNotFoundError(
            f"{address} is not in the cache and {state}: run `openavc download {entry['name']}` with a network, "
            f"or copy the cache of another machine ({error})"
        ) from error
    except HfHubHTTPError as error:
        raise OSError(f"{address} can't be downloaded: {error}") from error
    except Exception as error:  # a broken connection raises any error of the HTTP library
        if not broke:
            return _download_from_hub(entry, source, local_only, anew, broke=True)
        raise OSError(f"{address} can't be downloaded: {type(error).__name__}: {error}. Try again.") from error
