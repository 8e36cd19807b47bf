"""`openavc sync` as a user meets it, with an untrained network, which can't tell anything."""

import csv

import pytest
import torch
from click.testing import CliRunner
from flashes import bursts, events, write_flashes

from openavc.cli import main
from openavc.weights import build_model
from training.checkpoint import save_weights

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write the weights of an untrained Multisensory network."""
    torch.manual_seed(0)
    architecture = {
        "architecture": "multisensory",
        "widths": [4, 4, 8, 8],
        "image_size": 16,
        "frames": 32,
        "frame_rate": 25,
        "sample_rate": 8000,
        "evidence": 0.1,
    }
    path = tmp_path_factory.mktemp("weights") / "multisensory.safetensors"
    save_weights(path, build_model(architecture), architecture)
    return path


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Write videos into a folder, in which commands then run."""
    monkeypatch.chdir(tmp_path)
    flashing = events(4)
    (tmp_path / "clips").mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_flashes(tmp_path / "clips" / name, flashing, bursts(flashing))


def run(*arguments):
    return CliRunner().invoke(main, ["sync", *map(str, arguments)])


def test_many_videos_are_measured_and_broken_ones_named(inputs, weights, tmp_path):
    (tmp_path / "clips/broken.mkv").write_bytes(b"x" * 1000)
    result = run("clips", "--model", weights, "--max-offset", 0.4, "--csv", "table.csv")
    assert result.exit_code == 1, result.output
    said = result.stdout.splitlines()
    assert [line.split(": can't tell")[0] for line in said[:2]] == ["clips/a.mkv", "clips/b.mkv"]
    assert said[2:] == ["2 done, 0 skipped, 1 failed; all in table.csv"]
    (failure,) = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert "broken.mkv" in failure
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [row["file"] for row in rows] == ["clips/a.mkv", "clips/b.mkv"]
    assert [row["offset"] for row in rows] == ["", ""]
    (tmp_path / "clips/broken.mkv").unlink()
    write_flashes(tmp_path / "clips/c.mkv", events(4), bursts(events(4)))
    again = run("clips", "--model", weights, "--max-offset", 0.4, "--csv", "table.csv")
    assert again.stdout.splitlines()[1:] == ["1 done, 2 skipped, 0 failed; all in table.csv"]
    assert [row["file"][6:] for row in csv.DictReader((tmp_path / "table.csv").open())] == ["a.mkv", "b.mkv", "c.mkv"]
    other = run("clips", "--model", weights, "--csv", "clips/a.mkv")
    assert other.exit_code == 2 and "clips/a.mkv is what is to be read: choose another" in other.stderr


def test_a_curve_is_drawn_but_what_cant_be_told_isnt_fixed(inputs, weights, tmp_path):
    pytest.importorskip("matplotlib")
    result = run("clips/a.mkv", "--model", weights, "--plot", "curve.png", "--fix", "fixed.mkv")
    assert result.exit_code == 1
    assert "nothing is written" in result.stderr
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "fixed.mkv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clips", "--fix", "x.mkv"], "--fix goes with one video, got 2"),
        ([""], "an empty name was given"),
        (["clips/a.mkv", "--fix", "x.avi"], "--fix x.avi must end in one of .mp4"),
        (["clips/a.mkv", "--plot", "curve.txt"], "must end in .png, .svg or .pdf"),
        (["clips/a.mkv", "--fix", "x.mkv", "--audio", "clips/b.mkv"], "leave --audio out"),
        (["clips/a.mkv", "--fix", "clips/b.mkv"], "is there already"),
        (["clips/a.mkv", "--fix", "clips/a.mkv", "--overwrite"], "is what is to be read"),
        (["clips/a.mkv", "--model", "ave-small"], "ave-small wasn't trained to tell whether sound is in step"),
    ],
)
def test_what_cant_work_is_refused(inputs, arguments, message):
    result = run(*arguments, *([] if "--model" in arguments else ["--model", "weights.safetensors"]))
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_offset_out_of_range_is_refused(inputs, weights):
    result = run("clips/a.mkv", "--model", weights, "--max-offset", 100)
    assert result.exit_code == 2
    assert "100" in result.stderr
