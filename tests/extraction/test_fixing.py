"""The table of measured offsets, and videos whose sound is moved into step."""

import csv

import numpy as np
import pytest
from flashes import FlashNet, bursts, events, write_flashes

from openavc.extraction.sync import SyncTable, check_fixable, fix_video
from openavc.inference.offsets import SyncResult, SyncSegment, candidates
from openavc.inference.sync import sync_offset

MODEL = FlashNet()


def result(*offsets):
    """Return the result of a video whose segments of 10 s have these offsets."""
    segments = [
        SyncSegment(10.0 * k, 10.0 * (k + 1), offset, 0.1 if offset is None else 0.9)
        for k, offset in enumerate(offsets)
    ]
    grid = candidates(1.0)
    return SyncResult(offsets[0], segments[0].confidence, grid, np.zeros(len(grid), np.float32), segments)


def videos(folder, *names):
    """Write files of 5 bytes."""
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"video")
    return paths


def test_each_segment_has_a_line(tmp_path):
    path = tmp_path / "table.csv"
    first, second = videos(tmp_path, "a, b.mp4", "c.mp4")
    with SyncTable(path, 2.0, "abc") as table:
        table.add(first, result(0.24))
        table.add(second, result(0.0, None))
        lines = list(csv.DictReader(path.open()))  # written while others are being measured
    assert lines == list(csv.DictReader(path.open()))
    assert [line["file"] for line in lines] == [str(first), str(second), str(second)]
    assert [line["offset"] for line in lines] == ["0.240", "0.000", ""]
    assert lines[0]["words"] == "the sound is 0.24 s late"
    assert (lines[2]["start"], lines[2]["end"], lines[2]["confidence"]) == ("10.00", "20.00", "0.100")
    assert [lines[0][key] for key in ("bytes", "max_offset", "model")] == ["5", "2", "abc"]


def test_a_table_is_gone_on_with_for_the_same_file_model_and_range(tmp_path):
    path = tmp_path / "table.csv"
    first, second = videos(tmp_path, "a.mp4", "b.mp4")
    with SyncTable(path, 2.0, "abc") as table:
        table.add(first, result(0.24))
    before = path.read_text()
    for settings, known in (((2.0, "abc"), True), ((2.5, "abc"), False), ((2.0, "abd"), False)):
        with SyncTable(path, *settings) as table:
            assert (table.has(first), table.has(second)) == (known, False)
    first.write_bytes(b"another video")
    with SyncTable(path, 2.0, "abc") as table:
        assert not table.has(first)
        table.add(second, result(0.0))
    assert path.read_text().startswith(before)
    assert [line["file"] for line in csv.DictReader(path.open())] == [str(first), str(second)]
    with SyncTable(path, 2.0, "abc", anew=True) as table:
        assert not table.has(second)
    assert list(csv.DictReader(path.open())) == []


def test_another_kind_of_file_isnt_gone_on_with(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("name,age\n")
    with pytest.raises(FileExistsError, match=r"table\.csv isn't a table of offsets: choose another, or --overwrite"):
        SyncTable(path, 2.0, "abc")
    assert path.read_text() == "name,age\n"


def test_what_one_move_cant_mend_is_refused():
    assert check_fixable(result(0.24)) == 0.24
    assert check_fixable(result(0.24, None, 0.27)) == 0.24
    with pytest.raises(ValueError, match=r"can't tell .*nothing is written"):
        check_fixable(result(None))
    with pytest.raises(ValueError, match=r"one move of the sound can't mend it .*0:10.*nothing is written"):
        check_fixable(result(0.0, 0.4))


@pytest.mark.parametrize("late", [0.4, -0.28])
def test_a_mended_video_is_in_step(tmp_path, late):
    flashing = events(8)
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing, late))
    found = sync_offset(video, MODEL, max_offset=1.0)
    checked = fix_video(video, tmp_path / "fixed.mkv", check_fixable(found), model=MODEL, max_offset=1.0)
    assert abs(checked.offset) < 0.05
    assert sync_offset(tmp_path / "fixed.mkv", MODEL, max_offset=1.0).offset == checked.offset


def test_a_video_that_isnt_in_step_afterwards_isnt_written(tmp_path):
    flashing = events(8)
    video = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing))
    with pytest.raises(ValueError, match=r"isn't written: with the sound moved by 0\.40 s, the sound is 0\.40 s early"):
        fix_video(video, tmp_path / "fixed.mkv", 0.4, model=MODEL, max_offset=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_unknown_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"fixed\.avi must end in one of \.mp4"):
        fix_video(tmp_path / "clip.avi", tmp_path / "fixed.avi", 0.1, model=MODEL)
