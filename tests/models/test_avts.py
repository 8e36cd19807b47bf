"""AVTS's networks: the shapes of their stages, torchvision's names, and the layers that span time."""

import numpy as np
import pytest
import torch
from torch import nn

from openavc.models.avts import AVTSNet, MixedTower
from openavc.models.frontends import AVTS_FRONTENDS, build_frontend, mel_filter_bank

SMALL = {"widths": [4, 4, 8, 8], "sound_widths": [4, 4, 4, 8, 8], "image_size": [16, 32], "frames": 5, "joint_size": 6}
STAGES = {  # of 25 frames of 224 pixels: (channels, time, rows, columns)
    "image_tower.stem": (64, 25, 112, 112),
    "image_tower.layer1": (64, 25, 112, 112),
    "image_tower.layer2": (128, 25, 56, 56),
    "image_tower.layer3": (256, 25, 28, 28),
    "image_tower.layer4": (512, 25, 14, 14),
    "image_head": (1024,),
    "audio_tower.2": (64, 40, 100),  # conv_1 to conv_5, as (channels, bands, times)
    "audio_tower.6": (128, 20, 50),
    "audio_tower.10": (256, 10, 25),
    "audio_tower.14": (512, 5, 12),
    "audio_tower.18": (512, 2, 6),
    "audio_head": (1024,),
}


def test_every_stage_has_its_shape_at_full_size():
    shapes = {}
    with torch.device("meta"):
        model = AVTSNet().eval()
        for name, module in model.named_modules():
            module.register_forward_hook(lambda _, __, out, name=name: shapes.__setitem__(name, tuple(out.shape[1:])))
        frames, samples = torch.empty(1, 25, 224, 224, 3, dtype=torch.uint8), torch.empty(1, 16_000, 1)
        assert model.frames.shape == frames.shape[1:] and model.frames.rate == 25
        assert (model.sound.samples, model.sound.sample_rate, model.sound.channels) == (16_000, 16_000, 1)
        assert model(model.prepare_frames(frames), model.prepare_audio(samples)).shape == (1, 2)
    assert {name: shapes[name] for name in STAGES} == STAGES
    assert model.embedding_sizes == {
        "audio": {"features": 6144, "joint": 1024},
        "image": {"features": 512, "joint": 1024},
    }


@pytest.mark.parametrize(("first_flat", "spanning", "parameters"), [(3, 5, 11_490_240), (2, 1, None)])
def test_the_tower_is_torchvisions_network_without_its_last_layer(first_flat, spanning, parameters):
    """mc3_18 has 11,695,440 parameters, of which the last layer for 400 classes has 205,200."""
    tower = MixedTower(first_flat=first_flat)
    spans = {name for name, layer in tower.named_modules() if isinstance(layer, nn.Conv3d) and layer.kernel_size[0] > 1}
    assert len(spans) == spanning and all(name.startswith(("stem", "layer1")) for name in spans)
    if parameters:
        assert sum(value.numel() for value in tower.parameters()) == parameters
    names = tower.state_dict().keys()
    assert len(names) == 120
    assert names >= {
        *("stem.0.weight", "stem.1.running_mean", "layer1.0.conv1.0.weight", "layer1.1.conv2.1.bias"),
        *("layer2.0.downsample.0.weight", "layer4.0.downsample.1.num_batches_tracked", "layer4.1.conv2.0.weight"),
    }


def test_a_block_without_time_treats_each_frame_alone():
    torch.manual_seed(0)
    tower = MixedTower(SMALL["widths"], first_flat=2).eval()
    maps = torch.randn(1, 4, 6, 8, 8)
    with torch.no_grad():
        alone = torch.cat([tower.layer2(tower.layer1(maps[:, :, k : k + 1])) for k in range(6)], dim=2)
        np.testing.assert_allclose(tower.layer2(tower.layer1(maps)), alone, atol=1e-6)


def test_the_spectrogram_is_of_40_mel_filters_10_ms_apart():
    """A closed form: a steady tone has the same power at all times, most in the filters around it."""
    frontend = build_frontend("mel40", AVTS_FRONTENDS)
    assert (frontend.sample_rate, frontend.shape) == (16_000, (40, 100))
    tone = torch.sin(2 * np.pi * 1000 * torch.arange(16_000, dtype=torch.float64) / 16_000).float()
    spectrogram = frontend(tone[None])[0]
    assert spectrogram.shape == (40, 100)
    inner = spectrogram[:, 1:-1]
    assert (inner.amax(dim=1) - inner.amin(dim=1))[inner.mean(dim=1) > 0].max() < 0.01
    centre = mel_filter_bank(16_000, 512, 40, 50.0, 8000.0)[:, 32].argmax()  # bin 32 of 31.25 Hz is 1 kHz
    assert inner.mean(dim=1).argmax() == centre


@pytest.mark.parametrize("normalized", [False, True])
def test_scores_fall_with_the_distance_in_the_joint_space(normalized):
    torch.manual_seed(0)
    model = AVTSNet(**SMALL, normalized=normalized).eval()
    with torch.no_grad():
        frames = model.represent_frames(model.prepare_frames(torch.rand(3, 5, 16, 32, 3)))
        audio = model.represent_audio(model.prepare_audio(torch.randn(4, 16_000, 1)))
        distances = (frames[:, None] - audio).square().sum(dim=2).sqrt()
        np.testing.assert_allclose(-model.similarity(frames, audio), distances, atol=1e-4)
        logits = model.compare(frames, audio[:3]).diff(dim=1)[:, 0]
        np.testing.assert_allclose(logits, 0.99 - 2 * distances.diagonal(), atol=1e-5)
    if normalized:
        np.testing.assert_allclose(audio.norm(dim=1), 1, atol=1e-6)


def test_parts_of_time_are_the_means_of_the_last_map_over_each_and_one_is_the_papers_mean():
    torch.manual_seed(0)
    model = AVTSNet(**SMALL | {"frames": 6}, time_parts=3).eval()
    frames = torch.randn(2, 3, 6, 16, 32)
    with torch.no_grad():
        maps = model.image_tower(frames)
        found = model.embed_frames(frames).unflatten(1, (8, 3))
        for part in range(3):
            expected = maps[:, :, 2 * part : 2 * part + 2].mean(dim=(2, 3, 4))
            np.testing.assert_allclose(found[:, :, part], expected, atol=1e-6)
        model.time_parts = 1
        np.testing.assert_allclose(model.embed_frames(frames), found.mean(dim=2), atol=1e-6)


def test_a_moving_network_sees_the_same_of_a_clip_in_front_of_another_picture():
    model = AVTSNet(**SMALL, moving=True)
    clip, behind = 0.5 * torch.rand(1, 5, 16, 32, 3), 0.5 * torch.rand(1, 1, 16, 32, 3)
    seen = model.prepare_frames(clip)
    np.testing.assert_allclose(model.prepare_frames(clip + behind), seen, atol=1e-4)
    assert seen.std() == pytest.approx(1, abs=0.03) and seen.mean(dim=2).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_parts": 6}, "time_parts must be 1 to the number of frames, 5, got 6"),
        ({"time_parts": 1.5}, "time_parts must be 1"),
        ({"first_flat": 4}, r"first_flat must be 3 \(MC3\) or 2 \(MC2\), got 4"),
        ({"sound_widths": [1, 2]}, r"sound_widths must be the channels of 5 blocks, got \[1, 2\]"),
        ({"sound_widths": [1, 2, 3, 4, 0]}, "sound_widths"),
        ({"joint_size": 0}, "joint_size"),
        ({"evidence": 0.0}, "evidence must be above 0 and at most 10, got 0.0"),
        ({"evidence": 11}, "evidence must be above 0 and at most 10, got 11"),
        ({"frontend": "mel41"}, "unknown frontend 'mel41'"),
    ],
)
def test_values_that_cant_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AVTSNet(**SMALL | options)


def test_clips_of_another_length_are_refused():
    with pytest.raises(ValueError, match="AVTSNet takes clips of 5 frames, got"):
        AVTSNet(**SMALL).prepare_frames(torch.zeros(1, 4, 16, 32, 3))
