"""Photographs and recordings by class to shards: one form, origins on one side, what is left out or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from by_class import PITCHES, tone, write_classes, write_picture, write_sound
from click.testing import CliRunner
from PIL import Image

import training.prepare
from training.corpora.by_class import CommonForm, bandwidth, find_class_files, loud_stretch, read_numbers, without
from training.corpora.origins import identify_origin
from training.corpora.shards import Shards
from training.prepare import prepare, write_shard
from training.publish.card import describe_corpora

FORM = CommonForm(size=24, sample_rate=8000, sound_format="wav", quality=95)


@pytest.fixture
def in_this_process(monkeypatch):
    """Write shards without processes of their own, which take their time to start."""

    def write(_, jobs, number):
        for job in jobs:
            write_shard(*job)
        return []

    monkeypatch.setattr("training.prepare.write_in_processes", write)


def shards_of(folder: Path, files, **options) -> Shards:
    assert prepare(files, folder, FORM, workers=1, **options) == []
    return Shards(folder)


@pytest.mark.parametrize(
    ("path", "collection", "origin"),
    [
        ("audio/fold1/101415-3-0-2.wav", "urban", "freesound:101415"),
        ("x/101415__someone__a-dog.wav", "", "freesound:101415"),
        ("audio/2-101415-A-12.wav", "kitchen", "freesound:101415"),
        ("data/1-22694-B.ogg", "cries", "freesound:22694"),
        ("data/BabyCrawling/v_BabyCrawling_g25_c02.avi#t=3", "ucf", "ucf:v_BabyCrawling_g25"),
        ("Actor_12/03-01-05-01-02-01-12.wav", "faces", "faces:12"),
        ("recordings/7_jackson_32.wav", "digits", "digits:jackson"),
        (
            "belly_pain/643D64AD-B711-469A-AF69-55C0D5D3E30F-1430138591-1.0-m-72-bp.wav",
            "cries",
            "cries:643D64AD-B711-469A-AF69-55C0D5D3E30F",
        ),
        ("audio/oboe/oboe_Fs4_15_mezzo-forte_normal.mp3", "orchestra", "orchestra:oboe_Fs4"),
        ("laugh/laugh_1.m4a_24.wav", "cries", "cries:laugh_1.m4a"),
        ("Kopek-Part1/dog_84.wav", "animals", "animals:Kopek-Part1/dog_84"),
        ("dog_84.wav", "", "dog_84"),
    ],
)
def test_the_name_of_a_public_collections_file_tells_its_origin(path, collection, origin):
    assert identify_origin(path, collection) == origin


def test_photographs_are_frames_without_sound_and_recordings_sound_without_frames(in_this_process, tmp_path):
    pictures, sounds, about = write_classes(tmp_path)
    shards = shards_of(tmp_path / "shards", find_class_files(pictures, sounds, about))
    assert shards.classes == ["cat", "dog", "train"]
    photographs = [clip for clip in shards.clips if len(clip.frame_times)]
    recordings = [clip for clip in shards.clips if clip.samples]
    assert (len(photographs), len(recordings), len(shards.clips)) == (18, 12, 30)
    for clip in photographs:
        frame = shards.frame(clip, 0)
        assert frame.shape == (24, 32, 3)
        assert frame.mean(axis=(0, 1)).argmax() == shards.classes.index(clip.labels[0])
    for clip in recordings:
        heard = shards.sound(clip, 0.75, 1.0, 8000)[:, 0]
        assert clip.sample_rate == 8000
        assert clip.seconds == pytest.approx(1.5, abs=0.02)
        assert 0 <= np.abs(np.fft.rfft(heard)).argmax() - PITCHES[clip.labels[0]] <= 60
        assert np.abs(heard).max() == pytest.approx(0.9, abs=0.01)
    known = shards.about(next(clip for clip in recordings if clip.labels == ("train",)))
    assert known["kind"] == "recording"
    assert (known["repository"], known["category"]) == ("two/sounds", "things")
    assert known["traces"]["sample_rate"] == 16_000


def test_a_photograph_is_upright_and_shrunk_but_never_enlarged(in_this_process, tmp_path):
    wide, small = write_picture(tmp_path / "P/cat/wide.jpg", (90, 90, 90), (100, 50)), tmp_path / "P/cat/small.png"
    turned = Image.open(wide)
    exif = turned.getexif()
    exif[274] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / "P/cat/turned.jpg", exif=exif)
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(small)
    write_sound(tmp_path / "S/cat/a.wav", tone(500, 1))
    shards = shards_of(tmp_path / "shards", find_class_files(tmp_path / "P", tmp_path / "S"))
    found = {clip.source: shards.frame(clip, 0) for clip in shards.clips if len(clip.frame_times)}
    assert found["wide"].shape == (24, 48, 3)
    assert found["turned"].shape == (48, 24, 3)
    assert found["small"].shape == (10, 20, 3)
    assert found["small"].min() > 0.98  # transparent: on white
    [traces] = [shards.about(clip)["traces"] for clip in shards.clips if clip.source == "wide"]
    assert traces == {"bytes": wide.stat().st_size, "width": 100, "height": 50}


def test_silence_around_a_recording_is_cut_off_and_a_silent_one_named(in_this_process, tmp_path):
    quiet = np.concatenate([np.zeros(8000), tone(1000, 0.5, level=0.01), np.zeros(16_000)])
    write_sound(tmp_path / "S/cat/padded.wav", quiet)
    write_sound(tmp_path / "S/cat/nothing.wav", np.zeros(8000))
    (tmp_path / "S/cat/broken.wav").write_bytes(b"no sound")
    write_picture(tmp_path / "P/cat/a.jpg", (9, 9, 9))
    (tmp_path / "P/cat/broken.jpg").write_bytes(b"no picture")
    failures = prepare(find_class_files(tmp_path / "P", tmp_path / "S"), tmp_path / "out", FORM, workers=1)
    assert sorted(Path(failure["video"]).name for failure in failures) == ["broken.jpg", "broken.wav", "nothing.wav"]
    assert any("is silent" in failure["reason"] for failure in failures)
    [clip] = [clip for clip in Shards(tmp_path / "out").clips if clip.samples]
    assert clip.seconds == pytest.approx(0.5, abs=0.02)
    assert Shards(tmp_path / "out").about(clip)["traces"]["padding"] == pytest.approx(1.5, abs=0.02)


def test_bandwidth_is_where_the_energy_ends():
    noise = np.random.default_rng(0).normal(size=16_000)
    spectrum = np.fft.rfft(noise)
    spectrum[3000:] = 0
    assert bandwidth(np.fft.irfft(spectrum) + 5, 16_000) == pytest.approx(3000, abs=15)
    assert loud_stretch(np.zeros(100), 8000, -60) == (0, 0)


def test_cuts_of_one_recording_fall_on_one_side_whatever_the_share(in_this_process, tmp_path):
    for number in range(20):
        for cut in range(3):
            write_sound(tmp_path / f"S/dog/{7000 + number}-3-0-{cut}.wav", tone(400 + 10 * number + cut, 0.1))
        write_picture(tmp_path / f"P/dog/v_Dog_g{number:02d}_c01.jpg", (9, 9, 9))
        write_picture(tmp_path / f"P/dog/v_Dog_g{number:02d}_c02.jpg", (9, 9, 99))
    files = find_class_files(tmp_path / "P", tmp_path / "S")
    assert prepare(files, tmp_path / "out", FORM, workers=1, held=0.4) == []
    sides = [{clip.source for clip in Shards(tmp_path / "out" / name).clips} for name in ("train", "held")]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 40
    assert all(any(source.startswith("freesound") for source in side) for side in sides)


def test_held_repositories_go_apart_with_the_others_of_their_origins(in_this_process, tmp_path):
    pictures, sounds, about = write_classes(tmp_path)
    shared = write_sound(tmp_path / "SOUNDS/cat/again.wav", tone(510, 1))
    with about.open("a") as file:
        file.write(f"{shared.relative_to(tmp_path)},three,5-3-0-1.wav,animals\n")
    about.write_text(about.read_text().replace("audio/cat0.wav", "5-3-0-0.wav"))
    files = find_class_files(pictures, sounds, about)
    prepare(files, tmp_path / "out", FORM, workers=1, held=0.3, apart=["two/sounds", "two/photos:dog/*"])
    apart, train, held = (Shards(tmp_path / "out" / name) for name in ("held-sources", "train", "held"))
    known = [apart.about(clip) for clip in apart.clips]
    assert {about["repository"] for about in known} == {"two/sounds", "two/photos", "three"}
    assert {about["labels"][0] for about in known if about["repository"] == "two/photos"} == {"dog"}
    assert sum(about["source"] == "freesound:5" for about in known) == 2
    assert len(apart.clips) + len(train.clips) + len(held.clips) == 31
    record = json.loads((tmp_path / "out/train/corpus.json").read_text())
    assert record["held_sources"] == ["two/sounds", "two/photos:dog/*"]
    assert record["photographs"] + record["recordings"] == len(train.clips)
    assert sum(record["repositories"].values()) == len(train.clips)
    assert "paired by their class, not learned from video" in describe_corpora([record])


def test_sounds_of_given_freesound_numbers_are_left_out(tmp_path):
    pictures, sounds, _ = write_classes(tmp_path)
    for name in ("101415-3-0-2.wav", "1-101415-A-0.wav", "101415__someone__dog.wav", "101416-3-0-2.wav"):
        write_sound(sounds / "dog" / name, tone(1500, 0.5))
    (tmp_path / "numbers.txt").write_text("22694\n101415\n")
    files = find_class_files(pictures, sounds)
    kept = without(files, read_numbers(tmp_path / "numbers.txt"))
    gone = {Path(file.path).name for file in files} - {Path(file.path).name for file in kept}
    assert gone == {"101415-3-0-2.wav", "1-101415-A-0.wav", "101415__someone__dog.wav"}
    (tmp_path / "numbers.txt").write_text("22694\ndog.wav\n")
    with pytest.raises(ValueError, match=r"must hold numbers of Freesound, one a line, got 'dog\.wav'"):
        read_numbers(tmp_path / "numbers.txt")


def test_the_same_files_give_the_same_shards(tmp_path):
    pictures, sounds, about = write_classes(tmp_path)
    for name in ("one", "two"):
        prepare(find_class_files(pictures, sounds, about), tmp_path / name, FORM, workers=2, held=0.3)
    for side in ("train", "held"):
        assert (tmp_path / "one" / side / "000000.tar").read_bytes() == (
            tmp_path / "two" / side / "000000.tar"
        ).read_bytes()


def test_classes_without_a_partner_are_told(tmp_path):
    pictures, sounds, _ = write_classes(tmp_path)
    write_picture(pictures / "moon/a.jpg", (9, 9, 9))
    with pytest.warns(UserWarning, match="left out, without photographs or without recordings: moon"):
        assert {file.labels for file in find_class_files(pictures, sounds)} == {("cat",), ("dog",), ("train",)}
    with pytest.raises(ValueError, match="no class has files in both"):
        find_class_files(tmp_path, tmp_path)
    (tmp_path / "wrong.csv").write_text("name,colour\na,b\n")
    with pytest.raises(ValueError, match="names a column 'file', got the columns name, colour"):
        find_class_files(pictures, sounds, tmp_path / "wrong.csv")


def test_the_command_packs_classes_and_refuses_what_belongs_to_videos(tmp_path):
    pictures, sounds, about = write_classes(tmp_path)
    (tmp_path / "ids.txt").write_text("1\n")
    write_sound(sounds / "dog/1-3-0-2.wav", tone(1500, 0.5))
    classes = ["--by-class", str(pictures), str(sounds), "--output", str(tmp_path / "out"), "--workers", "1"]
    options = ["--about", str(about), "--leave-out", str(tmp_path / "ids.txt"), "--held", "0.3", "--size", "20"]
    result = CliRunner().invoke(training.prepare.main, [*classes, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "30 files done, 0 failed, 1 left out" in result.output
    for more, told in (
        (["--clip-seconds", "3"], "--clip-seconds is for videos"),
        ([str(tmp_path)], "one of the two"),
    ):
        refused = CliRunner().invoke(training.prepare.main, [*classes, *more])
        assert refused.exit_code == 2
        assert told in refused.output
    alone = CliRunner().invoke(training.prepare.main, [str(tmp_path), "--output", "x", "--about", str(about)])
    assert "--about is for --by-class" in alone.output
