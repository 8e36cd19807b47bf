"""Localisation in time on rendered episodes whose truth is known, by a network that knows both kinds of thing."""

import json

import numpy as np
import pytest
import webdataset
from evaluations import evaluate, save_network
from red_and_blue import FRAME_RATE, KINDS, RATE, KnowsBoth, draw, tone
from tones import jpeg

from training.corpora.shards import Shards, encode_clip
from training.evaluate.metrics.solo_in_time import SIGNED, in_the_middle, measure

SECONDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write 8 episodes, half of each kind, in which a thing moves from left to right."""
    path = tmp_path_factory.mktemp("solo")
    rng, kinds = np.random.default_rng(0), list(KINDS)
    with webdataset.TarWriter(str(path / "0.tar")) as tar:
        for number in range(8):
            kind, top = kinds[number % 2], rng.uniform(0.1, 0.7)
            boxes = [(0.1 + 0.02 * k, round(top, 3), 0.25, 0.25) for k in range(SECONDS * FRAME_RATE)]
            frames, times = (
                [jpeg(draw({kind: box})) for box in boxes],
                [(k + 1) / FRAME_RATE for k in range(len(boxes))],
            )
            objects = [[[kind, "Monster", *box]] for box in boxes]
            about = {"labels": [kind], "objects": objects, "level": f"level {number}"}
            tar.write(encode_clip(f"s{number}", tone(kind, SECONDS), RATE, frames, times, about))
    return path


def test_a_network_that_knows_sound_and_picture_is_right_with_its_own_sound_alone(folder):
    report = measure(KnowsBoth(), [KnowsBoth(deaf=True)], Shards(folder), 3, seed=0)
    figures = report.figures
    assert (figures["solo own sound"], figures["solo own sound, lower bound"]) == (100, 100)
    assert (figures["solo another kind's sound"], figures["solo silence"]) == (0, 0)
    assert figures[f"solo own sound, {SIGNED}"] == 0  # as all activations are negative
    assert figures["solo untrained, own sound"] == 100  # which only looks
    assert figures["solo chance (area of the box)"] == pytest.approx(6.25)
    (title,) = [name for name in report.tables if name.startswith("solo, 24 pictures of 8 levels")]
    assert 0 < figures["solo centre"] < 60
    assert report.tables[title]["another kind's sound"]["own sound minus this"] == "100.0 [100.0, 100.0]"


def test_the_map_of_the_middle_frame_is_between_its_neighbours():
    """Frame 5 of 10, which has the time of the middle, lies a quarter of the way from map 2, of frames 4 and 5, on."""
    maps = np.arange(5.0).reshape(5, 1, 1)
    assert in_the_middle(maps, KnowsBoth()).item() == pytest.approx(2.25)


def test_the_command_prints_a_table_and_writes_json(folder, tmp_path):
    options = {"widths": [4, 4, 8, 8], "image_size": [32, 64], "frames": 10, "frame_rate": 10, "sample_rate": 8000}
    weights = save_network(tmp_path / "tiny.safetensors", architecture="multisensory", frontend=None, **options)
    more = ("--per-clip", 2, "--untrained-seeds", 1, "--json", tmp_path / "found.json")
    result = evaluate("localization", "--model", weights, "--solo", folder, *more)
    assert result.exit_code == 0, result.output
    for words in ("solo, 16 pictures of 8 levels", "another kind's sound", "untrained: 1 seeds"):
        assert words in result.output
    names = {metric["name"] for metric in json.loads((tmp_path / "found.json").read_text())["metrics"]}
    assert {"localisation in time solo own sound, lower bound", "localisation in time solo centre"} <= names
    refused = evaluate("localization", "--model", weights, "--solo", folder, "--duo", folder)
    assert refused.exit_code == 2 and "give --solo or --side-by-side alone" in refused.output
