"""Models of the user's own: found by name, and left out with a warning where their files are damaged."""

import json
import os
import shutil
import warnings

import pytest
from click.testing import CliRunner

import openavc
from openavc import cli, weights
from openavc.weights import PRETRAINED


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return the user's own folder with a copy of the default model, "my-grid"."""
    monkeypatch.setenv("OPENAVC_HOME", str(tmp_path))
    entry = openavc.model_info(openavc.list_models()[0])
    (tmp_path / "models").mkdir()
    shutil.copy(PRETRAINED / entry["file"], tmp_path / "models/my-grid.safetensors")
    write(tmp_path / "models", entry | {"name": "my-grid", "file": "my-grid.safetensors", "sources": [{"type": "own"}]})
    return tmp_path / "models"


def write(folder, entry):
    (folder / "my-grid.json").write_text(json.dumps(entry))


def test_an_own_model_is_listed_last_and_loads_by_name(own):
    assert openavc.list_models() == [*(entry["name"] for entry in weights.read_shipped()), "my-grid"]
    assert openavc.load_model("my-grid").name == "my-grid"
    assert openavc.load_model().name == openavc.list_models()[0] != "my-grid"
    result = CliRunner().invoke(cli.main, ["models"])
    assert result.output.splitlines()[-1].startswith("my-grid ") and result.output.endswith("; own\n")


@pytest.mark.skipif(os.name == "nt", reason="names of files may not hold a colon")
def test_names_that_earlier_exports_allowed_still_load(own):
    name = "my grid: 2.0"
    (own / "my-grid.safetensors").rename(own / f"{name}.safetensors")
    write(own, json.loads((own / "my-grid.json").read_text()) | {"name": name, "file": f"{name}.safetensors"})
    (own / "my-grid.json").rename(own / f"{name}.json")
    assert openavc.load_model(name).name == name


def test_the_folder_is_in_the_home_unless_a_variable_names_another(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for home in (None, ""):
        monkeypatch.delenv("OPENAVC_HOME", raising=False) if home is None else monkeypatch.setenv("OPENAVC_HOME", home)
        assert weights.own_folder() == tmp_path / ".openavc/models"
    monkeypatch.setenv("OPENAVC_HOME", "~/other")
    assert weights.own_folder() == tmp_path / "other/models"


def test_a_model_whose_weights_were_deleted_is_not_listed(own):
    (own / "my-grid.safetensors").unlink()
    with pytest.raises(ValueError, match="there is no model 'my-grid'"):
        openavc.load_model("my-grid")


def test_weights_that_were_replaced_are_refused(own):
    (own / "my-grid.safetensors").write_bytes(b"other")
    with pytest.raises(OSError, match=r"my-grid\.safetensors is damaged or was replaced.*Export the model again"):
        openavc.load_model("my-grid")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda entry: "no entry", "not a model's entry"),
        (lambda entry: {"name": "my-grid"}, "missing or wrong file"),
        (lambda entry: entry | {"bytes": "many"}, "missing or wrong bytes"),
        (lambda entry: entry | {"file": "../../secret"}, "missing or wrong file"),
        (lambda entry: entry | {"name": "other"}, "its name or its file isn't 'my-grid'"),
        (lambda entry: entry | {"sources": ["own"]}, "missing or wrong sources"),
        (lambda entry: entry | {"sources": [{"type": "package"}]}, "missing or wrong type"),
    ],
)
def test_a_damaged_entry_is_left_out_with_a_warning_and_the_others_work(own, change, told):
    write(own, change(json.loads((own / "my-grid.json").read_text())))
    assert_left_out(own, told)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b'{"name": '])
def test_an_entry_that_is_not_json_is_left_out_with_a_warning(own, content):
    (own / "my-grid.json").write_bytes(content)
    assert_left_out(own, "not JSON")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_fifos_in_the_place_of_entry_or_weights_are_not_waited_for(own):
    (own / "my-grid.safetensors").unlink()
    os.mkfifo(own / "my-grid.safetensors")
    with pytest.raises(OSError, match="is a FIFO, not a regular file"):
        openavc.load_model("my-grid")
    (own / "my-grid.json").unlink()
    os.mkfifo(own / "my-grid.json")
    assert_left_out(own, "is a FIFO")


def assert_left_out(own, told):
    with pytest.warns(UserWarning, match=f"my-grid.json is left out of the models: .*{told}"):
        assert "my-grid" not in openavc.list_models()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert openavc.load_model().name == openavc.list_models()[0]


def test_a_name_of_the_package_means_the_packages_model(own):
    name = openavc.list_models()[0]
    entry = json.loads((own / "my-grid.json").read_text())
    (own / f"{name}.json").write_text(json.dumps(entry | {"name": name, "file": f"{name}.safetensors"}))
    with pytest.warns(UserWarning, match=f"{name}.json is left out .*openavc has a model of that name"):
        assert openavc.list_models().count(name) == 1
