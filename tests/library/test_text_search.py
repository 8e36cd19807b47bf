"""A library of PE-AV's embeddings is searched by text: from a folder, and by name from the Hub's cache."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from hub_server import FakeHub
from joint_results import run, unit
from tiny_pe_av import RATE, require_pe_av, write_tiny_pe_av

import openavc
from openavc.extraction.extraction import Extraction
from openavc.extraction.planning import plan_jobs
from openavc.extraction.results import embed_files, read_metadata

COMMIT = "c" * 40
TEXT = "a dog barks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    require_pe_av()
    pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")
    return write_tiny_pe_av(tmp_path_factory.mktemp("models") / "tiny-pe-av", shard="400KB")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Write three recordings of 3 s and three pictures."""
    folder, random = tmp_path_factory.mktemp("media"), np.random.default_rng(0)
    for k in range(3):
        soundfile.write(folder / f"{k}.wav", random.uniform(-0.5, 0.5, 3 * RATE) * (k + 1) / 3, RATE)
        cv2.imwrite(str(folder / f"{k}.png"), random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return folder


def embed(media, output, kind, model):
    """Embed all files of a kind, as the commands do; return how each came out."""
    extraction = Extraction(kind, model, "joint", device="cpu")
    return [outcome.status for outcome in embed_files(plan_jobs([media], output, extraction.extensions), extraction)]


@pytest.fixture(scope="module")
def library(folder, media, tmp_path_factory):
    """Return the folder of a library of the recordings and the pictures, and the results it was made from."""
    root = tmp_path_factory.mktemp("library")
    for kind in ("audio", "image"):
        assert embed(media, root / "emb" / kind, kind, str(folder)) == ["done"] * 3
        assert embed(media, root / "emb" / kind, kind, str(folder)) == ["skipped"] * 3
    assert openavc.index_embeddings(root / "emb", root / "db")[:3] == (6, 0, {})
    return root


def cosines(library, folder, kind, name):
    """Return the cosine similarities of the text to a result's rows, computed by NumPy."""
    text = openavc.get_text_embedding(TEXT, folder, modality=kind, device="cpu")[0]
    with np.load(library / "emb" / kind / f"{name}.npz") as result:
        return unit(result["embedding"]) @ unit(text)


def test_each_modality_is_compared_with_the_text_s_vector_for_it(folder, library):
    best = {
        f"{name}.{ending}": (cosines(library, folder, kind, name).max(), kind)
        for kind, ending in (("audio", "wav"), ("image", "png"))
        for name in range(3)
    }
    hits = openavc.search(library / "db", text=TEXT, model=folder, device="cpu")
    assert {Path(hit.source).name: (pytest.approx(hit.score, abs=1e-5), hit.modality) for hit in hits} == best
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for kind in ("audio", "image"):
        found = openavc.search(library / "db", text=TEXT, model=folder, device="cpu", modality=kind, k=2)
        expected = sorted((score for score, of in best.values() if of == kind), reverse=True)[:2]
        assert [hit.score for hit in found] == pytest.approx(expected, abs=1e-5)
    moments = openavc.search(library / "db", text=TEXT, model=folder, device="cpu", modality="audio", moments=True)
    assert len(moments) == 9 and {hit.timestamp for hit in moments} == {0.0, 1.0, 2.0}


def test_results_record_the_model_and_its_default_hop(folder, library):
    metadata = read_metadata(library / "emb/audio/0.npz")
    assert metadata["parameters"] == {"modality": "audio", "embedding": "joint", "hop_size": 1.0, "center": True}
    assert metadata["model"] == folder.name and len(metadata["weights_sha256"]) == 64
    assert "model_revision" not in metadata  # of a folder that isn't the Hub's


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ({}, ValueError, "one of image, audio and text"),
        ({"text": TEXT, "image": "x.png"}, ValueError, "one of image, audio and text"),
        ({"text": [TEXT]}, TypeError, "one text"),
        ({"text": " "}, ValueError, "empty"),
    ],
)
def test_queries_that_cannot_be_searched_for_are_refused(folder, library, query, error, words):
    with pytest.raises(error, match=words):
        openavc.search(library / "db", **query, model=folder, device="cpu")


def test_the_command_takes_one_kind_of_query(tmp_path):
    refused = run("search", "--db", tmp_path, "--text", TEXT, "--image", "x.png")
    assert refused.exit_code == 2 and "one of --image, --audio and --text" in refused.output


def test_commands_fetch_pe_av_small_by_name_and_search_by_text(folder, media, library, tmp_path):
    """The Hub serves shards, whose digests it states; what follows works offline."""
    with FakeHub(b"") as hub:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert len([name for name in files if name.endswith(".safetensors")]) > 1
        hub.repos["facebook/pe-av-small"] = [(COMMIT, files)]
        environment = {
            "PYTHONPATH": str(Path(openavc.__file__).parents[1]),
            "OPENAVC_HOME": str(tmp_path / "home"),
            "HF_HOME": str(tmp_path / "huggingface"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }

        def command(*arguments, **more):
            line = [sys.executable, "-m", "openavc", *map(str, arguments)]
            done = subprocess.run(
                line, env=os.environ | environment | more, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        embed = ("audio", media, "--output", tmp_path / "emb", "--model", "pe-av-small", "--embedding", "joint")
        assert command(*embed).startswith("3 done")
    metadata = read_metadata(tmp_path / "emb/0.npz")
    assert (metadata["model"], metadata["model_revision"]) == ("pe-av-small", COMMIT)
    assert openavc.index_embeddings(tmp_path / "emb", tmp_path / "db")[:3] == (3, 0, {})
    page = tmp_path / "page.html"
    found = command(
        "search", "--db", tmp_path / "db", "--text", TEXT, "--device", "cpu", "--html", page, HF_HUB_OFFLINE="1"
    )
    scores = sorted((cosines(library, folder, "audio", name).max() for name in range(3)), reverse=True)
    assert [float(line.split()[1]) for line in found.splitlines()] == pytest.approx(scores, abs=1e-3)
    assert f"Nearest to {TEXT}" in page.read_text()
