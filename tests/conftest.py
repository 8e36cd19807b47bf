import os
from pathlib import Path

import pytest
import torch

from openavc.models import AVENet


@pytest.fixture(scope="session")
def shared():
    """The folder of shared media files, which aren't part of the project."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("OPENAVC_SHARED", root.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the shared media files are not at {folder}: set OPENAVC_SHARED")
    return folder


@pytest.fixture(scope="session")
def model():
    """A tiny untrained network; tests that change it copy it first."""
    torch.manual_seed(0)
    network = AVENet(
        widths=(4, 4, 8, 8),
        frontend="mel64",
        image_size=64,
        one_pass=True,
        features="blocks",
        joint_size=8,
    ).eval()
    network.name, network.sha256 = "tiny", "0" * 64
    return network


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Two tars of three clips of tones each."""
    from tones import write_tones

    folder = tmp_path_factory.mktemp("shards")
    write_tones(folder / "00000.tar", range(3))
    write_tones(folder / "00001.tar", range(3, 6), sound_format="flac")
    return folder


@pytest.fixture
def one_thread():
    """Sums in one order, as in the processes that a test starts with --threads 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
