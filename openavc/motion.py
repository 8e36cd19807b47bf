"""Motion: runs of consecutive frames, and the optical flow between them, for networks that see several frames at once.

Such a network states how many `frames` it takes, an odd number, and by `join_frames` how they make one image: what its
`prepare_image` takes. Frames are (H, W, 3), RGB, float32 in [0, 1].
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

LARGEST = 20.0  # pixels from one frame to the next; ours, usual for flow that is kept in 8 bits


def frames_of(model) -> int:
    """How many consecutive frames the model takes; 1 unless it says otherwise."""
    return getattr(model, "frames", 1)


def joining(model) -> Callable[[np.ndarray], np.ndarray]:
    """How a run of frames, (T, H, W, 3), makes one image for the model."""
    return getattr(model, "join_frames", only_frame)


def run_needed(model) -> str:
    """What to say where a model that takes runs got something else."""
    return (
        f"{model.name} takes runs of {model.frames} consecutive frames, not single pictures: give it a video "
        f"(get_video_embedding, video_scores), or a stack ({model.frames}, H, W, 3)"
    )


def runs(frames: Iterable[tuple[float, np.ndarray]], length: int) -> Iterator[tuple[float, list[np.ndarray]]]:
    """The time of each frame, and the run of an odd `length` that it is the middle of.

    Beyond the first and the last frame these are repeated (ours).
    """
    half = length // 2
    held: collections.deque = collections.deque(maxlen=length)
    for time, frame in frames:
        held.extend([(time, frame)] * (1 if held else half + 1))  # before the first: itself
        if len(held) == length:
            yield _run(held)
    for _ in range(half if held else 0):  # after the last: itself
        held.append(held[-1])
        if len(held) == length:
            yield _run(held)


def _run(held: collections.deque) -> tuple[float, list[np.ndarray]]:
    return held[len(held) // 2][0], [frame for _, frame in held]


# --------------------------------------------------------------------------------- runs as `prepare_image` takes them


def only_frame(run: np.ndarray) -> np.ndarray:
    """(1, H, W, 3) to (H, W, 3)."""
    return run[0]


def whole_run(run: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) as it is."""
    return run


def with_flow(run: np.ndarray, method: str = "dis") -> np.ndarray:
    """The middle frame of a run, and beside its colours the flow from each frame to the next.

    Returns
    -------
    image : ndarray, shape (H, W, 3 + 2 (T - 1)), float32 in [0, 1]
        Flow to the right and flow downwards by turns, scaled as colours are: 0.5 is no motion, 0 and 1 are `LARGEST`
        pixels or more backwards and forwards. The scale is ours.
    """
    flow = np.concatenate(list(optical_flow(run, method)), axis=-1)  # (H, W, 2 (T - 1))
    colours = 0.5 + flow.clip(-LARGEST, LARGEST) / (2 * LARGEST)
    return np.concatenate([run[len(run) // 2], colours], axis=-1, dtype=np.float32)


# ---------------------------------------------------------------------------------------------------- optical flow


def optical_flow(run: np.ndarray, method: str = "dis") -> np.ndarray:
    """Where each pixel of a frame is in the next.

    Parameters
    ----------
    run : ndarray, shape (T, H, W, 3)
    method : {"dis", "tvl1"}
        DIS flow (Kroeger et al., ECCV 2016) as OpenCV has it by default; or TV-L1 as in Objects that Sound, which needs
        OpenCV's contributed modules and takes many times longer.

    Returns
    -------
    flow : ndarray, shape (T - 1, H, W, 2), float32
        Pixels to the right, and pixels downwards.

    Raises
    ------
    ValueError
        If there is no such method, or OpenCV doesn't have it here.
    """
    import cv2

    algorithm = _METHODS[check_flow_method(method)]()
    grey = [cv2.cvtColor((frame * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in run]
    return np.stack([algorithm.calc(before, after, None) for before, after in itertools.pairwise(grey)])


def check_flow_method(method: str) -> str:
    """The method; ValueError if there is no such one."""
    if method not in _METHODS:
        raise ValueError(f"flow_method must be one of {', '.join(map(repr, _METHODS))}, got {method!r}")
    return method


def _dis():
    import cv2

    return cv2.DISOpticalFlow_create()


def _tvl1():
    import cv2

    if not hasattr(cv2, "optflow"):
        raise ValueError(
            "flow_method 'tvl1' needs OpenCV's contributed modules, which aren't here: "
            "pip uninstall opencv-python && pip install opencv-contrib-python; or use 'dis'"
        )
    return cv2.optflow.DualTVL1OpticalFlow_create()


_METHODS = {"dis": _dis, "tvl1": _tvl1}
