"""README and the pages of docs keep their word: commands run, options, links and files exist, output is as shown.

So do the recipes on them, and the network on the page of architecture.
"""

import functools
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tones import write_tones

import openavc
from openavc.cli import main
from openavc.models import ARCHITECTURES
from training.recipe import read_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
LONGEST = 150  # lines of README: what a reader takes in


def blocks(page: str, language: str) -> list[str]:
    """Return a page's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def shell_lines(page: str) -> list[str]:
    """Return the lines of a page's shell blocks, fenced or indented, and its code spans; continued lines are joined."""
    fenced = re.findall(r"^```sh\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    (?:\S.*\n)(?:    .*\n)*", rest, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    return re.sub(r"\s*\\\n\s*", " ", "\n".join([*fenced, *indented, *spans])).splitlines()


def words(line: str) -> list[str]:
    """Return a command's words up to a pipe, without its comment, the launcher and variables set before it."""
    found = shlex.split(re.split(r"\s\|\s", line)[0], comments=True)
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found.pop(0)
    if found[:1] == ["torchrun"]:
        return ["python", *found[found.index("-m") :]] if "-m" in found else []
    return found


def commands(*start: str) -> list[tuple[str, ...]]:
    """Return the commands of all pages that begin with these words, without these words, each once."""
    lines = (line.strip() for page in PAGES.values() for line in shell_lines(page))
    found = (words(line) for line in lines if line.startswith((start[0], "torchrun")))
    return sorted({tuple(line[len(start) :]) for line in found if tuple(line[: len(start)]) == start} - {()})


def subcommands(command: click.Command) -> dict[str, click.Command]:
    """Return the commands of a group by their names; none for a single command."""
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    return {name: command.get_command(context, name) for name in command.list_commands(context)}


def unknown_options(command: click.Command, arguments: list[str]) -> list[str]:
    """Return the options among the arguments of a command, or of a group and its command, that don't exist."""
    named = [name for name in subcommands(command) if name in arguments]
    parts = [*command.params, *(part for name in named for part in subcommands(command)[name].params)]
    known = {"-h", "--help", *(option for part in parts for option in (*part.opts, *part.secondary_opts))}
    return [word for word in arguments if re.match(r"--?[a-zA-Z]", word) and word.split("=")[0] not in known]


OURS = commands("openavc")
MODULES = sorted({line[0] for line in commands("python", "-m") if line[0].startswith(("training", "openavc"))})
TRAINING = [line for line in commands("python", "-m") if line[0].startswith("training.")]
BENCHMARKS = [line for line in commands("python") if line[0].startswith("benchmarks/")]


def test_readme_is_short():
    assert len(README.splitlines()) <= LONGEST


def test_the_python_in_readme_prints_what_is_shown_below_it():
    code, output = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", README, flags=re.DOTALL).groups()
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    number = r"-?\d+\.?\d*"
    assert re.sub(number, "#", result.stdout) == re.sub(number, "#", output)
    # Another processor may round the second decimal the other way.
    assert [float(n) for n in re.findall(number, result.stdout)] == pytest.approx(
        [float(n) for n in re.findall(number, output)], abs=0.011
    )


def test_the_first_command_puts_its_result_where_readme_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    said = re.search(r"This prints `(.*?)`", README).group(1)
    first = next(line for line in shell_lines(README) if line.startswith("openavc "))
    result = CliRunner().invoke(main, shlex.split(first)[1:])
    assert result.output.strip() == said
    assert Path(said.split("results in ")[1]).is_file()


def test_the_commands_of_the_page_of_five_minutes_print_what_is_shown_below_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    page = PAGES["start.md"]
    shown = re.findall(r"```sh\n(.*?)```(?:\n\n```text\n(.*?)```)?", page, flags=re.DOTALL)
    shown = [(lines, output) for lines, output in shown if "talk.mp4" not in lines]  # a video of the reader's
    for lines, output in shown:
        said = [CliRunner().invoke(main, shlex.split(line)[1:], catch_exceptions=False) for line in lines.splitlines()]
        assert all(result.exit_code == 0 for result in said)
        assert not output or "".join(result.stdout for result in said) == output
    assert len(shown) == 4 and (tmp_path / "score.png").is_file() and (tmp_path / "where.mp4").is_file()
    (code,), output = blocks("start.md", "python"), re.search(r"^\(77.*\n", page, flags=re.MULTILINE).group()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == output


@pytest.mark.parametrize(
    "mark, last",
    [
        ("install", "openavc audio examples/freedoom.mp4 --output emb/"),
        ("tests", "python -m pytest -n auto --dist loadfile"),
    ],
)
def test_commands_in_readme_are_where_continuous_integration_looks_for_them(mark, last):
    block = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE).group(1)
    assert block.splitlines()[-1] == last


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_every_openavc_command_has_the_options_shown(command):
    assert command[0] in subcommands(main) or command[0].startswith("-")
    assert unknown_options(main, list(command)) == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_shown_answers_to_help(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the module may have been imported under its own name
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")  # as `python -m` does
    assert not ended.value.code
    assert capsys.readouterr().out.lower().startswith("usage: ")


@functools.cache
def command_of(module: str) -> click.Command:
    """Return the click command of a module, or of a package's __main__."""
    found = importlib.import_module(module)
    return (found if hasattr(found, "main") else importlib.import_module(f"{module}.__main__")).main


@pytest.mark.parametrize("command", TRAINING, ids=" ".join)
def test_every_training_command_has_the_options_shown(command):
    module, *arguments = command
    parent = command_of(module)
    if subcommands(parent) and arguments and arguments[0].islower():  # COMMAND stands for any
        assert arguments[0] in subcommands(parent)
    assert unknown_options(parent, arguments) == []
    assert [word for word in arguments if word.endswith(".toml") and not (ROOT / word).is_file()] == []


@pytest.mark.parametrize("command", BENCHMARKS, ids=" ".join)
def test_every_benchmark_shown_exists_and_has_the_options_shown(command):
    script, *arguments = command
    assert (ROOT / script).is_file()
    if any(word.startswith("-") for word in arguments):
        module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        assert unknown_options(module.main, arguments) == []


def test_the_recipe_on_the_page_of_training_is_one(tmp_path):
    (recipe,) = blocks("training.md", "toml")
    path = tmp_path / "own.toml"
    path.write_text(recipe.replace('extends = "', f'extends = "{(ROOT / "training/configs").as_posix()}/'))
    assert len(read_recipe(path).stages) == 2


RECIPES = [(page, block) for page in PAGES for block in blocks(page, "toml") if "[model]" in block]


@pytest.mark.parametrize(("page", "recipe"), RECIPES, ids=[page for page, _ in RECIPES])
def test_every_whole_recipe_is_one(page, recipe, tmp_path):
    (tmp_path / "whole.toml").write_text(recipe)
    assert read_recipe(tmp_path / "whole.toml").steps > 0


def test_the_network_on_the_page_of_architecture_is_trained_and_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (recipe,) = blocks("architecture.md", "toml")
    (tmp_path / "mine.toml").write_text(re.sub(r"(?m)^(steps|batch_size) = \d+", r"\1 = 4", recipe))
    write_tones(tmp_path / "shards/mine/train/000000.tar", range(4))
    monkeypatch.setitem(ARCHITECTURES, "mine", None)  # and without it again, when the test is over
    script: dict = {"__name__": "mine"}
    exec("".join(blocks("architecture.md", "python")), script)
    log = (tmp_path / "runs/mine/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 9))
    assert isinstance(script["model"], script["MyNet"])
    assert script["embedding"].shape == (len(script["timestamps"]), 32)
    seen = openavc.get_video_embedding("examples/freedoom.mp4", script["model"], frame_rate=0.5)
    assert seen.image.shape == seen.audio.shape == (len(seen.timestamps), 64)
    scores, _ = openavc.video_scores("examples/freedoom.mp4", script["model"])
    assert ((scores > 0) & (scores < 1)).all()


def test_the_code_on_the_page_of_interfaces_prints_what_is_shown(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    script: dict = {"__name__": "mine"}
    exec("".join(blocks("interfaces.md", "python")), script)
    assert capsys.readouterr().out == "".join(blocks("interfaces.md", "text"))
    assert script["embedding"].shape == (len(script["timestamps"]), 1120)


def test_there_are_commands_of_each_kind():
    assert min(map(len, (OURS, MODULES, TRAINING, BENCHMARKS))) >= 4
    assert {"architecture.md", "avol-small.md"} <= {page for page, _ in RECIPES}


@pytest.mark.parametrize("page", PAGES)
def test_every_function_called_on_a_page_is_public(page):
    assert sorted(set(re.findall(r"\bopenavc\.(\w+)\(", PAGES[page])) - set(openavc.__all__)) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_still_to_be_filled_in(page):
    assert not re.findall(r"(?m)^[A-Z]+_[A-Z_]+$|\b[A-Z]+_TABLE\b", PAGES[page])


def anchors(page: str) -> set[str]:
    """Return the names of a page's headings in links."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        file, _, anchor = link.partition("#")
        target = folder / file if file else folder / page
        assert target.exists(), link
        assert page == "README.md" or target.parent == folder, f"{link} leads out of the site"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_page_can_be_reached_from_the_contents_and_from_readme():
    for contents in ("README.md", "index.md"):
        linked = {Path(link).name for link in re.findall(r"\]\(([^)#]+)", PAGES[contents])}
        assert set(PAGES) - {"README.md", "index.md"} <= linked, contents


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_is_there(page):
    named = re.findall(r"`((?:openavc|training|tests|benchmarks|docs|examples)/[\w/.]*)`", PAGES[page])
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_of_architecture_has_every_file_of_training():
    files = {path.name for path in (ROOT / "training").glob("*.py")} - {"__init__.py"}
    assert sorted(name for name in files if name not in PAGES["architecture.md"]) == []
