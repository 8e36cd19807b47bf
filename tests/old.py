"""Pairs, objectives and the loop: sampling without shortcuts, losses by hand, resuming as if never stopped."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import webdataset
from torch import nn

from training import scenes, simulate
from training.data import Pairs, Sampling, Shards, encode_clip, held_out_pairs, level
from training.objectives import Contrastive, Correspondence
from training.train import build, learning_rate, make_loader, train, train_step

CONFIGS = sorted(
    (Path(simulate.__file__).parent / "configs").glob("*.toml"),
    key=lambda path: (path.stem != "ave_small", path),  # the small one first
)
RATE, FRAMES, SECONDS = 24_000, 20, 4.0


def coloured_frame(clip: int, index: int) -> np.ndarray:
    return np.full((24, 32, 3), (10 * clip, 5 * index, 128), dtype=np.uint8)


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Two tars of three clips; clip c is a tone of 200 (c + 1) Hz, its frame k has red 10 c and green 5 k."""
    import cv2

    folder = tmp_path_factory.mktemp("shards")
    for tar in range(2):
        with webdataset.TarWriter(str(folder / f"{tar:05d}.tar")) as writer:
            for clip in range(3 * tar, 3 * tar + 3):
                time = np.arange(round(RATE * SECONDS)) / RATE
                tone = 0.5 * np.sin(2 * np.pi * 200 * (clip + 1) * time)
                frames = [
                    cv2.imencode(".jpg", coloured_frame(clip, k)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[
                        1
                    ].tobytes()
                    for k in range(FRAMES)
                ]
                times = [(k + 1) * SECONDS / FRAMES for k in range(FRAMES)]
                writer.write(encode_clip(f"clip{clip}", tone, RATE, frames, times, {}, ("wav", "flac")[tar]))
    return folder


class Contract:
    """Just the inputs a model states."""

    image_size, sample_rate, window_seconds = 16, RATE, 1.0


def clip_of_sound(waveform) -> int:
    spectrum = np.abs(np.fft.rfft(np.asarray(waveform) * np.hanning(len(waveform))))
    return round(spectrum.argmax() / 200) - 1


def clip_of_picture(image) -> int:
    return round(float(image[..., 0].mean()) * 255 / 10)


def plain(**options):
    return Sampling(brightness=0, saturation=(1, 1), gain=(1, 1), flip=False, **options)


def test_frames_and_sound_come_back_from_the_shards(shards):
    found = Shards(shards)
    assert [clip.key for clip in found.clips] == [f"clip{k}" for k in range(6)]
    np.testing.assert_allclose(found.frame(found.clips[4], 7).mean(axis=(0, 1)) * 255, [40, 35, 128], atol=2)
    waveform = found.waveform(found.clips[4], 2.0, 1.0, RATE)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (np.arange(RATE) / RATE + 1.5))
    np.testing.assert_allclose(waveform, expected, atol=1e-4)


def test_sound_beyond_the_clip_is_silence(shards):
    found = Shards(shards)
    waveform = found.waveform(found.clips[0], 0.0, 1.0, RATE)
    assert not waveform[: RATE // 2].any()
    assert waveform[RATE // 2 :].any()


def test_labels_tell_whether_picture_and_sound_are_of_one_clip(shards):
    pairs = Pairs(Shards(shards), Contract, plain(negatives=0.5, windows_per_clip=4), seed=0)
    labels = []
    for position in range(100):
        item = pairs[position]
        for image, waveform, label in zip(item["image"], item["waveform"], item["label"], strict=True):
            assert (clip_of_picture(image) == clip_of_sound(waveform)) == bool(label)
            labels.append(int(label))
    assert np.mean(labels) == pytest.approx(0.5, abs=0.08)  # 4 standard errors of 400 draws: 0.1


def test_positive_and_negative_sounds_lie_on_the_same_grid(shards, monkeypatch):
    found = Shards(shards)
    seen = []
    monkeypatch.setattr(
        found, "waveform", lambda clip, middle, *_: seen.append((clip, middle)) or np.ones(RATE, np.float32)
    )
    for negatives in (0.0, 1.0):
        pairs = Pairs(found, Contract, plain(negatives=negatives, windows_per_clip=8), seed=0)
        seen.clear()
        for position in range(50):
            pairs[position]
        assert len(seen) == (400 if negatives == 0 else 800)  # of negatives, picture and sound are each of a moment
        assert all(np.abs(clip.frame_times - middle).min() < 1e-9 for clip, middle in seen)


def test_misalignment_keeps_the_frame_within_its_limit(shards, monkeypatch):
    found = Shards(shards)
    seen = []
    monkeypatch.setattr(found, "waveform", lambda clip, middle, *_: seen.append(middle) or np.ones(RATE, np.float32))
    pairs = Pairs(found, Contract, plain(negatives=0.0, misalignment=0.3, windows_per_clip=8), seed=0)
    distances = []
    for position in range(50):
        seen.clear()
        for image, middle in zip(pairs[position]["image"], seen, strict=True):
            frame = round(float(image[..., 1].mean()) * 255 / 5)
            distances.append(middle - (frame + 1) * SECONDS / FRAMES)
    assert np.abs(distances).max() <= 0.3 + 1e-9
    assert np.std(distances) == pytest.approx(0.3 / math.sqrt(3), rel=0.15)  # uniform


def test_each_pass_visits_every_clip_once_in_a_new_order(shards):
    pairs = Pairs(Shards(shards), Contract, plain(negatives=0.0), seed=3)
    passes = [[clip_of_picture(pairs[p]["image"][0]) for p in range(start, start + 6)] for start in (0, 6, 12)]
    assert all(sorted(visited) == list(range(6)) for visited in passes)
    assert len({tuple(visited) for visited in passes}) > 1


def test_a_pair_depends_on_seed_and_position_alone(shards):
    def item(seed, position):
        return Pairs(Shards(shards), Contract, Sampling(windows_per_clip=2), seed)[position]

    first, again, other = item(0, 5), item(0, 5), item(1, 5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], other["image"])


def test_quiet_windows_are_passed_over():
    assert level(np.zeros(10)) == -200
    assert level(np.full(10, 0.1)) == pytest.approx(-20)


def test_evaluation_pairs_are_of_one_clip_and_whole_windows(shards):
    found = list(held_out_pairs(Shards(shards), Contract, per_clip=3, seed=0))
    assert len(found) == 18
    for image, waveform, clip in found:
        assert clip_of_picture(image) == clip_of_sound(waveform) == clip
        assert np.abs(waveform[:100]).any()
        assert np.abs(waveform[-100:]).any()


class Fixed(nn.Module):
    """A model that passes given embeddings through and compares by a fixed rule."""

    def represent_image(self, x):
        return x

    represent_audio = represent_image

    def compare(self, image, audio):
        similarity = (image * audio).sum(dim=1)
        return torch.stack([-similarity, similarity], dim=1)

    def forward(self, image, audio):
        return self.compare(image, audio)


def test_correspondence_loss_is_the_two_way_cross_entropy_by_hand():
    image, audio = torch.tensor([[1.0], [0.5]]), torch.tensor([[2.0], [1.0]])
    loss, right = Correspondence()(Fixed(), image, audio, torch.tensor([1, 0]))
    expected = (math.log(1 + math.exp(-4.0)) + math.log(1 + math.exp(1.0))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert right.item() == 0.5


def test_contrastive_loss_is_symmetric_infonce_by_hand():
    angles = np.array([0.0, 1.0, 2.5])
    image = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    audio = np.stack([np.cos(angles + 0.3), np.sin(angles + 0.3)], axis=1)
    similarity = np.exp(image @ audio.T / 0.2)
    rows = -np.log(np.diag(similarity) / similarity.sum(axis=1)).mean()
    columns = -np.log(np.diag(similarity) / similarity.sum(axis=0)).mean()
    near = np.log1p(np.exp(-2 * (image * audio).sum(axis=1))).mean()
    far = np.log1p(np.exp(2 * (image * np.roll(audio, 1, axis=0)).sum(axis=1))).mean()
    tensors = torch.tensor(image), torch.tensor(audio)
    loss, right = Contrastive(temperature=0.2)(Fixed(), *tensors, torch.ones(3, dtype=torch.long))
    assert loss.item() == pytest.approx((rows + columns) / 2 + (near + far) / 2, abs=1e-5)
    assert right.item() == 1.0


def test_the_contrastive_objective_fits_the_decision_without_moving_the_embeddings():
    from openavc.models import AVENet

    torch.manual_seed(0)
    model = AVENet(widths=(4, 4, 4, 4), frontend="mel64", image_size=16, joint_size=4)
    image, spectrogram = torch.randn(4, 3, 16, 16), torch.randn(4, 1, 64, 80)
    Contrastive()._decision(
        model, model.represent_image(image).detach(), model.represent_audio(spectrogram).detach()
    ).backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {"fc3.weight", "fc3.bias"}


def test_the_learning_rate_warms_up_and_follows_half_a_cosine():
    settings = {"learning_rate": 1.0, "schedule": "cosine", "warmup_steps": 10}
    assert learning_rate(0, 1000, settings) == pytest.approx(0.1)
    assert learning_rate(500, 1000, settings) == pytest.approx(0.5)
    assert learning_rate(999, 1000, settings) < 1e-5
    assert learning_rate(700, 1000, settings | {"schedule": "constant"}) == 1.0


def read_config(path: Path) -> dict:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(path.read_text())


def tiny(config: dict, **changes) -> dict:
    """The configuration at a reduced size."""
    model = config["model"] | {"widths": [4, 4, 8, 8], "image_size": 16}
    data = config["data"] | {"workers": 1}
    return config | {"model": model, "data": data, "batch_size": 4, "steps": 4, "checkpoint_every": 1} | changes


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_makes_a_step_that_moves_every_parameter(path, shards, tmp_path):
    from safetensors.torch import load_file

    config = tiny(read_config(path))
    model, objective, optimizer = build(config, torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = next(iter(make_loader(config, Shards(shards), model, objective, 0, 1)))
    shown = train_step(model.train(), objective, optimizer, batch, config["precision"])
    assert math.isfinite(shown["loss"])
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        # A bias before BatchNorm has no effect: its gradient is rounding.
        assert parameter.grad.abs().max() > 0 or name.endswith("bias"), name
    assert not any(
        torch.equal(value, before[name]) for name, value in model.named_parameters() if name.endswith("weight")
    )
    assert train(config, shards, tmp_path / "run", stop_after=2) == 2
    assert load_file(tmp_path / "run/weights.safetensors").keys() == before.keys()


def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(shards, tmp_path):
    config = tiny(read_config(CONFIGS[0]), steps=6)
    train(config, shards, tmp_path / "whole")
    for steps in (1, 4, 6):
        train(config, shards, tmp_path / "parts", stop_after=steps)
    whole, parts = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_what_was_logged_after_the_last_checkpoint_is_not_logged_twice(shards, tmp_path):
    config = tiny(read_config(CONFIGS[0]), steps=4)
    train(config, shards, tmp_path, stop_after=2)
    with (tmp_path / "log.jsonl").open("a") as log:  # killed before the next checkpoint
        log.write(json.dumps({"step": 3}) + "\n")
    train(config, shards, tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stepz": 3}, "unknown keys stepz"),
        ({"precision": "bfloat16"}, "one of float32, bf16, got 'bfloat16'"),
        ({"optimizer": {"name": "adam", "learning_rate": 1, "weight_decay": 0, "schedule": "cosin"}}, "'cosin'"),
        ({"data": {"windows_per_klip": 2}}, "unknown keys windows_per_klip"),
        ({"batch_size": 2}, "at least two clips, got 2"),
        ({"batch_size": 5}, "multiple of 2"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_before_anything_is_written(shards, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        train(tiny(read_config(CONFIGS[0]), **change), shards, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_quiet_moment_gives_nothing_away_about_the_label(tmp_path):
    """Bright while loud, dark in silence: pictures of negative pairs must be as bright as those of positive ones."""
    import cv2

    loud = np.repeat(np.tile([1.0, 0.0], 10), RATE // 2)  # half a second each
    frames = [
        cv2.imencode(".jpg", np.full((24, 32, 3), 250 * ((k // 2) % 2 == 0), np.uint8))[1].tobytes() for k in range(40)
    ]
    times = [0.125 + 0.25 * k for k in range(40)]
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for clip in range(4):
            writer.write(encode_clip(f"c{clip}", 0.5 * loud, RATE, frames, times, {}))

    class Short(Contract):
        window_seconds = 0.2

    pairs = Pairs(Shards(tmp_path), Short, plain(negatives=0.5, windows_per_clip=8, quietest=-42), seed=0)
    bright = {0: [], 1: []}
    for position in range(60):
        for image, label in zip(pairs[position]["image"], pairs[position]["label"], strict=True):
            bright[int(label)].append(float(image.mean()) > 0.5)
    assert np.mean(bright[0]) == pytest.approx(np.mean(bright[1]), abs=0.03)


def test_a_run_refuses_to_go_on_with_another_configuration(shards, tmp_path):
    config = tiny(read_config(CONFIGS[0]))
    train(config, shards, tmp_path / "run", stop_after=1)
    with pytest.raises(ValueError, match="other values of seed"):
        train(config | {"seed": 1}, shards, tmp_path / "run")


def test_trained_weights_load_and_embed(shards, tmp_path):
    import openavc

    train(tiny(read_config(CONFIGS[0])), shards, tmp_path / "run", stop_after=2)
    model = openavc.load_model(tmp_path / "run" / "weights.safetensors")
    waveform = np.random.default_rng(0).uniform(-1, 1, RATE * 2).astype(np.float32)
    embedding, _ = openavc.get_audio_embedding(waveform, RATE, model)
    assert np.isfinite(embedding).all()


def test_no_shards_is_an_error_that_says_how_to_make_some(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.simulate"):
        Shards(tmp_path)


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


@pytest.mark.parametrize("game_name", ["freedoom1", "freedoom2"])
def test_a_group_has_eight_kinds_of_its_game(game_name):
    kinds = scenes.group_kinds(np.random.default_rng(0), game_name)
    assert len(set(kinds)) == len(kinds) == 8
    assert {kind.lower() for kind in kinds} <= {kind.lower() for kind in scenes.MONSTERS[game_name]}
    assert kinds != scenes.group_kinds(np.random.default_rng(1), game_name)


SQUARE = [
    (-1000, -1000, 1000, -1000),
    (1000, -1000, 1000, 1000),
    (1000, 1000, -1000, 1000),
    (-1000, 1000, -1000, -1000),
]
WALL = (0, 0, 0, 1000)  # the upper half of the square in two


def test_walls_stop_the_eye():
    walls = scenes.Walls([*SQUARE, WALL])
    assert not walls.free((-500, 500), (500, 500))  # through the wall
    assert walls.free((-500, -500), (500, -500))  # below it
    assert walls.free((-500, 100), (500, -200))  # past its end
    assert walls.free((-500, 100), (-500, 900))  # along it
    assert not walls.free((500, 0), (1500, 0))  # out of the square
    assert walls.distance((-30, 500)) == pytest.approx(30)
    assert walls.distance((-30, -40)) == pytest.approx(50)  # to the wall's end
    assert scenes.Walls([]).free((0, 0), (1, 1))


def test_doors_and_ledges_are_walls_and_steps_are_not():
    def sector(floor, ceiling, *lines):
        lines = [SimpleNamespace(x1=a, y1=b, x2=c, y2=d, is_blocking=stop) for a, b, c, d, stop in lines]
        return SimpleNamespace(floor_height=floor, ceiling_height=ceiling, lines=lines)

    room = sector(0, 128, (0, 0, 0, 9, False), (1, 0, 1, 9, False), (2, 0, 2, 9, False), (3, 0, 3, 9, True))
    step = sector(24, 128, (0, 9, 0, 0, False))
    door = sector(0, 0, (1, 0, 1, 9, False))
    ledge = sector(96, 256, (2, 0, 2, 9, False))
    walls = scenes.Walls.of_sectors([room, step, door, ledge])
    assert sorted(walls.start[:, 0]) == [1, 2, 3]


class Recorder:
    """Stands for the game: keeps what it was told, shows two things and the player."""

    def __init__(self):
        self.told = []
        self.send_game_command, self.advance_action = self.told.append, lambda tics: None
        self.make_action = lambda buttons, tics: None

    def get_state(self, monsters=()):
        things = [("Column", -600, -600), ("Column", 600, -600), *monsters]
        objects = [SimpleNamespace(name=name, position_x=x, position_y=y) for name, x, y in things]
        return SimpleNamespace(objects=objects, labels=[], game_variables=(0.0, -500.0, 90.0))


def played(kinds, seconds=60):
    """What the game was told before and in an encounter whose monsters stand still; the last value: the buttons."""
    walls, game = scenes.Walls([*SQUARE, WALL]), Recorder()
    encounter = scenes.Encounter(np.random.default_rng(5), kinds, 4 / 35, walls)
    encounter.prepare(game)
    state = game.get_state([(kind, 300 - 400 * k, -300) for k, kind in enumerate(kinds)])
    steps = [(encounter.commands(state), encounter.action(state)) for _ in range(round(seconds * 35 / 4))]
    return game.told, [command for commands, _ in steps for command in commands], [buttons for _, buttons in steps]


@pytest.mark.parametrize("kinds", [["DoomImp"], ["DoomImp", "Demon"]])
def test_warps_keep_their_distance_and_free_sight(kinds):
    walls, monsters = scenes.Walls([*SQUARE, WALL]), [(300 - 400 * k, -300) for k in range(len(kinds))]
    _, commands, _ = played(kinds)
    spots = [tuple(map(float, command.split()[1:])) for command in commands]
    assert 20 <= len(spots) <= 30  # every 2 to 3 of 60 s
    for spot in spots:
        assert all(100 - 1 <= math.dist(spot, monster) <= 560 + 1 for monster in monsters)
        assert all(walls.free(spot, monster) for monster in monsters)


def test_kinds_share_decoys_and_route():
    (told, route, buttons), (other_told, other_route, other_buttons) = played(["DoomImp"]), played(["Cyberdemon"])
    assert (route, buttons) == (other_route, other_buttons)
    assert "summon DoomImp" in told
    assert [command.replace("DoomImp", "Cyberdemon") for command in told] == other_told
    decoys = [command.split()[1] for command in told if command.startswith("summon")][:-1]
    assert 5 <= len(decoys) <= 9
    assert set(decoys) <= set(scenes.DECOYS)


def test_a_dead_monster_is_replaced():
    walls, game = scenes.Walls(SQUARE), Recorder()
    encounter = scenes.Encounter(np.random.default_rng(0), ["DoomImp"], 4 / 35, walls)
    encounter.prepare(game)
    dead = game.get_state([("DeadDoomImp", 0, 0)])
    removal, summons = encounter.commands(dead), encounter.commands(dead)
    assert removal[0] == "remove DoomImp"
    assert summons[0] == "summon DoomImp"
    assert removal[1].startswith("warp ")
    assert summons[1].startswith("warp ")


def vizdoom_or_skip():
    try:
        import vizdoom

        vizdoom.DoomGame()
    except ImportError as error:
        pytest.skip(f"ViZDoom can't be imported here: {error}")


def test_an_export_says_only_what_it_was_told_and_keeps_it_for_the_same_weights(shards, tmp_path, monkeypatch):
    from training import export

    monkeypatch.setattr(export, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setattr(export, "MANIFEST", tmp_path / "manifest.json")
    train(tiny(read_config(CONFIGS[0])), shards, tmp_path / "run", stop_after=1)
    nothing = {"trained_on": "", "recipe": "", "metrics": []}
    told = {"trained_on": "six tones", "recipe": "a.toml", "metrics": [{"name": "x", "value": 1, "command": "y"}]}
    blank = export.export(tmp_path / "run", "tones", "Apache-2.0", **nothing)
    assert {key: blank[key] for key in nothing} == nothing
    assert blank["embedding_size"] == {"features": 16, "joint": 128}
    for about in (told, nothing):  # told once, it holds for these weights
        entry = export.export(tmp_path / "run", "tones", "Apache-2.0", **about)
        assert {key: entry[key] for key in told} == told
    train(tiny(read_config(CONFIGS[0])), shards, tmp_path / "run", stop_after=2)
    assert export.export(tmp_path / "run", "tones", "Apache-2.0", **nothing)["metrics"] == []
    assert len(json.loads((tmp_path / "manifest.json").read_text())["models"]) == 1
