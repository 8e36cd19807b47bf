"""Put a run's weights into the package: safetensors in half precision and an entry of the manifest.

python -m training.export runs/ave_small --name ave-small --metrics avc.json --metrics esc.json
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch

from openavc.weights import PRETRAINED, load_model, sha256_of

from .checkpoint import save_weights

MANIFEST = Path(__file__).parent.parent / "weights_manifest.json"


def export(run: Path, name: str, license: str, **about) -> dict:
    """Write `openavc/pretrained/NAME.safetensors` and the manifest's entry; returns the entry.

    `about` is `trained_on`, `recipe` and `metrics`. What is empty is taken from the entry of the same weights, if the
    manifest has one.
    """
    architecture = json.loads((run / "config.json").read_text())["model"]
    model = load_model(run / "weights.safetensors", device="cpu")
    path = PRETRAINED / f"{name}.safetensors"
    PRETRAINED.mkdir(exist_ok=True)
    save_weights(path, model, architecture, torch.float16)
    image = torch.zeros(1, model.image_size, model.image_size, 3)
    sizes = {kind: model.embed_image(model.prepare_image(image), kind).shape[1] for kind in model.embeddings}
    entry = {
        "name": name,
        "architecture": architecture["architecture"],
        "options": {key: value for key, value in architecture.items() if key != "architecture"},
        "modalities": ["audio", "image"],
        "embedding_size": sizes,
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "license": license,
        "sources": [{"type": "package"}],
        **about,
    }
    models = json.loads(MANIFEST.read_text())["models"] if MANIFEST.exists() else []
    before = next((model for model in models if model["name"] == name), {})
    if before.get("sha256") == entry["sha256"]:
        entry |= {key: before[key] for key, value in about.items() if not value}
    models = [entry if model["name"] == name else model for model in models]
    if entry not in models:
        models.append(entry)
    MANIFEST.write_text(json.dumps({"models": models}, indent=2) + "\n")
    return entry


@click.command(help=__doc__.split("\n")[0])
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name in the manifest.")
@click.option(
    "--metrics", multiple=True, type=click.Path(exists=True, path_type=Path), help="From training.evaluate --json."
)
@click.option("--trained-on", default="", help="What the shards hold, in words.")
@click.option("--recipe", default="", help="Path of the configuration.")
@click.option("--license", default="Apache-2.0")
def main(run, name, metrics, trained_on, recipe, license):
    found = [figure for path in metrics for figure in json.loads(path.read_text())["metrics"]]
    entry = export(run, name, license, trained_on=trained_on, recipe=recipe, metrics=found)
    click.echo(f"{entry['file']}: {entry['bytes']:,} bytes, SHA-256 {entry['sha256']}")


if __name__ == "__main__":
    main()
