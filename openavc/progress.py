"""A count of the steps that work has taken, by which a watcher tells slow work from work that hangs."""

from __future__ import annotations

_steps = 0


def step() -> None:
    """Count a step: a packet or a block that was read, a batch that begins, a layer that has computed."""
    global _steps
    _steps += 1


def steps() -> int:
    """Return how many steps this process has taken."""
    return _steps


def count_layers() -> None:
    """Count every layer of every network that computes in this process from now on as a step."""
    from torch.nn.modules.module import register_module_forward_hook

    register_module_forward_hook(lambda *_: step())
