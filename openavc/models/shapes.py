"""Networks built as shapes, without the numbers that they would begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """Leaves out numbers where tensors are made on the meta device; PyTorch 2.3 to 2.6 import a compiler for them."""

    def __torch_function__(
        self, function: Callable, types: Iterable, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (torch.zeros, torch.ones):
            function = torch.empty
        if function.__name__.endswith(("uniform_", "normal_")):  # of torch.nn.init and of tensors
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
