"""Staged encounters, without the game: sight lines, warps, decoys, replacements."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from training.corpora import scenes


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
    """Stands for the game: records its commands, and shows two things and the player."""

    def __init__(self):
        self.told = []
        self.send_game_command, self.advance_action = self.told.append, lambda tics: None
        self.make_action = lambda buttons, tics: None

    def get_state(self, monsters=()):
        things = [("Column", -600, -600), ("Column", 600, -600), *monsters]
        objects = [SimpleNamespace(name=name, position_x=x, position_y=y) for name, x, y in things]
        return SimpleNamespace(objects=objects, labels=[], game_variables=(0.0, -500.0, 90.0))


def played(kinds, seconds=60):
    """Return the game's commands before and during an encounter whose monsters stand still, and the buttons."""
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


def test_a_frame_is_masked_where_a_projectile_fills_too_much_of_it():
    def flame(width, height):
        return ["DoomImpBall", "Explosive", 0.1, 0.1, width, height]

    monster = ["DoomImp", "Monster", 0.0, 0.0, 1.0, 1.0]
    objects = [[monster], [flame(0.1, 0.04)], [flame(0.01, 0.01), monster, flame(0.1, 0.041)], []]
    np.testing.assert_allclose(scenes.projectile_areas(objects), [0, 0.004, 0.0041, 0])
    assert scenes.frame_masks(objects) == {"no_large_projectile": [True, True, False, True]}


def test_a_player_alone_fires_about_half_of_the_time_and_changes_weapons():
    step = 1 / scenes.TICS_PER_SECOND
    player, thing = scenes.Fire(np.random.default_rng(0), step), SimpleNamespace(position_x=3.0, position_y=4.0)
    game, state = Recorder(), SimpleNamespace(objects=[thing])
    player.prepare(game)
    assert game.told[:2] == ["god", "give all"]
    told, moves = [], []
    for _ in range(60 * scenes.TICS_PER_SECOND):
        told += player.commands(state)
        moves.append(player.action(state))
    shoots, weapons = np.array(moves)[:, 3], np.array(moves)[:, 5:]
    assert 0.35 < shoots.mean() < 0.65
    assert set(weapons.sum(axis=1)) == {0, 1} and 60 / 3 <= weapons.sum() <= 60 / 1.5
    assert set(np.flatnonzero(weapons.any(axis=0)) + 1) == set(scenes.Fire.WEAPONS)
    assert 60 / 5 <= len(told) <= 60 / 2 and set(told) == {"warp 3 4"}
