"""Labelled videos and their moments, from which each network cuts its clip."""

import weakref

import numpy as np
import pytest
from fake_model import FakeModel
from tones import clip_of_picture, clip_of_sound, listener, write_tones
from videos import noise, write_video

from openavc.media.video import Video as VideoFile
from openavc.models.contract import FramesInput, SoundInput
from training.evaluate.datasets import labelled
from training.evaluate.datasets.moments import Moment, Span, video_moments
from training.evaluate.metrics.spaces import embed


@pytest.fixture(scope="module")
def monsters(tmp_path_factory):
    """Write shards of 12 tones that are labelled as four kinds of monster on three levels."""
    folder = tmp_path_factory.mktemp("monsters")
    for number in range(12):
        about = {"labels": [("Zombieman", "DoomImp", "Demon", "LostSoul")[number % 4]], "level": f"MAP{number // 4}"}
        write_tones(folder / f"{number:05d}.tar", [number], **about)
    return folder


def test_a_shards_episode_is_of_its_level_unless_told_otherwise(monsters):
    videos, tree = labelled.find_labelled(monsters)
    assert tree is None
    assert [video.labels for video in videos[:2]] == [("Zombieman",), ("DoomImp",)]
    assert [video.group for video in videos] == [f"MAP{number // 4}" for number in range(12)]
    assert len({video.group for video in labelled.find_labelled(monsters, own_level=True)[0]}) == 12


def test_a_moment_is_a_frame_and_the_sound_around_it_and_repeats(monsters):
    videos, _ = labelled.find_labelled(monsters)
    model = listener()
    span = Span.of([model])
    first, again, other = (list(labelled.read_moments(videos, span, seed, 2)) for seed in (0, 0, 1))
    assert [number for number, _ in first] == [number for number in range(12) for _ in range(2)]
    for number, moment in first:
        clip = moment.clip(model.frames, model.sound)
        assert clip.frames.shape == (1, 16, 16, 3) and clip.samples.shape == (24_000, 1)
        assert clip_of_picture(clip.frames[0]) == clip_of_sound(clip.samples) == number
    assert all(a.time == b.time for (_, a), (_, b) in zip(first, again, strict=True))
    assert not all(a.time == b.time for (_, a), (_, b) in zip(first, other, strict=True))


def test_a_sound_at_another_rate_is_resampled_and_cut_to_its_middle():
    frames, sound = FramesInput(16, 16), SoundInput(12_000, 0.5)
    tone = np.sin(2 * np.pi * 400 * np.arange(24_000) / 24_000).astype(np.float32)[:, None]
    picture = np.zeros((20, 30, 3), np.float32)
    window = Moment(0.0, np.zeros(1), [picture], tone, 24_000).clip(frames, sound).samples
    expected = np.sin(2 * np.pi * 400 * (np.arange(6000) + 3000) / 12_000)
    np.testing.assert_allclose(window[:, 0], expected, atol=1e-3)
    short = Moment(0.0, np.zeros(1), [picture], tone[:6002], 24_000).clip(frames, sound).samples
    assert short.shape == (6000, 1)  # 2999 zeros, or one more, around 3001 samples
    assert not short[:1499].any() and not short[-1500:].any() and short[1500:1600].any() and short[4400:4500].any()


def test_a_picture_is_a_still_clip_and_mono_is_heard_on_both_channels():
    frames, sound = FramesInput(16, 16, count=5, rate=10.0), SoundInput(24_000, 0.5, channels=2)
    picture = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    clip = Moment(0.0, np.zeros(1), [picture], np.ones((12_000, 1), np.float32), 24_000).clip(frames, sound)
    assert clip.frames.shape == (5, 16, 16, 3) and (clip.frames == clip.frames[0]).all()
    assert clip.samples.shape == (12_000, 2) and (clip.samples == 1).all()


@pytest.fixture
def film(tmp_path):
    """Write 3 s of video with 25 frames per second, each with its own grey, and stereo noise at 16 kHz."""
    samples = np.stack([noise(48_000, seed) for seed in (0, 1)], axis=1)
    pictures = [np.full((32, 32, 3), 3 * number, np.uint8) for number in range(75)]
    path = write_video(
        tmp_path / "film.mkv", np.arange(75) / 25, sound=samples, rate=16_000, pictures=pictures, pixels="bgr0"
    )
    return path, samples


def test_all_moments_of_a_file_that_have_their_clip_inside_are_read_in_one_pass(film):
    path, samples = film
    pictures, clips = SoundInput(16_000, 1.0, channels=2), FramesInput(32, 32, count=31, rate=25.0)
    with VideoFile(path) as video:
        still = list(video_moments(video, Span(1.0)))
    assert [round(25 * moment.time) for moment in still] == [k for k in range(75) if 12.5 <= k <= 62.5]
    with VideoFile(path) as video:
        moving = list(video_moments(video, Span(1.0, (clips,))))
    assert [round(25 * moment.time) for moment in moving] == list(range(15, 60))
    for moment in moving[::7]:
        clip = moment.clip(clips, pictures)
        number = round(25 * moment.time)
        shown = np.round(clip.frames[:, 0, 0, 0] * 255 / 3)
        np.testing.assert_array_equal(shown, np.arange(number - 15, number + 16))
        start = round(moment.time * 16_000) - 8_000
        np.testing.assert_allclose(clip.samples, samples[start : start + 16_000], atol=1e-6)


class LongVideo:
    """A minute of sound and of 25 frames per second, made while they are read; counts the frames in memory."""

    path, sample_rate, alive, most = "long.mp4", 8_000, 0, 0

    def frames(self):
        for number in range(1500):
            frame = np.zeros((4, 4, 3), np.uint8)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(frame, self._gone)
            yield number / 25, frame

    def sound(self):
        for _ in range(60):
            yield np.zeros((8_000, 2), np.float32)

    def _gone(self):
        self.alive -= 1


def test_moments_of_a_long_file_are_read_in_bounded_memory():
    video = LongVideo()
    count = sum(1 for _ in video_moments(video, Span(1.0, (FramesInput(32, 32, count=25, rate=25.0),))))
    assert count == 1500 - 2 * 13 + 1  # from 0.5 s to 59.5 s
    assert video.most < 35


def test_a_file_shorter_than_a_clip_is_a_failure_with_a_reason(film, tmp_path):
    (tmp_path / "list.csv").write_text("file,labels\nfilm.mkv,a\n")
    videos, _ = labelled.find_labelled(tmp_path / "list.csv")
    long = Span(1.0, (FramesInput(32, 32, count=90, rate=25.0),))
    [(_, error)] = labelled.read_moments(videos, long, seed=0)
    assert "film.mkv has no frame with 1 s of sound and 90 frames at 25 a second around it" in str(error)
    [(_, error)] = labelled.read_moments(videos, Span(4.0), seed=0)
    assert "film.mkv has no frame with 4 s of sound around it" in str(error)
    chosen = [next(labelled.read_moments(videos, Span(1.0), seed))[1].time for seed in range(40)]
    assert len(set(chosen)) > 15 and min(chosen) < 1 < 2 < max(chosen)


def test_networks_of_other_inputs_are_embedded_from_the_same_moments(film, tmp_path):
    """One network sees a picture and hears mono, the other sees 5 frames and hears stereo."""
    (tmp_path / "list.csv").write_text("file,labels\nfilm.mkv,a\n")
    videos, _ = labelled.find_labelled(tmp_path / "list.csv")
    still = FakeModel(SoundInput(16_000, 0.5), FramesInput(16, 16), sees=greys, hears=means)
    moving = FakeModel(SoundInput(8_000, 1.0, 2), FramesInput(16, 16, 5, 25.0), sees=greys, hears=means)
    embedded = embed([still, moving], videos, seed=0, per_video=3)
    assert embedded.numbers.tolist() == [0, 0, 0] and not embedded.failures
    (seen, heard), (runs, both) = embedded.vectors
    assert seen.shape == (3, 1) and heard.shape == (3, 1) and runs.shape == (3, 5) and both.shape == (3, 2)
    np.testing.assert_allclose(runs, seen + 3 * np.arange(-2, 3) / 255, atol=1e-5)
    with pytest.raises(ValueError, match="doesn't embed image"):
        embed([still, FakeModel(frames=None)], videos, seed=0)


def greys(frames):
    return frames.mean(dim=(2, 3, 4))


def means(samples):
    return samples.mean(dim=1)


def test_a_table_gives_files_several_labels(tmp_path):
    (tmp_path / "list.csv").write_text('file,labels\nsub/a_000010_000020.mp4,"Bird vocalization, bird call; Drum"\n')
    [video], tree = labelled.find_labelled(tmp_path / "list.csv")
    assert video.labels == ("Bird vocalization, bird call", "Drum") and tree is None
    assert (video.name, video.group) == (str(tmp_path / "sub/a_000010_000020.mp4"), "a")
    (tmp_path / "other.csv").write_text("name,labels\na,b\n")
    with pytest.raises(ValueError, match="needs the columns file, labels; it has name, labels"):
        labelled.find_labelled(tmp_path / "other.csv")


def test_files_of_one_name_in_two_folders_are_two_places_and_cuts_of_one_video_are_one(tmp_path):
    names = ["cat/0001.mp4", "cat/abcdefghijk_000010_000020.mp4", "dog/0001.mp4", "dog/abcdefghijk_000030_000040.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("file,labels\n" + "".join(f"{name},pets\n" for name in names))
    for data in (tmp_path, tmp_path / "list.csv"):
        places = [video.group for video in labelled.find_labelled(data)[0]]
        assert places == ["cat/0001", "abcdefghijk", "dog/0001", "abcdefghijk"]


@pytest.mark.parametrize("row", ["b.mp4", "b.mp4,Bird vocalization, bird call"])
def test_a_row_with_too_few_or_too_many_columns_is_named(tmp_path, row):
    (tmp_path / "list.csv").write_text(f"file,labels\na.mp4,Drum\n{row}\n")
    with pytest.raises(ValueError, match=r"line 3 of .*list\.csv .* 2 columns file, labels .*'b\.mp4'"):
        labelled.find_labelled(tmp_path / "list.csv")


def test_a_table_that_excel_wrote_is_read(tmp_path):
    (tmp_path / "list.csv").write_text("file,labels\na.mp4,Dröhnen\n", encoding="utf-8-sig")
    assert [video.labels for video in labelled.find_labelled(tmp_path / "list.csv")[0]] == [("Dröhnen",)]
