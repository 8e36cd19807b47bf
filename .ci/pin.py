"""Pin the releases that openavc is tried with: write constraints.txt and constraints-lowest.txt anew.

Comments at the head of the two files are kept. Needs uv, which resolves for every Python wherever it runs.
"""

import subprocess
from collections import defaultdict
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
# Python 3.11 has the release of PyTorch whose build without CUDA continuous integration finds.
NEWEST_TORCH = 'torch==2.13.0; python_version == "3.11"\ntorch<2.15'
WANTED = {"constraints.txt": ("highest", NEWEST_TORCH), "constraints-lowest.txt": ("lowest-direct", "")}
OF_TORCH = ("cuda-", "nvidia-", "triton")  # names of packages that each release of PyTorch pins itself


def resolved(python: str, resolution: str, also: str) -> list[str]:
    """Return a `name==version` for each package that openavc, with all extras, needs on a Python."""
    command = [
        *"uv pip compile --quiet --no-header --no-annotate --all-extras pyproject.toml -".split(),
        *f"--python-version {python} --python-platform x86_64-manylinux_2_28".split(),
        *f"--only-binary :all: --resolution {resolution}".split(),
    ]
    found = subprocess.run(command, cwd=ROOT, input=also, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [pin for pin in found.splitlines() if not pin.startswith(OF_TORCH)]


def pins(resolution: str, also: str) -> list[str]:
    """Return the lines of a constraints file, with the Pythons that a release is for where they differ."""
    pythons_of: dict[str, list[str]] = defaultdict(list)
    for python in PYTHONS:
        for pin in resolved(python, resolution, also):
            pythons_of[pin].append(python)
    names = [pin.split("==")[0] for pin in pythons_of]
    alone = {name for name in names if names.count(name) == 1}
    return [
        pin if pin.split("==")[0] in alone else f'{pin}; python_version in "{" ".join(pythons)}"'
        for pin, pythons in sorted(pythons_of.items())
    ]


for file, wanted in WANTED.items():
    path = ROOT / file
    head = takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    path.write_text("\n".join([*head, *pins(*wanted)]) + "\n")
