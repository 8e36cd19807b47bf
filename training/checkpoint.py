"""Checkpoints of a run: everything that the next step depends on, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import nn

NAME = "checkpoint.pt"


def save_checkpoint(run: Path, step: int, parts: dict) -> None:
    """Write the state of each part (model, objective, optimizer, scaler) after `step` steps; replaces the last one."""
    partial = run / f"{NAME}.partial"
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
    os.replace(partial, run / NAME)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whoever is killed meanwhile leaves the one before."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def load_checkpoint(run: Path, parts: dict) -> int:
    """Restore the parts in place; returns the number of steps done, 0 if there is no checkpoint."""
    path = run / NAME
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]


def save_weights(path: Path, model: nn.Module, architecture: dict, dtype: torch.dtype = torch.float16) -> None:
    """Write the model as safetensors with its architecture in the header, as `openavc.load_model` reads it."""
    from safetensors.torch import save

    def convert(tensor):
        return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()

    tensors = {name: convert(tensor) for name, tensor in model.state_dict().items()}
    write_whole(path, save(tensors, metadata={"architecture": json.dumps(architecture)}))
