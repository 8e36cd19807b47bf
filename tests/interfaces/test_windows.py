"""The data set of aligned windows: the moments of `video_scores`, in a loader with workers, past bad files."""

import numpy as np
import pytest
import torch
from moving_network import MovingNet
from torch.utils.data import DataLoader
from videos import greys, noise, numbers_of, write_video

import openavc
from openavc.data import AlignedWindows
from openavc.inference.batches import inference_of

TIMES = np.arange(75) / 25  # seconds


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        write_video(folder / f"{number}.mkv", TIMES, sound=noise(24_000, number), size=(64, 64))
    return sorted(folder.iterdir())


def test_items_hold_the_moments_whose_scores_video_scores_returns(videos):
    model = openavc.load_model("ave-natural", device="cpu")
    items = list(AlignedWindows(videos[:1], model, frame_rate=2))
    found = openavc.video_scores(videos[0], model, frame_rate=2)
    assert [item["time"] for item in items] == found.timestamps.tolist()
    assert {item["video"] for item in items} == {str(videos[0])}
    frames, samples = (torch.stack([item[key] for item in items]) for key in ("frames", "samples"))
    assert frames.shape[1:] == model.frames.shape and samples.shape[1:] == (model.sound.samples, 1)
    with inference_of(model):
        seen = model.represent_frames(model.prepare_frames(frames))
        logits = model.compare(seen, model.represent_audio(model.prepare_audio(samples)))
    np.testing.assert_allclose(logits.softmax(dim=1)[:, 1], found.scores, atol=1e-5)


def test_a_network_of_clips_gets_clips_and_stereo(videos):
    items = list(AlignedWindows(videos[:1], MovingNet(), frame_rate=1))
    assert [item["frames"].shape for item in items] == [(25, 32, 32, 3)] * len(items)
    assert {item["samples"].shape for item in items} == {(16_000, 2)}
    middle = [item["frames"][12].mean() for item in items]
    expected = numbers_of(greys(75)[[round(25 * item["time"]) for item in items]].mean(axis=(1, 2, 3)) / 255)
    np.testing.assert_array_equal(numbers_of(middle), expected)


def test_a_loaders_workers_share_the_videos(videos):
    windows = AlignedWindows(videos, frame_rate=2)
    alone = {(item["video"], item["time"]) for item in windows}
    batches = list(DataLoader(windows, batch_size=4, num_workers=2))
    shared = [(video, time.item()) for b in batches for video, time in zip(b["video"], b["time"], strict=True)]
    assert len(shared) == len(alone) and set(shared) == alone
    assert batches[0]["frames"].shape[0] == 4


def test_a_bad_file_is_named_and_costs_the_others_nothing(videos, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    windows = AlignedWindows([tmp_path / "bad.mp4", tmp_path / "missing.mp4", videos[0]])
    with pytest.warns(UserWarning, match=r"passed over: .*bad\.mp4") as told:
        assert {item["video"] for item in windows} == {str(videos[0])}
    assert any("missing.mp4" in str(warning.message) for warning in told)


def test_what_cant_be_windows_is_refused(videos):
    with pytest.raises(TypeError, match="videos must be a sequence of paths, got the single path"):
        AlignedWindows(str(videos[0]))
    with pytest.raises(ValueError, match="frame_rate must be a positive number"):
        AlignedWindows(videos, frame_rate=0)
    deaf = MovingNet()
    deaf.sound = None
    with pytest.raises(ValueError, match="doesn't take both sound and pictures"):
        AlignedWindows(videos, deaf)
