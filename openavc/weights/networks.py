"""Networks by the name of their architecture, with numbers or as an outline."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.contract import AudioVisualModel


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
    if kind not in list(ARCHITECTURES):  # a list, unlike a dict, also compares what can't be hashed
        raise ValueError(f"unknown architecture {kind!r}; known: {', '.join(ARCHITECTURES)}")
    known = list(inspect.signature(ARCHITECTURES[kind]).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{kind} has no option {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    model = ARCHITECTURES[kind](**options)
    model.architecture = architecture
    return model


def outline(path: Path, architecture: dict) -> AudioVisualModel:
    """Build the network that a file names as shapes without numbers, which take no memory however large they are.

    Raises
    ------
    ValueError
        If there is no such network; the message names the file.
    """
    import torch

    from ..models.shapes import Shapes

    try:
        with torch.device("meta"), Shapes():
            return build_model(architecture)
    except NotImplementedError:  # a network of one's own that computes while it is built
        return build_model(architecture)
    except Exception as error:  # options of wrong types raise errors of any type
        reason = " ".join(str(error).split()[:100])
        raise ValueError(f"{path} names a network that can't be built: {reason}") from error
