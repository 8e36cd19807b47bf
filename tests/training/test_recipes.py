"""Recipes: full-size ones agree with the papers and their authors' code; how files are read and refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from tones import RECIPE, recipe

import training
from openavc.weights import build_model
from training.corpora.scenes import MONSTERS, group_kinds
from training.negatives import Mixture, OtherClip, SameClip
from training.recipe import Data, Recipe, lineage, merge, read_recipe, to_recipe

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


def read(name: str) -> Recipe:
    return read_recipe(CONFIGS / f"{name}.toml")


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_recipe_has_the_papers_numbers(name):
    found = read(name)
    flat = found.model | asdict(found.data) | asdict(found.optimizer) | {"batch_size": found.batch_size}
    expected = PAPERS[name].copy()
    if pairs := expected.pop("pairs", None):
        assert abs(found.batch_size * found.steps - pairs) < found.batch_size
    assert {key: flat[key] for key in expected} == expected
    assert found.optimizer.name == "adam"
    assert found.objective == {"name": "correspondence"}
    assert found.negatives == OtherClip()


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_recipe_augments_as_the_l3_paper_and_the_authors_code(name):
    data = read(name).data
    assert data.gain == (0.9, 1.1)
    assert data.saturation == (0.5, 1.5)
    assert data.brightness == pytest.approx(32 / 255, abs=1e-4)
    assert data.windows_per_clip == 1
    assert data.flip is True


@pytest.mark.parametrize("name", [name for name in FULL_SIZE if name.startswith(("ave", "avol"))])
def test_the_learning_rate_decays_every_16_epochs_of_the_263_000_videos(name):
    found = read(name)
    epochs = found.optimizer.decay_steps * found.batch_size / 263_000
    assert epochs == pytest.approx(16, abs=0.01)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_recipe_builds_the_papers_network(name):
    with torch.device("meta"):  # shapes alone
        model = build_model(read(name).model)
        spectrogram = model.prepare_audio(torch.empty(1, model.sound.samples, 1))
        clip = torch.empty(1, *model.frames.shape)
        if name == "ave_flow_audioset":  # beside the middle frame, two channels for each of ten fields of flow
            clip = torch.empty(1, 224, 224, 3 + 2 * 10)
        frames = model.prepare_frames(clip)
        compared = {"frames": model.represent_frames(frames), "audio": model.represent_audio(spectrogram)}
        found = {
            "spectrogram": spectrogram,
            "image map": model.image_tower.raw(frames),
            "audio map": model.audio_tower.raw(spectrogram),
            "audio features": model.embed_audio(spectrogram),
            "image features": model.embed_frames(frames),
            "image compared": compared["frames"],
            "audio compared": compared["audio"],
        }
        logits = model.compare(**compared)
    expected = {"image compared": (512,), "audio compared": (512,)} | SHAPES[name]
    assert {kind: tuple(tensor.shape[1:]) for kind, tensor in found.items()} == expected
    assert logits.shape == (1, 2)
    assert (model.sound.sample_rate, model.sound.seconds, model.sound.channels) == (48_000, 1.0, 1)
    assert model.frames.rate == (25.0 if "motion" in read(name).model else None)


@pytest.mark.parametrize(
    ("name", "frames", "batch", "steps"),
    [("multisensory_audioset_slow", 32, 3 * 15, 30_000), ("multisensory_audioset", 125, 3 * 5, 620_000)],
)
def test_multisensory_recipes_have_the_papers_numbers(name, frames, batch, steps):
    """Multisensory, section 3, and its authors' code; shifts are 65 to 176 frames of 29.97 a second."""
    found = read(name)
    assert (found.model["frames"], found.batch_size, found.steps) == (frames, batch, steps)
    assert found.objective == {"name": "synchronization", "negatives": 1}
    seconds = frames / found.model["frame_rate"]
    shifts = [distance * 29.97 for distance in found.negatives.distances(seconds)]
    assert shifts == pytest.approx([65, 176], abs=2e-3)
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.schedule) == ("sgd", 0.9, "constant")
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.largest_gradient) == (1e-2, 1e-5, 5.0)
    assert (found.data.gain, found.data.saturation, found.data.brightness) == ((1, 1), (1, 1), 0)


def test_multisensory_starts_from_the_weights_of_its_slow_stage():
    slow, full = read("multisensory_audioset_slow"), read("multisensory_audioset")
    assert full.needs_weights and not slow.needs_weights
    with torch.device("meta"):
        one, other = build_model(slow.model), build_model(full.model)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (one, other)]
    assert shapes[0] == shapes[1]
    assert full.model["frame_rate"] / slow.model["frame_rate"] == pytest.approx(4)


@pytest.mark.parametrize(("name", "videos"), [("kinetics", 230_000), ("audioset", 1_800_000), ("soundnet", 2_000_000)])
def test_avts_recipes_have_the_papers_numbers(name, videos):
    """AVTS, sections 3 and 4: 50 epochs of easy negatives, then 40 with a quarter of hard ones; MC3."""
    found = read(f"avts_{name}")
    assert (found.batch_size, found.model["first_flat"], found.model["frames"]) == (4 * 16, 3, 25)
    assert found.objective == {"name": "margin", "margin": 0.99}
    epoch = videos / found.batch_size  # steps
    assert [stage.steps / epoch for stage in found.stages] == pytest.approx([50, 40], rel=1e-3)
    assert found.validate_every == pytest.approx(epoch, rel=1e-3)
    first, second = (stage.negatives for stage in found.stages)
    assert (first, second) == (OtherClip(), Mixture((OtherClip(), SameClip(gap=0.5)), (0.75, 0.25)))
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.schedule, optimizer.decay, optimizer.patience) == ("sgd", "plateau", 0.1, 5)
    assert (found.data.gain, found.data.saturation, found.data.brightness) == ((1, 1), (1, 1), 0)


def test_the_compact_avts_has_the_papers_curriculum_then_nearer_negatives_and_at_most_6_mb():
    small, full = read("avts_small"), read("avts_kinetics")
    other = OtherClip(same_folder=True)
    (first, *paper, near) = small.stages
    assert first.objective["name"] == "contrastive" and small.objective["name"] == "margin"
    assert [stage.new_objective for stage in small.stages] == [True, True, False, False]
    assert to_recipe(small.to_json()) == small
    assert [stage.negatives for stage in paper] == [other, Mixture((other, SameClip(gap=0.5)), (0.75, 0.25))]
    assert [stage.negatives for stage in full.stages] == [
        OtherClip(),
        Mixture((OtherClip(), SameClip(gap=0.5)), (0.75, 0.25)),
    ]
    assert near.negatives.kinds[1].distances(1.0)[0] == pytest.approx(0.4)
    assert small.objective == full.objective
    with torch.device("meta"):
        model = build_model(small.model)
    assert 2 * sum(value.numel() for value in model.state_dict().values()) < 6e6  # in float16
    assert model.frames.count / model.frames.rate == model.sound.seconds == 1


def test_the_recipe_of_ucf101_has_the_papers_numbers():
    """Multisensory, section 5, and its authors' code."""
    found, pretext = read("multisensory_ucf101"), read("multisensory_audioset")
    assert (found.batch_size, found.needs_weights, found.fresh) == (8, True, ("logit",))
    assert found.objective == {"name": "recognition"}
    assert (found.optimizer.name, found.optimizer.momentum, found.optimizer.weight_decay) == ("sgd", 0.9, 1e-5)
    assert found.data.flip and found.data.misalignment == pytest.approx(1 / 29.97, abs=1e-4)
    with torch.device("meta"):
        model, before = build_model(found.model), build_model(pretext.model)
    assert (len(model.classes), model.frames.count, model.frames.rate) == (101, 77, 29.97)
    assert model.sound.seconds == pytest.approx(2.56, abs=0.02)
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (model, before)]
    assert {name for name in shapes[0] if shapes[0][name] != shapes[1].get(name)} == {"logit.weight", "logit.bias"}
    assert any("norm" in name and name.endswith("weight") for name, _ in model.named_parameters())


@pytest.mark.parametrize("name", ["multisensory_ucf101", "avts_ucf101"])
def test_the_classes_of_ucf101_are_those_of_its_list(name, shared):
    lines = (shared / "data/annotations/ucf101_splits/classInd.txt").read_text().split()
    assert read(name).model["classes"] == lines[1::2]


def test_the_small_recipe_of_actions_has_every_kind_of_monster_and_2_56_s():
    found, muted = read("multisensory_small_actions"), read("multisensory_small_actions_vision")
    kinds = {kind for game in MONSTERS for seed in range(40) for kind in group_kinds(np.random.default_rng(seed), game)}
    assert set(found.model["classes"]) == kinds and len(kinds) == 15
    assert found.model["frames"] / found.model["frame_rate"] == 2.56
    assert not found.needs_weights and found.fresh == ("logit",)
    assert found.model | {"muted": True} == muted.model
    assert (found.data, found.optimizer, found.steps) == (muted.data, muted.optimizer, muted.steps)
    pretext = read("multisensory_small")
    shared = ("widths", "image_size", "frame_rate", "sample_rate", "frontend")
    assert all(found.model[key] == pretext.model[key] for key in shared)


@pytest.mark.parametrize(("name", "pretext"), [("ucf101", "kinetics"), ("small_actions", "small")])
def test_the_frames_of_avts_fine_tuned_are_those_of_the_pretext(name, pretext):
    found, before = read(f"avts_{name}"), read(f"avts_{pretext}")
    assert (found.fresh, found.objective) == (("logit",), {"name": "recognition"})
    with torch.device("meta"):
        model, given = build_model(found.model), build_model(before.model)
    assert (model.frames, model.sound) == (given.frames, given.sound)
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (model, given)]
    assert {key for key in shapes[0] if shapes[0][key] != shapes[1].get(key)} == {"logit.weight", "logit.bias"}
    if name == "small_actions":
        assert found.model["classes"] == read("multisensory_small_actions").model["classes"]


@pytest.mark.parametrize("name", ["small", "audioset"])
def test_random_pairing_is_the_pretext_with_sounds_of_other_clips_alone(name):
    usual = read(f"multisensory_{name}")
    pairing = read({"small": "multisensory_small_pairing", "audioset": "multisensory_pairing_audioset"}[name])
    assert pairing.negatives == OtherClip() != usual.stages[-1].negatives
    assert len(pairing.stages) == 1 and pairing.steps == usual.steps + (30_000 if name == "audioset" else 0)
    last = usual.stages[-1]
    assert (pairing.model, pairing.objective, pairing.data) == (usual.model, last.objective, last.data)
    assert pairing.frozen == last.frozen == ()


def test_separation_has_the_papers_numbers_and_starts_from_the_weights_of_multisensory():
    """Multisensory, section 3.4, and its authors' code."""
    found = read("separation_voxceleb")
    assert (found.batch_size % 6, found.steps, found.needs_weights) == (0, 160_000, True)
    objective = {"name": "separation", "permutation_invariant": False, "phase_weight": 0.01}
    assert (found.objective, found.negatives) == (objective, OtherClip())
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adam", 1e-4, 1e-5)
    assert (optimizer.schedule, optimizer.decay, optimizer.decay_steps) == ("step", 0.1, 120_000)
    assert (optimizer.largest_gradient, found.frozen) == (10.0, ("sync.logit",))
    with torch.device("meta"):
        whole, part = build_model(found.model), build_model(read("multisensory_audioset").model)
    assert (whole.sound.samples, whole.stft.times, whole.stft.bins) == (44_144, 128, 1024)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (whole.sync, part)]
    assert shapes[0] == shapes[1]


def test_compact_separation_is_as_small_as_said_and_its_ablations_differ_in_what_they_see():
    small, sound, frame = map(read, ("separation_small_alike", "separation_small_sound", "separation_small_frame"))
    with torch.device("meta"):
        part = build_model(read("multisensory_small").model)
        models = [build_model(recipe.model) for recipe in (small, sound, frame)]
    assert models[0].sound == part.sound and models[0].frames == part.frames
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (models[0].sync, part)]
    assert shapes[0] == shapes[1]
    assert sum(parameter.numel() for parameter in models[0].unet.parameters()) <= 1.5e6
    assert [model.features for model in models] == ["video", "none", "frame"]
    assert sound.objective == small.objective | {"permutation_invariant": True}
    assert (frame.objective, frame.optimizer, frame.data) == (small.objective, small.optimizer, small.data)
    assert small.negatives == frame.negatives == sound.negatives == OtherClip(same_folder=True)


def test_no_two_files_share_thirty_lines():
    files = {path.name: set(path.read_text().splitlines()) - {""} for path in CONFIGS.glob("*.toml")}
    shared = {(a, b): len(files[a] & files[b]) for a in files for b in files if a < b}
    assert max(shared.values()) < 30, max(shared, key=shared.get)


# --------------------------------------------------------------------------------------------------------- reading

BASE = """
seed = 0
batch_size = 8
steps = 10
precision = "float32"
checkpoint_every = 5
frozen = ["fusion"]

[model]
architecture = "ave"
widths = [4, 4, 8, 8]
features = "blocks"

[objective]
name = "contrastive"
temperature = 0.2

[data]
gain = [0.5, 2.0]
quietest = -42.0

[optimizer]
name = "adam"
learning_rate = 1e-3
weight_decay = 1e-5
schedule = "cosine"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base.toml").write_text(BASE)
    return tmp_path


def child(folder, text, name="child.toml"):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_defaults_are_those_of_one_place(folder):
    found = read_recipe(folder / "base.toml")
    assert found.data == Data(gain=(0.5, 2.0), quietest=-42.0)
    assert (found.accumulate, found.needs_weights, found.validate_every) == (1, False, None)
    assert found.stage_at(0) == found.stage_at(9) == found.stages[0]


def test_what_extends_another_says_only_what_differs(folder):
    path = child(folder, 'extends = "base.toml"\nsteps = 3\n[optimizer]\nlearning_rate = 0.5\n[data]\nflip = false\n')
    found, base = read_recipe(path), read_recipe(folder / "base.toml")
    assert (found.steps, found.optimizer.learning_rate, found.data.flip) == (3, 0.5, False)
    assert (found.data.gain, found.optimizer.schedule, found.model) == (base.data.gain, "cosine", base.model)
    deeper = child(folder, 'extends = "../child.toml"\nseed = 4\n', "deep/er.toml")  # relative to its own folder
    assert (read_recipe(deeper).seed, read_recipe(deeper).steps, read_recipe(deeper).frozen) == (4, 3, ("fusion",))
    assert [file.name for file in lineage(deeper)] == ["er.toml", "child.toml", "base.toml"]


def test_options_of_another_network_or_objective_are_not_taken_over(folder):
    path = child(folder, 'extends = "base.toml"\n[model]\narchitecture = "l3"\n[objective]\nname = "correspondence"\n')
    found = read_recipe(path)
    assert found.model == {"architecture": "l3"}
    assert found.objective == {"name": "correspondence"}


def test_circles_and_missing_files_are_told(folder):
    child(folder, 'extends = "two.toml"\n', "one.toml")
    child(folder, 'extends = "one.toml"\n', "two.toml")
    with pytest.raises(ValueError, match=r"one\.toml extends itself: one\.toml -> two\.toml -> one\.toml"):
        read_recipe(folder / "one.toml")
    with pytest.raises(ValueError, match="extends itself"):
        read_recipe(child(folder, 'extends = "self.toml"\n', "self.toml"))
    with pytest.raises(FileNotFoundError, match=r"extends gone\.toml, but there is no file"):
        read_recipe(child(folder, 'extends = "gone.toml"\n'))
    with pytest.raises(ValueError, match="extends must be the name of a file, got 3"):
        read_recipe(child(folder, "extends = 3\n"))
    with pytest.raises(ValueError, match="is not TOML"):
        read_recipe(child(folder, "steps = \n"))


def test_values_given_beside_the_file_win_and_none_is_no_value(folder):
    found = read_recipe(folder / "base.toml", steps=7, seed=None, data={"workers": 2})
    assert (found.steps, found.seed, found.data.workers, found.data.quietest) == (7, 0, 2, -42.0)
    assert found.stages[0].data.workers == 2


# ---------------------------------------------------------------------------------------------------------- stages

AVTS = """
extends = "base.toml"

[objective]
name = "correspondence"

[optimizer]
name = "sgd"
momentum = 0.9
schedule = "constant"

[[stages]]
steps = 50

[[stages]]
steps = 40
seed = 5
frozen = []
negatives = [{kind = "other_clip", share = 0.75}, {kind = "same_clip", gap = 0.5, share = 0.25}]

[stages.data]
windows_per_clip = 2

[stages.optimizer]
learning_rate = 1e-4
"""


@pytest.fixture
def curriculum(folder):
    path = child(folder, AVTS)
    path.write_text(path.read_text().replace("[objective]", '[model]\narchitecture = "l3"\n[objective]', 1))
    (folder / "base.toml").write_text(BASE.replace("steps = 10\n", ""))
    return read_recipe(path)


def test_a_curriculum_lays_its_stages_over_the_recipe(curriculum):
    first, second = curriculum.stages
    assert curriculum.steps == 90
    assert (first.first_step, first.last_step, second.first_step, second.last_step) == (0, 50, 50, 90)
    assert second.first_position == 50 * 8
    assert (first.seed, first.frozen, first.negatives) == (0, ("fusion",), OtherClip())
    assert (second.seed, second.frozen) == (5, ())
    assert second.negatives == Mixture((OtherClip(), SameClip(gap=0.5)), (0.75, 0.25))
    assert (second.optimizer.learning_rate, second.optimizer.momentum) == (1e-4, 0.9)
    assert (second.data.windows_per_clip, second.data.gain) == (2, (0.5, 2.0))
    assert second.objective == {"name": "correspondence"} and not second.new_objective
    assert [curriculum.stage_at(step) for step in (0, 49, 50, 89, 90)] == [first, first, second, second, second]


def test_a_recipe_is_the_same_after_its_way_through_json(curriculum, folder):
    for made in (
        curriculum,
        recipe(),
        recipe(stages=[{"steps": 5, "seed": 3}]),
        recipe(negatives={"kind": "same_clip"}, validate_every=2),
        *map(read_recipe, CONFIGS.glob("*.toml")),
    ):
        assert to_recipe(json.loads(json.dumps(made.to_json()))) == made


# --------------------------------------------------------------------------------------------------------- refused


def optimizer(**changes) -> dict:
    return {"optimizer": changes}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stepz": 3}, "unknown keys stepz"),
        ({"precision": "bfloat16"}, "one of float32, bf16, fp16, got 'bfloat16'"),
        (optimizer(schedule="cosin"), "'cosin'"),
        (optimizer(name="sgdd"), "optimizer must be one of adam, adamw, sgd, got 'sgdd'"),
        (optimizer(name="sgd"), "momentum is what 'sgd' needs"),
        (optimizer(momentum=0.9), "momentum is what 'sgd' needs in .*, and no other; got 0.9"),
        (optimizer(schedule="step"), "needs decay and decay_steps"),
        (optimizer(schedule="plateau", decay=0.1), "needs decay and patience"),
        (optimizer(schedule="plateau", decay=0.1, patience=3), "'plateau' needs validate_every"),
        ({"data": {"windows_per_klip": 2}}, "unknown keys windows_per_klip"),
        ({"data": {"largest_projectile": 0.1}}, "unknown keys largest_projectile; known: .*mask"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number of at least 1, got 0"),
        (
            {"objective": {"name": "correspondence", "temperature": 1}},
            "unexpected keyword .*'temperature'; its options are: none",
        ),
        ({"objective": {"name": "classification", "classes": 3}}, "missing a required argument: 'features'"),
        ({"objective": {"name": "contrast"}}, "objective must be one of correspondence, contrastive, classification"),
        ({"data": {"windows_per_clip": 0}}, "windows_per_clip must be a whole number of at least 1, got 0"),
        (optimizer(schedule="step", decay=0.9, decay_steps=0), "decay_steps must be a whole number"),
        (optimizer(learning_rate="x"), "learning_rate must be a number of at least 0, got 'x'"),
        (optimizer(largest_gradient=0), "largest_gradient must be a norm above 0, got 0"),
        ({"model": "ave"}, r"model must be a table, \[model\], got 'ave'"),
        ({"frozen": "image_tower"}, "frozen must be a list"),
        ({"fresh": "fusion"}, "fresh must be a list of parts of the network, got 'fusion'"),
        ({"negatives": [{"kind": "hard"}]}, "negatives must be of a kind of other_clip, same_clip, got 'hard'"),
        ({"negatives": "hard"}, r"negatives must be a list of tables, \[\[negatives\]\], got 'hard'"),
        (
            {"objective": {"name": "contrastive"}, "negatives": [{"kind": "same_clip"}]},
            "'contrastive' takes its negatives from the batch: leave negatives out",
        ),
        ({"stages": [{"steps": 2}], "steps": 5}, "steps are those of all stages, 2: .* got 5"),
        ({"stages": [{"seed": 2}]}, "stage 1 lacks steps"),
        ({"stages": [{"steps": 5, "batch_size": 4}]}, "stage 1 has unknown keys batch_size"),
        ({"stages": [{"steps": 0}]}, "steps must be a whole number of at least 1, got 0"),
        ({"stages": {"steps": 5}}, r"stages must be a list of tables, \[\[stages\]\]"),
        ({"stages": [{"steps": 5, "optimizer": {"schedule": "step"}}]}, "needs decay and decay_steps"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        recipe(**change)


def test_what_an_optimizer_lacks_is_named():
    lacking = RECIPE | {"optimizer": {"name": "adam", "schedule": "cosine"}}
    with pytest.raises(ValueError, match=r"\[optimizer\] lacks learning_rate, weight_decay"):
        to_recipe(lacking)
    with pytest.raises(ValueError, match="the configuration lacks optimizer, seed"):
        to_recipe({key: value for key, value in RECIPE.items() if key not in ("seed", "optimizer")})


def test_tables_are_merged_at_any_depth_and_lists_are_replaced():
    base = {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": [1, 2]}}}
    assert merge(base, {"b": {"d": {"f": [3]}}, "g": 4}) == {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": [3]}}, "g": 4}
    assert base == {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": [1, 2]}}}


def test_a_curriculum_may_extend_a_recipe_of_other_length(folder):
    path = child(folder, 'extends = "base.toml"\n[[stages]]\nsteps = 100\n[[stages]]\nsteps = 200\n')
    assert read_recipe(path).steps == 300


def test_what_belongs_to_another_kind_is_not_inherited(folder):
    sgd = '[objective]\nname = "correspondence"\n[optimizer]\nname = "sgd"\nmomentum = 0.9\n'
    sgd += '[negatives]\nkind = "same_clip"\ngap = 1.0\n'
    child(folder, f'extends = "base.toml"\n{sgd}', "sgd.toml")
    plain = read_recipe(child(folder, 'extends = "sgd.toml"\n[optimizer]\nname = "adam"\n'))
    assert (plain.optimizer.name, plain.optimizer.momentum, plain.negatives) == ("adam", None, SameClip(gap=1.0))
    assert plain.optimizer.learning_rate == read_recipe(folder / "base.toml").optimizer.learning_rate
    other = read_recipe(child(folder, 'extends = "sgd.toml"\n[negatives]\nkind = "other_clip"\n'))
    assert other.negatives == OtherClip()
    contrastive = read_recipe(child(folder, 'extends = "sgd.toml"\n[objective]\nname = "contrastive"\n'))
    assert contrastive.negatives == OtherClip()


def test_the_table_of_data_may_be_left_out(folder):
    without = BASE.replace("[data]\ngain = [0.5, 2.0]\nquietest = -42.0\n", "")
    assert without != BASE
    (folder / "plain.toml").write_text(without)
    assert read_recipe(folder / "plain.toml").data == Data()
