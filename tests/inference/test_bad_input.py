"""Invalid input is refused with a built-in exception that repeats it; odd but valid input is embedded."""

import csv
import itertools
import json
import os
import struct
import warnings

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

import openavc
from openavc.media.audio import open_audio
from openavc.media.video import Video, read_frames
from openavc.models.contract import EmbedsAudio, EmbedsFrames, FramesInput, SoundInput

SR = 24_000  # Hz
SOUND = np.sin(np.arange(2 * SR) / 10).astype(np.float32) / 2
PICTURE = np.full((8, 9, 3), 100, np.uint8)
NAN_SOUND = np.where(np.arange(100) == 42, np.nan, 0.5).astype(np.float32)
SETTINGS = {  # of the model in conftest.py
    "architecture": "ave",
    "widths": [4, 4, 8, 8],
    "frontend": "mel64",
    "image_size": 64,
    "one_pass": True,
    "features": "blocks",
    "joint_size": 8,
}


class Deaf(EmbedsFrames):
    """Embeds pictures only."""

    def __init__(self):
        super().__init__(None, FramesInput(16, 16), {"image": {"features": 1}})
        self.name = "deaf"

    def embed_frames(self, frames, embedding="features"):
        raise AssertionError("it isn't asked to")


class Blind(EmbedsAudio):
    """Embeds sound only."""

    def __init__(self):
        super().__init__(SoundInput(SR, 1.0), None, {"audio": {"features": 1}})
        self.name = "blind"

    def embed_audio(self, spectrogram, embedding="features"):
        raise AssertionError("it isn't asked to")


def audio(*arguments, **options):
    return lambda model: openavc.get_audio_embedding(*arguments, **{"model": model, **options})


def image(*arguments, **options):
    return lambda model: openavc.get_image_embedding(*arguments, **{"model": model, **options})


def video(*arguments, **options):
    return lambda model: openavc.get_video_embedding(*arguments, **{"model": model, **options})


def stream(*arguments, **options):
    return lambda model: list(openavc.stream_audio_embedding(*arguments, **{"model": model, **options}))


def score(*arguments, **options):
    return lambda model: openavc.correspondence_score(*arguments, **{"model": model, **options})


def matrix(*arguments, **options):
    return lambda model: openavc.correspondence_matrix(*arguments, **{"model": model, **options})


def localize(*arguments, **options):
    return lambda model: openavc.localize_sound(*arguments, **{"model": model, **options})


def load(*arguments, **options):
    return lambda _: openavc.load_model(*arguments, **options)


def info(name):
    return lambda _: openavc.model_info(name)


def write_film(path, picture_codec, sound_codec=None, frames=10):
    """Write grey frames at 25 per second, and a tone, both 0.4 s long."""
    with av.open(str(path), "w") as file:
        video = file.add_stream(picture_codec, rate=25, width=32, height=32, pix_fmt="yuv420p")
        audio = sound_codec and file.add_stream(sound_codec, rate=48_000, layout="stereo")
        for number in range(frames):
            grey = np.full((32, 32, 3), 20 * number, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(video.encode())
        if audio:
            samples = np.repeat(SOUND[:9_600], 4)[None]  # to 48 kHz, stereo
            frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16), "s16", "stereo")
            frame.sample_rate = 48_000
            for part in av.AudioResampler(audio.format, "stereo", 48_000, audio.frame_size or 1024).resample(frame):
                file.mux(audio.encode(part))
            file.mux(audio.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Write the files that the calls below name."""
    path = tmp_path_factory.mktemp("files")
    soundfile.write(path / "sound.wav", SOUND, SR)
    soundfile.write(path / "noise.raw", SOUND, SR, format="WAV")  # soundfile takes this name for samples alone
    soundfile.write(path / "nan.wav", NAN_SOUND, SR, subtype="FLOAT")
    late = np.zeros(31 * 8_000, np.float32)  # longer than one block
    late[30 * 8_000 + 500] = np.inf
    soundfile.write(path / "late_inf.wav", late, 8_000, subtype="FLOAT")
    cv2.imwrite(str(path / "picture.png"), PICTURE)
    write_film(path / "mute.mkv", "ffv1", frames=1)
    write_film(path / "film.mp4", "mpeg4", "aac")
    write_film(path / "film.ts", "mpeg2video", "mp2")
    write_film(path / "film.mkv", "libvpx", "pcm_s16le")
    for name in ("empty.wav", "empty.png", "empty.mp4", "empty.safetensors"):
        (path / name).touch()
    for name in ("text.wav", "text.png", "text.mp4", "text.safetensors"):
        (path / name).write_text("not what its name says\n" * 20)
    (path / "folder").mkdir()
    os.mkfifo(path / "pipe.png")
    (path / "folder.safetensors").mkdir()
    weights = model.state_dict()
    for name, metadata in {
        "tiny": json.dumps(SETTINGS),
        "other": json.dumps(SETTINGS | {"joint_size": 16}),
        "unknown": json.dumps({"architecture": "vgg"}),
        "garbled": "{architecture",
        "list": "[]",
    }.items():
        save_file(weights, path / f"{name}.safetensors", metadata={"architecture": metadata})
    save_file(weights, path / "foreign.safetensors")
    return path


BAD = {
    # arrays
    "no samples": (audio(np.zeros(0), SR), ValueError, "(0,)"),
    "no channels": (audio(np.zeros((100, 0)), SR), ValueError, "(100, 0)"),
    "channels first": (audio(np.zeros((2, 44_100)), SR), ValueError, "(2, 44100)"),
    "three dimensions": (audio(np.zeros((1, 2, 3)), SR), ValueError, "(1, 2, 3)"),
    "a single number": (audio(np.float32(0.5), SR), TypeError, "float32"),
    "no dimension": (audio(np.array(0.5), SR), ValueError, "()"),
    "NaN": (audio(NAN_SOUND, SR), ValueError, "sample 42"),
    "infinity": (audio(np.array([0, 0, -np.inf]), SR), ValueError, "sample 2"),
    "beyond float32": (audio(np.array([0, 1e300]), SR), ValueError, "sample 1"),
    "NaN in a tensor": (audio(torch.from_numpy(NAN_SOUND), SR), ValueError, "sample 42"),
    "complex": (audio(SOUND.astype(complex), SR), TypeError, "complex128"),
    "bool": (audio(SOUND > 0, SR), TypeError, "bool"),
    "text": (audio(np.array(["a", "b"]), SR), TypeError, "<U1"),
    "objects": (audio(np.array([1, None]), SR), TypeError, "object"),
    "a complex tensor": (audio(torch.zeros(9, dtype=torch.complex64), SR), TypeError, "complex64"),
    "a list of numbers": (audio([0.1, 0.2], SR), TypeError, "float"),
    "a tuple": (audio((SOUND, SOUND), SR), TypeError, "tuple"),
    "nothing": (audio(None, SR), TypeError, "NoneType"),
    "bytes": (audio(b"sound.wav", SR), TypeError, "bytes"),
    # rates
    "no rate": (audio(SOUND), ValueError, "sr is required"),
    "rate 0": (audio(SOUND, 0), ValueError, "got 0"),
    "negative rate": (audio(SOUND, -44_100), ValueError, "-44100"),
    "rate True": (audio(SOUND, True), ValueError, "True"),
    "rate NaN": (audio(SOUND, float("nan")), ValueError, "nan"),
    "rate infinite": (audio(SOUND, float("inf")), ValueError, "inf"),
    "half a hertz": (audio(SOUND, 44_100.5), ValueError, "44100.5"),
    "rate as text": (audio(SOUND, "44100"), TypeError, "'44100'"),
    "rate as an array": (audio(SOUND, np.array([SR])), TypeError, "array([24000])"),
    "complex rate": (audio(SOUND, 1j), TypeError, "1j"),
    "too few rates": (audio([SOUND, SOUND, SOUND], [SR, SR]), ValueError, "2 sample rates were given for 3"),
    "one bad rate of two": (audio([SOUND, SOUND], [SR, 0]), ValueError, "got 0"),
    # lists
    "empty list": (audio([], SR), ValueError, "empty"),
    "nested list": (audio([[SOUND]], SR), TypeError, "list"),
    "None in a list": (audio([SOUND, None], SR), TypeError, "NoneType"),
    # options
    "hop 0": (audio(SOUND, SR, hop_size=0), ValueError, "got 0"),
    "negative hop": (audio(SOUND, SR, hop_size=-0.1), ValueError, "-0.1"),
    "hop NaN": (audio(SOUND, SR, hop_size=float("nan")), ValueError, "nan"),
    "hop infinite": (audio(SOUND, SR, hop_size=float("inf")), ValueError, "inf"),
    "hop below a sample": (audio(SOUND, SR, hop_size=1e-6), ValueError, "1e-06"),
    "hop as text": (audio(SOUND, SR, hop_size="0.1"), ValueError, "'0.1'"),
    "hop True": (audio(SOUND, SR, hop_size=True), ValueError, "True"),
    "batch of 0": (audio(SOUND, SR, batch_size=0), ValueError, "got 0"),
    "negative batch": (image(PICTURE, batch_size=-4), ValueError, "-4"),
    "batch of 1.5": (audio(SOUND, SR, batch_size=1.5), ValueError, "1.5"),
    "batch True": (image(PICTURE, batch_size=True), ValueError, "True"),
    "no batch": (video("mute.mkv", batch_size=None), ValueError, "None"),
    "unknown embedding": (audio(SOUND, SR, embedding="feature"), ValueError, "'feature'"),
    "no embedding": (image(PICTURE, embedding=None), ValueError, "None"),
    "unknown embedding of a video": (video("mute.mkv", embedding="both"), ValueError, "'both'"),
    "unknown device": (audio(SOUND, SR, device="gpu9"), ValueError, "'gpu9'"),
    "absent device": (image(PICTURE, device="xpu:7"), ValueError, "'xpu:7'"),
    "unknown dtype": (audio(SOUND, SR, dtype="float99"), ValueError, "'float99'"),
    "whole-number dtype": (image(PICTURE, dtype=torch.int32), ValueError, "torch.int32"),
    # sound files
    "missing sound": (audio("none.wav"), FileNotFoundError, "none.wav"),
    "device as sound": (audio("/dev/zero"), OSError, "/dev/zero is a device, not a regular file"),
    "folder as sound": (audio("folder"), IsADirectoryError, "folder"),
    "empty sound file": (audio("empty.wav"), OSError, "empty.wav (0 bytes)"),
    "text as sound": (audio("text.wav"), OSError, "text.wav"),
    "picture as sound": (audio("picture.png"), OSError, "picture.png"),
    "sound of a mute video": (audio("mute.mkv"), OSError, "mute.mkv holds no sound"),
    "NaN in a file": (audio("nan.wav"), ValueError, "nan.wav holds 1 NaN or infinite samples, the first at sample 42"),
    "infinity late in a file": (audio("late_inf.wav"), ValueError, "sample 240500"),
    "missing sound in a list": (audio(["sound.wav", "none.wav"]), FileNotFoundError, "none.wav"),
    # pictures
    "no pixels": (image(np.zeros((0, 5, 3), np.uint8)), ValueError, "(0, 5, 3)"),
    "no pictures": (image(np.zeros((0, 5, 5, 3), np.uint8)), ValueError, "(0, 5, 5, 3)"),
    "picture in one dimension": (image(np.zeros(5, np.uint8)), ValueError, "(5,)"),
    "two channels": (image(np.zeros((5, 6, 2), np.uint8)), ValueError, "(5, 6, 2)"),
    "picture in five dimensions": (image(np.zeros((1, 1, 5, 5, 3), np.uint8)), ValueError, "(1, 1, 5, 5, 3)"),
    "floats to 255": (image(PICTURE.astype(float)), ValueError, "divide by 255"),
    "negative floats": (image(PICTURE / -255), ValueError, "-0.39"),
    "NaN picture": (image(np.full((5, 5, 3), np.nan)), ValueError, "nan"),
    "infinite picture": (image(np.full((5, 5, 3), np.inf)), ValueError, "inf"),
    "int64 picture": (image(PICTURE.astype(np.int64)), TypeError, "int64"),
    "bool picture": (image(PICTURE > 0), TypeError, "bool"),
    "complex picture": (image(PICTURE * 1j), TypeError, "complex128"),
    "picture of None": (image(None), TypeError, "NoneType"),
    "picture of a number": (image(5), TypeError, "int"),
    "tuple of pictures": (image((PICTURE, PICTURE)), TypeError, "tuple"),
    "empty list of pictures": (image([]), ValueError, "empty"),
    "nested list of pictures": (image([[PICTURE]]), TypeError, "list"),
    "missing picture": (image("none.png"), FileNotFoundError, "none.png"),
    "pipe as picture": (image("pipe.png"), OSError, "pipe.png is a FIFO"),
    "folder as picture": (image("folder"), IsADirectoryError, "folder"),
    "empty picture file": (image("empty.png"), OSError, "empty.png (0 bytes)"),
    "text as picture": (image("text.png"), OSError, "text.png"),
    "sound as picture": (image("sound.wav"), OSError, "sound.wav"),
    "frame rate 0": (image(PICTURE, frame_rate=0), ValueError, "got 0"),
    "frame rate NaN": (image(PICTURE, frame_rate=float("nan")), ValueError, "nan"),
    "frame rate True": (image(PICTURE, frame_rate=True), ValueError, "True"),
    "frame rate as text": (image(PICTURE, frame_rate="25"), ValueError, "'25'"),
    "too few frame rates": (image([PICTURE] * 3, frame_rate=[1, 2]), ValueError, "2 frame rates were given for 3"),
    "no frame rate for one": (image([PICTURE] * 2, frame_rate=[1, None]), ValueError, "None"),
    # videos
    "missing video": (video("none.mp4"), FileNotFoundError, "none.mp4"),
    "pipe as video": (video("pipe.png"), OSError, "pipe.png is a FIFO"),
    "folder as video": (video("folder"), IsADirectoryError, "folder"),
    "empty video": (video("empty.mp4"), OSError, "empty.mp4 (0 bytes)"),
    "text as video": (video("text.mp4"), OSError, "text.mp4"),
    "video without sound": (video("mute.mkv"), OSError, "mute.mkv holds no sound"),
    "video without pictures": (video("sound.wav"), OSError, "sound.wav holds no pictures"),
    "video as an array": (video(PICTURE), TypeError, "ndarray"),
    "list of videos": (video(["mute.mkv"]), TypeError, "list"),
    "negative frame rate": (video("mute.mkv", frame_rate=-1), ValueError, "-1"),
    "infinite frame rate": (video("mute.mkv", frame_rate=float("inf")), ValueError, "inf"),
    "list of frame rates for one video": (video("film.mkv", frame_rate=[5.0]), ValueError, "[5.0]"),
    # streams
    "no chunks": (stream([], SR), ValueError, "no chunk held"),
    "chunks without a rate": (stream([SOUND]), ValueError, "sr is required"),
    "chunks at rate 0": (stream([SOUND], 0), ValueError, "got 0"),
    "empty chunk": (stream([SOUND[:0], SOUND[:0]], SR), ValueError, "no chunk held"),
    "chunk with channels first": (stream([SOUND.reshape(2, -1)], SR), ValueError, "(2, 24000)"),
    "chunk of None": (stream([SOUND, None], SR), TypeError, "NoneType"),
    "chunk of NaN": (stream([NAN_SOUND], SR), ValueError, "sample 42"),
    "stream of a number": (stream(5, SR), TypeError, "int"),
    "stream of a missing file": (stream("none.wav"), FileNotFoundError, "none.wav"),
    "stream with hop 0": (stream([SOUND], SR, hop_size=0), ValueError, "got 0"),
    # scores
    "score without a rate": (score(SOUND, None, PICTURE), ValueError, "sr is required"),
    "score of NaN": (score(NAN_SOUND, SR, PICTURE), ValueError, "sample 42"),
    "score of a bad picture": (score(SOUND, SR, PICTURE.transpose(2, 0, 1)), ValueError, "(3, 8, 9)"),
    "score of no pictures": (score(SOUND, SR, []), ValueError, "empty"),
    "score of no sounds": (score([], SR, PICTURE), ValueError, "empty"),
    "2 sounds, 3 pictures": (score([SOUND] * 2, SR, [PICTURE] * 3), ValueError, "2 recordings can't be paired with 3"),
    "score of a missing sound": (score("none.wav", None, PICTURE), FileNotFoundError, "none.wav"),
    "score of a missing picture": (score(SOUND, SR, "none.png"), FileNotFoundError, "none.png"),
    "score on an unknown device": (score(SOUND, SR, PICTURE, device="gpu9"), ValueError, "'gpu9'"),
    "matrix without a rate": (matrix([SOUND], None, [PICTURE]), ValueError, "sr is required"),
    "matrix of no sounds": (matrix([], SR, [PICTURE]), ValueError, "empty"),
    "matrix of no pictures": (matrix([SOUND], SR, []), ValueError, "empty"),
    "matrix with too many rates": (matrix([SOUND], [SR, SR], [PICTURE]), ValueError, "2 sample rates were given for 1"),
    "matrix of None": (matrix([None], SR, [PICTURE]), TypeError, "NoneType"),
    # models
    "sound of a deaf model": (audio(SOUND, SR, model=Deaf()), ValueError, "deaf doesn't embed audio"),
    "picture of a blind model": (image(PICTURE, model=Blind()), ValueError, "blind doesn't embed image"),
    "video of a deaf model": (video("mute.mkv", model=Deaf()), ValueError, "deaf doesn't embed audio"),
    "score of a deaf model": (score(SOUND, SR, PICTURE, model=Deaf()), ValueError, "deaf can't compare"),
    "map of a deaf model": (localize(PICTURE, SOUND, SR, model=Deaf()), ValueError, "deaf can't localise"),
    "map of a blind model": (localize(PICTURE, SOUND, SR, model=Blind()), ValueError, "blind can't localise"),
    "video of a blind model": (video("mute.mkv", model=Blind()), ValueError, "blind doesn't embed image"),
    "score of a blind model": (score(SOUND, SR, PICTURE, model=Blind()), ValueError, "blind can't compare"),
    "a network of another kind": (audio(SOUND, SR, model=torch.nn.Linear(2, 2)), TypeError, "Linear"),
    "model as a number": (image(PICTURE, model=3), TypeError, "int"),
    "unknown model": (matrix([SOUND], SR, [PICTURE], model="xyz"), ValueError, "'xyz'"),
    "missing model file": (load("none.safetensors"), FileNotFoundError, "none.safetensors"),
    "missing model path": (load("models/none"), FileNotFoundError, "models/none"),
    "folder as model": (load("./folder.safetensors"), IsADirectoryError, "folder.safetensors"),
    "empty model name": (load(""), ValueError, "''"),
    "model of bytes": (load(b"tiny"), TypeError, "bytes"),
    "empty weights": (load("empty.safetensors"), OSError, "empty.safetensors"),
    "text as weights": (load("text.safetensors"), OSError, "text.safetensors"),
    "foreign weights": (load("foreign.safetensors"), ValueError, "foreign.safetensors"),
    "unknown architecture": (load("unknown.safetensors"), ValueError, "'vgg'"),
    "garbled architecture": (load("garbled.safetensors"), ValueError, "garbled.safetensors"),
    "architecture of a list": (load("list.safetensors"), ValueError, "list.safetensors"),
    "weights of another size": (load("other.safetensors"), ValueError, "other.safetensors doesn't fit AVENet"),
    "unknown option": (load("tiny.safetensors", joint=3), ValueError, "'joint'"),
    "unknown frontend": (load("tiny.safetensors", frontend="mel65"), ValueError, "'mel65'"),
    "too few widths": (load("tiny.safetensors", widths=(4, 4)), ValueError, "(4, 4)"),
    "model on an unknown device": (load("tiny.safetensors", device="gpu9"), ValueError, "'gpu9'"),
    "model of whole numbers": (load("tiny.safetensors", dtype="int8"), ValueError, "'int8'"),
    "information on an unknown model": (info("xyz"), ValueError, "'xyz'"),
    "information on None": (info(None), TypeError, "NoneType"),
    "information on a number": (info(7), TypeError, "int"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_what_was_received(case, model, folder, monkeypatch):
    monkeypatch.chdir(folder)
    call, error, fragment = BAD[case]
    with pytest.raises(error) as caught:
        call(model)
    assert caught.type is error  # not av.error.InvalidDataError, json.JSONDecodeError ...
    assert fragment in str(caught.value)


def test_a_misspelt_model_name_is_answered_with_the_nearest():
    name = openavc.list_models()[0]
    for call in (openavc.load_model, openavc.model_info):
        with pytest.raises(ValueError, match=f"'{name[:-1]}x'.*did you mean '{name}'"):
            call(name[:-1] + "x")


def test_a_sound_file_may_have_any_extension(model, folder):
    embedding, _ = openavc.get_audio_embedding(folder / "noise.raw", model=model)
    expected, _ = openavc.get_audio_embedding(folder / "sound.wav", model=model)
    np.testing.assert_array_equal(embedding, expected)


# ------------------------------------------------------------------------------------- silence and short sound


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    assert all(warning.category is UserWarning for warning in caught)
    return result, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "waveform, windows, word",
    [
        (np.zeros(2 * SR), 16, "silent"),  # 1 + (2.5 - 1) / 0.1
        (np.zeros(2 * SR, np.int16), 16, "silent"),
        (np.full(2 * SR, 128, np.uint8), 16, "silent"),
        (SOUND[: SR // 4], 1, "0.25 s"),
        (SOUND[1:2], 1, "shorter"),
        (np.zeros(10), 1, "silent"),
        (SOUND[:SR], 6, None),
    ],
    ids=["silence", "int16 silence", "uint8 silence", "a quarter second", "one sample", "short silence", "one window"],
)
def test_silence_and_short_sound_are_embedded_with_one_warning(waveform, windows, word, model, tmp_path):
    chunks = np.array_split(waveform, min(3, len(waveform)))
    soundfile.write(tmp_path / "a.wav", waveform if waveform.dtype != np.uint8 else np.zeros(2 * SR), SR)
    for call in (
        lambda: openavc.get_audio_embedding(waveform, SR, model),
        lambda: openavc.get_audio_embedding(tmp_path / "a.wav", model=model),
        lambda: [np.stack(column) for column in zip(*openavc.stream_audio_embedding(chunks, SR, model), strict=True)],
    ):
        (embedding, timestamps), messages = warnings_of(call)
        assert embedding.shape == (windows, 40)
        assert np.isfinite(embedding).all()
        np.testing.assert_allclose(timestamps, np.arange(windows) / 10)
        assert len(messages) == (word is not None)
        assert all(word in message for message in messages)


def test_the_warning_names_the_file_that_is_silent(model, tmp_path):
    for name, level in (("loud.wav", 0.5), ("quiet.wav", 0.0)):
        soundfile.write(tmp_path / name, np.full(2 * SR, level), SR)
    paths = [tmp_path / "loud.wav", tmp_path / "quiet.wav"]
    _, messages = warnings_of(lambda: openavc.get_audio_embedding(paths, model=model))
    [message] = messages
    assert "quiet.wav" in message


@pytest.mark.parametrize(
    "call",
    [
        lambda path, sr, model: openavc.get_audio_embedding(path, sr, model=model),
        lambda path, sr, model: list(openavc.stream_audio_embedding(path, sr, model=model)),
        lambda path, sr, model: openavc.correspondence_score(path, sr, PICTURE, model),
    ],
)
def test_a_rate_that_contradicts_the_file_is_warned_of_and_the_files_own_counts(call, model, tmp_path):
    soundfile.write(tmp_path / "loud.wav", SOUND, SR)
    expected, messages = warnings_of(lambda: call(tmp_path / "loud.wav", None, model))
    assert messages == []
    for given, told in ((SR, []), (float(SR), []), (8000, ["8000"]), ("high", ["'high'"])):
        result, messages = warnings_of(lambda given=given: call(tmp_path / "loud.wav", given, model))
        assert str(result) == str(expected)
        assert len(messages) == len(told)
        assert all(word in messages[0] and "loud.wav has a sample rate of 24000 Hz" in messages[0] for word in told)


@pytest.mark.parametrize("waveform, word", [(np.zeros(2 * SR), "silent"), (SOUND[:100], "shorter")])
def test_scores_of_silence_and_short_sound_warn_once(waveform, word, model):
    found, messages = warnings_of(lambda: openavc.correspondence_score(waveform, SR, [PICTURE] * 3, model))
    assert found.shape == (3,)
    assert ((found >= 0) & (found <= 1)).all()
    assert len(messages) == 1
    assert word in messages[0]


def test_a_silent_video_is_embedded_with_one_warning(model, shared):
    path = shared / "data/clips/silent_black_10s.mp4"
    found, messages = warnings_of(lambda: openavc.get_video_embedding(path, model, frame_rate=2))
    assert found.audio.shape == found.image.shape == (20, 40)
    assert len(messages) == 1
    assert "silent_black_10s.mp4 is silent" in messages[0]


# --------------------------------------------------------------------------------------- odd and damaged files

SOUNDLESS = {"header_only.wav": OSError, "float_nan_inf.wav": ValueError}  # no samples; NaN: ffmpeg reads both


def outcomes(shared, read):
    """Yield (row of the index, exception or None) for every clip."""
    with open(shared / "data/clips/INDEX.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 80
    for row in rows:
        path = shared / "data/clips" / row["file"]
        try:
            read(path)
        except Exception as error:
            assert row["file"] in str(error), repr(error)
            yield row, type(error)
        else:
            yield row, None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_clip_is_heard_or_refused_by_name(shared):
    for row, error in outcomes(shared, lambda path: sum(map(len, open_audio(path)[0]))):
        expected = SOUNDLESS.get(row["file"]) or (None if row["audio_codec"] not in ("", "?") else OSError)
        if row["ffmpeg5_decode"] == "ok":
            assert error is expected, row["file"]
        else:
            assert error in (None, OSError), row["file"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_clip_is_seen_or_refused_by_name(shared):
    for row, error in outcomes(shared, lambda path: list(itertools.islice(read_frames(path), 3))):
        if row["ffmpeg5_decode"] == "ok":
            assert error is (None if row["video_codec"] else OSError), row["file"]
        else:
            assert error in (None, OSError), row["file"]


def read_side_by_side(path):
    with Video(path) as video:
        blocks, frames, samples = video.sound(), 0, 0
        for _ in video.frames():
            frames, samples = frames + 1, samples + len(next(blocks, ()))
        return min(frames, samples + sum(map(len, blocks)))


def read_or_refused(path):
    """Read sound and pictures; damage may be refused only with an OSError that names the file."""
    for read in (
        lambda: sum(map(len, open_audio(path)[0])),
        lambda: sum(1 for _ in read_frames(path)),
        lambda: read_side_by_side(path),
    ):
        try:
            assert read() > 0
        except OSError as error:
            assert type(error) is OSError, repr(error)
            assert path.name in str(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["film.mp4", "film.ts", "film.mkv"])
def test_files_with_random_damage_are_read_or_refused_by_name(name, folder, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray((folder / name).read_bytes())
        for place in rng.integers(0, len(data), rng.choice([1, 10, 100])):
            data[place] = rng.integers(256)
        (tmp_path / name).write_bytes(data[: rng.integers(100, 2 * len(data))])  # half of them cut short
        read_or_refused(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_index_that_claims_a_packet_of_a_gigabyte_is_read_or_refused_by_name(folder, tmp_path):
    data = bytearray((folder / "film.mp4").read_bytes())
    tables = [place for place in range(len(data)) if data[place : place + 4] == b"stsz"]
    assert len(tables) == 2  # picture and sound
    for table in tables:
        struct.pack_into(">I", data, table + 16 + 4 * 5, 2**30 - 1)  # the sixth packet
    (tmp_path / "film.mp4").write_bytes(data)
    read_or_refused(tmp_path / "film.mp4")
