"""Classifiers on frozen embeddings of sound, beside the same network untrained and log-mel statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from openavc import get_audio_embedding
from openavc.inference.batches import embed_windows, to_numpy
from openavc.media.audio import read_audio, to_channels
from openavc.media.resample import resample
from openavc.models.contract import AudioVisualModel, check_embedding
from openavc.models.frontends import build_frontend

from ..datasets.recordings import Recordings
from ..networks.untrained import untrained
from .report import write_report
from .tables import spread, table

HOP = 0.5  # seconds between windows, if no number of windows is given
_BATCH = 64

Probe = Callable[[list[np.ndarray], Recordings], dict[str, list[float]]]  # features of each recording -> percentages


def measure_probe(
    title: str,
    name: str,
    probe: Probe,
    windows: int | None,
    model: AudioVisualModel,
    recordings: Recordings,
    seeds: range,
    json_path: Path | None,
) -> None:
    """Measure a network, the same untrained and log-mel statistics; print them beside chance, and write them as JSON.

    Parameters
    ----------
    title, name : str
        Title of the table, and name of the figures in the JSON file.
    probe : callable
        Measures features; returns percentages, one for each fold.
    windows : int or None
        As in `embed_recordings`.
    model : AudioVisualModel
    recordings : Recordings
    seeds : range
        Seeds of the untrained networks.
    json_path : Path or None
    """
    trained = probe(embed_recordings(model, recordings, windows), recordings)
    fresh = [
        {key: float(np.mean(values)) for key, values in probe(features, recordings).items()}
        for features in (embed_recordings(untrained(model, seed), recordings, windows) for seed in seeds)
    ]
    mel = probe(log_mel_statistics(recordings, windows), recordings)
    folds = "folds" if len(next(iter(trained.values()))) > 1 else "one split"
    rows = {
        f"{model.name} ({folds})": {key: spread(values) for key, values in trained.items()},
        f"untrained ({len(seeds)} seeds)": {key: spread([run[key] for run in fresh]) for key in trained},
        f"log-mel statistics ({folds})": {key: spread(values) for key, values in mel.items()},
        "chance": {key: f"{100 / len(recordings.classes):.1f}" for key in trained},
    }
    click.echo(table(title, rows))
    figures = {key: float(np.mean(values)) for key, values in trained.items()}
    baseline = {key: [run[key] for run in fresh] for key in trained}
    about = {"folds": trained, "untrained": baseline, "log_mel": mel, "tables": {title: rows}}
    write_report(name, figures, json_path, **about)


def embed_recordings(model: AudioVisualModel, recordings: Recordings, windows: int | None = None) -> list[np.ndarray]:
    """Compute the features (windows, D) of each recording.

    Parameters
    ----------
    model : EmbedsAudio
    recordings : Recordings
    windows : int, optional
        Number of evenly spaced windows of a recording; by default there is one every 0.5 s.

    Raises
    ------
    ValueError
        If the model doesn't embed sound.
    """
    check_embedding(model, "audio", "features")
    if windows is None:
        options = {"hop_size": HOP, "center": False, "batch_size": _BATCH}
        return [get_audio_embedding(path, model=model, **options)[0] for path in recordings.paths]
    return [_embed_evenly(model, path, windows) for path in recordings.paths]


def _embed_evenly(model: AudioVisualModel, path: Path, windows: int) -> np.ndarray:
    samples, rate = read_audio(path)
    samples = resample(to_channels(samples, model.sound.channels), rate, model.sound.sample_rate)
    cut = evenly_spaced(samples, model.sound.samples, windows)
    return to_numpy((row for _, row in embed_windows(model, enumerate(cut), "features", _BATCH)), model)


def evenly_spaced(samples: np.ndarray, length: int, windows: int) -> np.ndarray:
    """Cut evenly spaced windows from the first sample to the last; sound shorter than a window is followed by zeros.

    Parameters
    ----------
    samples : ndarray, shape (n, channels)
    length : int
        Length of a window, in samples.
    windows : int

    Returns
    -------
    ndarray, shape (windows, length, channels)
    """
    samples = np.pad(samples, ((0, max(0, length - len(samples))), (0, 0)))
    starts = np.linspace(0, len(samples) - length, windows).round().astype(int)
    return np.stack([samples[start : start + length] for start in starts])


def log_mel_statistics(recordings: Recordings, windows: int | None = None) -> list[np.ndarray]:
    """Compute mean, standard deviation and maximum over time of 64 log-mel bands, for the same windows.

    Returns
    -------
    features : list of ndarray, shape (windows, 192)
        Statistics of each recording.
    """
    import torch

    frontend = build_frontend("mel64")
    rate, length = frontend.sample_rate, round(frontend.seconds * frontend.sample_rate)
    features = []
    for path in recordings.paths:
        samples, source_rate = read_audio(path)
        waveform = resample(to_channels(samples, 1), source_rate, rate)
        if windows is None:
            padded = np.pad(waveform[:, 0], (0, max(0, length - len(waveform))))
            cut = torch.from_numpy(padded).unfold(0, length, round(HOP * rate))
        else:
            cut = torch.from_numpy(evenly_spaced(waveform, length, windows)[..., 0])
        spectrogram = frontend(cut)  # (W, 64, 77)
        parts = [spectrogram.mean(dim=2), spectrogram.std(dim=2), spectrogram.amax(dim=2)]
        features.append(torch.cat(parts, dim=1).numpy())
    return features
