"""The command line as a user meets it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import openavc
from openavc.cli import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "freedoom.mp4"
COMMANDS = sorted(main.commands)

pytestmark = pytest.mark.usefixtures("in_this_process")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_answers_without_importing_anything_heavy():
    code = """
import sys
from click.testing import CliRunner
from openavc.cli import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
assert CliRunner().invoke(main, ["audio", "--help"]).exit_code == 0
heavy = {"torch", "numba", "cv2", "av", "soundfile", "resampy", "huggingface_hub"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_is_light_and_every_public_name_is_there():
    code = "import sys, openavc; sys.exit('torch' in sys.modules or 'cv2' in sys.modules or 'av' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(openavc, name) for name in openavc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        openavc.nonsense  # noqa: B018


def test_the_list_of_commands_says_what_each_is_for():
    listed = run("--help").output.partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n\n    openavc {command}" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audio"], "FILES_OR_FOLDERS"),
        (["audio", "x.wav"], "--output"),
        (["audio", "x.wav", "--output", "out", "--model", "ave-smal"], "ave-small"),
        (["audio", "x.wav", "--output", "out", "--model", "gone.safetensors"], "gone.safetensors"),
        (["audio", "x.wav", "--output", "out", "--hop-size", "0"], "hop_size"),
        (["audio", "x.wav", "--output", "out", "--embedding", "nice"], "nice"),
        (["audio", "x.wav", "--output", "out", "--device", "toaster"], "toaster"),
        (["video", "x.mp4", "--output", "out", "--frame-rate", "0"], "frame-rate"),
        (["score", "a", "b", "c"], "got 3 files"),
        (["audio", "x.wav", "--output", ""], "'--output': the name is empty"),
        (["localize", "x.mp4", "--output", ""], "'--output': the name is empty"),
        (["index", "x.npz", "--db", ""], "'--db': the name is empty"),
        (["search", "--db", "x", "--html", ""], "'--html': the name is empty"),
        (["download", "nothing"], "nothing"),
        (["verify", "nothing"], "nothing"),
        (["dance"], "dance"),
    ],
)
def test_wrong_usage_leaves_with_status_2_and_says_what_would_work(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_where_all_failed_there_are_no_results_to_look_for(tmp_path):
    result = run("audio", tmp_path / "no*.wav", "--output", tmp_path / "out")
    assert result.stdout == "0 done, 0 skipped, 1 failed\n"
    assert f"no file matches {tmp_path / 'no*.wav'}" in result.stderr


def test_a_folder_without_sound_is_wrong_usage(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    result = run("audio", tmp_path, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert ".wav" in result.stderr


def test_the_sound_of_a_video_is_embedded_like_any_recording(tmp_path):
    assert run("audio", EXAMPLE, "--output", tmp_path).exit_code == 0
    expected, timestamps = openavc.get_audio_embedding(EXAMPLE)
    with np.load(tmp_path / "freedoom.npz") as archive:
        np.testing.assert_array_equal(archive["embedding"], expected)
        np.testing.assert_array_equal(archive["timestamps"], timestamps)


def test_pictures_are_embedded(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (90, 120, 3)))
    result = run("image", tmp_path / "a.png", "--output", tmp_path / "out", "--embedding", "joint")
    assert result.exit_code == 0
    assert str(tmp_path / "out" / "a.npz") in result.stdout
    with np.load(tmp_path / "out" / "a.npz") as archive:
        np.testing.assert_array_equal(
            archive["embedding"], openavc.get_image_embedding(tmp_path / "a.png", embedding="joint")
        )


def test_videos_are_embedded_at_the_frame_rate_asked_for(tmp_path):
    assert run("video", EXAMPLE, "--output", tmp_path, "--frame-rate", 2).exit_code == 0
    with np.load(tmp_path / "freedoom.npz") as archive:
        assert set(archive.files) == {"audio", "image", "timestamps", "metadata"}
        assert len(archive["audio"]) == len(archive["image"]) == len(archive["timestamps"]) == 16  # 8 s
        assert np.abs(np.diff(archive["timestamps"]) - 0.5).max() < 0.12  # at 8.75 frames a second


def test_a_video_is_scored_moment_by_moment():
    result = run("score", EXAMPLE)
    assert result.exit_code == 0
    *lines, mean = result.stdout.splitlines()
    values = [float(line.split()[-1]) for line in lines]
    assert len(values) == 8
    assert float(mean.split()[-1]) == pytest.approx(np.mean(values), abs=1e-3)
    assert all(0 <= value <= 1 for value in values)


def test_a_sound_and_a_picture_are_scored(tmp_path):
    import cv2

    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 16_000), 16_000)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((90, 120, 3), 77))
    result = run("score", tmp_path / "a.wav", tmp_path / "a.png")
    expected = openavc.correspondence_score(tmp_path / "a.wav", None, tmp_path / "a.png")
    assert result.stdout == f"{expected:.3f}\n"


def test_a_file_that_cannot_be_scored_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    result = run("score", tmp_path / "a.mp4")
    assert result.exit_code == 1
    assert "a.mp4" in result.stderr


def test_models_are_listed_with_the_default_first():
    assert run("models").stdout.startswith(openavc.list_models()[0])
    assert '"sha256"' in run("models", "--json").stdout


def test_the_shipped_weights_are_verified_and_need_no_download():
    name = openavc.list_models()[0]
    assert f"{name}: good" in run("verify").stdout
    assert run("download", name).stdout.startswith(f"{name}: ")


def test_a_packaged_file_that_is_missing_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("openavc.weights.sources.PRETRAINED", tmp_path)
    result = run("verify")
    assert result.exit_code == 1
    assert "install openavc again" in result.stderr


@pytest.mark.parametrize("ending", [".h5", ".h5.gz"])
def test_a_file_to_convert_that_is_not_there_is_told_by_its_name(ending):
    result = run("import-openl3", f"nosuch{ending}")
    assert (result.exit_code, result.stderr) == (1, f"Error: no file is called nosuch{ending}\n")
