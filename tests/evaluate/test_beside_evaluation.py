"""The test of a moment's own sound against one half a second off, by a network that sees flashes and hears bursts."""

import json

import numpy as np
import pytest
import webdataset
from evaluations import evaluate, save_network
from flashes import FRAME_RATE, RATE, FlashNet, bursts, events
from tones import jpeg

from training.corpora.shards import Shards, encode_clip
from training.evaluate.datasets.held_out import Beside, HeldOut
from training.evaluate.metrics.correspondence import prefers_own

MODEL = FlashNet()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write clips of 6 s, each with its own flashes."""
    path = tmp_path_factory.mktemp("flashes")
    with webdataset.TarWriter(str(path / "0.tar")) as writer:
        for number in range(4):
            flashing = events(6, seed=number)
            frames = [jpeg(np.full((24, 32, 3), 220 if flash else 30, np.uint8)) for flash in flashing]
            times = [k / FRAME_RATE for k in range(len(flashing))]
            writer.write(encode_clip(f"clip{number}", bursts(flashing, seed=number), RATE, frames, times, {}))
    return path


def test_both_sounds_lie_in_the_clip_half_a_second_apart(folder):
    shards = Shards(folder)
    pairs = list(Beside(shards, MODEL, per_clip=5, seed=0, seconds=0.5))
    assert len(pairs) == 4 * 5
    directions = set()
    for _, (own, other), _ in pairs:
        half = RATE // 2
        later, earlier = np.array_equal(own[half:], other[:-half]), np.array_equal(own[:-half], other[half:])
        assert later != earlier
        directions.add(later)
    assert directions == {True, False}
    again = list(Beside(shards, MODEL, per_clip=5, seed=0, seconds=0.5))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(pairs, again, strict=True))
    assert len(list(HeldOut(shards, MODEL, 5, 0))) == 4 * 5


def test_a_network_of_sync_prefers_the_own_sound_and_one_that_is_deaf_is_at_chance(folder):
    shards = Shards(folder)
    assert prefers_own(MODEL, Beside(shards, MODEL, 10, 0), 0).low > 90

    class Deaf(FlashNet):
        def represent_audio(self, spectrogram):
            return 0 * super().represent_audio(spectrogram)

    deaf = prefers_own(Deaf(), Beside(shards, MODEL, 10, 0), 0)
    assert (deaf.mean, deaf.low, deaf.high) == (50, 50, 50)


def test_clips_without_room_for_a_second_sound_are_refused(folder):
    with pytest.raises(ValueError, match="no moment is loud enough, with flash-net's window of sound and another"):
        prefers_own(MODEL, Beside(Shards(folder), MODEL, 10, 0, seconds=3.0), 0)


def test_the_command_compares_networks_with_an_untrained_one(folder, tmp_path):
    first, second = (save_network(tmp_path / f"{name}.safetensors") for name in "ab")
    written, other = tmp_path / "beside.json", tmp_path / "other"
    other.symlink_to(folder)
    data = ["--data", folder, "--data", other, "--per-clip", 2]
    result = evaluate("beside", "--model", first, "--model", second, *data, "--json", written)
    assert result.exit_code == 0, result.output
    (rows,) = json.loads(written.read_text())["tables"].values()
    assert list(rows) == [str(first), str(second), f"{first}, untrained"]
    assert rows[str(first)] == rows[str(second)] and list(rows[str(first)]) == [folder.name, "other"]
    assert rows[str(first)][folder.name] == rows[str(first)]["other"]
    assert "chance" in result.output and folder.name in result.output
