"""The manifest: what is published, and the errors for unknown names."""

import hashlib
from functools import partial
from pathlib import Path

import pytest
import torch

import openavc
from openavc.models import ARCHITECTURES, FOLDERS
from openavc.models.contract import Fuses
from openavc.weights import read_shipped

PACKAGE = {"type": "package"}
FIELDS = """name architecture modalities embedding_size file bytes sha256 license sources trained_on recipe
            metrics""".split()
SOURCE_FIELDS = {
    "package": {"type"},
    "hub": {"type", "repo", "revision", "filename"},
    "url": {"type", "files"},
    "hub-folder": {"type", "repo", "revision"},
}
PUBLISHED = read_shipped()
each = partial(pytest.mark.parametrize, "entry", ids=lambda entry: entry["name"])
each_packaged = each([entry for entry in PUBLISHED if PACKAGE in entry["sources"]])


def test_model_info_is_a_copy():
    name = openavc.list_models()[0]
    openavc.model_info(name)["sources"].clear()
    assert openavc.model_info(name)["sources"]


def is_digest(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef")


@each(PUBLISHED)
def test_every_entry_of_the_manifest_has_its_fields(entry):
    assert set(FIELDS) <= set(entry)
    assert entry["architecture"] in (*ARCHITECTURES, *FOLDERS)
    assert entry["license"] and entry["trained_on"]
    assert entry["sources"]
    made_here = all(source["type"] in ("url", "hub-folder") for source in entry["sources"])  # of upstream's files
    assert entry["sha256"] is None if made_here else is_digest(entry["sha256"], 64)
    for source in entry["sources"]:
        assert SOURCE_FIELDS[source["type"]] <= set(source)
        if source["type"] == "hub":  # pinned: a commit, not a branch
            assert is_digest(source["revision"], 40)
        for file in source.get("files", []):
            assert file["url"].startswith("https://")
            assert is_digest(file["git_blob_sha1"], 40) and is_digest(file.get("sha256", "a" * 64), 64)
    assert all(metric["command"] for metric in entry["metrics"])
    assert entry["metrics"] or PACKAGE not in entry["sources"]


def test_names_are_unique_and_the_default_ships_with_the_package():
    names = openavc.list_models()
    assert len(names) == len(set(names)) > 0
    assert PACKAGE in openavc.model_info(names[0])["sources"]


MULTISENSORY = ("multisensory-small", "separation-small")
MOST_MULTISENSORY = 12_000_000  # bytes, together
LARGER = {**dict.fromkeys(MULTISENSORY, MOST_MULTISENSORY), "ave-natural": 12_000_000}


@each_packaged
def test_every_packaged_file_is_the_one_of_the_manifest_and_small(entry):
    content = (Path(openavc.__file__).parent / "pretrained" / entry["file"]).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert len(content) <= LARGER.get(entry["name"], 6_000_000)


def test_the_networks_of_multisensory_are_small_together():
    sizes = [
        (Path(openavc.__file__).parent / "pretrained" / f"{name}.safetensors").stat().st_size for name in MULTISENSORY
    ]
    assert sum(sizes) <= MOST_MULTISENSORY


@each_packaged
def test_every_packaged_model_gives_the_embeddings_of_the_manifest(entry):
    model = openavc.load_model(entry["name"])
    assert type(model) is ARCHITECTURES[entry["architecture"]]
    sound = model.prepare_audio(torch.zeros(1, model.sound.samples, model.sound.channels))
    for embedding, size in entry["embedding_size"].items():
        if isinstance(model, Fuses):
            frames = model.prepare_frames(torch.zeros(1, *model.frames.shape))
            embedded, modality = model.embed_fused(frames, sound, embedding), "video"
        else:
            embedded, modality = model.embed_audio(sound, embedding), "audio"
        size = size[modality] if isinstance(size, dict) else size
        assert embedded.shape == (1, size)
        assert model.embedding_sizes[modality][embedding] == size
