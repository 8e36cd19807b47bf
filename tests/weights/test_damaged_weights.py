"""Weights files that were changed: each is refused with its name and the reason, or computes as it should."""

import json
import os
import random
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from safetensors.torch import load, load_file, save, save_file

import openavc
from openavc import cli, weights
from openavc.models import AVENet, L3Net
from openavc.weights import manifest, sources

AVE = {"architecture": "ave", "widths": [4, 4, 4, 4], "frontend": "mel64", "image_size": 64, "joint_size": 8}
MOVING = {"architecture": "ave", "widths": [2, 2, 2, 2], "image_size": 16, "motion": "frames", "frames": 7}
VALUES = [
    *(-1, 0, 3, 5000, 10**12, 2**70, 1.5, 1e300, float("nan"), float("inf"), True, False, None, "", "4", "mel65"),
    *([], {}, [4], [[4]], {"a": 1}, [-4, 4, 4, 4], [0, 4, 4, 4], [4, 4, 4, 4.0], ["4"] * 4, [None] * 4, [True] * 4),
    *([10**6] * 4, [10**12] * 4, [2**70] * 4, [[4, 4], 4, 4, 4], [[[[4]]]] * 4, ["mel64"], ["ave"], [[16, 16]]),
]


def write(path: Path, tensors: dict, header: object, text: str | None = None) -> Path:
    save_file(tensors, path, {"architecture": json.dumps(header) if text is None else text})
    return path


def tensors_of(header: dict) -> dict:
    torch.manual_seed(0)
    options = {key: value for key, value in header.items() if key != "architecture"}
    return {"l3": L3Net, "ave": AVENet}[header["architecture"]](**options).state_dict()


@pytest.fixture(scope="module")
def tensors():
    return tensors_of(AVE)


def refusal(path: Path) -> str:
    """Return why a file is refused, in one line with its name; empty if it is loaded and computes finite numbers."""
    try:
        model = openavc.load_model(path, device="cpu")
    except (ValueError, OSError) as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 1500
        return str(error)
    sound = torch.zeros(1, model.sound.samples, model.sound.channels)
    picture = torch.zeros(1, *model.frames.shape)
    assert model.embed_audio(model.prepare_audio(sound)).isfinite().all()
    assert model.embed_frames(model.prepare_frames(picture)).isfinite().all()
    return ""


@pytest.mark.parametrize("header", [AVE, MOVING, {"architecture": "l3", "widths": [2, 2, 2, 2], "image_size": 32}])
def test_changed_headers_are_refused_with_the_reason_or_used_rightly(tmp_path, header):
    chance, tensors = random.Random(0), tensors_of(header)
    options = [*header, "one_pass", "features", "frame_rate", "first_stride", "embedding_size", "flow_method"]
    assert refusal(write(tmp_path / "good.safetensors", tensors, header)) == ""
    refused = 0
    for number in range(100):
        changed = header | {chance.choice(options): chance.choice(VALUES)}
        if chance.random() < 0.2:
            changed.pop(chance.choice(list(header)))
        refused += bool(refusal(write(tmp_path / f"{number}.safetensors", tensors, changed)))
    assert refused > 70


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "a JSON object"),
        ('{"widths": ' + "9" * 5000 + "}", "a JSON object"),
        ('["ave"]', "a JSON object"),
        ("", "a JSON object"),
        (json.dumps(AVE | {"architecture": ["ave"]}), r"unknown architecture \['ave'\]"),
        (json.dumps(AVE | {"frontend": ["mel64"]}), r"unknown frontend \['mel64'\]"),
        (json.dumps(AVE | {"motion": ["flow"]}), r"motion must be .* got \['flow'\]"),
        (json.dumps(AVE | {"widths": [-4, 4, 4, 4]}), r"widths must be whole numbers of at least 1, got \[-4,"),
        (json.dumps(AVE | {"widths": [[4], 4, 4, 4]}), r"widths must be whole numbers of at least 1, got \[\[4\],"),
        (json.dumps(AVE | {"widths": [10**6] * 4}), "'image_tower.layers.0.weight' has the shape"),
        (json.dumps(AVE | {"image_size": 10**6}), "image_size must be 16 to 4096 pixels.* got 1000000"),
    ],
)
def test_a_header_that_names_no_network_is_told(tmp_path, tensors, text, told):
    assert re.search(told, refusal(write(tmp_path / "odd.safetensors", tensors, None, text)))


def with_number(tensor: torch.Tensor, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


CHANGES = {
    "NaN or infinity": [lambda t: with_number(t, float("nan")), lambda t: with_number(t, -float("inf"))],
    "too large": [lambda t: with_number(t.double(), 1e300)],
    "of type C64": [lambda t: t.to(torch.complex64)],
    "of type I32": [lambda t: t.to(torch.int32)],
    "of type BOOL": [lambda t: t > 0],
    "of type F8_E4M3": [lambda t: t.to(torch.float8_e4m3fn)],
    "has the shape": [lambda t: t[None].contiguous(), lambda t: t[:0], lambda t: torch.cat([t, t])],
}


@pytest.mark.parametrize("told", CHANGES)
def test_changed_tensors_are_refused_by_name(tmp_path, tensors, told):
    chance = random.Random(told)
    floats = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    for change in CHANGES[told]:
        for name in chance.sample(floats, 6):
            try:
                path = write(tmp_path / "odd.safetensors", tensors | {name: change(tensors[name])}, AVE)
            except KeyError:
                pytest.skip("this release of safetensors can't write such numbers")
            reason = refusal(path)
            assert told in reason and repr(name) in reason


# --------------------------------------------------------------------------------------------- a hundred changed files


def repacked(content: bytes, change) -> bytes:
    """Return a safetensors file with its header, as text, changed; its length is put right."""
    end = 8 + int.from_bytes(content[:8], "little")
    text = change(content[8:end].decode()).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


def with_entry(key: str, value: object):
    """Return a change of a header that repeats a key, or adds one, in front."""
    entry = json.dumps({key: value})[:-1]
    return lambda content, chance: repacked(content, lambda text: f"{entry},{text[1:]}")


def with_length(length: int):
    return lambda content, chance: (length % 2**64).to_bytes(8, "little") + content[8:]


def with_tensors(change):
    """Return a change of a file's tensors; `change` gets them by name, and one of the names."""

    def changed(content: bytes, chance: random.Random) -> bytes:
        tensors = load(content)
        change(tensors, chance.choice([name for name, _ in floats_of(tensors)]))
        return save({name: t.contiguous() for name, t in tensors.items()}, {"architecture": json.dumps(AVE)})

    return changed


def scattered(content: bytes, chance: random.Random, end: int | None = None) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 5, 50])):
        changed[chance.randrange(end or len(changed))] = chance.randrange(256)
    return bytes(changed)


def floats_of(tensors: dict) -> list:
    return [(name, tensor) for name, tensor in sorted(tensors.items()) if tensor.is_floating_point()]


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
FILES = {
    "cut": lambda content, chance: content[: chance.randrange(len(content))],
    "followed": lambda content, chance: content + bytes(chance.randrange(1, 99)),
    "changed header": lambda content, chance: scattered(content, chance, 8 + int.from_bytes(content[:8], "little")),
    "changed": scattered,
    "other kind": lambda content, chance: chance.choice([b"", b"PK\3\4" + content, b"{}", b"\x80\x02" + content]),
    "endless header": with_length(2**63),
    "negative header": with_length(-1),
    "empty header": with_length(0),
    "key twice": with_entry("fc3.bias", ENTRY),
    "metadata twice": with_entry("__metadata__", {"architecture": json.dumps({"architecture": "l3"})}),
    "overlap": with_entry("more", ENTRY),
    "beyond": with_entry("more", ENTRY | {"data_offsets": [0, 2**62]}),
    "huge shape": with_entry("more", ENTRY | {"shape": [2**40, 2**40]}),
    "negative shape": with_entry("more", ENTRY | {"shape": [-2]}),
    "unknown type": with_entry("more", ENTRY | {"dtype": "F7"}),
    "lacking": with_tensors(lambda tensors, name: tensors.pop(name)),
    "surplus": with_tensors(lambda tensors, name: tensors.update(more=tensors[name].clone())),
    "renamed": with_tensors(lambda tensors, name: tensors.update({name + "\n": tensors.pop(name)})),
    "swapped": with_tensors(lambda tensors, name: tensors.update({name: tensors[name].flatten()[None]})),
    "complex": with_tensors(lambda tensors, name: tensors.update({name: tensors[name].to(torch.complex64)})),
    "whole numbers": with_tensors(lambda tensors, name: tensors.update({name: tensors[name].to(torch.int64)})),
    "NaN": with_tensors(lambda tensors, name: tensors.update({name: with_number(tensors[name], float("nan"))})),
    "a huge one": with_tensors(lambda tensors, name: tensors.update({name: torch.full_like(tensors[name], 1e38)})),
    "huge": with_tensors(lambda tensors, name: tensors.update({n: 0 * t + 1e38 for n, t in floats_of(tensors)})),
    "negative": with_tensors(lambda tensors, name: tensors.update({name: -tensors[name].abs() - 1})),
}


def outcome(path: Path) -> str:
    """Return why a file, or what its network computes, is refused; empty if embeddings and scores are finite."""
    noise, picture = np.random.default_rng(0).uniform(-1, 1, 24_000), np.full((64, 64, 3), 99, np.uint8)
    try:
        model = openavc.load_model(path, device="cpu")
    except (ValueError, OSError) as error:
        assert str(path) in str(error)
        return str(error)
    try:
        for embedding in ("features", "joint"):
            assert np.isfinite(openavc.get_audio_embedding(noise, 24_000, model, embedding=embedding)[0]).all()
            assert np.isfinite(openavc.get_image_embedding(picture, model, embedding=embedding)).all()
        assert 0 <= openavc.correspondence_score(noise, 24_000, picture, model) <= 1
    except ValueError as error:
        assert f"{path.stem} (weights {model.sha256}) gives NaN or infinity in torch.float32" in str(error)
        return str(error)
    return ""


def test_a_hundred_changed_files_are_refused_with_the_reason_or_used_rightly(tmp_path, tensors):
    content = write(tmp_path / "good.safetensors", tensors, AVE).read_bytes()
    assert outcome(tmp_path / "good.safetensors") == ""
    chance, used = random.Random(0), []
    for number in range(120):
        kind = [*FILES][number % len(FILES)]
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(FILES[kind](content, chance))
        reason = outcome(path)
        assert len(reason) < 1500
        used += [] if reason else [kind]
    # a number or a letter that changed, variances of 1 and more, a scale that still fits, the last of two equal keys
    assert set(used) <= {"changed", "changed header", "negative", "a huge one", "key twice"}


@pytest.mark.parametrize("kind", ["huge", "renamed", "endless header", "cut"])
def test_the_command_line_tells_of_changed_files_in_one_line(tmp_path, tensors, kind):
    content = write(tmp_path / "good.safetensors", tensors, AVE).read_bytes()
    path = tmp_path / "odd\n.safetensors"
    path.write_bytes(FILES[kind](content, random.Random(0)))
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 24_000), 24_000)
    command = ["audio", str(tmp_path / "a.wav"), "--output", str(tmp_path / "out"), "--model", str(path)]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code in (1, 2)
    [line] = result.stderr.splitlines()
    assert line.startswith(("Error: ", "failed: ")) and r"odd\n" in line


@pytest.mark.parametrize("kind", ["running_var", "num_batches_tracked"])
def test_negative_variances_and_counts_are_refused_by_name(tmp_path, tensors, kind):
    for name in [name for name in tensors if name.endswith(kind)]:
        odd = with_number(tensors[name].reshape(-1), -1).reshape(tensors[name].shape)
        reason = refusal(write(tmp_path / "odd.safetensors", tensors | {name: odd}, AVE))
        assert "negative numbers" in reason and repr(name) in reason


def test_numbers_too_large_for_the_type_asked_for_are_refused(tmp_path, tensors):
    path = write(tmp_path / "large.safetensors", tensors | {"fc3.bias": torch.full((2,), 1e5)}, AVE)
    assert openavc.load_model(path).fc3.bias.tolist() == [1e5, 1e5]
    with pytest.raises(ValueError, match=r"'fc3.bias' holds numbers too large for torch.float16"):
        openavc.load_model(path, dtype="float16")


def test_weights_of_half_and_double_precision_are_used(tmp_path, tensors):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        other = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
        path = write(tmp_path / "other.safetensors", other, AVE)
        loaded = openavc.load_model(path).state_dict()
        assert all(torch.equal(loaded[name], other[name].to(loaded[name].dtype)) for name in loaded)


def test_changed_bytes_of_the_header_are_refused_or_used_rightly(tmp_path, tensors):
    content = write(tmp_path / "good.safetensors", tensors, AVE).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    chance, path = random.Random(1), tmp_path / "odd.safetensors"
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(chance.choice([1, 1, 3])):
            changed[chance.randrange(end)] = chance.randrange(256)
        path.write_bytes(changed)
        refusal(path)


def test_every_line_of_the_command_names_the_tensor_and_the_file(tmp_path, tensors):
    path = write(tmp_path / "nan.safetensors", tensors | {"fc3.bias": torch.full((2,), float("nan"))}, AVE)
    result = CliRunner().invoke(cli.main, ["audio", "x.wav", "--output", str(tmp_path / "out"), "--model", str(path)])
    assert result.exit_code == 2 and f"{path}: the tensor 'fc3.bias' holds NaN" in result.stderr


# ------------------------------------------------------------------------------------------------- no regular files


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    short = os.path.relpath(path)  # a socket's path is of 100 letters at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(short)


@pytest.fixture(params=[make_fifo, make_link_to_device, make_socket])
def special(request, tmp_path, monkeypatch):
    """Return a function that puts something that isn't a regular file in the place of a path."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    monkeypatch.chdir(tmp_path)
    return request.param


@pytest.mark.parametrize("name", ["odd.safetensors", "openl3_audio_mel256_music-v0_4_0.h5.gz"])
def test_weights_by_path_that_are_no_regular_file_are_refused(tmp_path, special, name):
    special(tmp_path / name)
    for call in (openavc.load_model, weights.modalities_of, weights.sha256_of):
        with pytest.raises(OSError, match=f"{re.escape(str(tmp_path / name))} is a .*, not a regular file"):
            call(tmp_path / name)


def test_packaged_weights_that_are_no_regular_file_are_refused(tmp_path, special, monkeypatch):
    about = {"modalities": ["audio"], "embedding_size": {"features": 3}, "license": "unknown"}
    file = {"name": "tiny", "file": "tiny.safetensors", "bytes": 1, "sha256": "0" * 64}
    entry = file | about | {"sources": [{"type": "package"}]}
    (tmp_path / "manifest.json").write_text(json.dumps({"models": [entry]}))
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(sources, "PRETRAINED", tmp_path)
    special(tmp_path / "tiny.safetensors")
    for call in (openavc.load_model, weights.fetch, weights.verify_local):
        with pytest.raises(OSError, match=r"tiny\.safetensors is a .*, not a regular file.*Install openavc again"):
            call("tiny")


def test_what_ships_fits_its_checks():
    for entry in weights.read_shipped():
        if entry["sources"][0]["type"] == "package":
            path = weights.fetch(entry["name"])
            assert openavc.load_model(path).state_dict().keys() == load_file(path).keys()
