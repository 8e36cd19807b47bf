"""The processes of one training run, started by torchrun; every function also works in a single process."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from openavc.weights import choose_device

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(hours=2)  # for the first process, which validates; NCCL's default is 10 minutes


def start(device: str | None) -> torch.device:
    """Join torchrun's process group, if there is one: with NCCL on CUDA, else with gloo.

    Parameters
    ----------
    device : str, optional
        Kind of device; by default CUDA if there is one. Each process of a machine takes its own GPU.

    Returns
    -------
    device : torch.device
        Device of this process.

    Raises
    ------
    ValueError
        If the device can't be used, or a particular GPU is given for several processes.
    """
    if "WORLD_SIZE" not in os.environ:
        return choose_device(device)
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"under torchrun each process takes its own GPU: device must be cpu or cuda, got {device!r}")
    if device == "cuda" or (device is None and torch.cuda.is_available()):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)  # before anything is put on the first GPU
    chosen = choose_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    return chosen


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, 0 for the first."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def processes_here() -> int:
    """Return the number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def gather(tensor: Tensor) -> Tensor:
    """Gather the rows of all processes, in the order of their ranks: (B, ...) to (world * B, ...).

    The gradient of each row goes back to the process it came from, summed over the processes that used it. Together
    with the mean over processes that DistributedDataParallel takes, it equals that of one process with all the rows.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)


def own_rows(tensor: Tensor) -> Tensor:
    """Select this process's rows from those of all processes: (world * B, ...) to (B, ...)."""
    return tensor.chunk(world_size())[rank()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        rows = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(rows, tensor.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return own_rows(gradient)


def mean(values: Tensor) -> Tensor:
    """Average values over the processes, without gradient."""
    if world_size() > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
        values /= world_size()
    return values


def from_first(value: Value) -> Value:
    """Return the first process's value in all processes; it must be picklable."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def wait_for_all() -> None:
    """Wait until all processes have made this call."""
    if world_size() > 1:
        dist.barrier()


def parallel(module: nn.Module, sync_batch_norm: bool) -> nn.Module:
    """Wrap a module so that its gradients, and on request BatchNorm's statistics, are averaged over the processes.

    Otherwise each process normalises by its own part of a batch, and the first process's running statistics are kept.
    """
    if world_size() == 1:
        return module
    if sync_batch_norm:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    devices = [torch.cuda.current_device()] if next(module.parameters()).is_cuda else None
    return nn.parallel.DistributedDataParallel(module, devices, gradient_as_bucket_view=True)
