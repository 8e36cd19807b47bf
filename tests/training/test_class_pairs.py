"""Pairs by class: classes, balance, origins, resuming; and the objective that knows classes."""

import math

import numpy as np
import pytest
import torch
from by_class import PITCHES, tone, write_classes, write_picture, write_sound
from fake_model import FakeModel
from safetensors.torch import load_file
from tones import RECIPE, listener

from training.class_pairs import ClassPairs, Pool, class_shares
from training.corpora.by_class import CommonForm, find_class_files
from training.corpora.shards import Shards
from training.objectives import Contrastive, of_other_classes
from training.picture_augmentation import PictureAugmentation
from training.prepare import write_shard
from training.recipe import Data, merge, to_recipe
from training.record import read_lines
from training.sound_augmentation import SoundAugmentation
from training.train import train

MODEL = listener()


class Fixed(FakeModel):
    """Passes embeddings through unchanged."""

    def __init__(self):
        super().__init__(hears=lambda vectors: vectors, sees=lambda vectors: vectors)


PLAIN = {"brightness": 0, "saturation": (1, 1), "gain": (1, 1)}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Write shards of three classes, of which a dog's recordings are 12, most of them cuts of one."""
    folder = tmp_path_factory.mktemp("classes")
    pictures, sounds, about = write_classes(folder)
    for cut in range(8):
        write_sound(sounds / "dog" / f"77-3-0-{cut}.wav", tone(PITCHES["dog"] + 200, 0.4))
    write_shard(folder / "000000.tar", 0, find_class_files(pictures, sounds, about), CommonForm(32, 16_000, "wav", 95))
    return folder


def heard(samples, rate) -> str:
    """Tell the class of a window by its pitch."""
    spectrum = np.abs(np.fft.rfft(np.asarray(samples)[:, 0]))
    pitch = spectrum.argmax() * rate / len(samples)
    return min(PITCHES, key=lambda name: abs(PITCHES[name] - pitch))


def test_a_picture_and_its_sound_are_of_one_class_and_the_target_is_its_number(classes):
    pairs = ClassPairs(Shards(classes), MODEL, Data(by_class="uniform", **PLAIN), 0)
    for position in range(60):
        item = pairs[position]
        name = pairs.classes[int(item["target"])]
        assert heard(item["samples"][0], MODEL.sound.sample_rate) == name
        assert pairs.classes[int(item["frames"][0].mean(dim=(0, 1, 2)).argmax())] == name
        assert item["frames"].shape == (1, 1, MODEL.frames.height, MODEL.frames.width, 3)
        assert item["samples"].shape == (1, MODEL.sound.samples, 1)


def test_targets_follow_the_order_of_given_classes(classes):
    pairs = ClassPairs(Shards(classes), MODEL, Data(by_class="uniform", **PLAIN), 0, ["train", "dog", "cat"])
    item = pairs[0]
    assert heard(item["samples"][0], MODEL.sound.sample_rate) == ["train", "dog", "cat"][int(item["target"])]


@pytest.mark.parametrize(
    ("by", "expected"), [("uniform", 1 / 3), ("square_root", 12**0.5 / (4 + 12**0.5)), ("count", 0.6)]
)
def test_classes_come_alike_or_by_their_recordings(classes, by, expected):
    pairs = ClassPairs(Shards(classes), MODEL, Data(by_class=by), 0)
    targets = [pairs.classes[int(pairs[position]["target"])] for position in range(400)]
    assert targets.count("dog") / 400 == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 400))
    assert class_shares([4, 12, 4], by)[1] == pytest.approx(expected)


def test_origins_come_by_the_square_root_of_their_files(classes):
    dogs = [clip for clip in Shards(classes).clips if clip.labels == ("dog",) and clip.samples]
    pool, rng = Pool.of(dogs), np.random.default_rng(0)
    share = np.mean([pool.draw(rng).source == "freesound:77" for _ in range(2000)])
    assert share == pytest.approx(8**0.5 / (4 + 8**0.5), abs=0.045)  # 4 standard errors


def test_a_recording_shorter_than_the_window_lies_anywhere_in_it(classes):
    shards = Shards(classes)
    pairs = ClassPairs(shards, MODEL, Data(by_class="uniform"), 0)
    clip = next(clip for clip in shards.clips if clip.source == "freesound:77")
    firsts = []
    for seed in range(40):
        window = pairs._window(clip, np.random.default_rng(seed))
        loud = np.flatnonzero(np.abs(window[:, 0]) > 0.01)
        firsts.append(loud[0] / MODEL.sound.sample_rate)
        assert (loud[-1] - loud[0]) / MODEL.sound.sample_rate == pytest.approx(0.4, abs=0.01)
    assert min(firsts) < 0.1 * MODEL.sound.seconds
    assert max(firsts) > 0.5 * (MODEL.sound.seconds - 0.4)


def test_a_pair_depends_on_seed_and_position_alone(classes):
    data = Data(
        by_class="uniform",
        sound=SoundAugmentation(0.5, background=0.5, reverberation=0.5, low_pass=0.5, bands=2, stretches=2, noise=0.5),
        picture=PictureAugmentation(area=(0.3, 1), grey=0.5, coarse=0.5, coarsest=8, jpeg=0.5, contrast=(0.5, 1.5)),
    )
    first, again = (ClassPairs(Shards(classes), MODEL, data, 5) for _ in range(2))
    backwards = {position: again[position] for position in reversed(range(12))}
    for position in range(12):
        for name, value in first[position].items():
            torch.testing.assert_close(value, backwards[position][name], rtol=0, atol=0)
            assert torch.isfinite(value.float()).all()
    other = ClassPairs(Shards(classes), MODEL, data, 6)
    assert not torch.equal(first[0]["samples"], other[0]["samples"])


def test_one_class_is_too_few(tmp_path):
    write_picture(tmp_path / "P/dog/a.jpg", (9, 9, 9))
    write_sound(tmp_path / "S/dog/a.wav", tone(900, 1))
    files = find_class_files(tmp_path / "P", tmp_path / "S")
    write_shard(tmp_path / "000000.tar", 0, files, CommonForm(32, 16_000, "wav", 95))
    with pytest.raises(ValueError, match=r"need two classes .* there are 1 of 1"):
        ClassPairs(Shards(tmp_path), MODEL, Data(by_class="uniform"), 0)


# --------------------------------------------------------------------------------------------------- the objective


def by_hand(image, audio, classes, scale, mode):
    """Return the loss of finding partners, and its gradient by the similarities, from the formula."""
    similarity = scale * image @ audio.T
    same = classes[:, None] == classes
    own = np.eye(len(classes), dtype=bool)
    losses, gradient = [], np.zeros_like(similarity)
    for logits, flip in ((similarity, False), (similarity.T, True)):
        kept = np.ones_like(same) if mode == "positive" else own | ~same
        partners = same if mode == "positive" else own
        chance = np.exp(logits) * kept
        chance /= chance.sum(axis=1, keepdims=True)
        wanted = partners / partners.sum(axis=1, keepdims=True)
        losses.append(-(wanted * np.log(np.where(kept, chance, 1))).sum(axis=1).mean())
        slope = scale * (chance - wanted) / len(classes) / 2
        gradient += slope.T if flip else slope
    return np.mean(losses), gradient


@pytest.mark.parametrize("mode", ["positive", "ignored"])
def test_items_of_one_class_are_no_negatives_by_hand(mode):
    rng = np.random.default_rng(0)
    image, audio, classes = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), np.array([0, 1, 0, 2, 1, 0])
    similarity = torch.tensor(image @ audio.T, requires_grad=True)
    objective, target = Contrastive(temperature=0.5, same_class=mode), torch.tensor(classes)
    nobody = torch.zeros(6, 6, dtype=torch.bool)
    loss, right = objective.contrast(similarity, similarity.T, nobody, target[:, None] == target)
    loss.backward()
    expected, gradient = by_hand(image, audio, classes, 2.0, mode)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(similarity.grad, gradient, atol=1e-6)
    best = (image @ audio.T).argmax(axis=1)
    if mode == "positive":
        assert right.item() == pytest.approx(np.mean(classes[best] == classes))
    else:  # nothing pulls or pushes another item of the class
        others = (classes[:, None] == classes) & ~np.eye(6, dtype=bool)
        assert not similarity.grad.numpy()[others].any()


def test_with_as_many_classes_as_items_it_is_the_usual_loss():
    rng = np.random.default_rng(1)
    image, audio = torch.tensor(rng.normal(size=(4, 3))), torch.tensor(rng.normal(size=(4, 3)))
    batch = {"group": torch.zeros(4), "target": torch.arange(4)}
    usual, _ = Contrastive(temperature=0.3)(Fixed(), image, audio, batch)
    for mode in ("positive", "ignored"):
        loss, _ = Contrastive(temperature=0.3, same_class=mode)(Fixed(), image, audio, batch)
        assert loss.item() == pytest.approx(usual.item())


def test_the_decision_is_fitted_on_sounds_of_other_classes():
    exist, chosen = of_other_classes(torch.tensor([3, 3, 1, 3]))
    assert exist.tolist() == [True] * 4
    assert chosen.tolist() == [2, 2, 1, 2]
    assert not of_other_classes(torch.tensor([1, 1]))[0].any()
    angles = np.array([0.0, 1.0, 2.5, 4.0])
    image = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    audio = np.stack([np.cos(angles + 0.3), np.sin(angles + 0.3)], axis=1)
    batch = {"group": torch.zeros(4), "target": torch.tensor([3, 3, 1, 3])}
    loss, _ = Contrastive(temperature=0.2, same_class="positive")(
        Fixed(), torch.tensor(image), torch.tensor(audio), batch
    )
    contrast, _ = by_hand(image, audio, np.array([3, 3, 1, 3]), 5.0, "positive")
    near = np.log1p(np.exp(-2 * (image * audio).sum(axis=1))).mean()
    far = np.log1p(np.exp(2 * (image * audio[[2, 2, 1, 2]]).sum(axis=1))).mean()
    assert loss.item() == pytest.approx(contrast + (near + far) / 2, abs=1e-5)


def test_pictures_and_sounds_find_the_prototypes_of_their_classes_by_hand():
    rng = np.random.default_rng(2)
    image, audio, target = torch.tensor(rng.normal(size=(4, 3))), torch.tensor(rng.normal(size=(4, 3))), [2, 0, 2, 1]
    batch = {"group": torch.zeros(4), "target": torch.tensor(target)}
    torch.manual_seed(0)
    objective = Contrastive(temperature=0.25, same_class="positive", classes=5, features=3)
    with torch.no_grad():
        objective.prototypes *= torch.tensor([[3.0], [0.1], [1.0], [2.0], [5.0]])  # their lengths don't count
    loss, _ = objective(Fixed(), image, audio, batch)
    without, _ = Contrastive(temperature=0.25, same_class="positive")(Fixed(), image, audio, batch)
    prototypes = objective.prototypes.detach().double().numpy()
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    chances = [np.exp(4 * side.numpy() @ prototypes.T) for side in (image, audio)]
    terms = [np.log(chance.sum(axis=1) / chance[range(4), target]).mean() for chance in chances]
    assert loss.item() - without.item() == pytest.approx(np.mean(terms), abs=1e-5)
    loss.backward()
    assert (objective.prototypes.grad != 0).any(dim=1).all()  # those of no item are pushed away


def test_a_batch_of_one_class_has_a_finite_gradient():
    image = torch.randn(3, 4, requires_grad=True)
    batch = {"group": torch.zeros(3), "target": torch.ones(3)}
    loss, right = Contrastive(same_class="positive")(Fixed(), image, torch.randn(3, 4), batch)
    loss.backward()
    assert torch.isfinite(image.grad).all()
    assert right.item() == 1


# ------------------------------------------------------------------------------------------------------ the recipe

CLASSES = merge(
    RECIPE,
    {
        "objective": {"name": "contrastive", "same_class": "positive"},
        "data": {
            "by_class": "square_root",
            "sound": {"same_class": 0.5, "noise": 0.5, "low_pass": 0.5},
            "picture": {"area": [0.4, 1.0], "jpeg": 0.5},
        },
    },
)


@pytest.mark.usefixtures("one_thread")
def test_a_training_by_class_goes_on_as_if_never_stopped(classes, tmp_path):
    small = to_recipe(merge(CLASSES, {"steps": 4, "checkpoint_every": 1, "batch_size": 6}))
    assert to_recipe({key: value for key, value in small.to_json().items() if key != "stages"}) == small
    train(small, [classes], tmp_path / "whole")
    train(small, [classes], tmp_path / "parts", stop_after=2)
    train(small, [classes], tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    losses = [[line["loss"] for line in read_lines(tmp_path / name / "log.jsonl")] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objective": {"name": "contrastive"}}, "must know classes"),
        ({"objective": {"name": "correspondence"}}, "must know classes"),
        ({"objective": {"name": "contrastive", "same_class": "friend"}}, "same_class must be 'positive' or 'ignored'"),
        ({"objective": {"name": "contrastive", "classes": 2}}, "with classes, same_class must say what pairs"),
        ({"data": {"by_class": "always"}}, "by_class must be one of uniform, square_root, count, got 'always'"),
        ({"data": {"windows_per_clip": 2}}, "windows_per_clip = 2 has no meaning with by_class"),
        ({"data": {"sound": {"noise": 1.5}}}, r"\[data.sound\]: noise must be a share of the windows"),
        ({"data": {"sound": {"nose": 1}}}, r"\[data.sound\] has unknown keys nose"),
        ({"data": {"sound": {"decay": [0.5, 0.1]}}}, r"decay must be a range \[low, high\], got \[0.5, 0.1\]"),
        ({"data": {"picture": {"area": [0.4, 1.5]}}}, "area must be shares of the picture"),
        ({"data": {"picture": 3}}, r"picture must be a table, \[data.picture\], got 3"),
    ],
)
def test_options_that_cant_work_by_class_are_told(change, told):
    with pytest.raises(ValueError, match=told):
        to_recipe({**CLASSES, **change} if "objective" in change else merge(CLASSES, change))


def test_augmentation_without_classes_is_refused():
    with pytest.raises(ValueError, match=r"\[data.sound\] is for pairs by class"):
        to_recipe(merge(RECIPE, {"data": {"sound": {"noise": 0.5}}}))
