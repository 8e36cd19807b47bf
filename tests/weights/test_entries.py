"""Manifests that are broken, lack a digest or name files elsewhere are refused by name, and nothing is written."""

import json
import os
import re

import pytest
from click.testing import CliRunner
from hub_server import REPO, REVISION, FakeHub

import openavc
from openavc import cli, weights
from openavc.weights import manifest

DIGEST, SHA1 = "0123456789abcdef" * 4, "01234567" * 5
FILE = {"url": "https://127.0.0.1/openl3_audio.h5.gz", "git_blob_sha1": SHA1}
URL = {"type": "url", "files": [FILE]}
HUB = {"type": "hub", "repo": REPO, "revision": REVISION, "filename": "tiny.safetensors"}
ELSEWHERE = ["../out.safetensors", "/out.safetensors", "a/b.safetensors", "a\\b.safetensors", "C:b.safetensors"]
ELSEWHERE += ["NUL.safetensors"]  # a device of Windows
ENTRY = {
    "name": "tiny",
    "architecture": "openl3-towers",
    "options": {"input_repr": "linear"},
    "modalities": ["audio"],
    "embedding_size": {"features": 3},
    "file": "tiny.safetensors",
    "bytes": 3,
    "sha256": DIGEST,
    "license": "Apache-2.0",
    "attribution": "by nobody",
    "sources": [URL],
}
NEEDED = sorted(ENTRY.keys() - {"architecture"})


def without(entry: dict, key: str) -> dict:
    return {name: value for name, value in entry.items() if name != key}


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Return a function that writes the manifest."""
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setenv("OPENAVC_HOME", str(tmp_path / "home"))

    def write(content) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "manifest.json").write_bytes(content)

    return write


BROKEN = {
    "empty": (b"", "not JSON"),
    "cut": (b'{"models": [', "not JSON"),
    "binary": (b"\xff\xfe\x00", "not JSON"),
    "nested": (b"[" * 100_000, "not JSON"),
    "a list": ([], "no list of models"),
    "no models": ({}, "no list of models"),
    "models in a dict": ({"models": {"tiny": ENTRY}}, "no list of models"),
    "an entry that is a number": ({"models": [5]}, "5 is not a model's entry"),
    "the same name twice": ({"models": [ENTRY, ENTRY]}, "two models of one name"),
    **{f"no {key}": ({"models": [without(ENTRY, key)]}, f"wrong {key}: nothing") for key in NEEDED},
    **{f"{key} of another type": ({"models": [ENTRY | {key: 1.5}]}, f"wrong {key}: 1.5") for key in NEEDED},
    "modalities of another type": ({"models": [ENTRY | {"modalities": [1]}]}, "wrong modalities: [1]"),
    "a source of another type": ({"models": [ENTRY | {"sources": [5]}]}, "wrong sources: [5]"),
    "a source of a dict's type": ({"models": [ENTRY | {"sources": [{"type": {}}]}]}, "wrong type: {}"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_is_one_line_that_names_it(listed, tmp_path, case):
    content, told = BROKEN[case]
    listed(content)
    for command in (("models",), ("models", "--json"), ("verify",), ("download", "tiny")):
        result = CliRunner().invoke(cli.main, command)
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
        [line] = result.stderr.splitlines()
        assert line.removeprefix("Error: ").removeprefix("failed: tiny: ").startswith(f"the manifest {tmp_path}")
        assert "can't be used: " in line and told in line and line.endswith("; install openavc again")
    with pytest.raises(OSError, match="can't be used"):
        openavc.load_model()


def test_a_missing_manifest_is_named(listed, tmp_path):
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "manifest.json"))):
        openavc.list_models()


UNFIT = {
    **{f"file {name}": ENTRY | {"file": name} for name in (*ELSEWHERE, "..", ".", "")},
    **{f"name {name}": ENTRY | {"name": name} for name in ELSEWHERE},
    **{f"file {name} in the package": ENTRY | {"file": name, "sources": [{"type": "package"}]} for name in ELSEWHERE},
    **{
        f"filename {name} on the Hub": ENTRY | {"sources": [HUB | {"filename": name}]}
        for name in ELSEWHERE
        if name != "a/b.safetensors"  # a folder of the repository
    },
    "a repository upwards": ENTRY | {"sources": [HUB | {"repo": "../../out"}]},
    "a revision upwards": ENTRY | {"sources": [HUB | {"revision": "../../out"}]},
    "no revision": ENTRY | {"sources": [without(HUB, "revision")]},
    "an address that ends upwards": ENTRY | {"sources": [URL | {"files": [FILE | {"url": "https://host/.."}]}]},
    "an address of a folder": ENTRY | {"sources": [URL | {"files": [FILE | {"url": "https://host/a/"}]}]},
    "an address with a backslash": ENTRY | {"sources": [URL | {"files": [FILE | {"url": "https://host/..\\a"}]}]},
    "an address on the disk": ENTRY | {"sources": [URL | {"files": [FILE | {"url": "file:///etc/hostname"}]}]},
    "no digest for an address": ENTRY | {"sources": [URL | {"files": [without(FILE, "git_blob_sha1")]}]},
    "half a digest": ENTRY | {"sources": [URL | {"files": [FILE | {"git_blob_sha1": SHA1[:20]}]}]},
    "one digest that is none": ENTRY | {"sources": [URL | {"files": [FILE | {"sha256": None}]}]},
    "no files": ENTRY | {"sources": [URL | {"files": []}]},
    "the name of its own lock": ENTRY | {"file": "tiny.lock"},
    "no digest for the Hub": ENTRY | {"sha256": None, "sources": [HUB]},
    "an empty digest for the Hub": ENTRY | {"sha256": "", "sources": [HUB]},
    "no digest for the Hub beside an address": ENTRY | {"sha256": None, "sources": [URL, HUB]},
    "no digest for the package": ENTRY | {"sha256": None, "sources": [{"type": "package"}]},
    "an unknown source": ENTRY | {"sources": [{"type": "ftp"}]},
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_entry_without_a_digest_or_with_a_file_elsewhere_is_refused_before_anything_is_done(listed, tmp_path, case):
    listed({"models": [UNFIT[case]]})
    for call in (weights.fetch, weights.verify_local, openavc.load_model, openavc.model_info):
        with pytest.raises(OSError, match=f"{re.escape(str(tmp_path / 'manifest.json'))} can't be used: "):
            call("tiny")
    with pytest.raises(ValueError, match=r"has a missing or wrong|has no digest"):
        weights.fetch_entry(UNFIT[case])
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_what_is_complete_is_used(listed):
    for sources in ([URL], [HUB], [HUB | {"filename": "a/b.safetensors"}], [{"type": "package"}, HUB]):
        listed({"models": [ENTRY | {"sources": sources}]})
        assert openavc.list_models() == ["tiny"]
    listed({"models": [ENTRY | {"sha256": None}]})  # what is converted here has no digest before
    assert openavc.list_models() == ["tiny"]


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../my.safetensors"},
        {"sha256": "0"},
        {"sha256": None},
        {"sources": []},
        {"sources": [HUB | {"filename": "../my.safetensors"}]},
        {"sources": [URL]},
    ],
)
def test_an_entry_of_ones_own_is_held_to_the_same(listed, tmp_path, change):
    listed({"models": [ENTRY]})
    own = ENTRY | {"name": "my", "file": "my.safetensors", "sources": [HUB]}
    (tmp_path / "home/models").mkdir(parents=True)
    path = tmp_path / "home/models/my.json"
    path.write_text(json.dumps(own))
    assert openavc.list_models() == ["tiny", "my"]
    path.write_text(json.dumps(own | change))
    with pytest.warns(UserWarning, match=f"{path} is left out of the models: "):
        assert openavc.list_models() == ["tiny"]


def test_a_download_never_leaves_its_folder(listed, tmp_path, monkeypatch):
    """With a server that has the file: only the refusal keeps it from being written."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FakeHub(b"") as hub:
        hub.repos["a/b"] = [(REVISION, {"openl3_audio.h5.gz": b"content"})]
        file = FILE | {"url": f"{hub.url}/a/b/resolve/main/openl3_audio.h5.gz"}
        for name in ("../out.safetensors", str(tmp_path / "out.safetensors")):
            listed({"models": [ENTRY | {"file": name, "sources": [URL | {"files": [file]}]}]})
            with pytest.raises(OSError, match="wrong file"):
                weights.fetch("tiny")
        assert hub.requests == []
    assert os.listdir(tmp_path) == ["manifest.json"]
