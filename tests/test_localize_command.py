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
from openavc.inference.localization import localize_sound, localize_video, video_peaks
from openavc.media.video import read_frames
from openavc.weights import build_model
from training.checkpoint import save_weights

pytestmark = pytest.mark.usefixtures("in_this_process")


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


# ------------------------------------------------------------------------------- networks that fuse clips with sound


@pytest.fixture(scope="module")
def fusing_weights(tmp_path_factory):
    """Write the weights of an untrained Multisensory network."""
    torch.manual_seed(0)
    architecture = {
        "architecture": "multisensory",
        "widths": [4, 4, 8, 8],
        "image_size": 32,
        "frames": 16,
        "frame_rate": 10,
        "sample_rate": 8000,
    }
    path = tmp_path_factory.mktemp("fusing") / "multisensory.safetensors"
    save_weights(path, build_model(architecture), architecture)
    return path


def test_activations_of_a_video_are_drawn_and_told(inputs, fusing_weights):
    result = run("clip.mkv", "--output", "out.mp4", "--model", fusing_weights)
    assert result.exit_code == 0, result.output
    peaks = video_peaks("clip.mkv", fusing_weights)
    value, time = peaks.highest
    said = f"highest activation {value:.3f} at {time:.2f} s, {peaks.values.mean():.3f} on average"
    assert result.stdout == f"{len(TIMES)} frames, {said}; out.mp4\n"
    maps = localize_video("clip.mkv", fusing_weights)
    for (_, drawn), (_, frame, heatmap) in zip(read_frames("out.mp4"), maps, strict=True):
        wanted = overlay(frame, heatmap, 0.35)
        assert np.abs(drawn.astype(int) - wanted).mean() < 6
    assert heatmap.max() > 0.5


def test_videos_are_ranked_by_their_strongest_response(inputs, weights, fusing_weights, tmp_path):
    (tmp_path / "clips").mkdir()
    red_clip(tmp_path / "clips/a.mkv", sound=click())
    red_clip(tmp_path / "clips/b.mkv", sound=LOUD.repeat(2))
    for model in (weights, fusing_weights):
        result = run("clips", "clip.mkv", "--rank", "--model", model)
        assert result.exit_code == 0, result.output
        rows = [line.split() for line in result.stdout.splitlines()]
        values = {path: video_peaks(path, model).highest for path in ("clips/a.mkv", "clips/b.mkv", "clip.mkv")}
        order = sorted(values, key=lambda path: -values[path][0])
        assert [row[0] for row in rows] == ["1", "2", "3"]
        assert [row[-1] for row in rows] == order
        for row in rows:
            assert (row[1], row[2]) == (f"{values[row[-1]][0]:.3f}", f"{values[row[-1]][1]:.2f}")


def test_videos_that_cant_be_ranked_are_named_and_the_others_listed(inputs, fusing_weights, tmp_path):
    (tmp_path / "broken.mkv").write_bytes(b"x" * 1000)
    result = run("broken.mkv", "silent.mkv", "clip.mkv", "--rank", "--model", fusing_weights)
    assert result.exit_code == 1
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["clip.mkv"]
    failures = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert len(failures) == 2 and "broken.mkv" in failures[0] and "silent.mkv holds no sound" in failures[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clip.mkv", "silent.mkv", "--output", "out.mp4"], "give one video or picture; --rank takes several"),
        ([".", "--output", "out.mp4"], "give one video or picture; --rank takes several"),
        (["clip.mkv", "--rank", "--output", "out.mp4"], "--rank draws nothing"),
        (["new", "--rank"], "no videos found in new"),
        (["photo.png", "--audio", "sound.wav", "--output", "map.png"], "not single pictures: give it a video"),
        (["clip.mkv", "--output", "out.mp4", "--maximum", "0"], "maximum"),
        (["photo.png", "--audio", "sound.wav", "--output", "map.png", "--maximum", "35"], "go with videos"),
    ],
)
def test_what_cant_be_ranked_or_drawn_is_refused(arguments, said, inputs, fusing_weights, tmp_path):
    (tmp_path / "new").mkdir()
    result = run(*arguments, "--model", fusing_weights)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out.mp4").exists() and not (tmp_path / "map.png").exists()
