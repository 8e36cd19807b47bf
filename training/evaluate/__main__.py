"""Evaluate a model beside chance and the same network untrained.

python -m training.evaluate avc --model ave-small --data shards/held
python -m training.evaluate retrieval --model ave-small --data shards/held
python -m training.evaluate ndcg --model ave-small --model runs/l3_small/weights.safetensors --data shards/solo-held \\
    --cca-on shards/solo
python -m training.evaluate esc --model runs/ave_small/weights.safetensors --data esc10 --json esc.json
python -m training.evaluate esc --model ave-small --data esc10 --protocol paper
python -m training.evaluate dcase --model ave-small --data dcase2014
python -m training.evaluate images --model ave-small --data imagenet
python -m training.evaluate units --model ave-small --data shards/held --output units
python -m training.evaluate table1 --model runs/l3_small/weights.safetensors --data shards/solo-held \\
    --supervised runs/l3_small_supervised --pretrained runs/l3_small_pretrained/weights.safetensors
python -m training.evaluate localization --model avol-small --solo shards/solo-held --duo shards/duo-held
python -m training.evaluate localization --model avol-small --boxes vggss.json --videos vggsound
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click
import numpy as np
import torch

from openavc.inference import get_model
from openavc.localization import DEFAULT_MODEL, localizing_model
from openavc.weights import build_model

from . import published
from .tables import spread, table

UNTRAINED_SEEDS = 5
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def untrained(model, seed: int):
    """The same network, freshly initialised."""
    torch.manual_seed(seed)
    fresh = build_model(model.architecture).to(next(model.parameters()).device).eval()
    fresh.name, fresh.architecture = "untrained", model.architecture
    return fresh


def report(name: str, figures: dict[str, float], json_path: Path | None, **more) -> None:
    """Write the figures with the command that measured them."""
    command = "python -m training.evaluate " + shlex.join(sys.argv[1:])
    if json_path:
        metrics = [
            {"name": f"{name} {key}", "value": round(value, 4), "command": command} for key, value in figures.items()
        ]
        json_path.write_text(json.dumps({"metrics": metrics, **more}, indent=2) + "\n")


def _shared(function):
    for option in (
        click.option(
            "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write them here, too."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of whatever is drawn."),
        click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True),
        click.option("--model", required=True, help="Name or weights file."),
    ):
        function = option(function)
    return function


@click.group(help=__doc__.split("\n")[0])
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count(), help="Of the CPU.")
def main(threads):
    torch.set_num_threads(threads)


def beside_published(rows: list[published.Published], note: str) -> None:
    """Print the papers' figures under our own, and how far the two may be compared."""
    click.echo("\n" + published.published_table(rows))
    click.echo(note + "\n")


def _compare(title: str, measure, chance: dict, model, pairs, json_path, seed) -> None:
    from .correspondence import represent

    trained = measure(model, represent(model, pairs), seed)
    fresh = untrained(model, 0)
    blank = measure(fresh, represent(fresh, pairs), seed)
    kinds = {model.name: trained, "untrained": blank, "chance": chance}
    rows = {
        key: {kind: f"{figures[key]:.2f}" if key in figures else "" for kind, figures in kinds.items()}
        for key in trained
    }
    click.echo(table(f"{title}, {len(pairs.images)} pairs", rows))
    report(title, trained, json_path, untrained=blank, chance=chance, pairs=len(pairs.images))


@main.command()
@_shared
@click.option("--per-clip", type=click.IntRange(min=2), default=10, show_default=True, help="Pairs a clip.")
def avc(model, data, seed, json_path, per_clip):
    """Audio-visual correspondence on held-out shards: accuracy, 2AFC, AUC, mean scores."""
    from . import correspondence

    model = get_model(model)
    chance = dict.fromkeys(("own decision", "threshold", "2AFC other clip", "2AFC same clip", "AUC"), 50.0)
    pairs = correspondence.load_pairs(model, data, per_clip, seed)
    _compare("AVC", correspondence.avc, chance, model, pairs, json_path, seed)
    beside_published(
        published.AVC,
        "Those are on other data (natural videos), by networks and training sets many times larger; chance is 50. "
        "People, asked informally in the L3 paper, were a few points above its network.",
    )


@main.command()
@_shared
@click.option("--per-clip", type=click.IntRange(min=1), default=10, show_default=True, help="Pairs a clip.")
def retrieval(model, data, seed, json_path, per_clip):
    """100-way retrieval on held-out shards, pictures to sounds and back."""
    from . import correspondence

    model = get_model(model)
    chance = {f"{kind} R@{k}": float(k) for kind in ("image to audio", "audio to image", "mean") for k in (1, 5, 10)}
    pairs = correspondence.load_pairs(model, data, per_clip, seed)
    _compare("retrieval", correspondence.retrieval, chance, model, pairs, json_path, seed)
    beside_published(
        published.RETRIEVAL,
        "Those are on other data, and by another measure (nDCG@30 of labels) or among more candidates than our 100.",
    )


_PATH = click.Path(exists=True, path_type=Path)


@main.command()
@click.option("--model", "models", multiple=True, required=True, help="Name or weights file; may be given again.")
@click.option(
    "--data",
    type=_PATH,
    required=True,
    help="Shards with labels; FOLDER/CLASS/*.mp4; a CSV of file and labels (label;label); or pairs.csv or its folder.",
)
@click.option(
    "--ontology",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="AudioSet's ontology.json or a tree of one's own, as nested JSON.",
)
@click.option("--instruments", is_flag=True, help="Only videos with one of the paper's 110 classes of AudioSet.")
@click.option("--cca-on", type=_PATH, help="Training videos for CCA, of models without a joint space.")
@click.option("--components", type=click.IntRange(min=1), default=128, show_default=True, help="Of CCA.")
@click.option("--kind", default="sound", show_default=True, help="Of the rows of pairs.csv.")
@click.option("--own-level", is_flag=True, help="Let a query find other rendered episodes of its level, too.")
@click.option("--partner", is_flag=True, help="Let a query find its own video, from sound to picture and back.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the moments and the untrained networks.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write them here, too.")
def ndcg(models, data, ontology, instruments, cca_on, components, kind, own_level, partner, seed, json_path):
    """Retrieval by class, sounds and pictures: the nDCG@30 of Objects that Sound, beside its Table 1."""
    from .labelled import find_labelled
    from .retrieval import Search, choose_videos, fit_spaces

    networks = {}
    for given in models:
        model = get_model(given)
        name = Path(given).parent.name if Path(given).stem == "weights" else model.name
        networks |= {name: model, f"{name} untrained": untrained(model, seed)}
    if len(networks) < 2 * len(models):
        raise ValueError(f"two of the models have one name: {', '.join(models)}")
    videos, tree = choose_videos(data, ontology, instruments, kind, own_level)
    training = find_labelled(cca_on, kind)[0] if cca_on else []
    spaces, videos, failures = fit_spaces(networks, videos, seed, training, components)
    search = Search(videos, tree, partner)
    found = {name: search.summary(search.scores(vectors), seed) for name, vectors in spaces.items()}
    mixed = {name: search.mixed_up(vectors, seed) for name, vectors in spaces.items()}
    chance = {direction: float(scores.mean()) for direction, scores in search.chance().items()}
    rows = {}
    for name, summary in found.items():
        rows[name] = {key: f"{mean:.3f} ({low:.3f}-{high:.3f})" for key, (mean, low, high) in summary.items()}
        rows[f"{name}, queries mixed up"] = {key: _alone(value) for key, value in mixed[name].items()}
    rows["chance"] = {direction: _alone(value) for direction, value in chance.items()}
    for failure in failures:
        click.echo(f"failed: {failure}", err=True)
    click.echo(table(f"nDCG@30, {len(videos)} videos", rows))
    click.echo(search.described)
    figures = {
        f"{name} {direction}": mean for name, summary in found.items() for direction, (mean, _, _) in summary.items()
    }
    report(
        f"nDCG@30 ({data.name})",
        figures,
        json_path,
        intervals=found,
        mixed_up=mixed,
        chance=chance,
        about=search.described,
    )
    beside_published(
        published.NDCG,
        "Those are on other data, where chance is 0.407: compare with them how far a figure is above its own chance.",
    )


def _alone(value: float) -> str:
    """A figure without an interval, under those with one."""
    return f"{value:.3f}".ljust(len("0.000 (0.000-0.000)"))


@main.command()
@_shared
@click.option("--per-clip", type=click.IntRange(min=2), default=10, show_default=True, help="Pairs a clip.")
@click.option(
    "--supervised",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Run of the objective classification (l3_small_supervised.toml).",
)
@click.option(
    "--pretrained",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Weights trained for correspondence on the frozen towers of that run (l3_small_pretrained.toml).",
)
def table1(model, data, seed, json_path, per_clip, supervised, pretrained):
    """L3's Table 1: correspondence by L3-Net and by both supervised baselines, on held-out shards."""
    from . import correspondence
    from .table1 import DirectCombination, check_pretrained, label_accuracy

    check_pretrained(pretrained, supervised)
    model, pretrained = get_model(model), get_model(pretrained)
    direct = DirectCombination(supervised)
    pairs = correspondence.load_pairs(model, data, per_clip, seed)
    labels = label_accuracy(direct, pairs, data)
    networks = {
        "supervised direct combination": direct,
        "supervised pretraining": pretrained,
        model.name: model,
        "untrained": untrained(model, seed),
    }
    figures = {
        name: correspondence.avc(network, correspondence.represent(network, pairs), seed)
        for name, network in networks.items()
    }
    kinds = ("threshold", "2AFC other clip", "AUC")
    rows = {name: {kind: f"{found[kind]:.1f}" for kind in kinds} for name, found in figures.items()}
    rows["chance"] = dict.fromkeys(kinds, "50.0")
    click.echo(table(f"Table 1, {len(pairs.images)} pairs", rows))
    click.echo(f"The supervised towers name the label: {', '.join(f'{k} {v:.1f} %' for k, v in labels.items())}.")
    report("table 1", {f"{name} threshold": found["threshold"] for name, found in figures.items()}, json_path, **labels)
    beside_published(published.TABLE1, "Those are on Kinetics-Sounds, 34 classes: other data; chance is 50.")


@main.command()
@_shared
@click.option(
    "--protocol",
    type=click.Choice(["hop", "paper"]),
    default="hop",
    show_default=True,
    help="Windows every 0.5 s and C = 0.01, or the L3 paper's 10 windows a clip and a C chosen on the training folds.",
)
@click.option("--untrained-seeds", type=click.IntRange(min=1), default=UNTRAINED_SEEDS, show_default=True)
def esc(model, data, seed, json_path, protocol, untrained_seeds):
    """Sound classification with frozen features: linear SVM, 5 nearest neighbours, few-shot."""
    from .esc import WINDOWS, paper_probe, probe, read_dataset

    model, dataset = get_model(model), read_dataset(data)
    measure, windows = (paper_probe, WINDOWS) if protocol == "paper" else (probe, None)
    title = f"{data.name}, {len(dataset.paths)} clips, {len(dataset.classes)} classes"
    name = f"ESC ({data.name})" if protocol == "hop" else f"ESC ({data.name}, paper's protocol)"
    seeds = range(seed, seed + untrained_seeds)
    _sound_probe(title, name, measure, windows, model, dataset, seeds, json_path)
    whole = (len(dataset.paths), len(dataset.classes)) == (2000, 50) and protocol == "paper"
    note = "Those are on ESC-50's 2,000 clips of 50 classes; "
    note += "so are ours." if whole else "ours are on other clips or by another protocol and can't be compared."
    beside_published(published.ESC50, note)


@main.command()
@_shared
@click.option("--untrained-seeds", type=click.IntRange(min=1), default=UNTRAINED_SEEDS, show_default=True)
def dcase(model, data, seed, json_path, untrained_seeds):
    """Acoustic scenes with frozen features, DCASE2014's layout: the L3 paper's linear SVM."""
    from .dcase import WINDOWS, probe, read_dataset

    model, dataset = get_model(model), read_dataset(data)
    tested = int((dataset.folds == 0).sum())
    counts = f"{len(dataset.paths) - tested} clips to train, {tested} to test, {len(dataset.classes)} scenes"
    seeds = range(seed, seed + untrained_seeds)
    _sound_probe(f"{data.name}, {counts}", f"DCASE ({data.name})", probe, WINDOWS, model, dataset, seeds, json_path)
    whole = (len(dataset.paths), tested, len(dataset.classes)) == (200, 100, 10)
    note = "Those are on DCASE2014's 100 test clips of 10 scenes; "
    note += "ours are, too, if these are its clips." if whole else "ours are on other clips and can't be compared."
    beside_published(published.DCASE2014, note)


@main.command()
@click.option("--model", required=True, help="Name or weights file.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Folder with train/CLASS/* and val/CLASS/*, or .npz with x_train, y_train, x_test, y_test, classes.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first of the seeds.")
@click.option("--seeds", type=click.IntRange(min=1), default=UNTRAINED_SEEDS, show_default=True, help="How many.")
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write them here, too.")
def images(model, data, seed, seeds, epochs, json_path):
    """Picture classification with a linear layer on frozen features, ImageNet's layout or arrays."""
    from .images import features_of, linear_probe, raw_pixels, read_dataset

    model = get_model(model)
    train, test, classes = read_dataset(data)

    def measure(represent, k):
        return linear_probe(represent, train, test, len(classes), model.image_size, k, epochs)

    numbers = range(seed, seed + seeds)
    runs = {
        model.name: [measure(features_of(model), k) for k in numbers],
        "untrained": [measure(features_of(untrained(model, k)), k) for k in numbers],
        "raw pixels": [measure(raw_pixels, k) for k in numbers],
    }
    kinds = (f"{seeds} seeds of the layer", f"{seeds} seeds of both", f"16 x 16, {seeds} seeds")
    rows = {f"{name} ({kind})": {"top-1": spread(runs[name])} for name, kind in zip(runs, kinds, strict=True)}
    rows["chance"] = {"top-1": f"{100 / len(classes):.1f}"}
    click.echo(table(f"{data.name}, {len(train)} to train, {len(test)} to test, {len(classes)} classes", rows))
    report(f"images ({data.name})", {"top-1": float(np.mean(runs[model.name]))}, json_path, runs=runs)
    whole = (len(classes), len(test)) == (1000, 50_000)
    note = "Those are on ImageNet's 1,000 classes, from 1.28 million training pictures; "
    note += "so are ours, if these are its pictures." if whole else "ours are on other data and can't be compared."
    beside_published(published.IMAGENET, note)


@main.command()
@_shared
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of pictures.")
@click.option("--per-clip", type=click.IntRange(min=1), default=10, show_default=True, help="Moments a clip.")
@click.option("--count", type=click.IntRange(min=1), default=8, show_default=True, help="Units shown of each tower.")
@click.option("--clusters", type=click.IntRange(min=2), default=64, show_default=True, help="Of k-means.")
def units(model, data, seed, json_path, output, per_clip, count, clusters):
    """What single units answer to: top moments, heatmaps, t-SNE, clusters against labels, on a folder of shards."""
    from ..data import Shards
    from .units import read_moments

    model = get_model(model)
    moments = read_moments(Shards(data), model, per_clip)
    output.mkdir(parents=True, exist_ok=True)
    trained = _unit_figures(model, moments, clusters, seed, output, count)
    blank = _unit_figures(untrained(model, seed), moments, clusters, seed)
    rows = {
        key: {model.name: f"{trained[key]:.3g}", "untrained": f"{blank[key]:.3g}", "of": _best(key, moments)}
        for key in trained
    }
    classes = len(set(moments.labels))
    click.echo(table(f"units, {len(moments.labels)} moments, {len(set(moments.sources))} videos", rows))
    click.echo(
        "Class units: labels with a unit whose 5 strongest moments, of 5 videos, are all theirs (ours; the paper's "
        f"criterion is unsure). {clusters} clusters of k-means (the paper's number is unsure), {classes} labels."
    )
    report(f"units ({data.name})", trained, json_path, untrained=blank, moments=len(moments.labels), classes=classes)
    beside_published(
        published.UNITS, "Those are on Kinetics-Sounds (34 classes, one moment of each video): other data."
    )


def _best(key: str, moments) -> str:
    return str(len(set(moments.labels))) if key.endswith("class units") else "1"


def _unit_figures(model, moments, clusters, seed, output: Path | None = None, count: int = 0) -> dict[str, float]:
    """Figures of both towers; their pictures go to `output`."""
    from . import unit_pictures
    from .units import activations, chance_nmi, class_units, cluster_nmi, embed_2d, rank_units

    figures: dict[str, float] = {}
    for modality in ("image", "audio"):
        activation = activations(model, modality, moments)
        ranked = rank_units(activation, moments)
        nmi, found = cluster_nmi(activation, moments.labels, clusters, seed)
        figures[f"{modality} NMI"] = nmi
        figures[f"{modality} NMI, labels shuffled"] = chance_nmi(found, moments, seed)
        figures[f"{modality} class units"] = float(len(class_units(ranked)))
        if output:
            unit_pictures.draw_units(output / f"{modality}_units.png", model, modality, moments, ranked[:count])
            points = embed_2d(activation, seed)
            title = f"{model.name}, {modality}, t-SNE of {activation.shape[1]} units"
            unit_pictures.draw_scatter(output / f"{modality}_tsne.png", points, moments.labels, title)
    return figures


def _sound_probe(title, name, measure, windows, model, dataset, seeds, json_path) -> None:
    """Measure the model, the untrained network and log-mel statistics; print and write them beside chance."""
    from .esc import embed_clips, log_mel_statistics

    trained = measure(embed_clips(model, dataset, windows), dataset)
    fresh = [
        {key: float(np.mean(values)) for key, values in measure(features, dataset).items()}
        for features in (embed_clips(untrained(model, k), dataset, windows) for k in seeds)
    ]
    mel = measure(log_mel_statistics(dataset, windows), dataset)
    folds = "folds" if len(next(iter(trained.values()))) > 1 else "one split"
    rows = {
        f"{model.name} ({folds})": {key: spread(values) for key, values in trained.items()},
        f"untrained ({len(seeds)} seeds)": {key: spread([run[key] for run in fresh]) for key in trained},
        f"log-mel statistics ({folds})": {key: spread(values) for key, values in mel.items()},
        "chance": {key: f"{100 / len(dataset.classes):.1f}" for key in trained},
    }
    click.echo(table(title, rows))
    figures = {key: float(np.mean(values)) for key, values in trained.items()}
    baseline = {key: [run[key] for run in fresh] for key in trained}
    report(name, figures, json_path, folds=trained, untrained=baseline, log_mel=mel)


@main.command()
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or weights file.")
@click.option("--solo", type=_FOLDER, help="Held-out episodes with one kind of monster.")
@click.option("--duo", type=_FOLDER, help="Held-out episodes with two.")
@click.option("--boxes", type=click.Path(exists=True, path_type=Path), help="vggss.json, or Flickr-SoundNet's XML.")
@click.option("--videos", type=_FOLDER, help="With FILE.mp4, or FILE.jpg and FILE.wav, of each annotation.")
@click.option("--names", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV of those to take.")
@click.option("--per-clip", type=click.IntRange(min=1), default=5, show_default=True, help="Pictures an episode.")
@click.option("--windows", type=click.IntRange(min=1), default=1, show_default=True, help="Of an episode, a sound.")
@click.option("--untrained-seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of whatever is drawn.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write them here, too.")
def localization(model, solo, duo, boxes, videos, names, per_clip, windows, untrained_seeds, seed, json_path):
    """Does the map point at what sounds? --solo and --duo: rendered monsters; --boxes and --videos: natural videos."""
    if (solo is None, boxes is None) != (duo is None, videos is None) or (solo is None) == (boxes is None):
        raise click.UsageError("give both --solo and --duo, or both --boxes and --videos")
    model = localizing_model(model)
    fresh = [untrained(model, seed + k) for k in range(untrained_seeds)]
    if solo:
        _rendered_boxes(model, fresh, solo, duo, per_clip, windows, seed, json_path)
        note = "Those are on natural videos, with other boxes: ours, of rendered monsters, can't be compared."
    else:
        _annotated_boxes(model, fresh[0], boxes, videos, names, seed, json_path)
        note = "Those hear 3 s or more of each clip and learned from natural videos; ours hears one window."
    beside_published(published.LOCALIZATION, note)


def _rendered_boxes(model, fresh, solo, duo, per_clip, windows, seed, json_path) -> None:
    from ..data import Shards
    from .solo_duo import measure, read_encounters

    found = measure(model, fresh, read_encounters(model, Shards(solo), Shards(duo), per_clip, windows, seed), seed)
    click.echo(f"{found}\n\nuntrained: {len(fresh)} seeds, BatchNorm's statistics from the pictures and their sounds")
    click.echo("intervals: 95 %, by drawing whole levels anew")
    report("localisation", found.figures, json_path, tables=found.tables)


def _annotated_boxes(model, fresh, boxes, videos, names, seed, json_path) -> None:
    from .sound_boxes import measure, read_annotations

    annotations = read_annotations(boxes, names)
    found, failures = measure(model, fresh, annotations, videos, seed)
    click.echo(f"{boxes.name}, {len(annotations) - len(failures)} of {len(annotations)} clips\n\n{found}")
    missing = [name for name, reason in failures.items() if reason == "missing"]
    for name, reason in failures.items():
        if reason != "missing":
            click.echo(f"left out: {name}: {reason}", err=True)
    if missing:
        some = ", ".join(missing[:3])
        click.echo(f"left out: {len(missing)} clips that aren't in {videos} ({some} ...; all in --json)", err=True)
    report(f"localisation ({boxes.stem})", found.figures, json_path, tables=found.tables, left_out=failures)


def run() -> None:
    """The command; what is wrong with its input is told in one line."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    run()
