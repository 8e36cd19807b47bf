"""OpenL3's and EdgeL3's weights files: Keras' HDF5, read layer by layer, and their conversion to safetensors.

The names that Keras gives layers depend on the session that saved them, so layers are identified by their position, and
every shape is checked: BatchNorm of the input, then, twice in each of four blocks, a convolution and its BatchNorm.
OpenL3's files end with conv4_2, those of EdgeL3's small networks with its BatchNorm. Files from before v0.4.0 begin
with the spectrogram, as a layer.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import write_bytes
from ..regular import check_regular
from .digests import digests_of, git_blob_sha1

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import torch
    from torch import nn

ENDINGS = (".h5", ".h5.gz", ".hdf5", ".hdf5.gz")  # of file names
LARGEST = 1 << 28  # bytes, unpacked; the largest published file has about 40 MB
_OPENL3_WIDTHS = [64, 128, 256, 512]
_Layers = list[tuple[str, list]]  # (name, arrays) of the layers that have weights, in the model's order

# Shapes of the arrays of a spectrogram layer: kernels of the real and the imaginary part, then mel filters.
_SPECTROGRAMS = {
    ((512, 1, 1, 257), (512, 1, 1, 257)): "linear",
    ((2048, 1, 1, 1025), (2048, 1, 1, 1025), (1025, 128)): "mel128",
    ((2048, 1, 1, 1025), (2048, 1, 1, 1025), (1025, 256)): "mel256",
    ((1024, 1, 1, 513), (1024, 1, 1, 513), (513, 64)): "mel64-8khz",
}

# Git's SHA-1 of OpenL3's unversioned files, v0.1: trained with a wrong spectrogram, withdrawn by their authors.
WITHDRAWN = set(
    """1cb1794ba105f7f8336ad7cca3631a88524d8e22 10fc4beb453e1d621e61f13a62dedb3243265f43
    04012b3399858de0ce3216046535059a063f8120 93447b54001ec4c1df7f9a11946ba534908bbc19
    548e62e79251b81dcaf1c293f75f301cc8dd0b89 138dcc0a9c95ba3c08605944a2d74901f634dcf6
    d5d1c2998474b3d2ed28b421617702e9d1d267ab 39550e635fe5e92a6957eba62cbf263ac5c79e57
    7cb4e9671142ae3465808aa75b630c11e19a4f99 fa7c796e153a11494e9284b7138a3d9e45860bd2
    f5fdfad2f4ce7c3fbd35ca8785726448b5046772 96703e2492986dd342d244ca004f66f6248ab6fc""".split()
)


# -------------------------------------------------------------------------------------------------- public functions


def read_openl3(*paths: str | Path, input_repr: str | None = None) -> tuple[dict, dict[str, torch.Tensor]]:
    """Read one weights file of OpenL3 or EdgeL3, or one for sound and one for pictures together.

    Parameters
    ----------
    *paths : str or Path
        One or two files: Keras weights or entire Keras models, packed by gzip or not.
    input_repr : {"linear", "mel128", "mel256"}, optional
        The spectrogram that the tower of sound takes. By default, the one in the file, or else the one in OpenL3's file
        name.

    Returns
    -------
    architecture : dict
        Argument for `build_model`.
    tensors : dict of str to Tensor
        The state of that network.

    Raises
    ------
    OSError
        If a file can't be read, is cut short, or isn't HDF5.
    ValueError
        If a file has other layers than OpenL3's, is of the withdrawn v0.1, or doesn't indicate its `input_repr`.
    """
    return _join_towers([(path, _content(path)) for path in map(Path, paths)], input_repr)


def read_modality(path: str | Path) -> str:
    """Return the modality of the tower in a file of OpenL3 or EdgeL3: "audio" or "image".

    Raises
    ------
    OSError, ValueError
        As `read_openl3` does, but only as far as the first layer shows.
    """
    path = Path(path)
    layers = _read_layers(path, _unpack(path, _content(path)))
    _pop_spectrogram(path, layers)
    return _modality(path, layers)


def to_safetensors(*paths: str | Path, input_repr: str | None = None) -> tuple[dict, bytes]:
    """Convert files that `read_openl3` reads into one safetensors file; the same files give the same bytes.

    Parameters
    ----------
    *paths, input_repr
        As in `read_openl3`.

    Returns
    -------
    architecture : dict
        Argument for `build_model`; the file's header also contains it.
    content : bytes
        Content of the safetensors file; its header also contains the digests of `paths`, as `converted_from`.

    Raises
    ------
    OSError, ValueError
        As `read_openl3` does.
    """
    from safetensors.torch import save

    files = [(path, _content(path)) for path in map(Path, paths)]
    architecture, tensors = _join_towers(files, input_repr)
    about = {"architecture": architecture, "converted_from": [digests_of(content) for _, content in files]}
    content = save(tensors, metadata={key: json.dumps(value) for key, value in about.items()})
    return architecture, _with_sorted_header(content)


def convert(*paths: str | Path, target: str | Path, input_repr: str | None = None) -> dict:
    """Convert files by `to_safetensors` and write the result, completely or not at all.

    Parameters
    ----------
    *paths, input_repr
        As in `read_openl3`.
    target : str or Path
        The safetensors file to write or to replace.

    Returns
    -------
    architecture : dict
        Argument for `build_model`.

    Raises
    ------
    OSError, ValueError
        As `read_openl3` does; also if the target can't be written.
    """
    architecture, content = to_safetensors(*paths, input_repr=input_repr)
    write_bytes(target, content)
    return architecture


def _with_sorted_header(content: bytes) -> bytes:
    """Sort the header of a safetensors file, whose order otherwise changes from process to process."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # numbers begin at multiples of eight bytes
    return len(header).to_bytes(8, "little") + header + content[end:]


def _join_towers(files: list[tuple[Path, bytes]], input_repr: str | None) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the architecture and the tensors of one file, or of two together, given with their contents."""
    towers: dict[str, tuple[dict, dict]] = {}
    for path, content in files:
        architecture, tensors = _read_tower(path, content, input_repr)
        [modality] = architecture["modalities"]
        if modality in towers:
            raise ValueError(f"{path} holds a tower of {modality}, and so does {files[0][0]}: give one of each kind")
        towers[modality] = architecture, tensors
    if len(towers) == 1:
        return towers.popitem()[1]
    (audio, audio_tensors), (image, image_tensors) = towers["audio"], towers["image"]
    if audio["widths"] != image["widths"]:
        raise ValueError(f"{files[0][0]} and {files[1][0]} aren't of one kind: EdgeL3 has no tower of pictures")
    return audio | {"modalities": ["audio", "image"]}, audio_tensors | image_tensors


def _read_tower(path: Path, content: bytes, input_repr: str | None) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the architecture and the tensors of one file."""
    if git_blob_sha1(content) in WITHDRAWN:
        raise ValueError(
            f"{path} is of OpenL3 v0.1, trained with a wrong spectrogram and withdrawn by its authors: use its "
            f"successor, {path.name.split('.')[0]}-v0_4_0.h5.gz"
        )
    layers = _read_layers(path, _unpack(path, content))
    spectrogram = _pop_spectrogram(path, layers)
    architecture = _architecture(path, layers, spectrogram, input_repr)
    return architecture, _tensors(path, layers, architecture)


# --------------------------------------------------------------------------------------------- HDF5 and its layers


def _content(path: Path) -> bytes:
    """Return the content of a file; raise OSError if it isn't a regular file, or is too large to be one of OpenL3's."""
    check_regular(path)
    if path.stat().st_size > LARGEST:
        raise OSError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}: it is no file of OpenL3's")
    return path.read_bytes()


def _unpack(path: Path, content: bytes) -> bytes:
    """Return the content of a file, unpacked if gzip packed it."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            unpacked = packed.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise OSError(f"{path} ({len(content)} bytes) can't be unpacked: {error}") from error
    if len(unpacked) > LARGEST:
        raise OSError(f"{path} unpacks to more than {LARGEST} bytes: it is no file of OpenL3's")
    return unpacked


def _read_layers(path: Path, content: bytes) -> _Layers:
    """Read the layers of an HDF5 file.

    Raises OSError if the file isn't HDF5 or is damaged, ValueError if it isn't from Keras or has too few or many
    layers.
    """
    import h5py
    import numpy as np

    try:
        file = h5py.File(io.BytesIO(content))
    except Exception as error:  # h5py raises errors of any type
        raise OSError(f"{path} is not an HDF5 file, or is cut short: {error}") from error
    with file:
        try:
            named = _keras_layers(file)
        except Exception as error:
            raise OSError(f"{path} is damaged: {error}") from error
        layers = _check_number(path, named)
        try:
            return [(name, [np.asarray(array) for array in arrays]) for name, arrays in layers]
        except Exception as error:
            raise OSError(f"{path} is damaged: {error}") from error


def _check_number(path: Path, layers: _Layers | None) -> _Layers:
    """Return the layers; raise ValueError unless there are as many as in OpenL3 or EdgeL3, besides the spectrogram."""
    if layers is None:
        raise ValueError(f"{path} is HDF5, but not of Keras: it has no layer_names, nor has a group model_weights")
    number = len(layers) - bool(layers and "spectrogram" in layers[0][0])
    if number not in (16, 17):
        raise ValueError(f"{path} has {number} layers with weights; OpenL3 has 16, EdgeL3 17")
    return layers


def _keras_layers(file: h5py.File) -> _Layers | None:
    """Return the layers of a file, with arrays that aren't read yet; None if the file doesn't name its layers."""
    group = file if "layer_names" in file.attrs else file.get("model_weights")
    if group is None or "layer_names" not in group.attrs:
        return None
    layers, size = [], 0
    for name in group.attrs["layer_names"]:
        arrays = [group[name][weight] for weight in group[name].attrs["weight_names"]]
        size += sum(array.nbytes for array in arrays)
        if size > LARGEST:
            raise ValueError(f"up to the layer {_text(name)} it has arrays of more than {LARGEST} bytes")
        if arrays:
            layers.append((_text(name), arrays))
    return layers


def _text(name: str | bytes) -> str:
    """Return a name as text; old files contain bytes."""
    return name.decode() if isinstance(name, bytes) else name


def _pop_spectrogram(path: Path, layers: _Layers) -> str | None:
    """Remove the first layer if it is a spectrogram, and return which one it is, or None."""
    if not layers or "spectrogram" not in layers[0][0]:
        return None
    name, arrays = layers.pop(0)
    shapes = tuple(array.shape for array in arrays)
    if shapes not in _SPECTROGRAMS:
        raise ValueError(f"{path}: the layer {name} has arrays of shapes {_listed(shapes)}, no spectrogram of OpenL3's")
    return _SPECTROGRAMS[shapes]


# --------------------------------------------------------------------------------------------- layers to a network


def _architecture(path: Path, layers: _Layers, spectrogram: str | None, input_repr: str | None) -> dict:
    """Return the options of the network that these layers and this input should belong to."""
    modality = _modality(path, layers)
    architecture: dict[str, Any] = {
        "architecture": "openl3-towers",
        "modalities": [modality],
        "widths": list(_OPENL3_WIDTHS),
    }
    if modality == "audio":
        architecture["input_repr"] = _choose_input_repr(path, spectrogram, input_repr)
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


def _modality(path: Path, layers: _Layers) -> str:
    """Return "audio" or "image", according to the channels of the first BatchNorm."""
    name, arrays = layers[0]
    shape = arrays[0].shape
    if shape not in ((1,), (3,)):
        raise ValueError(
            f"{path}: the first layer, {name}, begins with an array of shape {shape}; expected is a "
            "BatchNorm of 1 channel (sound) or 3 (pictures)"
        )
    return "audio" if shape == (1,) else "image"


def _choose_input_repr(path: Path, stored: str | None, asked: str | None) -> str:
    """Return the spectrogram that a file, its name or the caller gives; raise ValueError if they disagree."""
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


def _tensors(path: Path, layers: _Layers, architecture: dict) -> dict[str, torch.Tensor]:
    """Return the state of a network; raise ValueError unless every array has the shape that the network expects."""
    import torch

    from ..models import OpenL3Towers

    options = {key: value for key, value in architecture.items() if key != "architecture"}
    with torch.device("meta"):  # only the shapes are needed
        network = OpenL3Towers(**options)
    modules = [
        (key, module)
        for key, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d)
    ]
    tensors = {}
    for number, ((name, arrays), (key, module)) in enumerate(zip(layers, modules, strict=True), start=1):
        layer = f"{path}: layer {number} of {len(layers)}, {name},"
        expected, slots = _expected_arrays(module)
        shapes = tuple(array.shape for array in arrays)
        if shapes != expected:
            raise ValueError(f"{layer} has arrays of shapes {_listed(shapes)}; expected are {_listed(expected)}")
        for slot, array in zip(slots, arrays, strict=True):
            tensors[f"{key}.{slot}"] = _tensor(layer, array)
            if slot == "running_var" and (array < 0).any():
                raise ValueError(f"{layer} holds negative variances")
        if isinstance(module, torch.nn.BatchNorm2d):
            tensors[f"{key}.num_batches_tracked"] = torch.tensor(0)
    return tensors


def _expected_arrays(module: nn.Conv2d | nn.BatchNorm2d) -> tuple[tuple[tuple[int, ...], ...], list[str]]:
    """Return the shapes in which Keras stores a layer's arrays, and their names in PyTorch, in the same order."""
    from torch import nn

    if isinstance(module, nn.Conv2d):
        kernel = (*module.kernel_size, module.in_channels, module.out_channels)
        return (kernel, (module.out_channels,)), ["weight", "bias"]
    return ((module.num_features,),) * 4, ["weight", "bias", "running_mean", "running_var"]


def _tensor(layer: str, array: np.ndarray) -> torch.Tensor:
    """Return an array as PyTorch stores it, in float32; raise ValueError unless it contains finite floats."""
    import numpy as np
    import torch

    if array.dtype.kind != "f":
        raise ValueError(f"{layer} holds numbers of type {array.dtype}; floats were expected")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinity
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise ValueError(f"{layer} holds NaN, infinity, or numbers too large for float32")
    tensor = torch.from_numpy(single)
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor


def _listed(shapes: tuple[tuple[int, ...], ...]) -> str:
    """Return shapes as text for messages."""
    return ", ".join(map(str, shapes)) or "none"
