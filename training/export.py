"""A run's weights as a model with a name, which `openavc` finds from anywhere: safetensors, a model card and an entry.

    python -m training.export runs/mine --name my-grid --metrics avc.json --metrics esc.json
    python -m training.export runs/ave_small --name ave-small --license Apache-2.0 --package --overwrite
    python -m training.export runs/l3_flickr --name l3-flickr --push OWNER/l3-flickr --no-package

RUN then holds the files to push: NAME.safetensors, in half precision, and README.md, the model card. The weights and
their entry go to the user's own folder; with `--package` the package gets the weights and the manifest of this checkout
the entry, with `--no-package` only the manifest does. They are changed last and together, so an export that fails
leaves them unchanged. `--best` takes the weights that a training with `--validation` kept as the best on held-out
shards, instead of its last ones.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import click
import torch

from openavc.atomic import write_atomically, write_bytes
from openavc.locks import only_user
from openavc.models.contract import AudioVisualModel
from openavc.weights import PRETRAINED, load_model, own_folder, read_own, read_shipped, sha256_of
from openavc.weights.entries import is_plain

from .checkpoint import weights_file
from .publish.card import PROJECT, describe_corpora, is_card, model_card, without_machine
from .publish.hub import check_repo, fetch_back, push

MANIFEST = PROJECT / "weights_manifest.json"
_KEPT = ("weights", "best")  # stems of a run's own safetensors files
_NOWHERE = "nobody could get the weights of {name!r}: push them or put them into the package"


def export(
    run: Path,
    name: str,
    license: str = "",
    repo: str = "",
    package: bool | None = None,
    limits: str = "",
    best: bool = False,
    tables: dict | None = None,
    overwrite: bool = False,
    **about,
) -> dict:
    """Write the weights, their card and their entry, and return the entry.

    Parameters
    ----------
    run : Path
        Folder of a run of `training.train`.
    name : str
        Name of the model.
    license : str
        SPDX identifier of the licence of the weights; by default that of the entry of the same weights, or "unknown".
    repo : str
        Repository of the Hub, `owner/name`, to push weights and card to; empty to push nothing.
    package : bool, optional
        Whether to change this checkout instead of the user's own folder: True puts the weights into the package and
        their entry into the manifest, False only the entry.
    limits : str
        What the model is bad at, for the card.
    best : bool
        Whether to take `best.safetensors` instead of the last weights.
    tables : dict, optional
        Tables for the card, by the command that measured them: title -> row -> column -> cell.
    overwrite : bool
        Whether to replace a model of this name, and files in the run's folder that this export didn't write.
    **about
        `trained_on`, `recipe`, `metrics` and `data_license`, the licence of what the run was trained on. Empty values
        are taken from the run's configuration, or else from the entry of the same weights.

    Raises
    ------
    ValueError
        If `name` can't be a file's or is that of a model of openavc's own, `repo` isn't `owner/name`, or nobody could
        get the weights.
    FileExistsError
        If something would be replaced without `overwrite`.
    OSError
        If the run has no weights, or they can't be pushed and fetched back.
    """
    check_name(name)
    if repo:
        check_repo(repo)
    models = read_shipped(MANIFEST) if MANIFEST.exists() else []
    listed = next((known for known in models if known["name"] == name), {})
    check_free(name, package, listed, overwrite)
    before = earlier_own(name) if package is None else listed
    if package is False and not (repo or pushed(before)):
        raise ValueError(_NOWHERE.format(name=name))
    config = json.loads((run / "config.json").read_text())
    model = load_model(weights_of(run, best), device="cpu")
    path, card = run / f"{name}.safetensors", run / "README.md"
    content = weights_file(model, model.architecture, torch.float16)
    check_replaceable(path, card, content, overwrite)
    write_bytes(path, content)
    same = before if before.get("sha256") == sha256_of(path) else {}
    entry = describe(model, name, path, license or same.get("license") or "unknown")
    here = [] if package is False else [{"type": "own" if package is None else "package"}]
    hub = pushed(same)
    entry["sources"] = here + hub
    if not (entry["sources"] or repo):
        raise ValueError(_NOWHERE.format(name=name))
    entry |= complete({"data_license": ""} | about, config, same)
    told = model_card(entry, model, run, repo or (hub[0]["repo"] if hub else ""), limits, best, tables)
    write_bytes(card, told.encode())
    if repo:
        source = {"type": "hub", "repo": repo, "revision": push(repo, [path, card], f"{name} and its card")}
        source["filename"] = path.name
        fetch_back(entry | {"sources": [source]})
        entry["sources"] = [*here, source]
    if package is None:
        put_in_place({own_folder() / f"{name}.json": as_json(entry), own_folder() / path.name: content})
    else:
        models = [entry if known is listed else known for known in models] + [entry] * (not listed)
        put_in_checkout(path.name, content if package else None, models)
    return entry


def check_free(name: str, package: bool | None, listed: dict, overwrite: bool) -> None:
    """Raise an error if a model of this name is where the export goes, or if it is one of openavc's own elsewhere."""
    if package is None and listed:
        raise ValueError(
            f"{name!r} is a model of openavc's own: choose another --name, or replace it in this checkout with "
            "--package --overwrite"
        )
    folder = own_folder() if package is None else PRETRAINED
    there = [file for ending in (".safetensors", ".json") if (file := folder / f"{name}{ending}").exists()]
    if (listed or there) and not overwrite:
        where = there[0] if there else MANIFEST
        raise FileExistsError(f"there is a model {name!r} already ({where}): choose another --name, or --overwrite")


def check_replaceable(path: Path, card: Path, content: bytes, overwrite: bool) -> None:
    """Raise FileExistsError if the weights or the card would replace a file of the run that no export wrote."""
    foreign = path if path.exists() and path.read_bytes() != content else None
    foreign = card if card.exists() and not is_card(card) else foreign
    if foreign and not overwrite:
        raise FileExistsError(f"{foreign} is there already, and is of something else: move it away, or --overwrite")


def earlier_own(name: str) -> dict:
    """Return the entry of the user's own model of this name; empty if there is none, or what is there is no entry."""
    try:
        return read_own(name)
    except (OSError, ValueError):
        return {}


def check_name(name: str) -> None:
    """Raise ValueError if a file of this name would lie outside the run's folder, or replace the run's own weights."""
    if not is_plain(name) or name.lower() in _KEPT:
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
    corpora = describe_corpora(config.get("corpus") or [], config.get("clip_seconds"))
    recorded = {"trained_on": corpora, "recipe": config.get("recipe")}
    filled = {key: value or recorded.get(key) or same.get(key, value) for key, value in about.items()}
    return filled | {"recipe": without_machine(filled.get("recipe") or "")}


def as_json(content: dict) -> bytes:
    """Return an entry or a manifest as the content of its file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def put_in_checkout(file: str, weights: bytes | None, models: list[dict]) -> None:
    """Replace the manifest and the package's file of this name.

    Without weights the file is removed at the end, so that no wheel carries what the manifest doesn't name.
    """
    contents = {MANIFEST: as_json({"models": models})}
    if weights is not None:
        contents[PRETRAINED / file] = weights
    put_in_place(contents)
    if weights is None:
        (PRETRAINED / file).unlink(missing_ok=True)


def put_in_place(contents: dict[Path, bytes]) -> None:
    """Replace files; all are written in full before any is replaced, the last of them first."""
    with contextlib.ExitStack() as stack:
        for file, content in contents.items():
            stack.enter_context(write_atomically(file)).write_bytes(content)


@click.command(help=__doc__.split("\n")[0])
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the model.")
@click.option(
    "--metrics", multiple=True, type=click.Path(exists=True, path_type=Path), help="From training.evaluate --json."
)
@click.option("--trained-on", default="", help="What the shards hold, in words, instead of what the run recorded.")
@click.option("--recipe", default="", help="Path of the configuration, instead of what the run recorded.")
@click.option("--license", default="", help="Of the weights, an SPDX identifier.  [default: unknown]")
@click.option("--data-license", default="", help="Of what the shards hold, in words, for the card.")
@click.option("--limits", default="", help="What the model is bad at, in words, for its card.")
@click.option("--push", "repo", default="", metavar="OWNER/NAME", help="Repository of the Hub to push to.")
@click.option(
    "--package/--no-package",
    default=None,
    help="Change this checkout, with the weights in the package or without.  [default: your own folder]",
)
@click.option("--best", is_flag=True, help="RUN/best.safetensors, kept by --validation, instead of the last weights.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def main(run, name, metrics, trained_on, recipe, license, data_license, limits, repo, package, best, overwrite):
    measured = [json.loads(path.read_text()) for path in metrics]
    empty = [str(path) for path, one in zip(metrics, measured, strict=True) if not one.get("metrics")]
    if empty:
        raise click.UsageError(f"there are no metrics in {', '.join(empty)}: give what training.evaluate --json wrote")
    figures = [figure for one in measured for figure in one["metrics"]]
    tables = {one["metrics"][0]["command"]: one["tables"] for one in measured if one.get("tables")}
    about = {"trained_on": trained_on, "recipe": recipe, "metrics": figures, "data_license": data_license}
    try:
        with only_user(own_folder() if package is None else PRETRAINED):
            entry = export(run, name, license, repo, package, limits, best, tables, overwrite, **about)
    except FileExistsError as error:
        raise click.UsageError(str(error)) from None
    except (ValueError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from None
    click.echo(f"{entry['file']}: {entry['bytes']:,} bytes, SHA-256 {entry['sha256']}")
    if package is None:
        click.echo(f"openavc finds it by its name: {own_folder() / entry['file']}")
    click.echo(f"model card: {run / 'README.md'}")
    for source in entry["sources"]:
        if source["type"] == "hub":
            click.echo(f"on the Hub: {source['repo']} at {source['revision']}")


if __name__ == "__main__":
    main()
