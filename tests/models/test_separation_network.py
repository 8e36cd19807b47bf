"""The separation network: the shapes of the paper's u-net, spectrograms with phase and back, levels and ablations."""

import math

import numpy as np
import pytest
import torch
from separating import SMALL
from torch import nn

from openavc.models.multisensory import Multisensory
from openavc.models.separation import SeparationNet, UNet, merge, to_level
from openavc.models.stft import STFT, masked

DOWN = [  # channels, bins, times of section 3.4; what is merged is in MERGED
    *((64, 512, 128), (128, 256, 128), (256, 128, 64), (512, 64, 32), (512, 32, 16)),
    *((512, 16, 8), (512, 8, 4), (512, 4, 2), (512, 2, 1)),
]
UP = [
    *((512, 4, 2), (512, 8, 4), (512, 16, 8), (512, 32, 16), (512, 64, 32)),
    *((256, 128, 64), (128, 256, 128), (64, 512, 128)),
]
MERGED = [(64, 16), (128, 16), (512, 8)]  # channels and times of conv2_2, conv3_2 and conv5_2


def inputs(model, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(batch, *model.frames.shape, generator=generator)
    samples = 0.1 * torch.randn(batch, model.sound.samples, 2, generator=generator)
    return model.prepare_frames(frames), model.prepare_audio(samples)


def low_noise(batch, samples, seed=0):
    """Draw noise without the highest tenth of frequencies."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=(batch, samples)))
    spectrum[:, int(0.9 * spectrum.shape[1]) :] = 0
    return torch.from_numpy(0.2 * np.fft.irfft(spectrum, n=samples)).float()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return SeparationNet(**SMALL).eval()


def shapes_of(model, frames, samples):
    """Return the shapes of what goes into and out of each layer of the u-net."""
    taken, given = {}, {}

    def record(name):
        def hook(module, inputs, output):
            taken[name], given[name] = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])

        return hook

    for name, module in model.unet.named_modules():
        module.register_forward_hook(record(name))
    model.separate_spectrogram(model.prepare_frames(frames), model.prepare_audio(samples))
    return taken, given


def test_every_layer_has_the_papers_shape():
    with torch.device("meta"):
        model = SeparationNet().eval()
        assert (model.sound.samples, model.sound.sample_rate, model.sound.channels) == (44_144, 21_000, 2)
        assert model.frames.shape == (63, 224, 224, 3)
        assert (len(model.stft.window), model.stft.hop, model.stft.size) == (1344, 336, 2048)
        frames, samples = torch.empty(1, 63, 224, 224, 3, dtype=torch.uint8), torch.empty(1, 44_144, 2)
        assert model.to_spectrogram(samples).shape == (1, 2, 1024, 128)
        features = model.video_features(model.prepare_frames(frames), samples)
        assert [tuple(each.shape[1:]) for each in features] == MERGED
        taken, given = shapes_of(model, frames, samples)
    assert [given[f"down.{level}"] for level in range(9)] == DOWN
    assert [given[f"up.{level}"] for level in range(8)] == UP
    merged = {2: 64, 3: 128, 4: 512}  # channels that skips carry, too
    skips = [(width + merged.get(level, 0), *rest) for level, (width, *rest) in enumerate(DOWN)]
    assert [taken[f"down.{level}"] for level in range(9)] == [(2, 1024, 128), *skips[:-1]]
    assert taken["up.0"] == DOWN[-1] == (512, 2, 1)  # the bottleneck
    joined = [(up[0] + skip[0], *skip[1:]) for up, skip in zip(UP, skips[-2::-1], strict=True)]
    assert [taken[f"up.{level}"] for level in range(1, 8)] == joined[:-1]
    for head in ("heads.0", "heads.1"):
        assert (taken[head], given[head]) == (joined[-1], (2, 1024, 128))


@pytest.mark.parametrize(("times", "layers"), [(5, 5), (8, 5), (9, 6), (61, 8), (64, 8), (128, 9)])
def test_the_u_net_halves_times_until_one_is_left(times, layers):
    unet = UNet((2, 2, 3, 3), (0, 0, 0), times).eval()
    assert len(unet.down) == layers
    with torch.no_grad():
        assert unet(torch.zeros(1, 2, 24, times), []).shape == (1, 2, 2, 24, times)


def test_weights_begin_as_in_the_authors_code():
    torch.manual_seed(0)
    layers = list(UNet((32, 32, 64, 64), (0, 0, 0), 16).modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == len(convolutions) - 2  # the two heads have none
    assert all(norm.eps == 1e-5 for norm in norms)
    weights = torch.cat([layer.weight.flatten() for layer in convolutions])
    assert (weights.mean().item(), weights.std().item()) == pytest.approx((0, 0.02), abs=3e-4)
    scales = torch.cat([norm.weight for norm in norms])
    assert (scales.mean().item(), scales.std().item()) == pytest.approx((1, 0.02), abs=4e-3)


def test_features_are_the_same_at_every_bin():
    x, features = torch.zeros(1, 3, 5, 4), torch.tensor([[[0.0, 4.0]]])
    merged = merge(x, features)
    assert merged.shape == (1, 4, 5, 4)
    torch.testing.assert_close(merged[0, 3], torch.tensor([0.0, 1.0, 3.0, 4.0]).expand(5, 4))


# ---------------------------------------------------------------------------------------------------- spectrograms


def test_44144_samples_are_128_times_without_padding():
    stft = STFT(44_144, 1344, 336, 2048)
    assert (stft.times, stft.bins) == (128, 1024)
    assert STFT(44_015, 1344, 336, 2048).times == 127
    wave = low_noise(1, 44_144)
    padded = torch.cat([wave[0, 127 * 336 : 127 * 336 + 1344] * stft.window, torch.zeros(2048 - 1344)])
    last = torch.fft.rfft(padded)[:-1]
    found = stft(wave)[0, :, :, -1]
    torch.testing.assert_close(found[0], (20 * last.abs().log10() + 100) / 90 - 1, rtol=0, atol=1e-4)
    turned = (math.pi * found[1] - last.angle()).cos()
    assert turned[last.abs() > 1e-2].min() > 0.999


def test_magnitudes_and_phases_are_normalised_by_hand():
    """In a Hann window, a wave has three bins: half of its amplitude times the sum of the window, and two quarters."""
    stft = STFT(64, 64, 32, 64)
    wave = 0.5 * torch.cos(2 * torch.pi * torch.arange(64.0) / 8 + torch.pi / 4)[None]
    level, phase = stft(wave)[0, :, :, 0]
    decibels = 20 * math.log10(0.5 / 2 * 32)  # the sum of a Hann window of 64 is 32
    assert level[8].item() == pytest.approx((decibels + 100) / 180 * 2 - 1, abs=1e-5)
    assert level[7].item() == pytest.approx((decibels - 20 * math.log10(2) + 100) / 180 * 2 - 1, abs=1e-5)
    assert phase[8].item() == pytest.approx(0.25, abs=1e-5)
    silent = stft(torch.zeros(1, 64))
    torch.testing.assert_close(silent[:, 0], torch.full((1, 32, 1), -1.0))


@pytest.mark.parametrize("sizes", [(44_144, 1344, 336, 2048), (30_720, 1536, 480, 1536), (1000, 128, 48, 256)])
def test_the_way_to_spectrograms_and_back_gives_the_samples(sizes):
    stft = STFT(*sizes)
    wave = low_noise(2, sizes[0])
    back = stft.invert(stft(wave), wave)
    inside = slice(stft.edge, -stft.edge)
    torch.testing.assert_close(back[:, inside], wave[:, inside], rtol=0, atol=2e-5)
    assert back.shape == wave.shape and back.abs().max() < 1.2 * wave.abs().max()  # the ends fade out


def test_the_mixtures_phase_can_be_kept():
    stft = STFT(1000, 128, 32, 128)
    wave = low_noise(1, 1000)
    spectrogram = stft(wave)
    spectrogram[:, 1] = 0.3  # a phase that nothing has
    inside = slice(stft.edge, -stft.edge)
    torch.testing.assert_close(stft.invert(spectrogram, wave, False)[:, inside], wave[:, inside], rtol=0, atol=1e-4)
    assert (stft.invert(spectrogram, wave)[:, inside] - wave[:, inside]).abs().max() > 0.1


@pytest.mark.parametrize("sizes", [(100, 128, 32, 128), (1000, 128, 65, 128), (1000, 128, 0, 128), (1000, 128, 32, 64)])
def test_what_cannot_be_transformed_is_refused(sizes):
    with pytest.raises(ValueError, match="a window must be at least two hops long"):
        STFT(*sizes)


# --------------------------------------------------------------------------------------------------------- network


def test_the_parts_have_the_level_of_the_mixture(small):
    frames, samples = inputs(small)
    with torch.no_grad():
        usual, louder = small.separate(frames, samples), small.separate(frames, 3 * samples)
        silent = small.separate(frames, 0 * samples)
    assert usual.shape == (2, 2, small.sound.samples)
    torch.testing.assert_close(louder, 3 * usual, rtol=1e-3, atol=1e-5)
    assert (silent == 0).all()


def test_masks_share_the_mixture_out():
    torch.manual_seed(0)
    model = SeparationNet(**SMALL, estimates="masks").eval()
    frames, samples = inputs(model)
    samples = low_noise(2, model.sound.samples)[..., None].expand(-1, -1, 2)
    with torch.no_grad():
        parts = model.separate(frames, samples)
    inside = slice(model.edge, -model.edge)
    mixture = samples.mean(dim=2)
    torch.testing.assert_close(parts.sum(dim=1)[:, inside], mixture[:, inside], rtol=0, atol=1e-4)
    assert (parts[:, 0] - parts[:, 1]).abs().max() > 1e-3  # not half each


def test_a_share_of_a_spectrogram_is_as_much_of_the_waveform():
    stft = STFT(1000, 128, 32, 128)
    wave = low_noise(1, 1000)
    part = masked(stft(wave), torch.tensor([0.1, 0.9]).log().reshape(1, 2, 1, 1, 1))
    inside = slice(stft.edge, -stft.edge)
    for index, share in enumerate((0.1, 0.9)):
        back = stft.invert(part[:, index], wave)[:, inside]
        torch.testing.assert_close(back, share * wave[:, inside], rtol=0, atol=1e-4)


def test_a_level_is_a_root_mean_square_and_silence_stays_silent():
    samples = torch.stack([torch.full((10, 2), 0.5), torch.zeros(10, 2)])
    torch.testing.assert_close(to_level(samples, 0.1), torch.stack([torch.full((10, 2), 0.1), torch.zeros(10, 2)]))


def test_a_mixture_gives_the_same_alone_and_in_a_batch(small):
    frames, samples = inputs(small, batch=3)
    with torch.no_grad():
        together = small.separate(frames, samples)
        alone = torch.cat([small.separate(frames[k : k + 1], samples[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("features", "moves", "sees"), [("video", True, True), ("frame", False, True), ("none", 0, 0)])
def test_ablations_see_what_they_may(features, moves, sees):
    torch.manual_seed(0)
    model = SeparationNet(**SMALL, features=features).eval()
    assert model.blind == (features == "none") == (model.sync is None)
    frames = torch.rand(1, *model.frames.shape)
    samples = 0.1 * torch.randn(1, model.sound.samples, 2)
    other = frames.clone()
    other[:, :3] = torch.rand(other[:, :3].shape)  # all but the frames from the middle on
    with torch.no_grad():
        usual, moved, strange = (
            model.separate_spectrogram(model.prepare_frames(each), samples) for each in (frames, other, 1 - frames)
        )
    assert torch.equal(usual, moved) != bool(moves)
    assert torch.equal(usual, strange) != bool(sees)


def test_weights_of_multisensory_fit_the_part(small):
    options = {key: SMALL[key] for key in ("image_size", "frames", "frame_rate", "sample_rate")}
    given = Multisensory(SMALL["sync_widths"], **options).state_dict()
    assert {name: value.shape for name, value in given.items()} == {
        name: value.shape for name, value in small.sync.state_dict().items()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "smell"}, "features must be one of 'video', 'frame', 'none', got 'smell'"),
        ({"phase": "zero"}, "phase must be one of"),
        ({"estimates": "voices"}, "estimates must be one of 'spectrograms', 'masks', got 'voices'"),
        ({"frames": 2, "window": 512, "hop": 256, "fft_size": 512}, "at least 5 times"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SeparationNet(**(SMALL | options))
