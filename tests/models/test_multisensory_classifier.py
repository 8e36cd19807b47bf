"""Multisensory that classifies: its logits, its weights by name, clips of other lengths, sound left out."""

import pytest
import torch
from torch import nn

import openavc
from openavc.models.multisensory import Multisensory
from openavc.models.multisensory_classifier import MultisensoryClassifier
from training.checkpoint import save_weights

SMALL = {"widths": [4, 8, 12, 16], "image_size": 32, "frames": 16, "frame_rate": 15.0, "sample_rate": 8000}
CLASSES = ["cat", "dog", "owl"]


def inputs(model, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(batch, *model.frames.shape, generator=generator)
    samples = torch.rand(batch, model.sound.samples, 2, generator=generator) * 2 - 1
    return model.prepare_frames(frames), model.prepare_audio(samples)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return MultisensoryClassifier(CLASSES, **SMALL).eval()


def test_at_the_papers_size_it_has_a_logit_for_each_of_101_classes():
    with torch.device("meta"):
        model = MultisensoryClassifier([f"class {k}" for k in range(101)]).eval()
        assert model.frames.count / model.frames.rate == pytest.approx(2.56, abs=0.02)
        frames, samples = torch.empty(2, *model.frames.shape), torch.empty(2, model.sound.samples, 2)
        assert model(model.prepare_frames(frames), model.prepare_audio(samples)).shape == (2, 101)
        assert model.logit.weight.shape == (101, 512, 1, 1, 1)


def test_the_logits_are_a_linear_layer_on_the_mean_of_the_last_maps(classifier):
    frames, sound = inputs(classifier)
    with torch.no_grad():
        logits = classifier.classify(frames, sound)
        maps = classifier.stages(classifier.represent_frames(frames), classifier.represent_audio(sound))[-1]
        expected = nn.functional.linear(
            maps.mean(dim=(2, 3, 4)), classifier.logit.weight.flatten(1), classifier.logit.bias
        )
    assert classifier.classes == ("cat", "dog", "owl")
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("norm_scale", [False, True])
def test_weights_of_the_pretext_network_fit_by_name_but_for_the_logits(norm_scale):
    """Also those of a network that learned no scales of BatchNorm, and of clips of another length."""
    torch.manual_seed(1)
    pretext = Multisensory(**SMALL | {"frames": 24}, norm_scale=norm_scale)
    model = MultisensoryClassifier(CLASSES, **SMALL)
    lacking, unknown = model.load_state_dict(
        {name: value for name, value in pretext.state_dict().items() if not name.startswith("logit.")}, strict=False
    )
    assert (lacking, unknown) == (["logit.weight", "logit.bias"], [])
    assert all(module.weight.requires_grad for module in model.modules() if isinstance(module, nn.BatchNorm3d))
    assert model.fusion.norm.weight.requires_grad
    frames, sound = inputs(model)
    pretext.frames = model.frames
    with torch.no_grad():
        torch.testing.assert_close(model.eval().embed_fused(frames, sound), pretext.eval().embed_fused(frames, sound))


def test_sound_decides_with_the_frames_unless_it_is_muted(classifier):
    muted = MultisensoryClassifier(CLASSES, **SMALL, muted=True).eval()
    muted.load_state_dict(classifier.state_dict())
    frames, samples = torch.rand(1, *muted.frames.shape), torch.rand(2, muted.sound.samples, 2) * 2 - 1
    for model, heeds in ((classifier, True), (muted, False)):
        with torch.no_grad():
            seen = model.prepare_frames(frames)
            one, other = (model(seen, model.prepare_audio(sound[None])) for sound in samples)
        assert (not torch.equal(one, other)) == heeds


def test_a_fine_tuned_file_knows_its_classes_and_embeds_videos(classifier, tmp_path):
    from videos import noise, write_video

    path = tmp_path / "cats.safetensors"
    save_weights(path, classifier, {"architecture": "multisensory-classifier", "classes": CLASSES, **SMALL})
    model = openavc.load_model(path, device="cpu")
    assert model.classes == ("cat", "dog", "owl")
    write_video(tmp_path / "clip.mkv", [k / 15 for k in range(45)], sound=noise(24_000), rate=8000)
    found = openavc.get_video_embedding(tmp_path / "clip.mkv", model, frame_rate=1.0)
    assert found.joint.shape == (len(found.timestamps), 16)
    with pytest.raises(ValueError, match="doesn't fit: its classes is"):
        openavc.load_model(path, classes=["cat", "dog", "eel"])
    with pytest.raises(ValueError, match="can't compare"):
        openavc.video_scores(tmp_path / "clip.mkv", model)


@pytest.mark.parametrize("classes", [[], ["cat"], ["cat", "cat"], "cats", ["cat", 3], ["cat", ""], None])
def test_classes_that_name_nothing_are_refused(classes):
    with pytest.raises(ValueError, match="classes must be a list of at least two names"):
        MultisensoryClassifier(classes, **SMALL)
