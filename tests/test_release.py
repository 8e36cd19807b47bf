"""What a release states is the same in all places: version, Pythons, licences, size."""

import re
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST_WHEEL = 30e6  # bytes


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_that_of_the_citation_and_of_the_changelog():
    assert re.search(r"^version: (.*)$", read("CITATION.cff"), re.MULTILINE).group(1) == PROJECT["version"]
    assert re.search(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE).group(1) == PROJECT["version"]


def test_every_python_that_is_promised_is_tested():
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    tested = re.search(r"python: \[(.*)\]", read(".github/workflows/tests.yml")).group(1)
    assert re.findall(r"3\.\d+", tested) == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    assert f"Python {promised[0]} to {promised[-1]}" in read("README.md")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", read(name)):
        assert (ROOT / link).exists(), link


def test_what_the_package_holds_is_small_enough_for_the_wheel():
    """Weights don't compress: their bytes are nearly the wheel's."""
    held = sum(path.stat().st_size for path in (ROOT / "openavc").rglob("*") if "__pycache__" not in path.parts)
    assert held < LARGEST_WHEEL
