"""OpenL3's models by name: downloaded from a server on 127.0.0.1, converted once, and kept."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hub_server import FakeHub
from keras_files import AUDIO, IMAGE, SPECTROGRAMS, packed, write_zeros
from safetensors import safe_open
from safetensors.torch import load, save

import openavc
from openavc import cli, weights
from openavc.weights import keras, manifest
from openavc.weights.digests import git_blob_sha1

NAME = "openl3-mel256-music"
PUBLISHED = [entry for entry in weights.read_shipped() if entry["architecture"] == "openl3-towers"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def invoke(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


class Upstream:
    """A server with OpenL3's two files, a manifest that names them, and a cache."""

    def __init__(self, hub: FakeHub, folder: Path):
        self.hub, self.home = hub, folder / "home"
        names = {AUDIO: 1, IMAGE: 3}
        self.files = {f"{name}.gz": packed(write_zeros(folder / name, n)).read_bytes() for name, n in names.items()}
        self.publish()
        self.manifest = folder / "manifest.json"
        self.describe()

    def publish(self, **changed: bytes) -> None:
        contents = {name: changed.get(name[7:12], content) for name, content in self.files.items()}
        self.hub.repos["marl/openl3"] = [("0" * 40, contents)]

    def describe(self, **changed: bytes) -> None:
        """Return the manifest's entry, with the digests of the files."""
        sources = [
            {
                "url": f"{self.hub.url}/marl/openl3/resolve/main/{name}",
                "git_blob_sha1": git_blob_sha1(changed.get(name[7:12], content)),
            }
            for name, content in self.files.items()
        ]
        self.publish_entry(openavc.model_info(NAME) | {"sources": [{"type": "url", "files": sources}]})

    def publish_entry(self, entry: dict) -> None:
        """Write the manifest anew."""
        self.entry = entry
        self.manifest.write_text(json.dumps({"models": [entry]}))

    @property
    def converted(self) -> Path:
        return self.home / "converted" / self.entry["file"]

    def kept(self) -> set[str]:
        """Return the content of the cache, except for the lock."""
        names = {path.name for path in self.home.rglob("*")} - {"converted"}
        return names - {self.converted.with_suffix(".lock").name}

    def start(self, *arguments: str) -> subprocess.Popen:
        code = (
            "import sys\nfrom pathlib import Path\nfrom openavc import cli\nfrom openavc.weights import manifest\n"
            "manifest.MANIFEST = Path(sys.argv[1])\ncli.main(sys.argv[2:], prog_name='openavc')"
        )
        environment = os.environ | {
            "PYTHONPATH": str(Path(openavc.__file__).parents[1]),
            "OPENAVC_HOME": str(self.home),
            "no_proxy": "127.0.0.1",
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", code, str(self.manifest), *arguments], env=environment, **pipes)


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    with FakeHub(b"") as hub:
        upstream = Upstream(hub, tmp_path)
        monkeypatch.setattr(manifest, "MANIFEST", upstream.manifest)
        monkeypatch.setenv("OPENAVC_HOME", str(upstream.home))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield upstream


def test_a_model_is_downloaded_and_converted_once_and_its_licence_is_said(upstream, caplog):
    model = openavc.load_model(NAME, embedding_size=512)
    assert model.name == NAME
    assert model.embedding_sizes == {"audio": {"features": 512}, "image": {"features": 512}}
    [record] = caplog.records
    assert "CC-BY-4.0" in record.getMessage() and "Cramer" in record.getMessage()
    assert upstream.hub.requests == [("GET", 0)] * 2
    assert upstream.kept() == {upstream.converted.name, upstream.converted.with_suffix(".sha256").name}
    upstream.hub.behaviour = "missing"
    again = openavc.load_model(NAME, frontend="kapre-0.3.5")
    assert again.sha256 == model.sha256 == hashlib.sha256(upstream.converted.read_bytes()).hexdigest()
    assert again.architecture["frontend"] == "kapre-0.3.5"
    assert len(upstream.hub.requests) == 2 and len(caplog.records) == 1


def test_sound_and_pictures_are_embedded_by_the_one_name(upstream):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        embedding, _ = openavc.get_audio_embedding(np.ones(48_000), 48_000, NAME, center=False)
        pictures = openavc.get_image_embedding(np.zeros((224, 224, 3), np.uint8), NAME)
    assert (embedding.shape, pictures.shape) == ((1, 6144), (1, 8192))
    with pytest.raises(ValueError, match=f"{NAME} can't compare"):
        openavc.correspondence_score(np.ones(48_000), 48_000, np.zeros((224, 224, 3), np.uint8), NAME)


def test_the_commands_download_verify_and_models(upstream):
    assert invoke("verify").output == f"{NAME}: not downloaded\n"
    assert invoke("download", NAME).output == f"{NAME}: {upstream.converted}\n"
    assert invoke("verify").output == f"{NAME}: good, {upstream.converted}\n"
    assert "features 6144/8192; 37.5 MB; CC-BY-4.0; url" in invoke("models").output


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("missing", f"{AUDIO}.gz can't be downloaded: HTTP Error 404"),
        ("overloaded", "HTTP Error 503"),
        ("cut", "the connection broke after [0-9]+ of [0-9]+ bytes"),
        ("swapped", "damaged or was replaced.*git_blob_sha1"),
        ("shorter", "damaged or was replaced.*git_blob_sha1"),
    ],
)
def test_a_bad_download_is_refused_and_leaves_nothing_that_hinders_the_next(upstream, behaviour, said):
    upstream.hub.behaviour = behaviour
    with pytest.raises(OSError, match=said) as caught:
        openavc.load_model(NAME)
    assert upstream.hub.url in str(caught.value)
    assert upstream.kept() == set()
    upstream.hub.behaviour = "good"
    assert weights.fetch(NAME) == upstream.converted


def test_a_wrong_file_of_pictures_is_refused_with_both_digests(upstream):
    upstream.publish(image=b"something else")
    with pytest.raises(OSError, match=IMAGE) as caught:
        weights.fetch(NAME)
    for content in (b"something else", upstream.files[f"{IMAGE}.gz"]):
        assert git_blob_sha1(content) in str(caught.value)
    assert upstream.kept() == set()


def test_sha256_is_checked_where_the_manifest_has_it(upstream):
    source = upstream.entry["sources"][0]["files"][0]
    source["sha256"] = hashlib.sha256(b"").hexdigest()
    upstream.publish_entry(upstream.entry)
    with pytest.raises(OSError, match=f"the sha256 .* expected is {source['sha256']}"):
        weights.fetch(NAME)
    source["sha256"] = hashlib.sha256(upstream.files[f"{AUDIO}.gz"]).hexdigest()
    upstream.publish_entry(upstream.entry)
    assert weights.fetch(NAME) == upstream.converted


@pytest.mark.parametrize("content", [b"no HDF5", gzip.compress(b"no HDF5", mtime=0)])
def test_a_file_with_the_right_digest_that_cannot_be_converted_leaves_nothing(upstream, content):
    upstream.publish(image=content)
    upstream.describe(image=content)
    with pytest.raises(OSError, match=f"{IMAGE}.gz is not an HDF5 file"):
        weights.fetch(NAME)
    assert upstream.kept() == set()
    assert invoke("download", NAME).exit_code == 1


def test_a_server_out_of_reach_is_named_with_what_to_do(upstream):
    upstream.hub.shutdown()
    upstream.hub.server_close()
    with pytest.raises(OSError, match=f"{upstream.hub.url}.*can't be downloaded.*openavc download {NAME}"):
        weights.fetch(NAME)


def test_offline_without_the_file_tells_to_download_it(upstream, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=f"HF_HUB_OFFLINE is set.*openavc download {NAME}"):
        weights.fetch(NAME)
    assert upstream.hub.requests == []


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["changed", "cut", "no digest"])
def test_a_damaged_conversion_is_reported_never_used_and_made_again(upstream, monkeypatch, damage):
    path = weights.fetch(NAME)
    good, digest = path.read_bytes(), path.with_suffix(".sha256")
    if damage == "changed":
        spoil(path)
    elif damage == "cut":
        os.truncate(path, 1000)
    else:
        digest.unlink()
    result = invoke("verify")
    assert result.exit_code == 1 and f"{path} is damaged" in result.output and f"download {NAME}" in result.output
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(OSError, match=f"{path} is damaged.*HF_HUB_OFFLINE"):
            openavc.load_model(NAME)
    assert weights.fetch(NAME).read_bytes() == good
    assert invoke("verify").exit_code == 0


def test_the_digest_is_one_that_sha256sum_checks(upstream):
    path = weights.fetch(NAME)
    assert path.with_suffix(".sha256").read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def test_two_processes_at_once_download_once_and_both_get_the_file(upstream):
    processes = [upstream.start("download", NAME) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output) == (0, f"{NAME}: {upstream.converted}\n"), errors
    assert upstream.hub.requests == [("GET", 0)] * 2
    assert upstream.kept() == {upstream.converted.name, upstream.converted.with_suffix(".sha256").name}


def test_a_process_killed_half_way_leaves_nothing_that_passes_for_the_file(upstream):
    upstream.hub.behaviour = "stalls"
    process = upstream.start("download", NAME)
    assert upstream.hub.half_sent.wait(60)
    process.kill()
    process.communicate()
    assert weights.verify_local(NAME) is None
    upstream.hub.behaviour = "good"
    assert weights.fetch(NAME) == upstream.converted
    assert upstream.kept() == {upstream.converted.name, upstream.converted.with_suffix(".sha256").name}


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry["name"])
def test_an_entry_of_the_manifest_names_upstreams_files_of_its_kind(entry):
    _, input_repr, content = entry["name"].split("-")
    assert entry["options"] == {"input_repr": input_repr}
    [source] = entry["sources"]
    names = [file["url"].removeprefix("https://github.com/marl/openl3/raw/models/") for file in source["files"]]
    assert names == [f"openl3_{kind}_{input_repr}_{content}-v0_4_0.h5.gz" for kind in ("audio", "image")]
    assert entry["license"] == "CC-BY-4.0" and "github.com/marl/openl3" in entry["attribution"]


def test_the_manifest_has_the_six_models_and_twelve_digests_of_its_own():
    assert {entry["name"] for entry in PUBLISHED} == {
        f"openl3-{input_repr}-{content}" for input_repr in SPECTROGRAMS for content in ("music", "env")
    }
    digests = {file["git_blob_sha1"] for entry in PUBLISHED for file in entry["sources"][0]["files"]}
    assert len(digests) == 12 and not digests & keras.WITHDRAWN


def test_a_conversion_names_in_its_header_what_it_was_made_from(upstream):
    with safe_open(weights.fetch(NAME), framework="pt") as file:
        origin = json.loads(file.metadata()["converted_from"])
    assert [digests["git_blob_sha1"] for digests in origin] == [*map(git_blob_sha1, upstream.files.values())]
    assert [digests["sha256"] for digests in origin] == [sha256(content) for content in upstream.files.values()]


def place(path: Path, content: bytes) -> None:
    """Put a file into the cache as its owner or another program could: with the digest that belongs to it."""
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(f"{sha256(content)}  {path.name}\n")


@pytest.mark.parametrize("kind", ["of other files", "of one file", "no safetensors"])
def test_another_file_with_its_own_digest_beside_it_is_reported_never_used_and_replaced(upstream, tmp_path, kind):
    path = weights.fetch(NAME)
    good = path.read_bytes()
    towers = [write_zeros(tmp_path / f"other_{name}", n) for name, n in ((AUDIO, 1), (IMAGE, 3))]  # not packed
    towers = towers[:1] if kind == "of one file" else towers
    _, other = keras.to_safetensors(*towers, input_repr="mel256")
    place(path, b"something else" if kind == "no safetensors" else other)
    result = invoke("verify")
    assert result.exit_code == 1 and str(path) in result.output
    assert weights.fetch(NAME).read_bytes() == good
    assert invoke("verify").exit_code == 0


def test_a_conversion_by_an_earlier_version_is_told_in_a_line_and_replaced_by_the_command_in_it(upstream, monkeypatch):
    path = weights.fetch(NAME)
    good = path.read_bytes()
    place(path, save(load(good), {"architecture": json.dumps({"architecture": "openl3-towers"})}))
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(OSError, match=f"earlier versions.*openavc download {NAME}.*HF_HUB_OFFLINE is set"):
            openavc.load_model(NAME)
    result = invoke("verify")
    [line] = result.stderr.splitlines()
    assert result.exit_code == 1 and str(path) in line and "earlier versions of openavc" in line
    assert line.endswith(f"Run: openavc download {NAME}, which replaces it.")
    assert invoke("download", NAME).exit_code == 0
    assert path.read_bytes() == good and invoke("verify").exit_code == 0


def test_a_conversion_that_gives_another_digest_than_the_manifest_has_is_not_written(upstream):
    upstream.publish_entry(upstream.entry | {"sha256": "0" * 64})
    with pytest.raises(OSError, match=f"{upstream.converted} isn't written: .*that in the manifest is {'0' * 64}"):
        weights.fetch(NAME)
    assert upstream.kept() == set()


def test_files_of_two_models_that_changed_places_are_refused(upstream):
    """As if each had been copied, with its digest, under the other's name."""
    path = weights.fetch(NAME)
    source = upstream.entry["sources"][0]
    swapped = source | {"files": [source["files"][0], source["files"][1] | {"git_blob_sha1": "0" * 40}]}
    upstream.publish_entry(upstream.entry | {"sources": [swapped]})
    with pytest.raises(OSError, match=f"{path} is not used: .* it wasn't converted from the files .*{IMAGE}"):
        weights.verify_local(NAME)


def test_a_digest_of_the_conversion_in_the_manifest_counts_more_than_the_one_beside_it(upstream):
    path = weights.fetch(NAME)
    good = path.read_bytes()
    upstream.publish_entry(upstream.entry | {"sha256": sha256(good)})
    assert weights.verify_local(NAME) == path
    changed = bytearray(good)
    changed[-1] ^= 1
    place(path, bytes(changed))
    with pytest.raises(OSError, match=f"{path} is damaged.*the manifest is {sha256(good)}"):
        weights.verify_local(NAME)
    assert weights.fetch(NAME).read_bytes() == good


@pytest.mark.parametrize("ending", [".safetensors", ".sha256", ".lock", ".partial"])
def test_a_link_in_the_cache_leads_no_write_out_of_it(upstream, tmp_path, ending):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    upstream.converted.parent.mkdir(parents=True)
    upstream.converted.with_suffix(ending).symlink_to(outside)
    with pytest.raises(OSError, match=f"{upstream.converted.stem}{ending} is a link to {outside}.*delete the link"):
        weights.fetch(NAME)
    assert outside.read_text() == "mine" and upstream.hub.requests == []
    upstream.converted.with_suffix(ending).unlink()
    assert weights.fetch(NAME) == upstream.converted


def test_a_cache_that_is_itself_a_link_is_used(upstream, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    upstream.home.symlink_to(tmp_path / "elsewhere")
    assert weights.fetch(NAME) == upstream.converted
    assert (tmp_path / "elsewhere/converted" / upstream.converted.name).is_file()
