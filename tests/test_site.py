"""The site of the documentation: it builds without a warning, has every page, and names every public function."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import openavc

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0 and not built.stdout + built.stderr, built.stdout + built.stderr
    return folder


def test_it_has_every_page_and_each_is_linked_from_the_first(site):
    first = (site / "index.html").read_text()
    for page in DOCS.glob("*.md"):
        built = site / ("index.html" if page.stem == "index" else f"{page.stem}/index.html")
        assert built.is_file() and (page.stem == "index" or f'href="{page.stem}/"' in first), page.name


def test_all_public_names_are_told_of_with_their_parameters(site):
    api = (site / "api/index.html").read_text()
    told = set(re.findall(r'id="openavc\.([A-Za-z_]+)"', api))
    assert told == set(openavc.__all__) - {"__version__"}
    assert "shape(T, D), float32" in re.sub(r"<[^>]+>", "", api)


def test_it_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert not loaded, (page, loaded)
