"""Localisation on rendered encounters whose truth is known: a red thing that whistles and a blue one that hums."""

import json

import numpy as np
import pytest
import torch
import webdataset
from evaluations import evaluate, save_network
from red_and_blue import KINDS, RATE, Oracle, draw, tone
from tones import jpeg

from training.corpora.shards import Shards, encode_clip
from training.evaluate.datasets import encounters
from training.evaluate.datasets.boxes import overlap
from training.evaluate.metrics import solo_duo


def write(folder, clips):
    """Write clips of (key, labels, sound, objects of each frame), with a frame every half second."""
    folder.mkdir()
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        for key, labels, sound, objects in clips:
            known = [{name: box for name, _, *box in frame if name in KINDS} for frame in objects]
            frames, times = [jpeg(draw(boxes)) for boxes in known], [0.5 * (k + 1) for k in range(len(objects))]
            about = {"labels": labels, "objects": objects, "level": f"of {key}"}
            tar.write(encode_clip(key, sound, RATE, frames, times, about))
    return Shards(folder)


def monster(kind, x, y, width=0.3, height=0.3):
    return [kind, "Monster", x, y, width, height]


@pytest.fixture
def rendered(tmp_path):
    """Write folders of 8 solo and 4 duo episodes."""
    rng, kinds = np.random.default_rng(0), list(KINDS)
    solo = [
        (
            f"s{k}",
            [kinds[k % 2]],
            tone(kinds[k % 2]),
            [[monster(kinds[k % 2], *rng.uniform(0.1, 0.7, 2))] for _ in range(5)],
        )
        for k in range(8)
    ]
    duo = [
        (
            f"d{k}",
            kinds,
            tone("Red") + tone("Blue"),
            [
                [monster(kind, 0.6 * (kind == kinds[k % 2]) + rng.uniform(0, 0.1), 0.5) for kind in kinds]
                for _ in range(5)
            ],
        )
        for k in range(4)
    ]
    write(tmp_path / "solo", solo)
    write(tmp_path / "duo", duo)
    return tmp_path / "solo", tmp_path / "duo"


def measured(rendered, model, windows=1):
    solo, duo = map(Shards, rendered)
    asked = encounters.read_encounters(model, solo, duo, 3, windows, seed=0)
    return solo_duo.measure(model, [Oracle(deaf=True)], asked, seed=0)


@pytest.mark.parametrize("windows", [1, 3])
def test_a_model_that_knows_sound_and_picture_is_always_right(rendered, windows):
    report = measured(rendered, Oracle(), windows)
    figures = report.figures
    assert (figures["solo own sound"], figures["solo another kind's sound"]) == (100, 0)
    assert (figures["duo own sound"], figures["duo other's sound"]) == (100, 0)
    assert [figures[f"duo gain{bound}"] for bound in ("", ", lower bound", ", upper bound")] == [100, 100, 100]
    assert figures["duo gain, untrained"] == 0
    assert figures["solo chance (area of the box)"] == pytest.approx(9)
    title = next(name for name in report.tables if name.startswith("solo, 24 pictures of 8 levels"))
    assert report.tables[title]["own sound"]["off-centre"] == "100.0 [100.0, 100.0]"
    assert "duo, 12 pictures of 4 levels, both sounds each" in report.tables


def test_a_model_that_ignores_the_sound_gains_nothing(rendered):
    """It finds the only thing in solo pictures, and one of the two in duo pictures, whatever it hears."""
    figures = measured(rendered, Oracle(deaf=True)).figures
    assert figures["solo own sound"] == figures["solo another kind's sound"] == figures["solo silence"] == 100
    assert figures["duo own sound"] == figures["duo other's sound"] == 50
    assert figures["duo gain"] == figures["duo gain, upper bound"] == 0


def test_a_model_that_sees_noise_is_at_chance(rendered):
    model, (solo, duo) = Oracle(blind=True), map(Shards, rendered)
    asked = encounters.read_encounters(model, solo, duo, 5, 1, seed=0)
    heard = solo_duo.hear_sounds(model, solo, asked.sounds)
    torch.manual_seed(0)
    runs = [solo_duo.duo_hits(model, heard, asked) for _ in range(30)]
    for name in ("own sound", "another kind's sound"):
        assert np.mean([run[name] for run in runs]) == pytest.approx(0.09, abs=0.03)


def test_pictures_are_chosen_by_what_is_seen_and_heard(tmp_path):
    """In one episode, some frames break one rule each; its end is silent."""
    sound = tone("Red", 12.0)
    sound[8 * RATE :] = 0
    good = monster("Red", 0.1, 0.1)
    frames = [[good] for _ in range(23)]  # at 0.5, 1, ... 11.5 s
    frames[1] = [good, monster("Red", 0.6, 0.6)]  # two of them
    frames[2] = [monster("Red", 0.1, 0.1, 0.06, 0.08)]  # 0.48 % of the picture
    frames[3] = [monster("Red", 0.1, 0.1, 0.6, 0.5)]  # 30 %
    frames[4] = [good, ["Fire", "Explosive", 0.5, 0.5, 0.1, 0.1]]
    frames[5] = [["Red", "Decoration", 0.1, 0.1, 0.3, 0.3]]
    frames[6] = []
    frames[7] = [good, monster("Blue", 0.6, 0.6), ["Fire", "Explosive", 0.5, 0.5, 0.05, 0.05]]  # 0.25 %
    shards = write(tmp_path / "rules", [("a", ["Red"], sound, frames)])
    scenes, sounds = encounters.solo_scenes(shards, Oracle(), per_clip=50, windows=1, seed=0)
    # the first frame's window begins with the episode, and those from 8.5 s on hear nothing
    assert sorted(scene.frame for scene in scenes) == [0, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert all(scene.boxes == {"Red": (0.1, 0.1, 0.3, 0.3)} for scene in scenes)
    assert [sound.middles for sound in sounds] == [(shards.clips[0].frame_times[scene.frame],) for scene in scenes]
    few, _ = encounters.solo_scenes(shards, Oracle(), per_clip=3, windows=1, seed=0)
    assert few == scenes[:3]
    assert [scene.frame for scene in encounters.solo_scenes(shards, Oracle(), 50, 1, seed=1)[0]] != [
        scene.frame for scene in scenes
    ]


def test_windows_of_one_recording_are_its_own_frame_and_others(tmp_path):
    shards = write(tmp_path / "one", [("a", ["Red"], tone("Red", 6.0), [[monster("Red", 0.1, 0.1)]] * 11)])
    _, sounds = encounters.solo_scenes(shards, Oracle(), per_clip=2, windows=4, seed=0)
    for sound in sounds:
        assert len(set(sound.middles)) == 4
        assert all(0.5 <= middle <= 5.5 for middle in sound.middles)


def test_duo_pictures_show_both_kinds_apart(tmp_path):
    apart = [monster("Red", 0.0, 0.5), monster("Blue", 0.6, 0.5)]
    frames = [apart, [monster("Red", 0.0, 0.5), monster("Blue", 0.2, 0.5)], apart[:1]]
    shards = write(tmp_path / "duo", [("a", ["Red", "Blue"], tone("Red"), frames)])
    [scene] = encounters.duo_scenes(shards, per_clip=5, seed=0)
    assert (scene.frame, list(scene.boxes)) == (0, ["Red", "Blue"])
    assert overlap((0, 0, 0.4, 0.4), (0.3, 0.2, 0.2, 0.2)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"no frame of .*lone"):
        encounters.duo_scenes(write(tmp_path / "lone", [("a", ["Red", "Blue"], tone("Red"), frames[2:])]), 5, 0)


def test_sounds_of_one_kind_or_of_other_kinds_are_refused(tmp_path):
    red = write(tmp_path / "red", [("a", ["Red"], tone("Red"), [[monster("Red", 0.1, 0.1)]] * 5)])
    both = [monster("Red", 0.0, 0.5), monster("Blue", 0.6, 0.5)]
    duo = write(tmp_path / "duo", [("a", ["Red", "Blue"], tone("Red"), [both] * 5)])
    with pytest.raises(ValueError, match="Blue, of which there is no solo recording"):
        encounters.read_encounters(Oracle(), red, duo, 2, 1, seed=0)


def test_the_prior_is_the_mean_map_of_many_sounds(rendered):
    solo, duo = (Shards(folder) for folder in rendered)
    model = Oracle()
    found = encounters.read_encounters(model, solo, duo, 2, 1, seed=0)
    heard = solo_duo.hear_sounds(model, found.solo, found.sounds)
    prior = solo_duo.solo_maps(model, heard, found)["mean map of many sounds"]
    seen = list(solo_duo.see_scenes(model, found.solo, found.scenes))
    share_of_high = np.mean([float(heard[number][0, 0]) for number in found.prior])
    assert 0 < share_of_high < 1 and len(found.prior) == encounters.PRIOR_SOUNDS
    expected = share_of_high * seen[0][0] + (1 - share_of_high) * seen[0][1]
    np.testing.assert_allclose(prior[0], expected, rtol=1e-5)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_model_tells_absent_sounds_by_the_highest_place_if_it_hears(rendered, deaf):
    solo, duo = (Shards(folder) for folder in rendered)
    model = Oracle(deaf=deaf)
    found = solo_duo.measure(model, [Oracle()], encounters.read_encounters(model, solo, duo, 2, 1, seed=0), seed=0)
    ap = found.figures["solo AP against another kind's sound, right if its highest place is in the box"]
    assert ap == pytest.approx(50 if deaf else 100, abs=1)  # deaf: both of one confidence


@pytest.fixture
def weights(tmp_path):
    return save_network(tmp_path / "tiny.safetensors", architecture="avol", image_size=[72, 96], map_stride=8)


def test_the_command_prints_both_tables_and_writes_json(rendered, weights, tmp_path):
    solo, duo = rendered
    options = ("--model", weights, "--per-clip", 2, "--untrained-seeds", 2, "--json", tmp_path / "found.json")
    result = evaluate("localization", "--solo", solo, "--duo", duo, *options)
    assert result.exit_code == 0, result.output
    for words in ("solo, 16 pictures of 8 levels", "duo, 8 pictures of 4 levels", "untrained: 2 seeds", "81.7"):
        assert words in result.output
    written = json.loads((tmp_path / "found.json").read_text())
    names = {metric["name"] for metric in written["metrics"]}
    assert {"localisation duo gain, lower bound", "localisation solo own sound"} <= names
    assert all(np.isfinite(metric["value"]) for metric in written["metrics"])
