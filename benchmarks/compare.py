"""Compare two checkouts number by number: what users get of one must be what they get of the other.

    python benchmarks/compare.py OLD NEW --reference ../shared/reference --shards shards/solo

OLD and NEW are folders with a checkout each. Both embed the examples with the models that ship (all hops, centred or
not, lists, streams, pictures, videos), score, localise and search them. With `--reference`, both also embed with
OpenL3's networks of seeded weights, in all variants of their spectrograms; with `--shards` (from `training.simulate
--scene solo`), both train every recipe called small for 12 steps. Prints the largest difference of each result,
relative to its largest value, and exits with 1 if any is above the limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

LIMIT = 1e-6
EXPLAINED = {  # results that may differ more, up to a hundred-thousandth, and why
    "maps of a video": "pictures go through the network eight at once, and convolutions of a batch round differently",
}
HOPS = (0.05, 0.1, 0.13, 0.35, 0.5, 1.0, 2.5)  # seconds
VARIANTS = ("kapre-0.1.4", "kapre-0.3.5", "librosa", "librosa-0.10")
STEPS = 12


# -------------------------------------------------------------------------------------------- what one checkout gives


def sounds() -> dict[str, tuple[np.ndarray, int]]:
    """Make sounds with various rates, types and numbers of channels."""
    rng = np.random.default_rng(0)
    return {
        "noise": (rng.uniform(-0.5, 0.5, 3 * 44_100 + 17).astype(np.float32), 44_100),
        "stereo": ((rng.uniform(-1, 1, (70_000, 2)) * 20_000).astype(np.int16), 22_050),
        "short": (rng.uniform(-0.5, 0.5, 9_000), 48_000),
    }


def embeddings() -> Iterator[tuple[str, np.ndarray]]:
    """Embed sounds, pictures and videos with the default model."""
    import openavc

    inputs = sounds() | {"ogg": ("examples/cyberdemon.ogg", None), "mp4": ("examples/freedoom.mp4", None)}
    for name, (audio, sr) in inputs.items():
        for hop in HOPS:
            for center in (True, False):
                options = {"hop_size": hop, "center": center}
                for kind in ("features", "joint"):
                    found, timestamps = openavc.get_audio_embedding(audio, sr, embedding=kind, **options)
                    yield f"{kind} of {name}", found
                    yield f"timestamps of {name}", timestamps
                streamed = openavc.stream_audio_embedding(audio if sr is None else [audio], sr, **options)
                yield f"stream of {name}", np.stack([vector for vector, _ in streamed])
    audios, rates = zip(*sounds().values(), strict=True)
    for found in openavc.get_audio_embedding(list(audios), list(rates))[0]:
        yield "list of sounds", found
    for kind in ("features", "joint"):
        yield f"{kind} of pictures", openavc.get_image_embedding(pictures(), embedding=kind)
        for rate in (None, 3.0):
            for part in openavc.get_video_embedding("examples/freedoom.mp4", embedding=kind, frame_rate=rate):
                yield f"{kind} of a video", part


def pictures() -> np.ndarray:
    """Make a stack of pictures."""
    return np.random.default_rng(1).integers(0, 256, (3, 90, 150, 3), dtype=np.uint8)


def scores() -> Iterator[tuple[str, np.ndarray]]:
    """Score pairs, all pairs, and the moments of videos."""
    import openavc

    audio, rate = sounds()["noise"]
    for model in ("ave-small", "avol-small"):
        yield f"scores, {model}", np.asarray(openavc.correspondence_score(audio, rate, pictures(), model))
        audios = [found for found, _ in sounds().values()]
        rates = [found for _, found in sounds().values()]
        yield f"matrix, {model}", openavc.correspondence_matrix(audios, rates, pictures(), model)
        for video in ("examples/freedoom.mp4", "examples/duo.mp4"):
            for part in openavc.video_scores(video, model, frame_rate=2.0):
                yield f"scores of a video, {model}", part


def maps() -> Iterator[tuple[str, np.ndarray]]:
    """Localise in pictures and videos, with their own sound or another."""
    import openavc

    audio, rate = sounds()["noise"]
    for picture in pictures():
        yield "maps of pictures", openavc.localize_sound(picture, audio, rate)
    for other in (None, "examples/cyberdemon.ogg"):
        for time, frame, heatmap in openavc.localize_video("examples/duo.mp4", audio=other, frame_rate=2.0):
            yield "maps of a video", heatmap
            yield "frames of a video", np.append(frame.ravel(), time)


def searches() -> Iterator[tuple[str, np.ndarray]]:
    """Embed the examples into a library and search it."""
    import openavc

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "openavc", "video", "examples/", "--output", f"{folder}/joint"]
        subprocess.run([*command, "--frame-rate", "2", "--embedding", "joint"], check=True, stdout=subprocess.DEVNULL)
        openavc.index_embeddings(f"{folder}/joint", f"{folder}/library")
        for query in ({"audio": "examples/cyberdemon.ogg"}, {"image": pictures()[0]}):
            for moments in (True, False):
                hits = openavc.search(f"{folder}/library", k=8, moments=moments, **query)
                yield "hits of searches", np.array([(hit.score, hit.timestamp) for hit in hits])


def openl3(reference: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Embed with OpenL3's networks."""
    import openavc

    stored = np.load(reference / "openl3_inputs_audio.npz")
    for kind in ("linear", "mel256"):
        path = reference / f"openl3_audio_{kind}_seeded-v0_4_0.h5.gz"
        for variant in VARIANTS:
            model = openavc.load_model(path, input_repr=kind, frontend=variant, embedding_size=512)
            for name in ("noise_48k", "dog_44k", "chirp_stereo_22k"):
                sound, rate = stored[name].astype(np.float64), int(stored[f"{name}_sr"])
                yield f"OpenL3 {kind}", openavc.get_audio_embedding(sound, rate, model, hop_size=0.5)[0]
    yield "OpenL3 pictures", openavc.get_image_embedding(pictures(), reference / "openl3_image_seeded-v0_4_0.h5.gz")


def losses(shards: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Train every small recipe for some steps; those that start from other weights start from the shipped ones."""
    import openavc.weights

    shipped = Path(openavc.weights.PRETRAINED)
    with tempfile.TemporaryDirectory() as folder:
        beginnings = {
            "ave_small_longer": shipped / "ave-small.safetensors",
            "avol_small_silence": shipped / "avol-small.safetensors",
            "l3_small_pretrained": Path(folder, "l3_small_supervised", "weights.safetensors"),
        }
        configs = sorted(Path("training/configs").glob("*small*.toml"), key=lambda path: path.stem in beginnings)
        for config in configs:
            run = Path(folder, config.stem)
            command = [sys.executable, "-m", "training.train", str(config), "--data", str(shards), "--threads", "1"]
            if config.stem in beginnings:
                command += ["--start-from", str(beginnings[config.stem])]
            subprocess.run(
                [*command, "--output", str(run), "--stop-after", str(STEPS)], check=True, capture_output=True
            )
            lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            yield f"losses of {config.stem}", np.array([(line["loss"], line["right"]) for line in lines])


def measure(output: Path, reference: Path | None, shards: Path | None) -> None:
    """Write all results of the checkout in the working folder to an .npz, numbered in order."""
    warnings.simplefilter("ignore")
    parts = [embeddings(), scores(), maps(), searches()]
    parts += [openl3(reference)] if reference else []
    parts += [losses(shards)] if shards else []
    arrays: dict[str, np.ndarray] = {}
    for part in parts:
        for name, array in part:
            arrays[f"{len(arrays):05d} {name}"] = array
    np.savez(output, **arrays)


# --------------------------------------------------------------------------------------------------------- comparison


def differences(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the largest difference by name, relative to each array's largest value; infinity if shapes differ."""
    if list(old) != list(new):
        raise ValueError(f"{len(old)} arrays became {len(new)}: {sorted(old.keys() ^ new.keys())[:5]}")
    largest: dict[str, float] = {}
    for key, before in old.items():
        after, name = new[key], key.partition(" ")[2]
        apart = np.inf
        if before.shape == after.shape:
            apart = np.abs(before.astype(float) - after).max() / max(np.abs(before).max(), 1e-12)
        largest[name] = max(largest.get(name, 0.0), float(apart))
    return largest


def run_in(checkout: Path, output: Path, options: list[str]) -> dict[str, np.ndarray]:
    """Measure a checkout in its own process, with one thread, so that sums are always taken in the same order."""
    variables = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), *options, "--measure", str(output)]
    subprocess.run(command, cwd=checkout, env=variables, check=True)
    with np.load(output) as arrays:
        return dict(arrays)


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True)


@click.command(help=__doc__.split("\n")[0])
@click.argument("checkouts", nargs=-1, type=_FOLDER, metavar="OLD NEW")
@click.option("--reference", type=_FOLDER, help="Of OpenL3's seeded weights and inputs.")
@click.option("--shards", type=_FOLDER, help="Of training.simulate --scene solo.")
@click.option("--measure", "output", type=click.Path(path_type=Path), hidden=True)
def main(checkouts, reference, shards, output):
    if output:
        measure(output, reference, shards)
        return
    if len(checkouts) != 2:
        raise click.UsageError(f"give two checkouts, OLD and NEW; got {len(checkouts)}")
    options = [
        part for pair in (("--reference", reference), ("--shards", shards)) if pair[1] for part in map(str, pair)
    ]
    with tempfile.TemporaryDirectory() as folder:
        old, new = (run_in(checkout, Path(folder, f"{k}.npz"), options) for k, checkout in enumerate(checkouts))
    failed, largest = False, differences(old, new)
    for name, apart in largest.items():
        beyond = apart > (10 * LIMIT if name in EXPLAINED else LIMIT)
        why = f"  {EXPLAINED[name]}" if name in EXPLAINED and apart > LIMIT else ""
        click.echo(f"{name:<36} {apart:.1e}{why}{'  above the limit' * beyond}")
        failed |= beyond
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
