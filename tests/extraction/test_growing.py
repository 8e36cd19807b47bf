"""Results that grow block by block: the bytes of a whole one, in constant memory, and nothing left behind."""

import dataclasses
import errno
import json
import os
import tracemalloc

import numpy as np
import pytest

from openavc.extraction.extraction import Extraction
from openavc.extraction.growing import GrowingArrays
from openavc.extraction.planning import Job
from openavc.extraction.results import embed_file


@pytest.mark.parametrize("rows", [1, 7, 40_000])  # the last in a file
def test_a_result_has_the_bytes_that_numpy_gives_it_at_once(tmp_path, rows):
    rng = np.random.default_rng(0)
    arrays = {
        "embedding": rng.random((rows, 8), np.float32),
        "timestamps": np.arange(rows) / 7,
        "loudness": -np.ones(rows),
    }
    metadata = {"model": "some", "weights_sha256": "0" * 64}
    np.savez(tmp_path / "whole.npz", metadata=np.array(json.dumps(metadata)), **arrays)
    with GrowingArrays(tmp_path / "new" / "grown.npz") as growing:
        for start in range(0, rows, 3000):
            growing.append({name: array[start : start + 3000] for name, array in arrays.items()})
        growing.close_into_result(metadata)
    assert (tmp_path / "new" / "grown.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert os.listdir(tmp_path / "new") == ["grown.npz"]


def test_blocks_that_are_not_alike_are_refused(tmp_path):
    with GrowingArrays(tmp_path / "a.npz") as growing:
        growing.append({"embedding": np.zeros((2, 3), np.float32)})
        for other in (
            {"embedding": np.zeros((2, 4), np.float32)},
            {"embedding": np.zeros((2, 3))},
            {"other": np.zeros(2)},
        ):
            with pytest.raises(ValueError, match=r"blocks of .*must be alike"):
                growing.append(other)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_result(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with GrowingArrays(tmp_path / "a.npz") as growing:
        growing.append({"embedding": np.zeros((2, 3))})
        monkeypatch.setattr(growing._files["embedding"], "write", full)
        with pytest.raises(OSError, match=r"No space left on device.*a\.npz"):
            growing.append({"embedding": np.zeros((2, 3))})


@dataclasses.dataclass(frozen=True)
class Endless(Extraction):
    """Gives so many blocks of a MiB as the file says."""

    def blocks(self, path):
        for number in range(int(path.read_text())):
            yield {"embedding": np.full((256, 1024), number, np.float32), "timestamps": np.full(256, float(number))}

    def load(self):
        return None

    def record(self):
        return {"model": "endless", "weights_sha256": "0", "parameters": {}}


def test_memory_does_not_grow_with_the_result(tmp_path):
    peaks = []
    for blocks in (8, 80):
        (tmp_path / "source").write_text(str(blocks))
        tracemalloc.start()
        outcome = embed_file(Job(tmp_path / "source", tmp_path / f"{blocks}.npz"), Endless("audio", hop_size=0.1))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert outcome.status == "done", outcome.reason
    assert peaks[1] < 1.1 * peaks[0]
    with np.load(tmp_path / "80.npz") as result:
        np.testing.assert_array_equal(result["timestamps"], np.repeat(np.arange(80.0), 256))
        np.testing.assert_array_equal(result["embedding"][:, 5], result["timestamps"])
