"""PyTorch's interface: a data set of the aligned windows of sound and pictures of videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..inference.arguments import check_moments, get_model
from ..inference.inputs import model_clips
from ..lines import one_line, warn


class AlignedWindows(IterableDataset):
    """The moments of videos: frames, and the sound around them, as a network takes them.

    Videos are read in their order and in constant memory, those of a `DataLoader` with workers by one worker each. The
    moments of a video follow one another: shuffle them yourself for training, and give each process of a distributed
    one its own videos. Items are dictionaries, which a `DataLoader` batches by itself:

    - `frames`, (T, H, W, 3) float32 in [0, 1], or (1, H, W, 3) for networks that see pictures
    - `samples`, (n, channels) float32, at the network's rate, centred on the time of the middle frame
    - `time`, of the middle frame, in seconds
    - `video`, its path

    A file that can't be read is warned of, and costs the others nothing.

    Parameters
    ----------
    videos : sequence of paths
    model : optional
        Whose inputs these are to be: a name, a weights file or a network, as in `openavc.video_scores`.
    frame_rate : float, optional
        Moments a second; `None` is every frame, or every clip without overlap for a network that sees several frames.

    Raises
    ------
    TypeError
        If `videos` is a single path.
    ValueError
        If the model doesn't take both sound and pictures, or `frame_rate` isn't above 0.

    Examples
    --------
    >>> from openavc.data import AlignedWindows
    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader(AlignedWindows(["clip.mp4"]), batch_size=16)  # doctest: +SKIP
    """

    def __init__(self, videos: Sequence[str | os.PathLike], model: Any = None, frame_rate: float | None = 1.0) -> None:
        if isinstance(videos, str | bytes | os.PathLike):
            raise TypeError(f"videos must be a sequence of paths, got the single path {os.fspath(videos)!r}")
        network = get_model(model, "cpu")  # of which only the inputs are used
        if network.sound is None or network.frames is None:
            raise ValueError(
                f"{network.name} doesn't take both sound and pictures; choose another, such as ave-natural"
            )
        self.videos, self.model = list(videos), network
        self.frame_rate = check_moments(frame_rate, network.frames)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the moments of all videos, or of a `DataLoader` worker's share of them."""
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for video in self.videos[first::step]:
            try:
                for clip in model_clips(video, self.model, self.frame_rate):
                    frames = torch.from_numpy(np.ascontiguousarray(clip.frames))
                    samples = torch.from_numpy(np.ascontiguousarray(clip.samples))
                    yield {"frames": frames, "samples": samples, "time": clip.time, "video": os.fspath(video)}
            except (OSError, ValueError) as error:
                warn(f"passed over: {one_line(error)}")
