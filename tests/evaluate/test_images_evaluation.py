"""Linear layers on frozen features, for pictures whose classes are known."""

import json

import cv2
import numpy as np
import pytest
import torch
from evaluations import evaluate, save_network
from fake_model import FakeModel

from openavc import get_image_embedding
from openavc.media.image import fit
from openavc.models import AVENet
from training.evaluate import images
from training.evaluate.datasets.pictures import Pictures, read_pictures


@pytest.fixture
def weights(tmp_path):
    return save_network(tmp_path / "tiny.safetensors")


COLOURS = {"blue": (0, 0, 1), "green": (0, 1, 0), "red": (1, 0, 0)}


def coloured(count, rng):
    """Draw noisy pictures (count, 24, 24, 3), uint8, of the three colours in turn, and return the colour of each."""
    labels = np.arange(count) % 3
    plain = np.array(list(COLOURS.values()))[labels][:, None, None, :] * 150
    return (plain + rng.integers(0, 100, (count, 24, 24, 3))).astype(np.uint8), labels


@pytest.fixture
def colour_file(tmp_path):
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = coloured(90, rng), coloured(60, rng)
    path = tmp_path / "colours.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=list(COLOURS))
    return path


def test_colours_are_told_apart_by_a_linear_layer_and_random_labels_are_not(colour_file):
    train, test, classes = read_pictures(colour_file)
    assert images.linear_probe(images.RAW_PIXELS, train, test, 3, (24, 24), seed=0, epochs=20) >= 98
    rng = np.random.default_rng(1)
    noisy, noisy_test = (Pictures(part.items, rng.permutation(part.labels)) for part in (train, test))
    assert images.linear_probe(images.RAW_PIXELS, noisy, noisy_test, len(classes), (24, 24), seed=0, epochs=20) < 55


def test_the_probe_sees_the_features_that_a_user_gets(colour_file, model):
    _, test, _ = read_pictures(colour_file)
    crops = np.stack([fit(picture, 64, 64) for picture in (test[0], test[1])])
    expected = get_image_embedding(list(test.items[:2]), model)
    features = images.features_of(model)
    np.testing.assert_allclose(features.represent(crops), np.concatenate(expected), atol=1e-4)
    assert features.size == expected[0].shape[1]


@pytest.mark.parametrize(("motion", "count"), [("frames", 7), ("flow", 3)])
def test_a_network_that_sees_motion_gets_still_clips(motion, count):
    torch.manual_seed(0)
    network = AVENet(widths=(2, 2, 4, 4), frontend="mel64", image_size=16, motion=motion, frames=count).eval()
    features = images.features_of(network)
    picture = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    expected = get_image_embedding(np.repeat(picture[None], count, axis=0), network)
    represented = features.represent(np.stack([picture, 1 - picture]))
    assert represented.shape == (2, features.size)
    cropped = fit(picture, 16, 16)  # the embedding sees its middle
    np.testing.assert_allclose(features.represent(cropped[None]), expected, atol=1e-5)


def test_a_network_that_sees_nothing_is_refused():
    with pytest.raises(ValueError, match="doesn't embed image"):
        images.features_of(FakeModel(frames=None))


def test_a_linear_probe_repeats_and_depends_on_its_seed(colour_file):
    train, test, _ = read_pictures(colour_file)
    few = Pictures(train.items[:9], train.labels[:9])
    first, again = (images.linear_probe(images.RAW_PIXELS, few, test, 3, (24, 24), seed=0, epochs=1) for _ in range(2))
    assert first == again
    others = {images.linear_probe(images.RAW_PIXELS, few, test, 3, (24, 24), seed=seed, epochs=1) for seed in range(5)}
    assert len(others) > 1


def test_the_probe_leaves_the_network_as_it_was(colour_file, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train, test, _ = read_pictures(colour_file)
    images.linear_probe(images.features_of(model), train, test, 3, (32, 32), seed=0, epochs=1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_folders_of_classes_are_read_as_arrays_are(colour_file, tmp_path):
    arrays = read_pictures(colour_file)
    for split, pictures in zip(("train", "val"), arrays, strict=False):
        for index, (item, label) in enumerate(zip(pictures.items, pictures.labels, strict=True)):
            path = tmp_path / "colours" / split / list(COLOURS)[label] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), item[..., ::-1])
    train, test, classes = read_pictures(tmp_path / "colours")
    assert (len(train), len(test), classes) == (90, 60, list(COLOURS))
    np.testing.assert_array_equal(np.bincount(train.labels), [30, 30, 30])
    np.testing.assert_allclose(train[0], arrays[0][0], atol=1e-6)  # the first blue one
    (tmp_path / "colours" / "val" / "red").rename(tmp_path / "colours" / "val" / "pink")
    with pytest.raises(ValueError, match="pink"):
        read_pictures(tmp_path / "colours")
    with pytest.raises(FileNotFoundError, match="train/ and val/"):
        read_pictures(tmp_path)


def test_images_are_printed_beside_untrained_pixels_and_chance(colour_file, weights):
    options = ("--seeds", 2, "--epochs", 5, "--json", colour_file.parent / "images.json")
    result = evaluate("images", "--model", weights, "--data", colour_file, *options)
    assert result.exit_code == 0, result.output
    runs = json.loads((colour_file.parent / "images.json").read_text())["runs"]
    assert [len(values) for values in runs.values()] == [2, 2, 2]
    assert "33.3" in result.output
    assert "L3-Net, Flickr-SoundNet 500k" in result.output
