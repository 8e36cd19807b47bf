"""Arrays and tensors of real numbers that users pass, as plain NumPy arrays, or refused with what to pass instead."""

from __future__ import annotations

import sys
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .file_object import described

if TYPE_CHECKING:
    from torch import Tensor


def is_array(item: Any) -> bool:
    """Whether an argument is a NumPy array or a torch tensor."""
    return isinstance(item, np.ndarray) or _is_tensor(item)


def _is_tensor(item: Any) -> bool:
    torch = sys.modules.get("torch")  # without it there are no tensors
    return torch is not None and isinstance(item, torch.Tensor)


def check_array(name: str, item: Any) -> None:
    """Raise TypeError unless an argument of this name, which may also be a file, is an array or a tensor."""
    if is_array(item):
        return
    kind = described(item)
    if isinstance(item, Real):
        kind += ": numbers go into one array, numpy.array(...)"
    elif hasattr(type(item), "__array__") or hasattr(type(item), "__array_interface__"):
        kind += ": convert it with numpy.asarray(...)"
    elif hasattr(type(item), "__dlpack__"):
        kind += ": convert it with torch.from_dlpack(...)"
    raise TypeError(f"{name} must be an array, a tensor, a path, a binary file object or a list of these, got {kind}")


def to_array(item: Any, name: str, taken: str) -> np.ndarray:
    """Turn an array or a tensor into a plain array, in the machine's byte order.

    Parameters
    ----------
    item : array or tensor
    name : str
        What errors call it.
    taken : str
        The numbers that are taken, for errors.

    Raises
    ------
    TypeError
        If it isn't an array of real numbers, or a tensor of a kind that holds them otherwise.
    ValueError
        If values are masked.
    """
    check_array(name, item)
    array = item if isinstance(item, np.ndarray) else _to_numpy(item, name)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers ({taken}), got dtype {array.dtype}")
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} holds {np.ma.count_masked(array)} masked values: pass {name}.filled(0), or leave them out"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def _to_numpy(tensor: Tensor, name: str) -> np.ndarray:
    import torch

    unusual = {
        "nested": (tensor.is_nested, f"a list of its parts, list({name}.unbind())"),
        "masked": (isinstance(tensor, torch.masked.MaskedTensor), f"{name}.to_tensor(0)"),
        "sparse": (tensor.layout != torch.strided, f"{name}.to_dense()"),
        "quantized": (tensor.is_quantized, f"{name}.dequantize()"),
        "meta": (tensor.is_meta, "one that holds values"),
    }
    for kind, (found, instead) in unusual.items():
        if found:
            raise TypeError(f"{name} is a {kind} tensor: pass {instead}")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    narrow = tensor.is_floating_point() and tensor.dtype.itemsize <= 2  # some of these NumPy doesn't have
    try:
        return (tensor.float() if narrow else tensor).numpy()
    except (RuntimeError, TypeError) as error:  # types of 4 bits, subclasses that compute otherwise
        kind = f"{type(tensor).__name__} of {tensor.dtype}"
        raise TypeError(f"{name} is a {kind}, which can't become a NumPy array: {error}") from error
