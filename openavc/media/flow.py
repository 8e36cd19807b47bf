"""Optical flow between consecutive frames (H, W, 3), RGB, float32 in [0, 1]."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

LARGEST = 20.0  # pixels from one frame to the next; ours, the usual limit for flow stored in 8 bits


def with_flow(run: np.ndarray, method: str = "dis") -> np.ndarray:
    """Append the flow from each frame of a run to the next to the colours of its middle frame.

    Returns
    -------
    image : ndarray, shape (H, W, 3 + 2 (T - 1)), float32 in [0, 1]
        After the colours, flow to the right and flow downwards alternate, scaled like colours: 0.5 is no motion, 0 and
        1 are `LARGEST` pixels or more backwards and forwards. The scale is ours.
    """
    flow = np.concatenate(list(optical_flow(run, method)), axis=-1)  # (H, W, 2 (T - 1))
    colours = 0.5 + flow.clip(-LARGEST, LARGEST) / (2 * LARGEST)
    return np.concatenate([run[len(run) // 2], colours], axis=-1, dtype=np.float32)


def optical_flow(run: np.ndarray, method: str = "dis") -> np.ndarray:
    """Find how far each pixel of a frame moves to the next frame.

    Parameters
    ----------
    run : ndarray, shape (T, H, W, 3)
    method : {"dis", "tvl1"}
        DIS flow (Kroeger et al., ECCV 2016) with OpenCV's defaults; or TV-L1 as in Objects that Sound, which needs
        OpenCV's contributed modules and takes many times longer.

    Returns
    -------
    flow : ndarray, shape (T - 1, H, W, 2), float32
        Motion to the right and motion downwards, in pixels.

    Raises
    ------
    ValueError
        If the method is unknown, or the installed OpenCV lacks it.
    """
    import cv2

    algorithm = _METHODS[check_flow_method(method)]()
    grey = [cv2.cvtColor((frame * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in run]
    return np.stack([algorithm.calc(before, after, None) for before, after in itertools.pairwise(grey)])


def check_flow_method(method: str) -> str:
    """Return the method; raise ValueError if it is unknown."""
    if method not in list(_METHODS):
        raise ValueError(f"flow_method must be one of {', '.join(map(repr, _METHODS))}, got {method!r}")
    return method


def _dis() -> Any:
    import cv2

    return cv2.DISOpticalFlow.create()


def _tvl1() -> Any:
    import cv2

    if not hasattr(cv2, "optflow"):
        raise ValueError(
            "flow_method 'tvl1' needs OpenCV's contributed modules, which aren't here: "
            "pip uninstall opencv-python && pip install opencv-contrib-python; or use 'dis'"
        )
    return cv2.optflow.DualTVL1OpticalFlow_create()


_METHODS: dict[str, Callable[[], Any]] = {"dis": _dis, "tvl1": _tvl1}
