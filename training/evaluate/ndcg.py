"""Retrieval by class (Objects that Sound, Table 1): nDCG@30 of sounds and pictures, for several networks."""

from __future__ import annotations

from pathlib import Path

import click

from openavc.lines import tell
from openavc.models.contract import AudioVisualModel

from .datasets.labelled import Video, find_labelled
from .datasets.ontology import MONSTERS, ClassTree, instrument_classes, read_tree
from .metrics.search import Search
from .metrics.spaces import fit_spaces
from .networks.named import named_models
from .networks.untrained import untrained
from .reporting import published
from .reporting.options import FILE, PATH, json_option
from .reporting.report import print_published, write_report
from .reporting.tables import table

Summary = dict[str, tuple[float, float, float]]  # direction -> mean and both ends of its interval


@click.command()
@click.option("--model", "models", multiple=True, required=True, help="Name or weights file; may be given again.")
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Shards with labels; FOLDER/CLASS/*.mp4; a CSV of file and labels (label;label); or pairs.csv or its folder.",
)
@click.option("--ontology", type=FILE, help="AudioSet's ontology.json or a tree of one's own, as nested JSON.")
@click.option("--instruments", is_flag=True, help="Only videos with one of the paper's 110 classes of AudioSet.")
@click.option("--cca-on", type=PATH, help="Training videos for CCA, of models without a joint space.")
@click.option("--components", type=click.IntRange(min=1), default=128, show_default=True, help="Of CCA.")
@click.option("--kind", default="sound", show_default=True, help="Of the rows of pairs.csv.")
@click.option("--own-level", is_flag=True, help="Let a query find other rendered episodes of its level, too.")
@click.option("--partner", is_flag=True, help="Let a query find its own video, from sound to picture and back.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the moments and the untrained networks.")
@json_option
def ndcg(
    models: tuple[str, ...],
    data: Path,
    ontology: Path | None,
    instruments: bool,
    cca_on: Path | None,
    components: int,
    kind: str,
    own_level: bool,
    partner: bool,
    seed: int,
    json_path: Path | None,
) -> None:
    """Retrieval by class, sounds and pictures: the nDCG@30 of Objects that Sound, beside its Table 1."""
    networks = _networks(models, seed)
    videos, tree = choose_videos(data, ontology, instruments, kind, own_level)
    training = find_labelled(cca_on, kind)[0] if cca_on else []
    spaces, videos, failures = fit_spaces(networks, videos, seed, training, components)
    search = Search(videos, tree, partner)
    summaries = {name: search.summary(search.scores(vectors), seed) for name, vectors in spaces.items()}
    mixed = {name: search.mixed_up(vectors, seed) for name, vectors in spaces.items()}
    chance = {direction: float(scores.mean()) for direction, scores in search.chance().items()}
    for failure in failures:
        tell(f"failed: {failure}")
    click.echo(table(f"nDCG@30, {len(videos)} videos", _rows(summaries, mixed, chance)))
    click.echo(search.described)
    figures = {
        f"{name} {direction}": mean
        for name, summary in summaries.items()
        for direction, (mean, _, _) in summary.items()
    }
    more = {"intervals": summaries, "mixed_up": mixed, "chance": chance, "about": search.described}
    write_report(f"nDCG@30 ({data.name})", figures, json_path, **more)
    print_published(
        published.NDCG,
        "Those are on other data, where chance is 0.407: compare with them how far a figure is above its own chance.",
    )


def _networks(models: tuple[str, ...], seed: int) -> dict[str, AudioVisualModel]:
    """Return each model and its untrained copy, by name; ValueError if two share a name."""
    networks: dict[str, AudioVisualModel] = {}
    for name, model in named_models(models).items():
        networks |= {name: model, f"{name} untrained": untrained(model, seed)}
    return networks


def _rows(
    summaries: dict[str, Summary], mixed: dict[str, dict[str, float]], chance: dict[str, float]
) -> dict[str, dict[str, str]]:
    rows = {}
    for name, summary in summaries.items():
        rows[name] = {key: f"{mean:.3f} ({low:.3f}-{high:.3f})" for key, (mean, low, high) in summary.items()}
        rows[f"{name}, queries mixed up"] = {key: _without_interval(value) for key, value in mixed[name].items()}
    rows["chance"] = {direction: _without_interval(value) for direction, value in chance.items()}
    return rows


def _without_interval(value: float) -> str:
    """Format a figure without an interval, aligned with those that have one."""
    return f"{value:.3f}".ljust(len("0.000 (0.000-0.000)"))


def choose_tree(videos: list[Video], own: ClassTree | None, ontology: Path | None) -> ClassTree:
    """Read the class tree of a file, or else take the videos' own, or else that of the rendered monsters.

    Raises
    ------
    ValueError
        If labels aren't in the tree.
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
    """Find the labelled videos of `data` and their class tree; with `instruments`, only those of AudioSet-Instruments.

    Raises
    ------
    ValueError
        If there are fewer than two such videos.
    """
    everything, own = find_labelled(data, kind, own_level)
    videos = [video for video in everything if video.labels]
    if not videos:
        raise ValueError(
            f"none of the {len(everything)} videos of {data} has labels; shards have those of "
            "training.prepare's --list, or of training.simulate's scenes solo and duo"
        )
    tree = choose_tree(videos, own, ontology)
    if instruments:
        wanted = instrument_classes(tree)
        videos = [video for video in videos if any(tree.key(label) in wanted for label in video.labels)]
    if len(videos) < 2:
        raise ValueError(f"retrieval needs several labelled videos, {data} has {len(videos)}")
    return videos, tree
