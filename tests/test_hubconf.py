"""The entries of torch.hub."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import openavc

ROOT = Path(__file__).parents[1]
HUBCONF = runpy.run_path(str(ROOT / "hubconf.py"))


def load(entry, *args, **options):
    return torch.hub.load(str(ROOT), entry, *args, source="local", **options)


def test_nothing_but_the_entries_can_be_called():
    public = {name: value for name, value in HUBCONF.items() if not name.startswith("_")}  # as torch.hub.list does
    assert [name for name, value in public.items() if callable(value)] == ["audio_embedding", "image_embedding"]


def test_an_entry_loads_what_load_model_does():
    noise = np.random.default_rng(0).uniform(-1, 1, 30_000).astype(np.float32)
    expected, _ = openavc.get_audio_embedding(noise, 24_000)
    found, _ = openavc.get_audio_embedding(noise, 24_000, load("audio_embedding"))
    np.testing.assert_array_equal(found, expected)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = openavc.get_image_embedding(picture, "avol-small")
    found = openavc.get_image_embedding(picture, load("image_embedding", "avol-small", dtype="float32"))
    np.testing.assert_array_equal(found, expected)


def test_an_entry_refuses_a_network_of_another_kind():
    with pytest.raises(ValueError, match="multisensory-small doesn't embed audio"):
        load("audio_embedding", "multisensory-small")
    with pytest.raises(ValueError, match="there is no model"):
        load("image_embedding", "ave-smal")


def test_what_torch_hub_looks_for_is_what_the_package_needs():
    needed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    names = re.findall(r'"([\w-]+)', needed.group(1))
    modules = {"opencv-python": "cv2", "pillow": "PIL"}
    assert HUBCONF["dependencies"] == [modules.get(name, name) for name in names]
