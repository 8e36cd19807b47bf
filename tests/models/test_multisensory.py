"""Multisensory's network: the shapes of the paper's tables, padding, companding, and maps that average to logits."""

import math

import pytest
import torch
from torch import nn

from openavc.models.multisensory import Multisensory, Subsample, compand, pad_same
from training.state import freeze

SMALL = {"widths": [4, 8, 12, 16], "image_size": 32, "frames": 16, "frame_rate": 15.0, "sample_rate": 8000}
TABLE = {  # papers' layers: (channels, time, rows, columns), or (channels, samples) of the sound
    "sound_first": (64, 21897),
    "sound_blocks.0": (128, 1369),
    "sound_blocks.1": (128, 343),
    "sound_blocks.2": (256, 86),
    "sound_last": (128, 32),
    "frames_first": (64, 63, 112, 112),
    "frames_blocks.0": (64, 63, 56, 56),
    "frames_blocks.1": (64, 32, 28, 28),
    "fusion.hidden": (512, 32, 28, 28),
    "fusion": (128, 32, 28, 28),
    "stage3.0": (128, 32, 28, 28),
    "stage3.1": (128, 32, 28, 28),
    "stage4.0": (256, 16, 14, 14),
    "stage4.1": (256, 16, 14, 14),
    "stage5.0": (512, 16, 7, 7),
    "stage5.1": (512, 16, 7, 7),
    "logit": (1, 1, 1, 1),
}


def shapes_of(model, frames, samples):
    """Run a network on shapes alone and return those of all layers."""
    shapes = {}

    def record(name):
        return lambda module, inputs, output: shapes.__setitem__(name, tuple(output.shape[1:]))

    for name, module in model.named_modules():
        module.register_forward_hook(record(name))
    model(model.prepare_frames(frames), model.prepare_audio(samples))
    return shapes


def inputs(model, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(batch, *model.frames.shape, generator=generator)
    samples = torch.rand(batch, model.sound.samples, 2, generator=generator) * 2 - 1
    return model.prepare_frames(frames), model.prepare_audio(samples)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Multisensory(**SMALL).eval()


def test_every_layer_has_the_papers_shape():
    with torch.device("meta"):
        model = Multisensory().eval()
        assert (model.sound.samples, model.sound.sample_rate, model.sound.channels) == (87_588, 21_000, 2)
        assert model.frames.shape == (125, 224, 224, 3)
        frames, samples = torch.empty(1, 125, 224, 224, 3, dtype=torch.uint8), torch.empty(1, 87_588, 2)
        shapes = shapes_of(model, frames, samples)
        assert {name: shapes[name] for name in TABLE} == TABLE
        both = model.fusion.concatenated(torch.empty(1, 64, 32, 28, 28), torch.empty(1, 128, 32))
        assert both.shape == (1, 192, 32, 28, 28)


@pytest.mark.parametrize(("stride", "side"), [(2, 7), (1, 14)])
def test_the_network_for_maps_keeps_twice_the_resolution(stride, side):
    with torch.device("meta"):
        model = Multisensory(spatial_stride=stride).eval()
        assert (model.map_times, 224 // model.map_stride) == (16, side)
        frames, samples = torch.empty(1, 125, 224, 224, 3), torch.empty(1, 87_588, 2)
        seen = model.represent_frames(model.prepare_frames(frames))
        heard = model.represent_audio(model.prepare_audio(samples))
        assert model.stages(seen, heard)[-1].shape == (1, 512, 16, side, side)
        assert model.activation_maps(seen, heard).shape == (1, 16, side, side)


def test_companding_is_odd_and_keeps_the_ends():
    samples = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    companded = compand(samples)
    torch.testing.assert_close(companded[[0, 1000, 2000]], torch.tensor([-1.0, 0, 1], dtype=torch.float64))
    torch.testing.assert_close(compand(-samples), -companded)
    assert (companded.diff() > 0).all()
    assert compand(torch.tensor(0.5)) == pytest.approx(math.log(1 + 255 * 0.5) / math.log(256))


@pytest.mark.parametrize("size", range(1, 20))
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 15])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_padding_gives_tensorflows_length(size, kernel, stride):
    padded = pad_same(torch.ones(1, 1, size), (kernel,), (stride,))
    assert 1 + (padded.shape[-1] - kernel) // stride == math.ceil(size / stride)
    before = int(padded[0, 0].argmax())
    after = padded.shape[-1] - size - before
    assert after - before in (0, 1)  # the odd one goes to the end


def test_a_stride_takes_every_other_place_from_the_first_on():
    x = torch.arange(5 * 4.0).reshape(1, 1, 5, 4)
    expected = nn.functional.max_pool2d(x, 1, stride=2)
    torch.testing.assert_close(Subsample((2, 2))(x), expected)


def test_the_shortcut_of_the_fusion_keeps_the_frames_and_the_last_of_the_sound(small):
    """Without its convolutions, the fusion passes on these channels alone."""
    fusion, generator = small.fusion, torch.Generator().manual_seed(0)
    frames, sound = torch.rand(1, 4, 4, 4, 4, generator=generator), torch.rand(1, 8, 4, generator=generator)
    with torch.no_grad():
        weight, bias = fusion.out.weight.clone(), fusion.out.bias.clone()
        fusion.out.weight.zero_(), fusion.out.bias.zero_()
        fused = fusion(frames, sound) * math.sqrt(1 + 1e-3)  # of BatchNorm
        fusion.out.weight.copy_(weight), fusion.out.bias.copy_(bias)
    torch.testing.assert_close(fused[:, :4], frames)
    torch.testing.assert_close(fused[:, 4:], sound[:, 4:, :, None, None].expand(1, 4, 4, 4, 4))


def test_maps_average_to_the_logit(small):
    frames, sound = inputs(small)
    with torch.no_grad():
        seen, heard = small.represent_frames(frames), small.represent_audio(sound)
        maps, logits = small.activation_maps(seen, heard), small.compare(seen, heard)
    torch.testing.assert_close(maps.mean(dim=(1, 2, 3)), logits[:, 1])
    assert (logits[:, 0] == 0).all()
    probability = logits.softmax(dim=1)[:, 1]
    torch.testing.assert_close(probability, logits[:, 1].sigmoid())


def test_a_clip_gives_the_same_alone_and_in_a_batch(small):
    frames, sound = inputs(small, batch=3)
    with torch.no_grad():
        together = small.embed_fused(frames, sound)
        alone = torch.cat([small.embed_fused(frames[k : k + 1], sound[k : k + 1]) for k in range(3)])
    assert together.shape == (3, 16)
    torch.testing.assert_close(together, alone)


def test_both_streams_and_both_channels_matter(small):
    frames, sound = inputs(small, batch=1)
    with torch.no_grad():
        usual = small(frames, sound)
        for other in ((frames.flip(2), sound), (frames, sound.flip(2)), (frames, sound * torch.tensor([[1.0], [0.0]]))):
            assert not torch.allclose(small(*other), usual)


@pytest.mark.parametrize("scale", [False, True])
def test_batch_norm_learns_a_scale_only_where_asked(scale):
    model = Multisensory(**SMALL, norm_scale=scale)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d)]
    assert all(norm.weight.requires_grad == scale and norm.eps == 1e-3 for norm in norms)
    frames, sound = inputs(model)
    model(frames, sound)[:, 1].sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [8, 4, 8, 8]}, "second of the widths"),
        ({"spatial_stride": 3}, "spatial_stride must be 1 or 2"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Multisensory(**(SMALL | options))


def test_a_spectrogram_can_stand_in_for_the_waveform():
    torch.manual_seed(0)
    model = Multisensory(**SMALL | {"sample_rate": 24_000}, frontend="mel64").eval()
    frames, samples = torch.rand(2, *model.frames.shape), torch.rand(2, model.sound.samples, 2) - 0.5
    spectrograms = model.prepare_audio(samples)
    assert spectrograms.shape[:2] == (2, 128)
    assert spectrograms.mean(dim=(1, 2)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert model.represent_audio(spectrograms).shape == (2, 8, 4)
    assert model(model.prepare_frames(frames), spectrograms).shape == (2, 2)
    louder = model.prepare_audio(4 * samples)
    torch.testing.assert_close(louder, spectrograms, atol=0.02, rtol=0)  # but for the floor of the logarithm


def test_a_spectrogram_of_another_rate_is_refused():
    with pytest.raises(ValueError, match="mel64 takes 24000 Hz, got sample_rate 8000"):
        Multisensory(**SMALL, frontend="mel64")


def test_constant_scales_stay_constant_and_can_be_normalised_over_processes():
    model = Multisensory(**SMALL)
    freeze(model, [])
    scales = {name for name, value in model.named_parameters() if not value.requires_grad}
    norms = {name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm3d)}
    assert scales == {f"{name}.weight" for name in norms}
    assert all((model.get_parameter(name) == 1).all() for name in scales)
    assert not any(not value.requires_grad for value in Multisensory(**SMALL, norm_scale=True).parameters())
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert {name for name, value in synchronised.named_parameters() if not value.requires_grad} == scales


def test_a_network_for_what_moves_sees_the_same_in_faint_and_strong_motion():
    """Frames without the clip's mean picture, with unit spread: neither the picture behind nor the contrast matters."""
    torch.manual_seed(0)
    model = Multisensory(**SMALL, frontend=None, moving=True).eval()
    motion = torch.randn(2, *model.frames.shape)
    motion -= motion.mean(dim=1, keepdim=True)
    behind = torch.rand(2, 1, *model.frames.shape[1:]) / 2
    seen = model.prepare_frames(0.3 + behind + 0.05 * motion)
    torch.testing.assert_close(
        seen,
        motion.movedim(-1, 1) / motion.square().mean(dim=(1, 2, 3, 4)).sqrt().view(2, 1, 1, 1, 1),
        rtol=0.06,
        atol=1e-4,
    )
    faint = model.prepare_frames(0.1 + 0.02 * motion)
    assert (faint / seen)[seen.abs() > 0.5].min() > 0.9
    noise = model.prepare_frames(0.5 + 1e-4 * motion)  # a fortieth of a grey level
    assert noise.square().mean().sqrt() < 0.05
    still = model.prepare_frames(torch.rand(1, 1, *model.frames.shape[1:]).expand(1, *model.frames.shape))
    assert still.abs().max() < 1e-4
