"""The parameters that a step must move: all except those that provably have no effect."""

import itertools

import torch
from torch import nn

CONVOLUTIONS, NORMS = (nn.Conv2d, nn.Conv3d), (nn.BatchNorm2d, nn.BatchNorm3d)


def without_effect(network: nn.Module) -> set[str]:
    """Return the biases of convolutions directly before BatchNorm, which removes any constant in training."""
    names = set()
    for path, layers in network.named_modules():
        if isinstance(layers, nn.Sequential):
            for (name, layer), (_, following) in itertools.pairwise(layers.named_children()):
                if isinstance(layer, CONVOLUTIONS) and isinstance(following, NORMS) and following.training:
                    names.add(f"{path}.{name}.bias".removeprefix("."))
    return names


def has_no_effect(network: nn.Module, name: str) -> bool:
    """Whether the parameter of that name has a gradient of 0 except for rounding."""
    return name in without_effect(network)


def check_gradients(network: nn.Module) -> None:
    """Check, after a backward pass, that gradients are finite and reach every parameter that has an effect."""
    excused = without_effect(network)
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        if name not in excused:
            assert parameter.grad.any(), name
