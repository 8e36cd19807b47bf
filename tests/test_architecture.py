"""The rooms of the package: imports go one way, and code learns a model's abilities only from its class."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_room_imports_a_higher_one_and_there_is_no_cycle():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_no_model_is_probed():
    probes = re.compile(r"(getattr|hasattr)\((\w+\.)*(model|network|self\.model)\b")
    files = [path for room in ("openavc", "training") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 80
    assert [path.name for path in files if probes.search(path.read_text(encoding="utf-8"))] == []
