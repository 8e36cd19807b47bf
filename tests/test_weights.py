"""Weights: the Hub path with the real huggingface_hub in a process of its own against a server on 127.0.0.1."""

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hub_server import FILENAME, REPO, REVISION, FakeHub
from safetensors.torch import load_file, save_file

import openavc
from openavc import cli, weights
from openavc.models import ARCHITECTURES, AVENet, L3Net

HUB = {"type": "hub", "repo": REPO, "revision": REVISION, "filename": FILENAME}
PACKAGE = {"type": "package"}
FIELDS = """name architecture modalities embedding_size file bytes sha256 license sources trained_on recipe
            metrics""".split()
SOURCE_FIELDS = {"package": {"type"}, "hub": set(HUB), "url": {"type", "files"}}
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

# huggingface_hub reads its environment when it is imported, so each command is a process.
CLIENT = """
import json, sys
from pathlib import Path
from openavc import cli, weights
weights.PRETRAINED = Path(sys.argv[1])
models = json.loads((weights.PRETRAINED / "manifest.json").read_text())
weights.manifest = lambda: models
cli.main(sys.argv[2:], prog_name="openavc")
"""
HURRY = "import time; time.sleep = lambda seconds: None\n"  # huggingface_hub waits between its retries


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry_of(content: bytes, *sources: dict) -> dict:
    size = {"bytes": len(content), "sha256": sha256(content)}
    return {"name": "tiny", "file": FILENAME, "sources": list(sources), "metrics": [], **size}


class Computer:
    """A user's computer: a home, a package whose manifest names the model "tiny", and a network with the fake Hub."""

    def __init__(self, folder: Path, hub: FakeHub):
        self.hub, self.home, self.package = hub, folder / "home", folder / "package"
        self.package.mkdir()
        self.list_sources(HUB)
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "OPENAVC_", "XDG_"))
            and not key.lower().endswith("_proxy")
        } | {
            "PYTHONPATH": str(Path(openavc.__file__).parents[1]),
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "huggingface"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def list_sources(self, *sources: dict):
        (self.package / "manifest.json").write_text(json.dumps([entry_of(self.hub.content, *sources)]))

    def start(self, *arguments: str, hurry: bool = False, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HURRY * hurry + CLIENT, str(self.package), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment | environment, **pipes)

    def download(self, **options) -> Path:
        """Path of the file, which must be the right one."""
        return self.right_file(self.start("download", "tiny", **options))

    def right_file(self, process: subprocess.Popen) -> Path:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        path = Path(output.removeprefix("tiny: ").removesuffix("\n"))
        assert path.read_bytes() == self.hub.content
        return path

    def refusal(self, command: str = "download", **options) -> str:
        """The reason why a command fails, which must be an OSError that the command line reports."""
        process = self.start(command, "tiny", **options)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (1, "")
        return errors[errors.index("failed: tiny: ") :]

    def verify(self) -> str:
        output, errors = self.start("verify", "tiny").communicate(timeout=60)
        assert errors == ""
        return output

    def kept(self) -> list[Path]:
        """Files of the caches that could pass for weights."""
        found = [path for folder in ("blobs", "snapshots") for path in self.home.rglob(f"{folder}/**/*")]
        return [path for path in found if path.is_file() and path.suffix != ".incomplete"]


@pytest.fixture
def hub():
    with FakeHub(random.Random(0).randbytes(1 << 18)) as hub:
        yield hub


@pytest.fixture
def computer(tmp_path, hub):
    return Computer(tmp_path, hub)


def test_a_model_is_downloaded_once_and_then_needs_no_network(computer, hub):
    path = computer.download()
    asked = list(hub.requests)
    assert asked == [("HEAD", 0), ("GET", 0)]
    assert computer.download(HF_HUB_OFFLINE="1") == computer.download() == path
    assert computer.verify() == f"tiny: good, {path}\n"
    assert hub.requests == asked


@pytest.mark.parametrize(
    ("environment", "folder"),
    [({}, "huggingface/hub"), ({"OPENAVC_HOME": "~/own"}, "own/hub"), ({"OPENAVC_HOME": ""}, "huggingface/hub")],
)
def test_openavc_home_says_where_downloads_lie_else_hf_home(computer, environment, folder):
    assert (computer.home / folder).resolve() in computer.download(**environment).resolve().parents


def test_offline_without_the_file_tells_to_download_it(computer, hub):
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in reason and "openavc download tiny" in reason
    assert hub.requests == []
    assert computer.verify() == "tiny: not downloaded\n"


def test_a_hub_out_of_reach_is_named_with_what_to_do(computer, hub):
    hub.shutdown()
    hub.server_close()
    reason = computer.refusal(hurry=True)
    assert hub.url in reason and "can't be reached" in reason and "openavc download tiny" in reason


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("missing", "404"),
        ("overloaded", "can't be reached"),
        ("cut", "can't be downloaded"),
        ("short body", "can't be downloaded"),
        ("shorter", "damaged or was replaced"),
        ("swapped", "damaged or was replaced"),
    ],
)
def test_a_bad_download_is_refused_and_leaves_nothing_that_hinders_the_next(computer, hub, behaviour, why):
    hub.behaviour = behaviour
    reason = computer.refusal(hurry=True)
    assert why in reason and FILENAME in reason
    assert computer.kept() == []
    hub.behaviour = "good"
    assert computer.download() in computer.kept()


@pytest.mark.parametrize("behaviour", ["swapped", "shorter"])
def test_a_wrong_file_is_refused_with_both_sizes_and_digests(computer, hub, behaviour):
    hub.behaviour = behaviour
    reason = computer.refusal()
    for content in (hub.served(), hub.content):
        assert sha256(content) in reason and f"{len(content)} bytes" in reason


def test_verify_finds_a_file_that_the_hub_lacked_before(computer, hub):
    hub.behaviour = "missing"
    computer.refusal()
    hub.behaviour = "good"
    assert computer.verify() == "tiny: not downloaded\n"
    path = computer.download()
    assert computer.verify() == f"tiny: good, {path}\n"


@pytest.mark.parametrize(
    ("size", "least"),
    [(1 << 20, 0), (24 << 20, 1)],  # huggingface_hub keeps blocks of 10 MiB: it resumes after the last whole one
)
def test_a_download_that_breaks_half_way_is_resumed(computer, hub, size, least):
    hub.content, hub.behaviour = random.Random(1).randbytes(size), "dies once"
    computer.list_sources(HUB)
    computer.download(hurry=True)
    (_, first), (_, second) = [request for request in hub.requests if request[0] == "GET"]
    assert first == 0 and least <= second <= size // 2


def test_a_process_killed_half_way_leaves_nothing_that_passes_for_the_file(computer, hub):
    hub.behaviour = "stalls"
    process = computer.start("download", "tiny")
    assert hub.half_sent.wait(60)
    process.kill()
    process.communicate()
    assert computer.verify() == "tiny: not downloaded\n"
    hub.behaviour = "good"
    computer.download()


def test_two_processes_at_once_both_get_the_file(computer, hub):
    hub.behaviour = "together"
    first, second = (computer.start("download", "tiny") for _ in range(2))
    assert computer.right_file(first) == computer.right_file(second)
    assert [method for method, _ in hub.requests].count("HEAD") == 2


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_verify_notices_damage_in_the_cache(computer, hub):
    path = computer.download()
    spoil(path)
    reason = computer.refusal("verify")
    assert str(path) in reason and sha256(path.read_bytes()) in reason and sha256(hub.content) in reason
    assert "openavc download tiny" in reason


@pytest.mark.parametrize("deleted", [True, False])  # the link is deleted, not the blob that it names
def test_what_is_damaged_in_the_cache_is_downloaded_again(computer, deleted):
    path = computer.download()
    spoil(path)
    if deleted:
        path.unlink()
    assert computer.download() == path


def test_what_is_damaged_in_the_cache_is_not_used_offline_either(computer, hub):
    path = computer.download()
    spoil(path)
    damaged = path.read_bytes()
    reason = computer.refusal(HF_HUB_OFFLINE="1")
    assert str(path) in reason and sha256(damaged) in reason and sha256(hub.content) in reason
    assert computer.kept() == []
    assert computer.download() == path


@pytest.mark.parametrize("packaged", ["right", "damaged", None])
def test_the_package_comes_first_and_the_hub_second(computer, hub, packaged):
    computer.list_sources(PACKAGE, HUB)
    if packaged:
        (computer.package / FILENAME).write_bytes(hub.content)
    if packaged == "damaged":
        spoil(computer.package / FILENAME)
    path = computer.download()
    assert (path.parent == computer.package) == (hub.requests == []) == (packaged == "right")


def test_when_no_source_helps_the_reason_of_each_is_told(computer, hub):
    computer.list_sources(PACKAGE, HUB)
    hub.behaviour = "missing"
    reason = computer.refusal()
    package, of_hub = reason.index(str(computer.package / FILENAME)), reason.index(f"{REPO}/{FILENAME}")
    assert package < reason.index("install openavc again") < of_hub < reason.index("404")


# --- no network from here on ---


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
    """The package holds one model, "tiny"."""
    path = tmp_path / FILENAME
    path.write_bytes(ave_file.read_bytes())
    entry = entry_of(path.read_bytes(), PACKAGE)
    monkeypatch.setattr(weights, "manifest", lambda: [entry])
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    return path


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


def test_model_info_is_a_copy():
    name = openavc.list_models()[0]
    openavc.model_info(name)["sources"].clear()
    assert openavc.model_info(name)["sources"]


# --- what is published ---


PUBLISHED = weights.manifest()
each = partial(pytest.mark.parametrize, "entry", ids=lambda entry: entry["name"])
each_packaged = each([entry for entry in PUBLISHED if PACKAGE in entry["sources"]])


def is_digest(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef")


@each(PUBLISHED)
def test_every_entry_of_the_manifest_has_its_fields(entry):
    assert set(FIELDS) <= set(entry)
    assert entry["architecture"] in ARCHITECTURES
    assert entry["license"] and entry["trained_on"]
    assert entry["sources"]
    made_here = all(source["type"] == "url" for source in entry["sources"])  # converted from upstream's files
    assert entry["sha256"] is None if made_here else is_digest(entry["sha256"], 64)
    for source in entry["sources"]:
        assert SOURCE_FIELDS[source["type"]] <= set(source)
        if source["type"] == "hub":  # pinned: a commit, not a branch
            assert is_digest(source["revision"], 40)
        for file in source.get("files", []):
            assert file["url"].startswith("https://")
            assert is_digest(file["git_blob_sha1"], 40) and is_digest(file.get("sha256", "a" * 64), 64)
    assert all(metric["command"] for metric in entry["metrics"])


def test_names_are_unique_and_the_default_ships_with_the_package():
    names = openavc.list_models()
    assert len(names) == len(set(names)) > 0
    assert PACKAGE in openavc.model_info(names[0])["sources"]


@each_packaged
def test_every_packaged_file_is_the_one_of_the_manifest_and_small(entry):
    content = (Path(openavc.__file__).parent / "pretrained" / entry["file"]).read_bytes()
    assert (len(content), sha256(content)) == (entry["bytes"], entry["sha256"])
    assert len(content) <= 6_000_000


@each_packaged
def test_every_packaged_model_gives_the_embeddings_of_the_manifest(entry):
    model = openavc.load_model(entry["name"])
    assert type(model) is ARCHITECTURES[entry["architecture"]]
    sound = model.prepare_audio(torch.zeros(1, model.window_samples))
    for embedding, size in entry["embedding_size"].items():
        assert model.embed_audio(sound, embedding).shape == (1, size)
