"""Untrained copies of networks, which every evaluation measures beside the trained ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from openavc.inference.batches import prepared_audio, prepared_frames, stacked
from openavc.media.image import fit
from openavc.models.contract import AudioVisualModel, Compares
from openavc.weights import build_model

SETTLING = 256  # pictures and sounds for `settle`, at most
_BATCH = 64


def untrained(model: AudioVisualModel, seed: int) -> AudioVisualModel:
    """Build the same network, freshly initialised."""
    torch.manual_seed(seed)
    fresh = build_model(model.architecture).to(model.device).eval()
    fresh.name, fresh.architecture = "untrained", model.architecture
    return fresh


def settle(network: Compares, pictures: Sequence[np.ndarray], sounds: Sequence[np.ndarray]) -> None:
    """Set the BatchNorm statistics of an untrained network to those of some pictures and as many sounds.

    With the initial statistics, the padding at the borders decides where a map is highest.

    Parameters
    ----------
    network : Compares
    pictures : sequence of ndarray, shape (H, W, 3)
        Float32 in [0, 1].
    sounds : sequence of ndarray, shape (n, channels)
        Windows as the network takes them.
    """
    height, width = network.frames.height, network.frames.width
    clips = [network.precompute_frames(fit(picture, height, width)[None]) for picture in pictures]
    frames, samples = (torch.from_numpy(np.stack(rows)).to(network.device) for rows in (clips, sounds))
    with settling(network):
        for seen, heard in zip(frames.split(_BATCH), samples.split(_BATCH), strict=True):
            network.represent_frames(prepared_frames(network, seen))
            network.represent_audio(prepared_audio(network, heard))


def settle_clips(network: Compares, batches: Iterable[tuple[list[np.ndarray], list[np.ndarray]]]) -> None:
    """Set the BatchNorm statistics of an untrained network to those of batches of clips with their sounds.

    Clips are (T, H, W, 3), float32 in [0, 1], those of a batch of one size; sounds are (n, channels).
    """
    with settling(network):
        for clips, sounds in batches:
            frames = prepared_frames(network, stacked(network, [network.precompute_frames(clip) for clip in clips]))
            network(frames, prepared_audio(network, stacked(network, sounds)))


@contextmanager
def settling(network: AudioVisualModel) -> Iterator[None]:
    """Give BatchNorm the statistics of what runs through the network meanwhile."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
    network.train()
    with torch.inference_mode():
        yield
    network.eval()
