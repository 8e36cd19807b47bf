"""The threads that commands compute with: as told, as the environment says, or a share of the cores."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from openavc.cli import main
from openavc.threads import default_threads

MOST = str(min(2, os.cpu_count()))  # torch takes no more threads than there are cores
REPORT = """
import os, sys
from openavc.cli import main
main(["models", *sys.argv[1:]], standalone_mode=False)
import torch
print(torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"])
"""


def threads_of(*arguments, **environment):
    """Return what torch computes with, and how threads wait, after a command in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENAVC_THREADS"))}
    command = [sys.executable, "-c", REPORT, *arguments]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
    number, waiting = done.stdout.splitlines()[-1].split()
    return int(number), waiting


def test_a_command_computes_with_the_threads_it_is_given():
    assert threads_of("--threads", MOST) == (int(MOST), "passive")
    assert threads_of(OPENAVC_THREADS=MOST, OMP_NUM_THREADS="1") == (int(MOST), "passive")
    assert threads_of("--threads", "1", OPENAVC_THREADS=MOST, OMP_WAIT_POLICY="active") == (1, "active")


def test_by_default_other_programs_are_left_half_of_the_cores(monkeypatch):
    assert threads_of(OMP_NUM_THREADS=MOST) == (int(MOST), "passive")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of() == (default_threads(), "passive")
    for cores, expected in ((1, 1), (2, 1), (4, 2), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert default_threads() == expected


@pytest.mark.parametrize("command", sorted(main.commands))
def test_all_commands_take_threads(command):
    assert "--threads" in CliRunner().invoke(main, [command, "--help"]).output


def test_threads_that_are_no_number_are_wrong_usage():
    result = CliRunner().invoke(main, ["models"], env={"OPENAVC_THREADS": "many"})
    assert result.exit_code == 2
    assert result.stderr == "Error: OPENAVC_THREADS must be a number of threads such as 2, got 'many'\n"
