"""Networks loaded from weights files: finding a file, reading its header, building the network for its tensors."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regular import check_regular
from . import keras
from .digests import sha256_of
from .folders import commit_of, digest_of, is_folder, read_folder
from .manifest import list_models
from .networks import build_model, outline
from .sources import fetch
from .tensors import check_numbers, read_architecture, read_safetensors

if TYPE_CHECKING:
    import torch

    from ..models.contract import AudioVisualModel

# Options that the weights fix: any other value would contradict the tensors or the training.
FIXED_OPTIONS = ("input_repr", "widths", "modalities", "rectified", "motion", "frames", "frame_rate", "classes")


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
        `openavc import-openl3` wrote; an .h5 or .h5.gz file of OpenL3 or EdgeL3; a folder of PE-AV in transformers'
        layout; or None for the default, which ships with the package.
    device : str or torch.device, optional
        By default CUDA if there is one, otherwise the CPU.
    dtype : torch.dtype or str, optional
        float32 by default.
    **options
        Options of the architecture, such as `embedding_size=512` for L3-Net and OpenL3, `frontend="kapre-0.3.5"` for
        OpenL3, and `input_repr="mel256"` for a file of OpenL3 whose name doesn't include it. Those that the weights fix
        (`input_repr`, `widths`, `modalities`, `rectified`, `motion`, `frames`, `frame_rate`, `classes`) must be as in
        the file. PE-AV takes `seconds=2.0` of a window and `frames=16` of a clip; its hop is half a window.

    Returns
    -------
    model : AudioVisualModel
        With `name`, `sha256` (of the file, or of the list of a folder's files), `revision` (of a folder from the Hub,
        its commit) and `architecture` (the options it was built with).

    Raises
    ------
    ValueError
        For an unknown name or option, a file that doesn't fit, or one with numbers that no network can compute with;
        the message names the file and the tensor.
    TypeError
        If `name_or_path` is neither a string nor a path.
    FileNotFoundError, OSError
        If the file is missing, damaged or can't be downloaded.
    ImportError
        If a package that the model needs, such as transformers for PE-AV, isn't installed.
    """
    from ..models.layers import weights_channels_last

    device, dtype = choose_device(device), to_dtype(dtype)
    name, path = locate(name_or_path)
    if path.is_dir():
        model = read_folder(path, dtype, options)
        model.name, model.sha256, model.revision = name, digest_of(path), commit_of(path)
        model.options = options
        return model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    if path.name.endswith(keras.ENDINGS):
        architecture, tensors = keras.read_openl3(path, input_repr=options.get("input_repr"))
    else:
        architecture, tensors = read_safetensors(path)
    check_numbers(path, tensors, dtype)
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
    """Return the name and the verified file, or folder, of a model.

    Parameters
    ----------
    name_or_path : str, path or None
        As in `load_model`.

    Returns
    -------
    name : str
        Name in the manifest, or the file's name without its ending, or the folder's.
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
    if name_or_path in list_models() or not (looks_like_path or path.is_file() or is_folder(path)):
        return str(name_or_path), fetch(str(name_or_path))  # the error for an unknown name lists the nearest ones
    if path.is_file():
        ending = next((ending for ending in endings if path.name.endswith(ending)), path.suffix)
        return path.name.removesuffix(ending), path
    if is_folder(path):
        return path.resolve().name, path
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder without config.json; name the weights file in it")
    if path.exists():
        check_regular(path)
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
    return list(outline(path, read_architecture(path)).embedding_sizes)


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
