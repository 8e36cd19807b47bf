"""Scenes that `training.simulate` renders: the contents of a level, and what the player does there.

`Roam` wanders about an entire level. `Fire` does so alone, and shoots. `Encounter` stays near one kind of monster
(solo) or two (duo) among silent decoys, so that the sources of sound are in view. Positions are in map units (the
player is 32 wide), angles in degrees, counter-clockwise from the x axis; times in seconds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

TICS_PER_SECOND = 35

_COMMON = "ZombieMan ShotgunGuy DoomImp Demon LostSoul Cacodemon BaronOfHell Cyberdemon SpiderMastermind".split()
_SECOND = "ChaingunGuy HellKnight Arachnotron PainElemental Revenant Fatso Archvile WolfensteinSS".split()
MONSTERS = {"freedoom1": _COMMON, "freedoom2": _COMMON + _SECOND}
ITEMS = (
    "ExplosiveBarrel Medikit GreenArmor BlueArmor Shell Soulsphere RocketBox Backpack Megasphere Column TechLamp "
    "TallRedColumn Candelabra HeartColumn RedTorch EvilEye TechPillar Clip HealthBonus ArmorBonus"
).split()
DECOYS = (
    "Medikit GreenArmor BlueArmor Shell Soulsphere RocketBox Backpack Column TallRedColumn Candelabra HeartColumn "
    "DeadDemon RedTorch EvilEye TechPillar"
).split()
GROUP_SIZE = 8  # episodes that differ only in the kinds of monster
LARGEST_PROJECTILE = 0.004  # share of the picture; some kinds of monster have their own, which fill the view


def group_kinds(rng: np.random.Generator, game_name: str) -> list[str]:
    """Draw the kinds of monster of a group's episodes, in their order, by the names of ViZDoom's labels."""
    unfit = ("SpiderMastermind", "PainElemental")  # wider than most rooms; spawns monsters of another kind
    fit = [kind.replace("ZombieMan", "Zombieman") for kind in MONSTERS[game_name] if kind not in unfit]
    return rng.permutation(fit)[:GROUP_SIZE].tolist()


def projectile_areas(objects: list[list[list]]) -> np.ndarray:
    """Measure the share of each frame that the largest projectile, or its blast, takes up: (frames,)."""
    areas = [[w * h for _, category, _, _, w, h in frame if category == "Explosive"] for frame in objects]
    return np.array([max(frame, default=0.0) for frame in areas])


def frame_masks(objects: list[list[list]]) -> dict[str, list[bool]]:
    """Make the masks that a recipe's `mask` can name: for each frame, whether it is kept.

    `no_large_projectile`: frames without a projectile of more than `LARGEST_PROJECTILE` of the picture.
    """
    return {"no_large_projectile": (projectile_areas(objects) <= LARGEST_PROJECTILE).tolist()}


class Clock:
    """Tells when actions are due, each at random intervals."""

    def __init__(self, rng: np.random.Generator, step_seconds: float):
        self.rng, self.step, self.left = rng, step_seconds, {}

    def due(self, what: str, shortest: float, longest: float) -> bool:
        """Whether an action is due: once every `shortest` to `longest` seconds, if asked once a step."""
        self.left[what] = self.left.get(what, 0.0) - self.step
        if self.left[what] > 0:
            return False
        self.left[what] = self.rng.uniform(shortest, longest)
        return True


def to_the_left(position: tuple[float, float], angle: float, target: tuple[float, float], offset: float) -> float:
    """Return the angle, -180 to 180 degrees, from the player's view to `offset` degrees left of the target."""
    bearing = math.degrees(math.atan2(target[1] - position[1], target[0] - position[0]))
    return (bearing - angle + offset + 180) % 360 - 180


class Roam:
    """A player that walks, turns towards monsters, shoots and is warped about, all from one random stream."""

    def __init__(self, rng: np.random.Generator, monsters: list[str], step_seconds: float):
        self.rng, self.monsters, self.step = rng, monsters, step_seconds
        self.trigger = rng.choice([0.0, 0.1, 0.25, 0.5])  # share of the time in which it shoots
        self.attention = rng.uniform(0.5, 1.0)  # probability of looking at a monster
        self.favourites = rng.choice(monsters, size=min(4, len(monsters)), replace=False)
        self.due = Clock(rng, step_seconds).due
        self.shooting, self.looking, self.walk, self.offset, self.spin = False, True, (0.0, 0.0), 0.0, 0.0

    def prepare(self, game: Any) -> None:
        """Make the player invulnerable, and equip it."""
        for command in ["god", "give all"] + (["give infrared"] if self.rng.random() < 0.5 else []):
            game.send_game_command(command)

    def commands(self, state: Any) -> list[str]:
        """Return the console commands to send before the next step."""
        commands = []
        if self.due("warp", 5, 10) and state.objects:
            target = state.objects[self.rng.integers(len(state.objects))]
            commands.append(f"warp {target.position_x:.0f} {target.position_y:.0f}")
        if self.due("summon", 1, 5):
            kind = self.favourites if self.rng.random() < 0.75 else ITEMS
            commands.append(f"summon {self.rng.choice(kind)}")
        return commands

    def action(self, state: Any) -> list[float]:
        """Return the values of the buttons for the next step."""
        if self.due("look", 0.8, 3):
            self.looking, self.offset = self.rng.random() < self.attention, self.rng.uniform(-30, 30)
            self.spin = self.rng.normal(0, 3)  # degrees a tic
        if self.due("walk", 0.5, 2.5):
            self.walk = (self.rng.choice([0, 10, 25, -10]), self.rng.choice([0, 0, 10, -10]))
        if self.due("shoot", 0.3, 2):
            self.shooting = self.rng.random() < self.trigger
        weapons = [0] * 7
        if self.due("weapon", 3, 8):
            weapons[self.rng.integers(7)] = 1
        turn = self.turn(state) if self.looking else self.spin
        return [turn, *self.walk, int(self.shooting), int(self.rng.random() < 0.03), *weapons]

    def turn(self, state: Any) -> float:
        """Return the turn to the right, in degrees a tic, towards the nearest monster, visible ones first."""
        visible = {label.object_id for label in state.labels}
        x, y, angle = state.game_variables
        candidates = [
            (thing.id not in visible, math.hypot(thing.position_x - x, thing.position_y - y), thing)
            for thing in state.objects
            if thing.name in self.monsters
        ]
        if not candidates:
            return self.spin
        target = min(candidates, key=lambda candidate: candidate[:2])[2]
        left = to_the_left((x, y), angle, (target.position_x, target.position_y), self.offset)
        return float(np.clip(-left / (self.step * TICS_PER_SECOND), -12, 12))


class Fire:
    """A player alone in a level, who walks about and fires: nearly all that is heard is its own shots."""

    WEAPONS = (2, 3, 4, 5, 6)  # their buttons; without the chainsaw, which is never silent, and the slow BFG 9000

    def __init__(self, rng: np.random.Generator, step_seconds: float):
        self.rng, self.due = rng, Clock(rng, step_seconds).due
        self.shooting, self.walk, self.spin = False, (0, 0), 0.0

    def prepare(self, game: Any) -> None:
        """Make the player invulnerable, equip it, and have it raise a weapon; none of this is recorded."""
        for command in ["god", "give all"] + (["give infrared"] if self.rng.random() < 0.5 else []):
            game.send_game_command(command)
        game.advance_action(1)  # a tic gives the weapons
        game.make_action(self._buttons(weapon=True), TICS_PER_SECOND)

    def commands(self, state: Any) -> list[str]:
        """Return the console commands to send before the next step: every few seconds it goes elsewhere."""
        if not (self.due("warp", 2, 5) and state.objects):
            return []
        target = state.objects[self.rng.integers(len(state.objects))]
        return [_warp_to((target.position_x, target.position_y))]

    def action(self, state: Any) -> list[float]:
        """Return the values of the buttons for the next step."""
        if self.due("look", 0.5, 2):
            self.spin = self.rng.normal(0, 2)  # degrees a tic
        if self.due("walk", 0.5, 2.5):
            self.walk = self.rng.choice([0, 10, 25, -10]), self.rng.choice([0, 0, 10, -10])
        if self.due("trigger", 0.1, 0.8):
            self.shooting = self.rng.random() < 0.5
        return self._buttons(self.spin, *self.walk, self.shooting, self.due("weapon", 1.5, 3))

    def _buttons(self, turn=0.0, forward=0.0, sideways=0.0, shoot=False, weapon=False) -> list[float]:
        """Return the values of the buttons, which may choose another weapon."""
        chosen = self.rng.choice(self.WEAPONS) if weapon else None
        return [turn, forward, sideways, int(shoot), 0, *(int(slot == chosen) for slot in range(1, 8))]


class Walls:
    """The lines of a level that block the view or the way.

    Parameters
    ----------
    lines : array_like, shape (n, 4)
        x1, y1, x2, y2 of each line.
    """

    def __init__(self, lines: Any):
        lines = np.asarray(lines, dtype=np.float64).reshape(-1, 4)
        self.start, self.along = lines[:, :2], lines[:, 2:] - lines[:, :2]

    @classmethod
    def of_sectors(cls, sectors: Any) -> Walls:
        """Collect walls, shut doors, and ledges too high to look over, from ViZDoom's sectors."""
        sides: dict[tuple, list] = {}
        for sector in sectors:
            for line in sector.lines:
                ends = tuple(sorted([(line.x1, line.y1), (line.x2, line.y2)]))
                sides.setdefault(ends, []).append((sector.floor_height, sector.ceiling_height, line.is_blocking))

        def shut(around: list) -> bool:
            floors, ceilings, blocking = zip(*around, strict=True)
            return any(blocking) or max(floors) - min(floors) > 64 or min(ceilings) - max(floors) < 56

        return cls([start + end for (start, end), around in sides.items() if shut(around)])

    def free(self, here: Any, there: Any) -> bool:
        """Whether no wall crosses or touches the straight line between two positions."""
        here, way = np.asarray(here), np.asarray(there) - np.asarray(here)
        across = _cross(way, self.along)
        with np.errstate(divide="ignore", invalid="ignore"):  # a wall parallel to the way can't cross it
            on_way = _cross(self.start - here, self.along) / across
            on_wall = _cross(self.start - here, way) / across
        return not np.any((on_way >= 0) & (on_way <= 1) & (on_wall >= 0) & (on_wall <= 1))

    def distance(self, here: Any) -> float:
        """Return the distance of a position from the nearest wall."""
        to_here = np.asarray(here) - self.start
        lengths = np.maximum((self.along**2).sum(1), 1e-9)
        nearest = np.clip((to_here * self.along).sum(1) / lengths, 0, 1)[:, None] * self.along
        return float(np.sqrt(((to_here - nearest) ** 2).sum(1)).min(initial=np.inf))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def ring(rng: np.random.Generator, nearest: float, farthest: float, count: int = 96) -> np.ndarray:
    """Draw offsets between `nearest` and `farthest` in length: (count, 2)."""
    length, angle = rng.uniform(nearest, farthest, count), rng.uniform(0, 2 * np.pi, count)
    return np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)


class Encounter:
    """A player that stays within sight of one or two kinds of monster among decoys, and never hurts them.

    All draws are the same for all kinds, so the episodes of a group share decoys and route as far as the monsters' own
    movements allow.
    """

    NEAREST, FARTHEST = 100.0, 560.0  # distances of the player from a monster after a warp
    LANDING = 150.0  # free distance needed ahead of the player to summon a monster

    def __init__(self, rng: np.random.Generator, kinds: list[str], step_seconds: float, walls: Walls):
        self.rng, self.kinds, self.walls, self.step = rng, kinds, walls, step_seconds
        self.due = Clock(rng, step_seconds).due
        self.warps, self.warped_to, self.absent, self.offset, self.walk = 0, None, None, 0.0, (0, 0)

    def prepare(self, game: Any) -> None:
        """Choose a stage, set up decoys and monsters, and wake the monsters; none of this is recorded."""
        for command in ["god"] + (["give infrared"] if self.rng.random() < 0.5 else []):
            game.send_game_command(command)
        state = game.get_state()
        _, _, self.heading = state.game_variables
        self.things = [(thing.position_x, thing.position_y) for thing in state.objects]
        self.stage = self._choose_stage()
        for name in self.rng.permutation(DECOYS)[: self.rng.integers(5, 10)]:
            spot = self._free_spot(ring(self.rng, 60, 400), ahead=56)
            if spot is not None:
                self._send(game, [_warp_to(spot), f"summon {name}"])
                self.things.append(tuple(spot + self._ahead(56)))
        self.landings = {kind: self._landing() for kind in self.kinds}
        for kind, spot in self.landings.items():
            self._send(game, [_warp_to(spot), f"summon {kind}"])
        game.make_action(self._buttons(swing=True), TICS_PER_SECOND)

    def _send(self, game: Any, commands: list[str]) -> None:
        for command in commands:
            game.send_game_command(command)
            game.advance_action(1)  # a tic sets the player's height; before it, things are summoned below the floor

    def _choose_stage(self) -> np.ndarray:
        """Choose the spot with the widest view among some where a thing stands."""
        spots = np.array(self.things)[self.rng.integers(len(self.things), size=12)]
        rays = ring(self.rng, 250, 350, 24)
        return max(spots, key=lambda spot: sum(self.walls.free(spot, spot + ray) for ray in rays))

    def _ahead(self, distance: float) -> np.ndarray:
        angle = math.radians(self.heading)
        return distance * np.array([math.cos(angle), math.sin(angle)])

    def _free_spot(self, offsets: np.ndarray, ahead: float) -> np.ndarray | None:
        """Find the first spot around the stage, within sight of it, with room for something `ahead` of the player."""
        for spot in self.stage + offsets:
            end = spot + self._ahead(ahead)
            if (
                min(self.walls.distance(spot), self.walls.distance(end)) > 24
                and self.walls.free(self.stage, end)
                and self.walls.free(spot, end)
            ):
                return spot
        return None

    def _landing(self) -> np.ndarray:
        """Find a spot from which the player can summon a monster in front of it."""
        spot = self._free_spot(ring(self.rng, 0, 300), self.LANDING)
        return self.stage if spot is None else spot

    def commands(self, state: Any) -> list[str]:
        """Return the console commands to send before the next step.

        Every 2 to 3 s the player is warped to another view of a monster, each kind in turn. A monster that is dead or
        out of reach is replaced first, which takes an extra step: the player is warped to the monster's landing, then
        summons it and leaves.
        """
        self.warped_to, monsters = None, self._monsters(state)
        if self.absent:
            kind, self.absent = self.absent, None
            monsters[kind] = self.landings[kind] + self._ahead(self.LANDING / 2)
            return [f"summon {kind}", *self._warp(monsters, kind)]
        if not self.due("warp", 2, 3):
            return []
        self.offsets = ring(self.rng, self.NEAREST, self.FARTHEST)
        self.warps += 1
        wanted = self.kinds[self.warps % len(self.kinds)]
        lost = wanted not in monsters or self._viewpoint(monsters, wanted) is None
        self.absent = wanted if lost else next((kind for kind in self.kinds if kind not in monsters), None)
        if self.absent:
            return [f"remove {self.absent}", _warp_to(self.landings[self.absent])]
        return self._warp(monsters, wanted)

    def _warp(self, monsters: dict[str, np.ndarray], wanted: str) -> list[str]:
        self.targets, self.warped_to = monsters, self._viewpoint(monsters, wanted)
        return [] if self.warped_to is None else [_warp_to(self.warped_to)]

    def _monsters(self, state: Any) -> dict[str, np.ndarray]:
        """Return the position of each kind of monster that is alive."""
        return {
            thing.name: np.array([thing.position_x, thing.position_y])
            for thing in state.objects
            if thing.name in self.kinds
        }

    def _viewpoint(self, monsters: dict[str, np.ndarray], wanted: str) -> np.ndarray | None:
        """Find the first spot around the wanted monster with a free view of all monsters, or else of the wanted one."""
        second_best = None
        for spot in monsters[wanted] + self.offsets:
            distances = [np.hypot(*(spot - position)) for position in monsters.values()]
            nearest_thing = np.hypot(*(np.array(self.things) - spot).T).min(initial=np.inf)
            if min(distances) < self.NEAREST or nearest_thing < 50 or self.walls.distance(spot) < 24:
                continue
            seen = {kind: self.walls.free(spot, position) for kind, position in monsters.items()}
            if all(seen.values()) and max(distances) <= self.FARTHEST:
                return spot
            if seen[wanted] and second_best is None:
                second_best = spot
        return second_best

    def action(self, state: Any) -> list[float]:
        """Return the values of the buttons for the next step."""
        if self.due("look", 0.7, 1.3):
            self.offset = self.rng.uniform(-35, 35)
        if self.due("walk", 0.5, 1.5):
            self.walk = self.rng.choice([-12, 0, 8, 15]), self.rng.choice([-12, 0, 12])
        x, y, angle = state.game_variables
        warped = self.warped_to is not None
        here = self.warped_to if warped else np.array([x, y])
        if not warped:
            self.targets = self._monsters(state)
        if not self.targets:
            return self._buttons()
        distance = min(np.hypot(*(position - here)) for position in self.targets.values())
        left = to_the_left(here, angle, self._middle(here), self.offset)
        turn = -left / (self.step * TICS_PER_SECOND)
        forward, sideways = (0, 0) if warped else self.walk
        if distance < 1.5 * self.NEAREST:
            forward = min(forward, -12)
        return self._buttons(turn if warped else float(np.clip(turn, -12, 12)), forward, sideways, distance > 160)

    def _middle(self, here: np.ndarray) -> np.ndarray:
        """Choose where to look: between the monsters if one view can hold them all, else at the first."""
        ways = np.array(list(self.targets.values())) - here
        ways = ways / np.maximum(np.hypot(*ways.T)[:, None], 1e-9)
        together = (ways @ ways[0]).min() > math.cos(math.radians(80))
        return here + (ways.sum(0) if together else ways[0])

    def _buttons(self, turn=0.0, forward=0.0, sideways=0.0, swing=False) -> list[float]:
        """Return the values of the buttons; a swing of the bare fist silently wakes nearby monsters."""
        return [turn, forward, sideways, int(swing), 0, 1, *[0] * 6]


def _warp_to(spot: np.ndarray) -> str:
    return f"warp {spot[0]:.0f} {spot[1]:.0f}"
