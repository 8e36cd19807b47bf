"""Work spread over workers: as many items at once as there are workers, answers as they come, an end when given up."""

import os
import threading
import time

import pytest

from openavc import workers
from openavc.worker import Worker, WorkerKilled
from openavc.workers import carried_workers, spread


def test_items_are_taken_only_as_workers_are_free():
    taken, lock = [], threading.Lock()
    most = 0

    def items():
        for number in range(50):
            with lock:
                taken.append(number)
            yield number

    def work(worker, number):
        time.sleep(0.001 * (number % 3))
        return worker, number

    done = []
    for worker, number in spread(work, items(), ["a", "b", "c"]):
        most = max(most, len(taken) - len(done))
        done.append(number)
        assert worker in "abc"
    assert sorted(done) == list(range(50))
    assert most <= 3


@pytest.mark.parametrize("number", [1, 3])
def test_an_error_of_the_work_is_raised(number):
    def work(worker, item):
        return 1 / item

    with pytest.raises(ZeroDivisionError):
        list(spread(work, [1, 2, 0, 3], [Worker() for _ in range(number)]))


def test_giving_up_ends_the_processes_that_are_still_at_work():
    def items():
        yield from (600, 600)
        raise KeyboardInterrupt

    ended = []

    def work(worker, seconds):
        try:
            worker.call(time.sleep, seconds)
        except WorkerKilled as death:
            ended.append(str(death))

    with Worker() as one, Worker() as other, Worker() as third:
        processes = [worker.call(os.getpid) for worker in (one, other, third)]
        with pytest.raises(KeyboardInterrupt):
            list(spread(work, items(), [one, other, third]))
        assert len(ended) == 2
        with pytest.raises(WorkerKilled, match="stopped"):
            other.call(os.getpid) if other._stopped else one.call(os.getpid)
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize(
    ("cores", "threads", "memory", "number"),
    [(16, 8, 96, 2), (16, 1, 96, 16), (2, 1, 12, 2), (1, 1, 12, 1), (16, 1, 9, 4), (4, 8, 96, 1), (64, 8, None, 8)],
)
def test_the_default_is_what_cores_and_memory_carry(cores, threads, memory, number, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    monkeypatch.setattr(workers, "most_memory", lambda: memory and memory * 2**30)
    assert carried_workers() == number
