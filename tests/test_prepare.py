"""Real videos to shards: true times, published lists, broken files, resume."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openavc.audio import read_audio, resample
from openavc.video import read_frames
from training.data import Shards
from training.prepare import Settings, Video, prepare, read_list

EXAMPLE = Path(__file__).parent.parent / "examples" / "freedoom.mp4"  # 8 s, 8.75 frames a second
SETTINGS = Settings(clip_seconds=3, frame_rate=5, size=60, sample_rate=16_000, sound_format="flac", quality=95)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(EXAMPLE, folder / "abc-_123.mp4")
    shutil.copy(EXAMPLE, folder / "deep" / "xyz_000030_000040.mp4")
    (folder / "bad.mp4").write_bytes(EXAMPLE.read_bytes()[:5000])
    return folder


def test_clips_hold_the_sound_and_frames_of_their_stretch(tmp_path):
    assert prepare([Video(str(EXAMPLE))], tmp_path, SETTINGS, workers=1) == []
    shards = Shards(tmp_path)
    waveform = resample(*read_audio(EXAMPLE), 16_000)
    times = [time for time, _ in read_frames(EXAMPLE, 5)]
    assert len(shards.clips) == 3
    assert [clip.samples / 16_000 for clip in shards.clips] == pytest.approx([3, 3, 2], abs=0.05)
    for number, clip in enumerate(shards.clips):
        start = 3 * number
        sound = shards.waveform(clip, clip.seconds / 2, clip.seconds, 16_000)
        np.testing.assert_allclose(sound, waveform[start * 16_000 :][: clip.samples], atol=1e-4)
        inside = [time - start for time in times if start <= time < start + 3]
        np.testing.assert_allclose(clip.frame_times, inside, atol=1e-5)
        assert shards.frame(clip, 0).shape == (60, 80, 3)


def test_a_listed_stretch_is_cut_out(tmp_path):
    prepare([Video(str(EXAMPLE), start=2.0, end=6.5, labels=("a", "b"))], tmp_path, SETTINGS, workers=1)
    shards = Shards(tmp_path)
    assert len(shards.clips) == 1  # the remaining 1.5 s are too short
    expected = resample(*read_audio(EXAMPLE), 16_000)[2 * 16_000 : 5 * 16_000]
    np.testing.assert_allclose(shards.waveform(shards.clips[0], 1.5, 3, 16_000), expected, atol=1e-4)


def test_broken_and_too_short_videos_are_reported_and_cost_nothing_else(videos, tmp_path):
    listed = [Video(str(videos / "bad.mp4")), Video(str(EXAMPLE), end=1.0), Video(str(videos / "abc-_123.mp4"))]
    failures = prepare(listed, tmp_path / "out", SETTINGS, workers=1)
    assert [Path(failure["video"]).name for failure in failures] == ["bad.mp4", "freedoom.mp4"]
    assert all(failure["video"] in failure["reason"] for failure in failures)
    assert len(Shards(tmp_path / "out").clips) == 3
    assert (tmp_path / "out/failed.jsonl").read_text().count("\n") == 2


def test_a_second_run_makes_only_the_missing_shards_and_the_same_ones(monkeypatch, tmp_path):
    monkeypatch.setattr("training.prepare.VIDEOS_PER_SHARD", 1)
    listed = [Video(str(EXAMPLE)), Video(str(EXAMPLE), start=1.0)]
    prepare(listed, tmp_path, SETTINGS, workers=1)
    first, second = sorted(tmp_path.glob("*.tar"))
    kept, made = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    prepare(listed, tmp_path, SETTINGS, workers=1)
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == made
    with pytest.raises(ValueError, match="other videos or settings"):
        prepare(listed[:1], tmp_path, SETTINGS, workers=1)


AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=2, num_segs=2
# YTID, start_seconds, end_seconds, positive_labels
abc-_123, 1.000, 7.000, "/m/09x0r,/t/dd00088"
gone, 30.000, 40.000, "/m/04rlf"
xyz, 30.000, 40.000, "/m/0dwsp"
"""
KINETICS = """label,youtube_id,time_start,time_end,split
playing drums,xyz,30,40,train
tap dancing,gone,0,10,train
"""


@pytest.mark.parametrize(
    ("kind", "text", "expected", "missing"),
    [
        (
            "audioset",
            AUDIOSET,
            [("abc-_123", 1, 7, ("/m/09x0r", "/t/dd00088")), ("xyz_000030_000040", 0, None, ("/m/0dwsp",))],
            ["gone"],
        ),
        ("kinetics", KINETICS, [("xyz_000030_000040", 0, None, ("playing drums",))], ["gone"]),
        ("flickr", "abc-_123\ndeep/gone.mp4\n\n", [("abc-_123", 0, None, ())], ["gone"]),
    ],
)
def test_published_lists_are_read_and_their_files_found(videos, tmp_path, kind, text, expected, missing):
    (tmp_path / "list.csv").write_text(text)
    found, lost = read_list(tmp_path / "list.csv", kind, videos)
    assert [(Path(v.path).stem, v.start, v.end, v.labels) for v in found] == expected
    assert lost == missing


def test_the_command_counts_and_leaves_with_status_1_where_some_failed(videos, tmp_path):
    command = [
        sys.executable,
        "-m",
        "training.prepare",
        str(videos),
        "--output",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    result = subprocess.run(command, cwd=EXAMPLE.parent.parent, capture_output=True, text=True)
    assert result.returncode == 1
    assert "2 videos done, 1 failed" in result.stdout
    assert "bad.mp4" in result.stderr
    assert json.loads((tmp_path / "out/failed.jsonl").read_text())["video"].endswith("bad.mp4")
