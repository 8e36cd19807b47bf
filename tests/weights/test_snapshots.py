"""Folders on the Hub: resolved once, checked against the Hub's own digests, by the real huggingface_hub."""

import hashlib
import json

import pytest
from hub_server import FakeHub
from test_sources import Computer, spoil

REPO, COMMIT, LATER = "facebook/tiny", "a" * 40, "b" * 40
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"first" * 1000,
    "model-00002-of-00002.safetensors": b"second" * 1000,
    "tokenizer.json": b'{"words": []}',
    "README.md": b"not read",
    "model.py": b"not run",
    "other/config.json": b"not read",
}
READ = sorted(name for name in FILES if name.endswith((".json", ".safetensors")) and "/" not in name)


class Folders(Computer):
    """A computer whose manifest lists the folder "tiny"."""

    def list_sources(self, *sources, revision="main"):
        entry = {
            "name": "tiny",
            "file": "tiny",
            "bytes": None,
            "sha256": None,
            "modalities": ["audio"],
            "embedding_size": {},
            "license": "unknown",
            "sources": [{"type": "hub-folder", "repo": REPO, "revision": revision}],
        }
        (self.package / "manifest.json").write_text(json.dumps({"models": [entry]}))

    def right_file(self, process):
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return type(self.package)(output.removeprefix("tiny: ").removesuffix("\n"))

    @property
    def note(self):
        return self.home / "huggingface/openavc/commits/tiny.json"


@pytest.fixture
def hub():
    with FakeHub(b"") as hub:
        hub.repos[REPO] = [(COMMIT, dict(FILES))]
        yield hub


@pytest.fixture
def computer(tmp_path, hub):
    return Folders(tmp_path, hub)


def test_a_folder_is_resolved_once_and_then_needs_no_network(computer, hub):
    folder = computer.download()
    assert folder.name == COMMIT
    assert sorted(path.name for path in folder.iterdir()) == READ  # nothing that could be run
    note = json.loads(computer.note.read_text())
    assert (note["repo"], note["revision"], note["commit"]) == (REPO, "main", COMMIT)
    assert note["files"]["config.json"] == {
        "bytes": 2,
        "git_blob_sha1": hashlib.sha1(b"blob 2\0{}").hexdigest(),
    }
    assert note["files"][READ[1]] == {"bytes": 5000, "sha256": hashlib.sha256(FILES[READ[1]]).hexdigest()}
    asked = len(hub.requests)
    hub.repos[REPO].append((LATER, FILES | {"config.json": b"[]"}))  # which isn't looked for
    assert computer.download(HF_HUB_OFFLINE="1") == folder
    assert computer.verify() == f"tiny: good, {folder}\n"
    assert len(hub.requests) == asked
    computer.note.unlink()  # so that the newest is
    assert computer.download().name == LATER


@pytest.mark.parametrize("name", [READ[0], READ[1]])
def test_damage_is_noticed_refused_offline_and_mended(computer, name):
    folder = computer.download()
    spoil(folder / name)
    assert f"{folder / name} is damaged" in computer.refusal("verify")
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert f"{folder / name} is damaged" in reason and "HF_HUB_OFFLINE is set" in reason
    assert computer.download() == folder
    assert (folder / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(("behaviour", "why"), [("swapped", "is damaged or was replaced"), ("overloaded", "503")])
def test_a_bad_download_is_refused_and_leaves_no_note(computer, hub, behaviour, why):
    hub.behaviour = behaviour
    assert why in computer.refusal(hurry=True)
    assert not computer.note.exists()
    assert computer.verify() == "tiny: not downloaded\n"


def test_an_offline_computer_without_the_folder_is_told_what_to_do(computer, hub):
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in reason and "openavc download tiny" in reason and "path of a folder" in reason
    hub.shutdown()
    hub.server_close()
    reason = computer.refusal(hurry=True)
    assert "can't be reached" in reason and hub.url in reason


def test_an_unknown_revision_and_an_unknown_repository_are_named(computer, hub):
    computer.list_sources(revision="no-such")
    assert f"{REPO} at {hub.url} has no revision 'no-such'" in computer.refusal(hurry=True)
    hub.repos.clear()
    computer.list_sources()
    assert "doesn't exist, or isn't public" in computer.refusal(hurry=True)


def test_a_note_of_another_revision_or_a_damaged_note_is_not_used(computer):
    folder = computer.download()
    for content in ("{", "[]", computer.note.read_text().replace('"main"', '"other"')):
        computer.note.write_text(content)
        assert computer.verify() == "tiny: not downloaded\n"
    assert computer.download() == folder
