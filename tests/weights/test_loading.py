"""Loading: networks from files, and the errors for files and names that can't be loaded; without internet access."""

import hashlib
import json
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import openavc
from openavc import cli, weights
from openavc.models import AVENet, L3Net
from openavc.weights import manifest, sources

AVE = {
    "architecture": "ave",
    "widths": [4, 4, 4, 4],
    "frontend": "mel64",
    "image_size": 64,
    "joint_size": 8,
    "one_pass": True,
    "features": "blocks",
}
L3 = {"architecture": "l3", "embedding_size": 4, "widths": [4, 4, 4, 4]}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write(path: Path, tensors: dict, header: dict | None) -> Path:
    save_file(tensors, path, {} if header is None else {"architecture": json.dumps(header)})
    return path


def tensors_of(header: dict) -> dict:
    torch.manual_seed(0)
    options = {key: value for key, value in header.items() if key != "architecture"}
    state = {"l3": L3Net, "ave": AVENet}[header["architecture"]](**options).state_dict()
    return {key: torch.rand_like(value) if value.is_floating_point() else value + 3 for key, value in state.items()}


@pytest.fixture(scope="module")
def ave_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("weights") / "ave.safetensors", tensors_of(AVE), AVE)


@pytest.fixture(scope="module")
def l3_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("weights") / "l3.safetensors", tensors_of(L3), L3)


@pytest.fixture
def packaged(tmp_path, monkeypatch, ave_file):
    """Make the package contain one model, "tiny"."""
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(ave_file.read_bytes())
    size = {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes())}
    about = {"modalities": ["audio"], "embedding_size": {"features": 3}, "license": "unknown", "metrics": []}
    entry = {"name": "tiny", "file": path.name, "sources": [{"type": "package"}]} | about | size
    (tmp_path / "manifest.json").write_text(json.dumps({"models": [entry]}))
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(sources, "PRETRAINED", tmp_path)
    return path


def test_loading_does_not_import_pytorchs_compiler():
    code = "import sys, openavc; openavc.load_model(); print([name for name in sys.modules if name == 'sympy'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("file", ["ave_file", "l3_file"])
def test_a_loaded_model_has_the_tensors_of_its_file_and_is_ready_for_inference(request, file):
    path = request.getfixturevalue(file)
    model = openavc.load_model(path)
    saved = load_file(path)
    assert model.state_dict().keys() == saved.keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved[key]), key
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (model.name, model.sha256) == (path.stem, sha256(path.read_bytes()))


@pytest.mark.parametrize("name", ["tiny", None])
def test_a_model_of_the_package_is_loaded_by_name_and_by_default(packaged, name):
    model = openavc.load_model(name)
    assert (model.name, model.sha256) == ("tiny", sha256(packaged.read_bytes()))


def test_a_damaged_file_of_the_package_is_refused_with_what_to_do(packaged):
    expected = sha256(packaged.read_bytes())
    spoil(packaged)
    with pytest.raises(OSError) as caught:
        openavc.load_model("tiny")
    for part in (str(packaged), expected, sha256(packaged.read_bytes()), "Install openavc again"):
        assert part in str(caught.value)
    result = CliRunner().invoke(cli.main, ["verify"])
    assert result.exit_code == 1 and str(packaged) in result.output


def test_options_of_the_architecture_replace_those_of_the_file(l3_file):
    small, large = openavc.load_model(l3_file), openavc.load_model(l3_file, embedding_size=48)
    spectrogram = torch.zeros(1, 1, 257, 199)
    assert small.embed_audio(spectrogram).shape == (1, 4)
    assert large.embed_audio(spectrogram).shape == (1, 48)  # 4 x 3 cells of 4 channels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_sise": 4}, "embedding_sise.*embedding_size"),
        ({"frontend": "mel65"}, "mel65.*linear257"),
        ({"embedding_size": 8, "widths": (8, 8, 8, 8)}, "doesn't fit"),
    ],
)
def test_options_that_the_file_or_its_architecture_lack_are_a_value_error(l3_file, options, message):
    with pytest.raises(ValueError, match=message):
        openavc.load_model(l3_file, **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop("fc3.bias"), "fc3.bias"),
        (lambda tensors: tensors.update(surplus=torch.zeros(1)), "surplus"),
        (lambda tensors: tensors.update({"fc3.bias": torch.zeros(3)}), "fc3.bias"),
    ],
    ids=["missing", "surplus", "shape"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, named):
    tensors = tensors_of(AVE)
    change(tensors)
    path = write(tmp_path / "odd.safetensors", tensors, AVE)
    with pytest.raises(ValueError, match=named) as caught:
        openavc.load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "architecture"),
        ("ave", "architecture"),
        ({"widths": [4, 4, 4, 4]}, "architecture"),
        ({"architecture": "resnet"}, "resnet.*l3, ave"),
        (AVE | {"depth": 3}, "depth"),
        (L3 | {"embedding_size": 5}, "got 5"),
    ],
)
def test_a_header_that_names_no_known_network_is_a_value_error(tmp_path, header, message):
    path = write(tmp_path / "odd.safetensors", tensors_of(AVE), header)
    with pytest.raises(ValueError, match=message):
        openavc.load_model(path)


@pytest.mark.parametrize("part", [slice(0), slice(4), slice(100), slice(-1), slice(100, None)])
def test_a_file_that_is_cut_is_an_os_error_with_its_name(tmp_path, ave_file, part):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(ave_file.read_bytes()[part])
    with pytest.raises(OSError, match=r"cut\.safetensors"):
        openavc.load_model(path)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("save", "load"), [(torch.save, partial(torch.load, weights_only=False)), (pickle.dump, pickle.load)]
)
def test_a_pickle_is_refused_and_never_run(tmp_path, save, load):
    path, proof = tmp_path / "pickle.safetensors", tmp_path / "proof"
    with path.open("wb") as file:
        save({"fc3.bias": Trap(proof)}, file)
    with pytest.raises(OSError, match=r"pickle\.safetensors is not a safetensors file"):
        openavc.load_model(path)
    assert not proof.exists()
    with path.open("rb") as file:
        load(file)
    assert proof.exists()  # the trap works


@pytest.mark.parametrize("function", [openavc.load_model, openavc.model_info, weights.fetch, weights.verify_local])
def test_an_unknown_name_is_answered_with_the_nearest(packaged, function):
    with pytest.raises(ValueError, match=r"'tinny'.*did you mean 'tiny'"):
        function("tinny")


@pytest.mark.parametrize("command", ["download", "verify"])
def test_an_unknown_name_on_the_command_line_is_wrong_usage(packaged, command):
    result = CliRunner().invoke(cli.main, [command, "tinny"])
    assert result.exit_code == 2 and "did you mean 'tiny'" in result.output


@pytest.mark.parametrize("path", ["no/such", "nothing.safetensors", Path("nothing")])
def test_a_path_without_a_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=str(path)):
        openavc.load_model(path)


@pytest.mark.parametrize("model", [3, b"tiny", ["tiny"]])
def test_a_model_that_is_neither_name_nor_path_is_a_type_error(model):
    with pytest.raises(TypeError, match=type(model).__name__):
        openavc.load_model(model)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float16", torch.float16), (torch.bfloat16, torch.bfloat16), ("float64", torch.float64)]
)
def test_parameters_have_the_type_asked_for(ave_file, dtype, expected):
    assert {parameter.dtype for parameter in openavc.load_model(ave_file, dtype=dtype).parameters()} == {expected}


@pytest.mark.parametrize("dtype", ["float31", "Tensor", "int64", torch.int8, 32, "complex64", "float8_e4m3fn"])
def test_a_type_that_networks_cannot_compute_in_is_a_value_error(ave_file, dtype):
    with pytest.raises(ValueError, match=f"float32.*{dtype}"):
        openavc.load_model(ave_file, dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x", "", 3.5, "hpu"])
def test_a_device_that_is_not_here_is_a_value_error(ave_file, device):
    with pytest.raises(ValueError, match=f"device {device!r}"):
        openavc.load_model(ave_file, device=device)
