"""Export to ONNX: onnxruntime gives the numbers of the network, for any batch, from samples and pixels on."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import with_statistics

from openavc.cli import main
from openavc.interfaces.onnx import export_onnx
from openavc.models import AVENet
from openavc.models.openl3 import OpenL3Towers

onnxruntime = pytest.importorskip("onnxruntime")


def run(path, name, values):
    """Run a file with onnxruntime."""
    return onnxruntime.InferenceSession(path).run(None, {name: values.numpy()})[0]


def test_both_towers_give_the_numbers_of_the_network_in_batches_of_any_size(model, tmp_path):
    files = export_onnx(tmp_path, model, embedding="joint")
    assert {modality: path.name for modality, (path, _) in files.items()} == {
        "audio": "tiny-audio.onnx",
        "image": "tiny-image.onnx",
    }
    samples = 0.3 * torch.randn(3, model.sound.samples, 1)
    frames = torch.randint(0, 256, (3, 1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        heard = model.embed_audio(model.prepare_audio(samples), "joint").numpy()
        seen = model.embed_frames(model.prepare_frames(frames), "joint").numpy()
    for number in (1, 3):
        found = run(files["audio"][0], "samples", samples[:number])
        np.testing.assert_allclose(found, heard[:number], atol=1e-4, rtol=1e-4)
        found = run(files["image"][0], "frames", frames[:number])
        np.testing.assert_allclose(found, seen[:number], atol=1e-4, rtol=1e-4)
    about = onnxruntime.InferenceSession(files["audio"][0]).get_modelmeta().custom_metadata_map
    assert about == files["audio"][1]
    assert (about["sample_rate"], about["seconds"], about["embedding"]) == ("24000", "1.0", "joint")


def test_a_spectrogram_in_float64_is_exported_with_its_network(tmp_path):
    torch.manual_seed(0)
    network = with_statistics(OpenL3Towers("mel128", widths=(4, 4, 8, 8), modalities=("audio",)))
    [(path, _)] = export_onnx(tmp_path, network).values()
    samples = 0.3 * torch.randn(2, network.sound.samples, 1, dtype=torch.float32)
    with torch.inference_mode():
        expected = network.embed_audio(network.prepare_audio(samples)).numpy()
    np.testing.assert_allclose(run(path, "samples", samples), expected, atol=1e-4 * np.abs(expected).max())


def test_networks_that_cannot_be_exported_say_why(tmp_path):
    flow = AVENet(widths=(2, 2, 2, 2), frontend="mel64", image_size=32, motion="flow", frames=3).eval()
    flow.name = "flows"
    with pytest.raises(ValueError, match="flows computes the optical flow of its frames"):
        export_onnx(tmp_path, flow)
    with pytest.raises(ValueError, match="multisensory-small embeds neither sound nor pictures by themselves"):
        export_onnx(tmp_path, "multisensory-small")
    with pytest.raises(ValueError, match="avol-small has no embedding 'joint'"):
        export_onnx(tmp_path, "avol-small", embedding="joint")


def test_the_command_tells_what_the_files_take_and_what_is_missing(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "openavc", "export", "ave-small", "--output", tmp_path / "onnx"]  # chatter is seen
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{tmp_path}/onnx/ave-small-audio.onnx: model ave-small, embedding features, sample_rate 24000, seconds 1.0",
        f"{tmp_path}/onnx/ave-small-image.onnx: model ave-small, embedding features, height 64, width 64",
    ]
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = CliRunner().invoke(main, ["export", "ave-small", "--output", str(tmp_path / "other")])
    assert result.exit_code == 1 and 'pip install "openavc[onnx]"' in result.output
    monkeypatch.undo()
    result = CliRunner().invoke(main, ["export", "ave-smal", "--output", str(tmp_path / "other")])
    assert result.exit_code == 2 and "ave-small" in result.output
