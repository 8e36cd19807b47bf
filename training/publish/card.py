"""The model card of published weights, and a description in words of the data that a run was trained on."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from openavc.models.contract import AudioVisualModel, Localizes, Separates, Synchronizes
from openavc.weights import read_manifest

from ..recipe import lineage, read_tables

PROJECT = Path(__file__).parents[2]
DATA_OPTIONS = ("--data", "--solo", "--duo", "--side-by-side", "--videos")  # of training.evaluate, which name folders
_UNKNOWN = "shards without a record of their making"


def describe_corpora(corpora: list[dict | None], lengths: list[dict] | None = None) -> str:
    """Describe in words what shards hold, from the `corpus.json` of each folder; empty if none has one.

    `lengths` are the numbers and lengths of each folder's clips, as `training.record` keeps them.
    """
    lengths = lengths or [{} for _ in corpora]
    words = [_describe_corpus(corpus or {}, own) for corpus, own in zip(corpora, lengths, strict=True)]
    return "; ".join(words) if set(words) - {_UNKNOWN} else ""


def _describe_corpus(corpus: dict, lengths: dict) -> str:
    if "episodes" in corpus:
        scene = corpus.get("scene", "roam")  # the only scene when it wasn't recorded yet
        what = f"{scene}, split {corpus['split']}, seed {corpus['seed']}"
        return f"{corpus['episodes']} episodes of {corpus['seconds']:g} s rendered with ViZDoom ({what})"
    if "photographs" in corpus:
        return (
            f"{corpus['photographs']} photographs and {corpus['recordings']} recordings of {corpus['classes']} "
            "classes, paired by their class, not learned from video"
        )
    if "videos" in corpus:
        return f"{corpus['videos']} videos, {_describe_clips(corpus, lengths)}"
    return _UNKNOWN


def _describe_clips(corpus: dict, lengths: dict) -> str:
    """Tell the true lengths of clips: those asked for are only the longest, since a video's end may come before."""
    if not lengths:
        return f"clips of at most {corpus['settings']['clip_seconds']:g} s"
    shortest, mean, longest = (f"{lengths[key]:.3g}" for key in ("shortest", "mean", "longest"))
    if shortest == longest:
        return f"{lengths['clips']} clips of {longest} s"
    return f"{lengths['clips']} clips of {shortest} to {longest} s, {mean} s on average"


def without_machine(given: str) -> str:
    """Strip a path of this machine's folders: from the project's root, or else only the file's name."""
    path = Path(given)
    if path.is_absolute() and path.resolve().is_relative_to(PROJECT.resolve()):
        return path.resolve().relative_to(PROJECT.resolve()).as_posix()
    return path.name if path.is_absolute() or ".." in path.parts else given


def model_card(
    entry: dict,
    model: AudioVisualModel,
    run: Path,
    repo: str = "",
    limits: str = "",
    best: bool = False,
    tables: dict | None = None,
) -> str:
    """Write the card: the Hub's YAML header, then Markdown.

    Parameters
    ----------
    entry : dict
        Entry of the manifest.
    model : AudioVisualModel
        Loaded model, for the description of its inputs.
    run : Path
        Folder with `config.json` and `log.jsonl`.
    repo : str
        Repository on the Hub, `owner/name`; empty if the weights aren't there.
    limits : str
        What the model is bad at, in words.
    best : bool
        Whether the weights are those that were best on held-out shards, instead of the last.
    tables : dict, optional
        Tables to show instead of a command's metrics, by command: title -> row -> column -> cell.
    """
    config = json.loads((run / "config.json").read_text())
    parts = [
        f"---\n{header(entry)}\n---\n\n# {entry['name']}",
        (type(model).__doc__ or f"A network of the kind {entry['architecture']}.").strip().splitlines()[0],
        _table(_network(entry, model)),
        "## How to load it",
        _loading(entry, model, repo),
        "## How it was trained",
        _training(entry, config, run, best),
        "## What it measures",
        _metrics(entry["metrics"], tables or {}),
        "## What it is bad at",
        limits or "Not examined.",
        "## Licence",
        f"Of the weights: {entry['license']}. Of what they were trained on: {entry['data_license'] or 'not stated'}.",
    ]
    return "\n\n".join(parts) + "\n"


def is_card(path: Path) -> bool:
    """Whether a file is a card that `model_card` wrote."""
    return "\nlibrary_name: openavc\n" in path.read_text(errors="replace").partition("\n---\n")[0]


def header(entry: dict) -> str:
    """Write the card's metadata as YAML, for the Hub's search and its table of results."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="feature-extraction",
            dataset_type=_dataset(metric["command"]),
            dataset_name=_dataset(metric["command"]),
            metric_type=re.sub(r"[^a-z0-9]+", "-", metric["name"].lower()).strip("-"),
            metric_name=metric["name"],
            metric_value=metric["value"],
        )
        for metric in entry["metrics"]
    ]
    tags = ["audio-visual-correspondence", "self-supervised", entry["architecture"], *entry["modalities"]]
    return ModelCardData(
        license=entry["license"].lower(),
        library_name="openavc",
        pipeline_tag="feature-extraction",
        tags=tags,
        model_name=entry["name"],
        eval_results=results or None,
    ).to_yaml()


def _dataset(command: str) -> str:
    """Name the folders that a command of training.evaluate measured on."""
    words = shlex.split(command)
    folders = [Path(after).name for before, after in itertools.pairwise(words) if before in DATA_OPTIONS]
    return " and ".join(folders) or "unknown"


def _network(entry: dict, model: AudioVisualModel) -> dict[str, str]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sound, frames = model.sound, model.frames
    facts = {"network": inspect.getdoc(inspect.getmodule(type(model))).splitlines()[0]}
    if sound:
        channels = {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels} channels")
        facts["sound"] = f"{sound.seconds:g} s at {sound.sample_rate} Hz, {channels}"
    if frames:
        run = f"{frames.count} frames, {frames.rate:g} a second, of " if frames.count > 1 else ""
        facts["picture"] = f"{run}{frames.width} x {frames.height} pixels, RGB"
    for modality, sizes in model.embedding_sizes.items():
        embedded = {"audio": "a sound", "image": "a picture"}.get(modality, modality)
        facts[f"embeddings of {embedded}"] = ", ".join(f"`{kind}`: {size}" for kind, size in sizes.items())
    return facts | {
        "options": f"`{json.dumps(entry['options'])}`",
        "size": f"{parameters:,} parameters, {entry['bytes']:,} bytes",
        "SHA-256": f"`{entry['sha256']}`",
    }


def _loading(entry: dict, model: AudioVisualModel, repo: str) -> str:
    use = 'embedding, timestamps = openavc.get_audio_embedding("clip.wav", model=model)'
    if isinstance(model, Localizes):
        use = 'heatmap = openavc.localize_sound("photo.jpg", "sound.wav", None, model)'
    if isinstance(model, Synchronizes):
        use = 'print(openavc.sync_offset("clip.mp4", model))'
    if isinstance(model, Separates):
        use = 'on_screen, off_screen, sample_rate = openavc.separate_sources("clip.mp4", model)'
    if not repo:
        load = f'import openavc\n\nmodel = openavc.load_model("{entry["name"]}")'
    else:
        load = (
            "from huggingface_hub import hf_hub_download\n\nimport openavc\n\n"
            f'model = openavc.load_model(hf_hub_download("{repo}", "{entry["file"]}"))'
        )
    return f"```python\n{load}\n{use}\n```"


def _training(entry: dict, config: dict, run: Path, best: bool) -> str:
    facts = {
        "trained on": entry["trained_on"] or "not recorded",
        "began with": _beginning(config),
        "steps": f"{_last_step(run)} by the log, of a schedule of {config['steps']}",
        "weights": f"the best on held-out shards, after {_best_step(run)} steps" if best else "the last",
        "batch": f"{config['batch_size']} pairs",
        "seed": str(config["seed"]),
        "recipe": f"`{entry['recipe']}`" if entry["recipe"] else "not recorded",
    }
    return f"{_table(facts)}\n\n{_recipe(entry['recipe'], config)}"


def _beginning(config: dict) -> str:
    """Name the weights that a run began with, by their model or their file, and their digest."""
    digest = config.get("start_from")
    if not digest:
        return "random weights" if "start_from" in config else "not recorded"
    names = [entry["name"] for entry in read_manifest() if entry["sha256"] == digest]
    name = names[0] if names else without_machine(config.get("began_with", ""))
    return f"`{name}`, SHA-256 `{digest}`" if name else f"SHA-256 `{digest}`"


def _last_step(run: Path) -> int | str:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else "an unknown number"


def _best_step(run: Path) -> int:
    """Return the step of `best.safetensors`: the first with the highest figure, as training.record chooses."""
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    return max(lines, key=lambda line: line["threshold"])["step"]


def _recipe(recipe: str, config: dict) -> str:
    """Quote the recipe with all that it extends, and list where the run departs from it.

    If there is no such file, quote the run's own configuration.
    """
    paths = (PROJECT / recipe, PROJECT / "training" / "configs" / recipe)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        own = {key: value for key, value in config.items() if key not in ("shards", "corpus", "recipe")}
        return f"```json\n{json.dumps(own, indent=2)}\n```"
    first, *below = [f"```toml\n{file.read_text().strip()}\n```" for file in lineage(path)]
    names = [file.name for file in lineage(path)[1:]]
    extended = "".join(f"\n\n`{name}`, which it extends:\n\n{text}" for name, text in zip(names, below, strict=True))
    changed = [f"`{key} = {value}`" for key, value in departures(read_tables(path), config)]
    departs = f"\n\nThe run departs from this recipe: {', '.join(changed)}." if changed else ""
    return f"{first}{extended}{departs}"


def departures(recipe: dict, config: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Compare a recipe's file with a run's configuration.

    Yields
    ------
    key : str
        Key of a value that differs; in a table, preceded by the table's name and a dot.
    value
        The run's own value; None if it has no such key.
    """
    for key, value in recipe.items():
        own = config.get(key)
        if isinstance(value, dict) and isinstance(own, dict):
            yield from departures(value, own, f"{prefix}{key}.")
        elif not _agree(value, own):
            yield f"{prefix}{key}", own


def _agree(value: Any, own: Any) -> bool:
    """Whether a run's own value equals the recipe's; its tables may hold further keys, the defaults."""
    if isinstance(value, dict) and isinstance(own, dict):
        return all(_agree(inner, own.get(key)) for key, inner in value.items())
    if isinstance(value, dict) and isinstance(own, list):  # one table where several are allowed
        value = [value]
    if isinstance(value, list) and isinstance(own, list) and len(value) == len(own):
        return all(map(_agree, value, own))
    return value == own


def _metrics(metrics: list[dict], tables: dict) -> str:
    """Show each command, followed by its tables, or by one table of its figures."""
    if not metrics:
        return "Not measured."
    groups = itertools.groupby(metrics, key=lambda metric: metric["command"])
    return "\n\n".join(
        f"```sh\n{command}\n```\n\n{_measured(figures, tables.get(command))}" for command, figures in groups
    )


def _measured(figures: Iterable[dict], tables: dict | None) -> str:
    if tables:
        return "\n\n".join(_wide_table(title, rows) for title, rows in tables.items())
    return _table({metric["name"]: f"{metric['value']:g}" for metric in figures})


def _wide_table(title: str, rows: dict[str, dict[str, str]]) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[title, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
