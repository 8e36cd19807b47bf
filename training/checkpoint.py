"""Checkpoints, with everything that the next step depends on, and files of only the weights, as openavc reads them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openavc.atomic import write_bytes
from openavc.media.container import existing_file

NAME = "checkpoint.pt"


def save_checkpoint(run: Path, step: int, parts: dict[str, Any]) -> None:
    """Write the state of each part (model, objective, optimizer, scaler) after `step` steps, replacing the last."""
    content = io.BytesIO()  # on a full disk, torch.save into a file doesn't say so
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, content)
    write_bytes(run / NAME, content.getvalue())


def steps_done(run: Path) -> int:
    """Return the number of steps done at a run's checkpoint, 0 if there is none.

    Raises
    ------
    OSError
        If it can't be read, or is damaged.
    """
    state = _read(run / NAME, mmap=True)
    return state["step"] if state else 0


def load_checkpoint(run: Path, parts: dict[str, Any]) -> int:
    """Restore the parts in place, and return the number of steps done, 0 if there is no checkpoint.

    Raises
    ------
    OSError
        If the checkpoint can't be read, is damaged, or has other parts.
    """
    state = _read(run / NAME)
    if not state:
        return 0
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OSError(f"{run / NAME} isn't of this recipe's network, objective and optimizer: {reason}") from error
    return state["step"]


def _read(path: Path, **options: Any) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state = torch.load(existing_file(path), map_location="cpu", weights_only=True, **options)
        if type(state["step"]) is not int or state["step"] < 0:
            raise ValueError(f"its step is {state['step']!r}")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what is damaged raises errors of any type
        raise OSError(
            f"{path} ({path.stat().st_size} bytes) is damaged, or no checkpoint of training.train; without it, the run "
            "would begin anew"
        ) from error
    return state


def save_weights(path: Path, model: nn.Module, architecture: dict, dtype: torch.dtype = torch.float16) -> None:
    """Write the model as a file of `weights_file`."""
    write_bytes(path, weights_file(model, architecture, dtype))


def weights_file(model: nn.Module, architecture: dict, dtype: torch.dtype = torch.float16) -> bytes:
    """Return the model as safetensors with its architecture in the header, as `openavc.load_model` reads it."""
    from safetensors.torch import save

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()

    tensors = {name: convert(tensor) for name, tensor in model.state_dict().items()}
    return save(tensors, metadata={"architecture": json.dumps(architecture)})
