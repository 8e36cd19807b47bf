"""Sources: downloads by the real huggingface_hub, in its own process, from a server on 127.0.0.1."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import FILENAME, REPO, REVISION, FakeHub

import openavc

HUB = {"type": "hub", "repo": REPO, "revision": REVISION, "filename": FILENAME}
PACKAGE = {"type": "package"}

# huggingface_hub reads its environment when it is imported, so each command is a process.
CLIENT = """
import sys
from pathlib import Path
from openavc import cli
from openavc.weights import manifest, sources
sources.PRETRAINED = Path(sys.argv[1])
manifest.MANIFEST = sources.PRETRAINED / "manifest.json"
cli.main(sys.argv[2:], prog_name="openavc")
"""
HURRY = "import time; time.sleep = lambda seconds: None\n"  # huggingface_hub waits between its retries


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry_of(content: bytes, *sources: dict) -> dict:
    size = {"bytes": len(content), "sha256": sha256(content)}
    about = {"modalities": ["audio"], "embedding_size": {"features": 3}, "license": "unknown", "metrics": []}
    return {"name": "tiny", "file": FILENAME, "sources": list(sources), **about, **size}


class Computer:
    """A user's computer: a home, a package whose manifest lists the model "tiny", and a network with the fake Hub."""

    def __init__(self, folder: Path, hub: FakeHub):
        self.hub, self.home, self.package = hub, folder / "home", folder / "package"
        self.package.mkdir()
        self.list_sources(HUB)
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "OPENAVC_", "XDG_"))
            and not key.lower().endswith("_proxy")
        } | {
            "PYTHONPATH": str(Path(openavc.__file__).parents[1]),
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "huggingface"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def list_sources(self, *sources: dict):
        (self.package / "manifest.json").write_text(json.dumps({"models": [entry_of(self.hub.content, *sources)]}))

    def start(self, *arguments: str, hurry: bool = False, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HURRY * hurry + CLIENT, str(self.package), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment | environment, **pipes)

    def download(self, **options) -> Path:
        """Return the path of the downloaded file, which must be the right one."""
        return self.right_file(self.start("download", "tiny", **options))

    def right_file(self, process: subprocess.Popen) -> Path:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        path = Path(output.removeprefix("tiny: ").removesuffix("\n"))
        assert path.read_bytes() == self.hub.content
        return path

    def refusal(self, command: str = "download", **options) -> str:
        """Return the reason why a command fails, which must be an OSError that the command line reports."""
        process = self.start(command, "tiny", **options)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (1, "")
        return errors[errors.index("failed: tiny: ") :]

    def verify(self) -> str:
        output, errors = self.start("verify", "tiny").communicate(timeout=60)
        assert errors == ""
        return output

    def kept(self) -> list[Path]:
        """Return the files in the caches that could pass for weights."""
        found = [path for folder in ("blobs", "snapshots") for path in self.home.rglob(f"{folder}/**/*")]
        return [path for path in found if path.is_file() and path.suffix != ".incomplete"]


@pytest.fixture
def hub():
    with FakeHub(random.Random(0).randbytes(1 << 18)) as hub:
        yield hub


@pytest.fixture
def computer(tmp_path, hub):
    return Computer(tmp_path, hub)


def test_a_model_is_downloaded_once_and_then_needs_no_network(computer, hub):
    path = computer.download()
    asked = list(hub.requests)
    assert asked == [("HEAD", 0), ("GET", 0)]
    assert computer.download(HF_HUB_OFFLINE="1") == computer.download() == path
    assert computer.verify() == f"tiny: good, {path}\n"
    assert hub.requests == asked


@pytest.mark.parametrize(
    ("environment", "folder"),
    [({}, "huggingface/hub"), ({"OPENAVC_HOME": "~/own"}, "own/hub"), ({"OPENAVC_HOME": ""}, "huggingface/hub")],
)
def test_openavc_home_says_where_downloads_lie_else_hf_home(computer, environment, folder):
    assert (computer.home / folder).resolve() in computer.download(**environment).resolve().parents


def test_offline_without_the_file_tells_to_download_it(computer, hub):
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in reason and "openavc download tiny" in reason
    assert hub.requests == []
    assert computer.verify() == "tiny: not downloaded\n"


def test_a_hub_out_of_reach_is_named_with_what_to_do(computer, hub):
    hub.shutdown()
    hub.server_close()
    reason = computer.refusal(hurry=True)
    assert hub.url in reason and "can't be reached" in reason and "openavc download tiny" in reason


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("missing", "404"),
        ("overloaded", "can't be reached"),
        ("cut", "can't be downloaded"),
        ("short body", "can't be downloaded"),
        ("shorter", "damaged or was replaced"),
        ("swapped", "damaged or was replaced"),
    ],
)
def test_a_bad_download_is_refused_and_leaves_nothing_that_hinders_the_next(computer, hub, behaviour, why):
    hub.behaviour = behaviour
    reason = computer.refusal(hurry=True)
    assert why in reason and FILENAME in reason
    assert computer.kept() == []
    hub.behaviour = "good"
    assert computer.download() in computer.kept()


@pytest.mark.parametrize("behaviour", ["swapped", "shorter"])
def test_a_wrong_file_is_refused_with_both_sizes_and_digests(computer, hub, behaviour):
    hub.behaviour = behaviour
    reason = computer.refusal()
    for content in (hub.served(), hub.content):
        assert sha256(content) in reason and f"{len(content)} bytes" in reason


def test_verify_finds_a_file_that_the_hub_lacked_before(computer, hub):
    hub.behaviour = "missing"
    computer.refusal()
    hub.behaviour = "good"
    assert computer.verify() == "tiny: not downloaded\n"
    path = computer.download()
    assert computer.verify() == f"tiny: good, {path}\n"


@pytest.mark.parametrize(
    ("size", "least"),
    [(1 << 20, 0), (24 << 20, 1)],  # huggingface_hub keeps blocks of 10 MiB: it resumes after the last whole one
)
def test_a_download_that_breaks_half_way_is_resumed(computer, hub, size, least):
    hub.content, hub.behaviour = random.Random(1).randbytes(size), "dies once"
    computer.list_sources(HUB)
    computer.download(hurry=True)
    (_, first), (_, second) = [request for request in hub.requests if request[0] == "GET"]
    assert first == 0 and least <= second <= size // 2


def test_a_process_killed_half_way_leaves_nothing_that_passes_for_the_file(computer, hub):
    hub.behaviour = "stalls"
    process = computer.start("download", "tiny")
    assert hub.half_sent.wait(60)
    process.kill()
    process.communicate()
    assert computer.verify() == "tiny: not downloaded\n"
    hub.behaviour = "good"
    computer.download()


def test_two_processes_at_once_both_get_the_file(computer, hub):
    hub.behaviour = "together"
    first, second = (computer.start("download", "tiny") for _ in range(2))
    assert computer.right_file(first) == computer.right_file(second)
    assert [method for method, _ in hub.requests].count("HEAD") == 2


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_verify_notices_damage_in_the_cache(computer, hub):
    path = computer.download()
    spoil(path)
    reason = computer.refusal("verify")
    assert str(path) in reason and sha256(path.read_bytes()) in reason and sha256(hub.content) in reason
    assert "openavc download tiny" in reason


@pytest.mark.parametrize("deleted", [True, False])  # the link is deleted, not the blob that it names
def test_what_is_damaged_in_the_cache_is_downloaded_again(computer, deleted):
    path = computer.download()
    spoil(path)
    if deleted:
        path.unlink()
    assert computer.download() == path


def test_what_is_damaged_in_the_cache_is_not_used_offline_either(computer, hub):
    path = computer.download()
    spoil(path)
    damaged = path.read_bytes()
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert str(path) in reason and sha256(damaged) in reason and sha256(hub.content) in reason
    assert computer.kept() == []
    assert computer.download() == path


def test_what_is_damaged_outside_of_the_cache_is_not_deleted(computer, tmp_path):
    path = computer.download()
    (tmp_path / "mine").write_text("mine")
    path.unlink()
    path.symlink_to(tmp_path / "mine")
    assert computer.download() == path
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_is_damaged_in_a_folder_that_the_cache_links_to_is_downloaded_again(computer, tmp_path):
    path = computer.download()
    blobs = path.resolve().parent
    blobs.rename(tmp_path / "blobs")
    blobs.symlink_to(tmp_path / "blobs")  # as on another disk
    spoil(path)
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert str(path) in reason and "HF_HUB_OFFLINE is set" in reason
    computer.download()
    spoil(path)
    assert computer.download() == path


@pytest.mark.parametrize("packaged", ["right", "damaged", None])
def test_the_package_comes_first_and_the_hub_second(computer, hub, packaged):
    computer.list_sources(PACKAGE, HUB)
    if packaged:
        (computer.package / FILENAME).write_bytes(hub.content)
    if packaged == "damaged":
        spoil(computer.package / FILENAME)
    path = computer.download()
    assert (path.parent == computer.package) == (hub.requests == []) == (packaged == "right")


def test_when_no_source_helps_the_reason_of_each_is_told(computer, hub):
    computer.list_sources(PACKAGE, HUB)
    hub.behaviour = "missing"
    reason = computer.refusal()
    package, of_hub = reason.index(str(computer.package / FILENAME)), reason.index(f"{REPO}/{FILENAME}")
    assert package < reason.index("install openavc again") < of_hub < reason.index("404")
