"""Tensors of weights files, checked before they are used: names, shapes and types of numbers, then the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regular import check_regular
from .networks import outline

if TYPE_CHECKING:
    import torch

    from ..models.contract import AudioVisualModel

FLOATS = ("F16", "BF16", "F32", "F64")  # as safetensors calls them
_OTHERS = {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
# Buffers of BatchNorm, by the end of their names.
_NEVER_NEGATIVE = ("running_var", "num_batches_tracked")


def read_architecture(path: Path) -> dict:
    """Return the architecture that a safetensors file names in its header.

    Raises
    ------
    OSError
        If it isn't a safetensors file, or is cut short.
    ValueError
        If it names no architecture.
    """
    with _opened(path) as file:
        return _architecture(path, file)


def read_origin(path: Path) -> list[dict]:
    """Return the digests of the files that a safetensors file was converted from; empty if it names none.

    Raises
    ------
    OSError
        If it isn't a safetensors file, or is cut short.
    """
    with _opened(path) as file:
        try:
            origin = json.loads((file.metadata() or {}).get("converted_from", "[]"))
        except (ValueError, RecursionError):
            return []
    return origin if isinstance(origin, list) and all(isinstance(digests, dict) for digests in origin) else []


def read_safetensors(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the architecture and the tensors of a safetensors file, which are read only if they fit.

    Raises
    ------
    OSError
        If it isn't a safetensors file, or is cut short.
    ValueError
        If it names no network that can be built, or its tensors aren't this network's; the message names the tensor.
    """
    from safetensors import SafetensorError

    with _opened(path) as file:
        architecture = _architecture(path, file)
        names = list(file.keys())
        stated = {name: file.get_slice(name) for name in names}
        _check_fit(path, outline(path, architecture), stated)
        try:
            return architecture, {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise OSError(f"{path} is damaged: {error}") from error


def check_numbers(path: Path, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Raise ValueError, which names the tensor, unless a network can compute with these numbers in `dtype`."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: the tensor {name!r} holds NaN or infinity")
        if tensor.is_floating_point() and not tensor.to(dtype).isfinite().all():
            raise ValueError(f"{path}: the tensor {name!r} holds numbers too large for {dtype}")
        if name.endswith(_NEVER_NEGATIVE) and (tensor < 0).any():
            raise ValueError(f"{path}: the tensor {name!r} holds negative numbers, which variances and counts can't be")


def _opened(path: Path) -> Any:
    """Open a safetensors file; its header is read and compared with the file's size."""
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise OSError(f"{path} is not a safetensors file, or is cut short: {error}") from error


def _architecture(path: Path, file: Any) -> dict:
    """Return the architecture in an open file's header; raise ValueError unless it is a JSON object."""
    header = (file.metadata() or {}).get("architecture")
    if header is None:
        raise ValueError(f"{path} doesn't name its architecture in its header; only files written by openavc load")
    try:
        architecture = json.loads(header)
    except (ValueError, RecursionError):  # no JSON, numbers of thousands of digits, or brackets in brackets
        architecture = None
    if not isinstance(architecture, dict):
        quoted = repr(header if len(header) <= 80 else f"{header[:80]}...")
        raise ValueError(f"{path} has {quoted} for its architecture; a JSON object of a network's options was expected")
    return architecture


def _check_fit(path: Path, network: AudioVisualModel, stated: dict[str, Any]) -> None:
    """Raise ValueError unless a file states the names, shapes and types of numbers of the network's tensors."""
    misfit = f"{path} doesn't fit {type(network).__name__}"
    expected = network.state_dict()
    missing, surplus = expected.keys() - stated.keys(), stated.keys() - expected.keys()
    if missing:
        raise ValueError(f"{misfit}: it lacks the tensor {min(missing)!r}, {len(missing)} missing in all")
    if surplus:
        raise ValueError(f"{misfit}: the network has no tensor {min(surplus)!r}, {len(surplus)} too many in all")
    for name, tensor in expected.items():
        shape, dtype = tuple(stated[name].get_shape()), stated[name].get_dtype()
        if shape != tuple(tensor.shape):
            raise ValueError(f"{misfit}: the tensor {name!r} has the shape {shape}, not {tuple(tensor.shape)}")
        known = FLOATS if tensor.is_floating_point() else (_OTHERS.get(str(tensor.dtype).removeprefix("torch.")),)
        if dtype not in known:
            raise ValueError(f"{misfit}: the tensor {name!r} is of type {dtype}, not {' or '.join(map(str, known))}")
