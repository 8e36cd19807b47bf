"""Maps of what sounds, controls that hear nothing, and scores against boxes, by hand."""

import numpy as np
import pytest
import torch
from fake_model import FakeModel

from openavc.media.image import fit
from openavc.models.contract import Localizes, SoundInput
from openavc.weights import build_model
from training.evaluate.datasets.boxes import inside
from training.evaluate.metrics import ciou, hits
from training.evaluate.metrics.maps import silence
from training.evaluate.metrics.saliency import saliency, tower_features
from training.evaluate.networks.untrained import settle

RATE = 24_000


def test_an_untrained_network_is_settled_by_the_statistics_of_what_it_sees():
    """In the first layer, they are the statistics of its convolution's outputs."""
    torch.manual_seed(0)
    architecture = {"architecture": "avol", "widths": [4, 4, 8, 8], "frontend": "mel64", "image_size": 32}
    network = build_model(architecture).eval()
    rng = np.random.default_rng(0)
    pictures = list(rng.random((70, 36, 36, 3), dtype=np.float32))
    sounds = list(rng.normal(size=(70, RATE, 1)).astype(np.float32))
    before = [parameter.clone() for parameter in network.parameters()]
    settle(network, pictures, sounds)
    clips = torch.from_numpy(np.stack([fit(picture, 32, 32)[None] for picture in pictures]))
    first, norm = network.image_tower.layers[:2]
    with torch.no_grad():
        values = first(network.prepare_frames(clips))
    expected = [part.mean((0, 2, 3)) for part in values.split(64)]
    torch.testing.assert_close(norm.running_mean, (expected[0] + expected[1]) / 2)
    assert not network.training
    assert all(torch.equal(*both) for both in zip(before, network.parameters(), strict=True))


def test_silence_is_what_the_network_makes_of_zeros():
    model = FakeModel(SoundInput(100, 0.5, channels=2))
    np.testing.assert_array_equal(silence(model), np.zeros((1, 100)))


def test_unusual_features_are_not_the_longest():
    """A channel that is strong everywhere says nothing; a weak one that responds at one position does."""
    features = np.zeros((2, 3, 4), np.float32)
    features[0] = 100 + np.arange(12).reshape(3, 4)  # longest at the last place
    features[1, 0, 1] = 1
    found = saliency([features])
    assert hits.highest(found["feature norm"][0]) == (0.875, pytest.approx(5 / 6))
    assert hits.highest(found["unusual features"][0]) == (0.375, pytest.approx(1 / 6))
    z = (features - features.mean((1, 2), keepdims=True)) / features.std((1, 2), keepdims=True)
    np.testing.assert_allclose(found["unusual features"][0], np.linalg.norm(z, axis=0), rtol=1e-3)


def test_a_network_without_towers_has_no_features():
    class Towerless(Localizes):
        map_stride = 8

        def represent_audio(self, spectrogram): ...

        def represent_frames(self, frames): ...

        def compare(self, frames, audio): ...

        def localize(self, frames, audio): ...

    with pytest.raises(ValueError, match="Towerless has no image_tower"):
        tower_features(Towerless(None, None, {}), [])


def test_the_highest_cell_is_pointed_at_by_its_middle():
    heatmap = np.zeros((2, 4))
    heatmap[1, 3] = 1
    assert hits.highest(heatmap) == (0.875, 0.75)
    assert inside((0.875, 0.75), (0.8, 0.7, 0.1, 0.1))
    assert not inside((0.875, 0.75), (0.0, 0.7, 0.875, 0.1))  # the right edge is outside
    assert hits.reachable(heatmap, (0.1, 0.2, 0.1, 0.1))
    assert not hits.reachable(heatmap, (0.2, 0.2, 0.1, 0.1))


def test_iou_of_the_higher_half_by_hand():
    """The left half is the answer and the upper half is the box: they share a quarter out of three quarters."""
    left = np.tile(np.linspace(1, 0, ciou.SIZE, dtype=np.float32), (ciou.SIZE, 1))
    assert ciou.iou(left, ciou.target_of([(0, 0, 1, 0.5)])) == pytest.approx(1 / 3, abs=0.01)
    assert ciou.iou(left, ciou.target_of([(0, 0, 0.5, 1)])) == pytest.approx(1, abs=0.01)
    assert ciou.iou(left, ciou.target_of([(0, 0, 0.2, 1)])) == pytest.approx(0.4, abs=0.01)
    assert ciou.iou(left, ciou.target_of([(0, 0, 0.2, 1)]), share=0.2) == pytest.approx(1, abs=0.03)
    assert ciou.iou(np.ones((4, 4)), ciou.target_of([(0, 0, 1, 1)])) == 0  # nothing is higher than the median
    assert ciou.iou(left, ciou.target_of([(0.3, 0.8, 0.6, -1e16)])) == 0  # as there are in VGG-SS


def test_a_consensus_weighs_a_box_of_one_annotator_by_half():
    target = ciou.target_of([(0, 0, 0.5, 1), (0.25, 0, 0.5, 1), (0.25, 0, 0.5, 1)], agreeing=2)
    assert (target[0, 0], target[0, 100], target[0, 200]) == (0.5, 1, 0)
    left = np.tile(np.linspace(1, 0, ciou.SIZE, dtype=np.float32), (ciou.SIZE, 1))
    assert ciou.iou(left, target) == pytest.approx(1, abs=0.02)  # the answer is all that anybody saw
    assert ciou.iou(left[:, ::-1], target) == 0
    assert ciou.iou(left, target, share=0.25) == pytest.approx(1 / 3, abs=0.02)  # 1/2 a quarter, of it and a whole one


def test_no_answer_of_half_of_the_picture_beats_the_best_possible():
    rng = np.random.default_rng(0)
    assert ciou.best_iou(ciou.target_of([(0, 0, 0.5, 0.25)])) == pytest.approx(0.25)
    assert ciou.best_iou(ciou.target_of([(0, 0, 1, 0.8)])) == pytest.approx(0.5 / 0.8, abs=0.01)
    for _ in range(20):
        (x0, x1), (y0, y1) = np.sort(rng.random((2, 2)))
        target = ciou.target_of([(x0, y0, x1, y1)])
        assert ciou.iou(target + 1e-3 * rng.random(target.shape), target) <= ciou.best_iou(target) + 1e-3


def test_success_and_its_area_by_hand():
    """With IoUs 0.5 and 0.26, one of two is at or above 0.5; the curve is 1 up to 0.25, 1/2 up to 0.5, then 0."""
    assert ciou.success([0.5, 0.26]) == 50
    assert ciou.success_curve_area([0.5, 0.26]) == pytest.approx(100 * (0.275 + 0.25 * 0.5))
    assert ciou.success_curve_area([1, 1]) == pytest.approx(100)


def test_average_precision_by_hand():
    """The order by confidence is right, negative, right, wrong. A wrong map costs precision, not recall."""
    confidence, right, positive = [4, 3, 2, 1], [True, True, True, False], [True, False, True, True]
    # precision 1, 1/2, 2/3, 1/2; recall 1/3, 1/3, 2/3, 1; the highest precision from each on
    ap, f1 = ciou.average_precision(confidence, right, positive)
    assert ap == pytest.approx(100 * (1 / 3 + 2 / 3 / 3 + 1 / 2 / 3))
    assert f1 == pytest.approx(100 * 2 / 3)
    assert ciou.average_precision([2, 1], [True, False], [True, False]) == (100, 100)
    tied = [ciou.average_precision([1, 1], [True, True], positive) for positive in ([True, False], [False, True])]
    assert tied == [(50, pytest.approx(200 / 3))] * 2  # whichever comes first
