"""A run in words: what it was trained on, and the model card that goes beside its weights."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from openavc.image import height_and_width
from openavc.motion import frames_of

PROJECT = Path(__file__).parent.parent
DATA_OPTIONS = ("--data", "--solo", "--duo", "--videos")  # of training.evaluate
_UNKNOWN = "shards without a record of their making"


def describe_corpora(corpora: list[dict | None]) -> str:
    """What the shards hold, by the `corpus.json` of each folder; empty if none has one."""
    words = [_describe_corpus(corpus or {}) for corpus in corpora]
    return "; ".join(words) if set(words) - {_UNKNOWN} else ""


def _describe_corpus(corpus: dict) -> str:
    if "episodes" in corpus:
        scene = corpus.get("scene", "roam")  # the only one before there were others
        what = f"{scene}, split {corpus['split']}, seed {corpus['seed']}"
        return f"{corpus['episodes']} episodes of {corpus['seconds']:g} s rendered with ViZDoom ({what})"
    if "videos" in corpus:
        return f"{corpus['videos']} videos, clips of {corpus['settings']['clip_seconds']:g} s"
    return _UNKNOWN


def model_card(
    entry: dict,
    model,
    run: Path,
    repo: str = "",
    limits: str = "",
    best: bool = False,
    tables: dict | None = None,
) -> str:
    """The card: Markdown after the Hub's YAML header.

    Parameters
    ----------
    entry : dict
        Of the manifest.
    model : nn.Module
        Loaded, for what it says of its inputs.
    run : Path
        With `config.json` and `log.jsonl`.
    repo : str
        On the Hub, `owner/name`; empty if the weights aren't there.
    limits : str
        What the model is bad at, in words.
    best : bool
        Whether the weights are those that were best on held-out shards, not the last.
    tables : dict, optional
        What to show of a command's measurement instead of its metrics: title -> row -> column -> cell.
    """
    config = json.loads((run / "config.json").read_text())
    parts = [
        f"---\n{header(entry)}\n---\n\n# {entry['name']}",
        inspect.getdoc(type(model)).splitlines()[0],
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
        entry["license"],
    ]
    return "\n\n".join(parts) + "\n"


def header(entry: dict) -> str:
    """The card's metadata as YAML: what the Hub's search and its table of results read."""
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
    """Names of the folders that a command of training.evaluate measured on."""
    words = shlex.split(command)
    folders = [Path(after).name for before, after in itertools.pairwise(words) if before in DATA_OPTIONS]
    return " and ".join(folders) or "unknown"


def _network(entry: dict, model) -> dict[str, str]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    height, width = height_and_width(model.image_size)
    sizes = ", ".join(f"`{kind}`: {size}" for kind, size in entry["embedding_size"].items())
    return {
        "network": inspect.getdoc(inspect.getmodule(type(model))).splitlines()[0],
        "sound": f"{model.window_seconds:g} s at {model.sample_rate} Hz, mono",
        "picture": f"{frames_of(model)} frames of " * (frames_of(model) > 1) + f"{width} x {height} pixels, RGB",
        "embeddings of a picture": sizes,
        "options": f"`{json.dumps(entry['options'])}`",
        "size": f"{parameters:,} parameters, {entry['bytes']:,} bytes",
        "SHA-256": f"`{entry['sha256']}`",
    }


def _loading(entry: dict, model, repo: str) -> str:
    use = 'embedding, timestamps = openavc.get_audio_embedding("clip.wav", model=model)'
    if hasattr(model, "localize"):
        use = 'heatmap = openavc.localize_sound("photo.jpg", "sound.wav", None, model)'
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
        "steps": f"{_last_step(run)} by the log, of a schedule of {config['steps']}",
        "weights": f"the best on held-out shards, after {_best_step(run)} steps" if best else "the last",
        "batch": f"{config['batch_size']} pairs",
        "seed": str(config["seed"]),
        "recipe": f"`{entry['recipe']}`" if entry["recipe"] else "not recorded",
    }
    return f"{_table(facts)}\n\n{_recipe(entry['recipe'], config)}"


def _last_step(run: Path) -> int | str:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else "an unknown number"


def _best_step(run: Path) -> int:
    """When `best.safetensors` was written: the first of the highest figures, as training.record chooses."""
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    return max(lines, key=lambda line: line["threshold"])["step"]


def _recipe(recipe: str, config: dict) -> str:
    """The recipe's text and where the run departs from it; the run's own configuration if there is no such file."""
    places = (PROJECT / recipe, PROJECT / "training" / "configs" / recipe)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        own = {key: value for key, value in config.items() if key not in ("shards", "corpus", "recipe")}
        return f"```json\n{json.dumps(own, indent=2)}\n```"
    text = path.read_text()
    changed = [f"`{key} = {config.get(key)}`" for key, value in tomllib.loads(text).items() if config.get(key) != value]
    departs = f"\n\nThe run departs from this recipe: {', '.join(changed)}." if changed else ""
    return f"```toml\n{text.strip()}\n```{departs}"


def _metrics(metrics: list[dict], tables: dict) -> str:
    """The tables of each command, or one of its figures, after the command."""
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
