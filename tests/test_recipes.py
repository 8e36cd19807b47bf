"""The recipes at the papers' size: hyper-parameters and shapes as the papers and their authors' code give them."""

import sys
from pathlib import Path

import pytest
import torch

import training
from openavc.weights import build_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIGS = Path(training.__file__).parent / "configs"
FULL_SIZE = [
    *("l3_flickr", "l3_kinetics_sounds", "ave_audioset", "ave_frames_audioset", "ave_flow_audioset"),
    *("avol_audioset", "openl3_music", "openl3_env"),
]

L3 = {  # Look, Listen and Learn, section 2
    "architecture": "l3",
    "batch_size": 16 * 16,  # 16 GPUs
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "schedule": "constant",
    "image_size": 224,
    "frontend": "linear257",
    "misalignment": 0.5,  # the sound overlaps the frame
    "pairs": 60e6,
}
OBJECTS = {  # Objects that Sound, section 3; its learning rate isn't given
    "batch_size": 16 * 128,
    "weight_decay": 1e-5,
    "schedule": "step",
    "decay": 0.94,
    "image_size": 224,
    "frontend": "linear257",
    "joint_size": 128,
    "misalignment": 0.5,  # L3's rule: the sound overlaps the frame
    "grid": 0.04,
}
OPENL3 = {  # the authors' code and published training
    "architecture": "openl3",
    "batch_size": 64,
    "learning_rate": 1e-5,
    "weight_decay": 1e-5,
    "schedule": "constant",
    "image_size": 224,
    "input_repr": "mel256",
    "frontend": "kapre-0.1.4",
    "misalignment": 0.5,
    "pairs": 300 * 4096 * 64,
}
PAPERS = {
    "l3_flickr": L3,
    "l3_kinetics_sounds": L3,
    "ave_audioset": OBJECTS | {"architecture": "ave", "features": "max"},
    "ave_frames_audioset": OBJECTS | {"architecture": "ave", "features": "max", "motion": "frames", "frames": 25},
    "ave_flow_audioset": OBJECTS | {"architecture": "ave", "features": "max", "motion": "flow", "frames": 10 + 1},
    "avol_audioset": OBJECTS | {"architecture": "avol", "pooling": "max"},
    "openl3_music": OPENL3,
    "openl3_env": OPENL3,
}
L3_MAPS = {
    "spectrogram": (1, 257, 199),
    "image map": (512, 28, 28),
    "audio map": (512, 32, 24),
    "audio features": (6144,),
    "image features": (8192,),
}
OBJECTS_MAPS = {
    "spectrogram": (1, 257, 199),
    "image map": (512, 14, 14),
    "audio map": (512, 16, 12),
    "audio features": (512,),
    "image features": (512,),
    "audio compared": (128,),
}
SHAPES = {
    "l3_flickr": L3_MAPS,
    "l3_kinetics_sounds": L3_MAPS,
    "ave_audioset": OBJECTS_MAPS | {"image compared": (128,)},
    "ave_frames_audioset": OBJECTS_MAPS | {"image compared": (128,), "image map": (512, 3, 14, 14)},
    "ave_flow_audioset": OBJECTS_MAPS | {"image compared": (128,)},
    "avol_audioset": OBJECTS_MAPS | {"image compared": (128, 14, 14)},
    "openl3_music": L3_MAPS | {"spectrogram": (1, 256, 199)},
    "openl3_env": L3_MAPS | {"spectrogram": (1, 256, 199)},
}


def read(name: str) -> dict:
    return tomllib.loads((CONFIGS / f"{name}.toml").read_text())


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_recipe_has_the_papers_numbers(name):
    config = read(name)
    flat = config | config["model"] | config["data"] | config["optimizer"]
    expected = PAPERS[name].copy()
    if pairs := expected.pop("pairs", None):
        assert abs(config["batch_size"] * config["steps"] - pairs) < config["batch_size"]
    assert {key: flat[key] for key in expected} == expected
    assert config["optimizer"]["name"] == "adam"
    assert config["objective"] == {"name": "correspondence"}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_recipe_augments_as_the_l3_paper_and_the_authors_code(name):
    data = read(name)["data"]
    assert data["gain"] == [0.9, 1.1]
    assert data["saturation"] == [0.5, 1.5]
    assert data["brightness"] == pytest.approx(32 / 255, abs=1e-4)
    assert data["windows_per_clip"] == 1
    assert data.get("flip", True)


@pytest.mark.parametrize("name", [name for name in FULL_SIZE if name.startswith(("ave", "avol"))])
def test_the_learning_rate_decays_every_16_epochs_of_the_263_000_videos(name):
    config = read(name)
    epochs = config["optimizer"]["decay_steps"] * config["batch_size"] / 263_000
    assert epochs == pytest.approx(16, abs=0.01)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_recipe_builds_the_papers_network(name):
    with torch.device("meta"):  # shapes alone
        model = build_model(read(name)["model"])
        spectrogram = model.prepare_audio(torch.empty(1, model.window_samples))
        image = model.prepare_image(torch.empty(1, *model.image_shape))
        compared = {"image": model.represent_image(image), "audio": model.represent_audio(spectrogram)}
        found = {
            "spectrogram": spectrogram,
            "image map": model.image_tower.raw(image),
            "audio map": model.audio_tower.raw(spectrogram),
            "audio features": model.embed_audio(spectrogram),
            "image features": model.embed_image(image),
            **{f"{kind} compared": tensor for kind, tensor in compared.items()},
        }
        logits = model.compare(**compared)
    expected = {"image compared": (512,), "audio compared": (512,)} | SHAPES[name]
    assert {kind: tuple(tensor.shape[1:]) for kind, tensor in found.items()} == expected
    assert logits.shape == (1, 2)
    assert (model.sample_rate, model.window_seconds) == (48_000, 1.0)
