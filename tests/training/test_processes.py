"""Processes that write shards: one that dies, hangs or takes too much memory costs its own shard."""

import sys
import time
from pathlib import Path

from openavc.progress import step
from openavc.worker import Worker
from training.corpora.processes import write_in_processes


def hang_or_eat(job):
    """In place of writing a shard."""
    if job == ("hangs",):
        time.sleep(60)
    if job == ("eats",):
        kept = []
        for _ in range(640):
            kept.append(bytearray(b"x" * 2**23))
            step()
        time.sleep(60)
    Path(*job).touch()


def test_a_shard_that_hangs_or_takes_the_memory_of_others_costs_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAVC_PATIENCE", "5")
    monkeypatch.setenv("OPENAVC_MEMORY", "3G")  # of which each of two may take half
    (tmp_path / "done").mkdir()
    monkeypatch.chdir(tmp_path / "done")
    died = write_in_processes(hang_or_eat, [("first",), ("hangs",), ("eats",), ("last",)], 2)
    assert {job for job, _ in died} == {("eats",), ("hangs",)}
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["first", "last"]
    reasons = {job: str(death) for job, death in died}
    assert "nothing happened for 5 s" in reasons["hangs",]
    if sys.platform == "linux":
        assert "more than 1.5 GiB of memory" in reasons["eats",]
        assert "OPENAVC_MEMORY=6G, which 2 processes share, allows twice as much" in reasons["eats",]


def test_the_memory_that_is_advised_is_more_than_each_of_many_processes_had(monkeypatch):
    monkeypatch.setenv("OPENAVC_MEMORY", "4G")  # of which each of 16 may take 1 GiB all the same
    assert "OPENAVC_MEMORY=32G, which 16 processes share," in Worker(workers=16)._memory_advice()
    monkeypatch.setenv("OPENAVC_MEMORY", "32G")
    assert Worker(workers=16)._most_memory == 2 * 2**30
