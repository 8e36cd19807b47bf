import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from openavc.models import AVENet


@pytest.fixture(scope="session")
def shared():
    """Return the folder of shared media files, which aren't part of the project."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("OPENAVC_SHARED", root.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the shared media files are not at {folder}: set OPENAVC_SHARED")
    return folder


class Here:
    """Stands for a worker, and calls in this process; warnings are given as those of a worker."""

    def __init__(self, *_):
        self.warned = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self):
        pass

    def share_memory(self, workers):
        assert workers == 1  # warnings are caught in a whole process, and so not in several threads of it

    def call(self, function, *arguments, limit=None, warned=None):
        try:
            with warnings.catch_warnings(record=True) as given:
                warnings.simplefilter("always")
                return function(*arguments)
        finally:
            for warning in given:
                about = {name: getattr(warning, name) for name in ("category", "filename", "lineno")}
                about["message"] = str(warning.message)
                if warned is None:
                    warnings.warn_explicit(**about, registry=self.warned)
                else:
                    warned.append(about)


@pytest.fixture
def in_this_process(monkeypatch):
    """Have commands do in this process, which has imported what they need, what they do in a worker.

    It is for tests of results and messages; those of files that end their process have workers.
    """
    monkeypatch.setattr("openavc.worker.Worker", Here)
    monkeypatch.setattr("openavc.workers.carried_workers", lambda: 1)


@pytest.fixture(scope="session")
def reference(shared):
    """Return the folder of OpenL3's own outputs and files."""
    folder = shared / "reference"
    if not (folder / "openl3_inputs_audio.npz").is_file():
        pytest.skip(f"OpenL3's reference values are not in {folder}")
    return folder


def with_statistics(network: nn.Module) -> nn.Module:
    """Give BatchNorm means, variances, scales and shifts as after training, none of them 0 or 1."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.3, 3)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.5)
    return network.eval()


@pytest.fixture(scope="session")
def model():
    """Return a tiny network with random weights; tests that change it copy it first."""
    torch.manual_seed(0)
    network = AVENet(
        widths=(4, 4, 8, 8),
        frontend="mel64",
        image_size=64,
        one_pass=True,
        features="blocks",
        joint_size=8,
    )
    with_statistics(network)
    network.name, network.sha256 = "tiny", "0" * 64
    return network


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Write two tars with three clips of tones each."""
    from tones import write_tones

    folder = tmp_path_factory.mktemp("shards")
    write_tones(folder / "00000.tar", range(3))
    write_tones(folder / "00001.tar", range(3, 6), sound_format="flac")
    return folder


@pytest.fixture
def one_thread():
    """Take sums in one order, as in the processes that tests start with --threads 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
