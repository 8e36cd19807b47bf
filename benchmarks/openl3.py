"""How close openavc comes to OpenL3, on every vector that OpenL3 itself computed from a waveform or a picture.

    python benchmarks/openl3.py ../shared/reference

The folder has weights filled from a seed, inputs, and the embeddings that OpenL3 0.4.2 and torchopenl3 computed from
them. Prints the largest absolute difference and the smallest cosine for each input and frontend, over sizes, hops and
centring. Exits with 1 if any is beyond its limit. Takes some minutes.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from openavc.compat import openl3
from openavc.interfaces.openl3.pictures import crops

OURS = {"kapre-tf2.15": "kapre"}  # the same frontend, computed by another version of TensorFlow
SOUNDS = ("noise_48k", "short_48k", "dog_44k", "chirp_stereo_22k")
ANY_SOUND, NOISE, SHORT, PICTURE = 2e-4, 5e-4, 2e-3, 2e-4  # largest difference
# Where float32 in TensorFlow's Fourier transform dominates: the cosine of an independent float64 implementation
COSINES = {
    ("linear", "kapre-0.1.4"): {"dog_44k": 0.99927, "chirp_stereo_22k": 0.9974},
    ("mel256", "kapre-0.1.4"): {"dog_44k": 0.999998, "chirp_stereo_22k": 0.99999},
    ("linear", "kapre-tf2.15"): {"dog_44k": 0.9970, "chirp_stereo_22k": 0.9907},
    ("mel256", "kapre-tf2.15"): {"dog_44k": 0.99996, "chirp_stereo_22k": 0.99982},
    ("linear", "kapre"): {"dog_44k": 0.971, "chirp_stereo_22k": 0.867},
    ("mel256", "kapre"): {"dog_44k": 0.988, "chirp_stereo_22k": 0.944},
}
SLACK = 1.5  # of the distance to 1


def distance(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the largest absolute difference of two arrays (T, D), and the smallest cosine of their rows."""
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(np.abs(ours - theirs).max()), float(((ours * theirs).sum(axis=1) / lengths).min())


def within(input_repr: str, frontend: str, name: str, difference: float, cosine: float) -> bool:
    """Whether a sound's embeddings are as close to OpenL3's as those of a correct implementation."""
    if frontend.startswith("librosa"):
        return difference <= ANY_SOUND
    if name == "noise_48k":
        return difference <= NOISE
    if name == "short_48k":
        return difference <= SHORT if frontend != "kapre" else cosine > 0.9999
    return 1 - cosine <= SLACK * (1 - COSINES[input_repr, frontend][name])


class Reference:
    """A folder of OpenL3's inputs and outputs, to compare with openavc's outputs for the same inputs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sounds, self.pictures = self.load("inputs_audio"), self.load("inputs_image")

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Read the arrays of one file."""
        with np.load(self.folder / f"openl3_{name}.npz") as arrays:
            return dict(arrays)

    def sound(self, name: str) -> tuple[np.ndarray, int]:
        """Return the samples of a sound and their rate in Hz."""
        return self.sounds[name].astype(np.float64), int(self.sounds[f"{name}_sr"])

    @functools.cache  # noqa: B019
    def embed(
        self, input_repr: str, frontend: str, size: int, name: str, hop: float, center: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embed a sound; return (embedding (T, D), timestamps (T,))."""
        path = self.folder / f"openl3_audio_{input_repr}_seeded-v0_4_0.h5.gz"
        model = openl3.models.load_audio_embedding_model_from_path(path, input_repr, size, frontend)
        return openl3.get_audio_embedding(
            *self.sound(name), model, input_repr, center=center, hop_size=hop, frontend=frontend, verbose=False
        )

    def audio_rows(self, input_repr: str) -> Iterator[tuple[str, str, float, float]]:
        """Compare the embeddings of sounds; yield (frontend, sound, difference, cosine) for each."""
        for kind in ("expected", "legacy_expected"):
            stored = self.load(f"audio_{input_repr}_{kind}")
            for key in (key for key in stored if key.endswith("|emb")):
                name, frontend, size, hop, center, _ = key.split("|")
                options = (OURS.get(frontend, frontend), int(size), name, float(hop), center == "True")
                embedding, timestamps = self.embed(input_repr, *options)
                assert np.array_equal(timestamps, stored[key[:-3] + "ts"]), f"timestamps of {key}"
                yield frontend, name, *distance(embedding, stored[key])

    def image_rows(self) -> Iterator[tuple[int, str, float, float]]:
        """Compare the embeddings of pictures; yield (size, picture, difference, cosine) for each."""
        stored = self.load("image_expected")
        for key in (key for key in stored if key.endswith("|emb")):
            name, size, _ = key.split("|")
            path = self.folder / "openl3_image_seeded-v0_4_0.h5.gz"
            model = openl3.models.load_image_embedding_model_from_path(path, int(size))
            embedding, timestamps = openl3.get_image_embedding(
                self.pictures[name], 2.0, model, verbose=False, embedding_size=int(size), strict_openl3=True
            )
            if f"{name}|{size}|ts" in stored:
                assert np.array_equal(timestamps, stored[f"{name}|{size}|ts"]), f"timestamps of {key}"
            yield int(size), name, *distance(embedding, stored[key])

    def spectrogram_rows(self) -> Iterator[tuple[str, str, str, float]]:
        """Compare spectrograms; yield (representation, frontend, sound, difference in decibels) for each."""
        for input_repr in ("linear", "mel256"):
            for key, theirs in self.load(f"audio_{input_repr}_spectrograms").items():
                name, frontend, hop, center, window, _ = key.split("|")
                ours = openl3.preprocess_audio(
                    *self.sound(name), float(hop), input_repr, center == "True", frontend=OURS.get(frontend, frontend)
                )
                yield input_repr, frontend, name, distance(ours[int(window), :, :, 0], theirs)[0]

    def preprocessed(self) -> float:
        """Return the largest difference for the only picture whose network input is known."""
        [theirs] = self.load("image_expected")["photo_300x400_u8|preprocessed"]
        [ours] = crops(lambda: [self.pictures["photo_300x400_u8"]], "the picture", strict_openl3=True)
        return float(np.abs(ours - theirs).max())


def worst(rows: Iterator[tuple]) -> dict[tuple, tuple[float, float]]:
    """Return the largest difference and the smallest cosine among the rows of each key."""
    distances: dict[tuple, tuple[float, float]] = {}
    for *key, difference, cosine in rows:
        largest, smallest = distances.get(tuple(key), (0.0, 1.0))
        distances[tuple(key)] = max(largest, difference), min(smallest, cosine)
    return distances


def cell(difference: float, cosine: float) -> str:
    """Format a cell of the tables."""
    return f"{difference:.1e} / {cosine:.6f}"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Print how far openavc is from OpenL3."""
    warnings.simplefilter("ignore", openl3.OpenL3Warning)
    reference, beyond = Reference(folder), []
    click.echo(f"| sound | {' | '.join(SOUNDS)} |\n|{'---|' * (1 + len(SOUNDS))}")
    for input_repr in ("linear", "mel256"):
        rows = worst(reference.audio_rows(input_repr))
        for frontend in dict.fromkeys(frontend for frontend, _ in rows):
            cells = [cell(*rows[frontend, name]) for name in SOUNDS]
            click.echo(f"| {input_repr} `{frontend}` | {' | '.join(cells)} |")
        beyond += [(input_repr, *key) for key, value in rows.items() if not within(input_repr, *key, *value)]
    rows = worst(reference.image_rows())
    names = list(reference.pictures)
    click.echo(f"\n| picture | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}")
    for size in (8192, 512):
        click.echo(f"| {size} | {' | '.join(cell(*rows[size, name]) for name in names)} |")
    beyond += [key for key, (difference, _) in rows.items() if difference > PICTURE]
    click.echo("\n| spectrogram | noise_48k | dog_44k |\n|---|---|---|")
    spectrograms = {(kind, frontend, name): value for kind, frontend, name, value in reference.spectrogram_rows()}
    for kind, frontend in dict.fromkeys(key[:2] for key in spectrograms):
        cells = [f"{spectrograms[kind, frontend, name]:.1e} dB" for name in ("noise_48k", "dog_44k")]
        click.echo(f"| {kind} `{frontend}` | {' | '.join(cells)} |")
    beyond += [key for key, value in spectrograms.items() if key[2] == "noise_48k" and value > 1e-3]
    click.echo(f"\nphoto_300x400_u8 as the network takes it: {reference.preprocessed():.1e}")
    click.echo(f"beyond the limit: {', '.join(map(str, beyond)) or 'none'}")
    sys.exit(1 if beyond else 0)


if __name__ == "__main__":
    main()
