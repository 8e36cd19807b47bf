"""One process a folder: the second one is told who is first, and a killed one keeps nobody out."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from openavc.locks import only_user

HOLD = """
import sys, time
from openavc.locks import only_user
with only_user(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that uses the folder `tmp_path / "used"`; return it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "used"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_which_one_uses_the_folder(holder, tmp_path):
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(OSError, match="is in use by process") as refused, only_user(tmp_path / "used"):
            pass
        said = str(refused.value)
        assert str(tmp_path / "used") in said and len(said.splitlines()) == 1
        assert f"process {holder.pid} on {socket.gethostname()}, since 20" in said


def test_the_lock_of_a_killed_process_is_released(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_user(tmp_path / "used"):
        (tmp_path / "used/file").touch()
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_a_folder_that_is_not_written_to_is_not_left(tmp_path):
    with pytest.raises(ZeroDivisionError), only_user(tmp_path / "new/deep"):
        assert (tmp_path / "new/deep").is_dir()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_its_holder_removes_while_another_waits_is_made_again(tmp_path):
    """The holder found it missing, wrote nothing, and removes it as it ends."""
    command = [sys.executable, "-c", HOLD.replace("time.sleep(600)", "sys.stdin.read()"), tmp_path / "new"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    threading.Timer(0.5, holder.stdin.close).start()
    with only_user(tmp_path / "new"):
        (tmp_path / "new/file").touch()
    holder.wait()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
def test_a_forked_child_does_not_hold_the_lock_for_long(tmp_path):
    """As a DataLoader's worker, which lives on for a moment when its parent is killed."""
    with only_user(tmp_path / "used"):
        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        child.start()
    with only_user(tmp_path / "used"):
        pass
    child.kill()
    child.join()
