"""The arguments that users pass: models, rates, hops and sizes, checked with errors that say what would work."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..media.arrays import check_array
from ..media.audio import check_sample_rate
from ..media.clips import FramesInput, SoundInput
from ..media.file_object import described, is_file
from ..models.contract import AudioVisualModel, check_embedding
from ..weights import choose_device, load_model, to_dtype

__all__ = ["check_embedding"]  # from the contract, beside the other checks

_LONGEST_HOP, _HIGHEST_FRAME_RATE = 1e6, 1e6  # seconds, frames per second
_loaded: dict[tuple, AudioVisualModel] = {}  # models requested by name or path, kept between calls


def get_model(model: Any = None, device: Any = None, dtype: Any = None, **options: Any) -> AudioVisualModel:
    """Return the model that an argument stands for; a model requested by name or path is loaded only once.

    Parameters
    ----------
    model : str, path, AudioVisualModel or None
        None for the default.
    device, dtype : optional
        As in `load_model`; a loaded model with another device or dtype is copied, and itself stays as it is.
    **options
        As in `load_model`; a loaded model keeps its own.
    """
    if isinstance(model, AudioVisualModel):
        return _converted(model, device, dtype)
    name = None if model is None else str(model)
    key = (name, choose_device(device), to_dtype(dtype), _stamp(model), tuple(sorted(options.items())))
    if key not in _loaded:
        _loaded[key] = load_model(model, device=device, dtype=dtype, **options)
    return _loaded[key]


def _stamp(model: Any) -> int | None:
    """Return when a file, or a file in a folder, was last written; None for a name."""
    path = Path(str(model))
    if model is None or not path.exists():
        return None
    return max(os.stat(each).st_mtime_ns for each in (path, *(path.iterdir() if path.is_dir() else ())))


def _converted(model: AudioVisualModel, device: Any, dtype: Any) -> AudioVisualModel:
    """Return the model itself, or a copy with another device or dtype."""
    if device is None and dtype is None:
        return model
    device = model.device if device is None else choose_device(device)
    dtype = model.dtype if dtype is None else to_dtype(dtype)
    if (device, dtype) == (model.device, model.dtype):
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype)


def check_batch_size(batch_size: Any) -> None:
    """Raise ValueError unless the batch size is a whole number of at least 1."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or not 1 <= batch_size < 2**31:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {shortened(batch_size)}")


def check_hop(hop_size: Any, sound: SoundInput) -> float:
    """Return the hop as a Python float, as NumPy's narrow types drift; raise ValueError if it is below one sample.

    None stands for the model's own.
    """
    if hop_size is None:
        return sound.hop
    least, hop = 1 / sound.sample_rate, hop_size.item() if isinstance(hop_size, np.generic) else hop_size
    if not (_is_real(hop) and least * (1 - 1e-9) <= hop <= _LONGEST_HOP):
        raise ValueError(f"hop_size must be in seconds, at least one sample ({least:.3g} s), got {shortened(hop_size)}")
    return float(hop)


def check_frame_rates(frame_rate: Any, items: int) -> list:
    """Return a rate for each item; raise ValueError unless all are positive numbers."""
    rates = frame_rate if isinstance(frame_rate, list) else [frame_rate] * items
    if len(rates) != items:
        raise ValueError(f"{len(rates)} frame rates were given for {items} items: give one, or one for each")
    for rate in rates if frame_rate is not None else []:
        check_frame_rate(rate)
    return rates


def check_moments(frame_rate: Any, frames: FramesInput) -> float | None:
    """Return the moments a second of a video to embed, None for all frames; None stands for the model's own."""
    if frame_rate is None:
        return None if frames.hop is None else 1 / frames.hop
    check_frame_rate(frame_rate)
    return frame_rate


def check_frame_rate(rate: Any) -> None:
    """Raise ValueError unless the frame rate is a positive number."""
    if not (_is_real(rate) and 0 < rate <= _HIGHEST_FRAME_RATE):
        raise ValueError(f"frame_rate must be a positive number of frames a second, got {shortened(rate)}")


def shortened(value: Any) -> str:
    """Return the text of a value for an error message, shortened to its beginning if it is long."""
    text = repr(value)
    return text if len(text) < 80 else f"{text[:40]}... ({len(text)} characters)"


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def check_file(name: str, item: Any) -> None:
    """Raise TypeError unless an argument of this name is a path or a file object."""
    if not is_file(item):
        raise TypeError(f"{name} must be a path or a binary file object, got {described(item)}")


def pair_rates(audio: Any, sr: Any) -> tuple[list, list]:
    """Return the recordings, from one or a list, and a rate for each, which is checked for arrays."""
    items = audio if isinstance(audio, list) else [audio]
    if not items:
        raise ValueError("the list of recordings is empty")
    rates = sr if isinstance(sr, list | tuple) else [sr] * len(items)
    if len(rates) != len(items):
        raise ValueError(f"{len(rates)} sample rates were given for {len(items)} recordings: give one, or one for each")
    checked = []
    for item, rate in zip(items, rates, strict=True):
        if is_file(item):
            checked.append(rate)
            continue
        check_array("audio", item)
        if rate is None:
            raise ValueError("sr is required for an array: pass its sample rate in Hz")
        checked.append(check_sample_rate(rate))
    return items, checked


def shown(items: Iterable, progress: bool, unit: str) -> Iterable:
    """Pass items on, with a progress bar if `progress` is set."""
    if not progress:
        return items
    from tqdm import tqdm

    return tqdm(items, unit=unit)
