"""The report at a command's end: the papers' figures on the screen, its own in a JSON file."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from openavc.atomic import write_bytes

from .published import Published, published_table


def write_report(
    name: str, figures: dict[str, float], json_path: Path | None, module: str = "training.evaluate", **more: Any
) -> None:
    """Write figures to a JSON file, with the command that measured them and further entries.

    Parameters
    ----------
    name : str
        Name of the evaluation, with which the name of each metric begins.
    figures : dict
    json_path : Path or None
        File to write; None writes nothing.
    module : str
        That was run.
    **more
        Further entries of the file, beside "metrics".
    """
    if json_path is None:
        return
    command = f"python -m {module} " + shlex.join(sys.argv[1:])
    metrics = [
        {"name": f"{name} {key}", "value": round(value, 4), "command": command} for key, value in figures.items()
    ]
    write_bytes(json_path, (json.dumps({"metrics": metrics, **more}, indent=2) + "\n").encode())


def print_published(rows: list[Published], note: str) -> None:
    """Print the papers' figures below our own, and a note on how far the two may be compared."""
    click.echo("\n" + published_table(rows))
    click.echo(note + "\n")
