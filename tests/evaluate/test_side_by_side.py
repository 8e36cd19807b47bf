"""Clips side by side whose truth is known, by a network that knows both kinds of thing."""

import json

import numpy as np
import pytest
import webdataset
from evaluations import evaluate, save_network
from red_and_blue import FRAME_RATE, KINDS, RATE, KnowsBoth, draw, tone
from tones import jpeg

from training.corpora.shards import Shards, encode_clip
from training.evaluate.datasets.side_by_side import Rows
from training.evaluate.metrics.side_by_side import measure

SECONDS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write 4 clips of a video of each kind, in which a thing moves from left to right."""
    path = tmp_path_factory.mktemp("rows")
    with webdataset.TarWriter(str(path / "0.tar")) as tar:
        for number in range(8):
            kind = list(KINDS)[number % 2]
            boxes = [(0.3 + 0.01 * k, 0.1 * number, 0.25, 0.25) for k in range(SECONDS * FRAME_RATE)]
            times = [(k + 1) / FRAME_RATE for k in range(len(boxes))]
            frames = [jpeg(draw({kind: box})) for box in boxes]
            tar.write(encode_clip(f"c{number}", tone(kind, SECONDS), RATE, frames, times, {"source": kind}))
    return path


def test_a_row_shows_a_clip_of_each_video_and_is_drawn_again_alike(folder):
    rows = list(Rows(KnowsBoth(), Shards(folder), 2, 12, seed=1))
    assert {row.frames.shape for row in rows} == {(10, 72, 192, 3)}
    assert {row.box for row in rows} == {(0, 0, 0.5, 1), (0.5, 0, 0.5, 1)}  # each place is heard at times
    for row, again in zip(rows, Rows(KnowsBoth(), Shards(folder), 2, 12, seed=1), strict=True):
        red, blue = (row.frames[..., channel].sum(axis=(0, 1)) for channel in (0, 2))
        heard = red if row.source == "Red" else blue
        assert heard[:96].sum() > heard[96:].sum() if row.box[0] == 0 else heard[:96].sum() < heard[96:].sum()
        assert np.abs(np.diff(row.own[:, 0])).mean() > np.abs(np.diff(row.other[:, 0])).mean() or row.source == "Blue"
        np.testing.assert_array_equal(row.frames, again.frames)
        np.testing.assert_array_equal(row.own, again.own)


def test_a_network_that_knows_sound_and_picture_points_at_what_is_heard(folder):
    report = measure(KnowsBoth(), [KnowsBoth(deaf=True)], Rows(KnowsBoth(), Shards(folder), 2, 16, seed=0), seed=0)
    figures = report.figures
    assert (figures["side by side own sound"], figures["side by side the sound of another in the row"]) == (100, 0)
    assert figures["side by side chance (area of the box)"] == 50
    assert 0 < figures["side by side untrained, own sound"] < 100  # which only looks
    assert list(report.tables) == ["2 side by side, 16 pictures of 2 videos"]


def test_too_few_videos_are_told(folder):
    with pytest.raises(ValueError, match="clips of at least 3 videos are needed, with 1"):
        list(Rows(KnowsBoth(), Shards(folder), 3, 2, seed=0))


def test_the_command_takes_networks_that_fuse_and_refuses_others(folder, tmp_path):
    options = {"widths": [4, 4, 8, 8], "image_size": [32, 64], "frames": 10, "frame_rate": 10, "sample_rate": 16_000}
    weights = save_network(tmp_path / "tiny.safetensors", architecture="multisensory", frontend=None, **options)
    more = ("--beside", 2, "--pictures", 4, "--untrained-seeds", 1, "--json", tmp_path / "found.json")
    result = evaluate("localization", "--model", weights, "--side-by-side", folder, *more)
    assert result.exit_code == 0, result.output
    assert "2 side by side, 4 pictures of 2 videos" in result.output
    names = {metric["name"] for metric in json.loads((tmp_path / "found.json").read_text())["metrics"]}
    assert f"localisation {folder.name} side by side own sound, lower bound" in names
    refused = evaluate("localization", "--model", "avol-small", "--side-by-side", folder)
    assert refused.exit_code == 2 and "networks that fuse clips with their sound, not avol-small" in refused.output
