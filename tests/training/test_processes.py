"""Processes that write shards: one that dies, hangs or takes too much memory costs its own shard."""

import sys
import time

from openavc.progress import step
from training.corpora.processes import write_in_processes


def hang_or_eat(job):
    """In place of writing a shard."""
    if job == ("hangs",):
        time.sleep(60)
    if job == ("eats",):
        kept = []
        for _ in range(40):
            kept.append(bytearray(b"x" * 2**27))
            step()
        time.sleep(60)


def test_a_shard_that_hangs_or_takes_the_memory_of_others_costs_itself(monkeypatch):
    monkeypatch.setenv("OPENAVC_PATIENCE", "3")
    monkeypatch.setenv("OPENAVC_MEMORY", "3G")  # of which each of two may take half
    died = write_in_processes(hang_or_eat, [("good",), ("hangs",), ("eats",), ("good",)], 2)
    assert [job for job, _ in sorted(died)] == [("eats",), ("hangs",)]
    reasons = dict(died)
    assert "nothing happened for 3 s" in reasons["hangs",]
    if sys.platform == "linux":
        assert "more than 1.5 GiB of memory" in reasons["eats",]
