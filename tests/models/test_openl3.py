"""OpenL3's spectrograms and network against closed forms, and against OpenL3's own results with seeded weights."""

import gzip
import io

import numpy as np
import pytest
import torch
from gradients import check_gradients
from torch import nn

from openavc import get_audio_embedding
from openavc.models import OpenL3Net
from openavc.models.contract import FramesInput, SoundInput
from openavc.models.frontends import mel_filter_bank, openl3_frontend
from training.objectives import Correspondence

VARIANTS = {
    "kapre-0.1.4": "kapre-0.1.4",
    "kapre-0.3.5": "kapre",
    "librosa": "librosa",
    "librosa-0.10": "librosa-0.10",
}  # ours -> the reference's
MEL256 = [("mel256", variant) for variant in VARIANTS]


# ------------------------------------------------------------------------------------------------ without reference


@pytest.mark.parametrize("frontend", VARIANTS)
@pytest.mark.parametrize(
    ("input_repr", "bins", "frames"), [("linear", 257, 197), ("mel128", 128, 199), ("mel256", 256, 199)]
)
def test_spectrograms_have_openl3s_shape_and_80_decibels(input_repr, frontend, bins, frames):
    spectrogram = openl3_frontend(input_repr, frontend)
    sine = 0.3 * torch.sin(2 * torch.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 48_000)[None]
    found = spectrogram(torch.cat([sine, 0 * sine]))
    assert found.shape == (2, bins, frames) == (2, *spectrogram.shape)
    assert found.dtype == torch.float32
    assert (found[0].max(), found[0].min()) == (0, -80)
    assert not found[1].any()  # silence: the maximum everywhere
    torch.testing.assert_close(spectrogram(sine / 100), found[:1])  # loudness is not in it


def test_a_sine_is_10_log10_of_its_magnitude_below_the_maximum():
    """Two sines lie in the middle of bins, the second with a hundredth of the amplitude: -20, not -40."""
    time = torch.arange(48_000, dtype=torch.float64) / 48_000
    waveform = torch.sin(2 * torch.pi * 40 * 93.75 * time) + 0.01 * torch.sin(2 * torch.pi * 80 * 93.75 * time)
    found = openl3_frontend("linear", "librosa")(waveform[None])[0]
    torch.testing.assert_close(found[80], torch.full((197,), -20.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("frontend", "first"),
    [("kapre-0.1.4", 5), ("kapre-0.3.5", 1), ("librosa", 5), ("librosa-0.10", 5)],
)
def test_a_click_is_heard_in_the_frame_that_each_padding_puts_it_in(frontend, first):
    waveform = torch.zeros(1, 48_000)
    waveform[0, 1270] = 1  # 5.25 hops of 242
    energy = openl3_frontend("mel128", frontend)(waveform)[0].mean(dim=0)
    centre = {"kapre-0.1.4": 1024 - 982, "kapre-0.3.5": 1024, "librosa": 0, "librosa-0.10": 0}[
        frontend
    ]  # of frame 0, in samples
    assert energy.argmax() == round((1270 - centre) / 242) == first


def mel_triangles(scale: str) -> np.ndarray:
    """Make (128, 1025) filters of area 1 up to 24 kHz, from the definitions of the two scales."""
    if scale == "htk":
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 24_000 / 700), 130) / 2595) - 1)
    else:
        mels = np.linspace(0, 15 + 27 * np.log(24) / np.log(6.4), 130)
        edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hertz = np.arange(1025) * 48_000 / 2048
    triangles = np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)).clip(min=0)
    return triangles * 2 / (high - low)


@pytest.mark.parametrize(
    ("variant", "scale", "padding", "mode", "of_power"),
    [
        ("kapre-0.1.4", "htk", (982, 982), "constant", True),
        ("kapre-0.3.5", "slaney", (0, 1964), "constant", False),
        ("librosa", "slaney", (1024, 1024), "reflect", False),
        ("librosa-0.10", "slaney", (1024, 1024), "constant", False),
    ],
)
def test_each_variant_of_noise_is_its_definition(variant, scale, padding, mode, of_power):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, padding, mode=mode), 2048)[::242]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(2049)[:-1])).T
    bands = np.sqrt(mel_triangles(scale) @ magnitude**2) if of_power else mel_triangles(scale) @ magnitude
    level = 10 * np.log10(np.maximum(bands, 1e-10))
    expected = np.maximum(level - level.max(), -80)
    found = openl3_frontend("mel128", variant)(torch.from_numpy(sound)[None])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_features_are_flattened_row_column_channel():
    torch.manual_seed(0)
    model = OpenL3Net("mel128", widths=(4, 4, 8, 8), image_size=32).eval()
    spectrogram = torch.randn(1, 1, 128, 199)
    with torch.no_grad():
        found, last = model.embed_audio(spectrogram)[0], model.audio_tower.raw(spectrogram)[0]  # (8, 16, 24)
    cells = last.reshape(8, 4, 4, 3, 8).amax(dim=(2, 4))  # channel, row, column
    torch.testing.assert_close(found, cells.permute(1, 2, 0).flatten())
    assert not torch.allclose(found, cells.flatten())


def test_slaney_scale_is_linear_to_1_khz_and_has_27_steps_to_6400_hz():
    filters = mel_filter_bank(48_000, 48_000, 41, 0.0, 6400.0, scale="slaney")  # 1 Hz a bin, 1 mel a filter
    centres = filters.argmax(axis=1)
    np.testing.assert_allclose(centres[:15], np.arange(1, 16) * 200 / 3, atol=0.51)
    np.testing.assert_allclose(centres[15:], 1000 * 6.4 ** (np.arange(1, 27) / 27), atol=0.51)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_filters_of_equal_area_have_area_1_in_hertz(scale):
    filters = mel_filter_bank(48_000, 48_000, 128, 0.0, 24_000.0, scale=scale, equal_area=True)
    np.testing.assert_allclose(filters.sum(axis=1), 1, rtol=2e-3)  # 1 Hz a bin


@pytest.mark.parametrize(("input_repr", "rows"), [("linear", 32), ("mel128", 16), ("mel256", 32)])
def test_last_maps_and_features_have_openl3s_sizes(input_repr, rows):
    with torch.device("meta"):  # shapes alone
        model = OpenL3Net(input_repr)
        spectrogram = model.prepare_audio(torch.empty(1, 48_000, 1))
        assert model.audio_tower.raw(spectrogram).shape == (1, 512, rows, 24)
        assert model.embed_audio(spectrogram).shape == (1, 6144)
        assert model.represent_audio(spectrogram).shape == (1, 512)
        assert model.embed_frames(torch.empty(1, 3, 224, 224)).shape == (1, 8192)
    assert (model.sound, model.frames) == (SoundInput(48_000, 1.0, dtype="float64"), FramesInput(224, 224))


def test_towers_have_as_many_weights_as_openl3s():
    model = OpenL3Net()
    for tower, values in ((model.audio_tower, 4_689_860), (model.image_tower, 4_691_020)):
        embedding = tower.layers[:-2]  # OpenL3 counts to conv4_2, with the running means and variances
        running = [buffer for name, buffer in embedding.named_buffers() if "running" in name]
        assert sum(tensor.numel() for tensor in [*embedding.parameters(), *running]) == values


def test_conv1_2_of_pictures_alone_has_relu_before_batch_norm():
    model = OpenL3Net(widths=(4, 4, 8, 8), image_size=32)
    usual = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    rest = [nn.MaxPool2d, *usual, *usual] * 3
    slip = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert [type(layer) for layer in model.image_tower.layers] == [nn.BatchNorm2d, *usual, *slip, *rest]
    assert [type(layer) for layer in model.audio_tower.layers] == [nn.BatchNorm2d, *usual, *usual, *rest]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_a_compact_openl3_trains_and_compares():
    torch.manual_seed(0)
    model = OpenL3Net("mel128", widths=(4, 4, 8, 8), image_size=32)
    spectrogram = model.prepare_audio(torch.randn(4, 48_000, 1))
    loss, _ = Correspondence()(model, torch.randn(4, 3, 32, 32), spectrogram, {"label": torch.arange(4) % 2})
    loss.backward()
    check_gradients(model)
    assert model.eval().embed_audio(spectrogram).shape == (4, 96)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_repr": "mel64"}, "'mel64'; known: linear, mel128, mel256"),
        ({"frontend": "kapre"}, "'kapre'; known: kapre-0.1.4, kapre-0.3.5, librosa"),
        ({"embedding_size": 8192}, "6144, 512, got 8192"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_what_does(options, said):
    with pytest.raises(ValueError, match=said):
        OpenL3Net(**options)


def test_an_embedding_it_does_not_have_is_refused_in_its_name():
    with pytest.raises(ValueError, match="OpenL3Net has no embedding 'joint'"):
        OpenL3Net(widths=(4, 4, 4, 4)).embed_audio(torch.zeros(1, 1, 256, 199), "joint")


# --------------------------------------------------------------------------------------------------- with reference


def windows(reference, name: str) -> torch.Tensor:
    """Return windows (T, 48000) at a hop of 0.5 s, after half a second of zeros, in float64, as OpenL3 cuts them."""
    inputs = np.load(reference / "openl3_inputs_audio.npz")
    waveform = inputs.get(f"{name}_resampled_48k", inputs[name]).astype(np.float64)
    waveform = np.concatenate([np.zeros(24_000), waveform])
    count = 1 + max(0, -(-(len(waveform) - 48_000) // 24_000))
    padded = np.pad(waveform, (0, (count + 1) * 24_000 - len(waveform)))
    return torch.from_numpy(padded).unfold(0, 48_000, 24_000)


def load_tower(tower, path) -> None:
    """Fill a tower up to conv4_2 from OpenL3's .h5, layer by layer in the file's order."""
    import h5py

    with h5py.File(io.BytesIO(gzip.decompress(path.read_bytes()))) as file:
        group = file if "layer_names" in file.attrs else file["model_weights"]
        stored = [group[name] for name in group.attrs["layer_names"]]
        stored = [[layer[name][()] for name in layer.attrs["weight_names"]] for layer in stored]
        stored = [[torch.from_numpy(array) for array in arrays] for arrays in stored if arrays]
    layers = [layer for layer in tower.layers[:-2] if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    for layer, arrays in zip(layers, stored, strict=True):
        if isinstance(layer, nn.Conv2d):
            layer.weight.data, layer.bias.data = arrays[0].permute(3, 2, 0, 1), arrays[1]
        else:
            layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var = arrays


@pytest.fixture(scope="module")
def networks(reference):
    """Return a dict of input representation to network with the reference's weights, in float32."""
    found = {}
    for input_repr in ("linear", "mel256"):
        model = OpenL3Net(input_repr).eval().requires_grad_(False)
        load_tower(model.audio_tower, reference / f"openl3_audio_{input_repr}_seeded-v0_4_0.h5.gz")
        load_tower(model.image_tower, reference / "openl3_image_seeded-v0_4_0.h5.gz")
        found[input_repr] = model
    return found


@pytest.mark.parametrize(
    ("input_repr", "variant"), [("linear", "kapre-0.1.4"), ("linear", "kapre-0.3.5"), ("linear", "librosa"), *MEL256]
)
def test_spectrograms_of_noise_are_openl3s(reference, input_repr, variant):
    stored = np.load(reference / f"openl3_audio_{input_repr}_spectrograms.npz")
    expected = stored[f"noise_48k|{VARIANTS[variant]}|0.5|True|1|spec"]
    found = openl3_frontend(input_repr, variant)(windows(reference, "noise_48k")[1:2])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("input_repr", ["linear", "mel256"])
@pytest.mark.parametrize("name", ["noise_48k", "dog_44k"])
def test_spectrograms_by_librosa_agree_to_rounding_whatever_the_sound(reference, input_repr, name):
    expected = np.load(reference / f"openl3_audio_{input_repr}_spectrograms.npz")[f"{name}|librosa|0.5|True|1|spec"]
    found = openl3_frontend(input_repr, "librosa")(windows(reference, name)[1:2])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def embed(model, waveforms, variant: str, input_repr: str) -> np.ndarray:
    spectrograms = openl3_frontend(input_repr, variant)(waveforms)
    return model.embed_audio(spectrograms.unsqueeze(1)).numpy()


def expected_audio(reference, input_repr: str, variant: str, name: str, size: int) -> np.ndarray:
    legacy = "legacy_" if variant == "kapre-0.1.4" else ""
    stored = np.load(reference / f"openl3_audio_{input_repr}_{legacy}expected.npz")
    return stored[f"{name}|{VARIANTS[variant]}|{size}|0.5|True|emb"]


@pytest.mark.parametrize(("input_repr", "variant"), [("linear", "kapre-0.1.4"), *MEL256])
def test_embeddings_of_noise_are_openl3s_in_both_sizes(reference, networks, input_repr, variant):
    found = embed(networks[input_repr], windows(reference, "noise_48k")[1:2], variant, input_repr)
    expected = expected_audio(reference, input_repr, variant, "noise_48k", 6144)[1:2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-4)
    whole = OpenL3Net(input_repr, embedding_size=512, frontend=variant).eval().requires_grad_(False)
    whole.load_state_dict(networks[input_repr].state_dict())
    found = whole.embed_audio(whole.prepare_audio(windows(reference, "noise_48k")[1:2, :, None]))
    expected = expected_audio(reference, input_repr, variant, "noise_48k", 512)[1:2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize(("input_repr", "variant"), [("linear", "kapre-0.1.4"), *MEL256])
def test_embeddings_of_a_short_sound_are_openl3s(reference, networks, input_repr, variant):
    found = embed(networks[input_repr], windows(reference, "short_48k"), variant, input_repr)
    expected = expected_audio(reference, input_repr, variant, "short_48k", 6144)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)  # its silence is float32 rounding with kapre


@pytest.mark.parametrize("input_repr", ["linear", "mel256"])
@pytest.mark.parametrize("name", ["dog_44k", "chirp_stereo_22k"])
def test_embeddings_by_librosa_agree_even_where_there_is_next_to_no_energy(reference, networks, input_repr, name):
    found = embed(networks[input_repr], windows(reference, name)[1:2], "librosa", input_repr)
    expected = expected_audio(reference, input_repr, "librosa", name, 6144)[1:2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def test_a_recording_is_embedded_as_by_openl3_from_end_to_end(reference, networks):
    inputs = np.load(reference / "openl3_inputs_audio.npz")
    found, timestamps = get_audio_embedding(inputs["noise_48k"], 48_000, networks["mel256"], hop_size=0.5)
    expected = expected_audio(reference, "mel256", "kapre-0.1.4", "noise_48k", 6144)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-4)
    np.testing.assert_array_equal(timestamps, [0, 0.5, 1])


def cropped(images: np.ndarray) -> np.ndarray:
    top, left = images.shape[1] // 2 - 112, images.shape[2] // 2 - 112
    return images[:, top : top + 224, left : left + 224]


def test_embeddings_of_pictures_are_openl3s(reference, networks):
    """OpenL3 scales pictures by their size, so only the network is compared, on OpenL3's inputs."""
    inputs, expected = (np.load(reference / f"openl3_{kind}.npz") for kind in ("inputs_image", "image_expected"))
    model = networks["linear"]
    video = cropped(inputs["video_4x256x320_u8"]).astype(np.float32)
    pictures = {
        "photo_300x400_u8": expected["photo_300x400_u8|preprocessed"],
        "float_224x260": cropped(inputs["float_224x260"][None]),
        "video_4x256x320_u8": (video / video.max())[:1],
    }
    tensors = {name: torch.from_numpy(picture).permute(0, 3, 1, 2) for name, picture in pictures.items()}
    tensors["square_224_u8"] = model.prepare_frames(torch.from_numpy(inputs["square_224_u8"])[None, None])
    found = dict(zip(tensors, model.embed_frames(torch.cat(list(tensors.values()))).numpy(), strict=True))
    for name, embedding in found.items():
        np.testing.assert_allclose(embedding, expected[f"{name}|8192|emb"][0], rtol=0, atol=2e-4, err_msg=name)
        over_the_map = embedding.reshape(16, 512).max(axis=0)
        np.testing.assert_allclose(over_the_map, expected[f"{name}|512|emb"][0], rtol=0, atol=2e-4, err_msg=name)
