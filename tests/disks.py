"""Small disks in memory, for tests of what happens when one is full or can't be written; only root can mount them."""

import contextlib
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def mounted(folder, options):
    """Mount a disk with options of `mount` at a new folder, or skip the test where that can't be."""
    if not shutil.which("mount"):
        pytest.skip("no disk can be mounted here: there is no `mount`")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
