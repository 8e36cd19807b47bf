"""What single units of the towers answer to, without the other modality (L3 paper, section 4.3).

A unit is a channel of the last map; its activation is the map's maximum (pool4). Moments are a frame and the sound
around it; units are ranked by the moments that excite them most, at most one of each video. Labels, a clip's first
one or its level, serve only to name what a unit prefers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from openavc.image import fit
from openavc.inference import prepared_audio, prepared_images, run_batches

from ..data import Clip, Shards

TOP = 5  # moments shown of each unit, in the paper
CLUSTERS = 64  # unsure whether the paper's
_PERMUTATIONS = 10


@dataclass(frozen=True)
class Moments:
    """Frames, the sounds around them, and what is known of each."""

    images: np.ndarray  # (n, size, size, 3) float32
    waveforms: np.ndarray  # (n, window_samples) float32
    labels: np.ndarray  # (n,) str
    sources: np.ndarray  # (n,) int, number of the video


def read_moments(shards: Shards, model, per_clip: int) -> Moments:
    """Evenly spaced frames of each clip among those whose sound window lies within it; else the middle frame."""
    sources = {source: number for number, source in enumerate(dict.fromkeys(clip.source for clip in shards.clips))}
    images, waveforms, labels, numbers = [], [], [], []
    for clip in shards.clips:
        for index in _frames(clip, model.window_seconds / 2, per_clip):
            images.append(fit(shards.frame(clip, index), model.image_size))
            time = clip.frame_times[index]
            waveforms.append(shards.waveform(clip, time, model.window_seconds, model.sample_rate))
            labels.append((clip.labels or (clip.level,))[0])
            numbers.append(sources[clip.source])
    return Moments(np.stack(images), np.stack(waveforms), np.array(labels), np.array(numbers))


def _frames(clip: Clip, margin: float, count: int) -> np.ndarray:
    inside = np.flatnonzero((clip.frame_times >= margin) & (clip.frame_times <= clip.seconds - margin))
    if not len(inside):
        return np.array([len(clip.frame_times) // 2])
    return np.unique(inside[((np.arange(count) + 0.5) * len(inside) / count).astype(int)])  # middles of equal parts


def feature_maps(model, modality: str, moments: Moments, chosen: np.ndarray):
    """The last map (C, H, W) of a tower for each of the chosen moments, one by one."""
    if not hasattr(model, f"{modality}_tower"):
        raise ValueError(f"{model.name} has no {modality}_tower, whose units could be looked at")
    if modality == "image":
        items, network = moments.images, lambda batch: model.image_tower(prepared_images(model, batch))
    else:
        items, network = moments.waveforms, lambda batch: model.audio_tower(prepared_audio(model, batch))
    for _, feature_map in run_batches(((index, items[index]) for index in chosen), 32, model, network):
        yield feature_map


def activations(model, modality: str, moments: Moments) -> np.ndarray:
    """pool4 of each moment: (n, C)."""
    everything = np.arange(len(moments.labels))
    return np.stack([found.max(axis=(1, 2)) for found in feature_maps(model, modality, moments, everything)])


@dataclass(frozen=True)
class Unit:
    """A unit and the moments that excite it most."""

    number: int
    top: np.ndarray  # (TOP,) indices of moments, the strongest first
    label: str  # the most frequent one among them
    purity: float  # its share
    contrast: float  # mean activation of the top over that of all, in standard deviations


def rank_units(activation: np.ndarray, moments: Moments) -> list[Unit]:
    """All units that vary, the most selective first: by the purity of their top moments, then by contrast.

    Raises
    ------
    ValueError
        If no unit varies.
    """
    varying = np.flatnonzero(activation.std(axis=0) > 1e-6)
    if not len(varying):
        raise ValueError(f"none of {activation.shape[1]} units varies over {len(activation)} moments")
    units = [_unit(number, activation[:, number], moments) for number in varying]
    return sorted(units, key=lambda unit: (-unit.purity, -unit.contrast, unit.number))


def _unit(number: int, activation: np.ndarray, moments: Moments) -> Unit:
    order = np.argsort(-activation, kind="stable")
    _, first = np.unique(moments.sources[order], return_index=True)  # the strongest moment of each video
    top = order[np.sort(first)[:TOP]]
    names, counts = np.unique(moments.labels[top], return_counts=True)
    contrast = (activation[top].mean() - activation.mean()) / activation.std()
    best = int(counts.argmax())
    return Unit(int(number), top, str(names[best]), float(counts[best] / len(top)), float(contrast))


def class_units(units: list[Unit]) -> list[str]:
    """Labels that have a unit whose top moments, TOP of different videos, are all theirs.

    The paper counts classes with a unit that prefers them; how it decides is unsure, so this criterion is ours.
    """
    return sorted({unit.label for unit in units if unit.purity == 1 and len(unit.top) == TOP})


def heatmap(feature_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """One unit's map (H, W) enlarged bilinearly to `shape`, as if it covered all of the input."""
    enlarged = F.interpolate(torch.from_numpy(feature_map)[None, None], shape, mode="bilinear", align_corners=False)
    return enlarged[0, 0].numpy()


def cluster_nmi(activation: np.ndarray, labels: np.ndarray, clusters: int, seed: int) -> tuple[float, np.ndarray]:
    """Normalised mutual information of k-means clusters with the labels, in [0, 1], and the clusters (n,)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    if clusters > len(activation):
        raise ValueError(f"{clusters} clusters need as many moments, there are {len(activation)}")
    found = KMeans(clusters, n_init=3, random_state=seed).fit_predict(activation)
    return float(normalized_mutual_info_score(labels, found)), found


def chance_nmi(clusters: np.ndarray, moments: Moments, seed: int) -> float:
    """NMI of clusters with labels dealt anew to whole videos: moments of one video are alike without any label."""
    from sklearn.metrics import normalized_mutual_info_score

    rng = np.random.default_rng(seed)
    _, first, place = np.unique(moments.sources, return_index=True, return_inverse=True)
    labels = moments.labels[first]
    dealt = [rng.permutation(labels)[place] for _ in range(_PERMUTATIONS)]
    return float(np.mean([normalized_mutual_info_score(names, clusters) for names in dealt]))


def embed_2d(activation: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE: (n, 2)."""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(activation) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(activation)
