"""Real videos to shards: true times, published lists, held-out videos, broken files, dying workers, resume."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from videos import write_video as write_pictures

import training.prepare
from openavc.media.audio import open_audio, read_audio, to_channels
from openavc.media.resample import resample, resample_blocks
from openavc.media.video import Video, read_frames
from openavc.worker import WorkerDied, WorkerKilled
from training.corpora.lists import READERS, ListedVideo, find_videos, identify, is_held, label_by_folders, read_list
from training.corpora.shards import Shards
from training.prepare import Settings, describe_corpus, note_death, prepare, read_clips, write_shard
from training.publish.card import describe_corpora
from training.record import describe, read_lines

EXAMPLE = Path(training.__file__).parents[1] / "examples" / "freedoom.mp4"  # 8 s, 8.75 frames a second
SETTINGS = Settings(clip_seconds=3, frame_rate=5, size=60, sample_rate=16_000, sound_format="flac", quality=95)


def write_video(path, times, sound_start, sound_seconds, rate=22_050, layout="mono"):
    """Write pictures of noise at `times` (seconds), with PCM noise that begins at `sound_start`."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        picture = file.add_stream("mpeg4", rate=25, width=96, height=64, pix_fmt="yuv420p")
        picture.codec_context.time_base = Fraction(1, 1000)
        sound = file.add_stream("pcm_s16le", rate=rate, layout=layout)
        for moment in times:
            pixels = np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = round(moment * 1000), Fraction(1, 1000)
            file.mux(picture.encode(frame))
        file.mux(picture.encode())
        shape = 1, round(sound_seconds * rate) * sound.codec_context.channels  # packed
        samples = rng.integers(-9000, 9000, shape).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, "s16", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round(sound_start * rate), Fraction(1, rate)
        file.mux([*sound.encode(frame), *sound.encode()])
    return path


def uneven(seconds):
    """Return times of a variable frame rate: 8 to 50 frames per second, and 1.2 s without any."""
    times = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.12, 400)).round(3)
    return times[(times < seconds) & ~((times > 4) & (times < 5.2))]


def whole_file_clips(video, settings):
    """Yield what `read_clips` should yield, from the entire sound and all frames at once."""
    blocks, rate = open_audio(video.path)
    samples = np.concatenate(list(resample_blocks(blocks, rate, settings.sample_rate)))
    frames = list(read_frames(video.path, settings.frame_rate))
    end = min(len(samples) / settings.sample_rate, np.inf if video.end is None else video.end)
    for number in range(100):
        start = video.start + number * settings.clip_seconds
        stop = min(start + settings.clip_seconds, end)
        inside = [(t, frame) for t, frame in frames if start <= t < stop]
        first, last = round(start * settings.sample_rate), round(stop * settings.sample_rate)
        if inside and last - first >= 2 * settings.sample_rate:
            yield samples[first:last], inside, start


@pytest.mark.parametrize(
    ("start", "end", "frame_rate", "clips"),
    [(0.0, None, 5, 5), (0.0, None, 25, 5), (1.3, 11.7, 5, 3), (5.123, 7.9, 5, 1), (8.5, None, 5, 2)],
)
def test_clips_are_those_of_the_file_read_as_a_whole(tmp_path, start, end, frame_rate, clips):
    path = write_video(tmp_path / "v.mkv", uneven(14.6), sound_start=0.7, sound_seconds=13.5)  # ends before the picture
    video = ListedVideo(str(path), start, end)
    settings = Settings(3, frame_rate, 48, 16_000, "flac", 95)
    found, expected = list(read_clips(video, settings)), list(whole_file_clips(video, settings))
    assert len(found) == len(expected) == clips
    for (samples, frames, times, begin), (whole, inside, true_begin) in zip(found, expected, strict=True):
        assert begin == true_begin
        np.testing.assert_array_equal(samples, whole)
        assert times == [round(t - begin, 6) for t, _ in inside]
        for jpeg, (_, pixels) in zip(frames, inside, strict=True):
            shrunk = cv2.resize(pixels, (72, 48), interpolation=cv2.INTER_AREA)[..., ::-1]
            assert jpeg == cv2.imencode(".jpg", shrunk, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class Noted(Video):
    """A video that records what is read from it; its sound comes in blocks of at most a second."""

    heard, seen = [], []

    def sound(self):
        for block in super().sound():
            for piece in np.array_split(block, max(1, len(block) // self.sample_rate)):
                self.heard.append(len(piece))
                yield piece

    def frames(self, frame_rate=None):
        for time_, frame in super().frames(frame_rate):
            self.seen.append(time_)
            yield time_, frame


@pytest.fixture
def noted(monkeypatch):
    monkeypatch.setattr(training.prepare, "Video", Noted)
    monkeypatch.setattr(Noted, "heard", [])
    monkeypatch.setattr(Noted, "seen", [])
    return Noted


def test_picture_and_sound_are_read_no_further_than_the_clip(noted, tmp_path):
    path = write_video(tmp_path / "v.mkv", np.arange(0, 60, 0.5), sound_start=0, sound_seconds=60, rate=16_000)
    for number, (samples, *_) in enumerate(read_clips(ListedVideo(str(path)), SETTINGS)):
        assert sum(noted.heard) <= (3 * number + 3 + 2) * 16_000  # a block of 1 s and one sample beyond
        assert noted.seen[-1] <= 3 * number + 3 + 0.5
        assert samples.base is None or len(samples.base) <= 5 * 16_000
    assert number == 19


def test_a_video_is_read_only_up_to_the_end_of_its_stretch(noted, tmp_path):
    path = write_video(tmp_path / "v.mkv", np.arange(0, 60, 0.5), sound_start=0, sound_seconds=60)
    assert len(list(read_clips(ListedVideo(str(path), 6.0, 12.0), SETTINGS))) == 2
    assert max(noted.seen) == 12


@pytest.mark.parametrize(
    ("layout", "channels", "kept"),
    [("mono", None, 1), ("stereo", None, 2), ("stereo", 1, 1), ("mono", 2, 2), ("5.1", None, 2), ("5.1", 1, 1)],
)
def test_sound_keeps_its_channels_or_is_mixed(tmp_path, layout, channels, kept):
    path = write_video(tmp_path / "v.mkv", np.arange(0, 3, 0.2), 0, 3, rate=16_000, layout=layout)
    settings = replace(SETTINGS, channels=channels)
    write_shard(tmp_path / "0.tar", 0, [ListedVideo(str(path))], settings)
    shards = Shards(tmp_path)
    [clip] = shards.clips
    assert clip.channels == kept
    samples, _ = read_audio(path)
    assert samples.shape[1] == {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    expected = to_channels(samples, kept)[: clip.samples]
    np.testing.assert_allclose(shards.sound(clip, 1.5, 3, 16_000, kept), expected, atol=1e-4)
    if layout == "stereo" and kept == 2:
        assert np.abs(expected[:, 0] - expected[:, 1]).max() > 0.1


def test_shards_made_before_sound_kept_its_channels_go_on_as_mono_alone(tmp_path):
    listed, mono = [ListedVideo(str(EXAMPLE))], replace(SETTINGS, channels=1)
    prepare(listed, tmp_path, mono, workers=1)
    record = json.loads((tmp_path / "corpus.json").read_text())
    del record["settings"]["channels"]
    (tmp_path / "corpus.json").write_text(json.dumps(record))
    assert prepare(listed, tmp_path, mono, workers=1) == []
    (tmp_path / "corpus.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="other videos or settings"):
        prepare(listed, tmp_path, SETTINGS, workers=1)


def test_at_25_frames_a_second_true_times_are_kept_off_the_grid(tmp_path):
    period = 1001 / 30_000  # of 29.97 frames a second
    path = write_video(tmp_path / "v.mkv", [k * period for k in range(180)], sound_start=0, sound_seconds=6)
    found = list(read_clips(ListedVideo(str(path)), Settings(3, 25, 48, 16_000, "flac", 95)))
    for _, _, times, start in found:
        assert len(times) in (74, 75, 76)
        numbers = (np.array(times) + start) / period
        np.testing.assert_allclose(numbers, numbers.round(), atol=0.02)  # Matroska rounds to milliseconds
        slots = np.floor((np.array(times) + start + 0.0011) / 0.04).astype(int)
        assert len(set(slots)) == len(slots)
        assert np.abs(np.array(times) - 0.04 * np.round(np.array(times) / 0.04)).max() > 0.01


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(EXAMPLE, folder / "abc-_123.mp4")
    shutil.copy(EXAMPLE, folder / "deep" / "xyz_000030_000040.mp4")
    (folder / "bad.mp4").write_bytes(EXAMPLE.read_bytes()[:5000])
    return folder


def test_clips_hold_the_sound_and_frames_of_their_stretch(tmp_path):
    write_shard(tmp_path / "000000.tar", 0, [ListedVideo(str(EXAMPLE))], SETTINGS)
    shards = Shards(tmp_path)
    samples = to_channels(resample(*read_audio(EXAMPLE), 16_000), 1)
    times = [time for time, _ in read_frames(EXAMPLE, 5)]
    assert len(shards.clips) == 3
    assert [clip.samples / 16_000 for clip in shards.clips] == pytest.approx([3, 3, 2], abs=0.05)
    for number, clip in enumerate(shards.clips):
        start = 3 * number
        sound = shards.sound(clip, clip.seconds / 2, clip.seconds, 16_000)
        np.testing.assert_allclose(sound, samples[start * 16_000 :][: clip.samples], atol=1e-4)
        inside = [time - start for time in times if start <= time < start + 3]
        np.testing.assert_allclose(clip.frame_times, inside, atol=1e-5)
        assert shards.frame(clip, 0).shape == (60, 80, 3)


def test_a_listed_stretch_is_cut_out(tmp_path):
    write_shard(
        tmp_path / "000000.tar", 0, [ListedVideo(str(EXAMPLE), start=2.0, end=6.5, labels=("a", "b"))], SETTINGS
    )
    shards = Shards(tmp_path)
    assert len(shards.clips) == 1  # the remaining 1.5 s are too short
    expected = to_channels(resample(*read_audio(EXAMPLE), 16_000)[2 * 16_000 : 5 * 16_000], 1)
    np.testing.assert_allclose(shards.sound(shards.clips[0], 1.5, 3, 16_000), expected, atol=1e-4)


def test_broken_and_too_short_videos_are_reported_and_cost_nothing_else(videos, tmp_path):
    listed = [
        ListedVideo(str(videos / "bad.mp4")),
        ListedVideo(str(EXAMPLE), end=1.0),
        ListedVideo(str(videos / "abc-_123.mp4")),
    ]
    failures = prepare(listed, tmp_path / "out", SETTINGS, workers=1)
    assert [Path(failure["video"]).name for failure in failures] == ["bad.mp4", "freedoom.mp4"]
    assert all(failure["video"] in failure["reason"] for failure in failures)
    assert len(Shards(tmp_path / "out").clips) == 3
    assert (tmp_path / "out/failed.jsonl").read_text().count("\n") == 2


def test_a_second_run_makes_only_the_missing_shards_and_the_same_ones(monkeypatch, tmp_path):
    monkeypatch.setattr("training.prepare.VIDEOS_PER_SHARD", 1)
    listed = [ListedVideo(str(EXAMPLE)), ListedVideo(str(EXAMPLE), start=1.0)]
    prepare(listed, tmp_path, SETTINGS, workers=1)
    first, second = sorted(tmp_path.glob("*.tar"))
    kept, made = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    prepare(listed, tmp_path, SETTINGS, workers=1)
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == made
    with pytest.raises(ValueError, match="other videos or settings"):
        prepare(listed[:1], tmp_path, SETTINGS, workers=1)


def test_a_video_that_breaks_off_keeps_its_whole_clips(monkeypatch, tmp_path):
    class Breaking(Video):
        def sound(self):
            samples = np.concatenate(list(super().sound()))
            yield from (samples[start : start + self.sample_rate] for start in range(0, 96_000, self.sample_rate))
            raise RuntimeError("the decoder gave up")

    settings = Settings(2, 5, 60, 24_000, "flac", 95)
    assert open_audio(EXAMPLE)[1] == 24_000  # so that nothing is resampled, which looks ahead
    monkeypatch.setattr(training.prepare, "Video", Breaking)
    write_shard(tmp_path / "000000.tar", 0, [ListedVideo(str(EXAMPLE))], settings)
    [failure] = read_lines(tmp_path / "000000.failed")
    assert failure == {"video": str(EXAMPLE), "reason": f"{EXAMPLE}: the decoder gave up", "clips": 1}
    assert len(Shards(tmp_path).clips) == 1


def test_a_disk_that_cant_be_written_is_no_fault_of_the_video(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.prepare.encode_clip", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path / "000000.tar", 0, [ListedVideo(str(EXAMPLE))], SETTINGS)
    assert not list(tmp_path.glob("*.tar*")) and not list(tmp_path.glob(".*"))


def test_a_worker_killed_by_a_signal_costs_its_own_shard_only_and_the_next_run_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr("training.prepare.VIDEOS_PER_SHARD", 1)
    stuck = write_video(tmp_path / "stuck.mkv", np.arange(0, 120, 0.04), 0, 120)  # it takes a second to read
    listed = [ListedVideo(str(EXAMPLE)), ListedVideo(str(stuck)), ListedVideo(str(EXAMPLE), start=1.0)]
    output = tmp_path / "out"

    def kill_the_reader():
        while not (output / "000001.reading").exists():
            time.sleep(0.01)
        [worker] = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGSEGV)

    killer = threading.Thread(target=kill_the_reader, daemon=True)
    killer.start()
    with pytest.raises(
        RuntimeError, match=rf"000001.tar died while it read {stuck}: .*SIGSEGV.*\n.*other 2 shards are written"
    ):
        prepare(listed, output, SETTINGS, workers=1)
    killer.join()
    assert sorted(path.name for path in output.glob("*.tar")) == ["000000.tar", "000002.tar"]
    stuck.unlink()
    shutil.copy(EXAMPLE, stuck)
    assert prepare(listed, output, SETTINGS, workers=1) == []
    assert len(Shards(output).clips) == 3 + 3 + 2
    assert not list(output.glob("*.reading")) and not list(output.glob("*.partial"))


def test_a_video_at_which_two_workers_died_is_left_out(tmp_path):
    path, deadly = tmp_path / "000000.tar", str(tmp_path / "deadly.mp4")
    shutil.copy(EXAMPLE, deadly)
    listed = [ListedVideo(deadly), ListedVideo(str(EXAMPLE))]
    for clips in (6, 6, 3):
        write_shard(path, 0, listed, SETTINGS)
        assert len(Shards(tmp_path).clips) == clips
        (tmp_path / "000000.reading").write_text(json.dumps(deadly))  # as if it had died there
        told = note_death(path, listed, WorkerDied("it hung"))
        assert f"while it read {deadly}: it hung; the shard's videos are {deadly}, {EXAMPLE}" in told
    [failure] = read_lines(tmp_path / "000000.failed")
    assert failure["video"] == deadly and failure["reason"].endswith("the process that read it died, 2 times: it hung")
    path.unlink()
    (tmp_path / "000000.died").write_text(2 * f"{json.dumps(deadly)}\n")  # as earlier versions wrote it
    write_shard(path, 0, listed, SETTINGS)
    assert "died, 2 times: how isn't known" in read_lines(tmp_path / "000000.failed")[0]["reason"]


def test_a_video_at_which_workers_were_killed_from_outside_is_tried_again(tmp_path):
    path, videos = tmp_path / "000000.tar", [ListedVideo(str(EXAMPLE))]
    for _ in range(3):
        (tmp_path / "000000.reading").write_text(json.dumps(str(EXAMPLE)))
        assert f"while it read {EXAMPLE}: it was killed" in note_death(path, videos, WorkerKilled("it was killed"))
    write_shard(path, 0, videos, SETTINGS)
    assert len(Shards(tmp_path).clips) == 3


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("abc-_123xyz", "abc-_123xyz"),
        ("deep/abc-_123xyz_000030", "abc-_123xyz"),
        ("abc-_123xyz_000010_000020", "abc-_123xyz"),
        ("abc-_123xyz_30.000_40.000", "abc-_123xyz"),
        ("abc-_123xyz_30000_40000", "abc-_123xyz"),
        ("deep/abc-_123xyz_30_40", "abc-_123xyz"),
        ("abc-_123xyz_30", "abc-_123xyz"),
        ("ab_12345678_0.5_10.5", "ab_12345678"),
        ("abc-_123xyz_30_40_50", "abc-_123xyz_30_40_50"),  # no downloader's form
        ("abc-_123xyz_part2", "abc-_123xyz_part2"),
        ("clip_30_40", "clip_30_40"),  # not 11 characters before the numbers
        ("playing drums/xyz_000030_000040", "xyz"),
        ("1234_123456", "1234_123456"),  # an identifier of YouTube's
        ("clip_000001", "clip_000001"),  # a number, not a second
        ("a/clip", "a/clip"),
        ("VID_20240101_120000", "VID_20240101_120000"),
    ],
)
def test_cuts_of_one_video_have_its_identifier(name, identifier):
    assert identify(name) == identifier


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path):
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to others
        private = Path(root, "videos/private")
        private.mkdir(parents=True)
        os.chmod(root, 0o755)
        shutil.copy(EXAMPLE, private.parent)
        private.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)  # nobody
        try:
            with pytest.raises(PermissionError, match=f"'{private}'"):
                find_videos(private.parent)
        finally:
            os.seteuid(user)
            private.chmod(0o755)
        assert len(find_videos(private.parent)) == 1


def test_held_videos_are_a_share_chosen_by_the_identifier_alone(tmp_path):
    names = [f"video{number:06d}" for number in range(4000)]
    held = {name for name in names if is_held(name, 0.1)}
    assert len(held) == pytest.approx(400, abs=4 * (4000 * 0.1 * 0.9) ** 0.5)  # binomial, 4 standard deviations
    assert held <= {name for name in names if is_held(name, 0.3)}
    assert not any(is_held(name, 0.0) for name in names)


def test_cuts_of_one_video_fall_on_one_side_and_are_one_source(tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    names = [f"deep/abcdefghi{number:02d}_000010_000020" for number in range(4)]
    names += [f"abcdefghi{number:02d}_000030_000040" for number in range(4)]
    for name in names:
        shutil.copyfile(EXAMPLE, folder / f"{name}.mp4")
    assert prepare(find_videos(folder), tmp_path / "out", SETTINGS, workers=1, held=0.5) == []
    sides = [Shards(tmp_path / "out" / side).clips for side in ("train", "held")]
    train, held = ({clip.source for clip in clips} for clips in sides)
    assert train and held and not train & held
    assert train | held == {f"abcdefghi{number:02d}" for number in range(4)}
    assert [len(clips) for clips in sides] == [6 * len(train), 6 * len(held)]  # 3 clips of each cut
    with pytest.raises(ValueError, match="other videos or settings"):
        prepare(find_videos(folder), tmp_path / "out", SETTINGS, workers=1)


def test_a_training_on_one_side_keeps_what_it_was_trained_on_without_a_path(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    names = [f"video{number}" for number in range(6)]
    for name in names:
        shutil.copyfile(EXAMPLE, folder / f"{name}.mp4")
    prepare(find_videos(folder), tmp_path / "out", SETTINGS, workers=1, held=0.5)
    held = sum(is_held(name, 0.5) for name in names)
    for side, count in (("train", 6 - held), ("held", held)):
        path = tmp_path / "out" / side
        kept = describe([path], Shards(path), start_from=None)
        assert describe_corpora(kept["corpus"]) == f"{count} videos, clips of at most 3 s"
        seconds = [clip.seconds for clip in Shards(path).clips]
        [lengths] = kept["clip_seconds"]
        assert (lengths["clips"], lengths["longest"]) == (len(seconds), pytest.approx(max(seconds), abs=1e-3))
        [corpus] = kept["corpus"]
        assert (corpus["side"], corpus["held"], corpus["settings"]) == (side, 0.5, asdict(SETTINGS))
        assert str(tmp_path) not in json.dumps(kept) and "video0" not in json.dumps(kept)


@pytest.mark.parametrize("change", [{"start": 1.0}, {"end": 7.0}, {"labels": ("dog",)}, {"identifier": "other"}])
def test_the_record_of_another_list_has_another_digest(change):
    video = ListedVideo(str(EXAMPLE), labels=("cat",))
    first, again, other = (
        describe_corpus([v], SETTINGS, 0.0) for v in (video, replace(video), replace(video, **change))
    )
    assert first == again
    assert {key for key in first if first[key] != other[key]} == {"sha256"}


def test_a_run_killed_while_it_writes_its_record_leaves_none(monkeypatch, tmp_path):
    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", write_half)
        patch.setattr(Path, "write_text", lambda path, text: write_half(path, text.encode()))
        prepare([ListedVideo(str(EXAMPLE))], tmp_path, SETTINGS, workers=1)
    assert not list(tmp_path.iterdir())


def test_a_share_that_leaves_one_side_empty_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no video falls into held with held = 1e-09, of 1 in all"):
        prepare([ListedVideo(str(EXAMPLE))], tmp_path / "out", SETTINGS, workers=1, held=1e-9)
    assert not (tmp_path / "out").exists()


def test_each_of_many_odd_files_ends_in_the_shard_or_among_the_failures(shared, tmp_path):
    files = sorted(path for path in (shared / "data" / "clips").iterdir() if path.suffix != ".csv")
    with pytest.warns(UserWarning, match="damaged"):
        write_shard(tmp_path / "000000.tar", 0, [ListedVideo(str(path)) for path in files], SETTINGS)
    reasons = {Path(f["video"]).name: f["reason"] for f in read_lines(tmp_path / "000000.failed")}
    written = {clip.source for clip in Shards(tmp_path).clips}
    assert all((path.stem in written) != (path.name in reasons) for path in files if path.stem != "rabbit320")
    assert all(name in reason for name, reason in reasons.items())
    for name, reason in {
        "video_only.mp4": "holds no sound",
        "audio_only_15s.mp4": "holds no pictures",
        "truncated_no_moov.mp4": "can't be decoded",
        "zero_length.mp4": "0 bytes",
        "shorter_than_1s.mp4": "has no 2 s with picture and sound",
    }.items():
        assert reason in reasons[name]
    assert {
        "vfr_dropped_frames",
        "truncated_half",
        "audio_late_500ms",
        "bitflips_400",
        "hls_60fps_start100s",
    } <= written


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


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("ucf101/train", (9537, 9586, 9624)),
        ("ucf101/test", (3783, 3734, 3696)),
        ("hmdb51/train", (3570,) * 3),
        ("hmdb51/test", (1530,) * 3),
    ],
)
def test_every_line_of_the_official_splits_is_read(shared, part, counts):
    name, side = part.split("/")
    folder, classes = shared / "data" / "annotations" / f"{name}_splits", int(name[-3:]) if name == "ucf101" else 51
    for split, count in enumerate(counts, start=1):
        if name == "ucf101":
            rows = list(READERS["ucf101"](folder / f"{side}list{split:02d}.txt"))
        else:
            rows = list(READERS[f"hmdb51-{side}{split}"](folder))
        assert len(rows) == len({identifier for identifier, *_ in rows}) == count
        assert all((start, end) == (0.0, None) for _, start, end, _ in rows)
        assert len({label for *_, (label,) in rows}) == classes
        if name == "ucf101":  # the label is in each name
            assert all(identifier.lower().startswith(f"v_{label}_".lower()) for identifier, _, _, (label,) in rows)


def test_the_videos_of_official_splits_are_found_with_their_labels(tmp_path):
    videos, lists = tmp_path / "videos", tmp_path / "lists"
    for name in (
        "Archery/v_Archery_g08_c01",
        "YoYo/v_YoYo_g01_c02",
        "wave/a_(1)_wave_0",
        "wave/b_wave_0",
        "hit/c_hit_1",
    ):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLE, videos / f"{name}.avi")
    lists.mkdir()
    (lists / "trainlist01.txt").write_bytes(b"Archery/v_Archery_g08_c01.avi 3\r\nYoYo/v_YoYo_g09_c09.avi 101\r\n")
    (lists / "testlist01.txt").write_text("YoYo/v_YoYo_g01_c02.avi\n")
    (lists / "wave_test_split2.txt").write_text("a_(1)_wave_0.avi 1 \nb_wave_0.avi 2 \n")
    (lists / "hit_test_split2.txt").write_text("c_hit_1.avi 2 \nd_hit_1.avi 0 \n")
    for kind, path, expected, missing in (
        ("ucf101", lists / "trainlist01.txt", {"v_Archery_g08_c01": "Archery"}, ["v_YoYo_g09_c09"]),
        ("ucf101", lists / "testlist01.txt", {"v_YoYo_g01_c02": "YoYo"}, []),
        ("hmdb51-train2", lists, {"a_(1)_wave_0": "wave"}, []),
        ("hmdb51-test2", lists, {"c_hit_1": "hit", "b_wave_0": "wave"}, []),
    ):
        found, lost = read_list(path, kind, videos)
        assert {Path(video.path).stem: video.labels for video in found} == {k: (v,) for k, v in expected.items()}
        assert lost == missing
    with pytest.raises(ValueError, match=r"isn't a list in the format 'hmdb51-train3'.*CLASS_test_split3\.txt"):
        read_list(lists, "hmdb51-train3", videos)
    with pytest.raises(ValueError, match=r"lists isn't a list in the format 'ucf101': entry 1 isn't Class/file\.avi"):
        read_list(lists, "ucf101", videos)


def test_folders_are_the_labels_of_the_videos_in_them(videos):
    (videos / "bad.mp4").unlink()
    with pytest.raises(ValueError, match=r"abc-_123\.mp4 lies in no folder of a class"):
        label_by_folders(find_videos(videos), videos)
    (videos / "abc-_123.mp4").unlink()
    (videos / "deep" / "er").mkdir()
    shutil.copy(EXAMPLE, videos / "deep" / "er" / "abc.mp4")
    labelled = label_by_folders(find_videos(videos), videos)
    assert [(Path(video.path).stem, video.labels) for video in labelled] == [
        ("abc", ("deep",)),
        ("xyz_000030_000040", ("deep",)),
    ]


def write_silent(path, seconds):
    """Write 10 pictures a second without sound."""
    return write_pictures(path, np.arange(0, seconds, 0.1), codec="mpeg4")


def test_silent_videos_are_left_out_or_kept_with_zeros_as_long_as_their_pictures(tmp_path):
    silent = ListedVideo(str(write_silent(tmp_path / "silent.mkv", 7.3)))
    heard = ListedVideo(str(write_video(tmp_path / "heard.mkv", np.arange(0, 3, 0.1), 0, 3)))
    settings = replace(SETTINGS, frame_rate=10, channels=2)
    [failure] = prepare([silent, heard], tmp_path / "refused", settings, workers=1)
    assert "holds no sound" in failure["reason"]
    assert prepare([silent, heard], tmp_path / "kept", replace(settings, silent="keep", shortest=1.0), workers=1) == []
    shards = Shards(tmp_path / "kept")
    assert [clip.source for clip in shards.clips] == ["silent"] * 3 + ["heard"]
    assert [clip.seconds for clip in shards.clips] == pytest.approx([3, 3, 1.3, 3], abs=1e-3)
    assert [len(clip.frame_times) for clip in shards.clips] == [30, 30, 13, 30]
    assert [clip.channels for clip in shards.clips] == [2] * 4
    sounds = [shards.sound(clip, 1.0, 2.0, 16_000, 2) for clip in shards.clips]
    assert [bool(sound.any()) for sound in sounds] == [False, False, False, True]


def test_a_video_shorter_than_2_s_is_kept_where_asked(tmp_path):
    short = ListedVideo(str(write_video(tmp_path / "short.mkv", np.arange(0, 1.2, 0.1), 0, 1.2)))
    [failure] = prepare([short], tmp_path / "usual", SETTINGS, workers=1)
    assert "has no 2 s with picture and sound" in failure["reason"]
    assert prepare([short], tmp_path / "asked", replace(SETTINGS, shortest=0.5), workers=1) == []
    [clip] = Shards(tmp_path / "asked").clips
    assert clip.seconds == pytest.approx(1.2, abs=0.01)


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
    result = subprocess.run(command, cwd=EXAMPLE.parents[1], capture_output=True, text=True)
    assert result.returncode == 1
    assert "2 videos done, 1 failed" in result.stdout
    assert "bad.mp4" in result.stderr
    assert json.loads((tmp_path / "out/failed.jsonl").read_text())["video"].endswith("bad.mp4")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("audioset", "# a page\nof words\n"),
        ("audioset", "label,youtube_id,time_start,time_end,split\ndog,a,1,2,train\n"),  # Kinetics'
        ("audioset", "a.mp4\nb.mp4\n"),  # Flickr's
        ("audioset", "\x89PNG\x00\x00"),
        ("kinetics", "label,youtube_id,time_start\ndog,a,1\n"),
        ("kinetics", '# a comment\nYTID, 1.0, 2.0, "/m/1"\n'),  # AudioSet's
    ],
)
def test_a_list_in_another_format_is_refused_by_its_name(kind, text, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"list\.csv isn't a list in the format '{kind}'") as told:
        read_list(tmp_path / "list.csv", kind, tmp_path / "videos")
    assert "entry 1 isn't" in str(told.value)
    assert "audioset, kinetics, flickr" in str(told.value)
    assert "Error" not in str(told.value)


def test_a_shortest_clip_that_is_longer_than_any_is_refused(tmp_path):
    options = ["--output", str(tmp_path / "out"), "--clip-seconds", "3", "--shortest", "4"]
    result = CliRunner().invoke(training.prepare.main, [str(tmp_path), *options])
    assert result.exit_code == 2
    assert "no clip of 3 s has --shortest 4 s" in result.stderr


def test_what_shards_are_written_with_is_looked_for_first(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ValueError, match=r"shards can't be written: .*webdataset.*pip install '\.\[training\]'"):
        prepare([ListedVideo(str(EXAMPLE))], tmp_path / "out", SETTINGS, workers=1)
    assert not (tmp_path / "out").exists()
