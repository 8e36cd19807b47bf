"""README keeps its word: its commands run and print what it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from openavc.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = re.findall(r"^(openavc .*?)(?:\s+#.*)?$", SHELL, flags=re.MULTILINE)
TRAINING = re.findall(r"^python -m (training\S*)", SHELL, flags=re.MULTILINE)


def test_the_python_on_the_first_screen_prints_what_is_shown_below_it():
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
    result = CliRunner().invoke(main, shlex.split(COMMANDS[0])[1:])
    assert result.output.strip() == said
    assert Path(said.split("results in ")[1]).is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shown_has_the_options_it_uses(command):
    name, *arguments = shlex.split(command)[1:]
    known = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert [word for word in arguments if word.startswith("--") and word not in known] == []


@pytest.mark.parametrize("module", sorted(set(TRAINING)))
def test_every_training_command_shown_answers_to_help(module):
    result = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_no_figure_is_still_to_be_filled_in():
    assert not re.findall(r"(?m)^[A-Z]+_[A-Z_]+$|\b[A-Z]+_TABLE\b", README)


def test_every_file_that_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
