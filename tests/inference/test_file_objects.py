"""Wherever a path is taken, a binary file object gives the same, to the last digit."""

import contextlib
import gc
import io
import subprocess
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from red_boxes import Red, click, red_clip
from videos import noise, write_sound, write_video

import openavc

RATE = 24_000
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
RGB16 = np.random.default_rng(0).integers(0, 65_536, (40, 50, 3), np.uint16)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch, one_thread):
    """Give temporary files a folder of their own, which is empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write files that different readers read, some of them twice."""
    folder = tmp_path_factory.mktemp("files")
    soundfile.write(folder / "sound.wav", noise(2 * RATE), RATE)
    soundfile.write(folder / "double.wav", noise(2 * RATE), RATE, subtype="DOUBLE")
    soundfile.write(folder / "sound.flac", noise(2 * RATE), RATE)
    for name in ("sound.mp3", "sound.ogg"):
        soundfile.write(folder / "one", noise(RATE), RATE, format=name[-3:].upper())
        (folder / name).write_bytes((folder / "one").read_bytes() * 2)  # joined
    write_sound(folder / "pcm64.mkv", noise(2 * RATE), RATE, "pcm_s16le")
    (folder / "pcm64.wav").write_bytes(pcm64(noise(2 * RATE)))
    cv2.imwrite(str(folder / "picture.png"), PICTURE)
    cv2.imwrite(str(folder / "deep.png"), RGB16)
    cv2.imwrite(str(folder / "deep.tiff"), RGB16)
    cv2.imwrite(str(folder / "picture.jpg"), PICTURE)
    for name in ("film.mkv", "film.mov"):
        codec = "ffv1" if name.endswith("mkv") else "mpeg4"
        write_video(folder / name, np.arange(8) / 4, codec, sound=noise(16_000))
    red_clip(folder / "red.mkv", sound=click())
    return folder


def pcm64(samples):
    """Return a WAV file of 64-bit whole numbers, which libsndfile doesn't read."""
    body = (samples.astype(np.float64) * 2**63).astype("<i8").tobytes()
    fields = [(1, 2), (1, 2), (RATE, 4), (8 * RATE, 4), (8, 2), (64, 2)]
    header = b"".join(number.to_bytes(size, "little") for number, size in fields)
    chunks = b"WAVEfmt " + (16).to_bytes(4, "little") + header + b"data" + len(body).to_bytes(4, "little") + body
    return b"RIFF" + len(chunks).to_bytes(4, "little") + chunks


@contextlib.contextmanager
def as_opened(path):
    with open(path, "rb") as file:
        yield file


@contextlib.contextmanager
def as_bytes(path):
    yield io.BytesIO(path.read_bytes())


@contextlib.contextmanager
def as_pipe(path):
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as running:
        yield running.stdout


def equal(found, expected):
    """Compare results, nested as they may be, digit by digit."""
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            equal(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


def quietly(call, *arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*arguments)
    return result, [str(warning.message) for warning in caught if warning.category is UserWarning]


SOUNDS = ["sound.wav", "double.wav", "sound.flac", "sound.mp3", "sound.ogg", "pcm64.mkv", "pcm64.wav", "film.mkv"]
PICTURES = ["picture.png", "deep.png", "deep.tiff", "picture.jpg"]
CALLS = {
    "get_audio_embedding": (SOUNDS, lambda x, m: openavc.get_audio_embedding(x, model=m, hop_size=0.5)),
    "stream_audio_embedding": (SOUNDS[:2], lambda x, m: list(openavc.stream_audio_embedding(x, model=m))),
    "get_image_embedding": (PICTURES, lambda x, m: openavc.get_image_embedding(x, m)),
    "get_video_embedding": (["film.mkv", "film.mov"], lambda x, m: openavc.get_video_embedding(x, m)),
    "video_scores": (["film.mkv", "film.mov"], lambda x, m: openavc.video_scores(x, m, frame_rate=2)),
    "correspondence_score, sound": (SOUNDS[:1], lambda x, m: openavc.correspondence_score(x, None, PICTURE, m)),
    "correspondence_score, picture": (
        PICTURES[:1],
        lambda x, m: openavc.correspondence_score(noise(RATE), RATE, x, m),
    ),
    "localize_sound, sound": (["sound.wav"], lambda x, _: openavc.localize_sound(PICTURE, x, model=Red())),
    "localize_sound, picture": (PICTURES[:1], lambda x, _: openavc.localize_sound(x, noise(RATE), RATE, Red())),
    "localize_video": (["red.mkv"], lambda x, _: list(openavc.localize_video(x, Red()))),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_file_object_gives_what_its_path_gives(name, files, model):
    kinds, call = CALLS[name]
    for kind in kinds:
        expected, _ = quietly(call, files / kind, model)
        for opened in (as_opened, as_bytes, as_pipe):
            with opened(files / kind) as file:
                equal(quietly(call, file, model)[0], expected)
                assert not file.closed


def test_lists_may_hold_file_objects_beside_paths_and_arrays(files, model):
    paths = [files / "sound.wav", files / "sound.flac"]
    with open(paths[1], "rb") as file:
        found = openavc.get_audio_embedding([paths[0], file, noise(RATE)], [None, None, RATE], model)
    equal(found[0][:2], openavc.get_audio_embedding(paths, model=model)[0])
    equal(found[0][2], openavc.get_audio_embedding(noise(RATE), RATE, model)[0])
    pictures = [files / "picture.png", files / "deep.png"]
    expected = openavc.correspondence_matrix(paths, None, pictures, model)
    with contextlib.ExitStack() as stack:
        objects = [[stack.enter_context(open(path, "rb")) for path in some] for some in (paths, pictures)]
        equal(openavc.correspondence_matrix(objects[0], None, objects[1], model), expected)
    expected = openavc.get_image_embedding(pictures, model)
    equal(openavc.get_image_embedding([io.BytesIO(path.read_bytes()) for path in pictures], model), expected)


def test_a_video_may_be_localised_with_the_sound_of_another_object(files):
    expected = list(openavc.localize_video(files / "red.mkv", Red(), audio=files / "sound.wav"))
    with open(files / "red.mkv", "rb") as video, open(files / "sound.wav", "rb") as sound:
        equal(list(openavc.localize_video(video, Red(), audio=sound)), expected)


# ------------------------------------------------------------------------------------------------ names and errors


def named(path, name):
    file = io.BytesIO(path.read_bytes())
    file.name = name
    return file


def test_warnings_name_the_object(files, model, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "cut.mp3", noise(10 * RATE), RATE)
    (tmp_path / "cut.mp3").write_bytes((tmp_path / "cut.mp3").read_bytes()[:20_000])
    write_video(tmp_path / "dark.mkv", [0, 0.5, 1.0], sound=np.zeros(12_000))
    for name, call, said in (
        ("quiet.wav", lambda file: openavc.get_audio_embedding(file, model=model), "is silent"),
        ("quiet.wav", lambda file: openavc.get_audio_embedding(file, 8000, model), "has a sample rate of 24000 Hz"),
        ("cut.mp3", lambda file: openavc.get_audio_embedding(file, model=model), "the sound ends early"),
        ("dark.mkv", lambda file: openavc.get_video_embedding(file, model), "is silent"),
    ):
        expected, told_of_path = quietly(call, tmp_path / name)
        result, told = quietly(call, named(tmp_path / name, "a/" + name))
        equal(result, expected)
        assert any(said in message for message in told)
        assert told == [message.replace(str(tmp_path / name), "a/" + name) for message in told_of_path]
        _, told = quietly(call, io.BytesIO((tmp_path / name).read_bytes()))
        assert told == [message.replace(str(tmp_path / name), "<BytesIO>") for message in told_of_path]


WRONG = {
    "audio": lambda x, m: openavc.get_audio_embedding(x, model=m),
    "a list of audio": lambda x, m: openavc.get_audio_embedding([x], model=m),
    "stream": lambda x, m: list(openavc.stream_audio_embedding(x, model=m)),
    "image": lambda x, m: openavc.get_image_embedding(x, m),
    "a list of images": lambda x, m: openavc.get_image_embedding([x], m),
    "video": lambda x, m: openavc.get_video_embedding(x, m),
    "scores": lambda x, m: openavc.video_scores(x, m),
    "score, sound": lambda x, m: openavc.correspondence_score(x, None, PICTURE, m),
    "score, picture": lambda x, m: openavc.correspondence_score(noise(RATE), RATE, x, m),
    "matrix, sound": lambda x, m: openavc.correspondence_matrix([x], None, [PICTURE], m),
    "matrix, picture": lambda x, m: openavc.correspondence_matrix([noise(RATE)], RATE, [x], m),
    "localize, sound": lambda x, _: openavc.localize_sound(PICTURE, x, model=Red()),
    "localize, picture": lambda x, _: openavc.localize_sound(x, noise(RATE), RATE, Red()),
    "localize a video": lambda x, _: list(openavc.localize_video(x, Red())),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_binary_file_is_refused_by_every_function(name, model):
    call = WRONG[name]
    junk, cut = io.BytesIO(b"nothing that is known " * 10), named(Path(__file__), "cut.mp3")
    for file, error, said in (
        (io.StringIO("RIFF"), TypeError, r"<StringIO> gives text, not bytes: open it with open\(\.\.\., 'rb'\)"),
        (io.BytesIO(), OSError, "<BytesIO> gave no bytes: it is empty, or stands at its end"),
        (junk, OSError, r"<BytesIO> \(220 bytes\) can't be decoded"),
        (cut, OSError, r"^cut\.mp3 "),
        (b"RIFF", TypeError, r"got bytes: if it is the content of a file, pass io\.BytesIO"),
        (io.BytesIO, TypeError, "got type"),
    ):
        if name == "stream" and isinstance(file, bytes):
            continue  # an iterable, of numbers
        with pytest.raises(error, match=said):
            call(file, model)


def test_wrong_options_are_told_before_an_object_is_read(files, model):
    with open(files / "film.mkv", "rb") as file:
        for call in (
            lambda: openavc.get_audio_embedding(file, model=model, hop_size=0),
            lambda: openavc.get_image_embedding(file, model, embedding="none"),
            lambda: openavc.get_video_embedding(file, model, batch_size=0),
            lambda: openavc.video_scores(file, model, frame_rate=0),
            lambda: openavc.localize_video(file, Red(), frame_rate=0),
        ):
            with pytest.raises(ValueError):
                call()
            assert file.tell() == 0
        file.seek(0)
        once = openavc.get_audio_embedding(file, model=model)
        file.seek(0)
        equal(openavc.get_audio_embedding(file, model=model), once)


# ---------------------------------------------------------------------------------------------- what is left behind


def test_a_copy_lasts_as_long_as_a_stream_that_may_be_dropped(files, model, temporary):
    with open(files / "sound.wav", "rb") as file:
        stream = openavc.stream_audio_embedding(file, model=model, batch_size=1)
        assert list(temporary.iterdir()) == []
        next(stream)
        assert len(list(temporary.iterdir())) == 1
        del stream
        assert list(temporary.iterdir()) == []
    with open(files / "red.mkv", "rb") as file:
        maps = openavc.localize_video(file, Red())
        next(maps)
        assert len(list(temporary.iterdir())) == 1
        maps.close()
        assert list(temporary.iterdir()) == []


def test_no_copy_is_left_while_an_error_is_handled(files, model, temporary, tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(RATE) == 99, np.nan, 0.5), RATE, subtype="FLOAT")
    for path, call, error in (
        (files / "picture.png", lambda file: openavc.get_audio_embedding(file, model=model), OSError),
        (tmp_path / "nan.wav", lambda file: openavc.get_audio_embedding(file, model=model), ValueError),
        (files / "sound.wav", lambda file: openavc.get_image_embedding(file, model), OSError),
        (files / "sound.wav", lambda file: openavc.get_video_embedding(file, model), OSError),
        (files / "sound.wav", lambda file: openavc.localize_video(file, Red()), OSError),
    ):
        with open(path, "rb") as file, pytest.raises(error) as caught:
            call(file)
        assert caught.value.__traceback__
        assert list(temporary.iterdir()) == []
