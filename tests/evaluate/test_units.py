"""What units respond to, on frames and sounds that are made for them."""

import json

import cv2
import numpy as np
import pytest
import torch
import webdataset
from evaluations import evaluate, save_network
from fake_model import FakeModel
from moving_network import MovingNet
from tones import write_tones
from torch import nn

from openavc.models.contract import FramesInput, SoundInput
from openavc.models.frontends import build_frontend
from openavc.models.layers import channels_first
from training.corpora.shards import Shards, encode_clip
from training.evaluate.datasets.unit_moments import choose_moments
from training.evaluate.metrics import selectivity
from training.evaluate.metrics.unit_maps import activations, feature_maps
from training.evaluate.reporting.unit_pictures import draw_units, heatmap


@pytest.fixture
def weights(tmp_path):
    return save_network(tmp_path / "tiny.safetensors")


class Detectors(FakeModel):
    """Unit 0 responds to red, unit 1 to blue; unit 0 of the sound tower to bands above the middle, 1 to the rest."""

    def __init__(self):
        super().__init__(SoundInput(24_000, 1.0), FramesInput(64, 64))
        self.frontend = build_frontend("mel64")
        self.image_tower = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.ReLU())
        colours = torch.tensor([[1.0, -1, -1], [-1, -1, 1]])
        with torch.no_grad():
            self.image_tower[0].weight.copy_(colours[:, :, None, None].expand(2, 3, 8, 8) / 64)
            self.image_tower[0].bias.fill_(-1)  # black, which is -1, gives 0
        self.audio_tower = nn.Sequential(Bands(), nn.AvgPool2d((16, 20)), nn.ReLU())

    def prepare_frames(self, frames):
        return channels_first(frames[:, 0])

    def prepare_audio(self, samples):
        return self.frontend(samples[..., 0]).unsqueeze(1)


class Bands(nn.Module):
    """Makes two copies of a spectrogram, one without its lower and one without its upper half."""

    def forward(self, spectrogram):
        loud = spectrogram - spectrogram.amin(dim=(1, 2, 3), keepdim=True)
        upper = (torch.arange(loud.shape[2]) >= loud.shape[2] // 2).float()[:, None]
        return torch.cat([loud * upper, loud * (1 - upper)], dim=1)


@pytest.fixture
def squares_folder(tmp_path):
    """Write 16 clips, named after a colour: a red or blue square in a corner, with a tone of 6 kHz or 150 Hz."""
    rng, folder = np.random.default_rng(0), tmp_path / "squares"
    folder.mkdir()
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        for number in range(16):
            red = number % 2 == 0
            image = np.zeros((80, 80, 3), np.uint8)
            image[12:28, 52:68, 2 if red else 0] = 255 - 3 * number  # BGR, at the top right
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
            sound = np.sin(2 * np.pi * (6000 if red else 150) * np.arange(36_000) / 24_000) * rng.uniform(0.3, 0.5)
            about = {"labels": ["red" if red else "blue", "square"], "level": "one"}
            tar.write(encode_clip(f"c{number}", sound, 24_000, [encoded] * 3, [0.6, 0.75, 0.9], about))
    return folder


def test_units_find_the_frames_and_sounds_that_they_answer_to(squares_folder):
    network = Detectors()
    moments = choose_moments(Shards(squares_folder), network, per_clip=2)
    assert len(moments) == 32
    assert set(moments.labels) == {"red", "blue"}
    for modality in ("image", "audio"):
        ranked = selectivity.rank_units(activations(network, modality, moments), moments.labels, moments.videos)
        assert {unit.number: (unit.label, unit.purity) for unit in ranked} == {0: ("red", 1), 1: ("blue", 1)}
        assert selectivity.class_units(ranked) == ["blue", "red"]
        for unit in ranked:
            assert len(set(moments.videos[unit.top])) == 5  # of five videos
    red = selectivity.rank_units(activations(network, "image", moments), moments.labels, moments.videos)
    brightest = next(unit for unit in red if unit.number == 0).top
    assert list(moments.videos[brightest]) == [0, 2, 4, 6, 8]  # they darken from clip to clip


def test_a_heatmap_peaks_where_the_red_square_is(squares_folder):
    network = Detectors()
    moments = choose_moments(Shards(squares_folder), network, per_clip=1)
    [found] = feature_maps(network, "image", moments, np.array([0]))
    heat = heatmap(found[0], (64, 64))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    [frames] = moments.frames(network, [0])
    reddest = frames[0, ..., 0] > 0.5
    assert reddest[row, column]
    assert heat[~reddest].mean() < 0.2 * heat[reddest].mean()
    [found] = feature_maps(network, "audio", moments, np.array([0]))
    heat = heatmap(found[0], (64, 80))
    assert heat[32:].max() > 5 * heat[:20].max()  # 6 kHz is in the upper half, low frequencies come first


def test_clusters_that_are_the_labels_have_nmi_1_and_random_ones_about_0():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], 50)
    centres = 10 * np.eye(4)[np.repeat(np.arange(4), 50)]
    nmi, assigned = selectivity.cluster_nmi(centres + 0.1 * rng.standard_normal((200, 4)), labels, 4, seed=0)
    assert nmi == pytest.approx(1)
    assert selectivity.chance_nmi(assigned, labels, np.arange(200), seed=0) < 0.05
    nmi, _ = selectivity.cluster_nmi(rng.standard_normal((200, 4)), labels, 4, seed=0)
    assert nmi < 0.06
    with pytest.raises(ValueError, match="201 clusters"):
        selectivity.cluster_nmi(np.zeros((200, 4)), labels, 201, seed=0)


def test_a_unit_that_likes_one_video_is_no_class_unit():
    """Its six strongest moments come from two videos of one label; but five different videos decide."""
    labels = np.array(["a"] * 6 + ["b", "a", "b", "a", "b", "b"])
    videos = np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7])
    activation = np.arange(12, 0, -1.0)[:, None]
    [unit] = selectivity.rank_units(activation, labels, videos)
    assert list(unit.top) == [0, 3, 6, 7, 8]
    assert (unit.label, unit.purity) == ("a", 0.6)
    assert selectivity.class_units([unit]) == []
    with pytest.raises(ValueError, match="varies"):
        selectivity.rank_units(np.ones((12, 3)), labels, videos)


def test_clips_without_labels_go_by_their_level(tmp_path):
    picture = cv2.imencode(".jpg", np.zeros((80, 80, 3), np.uint8))[1].tobytes()
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as tar:
        for number, about in enumerate(({"level": "one"}, {"level": "one", "labels": ["dog", "bark"]})):
            tar.write(encode_clip(f"c{number}", np.zeros(24_000), 24_000, [picture], [0.2], about))
    shards = Shards(tmp_path)
    assert [clip.labels for clip in shards.clips] == [(), ("dog", "bark")]
    assert list(choose_moments(shards, Detectors(), per_clip=2).labels) == ["one", "dog"]


def test_pictures_of_units_are_written(squares_folder, weights, tmp_path):
    options = ("--output", tmp_path / "units", "--clusters", 4, "--count", 2, "--per-clip", 1)
    result = evaluate(
        "units", "--model", weights, "--data", squares_folder, *options, "--json", tmp_path / "units.json"
    )
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "units").iterdir())
    assert names == ["audio_tsne.png", "audio_units.png", "image_tsne.png", "image_units.png"]
    for name in names:
        assert cv2.imread(str(tmp_path / "units" / name)).std() > 5  # something is drawn
    assert json.loads((tmp_path / "units.json").read_text())["classes"] == 2
    assert "0.409" in result.output  # the paper's


def test_a_network_of_25_frames_and_stereo_is_looked_at(tmp_path):
    write_tones(tmp_path / "fast" / "0.tar", range(3), frames=100)
    network = Towers()
    moments = choose_moments(Shards(tmp_path / "fast"), network, per_clip=2)
    assert [clip.key for clip, _ in moments.chosen] == ["clip0", "clip0", "clip1", "clip1", "clip2", "clip2"]
    found = activations(network, "image", moments)
    expected = [[10 * number / 255] for number in (0, 0, 1, 1, 2, 2)]
    np.testing.assert_allclose(found, expected, atol=0.01)  # the red of each clip's frames
    assert activations(network, "audio", moments).shape == (6, 2)
    ranked = selectivity.rank_units(found, np.array(list("aabbcc")), moments.videos)
    draw_units(tmp_path / "units.png", network, "image", moments, ranked)
    draw_units(tmp_path / "sounds.png", network, "audio", moments, ranked)
    assert cv2.imread(str(tmp_path / "units.png")).std() > 5


class Towers(FakeModel):
    """Takes 25 frames at 25 per second and stereo sound; the image tower's map is the frames' red, with time."""

    def __init__(self):
        super().__init__(SoundInput(8_000, 1.0, channels=2), FramesInput(16, 16, count=25, rate=25.0))

    def prepare_frames(self, frames):
        assert frames.shape[1:] == (25, 16, 16, 3)
        return frames[..., 0][:, None]  # (B, 1, T, H, W)

    def prepare_audio(self, samples):
        assert samples.shape[1:] == (8_000, 2)
        return samples.reshape(-1, 80, 100, 2).movedim(-1, 1)  # (B, 2, 80, 100)


def test_a_network_without_towers_is_named(squares_folder):
    with pytest.raises(ValueError, match="MovingNet has no image_tower"):
        next(feature_maps(MovingNet(), "image", choose_moments(Shards(squares_folder), Detectors(), 1), [0]))
