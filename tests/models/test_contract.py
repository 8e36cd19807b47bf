"""Every architecture fulfils the contract: it returns what it states, and has the abilities that it inherits."""

import itertools
import pickle
import re

import numpy as np
import pytest
import torch
from gradients import has_no_effect, without_effect
from torch import nn

from openavc.models import ARCHITECTURES, AVENet, OpenL3Net
from openavc.models.contract import (
    AudioVisualModel,
    Classifies,
    Compares,
    EmbedsAudio,
    EmbedsFrames,
    FramesInput,
    Fuses,
    HasSimilarity,
    HasStreams,
    HasTowers,
    Localizes,
    LocalizesInTime,
    Separates,
    Slices,
    SoundInput,
    Synchronizes,
    check_embedding,
)

ABILITIES = (
    *(Classifies, Compares, EmbedsAudio, EmbedsFrames, Fuses, HasSimilarity, HasStreams, HasTowers),
    *(Localizes, LocalizesInTime, Separates, Slices, Synchronizes),
)
TWO_TOWERS = {EmbedsAudio, EmbedsFrames, HasTowers}
EXPECTED = {
    "l3": {*TWO_TOWERS, Compares},
    "ave": {*TWO_TOWERS, Compares, HasSimilarity, Slices},
    "avol": {*TWO_TOWERS, Compares, HasSimilarity, Localizes},
    "avts": {*TWO_TOWERS, Compares, HasSimilarity, Synchronizes},
    "avts-classifier": {Classifies},
    "multisensory": {Compares, Fuses, HasStreams, LocalizesInTime, Synchronizes},
    "multisensory-classifier": {Classifies, Fuses},
    "separation": {Separates},
    "openl3": {*TWO_TOWERS, Compares},
    "openl3-towers": TWO_TOWERS,
}
SMALL = {"widths": (4, 4, 8, 16), "image_size": 64}
REQUIRED = {name: {"classes": ("cat", "dog", "owl")} for name in ("avts-classifier", "multisensory-classifier")}
EVERY = [  # architecture and options
    *(("l3", {"embedding_size": size}) for size in (None, 192, 16)),
    *(("l3", {"frontend": name, "first_stride": 2}) for name in ("linear257", "linear257-scaled", "mel64")),
    ("l3", {"frontend": "mel64", "one_pass": True, "embedding_size": 16}),
    *(
        ("ave", {"frontend": "mel64", "features": features, "one_pass": one_pass, "joint_size": 5, **motion})
        for features, one_pass, motion in itertools.product(
            ("max", "blocks"),
            (False, True),
            ({}, {"motion": "frames", "frames": 7}, {"motion": "flow", "frames": 3, "frame_rate": 10.0}),
        )
    ),
    ("ave", {"image_size": [32, 48]}),
    *(
        ("avol", {"frontend": "mel64", "map_stride": stride, "pooling": pooling, "one_pass": stride == 8})
        for stride, pooling in itertools.product((8, 16), ("max", "logsumexp"))
    ),
    ("avts", {"frames": 3}),
    ("avts", {"first_flat": 2, "frames": 3, "frontend": "mel64", "joint_size": 5, "normalized": True}),
    *(("openl3", {"input_repr": kind, "embedding_size": size}) for kind in ("linear", "mel128") for size in (None, 16)),
    *(
        ("openl3-towers", {"input_repr": "mel128", "embedding_size": size, "modalities": modalities})
        for size, modalities in itertools.product((None, 16), (("audio", "image"), ("audio",), ("image",)))
    ),
    ("openl3-towers", {"input_repr": "mel64-8khz", "modalities": ("audio",), "embedding_size": 16, "rectified": True}),
]


def build(architecture, options):
    torch.manual_seed(0)
    return ARCHITECTURES[architecture](**SMALL | REQUIRED.get(architecture, {}) | options).eval()


FUSED = [
    (architecture, {"frames": frames, "frame_rate": 15.0, "spatial_stride": stride})
    for architecture in ("multisensory", "multisensory-classifier")
    for frames, stride in itertools.product((8, 15), (1, 2))
]


@pytest.mark.parametrize(("architecture", "options"), FUSED, ids=str)
def test_fused_embeddings_have_the_sizes_that_are_stated(architecture, options):
    model = build(architecture, options)
    sound = model.prepare_audio(torch.randn(2, model.sound.samples, model.sound.channels))
    frames = model.prepare_frames(torch.rand(2, *model.frames.shape))
    assert model.embedding_sizes.keys() == {"video"}
    for embedding, size in model.embedding_sizes["video"].items():
        with torch.no_grad():
            assert model.embed_fused(frames, sound, embedding).shape == (2, size)
    with pytest.raises(ValueError, match="no embedding 'other'"):
        model.embed_fused(frames, sound, "other")


@pytest.mark.parametrize(("frames", "stride"), list(itertools.product((8, 15, 33), (1, 2))))
def test_maps_in_time_have_the_sizes_that_are_stated_for_pictures_of_any_shape(frames, stride):
    model = build("multisensory", {"frames": frames, "frame_rate": 15.0, "spatial_stride": stride})
    sound = model.prepare_audio(torch.randn(2, model.sound.samples, model.sound.channels))
    seen = model.prepare_frames(torch.rand(2, frames, 2 * model.map_stride, 3 * model.map_stride, 3))
    with torch.no_grad():
        maps = model.activation_maps(model.represent_frames(seen), model.represent_audio(sound))
    assert maps.shape == (2, model.map_times, 2, 3)


CLASSIFYING = [("avts-classifier", {"frames": 6}), ("multisensory-classifier", {"frames": 8, "frame_rate": 15.0})]


@pytest.mark.parametrize(("architecture", "options"), CLASSIFYING, ids=str)
def test_there_is_a_logit_for_each_class(architecture, options):
    model = build(architecture, options)
    sound = model.prepare_audio(torch.randn(2, model.sound.samples, model.sound.channels))
    with torch.no_grad():
        assert model(model.prepare_frames(torch.rand(2, *model.frames.shape)), sound).shape == (2, 3)


SEPARATING = [
    ("separation", {"features": features, "sync_widths": (4, 4, 8, 16), "frames": 15} | output)
    for features in ("video", "frame", "none")
    for output in ({"phase": "predicted"}, {"phase": "mixture"}, {"estimates": "masks"})
]


@pytest.mark.parametrize(("architecture", "options"), SEPARATING, ids=str)
def test_sounds_and_spectrograms_of_parts_have_the_sizes_of_the_mixture(architecture, options):
    model = build(architecture, options)
    assert model.embedding_sizes == {} and 0 < model.edge < model.sound.samples // 4 and model.source_level > 0
    samples = model.prepare_audio(torch.randn(2, model.sound.samples, model.sound.channels))
    frames = model.prepare_frames(torch.rand(2, *model.frames.shape))
    with torch.no_grad():
        assert model.separate(frames, samples).shape == (2, 2, model.sound.samples)
        spectrogram, parts = model.to_spectrogram(samples), model.separate_spectrogram(frames, samples)
    assert parts.shape == (2, 2, *spectrogram.shape[1:])
    assert parts.abs().max() <= 1


@pytest.mark.parametrize(("architecture", "options"), EVERY, ids=str)
def test_embeddings_have_the_sizes_that_are_stated(architecture, options):
    model = build(architecture, options)
    assert model.embedding_sizes.keys() <= {"audio", "image"}
    inputs = {}
    if model.sound:
        assert model.sound.channels == 1
        inputs["audio"] = model.prepare_audio(torch.randn(2, model.sound.samples, model.sound.channels))
    if model.frames:
        clips = np.random.default_rng(0).random((2, *model.frames.shape), dtype=np.float32)
        inputs["image"] = model.prepare_frames(torch.from_numpy(clips))
    assert inputs.keys() == model.embedding_sizes.keys()
    for modality, sizes in model.embedding_sizes.items():
        embed = model.embed_audio if modality == "audio" else model.embed_frames
        for embedding, size in sizes.items():
            check_embedding(model, modality, embedding)
            with torch.no_grad():
                assert embed(inputs[modality], embedding).shape == (2, size), (modality, embedding)
        with pytest.raises(ValueError, match="no embedding 'other'; it has 'features'"):
            embed(inputs[modality], "other")
    for modality in {"audio", "image"} - inputs.keys():
        with pytest.raises(ValueError, match=f"doesn't embed {modality}"):
            check_embedding(model, modality, "features")


def test_every_architecture_is_among_those_whose_sizes_are_checked():
    checked = {architecture for architecture, _ in EVERY + FUSED + CLASSIFYING + SEPARATING}
    assert checked == ARCHITECTURES.keys() == EXPECTED.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_has_its_abilities_and_no_others(architecture):
    network = ARCHITECTURES[architecture]
    assert {ability for ability in ABILITIES if issubclass(network, ability)} == EXPECTED[architecture]
    model = build(architecture, {})
    assert (model.name, model.sha256, model.architecture) == (network.__name__, "", {})
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.half().dtype == torch.float16
    assert pickle.loads(pickle.dumps(model.precompute_frames)) is not None  # workers of a loader get it


@pytest.mark.parametrize("method", ["embed_audio", "embed_frames"])
def test_a_network_without_what_its_ability_asks_for_cannot_be_made(method):
    base = {"embed_audio": EmbedsAudio, "embed_frames": EmbedsFrames}[method]
    lacking = type("Lacking", (base,), {})
    with pytest.raises(TypeError, match=method):
        lacking(None, None, {})


def test_a_network_that_hears_or_sees_nothing_says_so():
    class Neither(AudioVisualModel):
        pass

    model = Neither(None, None, {})
    with pytest.raises(ValueError, match="Neither takes no sound"):
        model.prepare_audio(torch.zeros(1, 100, 1))
    with pytest.raises(ValueError, match="Neither takes no pictures"):
        model.prepare_frames(torch.zeros(1, 1, 8, 8, 3))


def test_inputs_state_their_samples_and_shape():
    assert SoundInput(44_100, 0.25, 2).samples == 11_025
    assert SoundInput(24_000, 1.0) == SoundInput(24_000, 1.0, 1, "float32")
    assert FramesInput(48, 64).shape == (1, 48, 64, 3)
    assert FramesInput(48, 64, 25, 25.0).shape == (25, 48, 64, 3)


@pytest.mark.parametrize("motion", [None, "frames", "flow"])
def test_clips_of_bytes_and_of_floats_and_precomputed_ones_are_prepared_alike(motion):
    model = build("ave", {"frontend": "mel64", "motion": motion, **({"frames": 7} if motion else {})})
    pixels = np.random.default_rng(0).integers(0, 256, (2, *model.frames.shape), dtype=np.uint8)
    floats = pixels.astype(np.float32) / 255
    expected = model.prepare_frames(torch.from_numpy(floats))
    torch.testing.assert_close(model.prepare_frames(torch.from_numpy(pixels)), expected)
    precomputed = np.stack([model.precompute_frames(clip) for clip in floats])
    torch.testing.assert_close(model.prepare_frames(torch.from_numpy(precomputed)), expected)
    if motion != "flow":
        np.testing.assert_array_equal(precomputed, floats)


# ------------------------------------------------------------------------------- which parameters have no effect


def test_only_biases_right_before_batch_norm_in_training_have_no_effect():
    model = OpenL3Net("mel128", widths=(4, 4, 8, 8), image_size=32)
    excused = without_effect(model)
    assert all(name.endswith(".bias") and "_tower.layers." in name for name in excused)
    assert "image_tower.layers.4.bias" not in excused  # conv1_2 of pictures: ReLU comes between
    assert {"image_tower.layers.1.bias", "audio_tower.layers.4.bias"} <= excused
    assert len(excused) == 15  # of 16 convolutions
    assert not has_no_effect(model, "image_tower.layers.0.bias")  # BatchNorm's own
    assert not without_effect(model.eval())


def test_a_bias_before_batch_norm_has_indeed_no_effect():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    batch = torch.randn(4, 2, 8, 8)
    expected = layers(batch)
    layers[0].bias.data += torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(layers(batch), expected)
    assert without_effect(layers) == {"0.bias"}


def test_no_parameter_of_a_network_of_flow_is_excused_but_its_convolutions_biases():
    model = AVENet(motion="flow", frames=3, frontend="mel64", **SMALL)
    biases = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith(("image_head", "audio_head"))
    ]
    assert without_effect(model) == {f"{name}.bias" for name in biases}


@pytest.mark.parametrize("widths", [(4, 4), (), (4,) * 5, 4, None], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_widths_that_are_not_those_of_four_blocks_are_refused(architecture, widths):
    with pytest.raises(ValueError, match=re.escape(f"widths must be the channels of 4 blocks, got {widths!r}")):
        ARCHITECTURES[architecture](**REQUIRED.get(architecture, {}) | {"widths": widths})
