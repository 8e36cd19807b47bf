"""AVTS that classifies: its logits, the weights that it takes over, and the sound that it doesn't hear."""

import pytest
import torch
from torch import nn

from openavc.models.avts import AVTSNet
from openavc.models.avts_classifier import AVTSClassifier
from openavc.weights.networks import build_model
from training.checkpoint import save_weights
from training.train import begin_with

SMALL = {"widths": [4, 8, 12, 16], "image_size": [32, 48], "frames": 6, "time_parts": 3, "moving": True}
CLASSES = ["cat", "dog", "owl"]


def built(seed=0, network=AVTSClassifier, **options):
    torch.manual_seed(seed)
    return network(**SMALL | options).eval()


@pytest.fixture(scope="module")
def classifier():
    return built(classes=CLASSES)


def seen(model, batch=2):
    frames = torch.rand(batch, *model.frames.shape, generator=torch.Generator().manual_seed(0))
    return model.prepare_frames(frames)


def test_at_the_papers_size_it_has_a_logit_for_each_of_101_classes():
    with torch.device("meta"):
        model = AVTSClassifier([f"class {k}" for k in range(101)]).eval()
        assert model.frames.shape == (25, 224, 224, 3) and model.sound.seconds == 1
        frames, samples = torch.empty(2, *model.frames.shape), torch.empty(2, model.sound.samples, 1)
        assert model(model.prepare_frames(frames), model.prepare_audio(samples)).shape == (2, 101)
        assert model.logit.weight.shape == (101, 512)


def test_the_logits_are_a_linear_layer_on_means_over_parts_of_time(classifier):
    frames = seen(classifier)
    with torch.no_grad():
        logits, maps = classifier.classify(frames, torch.empty(0)), classifier.image_tower(frames)
        parts = maps.unflatten(2, (3, -1)).mean(dim=(3, 4, 5))  # (B, C, 3)
        torch.testing.assert_close(logits, nn.functional.linear(parts.flatten(1), *classifier.logit.parameters()))


def test_weights_of_the_pretext_network_are_taken_over_without_its_sound(classifier, tmp_path, capsys):
    pretext, path = built(1, AVTSNet), tmp_path / "avts.safetensors"
    save_weights(path, pretext, {"architecture": "avts", **SMALL}, torch.float32)
    model = built(2, classes=CLASSES)
    fresh = model.logit.weight.clone()
    begin_with(model, path, ["logit"])
    frames = seen(model)
    with torch.no_grad():
        features = pretext.embed_frames(frames)
        expected = nn.functional.linear(features, fresh, model.logit.bias)
        torch.testing.assert_close(model.classify(frames, torch.empty(0)), expected)
    assert f"leaves out audio_head, audio_tower, decision, image_head of {path}" in capsys.readouterr().err


def test_options_that_differ_from_those_of_the_weights_are_told(tmp_path, capsys):
    path, options = tmp_path / "avts.safetensors", {"classes": CLASSES, "moving": False, "frames": 8}
    save_weights(path, built(1, AVTSNet), {"architecture": "avts", **SMALL}, torch.float32)
    begin_with(build_model({"architecture": "avts-classifier", **SMALL, **options}), path, ["logit"])
    said = capsys.readouterr().err
    assert f"moving was True in {path}, and is False here" in said and "frames was 6" in said
    assert "widths" not in said and "time_parts" not in said


def test_weights_of_which_nothing_is_taken_are_refused(classifier, tmp_path):
    path = tmp_path / "avts.safetensors"
    save_weights(path, built(1, AVTSNet), {"architecture": "avts", **SMALL}, torch.float32)
    with pytest.raises(ValueError, match="it has nothing of that network"):
        begin_with(built(classes=CLASSES), path, ["logit", "image_tower"])


def test_a_network_that_lacks_a_part_is_refused(tmp_path):
    path = tmp_path / "classifier.safetensors"
    save_weights(path, built(classes=CLASSES), {"architecture": "avts-classifier", "classes": CLASSES, **SMALL})
    with pytest.raises(ValueError, match=r"(?s)doesn't fit the configuration's .*audio_tower"):
        begin_with(built(network=AVTSNet), path)


def test_sound_is_not_heard(classifier):
    frames = seen(classifier)
    silence, noise = (classifier.prepare_audio(scale * torch.randn(2, 1000, 1)) for scale in (0, 1))
    with torch.no_grad():
        assert torch.equal(classifier(frames, silence), classifier(frames, noise))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": ["cat"]}, "classes must be a list of at least two names"),
        ({"first_flat": 4}, r"first_flat must be 3 \(MC3\) or 2 \(MC2\), got 4"),
        ({"time_parts": 7}, "time_parts must be 1 to the number of frames, 6, got 7"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        built(**{"classes": CLASSES} | options)
