"""A run's weights to the package and the Hugging Face Hub: safetensors, a model card and an entry of the manifest.

    python -m training.export runs/ave_small --name ave-small --metrics avc.json --metrics esc.json
    python -m training.export runs/l3_flickr --name l3-flickr --push OWNER/l3-flickr --no-package

RUN then holds the files to push: NAME.safetensors, in half precision, and README.md, the model card. The package and
the manifest are changed last and together, so an export that fails leaves them unchanged. `--best` takes the weights
that a training with `--validation` kept as the best on held-out shards, instead of its last ones.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import click
import torch

from openavc.atomic import write_atomically
from openavc.models.contract import AudioVisualModel
from openavc.weights import PRETRAINED, load_model, sha256_of

from .checkpoint import save_weights
from .publish.card import PROJECT, describe_corpora, model_card
from .publish.hub import check_repo, fetch_back, push

MANIFEST = PROJECT / "weights_manifest.json"
_KEPT = ("weights", "best")  # stems of a run's own safetensors files
_NOWHERE = "nobody could get the weights of {name!r}: push them or put them into the package"


def export(
    run: Path,
    name: str,
    license: str,
    repo: str = "",
    package: bool = True,
    limits: str = "",
    best: bool = False,
    tables: dict | None = None,
    **about,
) -> dict:
    """Write the weights, their card and the manifest's entry, and return the entry.

    Parameters
    ----------
    run : Path
        Folder of a run of `training.train`.
    name : str
        Name in the manifest.
    license : str
        SPDX identifier.
    repo : str
        Repository of the Hub, `owner/name`, to push weights and card to; empty to push nothing.
    package : bool
        Whether to put the weights into the package.
    limits : str
        What the model is bad at, for the card.
    best : bool
        Whether to take `best.safetensors` instead of the last weights.
    tables : dict, optional
        Tables for the card, by the command that measured them: title -> row -> column -> cell.
    **about
        `trained_on`, `recipe` and `metrics`. Empty values are taken from the run's configuration, or else from the
        manifest's entry of the same weights.

    Raises
    ------
    ValueError
        If `name` can't be a file's, `repo` isn't `owner/name`, or the weights would be neither packaged nor pushed.
    OSError
        If the run has no weights, or they can't be pushed and fetched back.
    """
    check_name(name)
    if repo:
        check_repo(repo)
    models = json.loads(MANIFEST.read_text())["models"] if MANIFEST.exists() else []
    before = next((known for known in models if known["name"] == name), {})
    if not (package or repo or pushed(before)):
        raise ValueError(_NOWHERE.format(name=name))
    config = json.loads((run / "config.json").read_text())
    model = load_model(weights_of(run, best), device="cpu")
    path = run / f"{name}.safetensors"
    save_weights(path, model, config["model"], torch.float16)
    entry = describe(model, name, path, license)
    same = before if before.get("sha256") == entry["sha256"] else {}
    hub = pushed(same)
    entry["sources"] = [{"type": "package"}] * package + hub
    if not (entry["sources"] or repo):
        raise ValueError(_NOWHERE.format(name=name))
    entry |= complete(about, config, same)
    card = run / "README.md"
    card.write_text(model_card(entry, model, run, repo or (hub[0]["repo"] if hub else ""), limits, best, tables))
    if repo:
        source = {"type": "hub", "repo": repo, "revision": push(repo, [path, card], f"{name} and its card")}
        source["filename"] = path.name
        fetch_back(entry | {"sources": [source]})
        entry["sources"] = [{"type": "package"}] * package + [source]
    put_in_place(path, package, [entry if known is before else known for known in models] + [entry] * (not before))
    return entry


def check_name(name: str) -> None:
    """Raise ValueError if a file of this name would lie outside the run's folder, or replace the run's own weights."""
    if not name or Path(name).name != name or name in _KEPT:
        raise ValueError(
            f"a model's name is that of a file without folders, and not {' or '.join(_KEPT)}; got {name!r}"
        )


def weights_of(run: Path, best: bool) -> Path:
    """Return the file of the run's last weights, or of those that were best on held-out shards."""
    path = run / ("best.safetensors" if best else "weights.safetensors")
    if best and not path.exists():
        raise FileNotFoundError(f"{run} has no {path.name}: training.train keeps it if given --validation")
    return path


def pushed(entry: dict) -> list[dict]:
    """List the entry's sources on the Hub."""
    return [source for source in entry.get("sources", []) if source["type"] == "hub"]


def describe(model: AudioVisualModel, name: str, path: Path, license: str) -> dict:
    """Make the part of a manifest's entry that describes the weights themselves."""
    options = dict(model.architecture)
    architecture = options.pop("architecture")
    return {
        "name": name,
        "architecture": architecture,
        "options": options,
        "modalities": list(model.embedding_sizes),
        "embedding_size": embedding_size(model.embedding_sizes),
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "license": license,
    }


def embedding_size(sizes: dict[str, dict[str, int]]) -> dict[str, int | dict[str, int]]:
    """Turn sizes by modality into sizes by embedding: one number where the modalities agree, else one for each.

    For example, {"audio": {"features": 896}, "image": {"features": 896}} gives {"features": 896}.
    """
    kinds = dict.fromkeys(kind for own in sizes.values() for kind in own)
    by_embedding: dict[str, int | dict[str, int]] = {}
    for kind in kinds:
        by_modality = {modality: own[kind] for modality, own in sizes.items() if kind in own}
        same = len(set(by_modality.values())) == 1 and len(by_modality) == len(sizes)
        by_embedding[kind] = next(iter(by_modality.values())) if same else by_modality
    return by_embedding


def complete(about: dict, config: dict, same: dict) -> dict:
    """Fill empty values of `about` from the run's configuration, or else from the entry of the same weights."""
    recorded = {"trained_on": describe_corpora(config.get("corpus") or []), "recipe": config.get("recipe")}
    filled = {key: value or recorded.get(key) or same.get(key, value) for key, value in about.items()}
    return filled | {"recipe": without_machine(filled.get("recipe") or "")}


def without_machine(recipe: str) -> str:
    """Strip a recipe's path of this machine's folders: from the project's root, or else only the file's name."""
    path = Path(recipe)
    if path.is_absolute() and path.resolve().is_relative_to(PROJECT.resolve()):
        return path.resolve().relative_to(PROJECT.resolve()).as_posix()
    return path.name if path.is_absolute() or ".." in path.parts else recipe


def put_in_place(path: Path, package: bool, models: list[dict]) -> None:
    """Replace the package's file of this name and the manifest; both are written in full before either is replaced.

    Without `package` the file is removed at the end, so that no wheel carries weights that the manifest doesn't name.
    """
    target = PRETRAINED / path.name
    contents = {MANIFEST: (json.dumps({"models": models}, indent=2) + "\n").encode()}
    if package:
        contents[target] = path.read_bytes()  # the last to be opened is the first to be replaced
    with contextlib.ExitStack() as stack:
        for file, content in contents.items():
            stack.enter_context(write_atomically(file)).write_bytes(content)
    if not package:
        target.unlink(missing_ok=True)


@click.command(help=__doc__.split("\n")[0])
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name in the manifest.")
@click.option(
    "--metrics", multiple=True, type=click.Path(exists=True, path_type=Path), help="From training.evaluate --json."
)
@click.option("--trained-on", default="", help="What the shards hold, in words, instead of what the run recorded.")
@click.option("--recipe", default="", help="Path of the configuration, instead of what the run recorded.")
@click.option("--license", default="Apache-2.0", show_default=True)
@click.option("--limits", default="", help="What the model is bad at, in words, for its card.")
@click.option("--push", "repo", default="", metavar="OWNER/NAME", help="Repository of the Hub to push to.")
@click.option("--package/--no-package", default=True, help="Whether the package holds the weights.", show_default=True)
@click.option("--best", is_flag=True, help="RUN/best.safetensors, kept by --validation, instead of the last weights.")
def main(run, name, metrics, trained_on, recipe, license, limits, repo, package, best):
    measured = [json.loads(path.read_text()) for path in metrics]
    empty = [str(path) for path, one in zip(metrics, measured, strict=True) if not one.get("metrics")]
    if empty:
        raise click.UsageError(f"there are no metrics in {', '.join(empty)}: give what training.evaluate --json wrote")
    figures = [figure for one in measured for figure in one["metrics"]]
    tables = {one["metrics"][0]["command"]: one["tables"] for one in measured if one.get("tables")}
    about = {"trained_on": trained_on, "recipe": recipe, "metrics": figures}
    try:
        entry = export(run, name, license, repo, package, limits, best, tables, **about)
    except (ValueError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from None
    click.echo(f"{entry['file']}: {entry['bytes']:,} bytes, SHA-256 {entry['sha256']}")
    click.echo(f"model card: {run / 'README.md'}")
    for source in entry["sources"]:
        if source["type"] == "hub":
            click.echo(f"on the Hub: {source['repo']} at {source['revision']}")


if __name__ == "__main__":
    main()
