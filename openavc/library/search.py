"""Search of a library for the moments nearest to a picture or a sound.

PyTorch is imported only when a query is embedded, since another process may do that.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..media.file_object import is_file, name_of
from ..media.loudness import QUIETEST
from ..weights import list_models
from .rows import too_quiet
from .table import MODALITIES, open_library, quoted, recorded_model, to_unit_length
from .versions import ask

if TYPE_CHECKING:
    import torch
    from lancedb.table import Table

    from ..models.contract import AudioVisualModel

# Out of as many partitions as the square root of the number of vectors: this finds more than 99 % of the true 10
# nearest of 100,000 clustered vectors, but less than half for vectors without any clusters (benchmarks/search.py
# --isotropic).
PARTITIONS_PROBED = 40
_MOMENTS_A_SOURCE = 20  # fetched for each hit wanted if each source gives only one hit


class Hit(NamedTuple):
    """A moment that `search` found."""

    source: str  # path of the recording, picture or video
    modality: str  # "audio" or "image"
    timestamp: float | None  # seconds; None for a picture
    score: float  # cosine similarity, in [-1, 1]


def search(
    db: str | os.PathLike,
    *,
    image: Any = None,
    audio: Any = None,
    text: str | None = None,
    sr: int | None = None,
    modality: str | None = None,
    k: int = 10,
    moments: bool = False,
    exact: bool = False,
    model: Any = None,
    device: str | torch.device | None = None,
) -> list[Hit]:
    """Find the moments of a library that are nearest to a picture, to a sound or to a text.

    Parameters
    ----------
    db : str or path
        Folder of a library made by `index_embeddings` or `openavc index`.
    image : array or tensor (H, W, 3), path, or binary file object
        The picture to search for; this, `audio` or `text`.
    audio : array or tensor (n,) or (n, channels), path, or binary file object
        The sound to search for. For a sound longer than the model's window, the query is the mean of the joint
        embeddings of its windows, which overlap by half, scaled to length 1; windows below -42 dBFS are left out.
    text : str
        What to search for, in a library of a model that embeds text (PE-AV). Sounds and pictures are compared with the
        vector that text has for each of the two.
    sr : int or None
        Sample rate in Hz; None for a file.
    modality : {"audio", "image"}, optional
        Modality to search; both by default. Vectors of the query's own modality are usually nearer than the other's.
    k : int
        Number of hits; there are fewer if the library has fewer.
    moments : bool
        Whether to return every moment; by default each source is found only once, at its best moment.
    exact : bool
        Whether to compare with every vector, even if the library has an approximate index.
    model : str, path, model or None
        The model the library was made with; needed only if that was a weights file of your own.
    device : optional
        As in `load_model`.

    Returns
    -------
    hits : list of Hit
        The best first.

    Raises
    ------
    ValueError, TypeError
        For invalid queries or options, sounds below -42 dBFS throughout, and for another model than the library's.
    FileNotFoundError, OSError
        If there is no library, or the query is missing or can't be decoded.
    ImportError
        If LanceDB isn't installed.
    """
    if sum(query is not None for query in (image, audio, text)) != 1:
        raise ValueError("give one of image, audio and text to search for")
    if modality is not None and modality not in MODALITIES:
        raise ValueError(f"modality must be 'audio', 'image' or None for both, got {modality!r}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
    loaded = model_of_library(db, model, device)
    if text is not None:
        vectors = _text_vectors(text, modality, loaded)
        return nearest_of_each(open_library(db), vectors, int(k), moments, exact)
    return nearest(open_library(db), _query_vector(image, audio, sr, loaded), modality, int(k), moments, exact)


def nearest(
    table: Table,
    vector: np.ndarray,
    modality: str | None = None,
    k: int = 10,
    moments: bool = False,
    exact: bool = False,
) -> list[Hit]:
    """Find the moments of a library that are nearest to a vector.

    Parameters
    ----------
    table : Table
        From `open_library`.
    vector : array (D,)
        Of length 1.
    modality, k, moments, exact
        As in `search`.

    Returns
    -------
    hits : list of Hit
        The best first, of one version of the library.
    """
    return ask(table, lambda seen: _nearest(seen, vector, modality, k, moments, exact))


def nearest_of_each(
    table: Table, vectors: dict[str, np.ndarray], k: int = 10, moments: bool = False, exact: bool = False
) -> list[Hit]:
    """Find the moments of a library that are nearest to the vector for their modality; the rest is as in `nearest`."""

    def of_each(seen: Table) -> list[Hit]:
        found = (_nearest(seen, vector, modality, k, moments, exact) for modality, vector in vectors.items())
        hits = sorted(itertools.chain.from_iterable(found), key=lambda hit: -hit.score)
        best = {(hit if moments else hit.source): hit for hit in reversed(hits)}  # the last one, the best, stays
        return list(reversed(best.values()))[:k]

    return ask(table, of_each)


def _nearest(table: Table, vector: np.ndarray, modality: str | None, k: int, moments: bool, exact: bool) -> list[Hit]:
    """Find the nearest moments in the version that a table holds."""
    hits: list[Hit] = []
    limit = min(k if moments else k * _MOMENTS_A_SOURCE, max(1, table.count_rows()))
    conditions = [f"modality = {quoted(modality)}"] if modality else []
    while True:
        seen = {hit.source for hit in hits}
        others = [f"source NOT IN ({', '.join(map(quoted, sorted(seen)))})"] if seen else []
        fetched = _fetch(table, vector, conditions + others, limit, exact)
        if len(fetched) < limit and not exact:  # the probed partitions hold too few matches
            fetched = _fetch(table, vector, conditions + others, limit, exact=True)
        for hit in fetched:
            if moments or hit.source not in seen:
                seen.add(hit.source)
                hits.append(hit)
        if len(hits) >= k or len(fetched) < limit:
            return sorted(hits, key=lambda hit: -hit.score)[:k]


def _fetch(table: Table, vector: np.ndarray, conditions: list[str], limit: int, exact: bool) -> list[Hit]:
    """Return the nearest rows that meet all conditions, given in SQL."""
    query = table.search(np.asarray(vector, dtype=np.float32)).distance_type("dot").limit(limit)
    if conditions:
        query = query.where(" AND ".join(conditions))
    query = query.bypass_vector_index() if exact else query.nprobes(PARTITIONS_PROBED)
    rows = query.select(["source", "modality", "timestamp", "_distance"]).to_arrow().to_pylist()
    # LanceDB's distance is 1 - the scalar product.
    return [Hit(row["source"], row["modality"], row["timestamp"], 1 - row["_distance"]) for row in rows]


def _text_vectors(text: str, modality: str | None, model: AudioVisualModel) -> dict[str, np.ndarray]:
    """Return the vector (D,), of length 1, of a text for each modality to search."""
    from ..inference.text import check_text, get_text_embedding

    known = check_text(model).compared_with
    wanted = known if modality is None else (modality,)
    if not isinstance(text, str):
        raise TypeError(f"one text is searched for at a time, got {type(text).__name__}")
    return {each: to_unit_length(get_text_embedding(text, model, modality=each))[0] for each in wanted}


def _query_vector(image: Any, audio: Any, sr: int | None, model: Any) -> np.ndarray:
    """Return the vector (D,), of length 1, of one picture or of one sound."""
    from ..inference.embedding import get_image_embedding, measured_audio_embedding

    if isinstance(image if audio is None else audio, list):
        raise TypeError("one picture or recording is searched for at a time, got a list: call search for each")
    if image is not None:
        vectors = get_image_embedding(image, model, embedding="joint")
        if len(vectors) != 1:
            raise ValueError(f"one picture is searched for at a time, got {len(vectors)}: call search for each")
    else:
        hop = model.sound.seconds / 2
        options: dict[str, Any] = {"embedding": "joint", "hop_size": hop, "center": False}
        vectors, _, loudness = measured_audio_embedding(audio, sr, model, **options)
        vectors = vectors[loudness >= QUIETEST]
        if not len(vectors):
            raise ValueError(too_quiet(name_of(audio) if is_file(audio) else "the sound to search for"))
    return to_unit_length(vectors.mean(axis=0, keepdims=True))[0]


def model_of_library(db: str | os.PathLike, model: Any, device: Any) -> AudioVisualModel:
    """Return the model that a library was made with; raise ValueError if it must be given, or another one was."""
    from ..inference.arguments import get_model

    recorded = recorded_model(open_library(db))
    if recorded is None:
        raise ValueError(f"the library in {db} is empty: openavc index EMBEDDINGS --db {db}")
    made_with = f"the library in {db} was made with {recorded['model']} (weights {recorded['weights_sha256']})"
    if model is None and recorded["model"] not in list_models():
        raise ValueError(f"{made_with}: give that weights file as model, --model on the command line")
    loaded = get_model(recorded["model"] if model is None else model, device)
    if loaded.sha256 != recorded["weights_sha256"]:
        raise ValueError(f"{made_with}, not with {loaded.name} (weights {loaded.sha256}): give that one as model")
    return loaded
