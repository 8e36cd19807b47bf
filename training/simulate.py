"""Episodes with sound, pictures and true object boxes in step, rendered by ViZDoom into WebDataset shards.

    python -m training.simulate --output shards/train --episodes 800 --seconds 20 --seed 0 --split train

In the scene `roam` a player roams a level of Freedoom, is warped from object to object, meets summoned monsters,
mostly turns towards them, and shoots. In `fire` it is alone: nearly all that is heard is its own shots. In
`solo` and `duo` it keeps one or two kinds of monster in view among silent decoys, in groups of 8 episodes that differ
only in the kinds, for learning to localise. Each shard is a tar of episodes with three members: `wav` (16 bits, mono
unless `--channels 2`), `mjpeg` (the JPEG frames one after the other) and `json` (times and byte offsets of the frames,
boxes, masks, events, map). Levels are split into training and held-out ones by name. Times are in seconds, boxes in
fractions of the picture. An episode depends only on (scene, seed, split, number). A shard is renamed when it is
complete, so a killed run can continue.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from openavc.atomic import write_bytes
from openavc.lines import tell_warnings
from openavc.locks import only_user
from openavc.named import Named
from openavc.progress import step

from .corpora.engine import end_with_player, remove_shared_memory
from .corpora.processes import write_in_processes
from .corpora.scenes import (
    GROUP_SIZE,
    MONSTERS,
    TICS_PER_SECOND,
    Encounter,
    Fire,
    Roam,
    Walls,
    frame_masks,
    group_kinds,
)
from .corpora.shards import encode_clip
from .corpora.tars import check_writer, is_whole, write_tar

SCENES = ("roam", "solo", "duo", "fire")  # new ones go last: the place of a name is part of its episodes' seed
ENCOUNTERS = ("solo", "duo")
RENDER_RATE = 44_100  # Hz, 1260 samples a tic
FRAME_SIZE = (160, 120)  # pixels, width x height, as stored
EPISODES_PER_SHARD = 20

HELD_OUT = {
    "freedoom1": {"E1M3", "E2M5", "E2M7", "E2M9", "E3M1", "E4M1", "E4M6", "E4M7"},
    "freedoom2": {"MAP08", "MAP10", "MAP17", "MAP20", "MAP29", "MAP32"},
}
NOT_FOR_ENCOUNTERS = {"E1M8", "MAP30"}  # a floor ends the level early; a boss spawns monsters of other kinds
LEVELS = {
    "freedoom1": [f"E{episode}M{level}" for episode in range(1, 5) for level in range(1, 10)],
    "freedoom2": [f"MAP{level:02d}" for level in range(1, 33)],
}


@dataclass(frozen=True)
class Settings:
    """The settings of a corpus; the same settings give the same shards."""

    seconds: float
    seed: int
    split: str
    tics: int
    sample_rate: int
    scene: str = "roam"
    channels: int = 1  # of the sound


def levels(split: str) -> list[tuple[str, str]]:
    """List (game, level) of each of the 54 training or 14 held-out levels."""
    held = split == "held"
    return [(game, level) for game, names in LEVELS.items() for level in names if (level in HELD_OUT[game]) == held]


def open_game(game_name: str, tics: int, scene: str = "roam") -> Any:
    """Open a silent, invisible DoomGame with picture, sound, labels and object list."""
    import vizdoom

    game = vizdoom.DoomGame()
    end_with_player(game)
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / f"{game_name}.wad"))
    game.set_window_visible(False)
    game.set_sound_enabled(False)  # mutes only the loudspeaker, not the buffer
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X240)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_render_hud(False)
    game.set_render_messages(False)
    game.set_render_crosshair(False)
    game.set_render_weapon(scene not in ENCOUNTERS)
    game.set_labels_buffer_enabled(True)
    game.set_objects_info_enabled(True)
    game.set_audio_buffer_enabled(True)
    game.set_audio_sampling_rate(vizdoom.SamplingRate.SR_44100)
    game.set_audio_buffer_size(tics)
    game.add_game_args("+snd_efx 0 +sv_cheats 1 +sv_infiniteammo 1")
    if scene != "roam":
        game.add_game_args("-nomonsters +sv_fastmonsters 1 +cl_showsecretmessage 0")
    button = vizdoom.Button
    weapons = [getattr(button, f"SELECT_WEAPON{slot}") for slot in range(1, 8)]
    game.set_available_buttons(
        [
            button.TURN_LEFT_RIGHT_DELTA,
            button.MOVE_FORWARD_BACKWARD_DELTA,
            button.MOVE_LEFT_RIGHT_DELTA,
            button.ATTACK,
            button.USE,
            *weapons,
        ]
    )
    variable = vizdoom.GameVariable
    game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
    game.set_episode_timeout(0)
    return game


@functools.cache
def level_walls(game_name: str, level: str) -> Walls:
    """Read the walls of a level, only once, as listing sectors makes ViZDoom slow."""
    game = open_game(game_name, 1)
    game.set_sectors_info_enabled(True)
    game.set_doom_map(level)
    game.init()
    try:
        return Walls.of_sectors(game.get_state().sectors)
    finally:
        game.close()


def visible_objects(state: Any, width: int, height: int) -> list:
    """List [name, category, x, y, width, height] of each visible object except the player, in fractions."""
    return [
        [label.object_name, label.object_category]
        + [round(value, 4) for value in (label.x / width, label.y / height, label.width / width, label.height / height)]
        for label in state.labels
        if label.object_category != "Self"
    ]


def record_episode(game: Any, player: Roam | Fire | Encounter, settings: Settings) -> dict:
    """Play one episode, and return its sound (44.1 kHz, stereo int16), JPEG frames, times, objects and events."""
    import cv2

    step_seconds = settings.tics / TICS_PER_SECOND
    player.prepare(game)
    chunks, frames, objects, events, times = [], [], [], [], []
    for move in range(round(settings.seconds / step_seconds)):
        step()  # whoever renders is alive
        state = game.get_state()
        for command in player.commands(state):
            game.send_game_command(command)
            events.append([round(move * step_seconds, 4), command])
        game.make_action(player.action(state), settings.tics)
        state = game.get_state()
        if state is None:  # the player has left the level through its exit
            break
        picture = cv2.resize(state.screen_buffer, FRAME_SIZE, interpolation=cv2.INTER_AREA)
        frames.append(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        chunks.append(state.audio_buffer.copy())
        objects.append(visible_objects(state, 320, 240))
        times.append(round((move + 1) * step_seconds, 6))  # a picture shows the end of its stretch of sound
    return {"audio": np.concatenate(chunks), "frames": frames, "times": times, "objects": objects, "events": events}


def encode_episode(episode: dict, key: str, settings: Settings, about: dict) -> dict:
    """Encode an episode as a WebDataset sample of `wav`, `mjpeg` and `json`."""
    from openavc.media.audio import to_channels
    from openavc.media.resample import resample

    samples = to_channels(episode["audio"].astype(np.float32) / 32768, settings.channels)
    samples = resample(samples, RENDER_RATE, settings.sample_rate)
    objects = episode["objects"]
    about = about | {"objects": objects, "masks": frame_masks(objects), "events": episode["events"]}
    return encode_clip(key, samples, settings.sample_rate, episode["frames"], episode["times"], about)


def render(number: int, settings: Settings) -> dict:
    """Render an episode as a WebDataset sample; each opens the game anew, so their order doesn't matter."""
    scene, choices = settings.scene, levels(settings.split)
    seeds, step_seconds = [settings.seed, settings.split == "held"], settings.tics / TICS_PER_SECOND
    key = f"{settings.split}-{settings.seed}-{number:06d}"
    about = {"scene": scene, "split": settings.split}
    if scene not in ENCOUNTERS:
        rng = np.random.default_rng([*seeds, number, *([SCENES.index(scene)] if scene != "roam" else [])])
        game_name, level = choices[rng.integers(len(choices))]
    else:  # all levels come once before any comes again
        choices = [choice for choice in choices if choice[1] not in NOT_FOR_ENCOUNTERS]
        group, member = divmod(number, GROUP_SIZE)
        rng = np.random.default_rng([*seeds, group, SCENES.index(scene)])
        game_name, level = choices[np.random.default_rng(seeds).permutation(len(choices))[group % len(choices)]]
    about |= {"level": f"{game_name}/{level}", "number": number}
    game = open_game(game_name, settings.tics, scene)
    game.set_doom_map(level)
    game.set_doom_skill(int(rng.integers(1, 6)))
    game.set_seed(int(rng.integers(1, 2**31)))
    if scene == "roam":
        player = Roam(rng, MONSTERS[game_name], step_seconds)
    elif scene == "fire":
        player, key = Fire(rng, step_seconds), f"fire-{key}"
    else:
        kinds = group_kinds(rng, game_name)
        labels = (kinds[member:] + kinds)[: 1 if scene == "solo" else 2]
        player = Encounter(rng, labels, step_seconds, level_walls(game_name, level))
        key, about = f"{scene}-{key}", about | {"labels": labels, "group": group}
    game.init()
    try:
        episode = record_episode(game, player, settings)
    finally:
        game.close()
    return encode_episode(episode, key, settings, about)


def write_shard(path: Path, episodes: range, settings: Settings, shards: int) -> None:
    """Render the episodes of these numbers into one tar of `shards`."""
    with write_tar(path, shards) as write:
        for number in episodes:
            write(render(number, settings))


def _work(job: tuple[Path, range, Settings, int]) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)  # there is already one process for each core
    torch.set_num_threads(1)
    folder = job[0].with_name(f".{job[0].name}.engine")  # each engine needs its own working folder for its files
    folder.mkdir(exist_ok=True)  # that of a killed run may be there
    os.chdir(folder)
    try:
        write_shard(*job)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


def simulate(output: Path, episodes: int, settings: Settings, workers: int) -> list[Path]:
    """Write all shards that are missing, and return the paths of all shards.

    Raises
    ------
    ValueError
        If `output` holds shards made with other settings, or ViZDoom can't render sound here.
    OSError
        If another process writes to `output`, or the disk is full; shards that are written stay.
    RuntimeError
        If a worker died; raised after all other shards are written.
    """
    check_engine()
    check_writer()
    output = output.resolve()
    with only_user(output):
        _record(output, asdict(settings) | {"episodes": episodes})
        starts = range(0, episodes, EPISODES_PER_SHARD)
        jobs = [
            (
                output / f"{start // EPISODES_PER_SHARD:05d}.tar",
                range(start, min(start + EPISODES_PER_SHARD, episodes)),
                settings,
                len(starts),
            )
            for start in starts
        ]
        try:
            died = write_in_processes(_work, [job for job in jobs if not is_whole(job[0])], workers)
        finally:
            remove_shared_memory()
    if died:
        shards = ", ".join(f"{path.name} ({death})" for (path, *_), death in died)
        raise RuntimeError(
            f"the processes that rendered {shards} in {output} died; the other "
            f"{len(jobs) - len(died)} shards are written: start again to go on"
        )
    return [path for path, *_ in jobs]


def check_engine() -> None:
    """Raise ValueError unless ViZDoom is there and can render sound: without OpenAL, all of it is silence."""
    try:
        import vizdoom  # noqa: F401

        if sys.platform == "linux":
            ctypes.CDLL("libopenal.so.1")
    except (ImportError, OSError) as error:
        raise ValueError(f"ViZDoom can't render: {error}; it needs the package vizdoom and libopenal1") from error


def _record(output: Path, mine: dict) -> None:
    """Write the settings into `corpus.json`; ValueError if others are there."""
    record = output / "corpus.json"
    before = {"scene": "roam", "channels": 1}  # defaults for older corpora, which don't record them
    if record.exists() and before | json.loads(record.read_text()) != mine:
        raise ValueError(
            f"{output} holds shards of {record.read_text().strip()}, not {json.dumps(mine)}: take a new folder"
        )
    write_bytes(record, (json.dumps(mine) + "\n").encode())


@click.command(help=__doc__.split("\n")[0])
@click.option("--output", type=Named(path_type=Path, file_okay=False), required=True, help="Folder for the shards.")
@click.option("--episodes", type=click.IntRange(min=1), required=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Length of an episode.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--split", type=click.Choice(["train", "held"]), default="train", show_default=True)
@click.option("--scene", type=click.Choice(SCENES), default="roam", show_default=True)
@click.option("--tics", type=click.IntRange(1, 35), default=4, show_default=True, help="Tics (1/35 s) a frame.")
@click.option("--sample-rate", type=click.IntRange(8000, RENDER_RATE), default=24_000, show_default=True)
@click.option("--channels", type=click.IntRange(1, 2), default=1, show_default=True, help="Of the sound.")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes; default: all cores.")
def main(output, episodes, seconds, seed, split, scene, tics, sample_rate, channels, workers):
    tell_warnings()
    settings = Settings(seconds, seed, split, tics, sample_rate, scene, channels)
    try:
        paths = simulate(output, episodes, settings, workers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{len(paths)} shards, {episodes} episodes, {episodes * seconds / 3600:.2f} h in {output}")


if __name__ == "__main__":
    main()
