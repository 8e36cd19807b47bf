"""Vectors of videos' pictures and sounds, in the space of each network or in one that CCA finds.

A network whose pictures and sounds share a space is measured there. For others, pooled features are measured and, given
pairs to fit it on, their canonical correlation analysis to 128 components, the baseline of Objects that Sound. The
paper doesn't say how components are weighted; here each is weighted by its correlation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openavc.inference.batches import (
    BATCH_SIZE,
    batched,
    embed_clips,
    embed_windows,
    represent_clips,
    represent_windows,
    to_numpy,
)
from openavc.media.clips import Clip
from openavc.models.contract import AudioVisualModel, Compares, Localizes, check_embedding

from ..datasets.labelled import Video, read_moments
from ..datasets.moments import Span
from .cca import fit_cca

COMPONENTS = 128  # the paper's
CCA_PAIRS = 10  # from each training video

Vectors = tuple[np.ndarray, np.ndarray]  # of pictures and of sounds, (n, D) each


@dataclass(frozen=True)
class Embedded:
    """Vectors of one or several moments of each video, by several networks."""

    vectors: list[Vectors]  # of each network
    numbers: np.ndarray  # (n,) number of each vector's video
    failures: list[str]  # errors of the videos that couldn't be read


def is_joint(network: AudioVisualModel) -> bool:
    """Whether sounds and pictures share a space in which they can be searched."""
    return all("joint" in sizes for sizes in network.embedding_sizes.values())


def embed(networks: list[AudioVisualModel], videos: list[Video], seed: int, per_video: int = 1) -> Embedded:
    """Read moments of all videos once, and embed the clips that each network cuts from them.

    Raises
    ------
    ValueError
        If a network doesn't embed both pictures and sounds, or no video can be read.
    """
    for network in networks:
        check_embedding(network, "image", "features")
        check_embedding(network, "audio", "features")
    parts: list[list[Vectors]] = [[] for _ in networks]
    numbers: list[int] = []
    failures: list[str] = []
    for batch in batched(_clips(networks, videos, seed, per_video, failures), BATCH_SIZE):
        numbers += [number for number, _ in batch]
        for network, into in zip(networks, parts, strict=True):
            into.append(_vectors(network, [clips[network.frames, network.sound] for _, clips in batch]))
    if not numbers:
        raise ValueError(f"no video could be read, of {len(videos)}: {failures[0]}")
    vectors = [tuple(np.concatenate(modality) for modality in zip(*of_network, strict=True)) for of_network in parts]
    return Embedded(vectors, np.array(numbers), failures)


def _clips(
    networks: list[AudioVisualModel], videos: list[Video], seed: int, per_video: int, failures: list[str]
) -> Iterator[tuple[int, dict[tuple, Clip]]]:
    """Yield (number of the video, a clip for each kind of input) of all moments; errors go to `failures`."""
    inputs = {(network.frames, network.sound) for network in networks}
    for number, moment in read_moments(videos, Span.of(networks), seed, per_video):
        if isinstance(moment, Exception):
            failures.append(str(moment))
        else:
            yield number, {taken: moment.clip(*taken) for taken in inputs}


def _vectors(network: AudioVisualModel, clips: list[Clip]) -> Vectors:
    """Embed the frames and the sounds of clips: as the network compares them, or else by its features.

    A network that localises compares maps instead of vectors, so its features are taken.
    """
    frames = ((number, network.precompute_frames(clip.frames)) for number, clip in enumerate(clips))
    windows = ((number, clip.samples) for number, clip in enumerate(clips))
    if isinstance(network, Compares) and not isinstance(network, Localizes):
        seen, heard = represent_clips(network, frames), represent_windows(network, windows)
    else:
        seen, heard = embed_clips(network, frames, "features"), embed_windows(network, windows, "features")
    return to_numpy((row for _, row in seen), network), to_numpy((row for _, row in heard), network)


def cca_space(training: Vectors, vectors: Vectors, components: int) -> Vectors:
    """Project pictures and sounds to the space that CCA finds on training pairs, weighted by the correlations.

    The weights are ours: most of 128 components are noise, and with equal weights they drown what the network itself
    had learned of sounds. The paper's figures don't show such a loss.
    """
    cca = fit_cca(*training, components)
    return cca.project_x(vectors[0]) * cca.correlations, cca.project_y(vectors[1]) * cca.correlations


def fit_spaces(
    networks: dict[str, AudioVisualModel],
    videos: list[Video],
    seed: int,
    training: list[Video],
    components: int = COMPONENTS,
) -> tuple[dict[str, Vectors], list[Video], list[str]]:
    """Embed all videos that can be read in each network's space.

    Parameters
    ----------
    networks : dict
        Name -> network.
    videos : list of Video
    seed : int
        Seed of the moments.
    training : list of Video
        Other videos, whose labels aren't used; with some, networks without a joint space also get one by CCA.
    components : int
        Number of components of CCA.

    Returns
    -------
    spaces : dict
        Name of a row -> vectors of pictures (n, D) and of sounds (n, D).
    videos : list of Video
        The n videos.
    failures : list of str
        Errors of the videos that couldn't be read.

    Raises
    ------
    ValueError
        If CCA would be fitted on some of `videos`.
    """
    shared = {video.name for video in videos} & {video.name for video in training}
    if shared:
        raise ValueError(
            f"--cca-on must be other videos than --data, and {len(shared)} are in both, such as {min(shared)}"
        )
    embedded = embed(list(networks.values()), videos, seed)
    spaces = dict(zip(networks, embedded.vectors, strict=True))
    failures = embedded.failures
    separate = {name: network for name, network in networks.items() if not is_joint(network)}
    if training and separate:
        pairs = embed(list(separate.values()), training, seed, CCA_PAIRS)
        failures = failures + pairs.failures
        for name, fitted_on in zip(separate, pairs.vectors, strict=True):
            spaces[f"{name} with CCA"] = cca_space(fitted_on, spaces[name], components)
    return spaces, [videos[number] for number in embedded.numbers], failures
