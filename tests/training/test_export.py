"""Export: a run's record in words, its card, and pushes with the real huggingface_hub to a server on 127.0.0.1."""

import hashlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner, Result
from hub_server import READER, WRITER, FakeHub
from safetensors.torch import load_file
from separating import SMALL

from openavc.weights import build_model, load_model
from training import export
from training.checkpoint import save_weights
from training.publish import card
from training.recipe import to_recipe

PROJECT = Path(export.__file__).parents[1]
REPO = "openavc/tones"
MODEL = {"architecture": "ave", "widths": [4, 4, 8, 8], "frontend": "mel64", "image_size": 16, "joint_size": 8}
RENDERED = {"seconds": 20.0, "seed": 0, "split": "train", "tics": 4, "sample_rate": 24000, "episodes": 3600}
PREPARED = {"settings": {"clip_seconds": 7.5, "frame_rate": 5}, "videos": 3, "side": "train"}
FIGURES = [
    {
        "name": "AVC AUC",
        "value": 89.9244,
        "command": "python -m training.evaluate avc --model tones --data shards/held",
    },
    {"name": "ESC (esc10) SVM", "value": 86.25, "command": "python -m training.evaluate esc --data 'my data/esc10'"},
    {"name": "ESC (esc10) 5-NN", "value": 76.0, "command": "python -m training.evaluate esc --data 'my data/esc10'"},
]

# huggingface_hub reads its environment when it is imported, so each push is a process, forked off one that has torch.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch"])


@pytest.fixture
def run(tmp_path):
    """Write what training leaves, except for the checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    save_weights(folder / "weights.safetensors", build_model(MODEL), MODEL)
    config = {"seed": 3, "batch_size": 16, "steps": 200, "model": MODEL, "corpus": [RENDERED], "recipe": "mine.toml"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 150)))
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": FIGURES}))
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the folder in which the weights and the manifest go."""
    monkeypatch.setattr(export, "PRETRAINED", tmp_path / "package")
    monkeypatch.setattr(export, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setenv("OPENAVC_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def hub():
    with FakeHub(b"") as hub:
        yield hub


def in_a_new_home(folder: Path, url: str, token: str, function, arguments: tuple) -> None:
    """Call the function in `folder`, in a new process, as a user whose Hub is at `url`."""
    assert "huggingface_hub" not in sys.modules
    for key in list(os.environ):
        if key.startswith(("HF_", "HUGGING", "OPENAVC_", "XDG_")) or key.lower().endswith("_proxy"):
            del os.environ[key]
    os.environ |= {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": token}
    os.environ |= {"HOME": str(folder / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.chdir(folder)
    time.sleep = lambda seconds: None  # huggingface_hub waits between its retries
    torch.set_num_threads(1)
    with open("stdout", "w") as output, open("stderr", "w") as errors, redirect_stdout(output), redirect_stderr(errors):
        function(*arguments)


def start(folder: Path, url: str, function, *arguments, token: str = "") -> tuple[int, str, str]:
    """Run a function in a new home; return its exit status, output and errors."""
    process = PROCESSES.Process(target=in_a_new_home, args=(folder, url, token, function, arguments), daemon=True)
    process.start()
    process.join(timeout=100)
    return process.exitcode, (folder / "stdout").read_text(), (folder / "stderr").read_text()


def run_export(*arguments: str) -> None:
    export.PRETRAINED, export.MANIFEST = Path("package"), Path("manifest.json")
    export.main(arguments)


def push(folder: Path, url: str, *arguments: str, token: str = WRITER) -> tuple[int, str, str]:
    arguments = (
        "run",
        "--name",
        "tones",
        "--metrics",
        "metrics.json",
        "--push",
        REPO,
        "--package",
        "--overwrite",
        *arguments,
    )
    return start(folder, url, run_export, *arguments, token=token)


def print_fetched(models: list[dict]) -> None:
    from openavc.weights import fetch_entry

    print(fetch_entry(models[0]))


def run_code(code: str) -> None:
    names = {}
    exec(code, names)
    print(names["embedding"].shape[1], names["model"].sha256)


def packaged(*arguments, **options) -> dict:
    """Export into the checkout, over what is there."""
    return export.export(*arguments, **{"package": True, "overwrite": True} | options)


def manifest(folder: Path) -> list[dict]:
    return json.loads((folder / "manifest.json").read_text())["models"]


def header(text: str) -> dict:
    _, found, _ = text.split("---\n", 2)
    return yaml.safe_load(found)


def same_tensors(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("corpora", "words"),
    [
        ([RENDERED], "3600 episodes of 20 s rendered with ViZDoom (roam, split train, seed 0)"),
        ([RENDERED | {"scene": "duel"}], "3600 episodes of 20 s rendered with ViZDoom (duel, split train, seed 0)"),
        ([PREPARED], "3 videos, clips of at most 7.5 s"),
        ([PREPARED, None], "3 videos, clips of at most 7.5 s; shards without a record of their making"),
        ([None], ""),
        ([], ""),
    ],
)
def test_a_corpus_is_told_in_words_by_its_record(corpora, words):
    assert card.describe_corpora(corpora) == words


def export_command(*arguments) -> Result:
    return CliRunner().invoke(export.main, list(map(str, arguments)))


def contents(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_found_by_its_name_from_anywhere_and_leaves_the_checkout_alone(run, project):
    checkout = contents(PROJECT / "openavc/pretrained") | {export.MANIFEST: b""}
    result = export_command(run, "--name", "my-grid")
    assert result.exit_code == 0, result.output
    weights = project / "home/models/my-grid.safetensors"
    assert str(weights) in result.output and same_tensors(weights, run / "weights.safetensors")
    assert not export.MANIFEST.exists() and not export.PRETRAINED.exists()
    assert contents(PROJECT / "openavc/pretrained") | {export.MANIFEST: b""} == checkout
    (project / "elsewhere").mkdir()
    code = "import openavc; print(openavc.load_model('my-grid').sha256, openavc.list_models()[-1])"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    for command, told in (
        (["-c", code], f"{hashlib.sha256(weights.read_bytes()).hexdigest()} my-grid"),
        (["-m", "openavc", "models"], "my-grid             audio+image; features 8, joint 8;"),
        (["-m", "openavc", "verify", "my-grid"], f"my-grid: good, {weights}"),
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=project / "elsewhere", env=environment, capture_output=True, text=True
        )
        assert told in done.stdout and done.stderr == ""


def test_the_shipped_weights_are_not_replaced_by_a_name(run, tmp_path):
    before = contents(PROJECT / "openavc/pretrained"), (PROJECT / "weights_manifest.json").read_bytes()
    environment = os.environ | {"OPENAVC_HOME": str(tmp_path / "home")}
    for options, told in (
        ([], "--package --overwrite"),
        (["--overwrite"], "--package --overwrite"),
        (["--package"], "there is a model 'ave-small' already"),
    ):
        command = [sys.executable, "-m", "training.export", str(run), "--name", "ave-small", *options]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
        assert done.returncode != 0 and told in done.stderr.splitlines()[-1]
    assert before == (contents(PROJECT / "openavc/pretrained"), (PROJECT / "weights_manifest.json").read_bytes())
    assert not (tmp_path / "home").exists() and not (run / "README.md").exists()


@pytest.mark.parametrize("where", [[], ["--package"]])
def test_nothing_is_replaced_without_overwrite(run, project, where):
    assert export_command(run, "--name", "tones", *where).exit_code == 0
    before = contents(project)
    result = export_command(run, "--name", "tones", "--license", "MIT", *where)
    assert result.exit_code == 2 and "'tones' already" in result.stderr and "--overwrite" in result.stderr
    assert contents(project) == before
    assert export_command(run, "--name", "tones", "--license", "MIT", *where, "--overwrite").exit_code == 0
    entry = manifest(project)[0] if where else json.loads((project / "home/models/tones.json").read_text())
    assert entry["license"] == "MIT"


@pytest.mark.parametrize("file", ["README.md", "tones.safetensors"])
def test_files_of_the_run_that_no_export_wrote_are_kept(run, project, file):
    (run / file).write_text("# my notes\n")
    before = contents(project)
    result = export_command(run, "--name", "tones")
    assert result.exit_code == 2 and str(run / file) in " ".join(result.stderr.split())
    assert contents(project) == before
    assert export_command(run, "--name", "tones", "--overwrite").exit_code == 0


def test_the_card_names_the_licences_as_given(run, project):
    export_command(run, "--name", "tones")
    text = (run / "README.md").read_text()
    assert header(text)["license"] == "unknown" and "Apache" not in text
    assert "Of the weights: unknown. Of what they were trained on: not stated." in text
    options = ("--license", "MIT", "--data-license", "CC BY-NC 4.0", "--overwrite")
    assert export_command(run, "--name", "tones", *options).exit_code == 0
    text = (run / "README.md").read_text()
    assert header(text)["license"] == "mit"
    assert "Of the weights: MIT. Of what they were trained on: CC BY-NC 4.0." in text
    export_command(run, "--name", "tones", "--overwrite")  # the same weights keep what was told once
    assert "Of the weights: MIT. Of what they were trained on: CC BY-NC 4.0." in (run / "README.md").read_text()


def test_the_card_names_the_weights_that_the_run_began_with(run, project):
    export.export(run, "first", trained_on="", recipe="", metrics=[])
    exported = hashlib.sha256((project / "home/models/first.safetensors").read_bytes()).hexdigest()
    for recorded, told in (
        ({"start_from": None}, "| began with | random weights |"),
        ({}, "| began with | not recorded |"),
        ({"start_from": "a" * 64}, f"| began with | SHA-256 `{'a' * 64}` |"),
        (
            {"start_from": "a" * 64, "began_with": "runs/x/best.safetensors"},
            "| began with | `runs/x/best.safetensors`, ",
        ),
        ({"start_from": "a" * 64, "began_with": "/private/x.safetensors"}, "| began with | `x.safetensors`, SHA-256"),
        ({"start_from": exported, "began_with": "/private/x.safetensors"}, f"`first`, SHA-256 `{exported}` |"),
    ):
        config = json.loads((run / "config.json").read_text())
        kept = {key: value for key, value in config.items() if key not in ("start_from", "began_with")} | recorded
        (run / "config.json").write_text(json.dumps(kept))
        export.export(run, "second", overwrite=True, trained_on="", recipe="", metrics=[])
        assert told in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ({"clips": 9, "shortest": 7.5, "mean": 7.5, "longest": 7.5}, "3 videos, 9 clips of 7.5 s"),
        (
            {"clips": 9, "shortest": 2.02, "mean": 4.204, "longest": 7.5},
            "3 videos, 9 clips of 2.02 to 7.5 s, 4.2 s on average",
        ),
        ({}, "3 videos, clips of at most 7.5 s"),
    ],
)
def test_the_card_tells_how_long_the_clips_really_are(run, project, lengths, words):
    config = json.loads((run / "config.json").read_text()) | {"corpus": [PREPARED], "clip_seconds": [lengths]}
    (run / "config.json").write_text(json.dumps(config))
    export.export(run, "tones", trained_on="", recipe="", metrics=[])
    assert f"| trained on | {words} |" in (run / "README.md").read_text()


def test_what_the_run_recorded_is_in_the_entry_unless_told_otherwise(run, project):
    nothing = {"trained_on": "", "recipe": "", "metrics": []}
    entry = packaged(run, "tones", "Apache-2.0", **nothing)
    assert (entry["trained_on"], entry["recipe"]) == (card.describe_corpora([RENDERED]), "mine.toml")
    told = {"trained_on": "six tones", "recipe": "other.toml", "metrics": FIGURES}
    entry = packaged(run, "tones", "Apache-2.0", **told)
    assert {key: entry[key] for key in told} == told
    assert manifest(project) == [entry]
    assert same_tensors(project / "package/tones.safetensors", run / "weights.safetensors")


def test_what_was_told_once_holds_for_the_same_weights_alone(run, project):
    nothing = {"trained_on": "", "recipe": "", "metrics": []}
    told = nothing | {"metrics": FIGURES}
    for about in (told, nothing):
        assert packaged(run, "tones", "Apache-2.0", **about)["metrics"] == FIGURES
    torch.manual_seed(1)
    save_weights(run / "weights.safetensors", build_model(MODEL), MODEL)
    assert packaged(run, "tones", "Apache-2.0", **nothing)["metrics"] == []
    assert len(manifest(project)) == 1


def test_the_card_holds_the_metrics_with_their_commands_and_what_is_known_of_the_run(run, project):
    packaged(run, "tones", "Apache-2.0", metrics=FIGURES, trained_on="", recipe="")
    text = (run / "README.md").read_text()
    found = header(text)
    assert (found["license"], found["library_name"]) == ("apache-2.0", "openavc")
    [index] = found["model-index"]
    measured = {
        (result["dataset"]["name"], figure["name"], figure["value"])
        for result in index["results"]
        for figure in result["metrics"]
    }
    assert measured == {
        ("held", "AVC AUC", 89.9244),
        ("esc10", "ESC (esc10) SVM", 86.25),
        ("esc10", "ESC (esc10) 5-NN", 76),
    }
    for figure in FIGURES:
        assert text.index(figure["command"]) < text.index(f"| {figure['name']} | {figure['value']:g} |")
    for fact in (
        "1 s at 24000 Hz",
        "16 x 16 pixels",
        "150 by the log, of a schedule of 200",
        "16 pairs",
        "| seed | 3 |",
    ):
        assert fact in text
    assert "3600 episodes of 20 s" in text and "Not examined." in text


def test_the_card_quotes_the_recipe_and_names_where_the_run_departs_from_it(run, project, monkeypatch):
    monkeypatch.setattr(card, "PROJECT", project)
    (project / "mine.toml").write_text("seed = 0 # ours\nbatch_size = 16\nsteps = 200\n")
    packaged(run, "tones", "Apache-2.0", metrics=[], trained_on="", recipe="", limits="Speech.")
    text = (run / "README.md").read_text()
    assert "seed = 0 # ours\nbatch_size = 16" in text and "departs from this recipe: `seed = 3`.\n" in text
    assert "Speech.\n" in text and "Not measured.\n" in text and "model-index" not in header(text)


def test_the_card_shows_what_the_recipe_extends_and_compares_with_both(run, project, monkeypatch):
    monkeypatch.setattr(card, "PROJECT", project)
    (project / "base.toml").write_text("batch_size = 16 # pairs\nsteps = 100\n[data]\nflip = true\n")
    (project / "mine.toml").write_text('extends = "base.toml"\nseed = 3\n[data]\ngain = [0.5, 2.0]\n')
    config = json.loads((run / "config.json").read_text()) | {"data": {"flip": False, "gain": [0.5, 2.0]}}
    (run / "config.json").write_text(json.dumps(config))
    packaged(run, "tones", "Apache-2.0", metrics=[], trained_on="", recipe="")
    text = (run / "README.md").read_text()
    own, base = text.index('extends = "base.toml"'), text.index("batch_size = 16 # pairs")
    assert own < text.index("`base.toml`, which it extends:") < base
    assert "departs from this recipe: `steps = 200`, `data.flip = False`.\n" in text


def test_a_run_of_the_recipe_itself_departs_in_nothing():
    tables = {
        "seed": 3,
        "batch_size": 8,
        "precision": "float32",
        "checkpoint_every": 3,
        "model": MODEL,
        "objective": {"name": "correspondence"},
        "data": {"gain": [0.5, 2.0]},
        "optimizer": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-5, "schedule": "constant"},
        "negatives": {"kind": "same_clip"},
        "stages": [{"steps": 2}, {"steps": 3, "data": {"flip": False}}],
    }
    kept = json.loads(json.dumps(to_recipe(tables).to_json()))
    assert list(card.departures(tables, kept)) == []
    assert list(card.departures(tables | {"seed": 4}, kept)) == [("seed", 3)]


@pytest.mark.parametrize(
    ("sizes", "entry"),
    [
        ({"audio": {"features": 8, "joint": 4}, "image": {"features": 8, "joint": 4}}, {"features": 8, "joint": 4}),
        ({"audio": {"features": 6144}, "image": {"features": 8192}}, {"features": {"audio": 6144, "image": 8192}}),
        ({"audio": {"features": 8}}, {"features": 8}),
        ({"audio": {"features": 8, "joint": 4}, "image": {"features": 8}}, {"features": 8, "joint": {"audio": 4}}),
    ],
)
def test_the_entry_has_one_size_where_sounds_and_pictures_have_the_same(sizes, entry):
    assert export.embedding_size(sizes) == entry


def test_what_ships_is_described_as_the_manifest_has_it():
    for known in json.loads((PROJECT / "weights_manifest.json").read_text())["models"]:
        if known["sources"][0]["type"] == "package":
            path = export.PRETRAINED / known["file"]
            model = load_model(path, device="cpu")
            assert export.describe(model, known["name"], path, known["license"]).items() <= known.items()


def test_the_card_of_a_network_that_localises_says_how_and_on_what_it_was_measured(run, project):
    architecture = MODEL | {"architecture": "avol", "image_size": [24, 32]}
    save_weights(run / "weights.safetensors", build_model(architecture), architecture)
    config = json.loads((run / "config.json").read_text()) | {"model": architecture}
    (run / "config.json").write_text(json.dumps(config))
    command = "python -m training.evaluate localization --model tones --solo shards/solo-held --duo shards/duo-held"
    metrics = [{"name": "duo gain", "value": 40.0, "command": command}]
    tables = {command: {"duo, 3 pictures": {"the model": {"gain": "40.0 [36.0, 44.0]"}, "centre": {"own": "7"}}}}
    packaged(run, "tones", "Apache-2.0", metrics=metrics, tables=tables, trained_on="", recipe="")
    text = (run / "README.md").read_text()
    assert "| picture | 32 x 24 pixels, RGB |" in text
    assert 'openavc.localize_sound("photo.jpg", "sound.wav", None, model)' in text
    assert header(text)["model-index"][0]["results"][0]["dataset"]["name"] == "solo-held and duo-held"
    assert (
        f"{command}\n```\n\n| duo, 3 pictures | gain | own |\n| --- | --- | --- |\n"
        "| the model | 40.0 [36.0, 44.0] |  |\n| centre |  | 7 |\n"
    ) in text


def test_what_is_pushed_gives_the_same_weights_from_an_empty_cache(run, project, hub):
    status, output, errors = push(project, hub.url, "--no-package")
    assert status == 0, errors
    [(revision, files)] = hub.repos[REPO]
    [entry] = manifest(project)
    source = {"type": "hub", "repo": REPO, "revision": revision, "filename": "tones.safetensors"}
    assert entry["sources"] == [source] and revision in output
    assert files.keys() == {"tones.safetensors", "README.md"}
    assert hashlib.sha256(files["tones.safetensors"]).hexdigest() == entry["sha256"]
    assert not (project / "package").exists()

    status, output, errors = start(project, hub.url, print_fetched, [entry])
    assert status == 0, errors
    assert same_tensors(Path(output.strip()), run / "weights.safetensors")


def test_the_code_of_the_card_runs(run, project, hub):
    assert push(project, hub.url)[0] == 0
    soundfile.write(project / "clip.wav", np.random.default_rng(0).uniform(-1, 1, 24_000), 24_000)
    code = hub.files(REPO)["README.md"].decode().split("```python\n")[1].split("```")[0]
    _, output, errors = start(project, hub.url, run_code, code)
    assert output.split() == ["8", manifest(project)[0]["sha256"]], errors


def test_a_second_push_of_the_same_makes_no_commit_and_the_package_stays_the_first_source(run, project, hub):
    for _ in range(2):
        status, _, errors = push(project, hub.url)
        assert status == 0, errors
        assert len(hub.repos[REPO]) == 1
        [entry] = manifest(project)
        assert [source["type"] for source in entry["sources"]] == ["package", "hub"]
    again = packaged(run, "tones", trained_on="", recipe="", metrics=[])
    assert again == entry  # the same weights are still on the Hub


def test_weights_that_nobody_could_get_are_not_listed(run, project):
    with pytest.raises(ValueError, match="'tones'"):
        packaged(run, "tones", "Apache-2.0", package=False, trained_on="", recipe="", metrics=[])
    assert not (project / "manifest.json").exists() and not (run / "tones.safetensors").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"models": [{"name": "../out"}]}'])
def test_a_broken_manifest_is_named(run, project, content):
    (project / "manifest.json").write_text(content)
    with pytest.raises(OSError, match=f"{project / 'manifest.json'} can't be used"):
        packaged(run, "tones")
    assert (project / "manifest.json").read_text() == content


@pytest.mark.parametrize("name", ["", "a/b", "../tones", "a\\b", "C:b", "weights", "best", "Best", "a\nb"])
def test_a_name_that_would_lie_elsewhere_or_replace_the_runs_own_is_refused(run, project, name):
    before = sorted(project.rglob("*"))
    with pytest.raises(ValueError, match="a model's name is that of a file without folders"):
        packaged(run, name, "Apache-2.0", trained_on="", recipe="", metrics=[])
    assert sorted(project.rglob("*")) == before


def test_the_best_weights_are_exported_where_they_are_asked_for_and_the_card_says_so(run, project):
    nothing = {"trained_on": "", "recipe": "", "metrics": []}
    with pytest.raises(FileNotFoundError, match=r"no best\.safetensors.*--validation"):
        packaged(run, "tones", "Apache-2.0", best=True, **nothing)
    torch.manual_seed(1)
    save_weights(run / "best.safetensors", build_model(MODEL), MODEL)
    lines = [{"step": step, "threshold": figure} for step, figure in ((50, 61.0), (100, 70.5), (150, 70.5))]
    (run / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = CliRunner().invoke(export.main, [str(run), "--name", "tones", "--best", "--package"])
    assert result.exit_code == 0, result.output
    assert same_tensors(project / "package/tones.safetensors", run / "best.safetensors")
    assert "| weights | the best on held-out shards, after 100 steps |" in (run / "README.md").read_text()
    packaged(run, "tones", "Apache-2.0", **nothing)
    assert same_tensors(project / "package/tones.safetensors", run / "weights.safetensors")
    assert "| weights | the last |" in (run / "README.md").read_text()


def test_a_measurement_without_metrics_is_refused_before_anything_is_written(run, project):
    (project / "tables.json").write_text(json.dumps({"metrics": [], "tables": {"duo": {"the model": {"gain": "40"}}}}))
    before = sorted(project.rglob("*"))
    options = [run, "--name", "tones", "--metrics", project / "metrics.json", "--metrics", project / "tables.json"]
    result = CliRunner().invoke(export.main, list(map(str, options)))
    assert result.exit_code == 2
    assert f"there are no metrics in {project / 'tables.json'}" in result.stderr
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        ("{project}/training/configs/mine.toml", "training/configs/mine.toml"),
        ("{project}/training/../mine.toml", "mine.toml"),
        ("/somewhere/private/mine.toml", "mine.toml"),
        ("../private/mine.toml", "mine.toml"),
        ("training/configs/mine.toml", "training/configs/mine.toml"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("told", [False, True])
def test_no_folder_of_the_machine_is_in_the_recipe_of_entry_and_card(run, project, monkeypatch, recipe, kept, told):
    monkeypatch.setattr(card, "PROJECT", project)
    monkeypatch.setattr(export, "PROJECT", project)
    recipe = recipe.format(project=project)
    config = json.loads((run / "config.json").read_text()) | {"recipe": "" if told else recipe}
    (run / "config.json").write_text(json.dumps(config))
    entry = packaged(run, "tones", "Apache-2.0", metrics=[], trained_on="", recipe=recipe if told else "")
    text = (run / "README.md").read_text() + (project / "manifest.json").read_text()
    assert entry["recipe"] == kept
    assert str(project) not in text and "private" not in text


@pytest.fixture
def listed(project, run):
    """Return the manifest and the package, with another model of this name, before a push that fails."""
    torch.manual_seed(1)
    trained = (run / "weights.safetensors").read_bytes()
    save_weights(run / "weights.safetensors", build_model(MODEL), MODEL)
    packaged(run, "tones", "Apache-2.0", trained_on="", recipe="", metrics=[])
    (run / "weights.safetensors").write_bytes(trained)
    return {path: path.read_bytes() for path in (project / "manifest.json", project / "package/tones.safetensors")}


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("no token", "hf auth login"),
        ("wrong token", "hf auth login"),
        ("reader", "write access to openavc's"),
        ("no network", "Try again when http://127.0.0.1"),
        ("dies", "Try again when http://127.0.0.1"),
        ("swapped", "damaged or was replaced"),
        ("unknown licence", "'apache-2.0', 'mit', 'other', 'unknown']"),
    ],
)
def test_a_push_that_fails_says_what_to_do_and_leaves_all_as_it_was(project, listed, hub, case, told):
    if case in ("dies", "swapped"):
        hub.behaviour = case
    token = {"no token": "", "wrong token": "hf_wrong", "reader": READER}.get(case, WRITER)
    url = closed_port() if case == "no network" else hub.url
    options = ("--license", "mine") if case == "unknown licence" else ()
    status, _, errors = push(project, url, *options, token=token)
    last = errors.splitlines()[-1]
    assert status == 1 and last.startswith("Error: ") and told in last and "Traceback" not in errors
    assert {path: path.read_bytes() for path in listed} == listed
    assert (("PUT", 0) in hub.requests) == (case in ("dies", "swapped"))


@pytest.mark.parametrize("file", ["manifest.json", "tones.safetensors"])
def test_where_one_of_both_files_cant_be_written_neither_is_replaced(run, project, listed, file, monkeypatch):
    write, folders = Path.write_bytes, {project, project / "package"}

    def full(path, content):
        if file in path.name and path.parent in folders:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        packaged(run, "tones", "Apache-2.0", trained_on="", recipe="", metrics=[])
    assert {path: path.read_bytes() for path in listed} == listed
    assert not [path for path in project.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("repo", ["tones", "a/b/c", "openavc/to nes", "openavc/tones.git", "-/-"])
def test_a_name_that_the_hub_would_not_take_is_refused_before_anything_is_written(run, project, repo):
    result = CliRunner().invoke(export.main, [str(run), "--name", "tones", "--push", repo])
    assert result.exit_code == 1 and repr(repo) in result.output
    assert not (project / "manifest.json").exists() and not (run / "README.md").exists()


def test_the_card_of_a_network_that_tells_sync_says_how_to_use_it(run, project):
    architecture = {
        "architecture": "multisensory",
        "widths": [4, 4, 8, 8],
        "image_size": 16,
        "frames": 8,
        "frame_rate": 10.0,
        "sample_rate": 8000,
        "evidence": 0.5,
    }
    save_weights(run / "weights.safetensors", build_model(architecture), architecture)
    before = {key: value for key, value in architecture.items() if key != "evidence"}
    config = json.loads((run / "config.json").read_text()) | {"model": before}
    (run / "config.json").write_text(json.dumps(config))
    packaged(run, "tones", "Apache-2.0", metrics=[], trained_on="", recipe="")
    text = (run / "README.md").read_text()
    assert 'print(openavc.sync_offset("clip.mp4", model))' in text and "get_audio_embedding" not in text
    assert '"evidence": 0.5' in text and "| sound | 0.8 s at 8000 Hz, stereo |" in text
    assert load_model(run / "tones.safetensors").evidence == 0.5  # which calibration wrote after the training


def test_the_card_of_a_network_that_separates_says_how_to_use_it(run, project):
    architecture = {"architecture": "separation"} | SMALL
    save_weights(run / "weights.safetensors", build_model(architecture), architecture)
    config = json.loads((run / "config.json").read_text()) | {"model": architecture}
    (run / "config.json").write_text(json.dumps(config))
    packaged(run, "tones", "Apache-2.0", metrics=[], trained_on="", recipe="")
    assert "off_screen, sample_rate = openavc.separate_sources(" in (run / "README.md").read_text()
