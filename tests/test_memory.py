"""How much memory a decoder may take, and how it is told that it took too much."""

import os
import sys

import numpy as np
import pytest
import torch

from openavc import memory
from openavc.extraction.results import failure_reason
from openavc.memory import most_memory, ran_out_of_memory
from openavc.worker import Worker, WorkerDied

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")


def take(size):
    """Take memory little by little, as a decoder of a bomb does."""
    taken = [bytearray(os.urandom(1) * 2**22) for _ in range(size // 2**22)]
    return len(taken)


def ask_for(size):
    return torch.empty(size, dtype=torch.uint8)


@needs_linux
def test_a_process_that_takes_too_much_memory_is_ended_and_the_next_call_has_a_new_one(monkeypatch):
    monkeypatch.setenv("OPENAVC_MEMORY", "2G")
    with Worker() as worker:
        before = worker.call(os.getpid)
        assert worker.call(take, 2**27) == 32
        with pytest.raises(WorkerDied, match=r"took more than 2 GiB of memory.*OPENAVC_MEMORY"):
            worker.call(take, 2**33)
        assert worker.call(os.getpid) != before


def test_a_process_that_is_refused_memory_goes_on():
    with Worker() as worker:
        before = worker.call(os.getpid)
        with pytest.raises(RuntimeError) as raised:
            worker.call(ask_for, 2**50)
        assert ran_out_of_memory(raised.value)
        assert worker.call(os.getpid) == before


def test_errors_of_memory_are_told_in_one_line():
    with pytest.raises(MemoryError) as raised:
        np.zeros(2**50)
    assert failure_reason(raised.value).startswith("there isn't enough memory for it (")
    for error in (ValueError("a value"), FileNotFoundError("there is no file out of memory.wav")):
        assert failure_reason(error) == str(error)
    assert "\n" not in failure_reason(RuntimeError("[enforce fail]\nDefaultCPUAllocator: can't allocate memory"))


@pytest.mark.parametrize(("given", "size"), [("1000", 1000), ("3K", 3072), ("1500m", 1500 * 2**20), ("8G", 2**33)])
def test_the_memory_can_be_set(monkeypatch, given, size):
    monkeypatch.setenv("OPENAVC_MEMORY", given)
    assert most_memory() == size


@pytest.mark.parametrize("given", ["0", "-1", "G", "much", "1.5G", "4GB"])
def test_a_memory_that_is_no_size_is_refused(monkeypatch, given):
    monkeypatch.setenv("OPENAVC_MEMORY", given)
    with pytest.raises(ValueError, match="OPENAVC_MEMORY must be a size"):
        most_memory()


@needs_linux
@pytest.mark.parametrize("nothing", [{}, {"OPENAVC_MEMORY": ""}])
def test_by_default_it_is_three_quarters_of_what_there_is(monkeypatch, tmp_path, nothing):
    monkeypatch.delenv("OPENAVC_MEMORY", raising=False)
    for variable, given in nothing.items():
        monkeypatch.setenv(variable, given)
    monkeypatch.setattr(memory, "_CONTROL_GROUPS", tmp_path)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert most_memory() == int(0.75 * whole)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("max\n")
    assert most_memory() == int(0.75 * whole)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        (tmp_path / name).write_text("2000000000\n")
    assert most_memory() == 1_500_000_000
