"""Calls in a process of their own, which may die, hang, warn or fail without affecting the caller."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from openavc.progress import count_layers, step, steps
from openavc.worker import Worker, WorkerDied, WorkerKilled, patience


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def double(number):
    return 2 * number


def fail(message):
    raise ValueError(message)


class Unpicklable(Exception):
    def __init__(self, one, other):
        super().__init__(one)


def fail_strangely():
    raise Unpicklable("strange", lambda: None)


def warn(message):
    warnings.warn(message, DeprecationWarning, stacklevel=1)
    return os.getpid()


def read_null():
    ctypes.string_at(0)


def abort_with(words):
    os.write(2, f"first line\n{words}\n".encode())
    os.abort()


def exit_with(status):
    os._exit(status)


def sleep(seconds):
    time.sleep(seconds)


def sleep_without_releasing_the_interpreter(seconds):
    ctypes.PyDLL(None).sleep(seconds)


def work_slowly(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()
        time.sleep(0.05)
    return "done"


def heavy_modules():
    return sorted({"torch", "cv2", "av", "numpy"} & set(sys.modules))


def test_a_process_that_died_between_two_calls_is_replaced():
    with Worker() as worker:
        before = worker.call(os.getpid)
        os.kill(before, signal.SIGKILL)
        end = time.monotonic() + 30
        while _is_alive(before) and time.monotonic() < end:
            time.sleep(0.01)
        assert worker.call(os.getpid) != before


def test_a_process_killed_from_outside_is_told_from_one_that_died():
    with Worker() as worker:
        with pytest.raises(WorkerKilled, match="killed by SIGTERM"):
            worker.call(os.kill, worker.call(os.getpid), signal.SIGTERM)
        with pytest.raises(WorkerDied) as raised:
            worker.call(os.abort)
        assert not isinstance(raised.value, WorkerKilled)


def test_a_result_comes_back_from_another_process(worker):
    assert worker.call(double, 21) == 42
    assert worker.call(os.getpid) != os.getpid()
    assert worker.call(os.getpid) == worker.call(os.getpid, limit=60)


def test_nothing_heavy_is_imported_by_the_worker_itself():
    with Worker() as worker:
        assert worker.call(sys.getdefaultencoding) == "utf-8"
    code = "import sys, openavc.worker; sys.exit(bool({'torch', 'cv2', 'av', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_is_started_without_a_socket_that_a_kill_would_leave(monkeypatch):
    monkeypatch.setattr("multiprocessing.resource_sharer.DupFd", fail, raising=False)  # Windows has none
    with Worker() as worker:
        assert worker.call(double, 3) == 6


def test_an_error_is_raised_as_it_is_and_the_process_goes_on(worker):
    before = worker.call(os.getpid)
    with pytest.raises(ValueError, match=r"^a value$"):
        worker.call(fail, "a value")
    with pytest.raises(RuntimeError, match="Unpicklable: strange"):
        worker.call(fail_strangely)
    assert worker.call(os.getpid) == before


def test_a_warning_is_given_by_the_caller(worker):
    with pytest.warns(DeprecationWarning, match=r"^old$"):
        assert worker.call(warn, "old") == worker.call(os.getpid)


def test_a_warning_that_is_an_error_does_not_mix_up_answers(worker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeprecationWarning, match="older"):
            worker.call(warn, "older")
    assert worker.call(double, 4) == 8


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (read_null, (), "SIGSEGV"),
        (abort_with, ("corrupted heap",), "SIGABRT: corrupted heap"),
        (os.kill, (0, signal.SIGKILL), None),
        (exit_with, (3,), "status 3"),
    ],
)
def test_a_process_that_dies_says_how_and_the_next_call_has_a_new_one(function, arguments, said, capfd):
    with Worker() as worker:
        before = worker.call(os.getpid)
        if function is os.kill:
            arguments, said = (before, signal.SIGKILL), "SIGKILL (out of memory?)"
        with pytest.raises(WorkerDied) as raised:
            worker.call(function, *arguments, limit=60)
        assert said in str(raised.value) and "decoder" not in str(raised.value)  # it may be a renderer
        assert worker.call(double, 1) == 2
        assert worker.call(os.getpid) != before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("function", [sleep, sleep_without_releasing_the_interpreter])
def test_a_process_that_hangs_is_killed(function):
    with Worker() as worker:
        before = worker.call(os.getpid)
        start = time.monotonic()
        with pytest.raises(WorkerDied, match=r"^it hung: nothing happened for 1\.5 s.*OPENAVC_PATIENCE"):
            worker.call(function, 600, limit=1.5)
        assert time.monotonic() - start < 60
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        assert worker.call(double, 1) == 2


def test_slow_work_that_makes_progress_is_waited_for(worker):
    assert worker.call(work_slowly, 4, limit=2.5) == "done"


def test_the_process_ends_with_the_block():
    with Worker() as worker:
        process = worker.call(os.getpid)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_the_process_ends_when_its_caller_was_killed():
    code = (
        "import os, sys, time\n"
        "from openavc.worker import Worker\n"
        "worker = Worker()\n"
        "print(worker.call(os.getpid), flush=True)\n"
        "worker.call(time.sleep, 600)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    process = int(caller.stdout.readline())
    caller.kill()
    caller.wait()
    end = time.monotonic() + 30
    while time.monotonic() < end and _is_alive(process):
        time.sleep(0.1)
    assert not _is_alive(process)


def _is_alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run_layers(number):
    import torch

    before = steps()
    torch.nn.Sequential(*(torch.nn.Identity() for _ in range(number)))(torch.zeros(1))
    return steps() - before


def test_layers_count_as_steps_where_that_is_set_up():
    with Worker(count_layers) as worker:
        assert worker.call(run_layers, 5) == 6  # the five, and what holds them
        with pytest.raises(WorkerDied):
            worker.call(exit_with, 1)
        assert worker.call(run_layers, 5) == 6
    assert run_layers(5) == 0


def test_steps_are_counted():
    before = steps()
    threading.Thread(target=step).start()
    step()
    assert before + 1 <= steps() <= before + 2


@pytest.mark.parametrize("given", ["0", "-1", "inf", "nan", "soon"])
def test_a_patience_that_is_no_time_is_refused(monkeypatch, given):
    monkeypatch.setenv("OPENAVC_PATIENCE", given)
    with pytest.raises(ValueError, match="positive number of seconds"):
        patience()


def test_the_patience_can_be_set(monkeypatch):
    monkeypatch.delenv("OPENAVC_PATIENCE", raising=False)
    assert patience() == 60
    monkeypatch.setenv("OPENAVC_PATIENCE", "2.5")
    assert patience() == 2.5
