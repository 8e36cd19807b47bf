"""The computation for a file: the public functions' numbers, from an object that other processes can be sent."""

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from fake_model import FakeModel
from PIL import Image
from videos import RATE, noise, tone, write_sound, write_video

import openavc
from openavc.extraction.extraction import EXTENSIONS, UNREAD, Extraction
from openavc.extraction.planning import plan_jobs
from openavc.media import image
from openavc.media.audio import read_audio
from openavc.models.contract import FramesInput
from openavc.weights import model_info

ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "examples" / "freedoom.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a recording, a picture and a video."""
    path = tmp_path_factory.mktemp("files")
    soundfile.write(path / "a.wav", noise(2 * RATE), RATE)
    cv2.imwrite(str(path / "a.png"), np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    write_video(path / "a.mkv", [0, 0.3, 0.6], sound=noise(RATE))
    return path


def public(modality, path, model, **options):
    """Return arrays by name, from the public functions."""
    if modality == "audio":
        embedding, timestamps = openavc.get_audio_embedding(path, model=model, **options)
        return {"embedding": embedding, "timestamps": timestamps}
    if modality == "image":
        return {"embedding": openavc.get_image_embedding(path, model, **options), "timestamps": np.zeros(1)}
    return openavc.get_video_embedding(path, model, **options)._asdict()


def check_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("embedding", ["features", "joint"])
@pytest.mark.parametrize(
    ("modality", "name", "options"),
    [
        ("audio", "a.wav", {}),
        ("audio", "a.wav", {"hop_size": 0.25, "center": False}),
        ("audio", "a.mkv", {"batch_size": 3}),
        ("image", "a.png", {}),
        ("video", "a.mkv", {}),
        ("video", "a.mkv", {"frame_rate": 2.0, "batch_size": 1}),
    ],
)
def test_a_file_is_embedded_as_by_the_public_function(modality, name, options, embedding, folder, model):
    extraction = Extraction(modality, model, embedding, **options)
    check_same(extraction(folder / name), public(modality, folder / name, model, embedding=embedding, **options))
    check_same(pickle.loads(pickle.dumps(extraction))(folder / name), extraction(folder / name))


def test_dtype_and_device_are_those_of_the_public_functions(folder, model):
    half = Extraction("audio", model, dtype="bfloat16", device="cpu")
    check_same(half(folder / "a.wav"), public("audio", folder / "a.wav", model, dtype="bfloat16"))
    assert half.load().dtype != model.dtype


@pytest.mark.parametrize(
    ("extraction", "parameters"),
    [
        (
            Extraction("audio"),
            {"modality": "audio", "embedding": "features", "hop_size": 0.1, "center": True},
        ),
        (
            Extraction("audio", "some", "joint", hop_size=0.5, center=False, batch_size=3),
            {"modality": "audio", "embedding": "joint", "hop_size": 0.5, "center": False},
        ),
        (Extraction("image", embedding="joint", hop_size=0.5), {"modality": "image", "embedding": "joint"}),
        (Extraction("video", device="cpu"), {"modality": "video", "embedding": "features", "frame_rate": None}),
        (Extraction("video", frame_rate=2.5), {"modality": "video", "embedding": "features", "frame_rate": 2.5}),
    ],
)
def test_parameters_are_what_the_numbers_depend_on(extraction, parameters):
    """Results of earlier versions are skipped by comparing them, so they must stay as they are, in this order."""
    assert list(extraction.parameters.items()) == list(parameters.items())


def test_a_record_names_the_model_its_weights_and_the_parameters():
    extraction = Extraction("image")
    info = model_info(openavc.list_models()[0])
    expected = {"model": info["name"], "weights_sha256": info["sha256"], "parameters": extraction.parameters}
    assert extraction.record() == expected


def test_the_model_of_a_name_is_loaded_once_in_a_process():
    first, second = Extraction("audio", "ave-small"), Extraction("video", "ave-small", "joint")
    assert first.load() is second.load() is pickle.loads(pickle.dumps(first)).load()


def test_another_process_gives_the_same_numbers(folder, tmp_path):
    extraction = Extraction("audio", "ave-small", "joint", hop_size=0.5)
    (tmp_path / "extraction.pickle").write_bytes(pickle.dumps(extraction))
    code = (
        "import pickle, sys, numpy; extraction = pickle.load(open(sys.argv[1], 'rb')); "
        "numpy.savez(sys.argv[3], **extraction(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, tmp_path / "extraction.pickle", folder / "a.wav", tmp_path / "found.npz"]
    subprocess.run(command, check=True, cwd=ROOT)
    expected = extraction(folder / "a.wav")
    with np.load(tmp_path / "found.npz") as found:
        assert list(found) == list(expected)
        np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-6)
        np.testing.assert_array_equal(found["timestamps"], expected["timestamps"])


def test_an_extraction_can_be_compared_and_not_be_changed():
    extraction = Extraction("audio", "ave-small")
    assert extraction == Extraction("audio", "ave-small") != Extraction("audio", "ave-small", "joint")
    with pytest.raises(FrozenInstanceError):
        extraction.embedding = "joint"


def test_a_modality_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="one of 'audio', 'image', 'video', got 'sound'"):
        Extraction("sound")


@pytest.mark.parametrize("modality", EXTENSIONS)
def test_what_a_model_cannot_do_is_told_before_any_file_is_read(modality, model):
    Extraction(modality, model, "joint").check()
    with pytest.raises(ValueError, match="tiny has no embedding 'other'; it has 'features', 'joint'"):
        Extraction(modality, model, "other").check()
    with pytest.raises(ValueError, match="hop_size"):
        Extraction("audio", model, hop_size=0).check()
    blind = FakeModel(frames=None, name="blind")
    if modality != "audio":
        with pytest.raises(ValueError, match="blind doesn't embed image"):
            Extraction(modality, blind).check()


def test_folders_are_searched_for_the_files_of_a_modality():
    assert {".wav", ".mp3", ".mp4"} <= Extraction("audio").extensions
    assert {".png", ".jpg"} <= Extraction("image").extensions
    assert {".mp4", ".mkv"} <= Extraction("video").extensions
    assert ".wav" not in Extraction("video").extensions


def test_a_loaded_model_is_moved_once(model):
    extraction = Extraction("image", model, dtype="float64")
    assert extraction.load() is extraction.load() is not model
    assert Extraction("image", model).load() is model


def test_options_that_change_the_numbers_are_recorded(model):
    assert "dtype" not in Extraction("image", model).parameters
    assert Extraction("image", model, dtype="float64").parameters["dtype"] == "float64"
    plain = openavc.load_model()
    assert "model_options" not in Extraction("audio", plain).record()
    other = openavc.load_model(joint_size=128)
    assert Extraction("audio", other).record()["model_options"] == {"joint_size": 128}


def test_pictures_of_a_network_of_clips_are_refused_before_any_is_read():
    with pytest.raises(ValueError, match="clips of 5 frames"):
        Extraction("image", FakeModel(frames=FramesInput(16, 16, 5, 25.0))).check()


@pytest.mark.parametrize(
    ("ending", "codec", "rate", "container"),
    [
        (".wv", "wavpack", 8_000, None),
        (".tta", "tta", 8_000, None),
        (".mp2", "mp2", 48_000, None),
        (".m4b", "aac", 48_000, None),
        (".eac3", "eac3", 48_000, None),
        (".snd", "pcm_s16be", 8_000, "au"),
        (".aifc", "pcm_s16be", 8_000, "aiff"),
        (".weba", "libopus", 48_000, "webm"),
        (".asf", "mp2", 48_000, "asf"),
        (".m2ts", "mp2", 48_000, None),
        (".mts", "mp2", 48_000, None),
        (".vob", "mp2", 48_000, None),
        (".3g2", "aac", 48_000, None),
        (".mk3d", "flac", 8_000, "matroska"),
    ],
)
def test_folders_give_sound_of_any_ending_that_can_be_read(tmp_path, ending, codec, rate, container):
    write_sound(tmp_path / f"sound{ending}", tone(440, 1.0, rate), rate, codec, container=container)
    [job] = plan_jobs([tmp_path], tmp_path / "out", Extraction("audio").extensions)
    samples, found_rate = read_audio(job.source)
    assert found_rate == rate
    assert abs(len(samples) / rate - 1) < 0.1  # codecs pad the ends


WRITABLE = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.SAVE}


@pytest.mark.parametrize("ending", sorted(image.EXTENSIONS & WRITABLE))
def test_folders_give_pictures_of_any_ending_that_can_be_read(tmp_path, ending):
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 255
    Image.fromarray(picture).save(tmp_path / f"picture{ending}")
    [job] = plan_jobs([tmp_path], tmp_path / "out", Extraction("image").extensions)
    assert np.abs(image.read_image(job.source) - picture / 255).max() < 0.1


@pytest.mark.parametrize("modality", EXTENSIONS)
def test_what_is_counted_as_passed_over_is_not_searched_for(modality):
    assert not EXTENSIONS[modality] & UNREAD[modality]
    assert all(ending == ending.lower() and ending.startswith(".") for ending in UNREAD[modality])
