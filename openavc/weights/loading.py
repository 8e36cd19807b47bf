"""Networks loaded from weights files: finding a file, reading its header, building the network for its tensors."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import keras
from .digests import sha256_of
from .manifest import list_models
from .sources import fetch

if TYPE_CHECKING:
    import torch

    from ..models.contract import AudioVisualModel

# Options that the weights fix: any other value would contradict the tensors or the training.
FIXED_OPTIONS = ("input_repr", "widths", "modalities", "rectified", "motion", "frames", "frame_rate")


def load_model(
    name_or_path: str | os.PathLike | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **options: Any,
) -> AudioVisualModel:
    """Load a model in evaluation mode; pass it as `model=` to keep it between calls.

    Parameters
    ----------
    name_or_path : str, path or None
        A name of `list_models()`, fetched and verified on first use; a safetensors file that `training` or
        `openavc import-openl3` wrote; an .h5 or .h5.gz file of OpenL3 or EdgeL3; or None for the default, which ships
        with the package.
    device : str or torch.device, optional
        By default CUDA if there is one, otherwise the CPU.
    dtype : torch.dtype or str, optional
        float32 by default.
    **options
        Options of the architecture, such as `embedding_size=512` for L3-Net and OpenL3, `frontend="kapre-0.3.5"` for
        OpenL3, and `input_repr="mel256"` for a file of OpenL3 whose name doesn't include it. Those that the weights fix
        (`input_repr`, `widths`, `modalities`, `rectified`, `motion`, `frames`, `frame_rate`) must be as in the file.

    Returns
    -------
    model : AudioVisualModel
        With `name`, `sha256` (of the file) and `architecture` (the options it was built with).

    Raises
    ------
    ValueError
        For an unknown name or option, or a file that doesn't fit.
    TypeError
        If `name_or_path` is neither a string nor a path.
    FileNotFoundError, OSError
        If the file is missing, damaged or can't be downloaded.
    """
    from ..models.layers import weights_channels_last

    device, dtype = choose_device(device), to_dtype(dtype)
    name, path = locate(name_or_path)
    if path.name.endswith(keras.ENDINGS):
        architecture, tensors = keras.read_openl3(path, input_repr=options.get("input_repr"))
    else:
        architecture, tensors = _read_safetensors(path)
    _check_options(path, architecture, options)
    architecture |= options
    model = build_model(architecture)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path} doesn't fit {type(model).__name__}: {error}") from error
    model.name, model.sha256, model.architecture, model.options = name, sha256_of(path), architecture, options
    model = weights_channels_last(model.to(device=device, dtype=dtype))
    return model.eval().requires_grad_(False)


def locate(name_or_path: str | os.PathLike | None = None) -> tuple[str, Path]:
    """Return the name and the verified file of a model.

    Parameters
    ----------
    name_or_path : str, path or None
        As in `load_model`.

    Returns
    -------
    name : str
        Name in the manifest, or the file's name without its ending.
    path : Path

    Raises
    ------
    TypeError
        If it is neither a string nor a path.
    ValueError
        If there is no model of that name.
    OSError
        If the file is missing, damaged or can't be downloaded.
    """
    if name_or_path is None:
        name_or_path = list_models()[0]
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"model must be a name, a path or a loaded model, got {type(name_or_path).__name__}")
    path = Path(name_or_path)
    endings = (".safetensors", *keras.ENDINGS)
    looks_like_path = isinstance(name_or_path, os.PathLike) or path.name.endswith(endings) or len(path.parts) > 1
    if name_or_path in list_models() or not (looks_like_path or path.is_file()):
        return str(name_or_path), fetch(str(name_or_path))  # the error for an unknown name lists the nearest ones
    if path.is_file():
        ending = next((ending for ending in endings if path.name.endswith(ending)), path.suffix)
        return path.name.removesuffix(ending), path
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the weights file in it")
    raise FileNotFoundError(f"there is no weights file {path}; named models are {', '.join(list_models())}")


def modalities_of(path: str | Path) -> list[str]:
    """Return which towers a weights file holds, by its header or by its first layer: "audio", "image" or both.

    Parameters
    ----------
    path : str or Path
        A safetensors file, or one of OpenL3 or EdgeL3.

    Raises
    ------
    OSError, ValueError
        As `load_model` does for a file that is damaged or of another kind.
    """
    path = Path(path)
    if path.name.endswith(keras.ENDINGS):
        return [keras.read_modality(path)]
    return _read_safetensors(path)[0].get("modalities", ["audio", "image"])


def build_model(architecture: dict) -> AudioVisualModel:
    """Build an untrained network.

    Parameters
    ----------
    architecture : dict
        `architecture`, one of `models.ARCHITECTURES`, and the options of that network.

    Raises
    ------
    ValueError
        If there is no such architecture or option.
    """
    from ..models import ARCHITECTURES

    options = dict(architecture)
    kind = options.pop("architecture", None)
    if kind not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {kind!r}; known: {', '.join(ARCHITECTURES)}")
    known = list(inspect.signature(ARCHITECTURES[kind]).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{kind} has no option {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    return ARCHITECTURES[kind](**options)


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the requested device; by default CUDA if there is one, otherwise the CPU.

    Raises
    ------
    ValueError
        If the device can't be used here.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", torch.cuda.current_device())  # as tensors name it
    except (RuntimeError, AssertionError, TypeError, ImportError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} can't be used here: {str(error).splitlines()[0]}") from error
    return chosen


def to_dtype(dtype: str | torch.dtype | None = None) -> torch.dtype:
    """Return the requested type of numbers, given as a torch.dtype or by name; float32 by default.

    Raises
    ------
    ValueError
        If `dtype` isn't one of the four types of floats that networks compute in.
    """
    import torch

    if dtype is None:
        return torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if chosen in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        return chosen
    raise ValueError(f"dtype must be float32, float16, bfloat16 or float64, got {dtype!r}")


def _check_options(path: Path, architecture: dict, options: dict) -> None:
    """Raise ValueError if an option that the weights fix is given another value than in the file.

    Options that the architecture lacks are left to `build_model`.
    """
    from ..models import ARCHITECTURES

    kind = ARCHITECTURES.get(str(architecture.get("architecture")))
    known = inspect.signature(kind).parameters if kind else {}
    for option in options.keys() & known.keys() & set(FIXED_OPTIONS):
        if option == "input_repr" and "audio" not in architecture.get("modalities", ("audio",)):
            continue  # an option of sound, for which the file has no tower
        fixed, asked = architecture.get(option, known[option].default), options[option]
        if json.dumps(fixed) != json.dumps(asked, default=repr):  # a tuple equals a list
            raise ValueError(f"{path} doesn't fit: its {option} is {fixed!r}, not {asked!r}: leave {option} out")


def _read_safetensors(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the architecture that a file's header names, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise OSError(f"{path} is not a safetensors file, or is cut short: {error}") from error
    if "architecture" not in metadata:
        raise ValueError(f"{path} doesn't name its architecture in its header; only files written by openavc load")
    return _read_architecture(path, metadata["architecture"]), tensors


def _read_architecture(path: Path, header: str) -> dict:
    """Return the architecture in a header; raise ValueError unless it is a JSON object."""
    try:
        architecture = json.loads(header)
    except json.JSONDecodeError:
        architecture = header
    if not isinstance(architecture, dict):
        raise ValueError(
            f"{path} has {header!r} for its architecture; a JSON object of a network's options was expected"
        )
    return architecture
