"""OpenL3's and EdgeL3's files: some written here in Keras' layouts, and real ones."""

import contextlib
import gzip
import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import with_statistics
from keras_files import AUDIO, IMAGE, SPECTROGRAMS, openl3_shapes, packed, write_h5, write_zeros
from safetensors import safe_open
from torch import nn

import openavc
from openavc import cli
from openavc.models import OpenL3Towers
from openavc.models.frontends import Frontend, openl3_frontend
from openavc.weights import keras
from openavc.weights.digests import git_blob_sha1
from openavc.weights.keras import convert, read_openl3


def stored_layers(tower: nn.Module, names: list[str]) -> list[tuple[str, list[np.ndarray]]]:
    """Return a tower's layers as Keras stores them."""
    layers = [layer for layer in tower.layers if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    stored = []
    for name, layer in zip(names, layers, strict=True):
        if isinstance(layer, nn.Conv2d):
            arrays = [layer.weight.permute(2, 3, 1, 0), layer.bias]
        else:
            arrays = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
        stored.append((name, [array.detach().numpy() for array in arrays]))
    return stored


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return with_statistics(OpenL3Towers()).requires_grad_(False)


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """Write the network's towers: sound in the root layout, pictures nested, and sound with its spectrogram."""
    folder = tmp_path_factory.mktemp("openl3")
    audio = stored_layers(network.audio_tower, [name for name, _ in openl3_shapes(1)])
    image = stored_layers(network.image_tower, [name for name, _ in openl3_shapes(3)])
    write_h5(folder / AUDIO, audio)
    write_h5(folder / IMAGE, image, nested=True)
    write_h5(folder / "renamed.h5", [("melspectrogram_1", SPECTROGRAMS["mel256"]), *audio], nested=True)
    return folder


def same_sound(frontend: Frontend, other: Frontend) -> bool:
    """Whether two frontends turn noise into the same spectrogram."""
    noise = torch.rand(1, frontend.sample_rate, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    return torch.equal(frontend(noise), other(noise))


def is_tower(tensors: dict, network, modality: str) -> None:
    expected = {key: value for key, value in network.state_dict().items() if key.startswith(modality)}
    assert expected.keys() == {key for key in tensors if key.startswith(modality)}
    for key, tensor in expected.items():
        assert torch.equal(tensors[key], tensor), key


@pytest.mark.parametrize(("name", "modality"), [(AUDIO, "audio"), (IMAGE, "image"), ("renamed.h5", "audio")])
def test_files_of_both_layouts_give_the_weights_that_were_stored(files, network, name, modality):
    architecture, tensors = read_openl3(files / name)
    assert architecture["modalities"] == [modality]
    assert architecture.get("input_repr") == ("mel256" if modality == "audio" else None)
    is_tower(tensors, network, modality)
    assert len(tensors) == 48 + 8  # and the counters of BatchNorm


def test_a_packed_file_is_read_as_well(files, network, tmp_path):
    path = tmp_path / f"{AUDIO}.gz"
    path.write_bytes(gzip.compress((files / AUDIO).read_bytes(), compresslevel=0))
    is_tower(read_openl3(path)[1], network, "audio")


@pytest.mark.parametrize("order", [(AUDIO, IMAGE), (IMAGE, AUDIO)])
def test_two_files_give_both_towers(files, network, order):
    architecture, tensors = read_openl3(*(files / name for name in order))
    assert architecture["modalities"] == ["audio", "image"]
    assert tensors.keys() == network.state_dict().keys()
    is_tower(tensors, network, "audio")
    is_tower(tensors, network, "image")


def test_two_files_of_one_kind_are_refused(tmp_path):
    first, second = write_zeros(tmp_path / AUDIO), write_zeros(tmp_path / "openl3_audio_linear_env.h5")
    with pytest.raises(ValueError, match=rf"{second} holds a tower of audio, and so does {first}"):
        read_openl3(first, second)


# ---------------------------------------------------------------------------------------------- which spectrogram


@pytest.mark.parametrize("input_repr", SPECTROGRAMS)
def test_the_spectrogram_in_the_file_says_what_sound_is_turned_into(tmp_path, input_repr):
    layers = [("spectrogram_1", SPECTROGRAMS[input_repr]), *openl3_shapes(1)]
    path = write_h5(tmp_path / "mine.h5", layers)
    assert same_sound(openavc.load_model(path).frontend, openl3_frontend(input_repr, "kapre-0.1.4"))
    wrong = "mel128" if input_repr == "linear" else "linear"
    with pytest.raises(ValueError, match=f"mine.h5 holds the spectrogram '{input_repr}', but input_repr is '{wrong}'"):
        openavc.load_model(path, input_repr=wrong)


@pytest.mark.parametrize("input_repr", SPECTROGRAMS)
def test_without_it_the_files_name_or_the_caller_says_so(tmp_path, input_repr):
    named = write_zeros(tmp_path / f"openl3_audio_{input_repr}_env-v0_4_0.h5")
    assert read_openl3(named)[0]["input_repr"] == input_repr
    nameless = write_zeros(tmp_path / "mine.h5")
    model = openavc.load_model(nameless, input_repr=input_repr, frontend="librosa")
    assert same_sound(model.frontend, openl3_frontend(input_repr, "librosa"))
    with pytest.raises(ValueError, match=r"mine\.h5 doesn't tell.*input_repr"):
        openavc.load_model(nameless)


@pytest.mark.parametrize("input_repr", SPECTROGRAMS)
def test_a_file_whose_name_says_so_is_not_read_as_another(tmp_path, input_repr):
    path = write_zeros(tmp_path / f"openl3_audio_{input_repr}_env-v0_4_0.h5")
    wrong = "mel128" if input_repr == "linear" else "linear"
    with pytest.raises(ValueError, match=f"{path} holds the spectrogram '{input_repr}', but input_repr is '{wrong}'"):
        openavc.load_model(path, input_repr=wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_repr": "mel128"}, "its input_repr is 'mel256', not 'mel128'"),
        ({"widths": (32, 64, 128, 256)}, r"its widths is \[64, 128, 256, 512\], not \(32, 64, 128, 256\)"),
        ({"modalities": ("audio", "image")}, r"its modalities is \['audio'\], not"),
        ({"rectified": True}, "its rectified is False, not True"),
    ],
)
def test_a_converted_file_is_loaded_only_as_what_its_header_says(tmp_path, options, said):
    path = tmp_path / "mine.safetensors"
    convert(write_zeros(tmp_path / AUDIO), target=path)
    with pytest.raises(ValueError, match=f"{path} doesn't fit: {said}"):
        openavc.load_model(path, **options)
    same = {"input_repr": "mel256", "widths": (64, 128, 256, 512), "modalities": ("audio",), "rectified": False}
    model = openavc.load_model(path, embedding_size=512, frontend="librosa", **same)
    assert model.embedding_sizes == {"audio": {"features": 512}}
    assert same_sound(model.frontend, openl3_frontend("mel256", "librosa"))


# -------------------------------------------------------------------------------------------- models of one kind


def test_a_model_of_sound_alone_embeds_sound_in_both_sizes_and_says_what_it_lacks(files, network):
    sound = np.random.default_rng(0).uniform(-1, 1, 48_000).astype(np.float32)
    model = openavc.load_model(files / AUDIO)
    assert model.name == "openl3_audio_mel256_music-v0_4_0"
    grid, _ = openavc.get_audio_embedding(sound, 48_000, model, center=False)
    expected = network.embed_audio(network.prepare_audio(torch.from_numpy(sound)[None, :, None]))
    np.testing.assert_allclose(grid, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    whole = openavc.load_model(files / AUDIO, embedding_size=512)
    point, _ = openavc.get_audio_embedding(sound, 48_000, whole, center=False)
    np.testing.assert_array_equal(point[0], grid.reshape(12, 512).max(axis=0))
    picture = np.zeros((224, 224, 3), np.uint8)
    with pytest.raises(ValueError, match="music-v0_4_0 doesn't embed image"):
        openavc.get_image_embedding(picture, model)
    with pytest.raises(ValueError, match="music-v0_4_0 doesn't embed image"):
        model.embed_frames(model.prepare_frames(torch.from_numpy(picture)[None, None]))
    with pytest.raises(ValueError, match="can't compare"):
        openavc.correspondence_score(sound, 48_000, picture, model)


def test_a_model_of_pictures_alone_embeds_pictures_in_both_sizes_and_says_what_it_lacks(files, network):
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)  # of which the middle is embedded
    model, whole = openavc.load_model(files / IMAGE), openavc.load_model(files / IMAGE, embedding_size=512)
    grid = openavc.get_image_embedding(picture, model)
    expected = network.embed_frames(network.prepare_frames(torch.from_numpy(picture[None, None, 16:240, 16:240])))
    np.testing.assert_allclose(grid, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    np.testing.assert_array_equal(openavc.get_image_embedding(picture, whole)[0], grid.reshape(16, 512).max(axis=0))
    with pytest.raises(ValueError, match="doesn't embed audio"):
        openavc.get_audio_embedding(np.ones(48_000), 48_000, model)


@pytest.mark.parametrize(
    ("modalities", "good", "bad"), [(["audio"], 6144, 8192), (["image"], 8192, 6144), (["audio", "image"], 8192, 64)]
)
def test_the_sizes_of_embeddings_are_those_of_the_towers_there_are(modalities, good, bad):
    with torch.device("meta"):
        sizes = {"audio": 6144, "image": 8192}
        network = OpenL3Towers(embedding_size=good, modalities=modalities)
        assert network.embedding_sizes == {modality: {"features": sizes[modality]} for modality in modalities}
        network = OpenL3Towers(embedding_size=512, modalities=modalities)
        assert network.embedding_sizes == {modality: {"features": 512} for modality in modalities}
        with pytest.raises(ValueError, match=f"512, got {bad}"):
            OpenL3Towers(embedding_size=bad, modalities=modalities)


@pytest.mark.parametrize("modalities", [[], ["video"], ["image", "audio"], "audio"])
def test_other_modalities_are_refused(modalities):
    with pytest.raises(ValueError, match="modalities must be"):
        OpenL3Towers(modalities=modalities)


# -------------------------------------------------------------------------------------------------- faulty files


def replaced(position: int, name: str | None = None, shapes: list | None = None) -> list:
    layers = openl3_shapes(1)
    layers[position] = (name or layers[position][0], shapes or layers[position][1])
    return layers


LAYERS = openl3_shapes(1)
FAULTS = {  # layers, what the error says first
    "no layers": ([], "has 0 layers with weights; OpenL3 has 16"),
    "a layer too few": (LAYERS[:-1], "has 15 layers"),
    "two too many": ([*LAYERS, ("dense_1", [(512, 2), (2,)]), ("dense_2", [(2, 2), (2,)])], "has 18 layers"),
    "two channels": (openl3_shapes(2), r"batch_normalization_8, begins with an array of shape \(2,\)"),
    "a convolution first": ([*LAYERS[1:], LAYERS[0]], r"conv2d_4, begins with an array of shape \(3, 3, 1, 64\)"),
    "fewer channels": (
        replaced(5, shapes=[(3, 3, 64, 96), (96,)]),
        r"layer 6 of 16, conv2d_6, has arrays of shapes \(3, 3, 64, 96\), \(96,\); expected are \(3, 3, 64, 128\)",
    ),
    "PyTorch's order": (replaced(1, shapes=[(64, 1, 3, 3), (64,)]), r"layer 2 of 16, conv2d_4.*expected are \(3, 3"),
    "no bias": (replaced(3, shapes=[(3, 3, 64, 64)]), "layer 4 of 16, conv2d_5"),
    "no scale": (replaced(4, shapes=[(64,)] * 3), "layer 5 of 16, batch_normalization_10"),
    "layers swapped": (
        [*LAYERS[:5], LAYERS[6], LAYERS[5], *LAYERS[7:]],
        "layer 6 of 16, batch_normalization_11",
    ),
    "another spectrogram": (
        [("melspectrogram_1", [(1024, 1, 1, 513)] * 2 + [(513, 80)]), *LAYERS],
        r"layer melspectrogram_1.*\(513, 80\), no spectrogram of OpenL3's",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_other_layers_is_refused_with_the_first_that_is_wrong(tmp_path, fault):
    layers, said = FAULTS[fault]
    path = write_h5(tmp_path / AUDIO, layers)
    with pytest.raises(ValueError, match=said) as caught:
        openavc.load_model(path)
    assert str(path) in str(caught.value)


def test_an_edgel3_like_file_that_ends_with_a_scalar_is_refused_with_that_layer(tmp_path):
    spectrogram = ("melspectrogram_1", [(1024, 1, 1, 513)] * 2 + [(513, 64)])
    path = write_h5(tmp_path / "edge.h5", [spectrogram, *LAYERS, ("last", [()] * 4)])
    with pytest.raises(ValueError, match=f"{path}: layer 17 of 17, last, "):
        read_openl3(path)


def test_the_number_of_layers_is_checked_before_any_array_is_read(tmp_path, monkeypatch):
    path = write_zeros(tmp_path / AUDIO)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:-2]
    monkeypatch.setattr(h5py.Dataset, "__array__", lambda *_, **__: pytest.fail("an array was read"))
    with pytest.raises(ValueError, match=f"{path} has 15 layers"):
        read_openl3(path)


def test_the_bytes_of_all_layers_together_are_limited(tmp_path, monkeypatch):
    path = write_zeros(tmp_path / AUDIO)  # of the 18.7 MB the largest layer has 9.4
    monkeypatch.setattr(keras, "LARGEST", 12_000_000)
    with pytest.raises(OSError, match=f"{path} is damaged: up to the layer .* more than 12000000 bytes"):
        read_openl3(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "layer 3 of 16.*NaN"),
        (np.inf, "layer 3 of 16.*infinity"),
        (1e300, "layer 3 of 16.*too large for float32"),
        (-0.5, "layer 3 of 16.*negative variances"),
        (3, "type int64"),
        (3j, "type complex128"),
    ],
)
def test_weights_that_no_network_can_compute_with_are_refused(tmp_path, value, said):
    layers = replaced(2, shapes=[np.full(64, value)] * 4)
    with pytest.raises(ValueError, match=said):
        read_openl3(write_h5(tmp_path / AUDIO, layers))


def damage_missing(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv2d_6"]


def damage_names(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]


def test_hdf5_that_lacks_a_layer_or_their_names_is_refused(tmp_path):
    path = write_zeros(tmp_path / AUDIO)
    damage_missing(path)
    with pytest.raises(OSError, match=rf"{path} is damaged: .*conv2d_6"):
        read_openl3(path)
    damage_names(path)
    with pytest.raises(ValueError, match=rf"{path} is HDF5, but not of Keras"):
        read_openl3(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("part", [slice(0), slice(2), slice(100), slice(-1), slice(100, None)])
def test_a_file_that_is_cut_is_an_os_error_with_its_name(tmp_path, suffix, part):
    path = write_zeros(tmp_path / AUDIO)
    path = packed(path) if suffix else path
    path.write_bytes(path.read_bytes()[part])
    with pytest.raises(OSError, match=f"{path}.*(not an HDF5 file, or is cut short|can't be unpacked)"):
        openavc.load_model(path)


@pytest.mark.parametrize("content", [b"<html>404</html>", gzip.compress(b"<html>404</html>", mtime=0)])
def test_what_is_no_hdf5_is_an_os_error_with_its_name(tmp_path, content):
    path = tmp_path / f"{AUDIO}.gz"
    path.write_bytes(content)
    with pytest.raises(OSError, match=f"{path} is not an HDF5 file"):
        openavc.load_model(path)


def test_a_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    path = packed(write_zeros(tmp_path / AUDIO))
    monkeypatch.setattr(keras, "LARGEST", 10_000)
    with pytest.raises(OSError, match=f"{path} unpacks to more than 10000 bytes"):
        read_openl3(path)


def test_a_path_without_a_file_is_named_whatever_it_looks_like():
    with pytest.raises(FileNotFoundError, match=AUDIO):
        openavc.load_model(AUDIO)


def test_gits_digest_is_that_of_git():
    assert git_blob_sha1(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob_sha1(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_files_of_v01_are_refused_by_their_digest(tmp_path, monkeypatch):
    assert len(keras.WITHDRAWN) == 12
    path = packed(write_zeros(tmp_path / "openl3_audio_mel256_music.h5"))
    read_openl3(path)
    monkeypatch.setattr(keras, "WITHDRAWN", {git_blob_sha1(path.read_bytes())})
    with pytest.raises(ValueError, match=rf"{path} is of OpenL3 v0\.1.*openl3_audio_mel256_music-v0_4_0\.h5\.gz"):
        openavc.load_model(path)


# ------------------------------------------------------------------------------------------------------- converting


def invoke(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_the_command_writes_a_file_that_loads_as_what_it_was_made_of(files, network, tmp_path):
    target = tmp_path / "pair.safetensors"
    result = invoke("import-openl3", files / AUDIO, files / IMAGE, "--output", target)
    assert (result.exit_code, result.output) == (0, f"{target}: audio image mel256\n")
    assert os.listdir(tmp_path) == ["pair.safetensors"]
    model = openavc.load_model(target)
    assert type(model) is OpenL3Towers and model.name == "pair"
    is_tower(model.state_dict(), network, "audio")
    is_tower(model.state_dict(), network, "image")


def test_the_command_names_in_the_header_what_the_file_was_made_from(tmp_path):
    paths = [write_zeros(tmp_path / AUDIO), packed(write_zeros(tmp_path / IMAGE, 3))]
    target = tmp_path / "pair.safetensors"
    assert invoke("import-openl3", *paths, "--output", target).exit_code == 0
    with safe_open(target, framework="pt") as file:
        origin = json.loads(file.metadata()["converted_from"])
    contents = [path.read_bytes() for path in paths]
    assert [digests["sha256"] for digests in origin] == [hashlib.sha256(content).hexdigest() for content in contents]
    assert [digests["git_blob_sha1"] for digests in origin] == [git_blob_sha1(content) for content in contents]


def test_the_same_files_give_the_same_bytes_and_the_manifests_number(tmp_path):
    paths = [write_zeros(tmp_path / AUDIO), write_zeros(tmp_path / IMAGE, 3)]
    for name in ("a", "b"):
        convert(*paths, target=tmp_path / name)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    assert len(content) == openavc.model_info("openl3-mel256-music")["bytes"]


def test_the_command_names_its_result_after_the_file_and_replaces_none_unasked(tmp_path):
    path, target = packed(write_zeros(tmp_path / "mine.h5")), tmp_path / "mine.safetensors"
    assert invoke("import-openl3", path, "--input-repr", "linear").output == f"{target}: audio linear\n"
    target.write_text("mine")
    result = invoke("import-openl3", path, "--input-repr", "linear")
    assert result.exit_code == 2 and f"{target} is there already" in result.output
    assert target.read_text() == "mine"
    assert invoke("import-openl3", path, "--input-repr", "linear", "--overwrite").exit_code == 0
    assert openavc.load_model(target).frontend.shape == (257, 197)


@pytest.mark.parametrize("content", [b"", b"not HDF5"])
def test_a_file_that_cannot_be_imported_is_an_error_and_leaves_nothing(tmp_path, content):
    path = tmp_path / AUDIO
    path.write_bytes(content)
    result = invoke("import-openl3", path)
    assert result.exit_code == 1 and str(path) in result.output
    assert os.listdir(tmp_path) == [AUDIO]


@pytest.mark.parametrize(("names", "status"), [(["none.h5"], 1), (["a", "b", "c"], 2), ([], 2)])
def test_wrong_use_of_the_command(names, status):
    assert invoke("import-openl3", *names).exit_code == status


# ----------------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize("input_repr", ["linear", "mel256"])
def test_the_reference_files_give_openl3s_embeddings_of_noise(reference, input_repr):
    inputs = np.load(reference / "openl3_inputs_audio.npz")
    expected = np.load(reference / f"openl3_audio_{input_repr}_expected.npz")["noise_48k|librosa|512|0.5|True|emb"]
    path = reference / f"openl3_audio_{input_repr}_seeded-v0_4_0.h5.gz"
    model = openavc.load_model(path, frontend="librosa", embedding_size=512)
    found, _ = openavc.get_audio_embedding(inputs["noise_48k"], 48_000, model, hop_size=0.5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-4)


def test_the_reference_file_of_pictures_gives_openl3s_embedding_of_a_square(reference):
    square = np.load(reference / "openl3_inputs_image.npz")["square_224_u8"]
    picture = np.pad(square, ((16, 16), (16, 16), (0, 0)))  # 256 x 256, of which the middle is embedded
    expected = np.load(reference / "openl3_image_expected.npz")["square_224_u8|8192|emb"]
    found = openavc.get_image_embedding(picture, reference / "openl3_image_seeded-v0_4_0.h5.gz")
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@pytest.fixture
def edgel3(reference):
    path = reference / "edgel3" / "edgel3_sea_ust_audio_emb_64.h5.gz"
    if not path.is_file():
        pytest.skip(f"EdgeL3's file is not at {path}")
    return path


def test_edgel3s_published_file_is_read(edgel3):
    assert git_blob_sha1(edgel3.read_bytes()) == "f3535405c91fe8da71f6456adb8a061213324239"
    model = openavc.load_model(edgel3)
    assert (model.sound.sample_rate, model.frontend.shape, list(model.embedding_sizes)) == (8000, (64, 50), ["audio"])
    sound = np.random.default_rng(0).uniform(-1, 1, 16_000)
    found, timestamps = openavc.get_audio_embedding(sound, 8000, model, hop_size=0.5)
    assert found.shape == (4, 64) and timestamps[-1] == 1.5
    assert found.min() >= 0 and found.max() > 0  # a ReLU is last
    with pytest.raises(ValueError, match="of one kind: EdgeL3 has no tower of pictures"):
        read_openl3(edgel3, edgel3.parents[1] / "openl3_image_seeded-v0_4_0.h5.gz")


def test_edgel3s_spectrogram_is_the_one_in_its_file(edgel3):
    """The layer's own kernels and filters are applied by hand."""
    with gzip.open(edgel3) as content, contextlib.closing(h5py.File(content)) as file:
        layer = file["model_weights/melspectrogram_1/melspectrogram_1"]
        real, imaginary, filters = (
            layer[key][()].squeeze() for key in ("real_kernels:0", "imag_kernels:0", "Variable:0")
        )
    sound = np.random.default_rng(0).uniform(-1, 1, 8000)
    padded = np.pad(sound, 432)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::160].astype(np.float64)
    power = (frames @ real) ** 2 + (frames @ imaginary) ** 2
    level = 10 * np.log10(np.maximum(np.sqrt(power @ filters), 1e-10)).T
    expected = np.maximum(level - level.max(), -80)
    found = openl3_frontend("mel64-8khz", "kapre-0.1.4")(torch.from_numpy(sound)[None])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
