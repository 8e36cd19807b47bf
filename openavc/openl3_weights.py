"""OpenL3's own weight files, and EdgeL3's: Keras' HDF5 read layer by layer, downloaded, converted to safetensors.

The names that Keras gives layers depend on the session that saved them, so the files are read by position and every
shape is checked: BatchNorm of the input, then in each of four blocks twice a convolution and its BatchNorm; OpenL3's
files end with conv4_2, those of EdgeL3's small networks with its BatchNorm. Files before v0.4.0 begin with the
spectrogram, as a layer.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import logging
import os
import re
import shutil
import zlib
from pathlib import Path

ENDINGS = (".h5", ".h5.gz", ".hdf5", ".hdf5.gz")  # of file names
_LARGEST = 1 << 28  # bytes, unpacked; the largest published file has about 40 MB
_OPENL3_WIDTHS = [64, 128, 256, 512]

# Shapes of the spectrogram as a layer: kernels of the real and the imaginary part, then mel filters
_SPECTROGRAMS = {
    ((512, 1, 1, 257), (512, 1, 1, 257)): "linear",
    ((2048, 1, 1, 1025), (2048, 1, 1, 1025), (1025, 128)): "mel128",
    ((2048, 1, 1, 1025), (2048, 1, 1, 1025), (1025, 256)): "mel256",
    ((1024, 1, 1, 513), (1024, 1, 1, 513), (513, 64)): "mel64-8khz",
}

# Git's SHA-1 of OpenL3's files without a version, v0.1: trained with a wrong spectrogram, replaced by their authors
_REFUSED = set(
    """1cb1794ba105f7f8336ad7cca3631a88524d8e22 10fc4beb453e1d621e61f13a62dedb3243265f43
    04012b3399858de0ce3216046535059a063f8120 93447b54001ec4c1df7f9a11946ba534908bbc19
    548e62e79251b81dcaf1c293f75f301cc8dd0b89 138dcc0a9c95ba3c08605944a2d74901f634dcf6
    d5d1c2998474b3d2ed28b421617702e9d1d267ab 39550e635fe5e92a6957eba62cbf263ac5c79e57
    7cb4e9671142ae3465808aa75b630c11e19a4f99 fa7c796e153a11494e9284b7138a3d9e45860bd2
    f5fdfad2f4ce7c3fbd35ca8785726448b5046772 96703e2492986dd342d244ca004f66f6248ab6fc""".split()
)


# ---------------------------------------------------------------------------------------------------------- reading


def read_openl3(*paths: str | Path, input_repr: str | None = None) -> tuple[dict, dict]:
    """Architecture and tensors of a file of OpenL3's or EdgeL3's, or of one for sound and one for pictures together.

    Parameters
    ----------
    *paths : path
        One or two files: Keras' weights, or its whole model; packed by gzip or not.
    input_repr : {"linear", "mel128", "mel256"}, optional
        What the tower of sound hears. By default what the spectrogram in the file is, or else what OpenL3's name of
        the file says.

    Returns
    -------
    architecture : dict
        For `build_model`.
    tensors : dict of str to Tensor
        The state of that network.

    Raises
    ------
    OSError
        If a file can't be read, is cut short, or is no HDF5.
    ValueError
        If it holds other layers than OpenL3's, is of the withdrawn v0.1, or doesn't tell its `input_repr`.
    """
    found: dict[str, tuple[dict, dict]] = {}
    for path in paths:
        architecture, tensors = _read_tower(Path(path), input_repr)
        [modality] = architecture["modalities"]
        if modality in found:
            raise ValueError(f"{path} holds a tower of {modality}, and so does {paths[0]}: give one of each kind")
        found[modality] = architecture, tensors
    if len(found) == 1:
        return found.popitem()[1]
    (audio, audio_tensors), (image, image_tensors) = found["audio"], found["image"]
    if audio["widths"] != image["widths"]:
        raise ValueError(f"{paths[0]} and {paths[1]} aren't of one kind: EdgeL3 has no tower of pictures")
    return audio | {"modalities": ["audio", "image"]}, audio_tensors | image_tensors


def _read_tower(path: Path, input_repr: str | None) -> tuple[dict, dict]:
    content = path.read_bytes()
    if git_blob_sha1(content) in _REFUSED:
        raise ValueError(
            f"{path} is of OpenL3 v0.1, trained with a wrong spectrogram and withdrawn by its authors: use its "
            f"successor, {path.name.split('.')[0]}-v0_4_0.h5.gz"
        )
    layers = _read_layers(path, _unpack(path, content))
    stored = _stored_spectrogram(path, layers)
    architecture = _architecture(path, layers, stored, input_repr)
    return architecture, _tensors(path, layers, architecture)


def read_modality(path: Path) -> str:
    """Whose tower a file of OpenL3's or EdgeL3's has: "audio" or "image"; errors as of `read_openl3`."""
    layers = _read_layers(path, _unpack(path, path.read_bytes()))
    _stored_spectrogram(path, layers)
    return _modality(path, layers)


def git_blob_sha1(content: bytes) -> str:
    """By which git, and so GitHub, knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _unpack(path: Path, content: bytes) -> bytes:
    """The same, without gzip."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            unpacked = packed.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise OSError(f"{path} ({len(content)} bytes) can't be unpacked: {error}") from error
    if len(unpacked) > _LARGEST:
        raise OSError(f"{path} unpacks to more than {_LARGEST} bytes: it is no file of OpenL3's")
    return unpacked


def _read_layers(path: Path, content: bytes) -> list[tuple[str, list]]:
    """(name, its arrays) of the layers that have weights, in the model's order."""
    import h5py
    import numpy as np

    try:
        file = h5py.File(io.BytesIO(content))
    except Exception as error:  # h5py raises whatever it stumbles over
        raise OSError(f"{path} is not an HDF5 file, or is cut short: {error}") from error
    with file:
        try:
            layers = _keras_layers(file)
        except Exception as error:
            raise OSError(f"{path} is damaged: {error}") from error
        _check_number(path, layers)
        try:
            return [(name, [np.asarray(array) for array in arrays]) for name, arrays in layers]
        except Exception as error:
            raise OSError(f"{path} is damaged: {error}") from error


def _check_number(path: Path, layers: list | None) -> None:
    """ValueError unless there are as many as OpenL3 or EdgeL3 has, besides the spectrogram."""
    if layers is None:
        raise ValueError(f"{path} is HDF5, but not of Keras: it has no layer_names, nor has a group model_weights")
    number = len(layers) - bool(layers and "spectrogram" in layers[0][0])
    if number not in (16, 17):
        raise ValueError(f"{path} has {number} layers with weights; OpenL3 has 16, EdgeL3 17")


def _keras_layers(file) -> list[tuple[str, list]] | None:
    """(name, its arrays, not read yet) of the layers that have any; None if the file has no names of layers."""
    group = file if "layer_names" in file.attrs else file.get("model_weights")
    if group is None or "layer_names" not in group.attrs:
        return None
    layers, size = [], 0
    for name in group.attrs["layer_names"]:
        arrays = [group[name][weight] for weight in group[name].attrs["weight_names"]]
        size += sum(array.nbytes for array in arrays)
        if size > _LARGEST:
            raise ValueError(f"up to the layer {_text(name)} it has arrays of more than {_LARGEST} bytes")
        if arrays:
            layers.append((_text(name), arrays))
    return layers


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _stored_spectrogram(path: Path, layers: list) -> str | None:
    """Which it is, if the first of the layers is a spectrogram; that layer is taken away."""
    if not layers or "spectrogram" not in layers[0][0]:
        return None
    name, arrays = layers.pop(0)
    shapes = tuple(array.shape for array in arrays)
    if shapes not in _SPECTROGRAMS:
        raise ValueError(f"{path}: the layer {name} has arrays of shapes {_list(shapes)}, no spectrogram of OpenL3's")
    return _SPECTROGRAMS[shapes]


def _architecture(path: Path, layers: list, stored: str | None, input_repr: str | None) -> dict:
    """The options of the network that layers of this number and these inputs should belong to."""
    modality = _modality(path, layers)
    architecture = {"architecture": "openl3-towers", "modalities": [modality], "widths": list(_OPENL3_WIDTHS)}
    if modality == "audio":
        architecture["input_repr"] = _choose_input_repr(path, stored, input_repr)
    if architecture.get("input_repr") == "mel64-8khz":
        name, shape = layers[-1][0], layers[-1][1][0].shape
        if not shape or not shape[-1]:
            raise ValueError(
                f"{path}: layer {len(layers)} of {len(layers)}, {name}, begins with an empty array {shape}"
            )
        architecture["widths"] = [32, 64, 128, shape[-1]]  # the last differs from file to file
    if len(layers) == 17:
        architecture |= {"rectified": True, "embedding_size": architecture["widths"][-1]}
    return architecture


def _modality(path: Path, layers: list) -> str:
    channels = layers[0][1][0].shape
    if channels not in ((1,), (3,)):
        raise ValueError(
            f"{path}: the first layer, {layers[0][0]}, begins with an array of shape {channels}; expected is a "
            "BatchNorm of 1 channel (sound) or 3 (pictures)"
        )
    return "audio" if channels == (1,) else "image"


def _choose_input_repr(path: Path, stored: str | None, asked: str | None) -> str:
    named = re.match("openl3_audio_(linear|mel128|mel256)_", path.name)
    stored = stored or (named and named[1])
    if stored and asked and stored != asked:
        raise ValueError(f"{path} holds the spectrogram {stored!r}, but input_repr is {asked!r}")
    chosen = stored or asked
    if not chosen:
        raise ValueError(
            f"{path} doesn't tell which spectrogram it takes, nor does its name (OpenL3's begin with "
            'openl3_audio_mel256_ and the like): pass input_repr="linear", "mel128" or "mel256"'
        )
    return chosen


def _tensors(path: Path, layers: list, architecture: dict) -> dict:
    """The state of the network, from arrays each of which has its expected shape."""
    import torch

    from .models import OpenL3Towers

    options = {key: value for key, value in architecture.items() if key != "architecture"}
    with torch.device("meta"):  # shapes alone
        network = OpenL3Towers(**options)
    modules = [
        (key, module)
        for key, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d)
    ]
    tensors = {}
    for number, ((name, arrays), (key, module)) in enumerate(zip(layers, modules, strict=True), start=1):
        where = f"{path}: layer {number} of {len(layers)}, {name},"
        expected, slots = _expected(module)
        shapes = tuple(array.shape for array in arrays)
        if shapes != expected:
            raise ValueError(f"{where} has arrays of shapes {_list(shapes)}; expected are {_list(expected)}")
        for slot, array in zip(slots, arrays, strict=True):
            tensors[f"{key}.{slot}"] = _tensor(where, array)
        if "running_mean" in slots:
            tensors[f"{key}.num_batches_tracked"] = torch.tensor(0)
    return tensors


def _expected(module) -> tuple[tuple, list[str]]:
    """The shapes in which Keras stores a layer's arrays, and PyTorch's names of them in the same order."""
    if hasattr(module, "kernel_size"):
        kernel = (*module.kernel_size, module.in_channels, module.out_channels)
        return (kernel, (module.out_channels,)), ["weight", "bias"]
    return ((module.num_features,),) * 4, ["weight", "bias", "running_mean", "running_var"]


def _tensor(where: str, array):
    import numpy as np
    import torch

    if array.dtype.kind != "f":
        raise ValueError(f"{where} holds numbers of type {array.dtype}; floats were expected")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} holds NaN or infinity")
    tensor = torch.from_numpy(array.astype(np.float32))
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor


def _list(shapes) -> str:
    return ", ".join(map(str, shapes)) or "none"


# ------------------------------------------------------------------------------------------------------- converting


def convert(*paths: str | Path, target: Path, input_repr: str | None = None) -> dict:
    """Write what `read_openl3` reads as one safetensors file, whole or not at all; returns the architecture.

    The same files give the same bytes.
    """
    from safetensors.torch import save

    architecture, tensors = read_openl3(*paths, input_repr=input_repr)
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(save(tensors, metadata={"architecture": json.dumps(architecture)}))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return architecture


def fetch_openl3(entry: dict, source: dict, folder: Path, local_only: bool = False) -> Path:
    """The converted file of a manifest's entry in `folder`: if need be, downloaded and converted first.

    Its SHA-256 is written beside it, in the form of the command `sha256sum`, and checked each time. Processes wait
    for one another.

    Parameters
    ----------
    entry, source : dict
        Of the manifest; the source's `files` have the address and the digests of each, which are checked.
    folder : Path
        Of the cache.
    local_only : bool
        Whether to do without a network.

    Raises
    ------
    FileNotFoundError
        If the file isn't there and may not be downloaded.
    OSError
        If it is damaged, can't be downloaded, or is another than the one expected.
    """
    from filelock import FileLock

    target = folder / entry["file"]
    if local_only:
        return _verify(target, entry["name"])
    with contextlib.suppress(OSError):
        return _verify(target, entry["name"])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        try:
            return _verify(target, entry["name"])  # another process was faster
        except FileNotFoundError:
            damage = ""
        except OSError as error:
            damage = f"{error} "
        try:
            _download_and_convert(entry, source, target)
        except (OSError, ValueError) as error:
            raise OSError(f"{damage}{error}") from error
    return target


def _verify(target: Path, name: str) -> Path:
    digest = target.with_suffix(".sha256")
    if not target.exists():
        raise FileNotFoundError(f"{target} has not been downloaded: run openavc download {name}")
    actual = hashlib.sha256(target.read_bytes()).hexdigest()
    expected = digest.read_text(errors="replace").split(" ")[0] if digest.exists() else "missing"
    if actual != expected:
        raise OSError(
            f"{target} is damaged and is not used: its SHA-256 is {actual}, that in {digest.name} is {expected}. "
            f"Run: openavc download {name}, which replaces it."
        )
    return target


def _download_and_convert(entry: dict, source: dict, target: Path) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError(
            f"{target} is not in the cache and HF_HUB_OFFLINE is set: run `openavc download {entry['name']}` with a "
            "network, or copy the cache of another machine"
        )
    partial = target.with_suffix(".partial")  # one process at a time works here; what a killed one left is deleted
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        paths = [_download(file, partial, entry["name"]) for file in source["files"]]
        convert(*paths, target=partial / target.name, input_repr=entry["options"]["input_repr"])
        digest = hashlib.sha256((partial / target.name).read_bytes()).hexdigest()
        (partial / "digest").write_text(f"{digest}  {target.name}\n")
        os.replace(partial / "digest", target.with_suffix(".sha256"))
        os.replace(partial / target.name, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logging.getLogger(__name__).warning("%s: %s; licence %s", entry["name"], entry["attribution"], entry["license"])


def _download(file: dict, folder: Path, name: str) -> Path:
    """A file from its address, if it has the digests that the manifest names."""
    import http.client
    import urllib.request

    from tqdm import tqdm

    url = file["url"]
    path, received = folder / url.rsplit("/", 1)[1], 0
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, open(path, "wb") as output:
            size = int(answer.headers.get("Content-Length", 0))
            with tqdm(total=size or None, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
                while block := answer.read(1 << 20):
                    received += output.write(block)
                    bar.update(len(block))
        if received < size:
            raise ConnectionError(f"the connection broke after {received} of {size} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{url} can't be downloaded: {error}. Try again: openavc download {name}; or load the file by its path, "
            "if you have it"
        ) from error
    content = path.read_bytes()
    actual = {"git_blob_sha1": git_blob_sha1(content), "sha256": hashlib.sha256(content).hexdigest()}
    for kind in actual.keys() & file.keys():
        if actual[kind] != file[kind]:
            raise OSError(
                f"{url} is damaged or was replaced and is not used: it has {len(content)} bytes and the {kind} "
                f"{actual[kind]}, expected is {file[kind]}"
            )
    return path
