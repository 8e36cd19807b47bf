"""What kills at random moments do to the commands that make data."""

import dataclasses
import os
import random
import sys

import pytest
from test_simulate import vizdoom_or_skip

from benchmarks import kills

pytestmark = pytest.mark.usefixtures("one_thread")

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by Linux's /proc")


def check_kills(command, folder, number):
    seed = random.randrange(2**32)
    print(f"the moments are those of seed {seed}")
    count = kills.Bench(command, folder).kill(number, True, random.Random(seed))
    assert count.kills == number
    assert not (count.differing or count.files or count.processes), count


@needs_linux
def test_kills_of_a_preparation_leave_no_trace(tmp_path):
    def few_videos(folder):
        for number in range(21):
            os.link(kills.EXAMPLE, folder / f"video{number:02d}.mp4")

    command = dataclasses.replace(kills.COMMANDS["prepare"], inputs=few_videos)
    check_kills(command, tmp_path, 2)


@needs_linux
def test_kills_of_a_rendering_leave_no_trace_and_no_engine(tmp_path):
    vizdoom_or_skip()

    def one_shard(_, output):
        return ["-m", "training.simulate", "--output", output, "--episodes", "4", "--seconds", "1", "--workers", "1"]

    check_kills(kills.Command(one_shard, renders=True), tmp_path, 1)
