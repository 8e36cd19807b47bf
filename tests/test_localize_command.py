"""`openavc localize` as a user meets it."""

import cv2
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from red_boxes import LOUD, TIMES, click, red_box, red_clip
from videos import RATE

from openavc.cli import main
from openavc.drawing import overlay
from openavc.inference.localization import localize_sound, localize_video
from openavc.media.video import read_frames
from openavc.weights import build_model
from training.checkpoint import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write the weights of an untrained AVOL-Net."""
    torch.manual_seed(0)
    architecture = {
        "architecture": "avol",
        "widths": [4, 4, 8, 8],
        "frontend": "mel64",
        "image_size": 64,
        "map_stride": 8,
        "one_pass": True,
    }
    path = tmp_path_factory.mktemp("weights") / "avol.safetensors"
    save_weights(path, build_model(architecture), architecture)
    return path


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Write a clip, one without sound, a picture and a recording into a folder, in which commands then run."""
    monkeypatch.chdir(tmp_path)
    red_clip(tmp_path / "clip.mkv", sound=click())
    red_clip(tmp_path / "silent.mkv")
    cv2.imwrite(str(tmp_path / "photo.png"), red_box(90, 120, (0, 0.5, 0, 0.5))[0][..., ::-1])
    soundfile.write(tmp_path / "sound.wav", LOUD * 0.5, RATE)
    (tmp_path / "there.mp4").write_text("kept")


def run(*arguments):
    return CliRunner().invoke(main, ["localize", *map(str, arguments)])


def test_a_video_is_localised_on_the_command_line(inputs, weights, tmp_path):
    result = run("clip.mkv", "--output", "new/out.mp4", "--model", weights, "--frame-rate", 5)
    assert result.exit_code == 0, result.output
    found = list(localize_video("clip.mkv", weights, frame_rate=5))
    time, highest = max(((time, heatmap.max()) for time, _, heatmap in found), key=lambda moment: moment[1])
    mean = np.mean([heatmap.max() for _, _, heatmap in found])
    said = f"{len(found)} frames, highest probability {highest:.3f} at {time:.2f} s, {mean:.3f} on average"
    assert result.stdout == f"{said}; new/out.mp4\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]
    times = [time for time, _ in read_frames("new/out.mp4")]
    np.testing.assert_allclose(times, [time for time, _, _ in found], atol=1e-3)


def test_a_silent_video_needs_another_sound(inputs, weights):
    result = run("silent.mkv", "--output", "out.mp4", "--model", weights)
    assert result.exit_code == 1
    assert "silent.mkv holds no sound" in result.stderr
    assert "--mismatch" in result.stderr
    assert run("silent.mkv", "--output", "out.mp4", "--model", weights, "--mismatch", "sound.wav").exit_code == 0


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_is_shown_with_its_map(ending, inputs, weights):
    result = run("photo.png", "--audio", "sound.wav", "--output", f"out.{ending}", "--model", weights)
    heatmap = localize_sound("photo.png", "sound.wav", model=weights)
    assert result.stdout == f"highest probability {heatmap.max():.3f}; out.{ending}\n"
    shown = cv2.imread(f"out.{ending}")[..., ::-1]
    difference = np.abs(shown.astype(int) - overlay("photo.png", heatmap))
    assert difference.mean() < (0.001 if ending == "png" else 6)


def test_the_bare_map_can_be_had(inputs, weights):
    assert run("photo.png", "--audio", "sound.wav", "--output", "map.npy", "--model", weights).exit_code == 0
    np.testing.assert_array_equal(np.load("map.npy"), localize_sound("photo.png", "sound.wav", model=weights))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photo.png", "--output", "out.png"], "give its sound as --audio"),
        (["photo.png", "--audio", "sound.wav", "--mismatch", "sound.wav", "--output", "out.png"], "go with videos"),
        (["photo.png", "--audio", "sound.wav", "--output", "out.mp4"], ".png or"),
        (["clip.mkv", "--output", "out.png"], "must end in .mp4"),
        (["clip.mkv", "--output", "out"], "must end in .mp4"),
        (["clip.mkv", "--audio", "sound.wav", "--output", "out.mp4"], "use --mismatch"),
        (["clip.mkv", "--output", "there.mp4"], "--overwrite"),
        (["clip.mkv", "--output", "out.mp4", "--model", "ave-small"], "can't localise"),
        (["clip.mkv", "--output", "out.mp4", "--model", "gone.safetensors"], "gone.safetensors"),
        (["clip.mkv", "--output", "out.mp4", "--device", "toaster"], "toaster"),
        (["clip.mkv", "--output", "out.mp4", "--frame-rate", "0"], "frame-rate"),
        (["clip.mkv"], "--output"),
    ],
)
def test_wrong_usage_leaves_with_status_2_and_says_what_would_work(arguments, said, inputs, weights, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    model = [] if "--model" in arguments else ["--model", weights]
    result = run(*arguments, *model)
    assert result.exit_code == 2
    assert said in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.mp4").read_text() == "kept"


def test_what_is_there_is_replaced_if_asked_for(inputs, weights):
    assert run("clip.mkv", "--output", "there.mp4", "--model", weights, "--overwrite").exit_code == 0
    assert len(list(read_frames("there.mp4"))) == len(TIMES)


def test_a_run_that_fails_half_way_leaves_what_was_there(inputs, weights, tmp_path):
    bad = np.full(40 * RATE, 0.1, np.float32)
    bad[-1] = np.nan  # read with the second block
    soundfile.write("bad.wav", bad, RATE, subtype="FLOAT")
    red_clip("long.mkv", times=[0, 20, 39.9], sound=click())
    before = sorted(tmp_path.rglob("*"))
    result = run("long.mkv", "--mismatch", "bad.wav", "--output", "there.mp4", "--model", weights, "--overwrite")
    assert result.exit_code == 1
    assert "bad.wav holds 1 NaN" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.mp4").read_text() == "kept"
