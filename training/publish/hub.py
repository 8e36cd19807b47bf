"""Uploads to the Hugging Face Hub, with one download to check that users will get the files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from openavc.weights import fetch_entry


def check_repo(repo: str) -> None:
    """Raise ValueError unless `repo` is `owner/name`, in a form that the Hub accepts."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ValueError(f"{repo!r} can't be a repository of the Hub: {error}") from None
    if repo.count("/") != 1:
        raise ValueError(f"a repository of the Hub is owner/name, got {repo!r}")


def push(repo: str, files: list[Path], message: str) -> str:
    """Commit files to the top folder of a repository of the Hub, which is created if it doesn't exist.

    The token comes from `hf auth login` or HF_TOKEN.

    Returns
    -------
    revision : str
        The full hash of the commit.

    Raises
    ------
    ValueError
        If `repo` isn't `owner/name`.
    OSError
        If there is no token, or the Hub refuses or can't be reached; the message says what to do.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    check_repo(repo)
    if get_token() is None:
        raise OSError("there is no token to push with: log in with `hf auth login`, or set HF_TOKEN")
    try:
        api = HfApi()
        api.create_repo(repo, exist_ok=True)
        operations = [CommitOperationAdd(path.name, path) for path in files]
        return api.create_commit(repo, operations, commit_message=message).oid
    except Exception as error:  # a broken connection raises whatever the HTTP library does
        raise OSError(f"{repo} was not pushed: {_explain(error, repo)}") from error


def _explain(error: BaseException, repo: str) -> str:
    """Explain in one line what went wrong and what to do about it."""
    from huggingface_hub import constants

    if isinstance(error, RuntimeError) and error.__cause__:  # only says which file was being sent
        error = error.__cause__
    response = getattr(error, "response", None)
    status = None if response is None else response.status_code
    if status == 401:
        return (
            f"{constants.ENDPOINT} doesn't accept the token (401): log in again with `hf auth login`, or set HF_TOKEN"
        )
    if status == 403:
        return f"the token may not write there (403): use one with write access to {repo.split('/')[0]}'s repositories"
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    refused = isinstance(error, ValueError) or (status is not None and status < 429)
    return reason if refused else f"{reason}. Try again when {constants.ENDPOINT} can be reached."


def fetch_back(entry: dict) -> None:
    """Download an entry's file as a user would, into an empty cache; OSError if it isn't the right file."""
    before = os.environ.get("OPENAVC_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["OPENAVC_HOME"] = home
        try:
            fetch_entry(entry)
        finally:
            del os.environ["OPENAVC_HOME"]
            if before is not None:
                os.environ["OPENAVC_HOME"] = before
