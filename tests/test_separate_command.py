"""`openavc separate` as a user meets it."""

import json

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from separating import SMALL
from videos import RATE, noise, write_video

import openavc
from openavc.cli import main
from openavc.media.audio import read_audio
from openavc.media.video import read_frames
from openavc.weights import build_model
from training.checkpoint import save_weights

pytestmark = pytest.mark.usefixtures("in_this_process")

ARCHITECTURE = {"architecture": "separation", **SMALL}
TIMES = np.arange(20) / 10
FILES = ["off_screen.mp4", "off_screen.wav", "on_screen.mp4", "on_screen.wav", "separation.json", "spectrograms.png"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, build_model(ARCHITECTURE), ARCHITECTURE)
    return path


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Write two clips, one without sound and one that is broken, into a folder beside which commands then run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips/more").mkdir(parents=True)
    for name in ("one", "more/two"):
        write_video(tmp_path / f"clips/{name}.mp4", TIMES, codec="mpeg4", sound=noise(2 * RATE)[:, None])
    write_video(tmp_path / "clips/silent.mkv", TIMES)
    (tmp_path / "clips/broken.mp4").write_bytes(b"no video")
    return tmp_path / "clips"


def run(*arguments):
    return CliRunner().invoke(main, ["separate", *map(str, arguments)])


def packets(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(file.streams.video[0]) if packet.size]


def test_a_clip_becomes_a_folder_of_sounds_videos_and_a_picture(clips, weights, tmp_path):
    result = run("clips/one.mp4", "--output", "sep", "--model", weights)
    assert result.exit_code == 0, result.output
    assert result.stdout == "1 done, 0 skipped, 0 failed; results in sep/one\n"
    folder = tmp_path / "sep/one"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    found = openavc.separate_sources("clips/one.mp4", weights)
    for part, expected in (("on_screen", found.on_screen), ("off_screen", found.off_screen)):
        samples, rate = soundfile.read(folder / f"{part}.wav")
        assert rate == found.sample_rate
        np.testing.assert_allclose(samples, expected, atol=1e-5)
        assert packets(folder / f"{part}.mp4") == packets("clips/one.mp4")  # not encoded again
        np.testing.assert_allclose([time for time, _ in read_frames(folder / f"{part}.mp4")], TIMES, atol=2e-3)
        heard, rate = read_audio(folder / f"{part}.mp4")
        assert rate == 48_000 and len(heard) / rate == pytest.approx(2, abs=0.05)
    shown = cv2.imread(str(folder / "spectrograms.png"))
    assert shown.shape[1] > 1200 and len(np.unique(shown.reshape(-1, 3), axis=0)) > 50
    record = json.loads((folder / "separation.json").read_text())
    assert record["weights_sha256"] and record["source"]["name"] == "one.mp4" and record["parameters"] == {"side": None}


def test_a_folder_is_separated_and_what_is_done_is_skipped(clips, weights, tmp_path):
    for counts in ("2 done, 0 skipped, 2 failed", "0 done, 2 skipped, 2 failed"):
        result = run("clips", "--output", "sep", "--model", weights)
        assert result.exit_code == 1
        assert result.stdout == f"{counts}; results in sep\n"
        assert "silent.mkv holds no sound" in result.stderr and "broken.mp4" in result.stderr
    assert (tmp_path / "sep/more/two/on_screen.wav").is_file()
    assert not (tmp_path / "sep/silent").exists()
    (tmp_path / "sep/one/on_screen.wav").write_bytes(b"cut short")
    assert run("clips/one.mp4", "--output", "sep", "--model", weights).stdout.startswith("1 done")
    other_side = run("clips/one.mp4", "--output", "sep", "--model", weights, "--side", "left")
    assert other_side.stdout.startswith("1 done")
    assert json.loads((tmp_path / "sep/one/separation.json").read_text())["parameters"] == {"side": "left"}


def test_what_is_not_its_result_is_kept(clips, weights, tmp_path):
    (tmp_path / "sep/one").mkdir(parents=True)
    (tmp_path / "sep/one/on_screen.wav").write_text("mine")
    result = run("clips/one.mp4", "--output", "sep", "--model", weights)
    assert result.exit_code == 1 and "aren't a result of openavc" in result.stderr
    assert (tmp_path / "sep/one/on_screen.wav").read_text() == "mine"
    assert run("clips/one.mp4", "--output", "sep", "--model", weights, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "ave-small"], "can't separate sounds"),
        (["--model", "separation-smell"], "there is no model 'separation-smell'"),
        (["--model", "gone.safetensors"], "gone.safetensors"),
        (["--side", "up"], "--side"),
    ],
)
def test_wrong_usage_leaves_with_status_2(arguments, said, clips, tmp_path):
    result = run("clips/one.mp4", "--output", "sep", *arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_pictures_that_mp4_players_do_not_expect_become_matroska(clips, weights, tmp_path):
    write_video(tmp_path / "clips/lossless.mkv", TIMES, sound=noise(2 * RATE)[:, None])
    assert run("clips/lossless.mkv", "--output", "sep", "--model", weights).exit_code == 0
    assert packets("sep/lossless/on_screen.mkv") == packets("clips/lossless.mkv")
