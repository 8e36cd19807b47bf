"""Rendered episodes: levels kept apart, sound and frames in step, groups that differ only in the monster."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from training import simulate
from training.corpora.scenes import LARGEST_PROJECTILE, projectile_areas
from training.corpora.shards import Shards


def vizdoom_or_skip():
    try:
        simulate.check_engine()
    except ValueError as error:
        pytest.skip(str(error))


def test_an_engine_that_would_render_silence_is_told_with_what_it_needs(tmp_path, monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "vizdoom", object())  # only whether it's there counts
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(simulate.ctypes, "CDLL", missing)
    arguments = ["--output", str(tmp_path / "shards"), "--episodes", "1", "--seconds", "2"]
    result = CliRunner().invoke(simulate.main, arguments)
    assert result.exit_code == 2 and "libopenal.so.1" in result.output and "it needs the package" in result.output
    assert not (tmp_path / "shards").exists()


def test_the_fourteen_held_out_levels_are_never_trained_on():
    train_levels, held = set(simulate.levels("train")), set(simulate.levels("held"))
    assert len(held) == 14
    assert len(train_levels) == 54
    assert not train_levels & held
    assert ("freedoom1", "E1M3") in held
    assert ("freedoom2", "MAP32") in held


def test_rendered_episodes_are_in_step_and_the_same_again(tmp_path):
    vizdoom_or_skip()
    options = ["--episodes", "2", "--seconds", "2", "--seed", "3", "--split", "held", "--workers", "1"]
    for name in "ab":
        command = [sys.executable, "-m", "training.simulate", "--output", str(tmp_path / name), *options]
        subprocess.run(command, check=True, timeout=120)
    found = Shards(tmp_path / "a")
    assert len(found.clips) == 2
    for clip in found.clips:
        assert tuple(clip.level.split("/")) in simulate.levels("held")
        assert clip.samples == pytest.approx(len(clip.frame_times) * 4 / 35 * clip.sample_rate, abs=2)
        np.testing.assert_allclose(clip.frame_times, np.arange(1, len(clip.frame_times) + 1) * 4 / 35, atol=1e-5)
        assert found.frame(clip, 3).shape == (120, 160, 3)
        small = projectile_areas(found.objects(clip)) <= LARGEST_PROJECTILE
        assert clip.masks["no_large_projectile"].tolist() == small.tolist()
        assert clip.channels == 1
    assert (tmp_path / "a/00000.tar").read_bytes() == (tmp_path / "b/00000.tar").read_bytes()


def test_the_episodes_of_a_group_differ_in_the_monster_alone(tmp_path):
    vizdoom_or_skip()
    settings = simulate.Settings(4.0, 1, "held", 4, 24_000, "solo")
    first, second, again = (simulate.render(number, settings) for number in (0, 1, 0))
    assert first == again
    assert first["__key__"] != second["__key__"]
    abouts = [json.loads(sample["json"]) for sample in (first, second)]
    for about in abouts:
        seen = [sum(thing[0] == about["labels"][0] for thing in things) for things in about["objects"]]
        assert about["scene"] == "solo"
        assert np.mean(np.array(seen) > 0) > 0.5
        monsters = {thing[0] for things in about["objects"] for thing in things if thing[1] == "Monster"}
        assert monsters == set(about["labels"])
    assert abouts[0]["labels"] != abouts[1]["labels"]
    for shared in ("level", "group"):
        assert abouts[0][shared] == abouts[1][shared]
    assert [time for time, _ in abouts[0]["events"]] == [time for time, _ in abouts[1]["events"]]


def test_a_player_alone_is_silent_until_it_fires(tmp_path):
    vizdoom_or_skip()
    settings = simulate.Settings(6.0, 1, "held", 1, 24_000, "fire")
    first, again = (simulate.render(0, settings) for _ in range(2))
    assert first == again and first["__key__"].startswith("fire-")
    about = json.loads(first["json"])
    assert about["scene"] == "fire" and tuple(about["level"].split("/")) in simulate.levels("held")
    assert "Monster" not in {category for things in about["objects"] for _, category, *_ in things}
    sound, rate = soundfile.read(io.BytesIO(first["wav"]))
    loudness = np.square(sound[: 6 * rate].reshape(60, -1)).mean(axis=1) ** 0.5  # of tenths of a second
    assert loudness.max() > 0.05 and np.quantile(loudness, 0.1) < 0.001


def test_two_channels_are_those_whose_mean_is_the_mono_sound(tmp_path):
    vizdoom_or_skip()
    for channels in (1, 2):
        settings = simulate.Settings(2.0, 3, "held", 4, 24_000, channels=channels)
        simulate.simulate(tmp_path / str(channels), 1, settings, workers=1)
    mono, stereo = (Shards(tmp_path / name) for name in "12")
    assert [shards.clips[0].channels for shards in (mono, stereo)] == [1, 2]
    left, right = stereo.sound(stereo.clips[0], 1.0, 2.0, 24_000, 2).T
    assert np.abs(left - right).max() > 0.01
    mixed = mono.sound(mono.clips[0], 1.0, 2.0, 24_000)[:, 0]
    unclipped = np.maximum(np.abs(left), np.abs(right)) < 0.999
    assert unclipped.mean() > 0.99
    np.testing.assert_allclose(((left + right) / 2)[unclipped], mixed[unclipped], atol=2 / 32768)


def test_a_corpus_made_before_scenes_and_channels_goes_on(tmp_path):
    vizdoom_or_skip()
    old = {"seconds": 2.0, "seed": 3, "split": "held", "tics": 4, "sample_rate": 24_000, "episodes": 1}
    (tmp_path / "corpus.json").write_text(json.dumps(old))
    (tmp_path / "00000.tar").touch()  # so that there is nothing to render
    simulate.simulate(tmp_path, 1, simulate.Settings(2.0, 3, "held", 4, 24_000), workers=1)
    with pytest.raises(ValueError, match="take a new folder"):
        simulate.simulate(tmp_path, 1, simulate.Settings(2.0, 3, "held", 4, 24_000, channels=2), workers=1)
