"""Retrieval by class within and across sounds and pictures (Objects that Sound, Table 1).

Each video gives one picture and one sound; each of these queries all pictures and all sounds. A network with a space
that both share is measured there. Of others it is the pooled features, and, with pairs to fit it on, their canonical
correlation analysis to 128 components, the paper's baseline. The paper doesn't say how components are weighed; here
each weighs its correlation.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openavc.correspondence import represent_images, represent_windows
from openavc.inference import check_embedding_option, embed_squares, embed_windows

from . import ndcg
from .bootstrap import interval
from .cca import fit_cca
from .labelled import Video, find_labelled, read_moments
from .ontology import MONSTERS, ClassTree, instrument_classes, read_tree

COMPONENTS = 128  # the paper's
CCA_PAIRS = 10  # of each training video
DIRECTIONS = {"im-im": (0, 0), "im-aud": (0, 1), "aud-im": (1, 0), "aud-aud": (1, 1)}
_BATCH = 32
_MIXED_UP = 1000  # queries, at least


def choose_tree(videos: list[Video], own: ClassTree | None, ontology: Path | None) -> ClassTree:
    """The tree of a file, else the one that comes with the videos, else that of the rendered monsters.

    ValueError if labels aren't in it.
    """
    tree = read_tree(ontology) if ontology else own or read_tree(MONSTERS)
    try:
        tree.check(label for video in videos for label in video.labels)
    except ValueError as error:
        hint = (
            "" if ontology else "; for other labels than the rendered monsters', give the file of a tree (--ontology)"
        )
        raise ValueError(f"{error}{hint}") from None
    return tree


def choose_videos(
    data: Path, ontology: Path | None, instruments: bool, kind: str, own_level: bool
) -> tuple[list[Video], ClassTree]:
    """The labelled videos of `data`, with `instruments` only those of AudioSet-Instruments, and their class tree."""
    found, own = find_labelled(data, kind, own_level)
    videos = [video for video in found if video.labels]
    if not videos:
        raise ValueError(
            f"none of the {len(found)} videos of {data} has labels; shards have those of "
            "training.prepare's --list, or of training.simulate's scenes solo and duo"
        )
    tree = choose_tree(videos, own, ontology)
    if instruments:
        wanted = instrument_classes(tree)
        videos = [video for video in videos if any(tree.key(label) in wanted for label in video.labels)]
    if len(videos) < 2:
        raise ValueError(f"retrieval needs several labelled videos, {data} has {len(videos)}")
    return videos, tree


@dataclass(frozen=True)
class Embedded:
    """What networks make of one moment of each video, or of several."""

    vectors: list[tuple[np.ndarray, np.ndarray]]  # for each network, of pictures (n, D) and sounds (n, D)
    numbers: np.ndarray  # (n,) of the videos they are of
    failures: list[str]  # what was wrong with the others


def embed(networks: list, videos: list[Video], seed: int, per_video: int = 1) -> Embedded:
    """Read moments of all videos once, and embed them with each network; ValueError if none can be read."""
    seconds = max(network.window_seconds for network in networks)
    moments = read_moments(videos, seconds, seed, per_video)
    most = len(videos) * per_video
    tables: dict[tuple[int, int], np.ndarray] = {}  # allocated whole: rows kept one by one would scatter over the heap
    numbers, failures = [], []
    while batch := list(itertools.islice(moments, _BATCH)):
        failures += [str(found) for _, found in batch if isinstance(found, Exception)]
        batch = [(number, found) for number, found in batch if not isinstance(found, Exception)]
        rows = slice(len(numbers), len(numbers) + len(batch))
        numbers += [number for number, _ in batch]
        for place, network in enumerate(networks if batch else ()):
            both = _vectors(network, [moment.prepared(network) for _, moment in batch])
            for modality, found in enumerate(both):
                if (place, modality) not in tables:
                    tables[place, modality] = np.empty((most, len(found[0])), np.float32)
                tables[place, modality][rows] = found
    if not numbers:
        raise ValueError(f"no video could be read, of {len(videos)}: {failures[0]}")
    vectors = [tuple(tables[place, modality][: len(numbers)] for modality in (0, 1)) for place in range(len(networks))]
    return Embedded(vectors, np.array(numbers), failures)


def is_joint(network) -> bool:
    """Whether sounds and pictures share a space in which they can be searched."""
    return "joint" in network.embeddings


def _vectors(network, prepared: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list, list]:
    """Vectors of pictures and of sounds: what the network compares, else its features (AVOL-Net compares maps)."""
    check_embedding_option(network, "image", "features")
    check_embedding_option(network, "audio", "features")
    squares = [(number, image) for number, (image, _) in enumerate(prepared)]
    windows = [(number, waveform) for number, (_, waveform) in enumerate(prepared)]
    if hasattr(network, "compare"):
        seen = [vector for _, vector in represent_images(network, squares)]
        if all(vector.ndim == 1 for vector in seen):
            return seen, [vector for _, vector in represent_windows(network, windows)]
    seen = [vector for _, vector in embed_squares(network, iter(squares), "features", _BATCH)]
    return seen, [vector for _, vector in embed_windows(network, iter(windows), "features", _BATCH)]


def cca_space(
    training: tuple[np.ndarray, np.ndarray], vectors: tuple[np.ndarray, np.ndarray], components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and sounds in the space that CCA finds on training pairs, components weighed by their correlation.

    The weights are ours: most of 128 components are noise, and where all weigh alike they cost what the network itself
    had learned of sounds, which in the paper stays.
    """
    cca = fit_cca(*training, components)
    return cca.project_x(vectors[0]) * cca.correlations, cca.project_y(vectors[1]) * cca.correlations


def fit_spaces(
    networks: dict, videos: list[Video], seed: int, training: list[Video], components: int = COMPONENTS
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[Video], list[str]]:
    """Vectors of all videos that can be read, in each network's space, and what was wrong with the others.

    Parameters
    ----------
    networks : dict
        Name -> network.
    videos : list of Video
    seed : int
        Of the moments.
    training : list of Video
        Others, of which labels aren't used; with some, networks without a joint space have one by CCA, too.
    components : int

    Returns
    -------
    spaces : dict
        Name of a row -> vectors of pictures (n, D) and of sounds (n, D).
    videos : list of Video
        The n.
    failures : list of str

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
    separate = {name: network for name, network in networks.items() if not is_joint(network)}
    if training and separate:
        pairs = embed(list(separate.values()), training, seed, CCA_PAIRS)
        embedded.failures.extend(pairs.failures)
        for name, (images, sounds) in zip(separate, pairs.vectors, strict=True):
            spaces[f"{name} with CCA"] = cca_space((images, sounds), spaces[name], components)
    return spaces, [videos[number] for number in embedded.numbers], embedded.failures


class Search:
    """The database and its queries: what each video may find, and how good that is.

    Parameters
    ----------
    videos : list of Video
    tree : ClassTree
    partner : bool
        Whether a query also searches its own video, across sound and picture; no other of its place either way.
    """

    def __init__(self, videos: list[Video], tree: ClassTree, partner: bool = False):
        self.gain = ndcg.gains([video.labels for video in videos], tree)
        classes = {tree.key(label) for video in videos for label in video.labels}
        self.places = np.array([video.place for video in videos])
        elsewhere = self.places[:, None] != self.places[None]
        across = elsewhere | np.eye(len(videos), dtype=bool) if partner else elsewhere
        others = "the other places, and its own video across sound and picture" if partner else "the other places"
        self.described = (
            f"{len(classes)} classes, {len(set(self.places))} places (levels, or the videos themselves). A query "
            f"searches {others}.\n"
            "Intervals: 95 %, bootstrapped over places. Queries mixed up: each video searches with another's vectors;\n"
            "above chance where frequent classes are found by whatever query."
        )
        self.allowed = {name: elsewhere if start == end else across for name, (start, end) in DIRECTIONS.items()}

    def scores(
        self, vectors: tuple[np.ndarray, np.ndarray], queries: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """nDCG of each query in each direction; none where the two spaces differ in size.

        `queries`, (n,), are the videos whose vectors search in place of each one's own.
        """
        queries = np.arange(len(self.places)) if queries is None else queries
        return {
            name: ndcg.ndcg(vectors[start][queries], vectors[end], self.gain, self.allowed[name])
            for name, (start, end) in DIRECTIONS.items()
            if vectors[start].shape[1] == vectors[end].shape[1]
        }

    def mixed_up(self, vectors: tuple[np.ndarray, np.ndarray], seed: int) -> dict[str, float]:
        """Mean nDCG when each video searches with the vectors of another.

        Above chance where videos of frequent classes are found whatever the query, which chance doesn't tell.
        """
        rng, count = np.random.default_rng(seed), len(self.places)
        runs = [self.scores(vectors, rng.permutation(count)) for _ in range(math.ceil(_MIXED_UP / count))]
        return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}

    def chance(self) -> dict[str, np.ndarray]:
        """nDCG of random rankings."""
        return {name: ndcg.chance(self.gain, self.allowed[name]) for name in DIRECTIONS}

    def summary(self, scores: dict[str, np.ndarray], seed: int) -> dict[str, tuple[float, float, float]]:
        """Mean, and the ends of its 95 % interval, in each direction."""
        return {name: (float(found.mean()), *interval(found, self.places, seed)) for name, found in scores.items()}
