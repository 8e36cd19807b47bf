"""Processes end with the one that started them, however it started them and however it ended."""

import os
import subprocess
import sys
import time

import pytest

PARENT = """
import multiprocessing, sys, time
from openavc.parent import end_with_parent

def child(pipe):
    end_with_parent()
    pipe.send("watching")
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[1] == "forkserver":
        multiprocessing.set_start_method("forkserver")  # as by default from Python 3.14 on
    pipe, other = context.Pipe()
    children = [context.Process(target=child, args=(other,)) for _ in range(2)]
    for process in children:
        process.start()
        pipe.recv()
    time.sleep(2)  # in which a wrong watch would end them
    assert all(process.is_alive() for process in children)
    print(*(process.pid for process in children), flush=True)
    time.sleep(600)
"""
# As torchrun starts the processes of a training, which don't know it by multiprocessing.
POPEN = """
import os, subprocess, sys, time
code = "import os, time; from openavc.parent import end_with_parent; end_with_parent(os.getppid()); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
time.sleep(2)
assert child.poll() is None
print(child.pid, flush=True)
time.sleep(600)
"""


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about doesn't."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has one way to start processes, and no ps")
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver", "popen"])
def test_processes_end_when_the_one_that_started_them_is_killed_alone(method, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(POPEN if method == "popen" else PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script, method], stdout=subprocess.PIPE, text=True, env=environment)
    children = [int(number) for number in parent.stdout.readline().split()]
    assert children and all(map(is_alive, children))
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    while any(map(is_alive, children)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(is_alive, children))
