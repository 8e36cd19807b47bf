"""Files that end their decoder, in the commands themselves: 100 others are done, and a second run tries these alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from PIL import Image
from videos import noise

from openavc.extraction.extraction import Extraction
from openavc.extraction.planning import plan_jobs
from openavc.extraction.results import embed_files
from openavc.library.index import index_embeddings

ROOT = Path(__file__).parents[1]
PATIENCE = 6  # seconds
SAID = {
    "abort": "SIGABRT: corrupted heap",
    "greedy": "it took more than 1 GiB of memory",
    "hang": f"nothing happened for {PATIENCE} s",
    "segfault": "SIGSEGV",
}
# Run at the start of every process of Python: in a worker, files of some names are read as by a broken decoder.
BROKEN = """
import ctypes, multiprocessing, os, pathlib, time
from openavc.media import container
from openavc.progress import step

real = container.existing_file

def existing_file(path):
    name = pathlib.Path(path).stem if multiprocessing.parent_process() else ""
    if name == "segfault":
        ctypes.string_at(0)
    if name == "abort":
        os.write(2, b"corrupted heap\\n")
        os.abort()
    if name == "greedy":
        held = []
        while len(held) < 1280:
            held.append(bytes([len(held) % 256]) * 2**24)
            step()
    if name == "hang":
        time.sleep(600)
    return real(path)

container.existing_file = existing_file
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command with the broken decoder."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN)
    paths = {"PYTHONPATH": f"{tmp_path / 'broken'}{os.pathsep}{ROOT}"}

    def call(*arguments, **variables):
        command = [sys.executable, "-m", "openavc", *map(str, arguments)]
        environment = os.environ | paths | variables
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=480)

    return call


def write_sound(path):
    soundfile.write(path, noise(2400), 24_000)  # the network's rate: new processes needn't import what resamples


def write_picture(path):
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path)


def check_said(result, names, ending):
    """Assert that a run has failed at these files alone, each in a line with its reason."""
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == len(names)
    for name in names:
        [line] = [line for line in failed if f"/{name}.{ending}" in line]
        assert SAID[name] in line and "earlier runs" not in line


def test_a_hundred_good_files_among_four_deadly_ones(run, tmp_path):
    (tmp_path / "in").mkdir()
    for name in (*SAID, *(f"{chr(97 + number % 26)}{number}" for number in range(100))):
        write_sound(tmp_path / "in" / f"{name}.wav")
    limits = {"OPENAVC_PATIENCE": str(PATIENCE), "OPENAVC_MEMORY": "1G"}
    result = run("audio", tmp_path / "in", "--output", tmp_path / "out", "--jobs", 2, **limits)
    assert result.stdout.startswith("100 done, 0 skipped, 4 failed"), result.stderr
    check_said(result, SAID, "wav")
    assert len(list((tmp_path / "out").glob("[!.]*.npz"))) == 100


def test_a_second_run_tries_only_the_deadly_picture(run, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("good", "segfault", "zoo"):
        write_picture(tmp_path / "in" / f"{name}.png")
    for counts in ("2 done, 0 skipped, 1 failed", "0 done, 2 skipped, 1 failed"):
        result = run("image", tmp_path / "in", "--output", tmp_path / "out")
        assert result.stdout.startswith(counts), result.stderr
        check_said(result, ["segfault"], "png")


def test_a_query_that_ends_its_decoder_is_told_and_a_hit_that_does_is_shown_without_picture(run, tmp_path):
    pytest.importorskip("lancedb", reason="searching needs LanceDB, of the extra [search]")
    pictures = [tmp_path / "good.png", tmp_path / "segfault.png"]
    for path in pictures:
        write_picture(path)
    jobs = plan_jobs(pictures, tmp_path / "out", set())
    assert all(done.status == "done" for done in embed_files(jobs, Extraction("image", embedding="joint")))
    index_embeddings(tmp_path / "out", tmp_path / "db")
    told = run("search", "--db", tmp_path / "db", "--image", tmp_path / "segfault.png")
    assert told.returncode == 1
    assert re.search(r"Error: \S+segfault\.png: the process at work on it crashed: SIGSEGV", told.stderr)
    page = tmp_path / "page.html"
    found = run("search", "--db", tmp_path / "db", "--image", tmp_path / "good.png", "--html", page)
    assert found.returncode == 0 and len(found.stdout.splitlines()) == 2
    assert page.read_text().count("data:image/jpeg") == 2  # the query, and the good one
    assert page.read_text().count("the process at work on it crashed: SIGSEGV") == 1


def test_pairs_of_files_are_named_when_one_ends_its_decoder(run, tmp_path):
    write_sound(tmp_path / "good.wav")
    write_picture(tmp_path / "abort.png")
    told = run("score", tmp_path / "good.wav", tmp_path / "abort.png")
    assert told.returncode == 1
    assert "good.wav and " in told.stderr and "abort.png: the process at work on it crashed: SIGABRT" in told.stderr
