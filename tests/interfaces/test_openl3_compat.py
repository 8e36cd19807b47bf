"""OpenL3's interface: its exact signatures, names and framing, fixes of its ten defects, its own numbers."""

import argparse
import importlib
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch
from fake_model import FakeModel
from keras_files import write_zeros
from torch import nn
from videos import write_video

import openavc
from openavc import weights
from openavc.compat import openl3
from openavc.compat.openl3 import cli, models
from openavc.interfaces import openl3 as interface
from openavc.interfaces.openl3.options import FRAMING
from openavc.interfaces.openl3.sound import truncated_hop
from openavc.models import OpenL3Net
from openavc.models.contract import FramesInput, SoundInput
from openavc.models.frontends import VARIANTS, openl3_frontend
from openavc.models.openl3 import OpenL3Towers
from openavc.weights.keras import convert

RATE = 48_000  # Hz
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE)
SECOND = NOISE[:RATE]
MIGRATION = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")


class Recorder(FakeModel):
    """Records the windows (n,) and crops (224, 224, 3) that it is given; embeds them as two of their numbers."""

    def __init__(self):
        super().__init__(
            SoundInput(RATE, 1.0, dtype="float64"),
            FramesInput(224, 224),
            hears=lambda samples: samples[:, :2, 0],
            sees=lambda crops: crops[:, :2, 112, 112],
        )
        self.architecture = {"frontend": "kapre-0.3.5"}
        self.batches, self.loads = [], []

    def prepare_audio(self, samples):
        self.batches.append(samples[..., 0].numpy().copy())
        return samples

    def embed_frames(self, frames, embedding="features"):
        self.batches.append(frames.permute(0, 2, 3, 1).numpy().copy())
        return super().embed_frames(frames, embedding)

    @property
    def seen(self) -> np.ndarray:
        return np.concatenate(self.batches)


@pytest.fixture
def recorder(monkeypatch):
    """Make every name load a recorder; `loads` are the names and options."""
    model = Recorder()

    def load_model(name_or_path=None, **options):
        model.loads.append((name_or_path, options))
        return model

    monkeypatch.setattr(weights, "load_model", load_model)
    models.kept_audio_model.cache_clear()
    models.kept_image_model.cache_clear()
    yield model
    models.kept_audio_model.cache_clear()
    models.kept_image_model.cache_clear()


def write_sound(path, samples=NOISE, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="DOUBLE")
    return str(path)


def write_picture(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return str(path)


def grey(value, height=224, width=224) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


# ------------------------------------------------------------------------------------------------------- interface

SIGNATURES = {
    openl3.get_audio_embedding: """audio, sr, model=None, input_repr=None, content_type='music', embedding_size=6144,
        center=True, hop_size=0.1, batch_size=32, frontend='kapre', verbose=True""",
    openl3.get_image_embedding: """image, frame_rate=None, model=None, input_repr='mel256', content_type='music',
        embedding_size=8192, batch_size=32, verbose=True""",
    openl3.preprocess_audio: "audio, sr, hop_size=0.1, input_repr=None, center=True, **kw",
    openl3.process_audio_file: """filepath, output_dir=None, suffix=None, model=None, input_repr=None,
        content_type='music', embedding_size=6144, center=True, hop_size=0.1, batch_size=32, overwrite=False,
        frontend='kapre', verbose=True""",
    openl3.process_image_file: """filepath, output_dir=None, suffix=None, model=None, input_repr='mel256',
        content_type='music', embedding_size=8192, batch_size=32, overwrite=False, verbose=True""",
    openl3.process_video_file: """filepath, output_dir=None, suffix=None, audio_model=None, image_model=None,
        input_repr=None, content_type='music', audio_embedding_size=6144, audio_center=True, audio_hop_size=0.1,
        image_embedding_size=8192, audio_batch_size=32, image_batch_size=32, audio_frontend='kapre', overwrite=False,
        verbose=True""",
    openl3.get_output_path: "filepath, suffix, output_dir=None",
    models.load_audio_embedding_model: "input_repr, content_type, embedding_size, frontend='kapre'",
    models.load_image_embedding_model: "input_repr, content_type, embedding_size",
    models.load_audio_embedding_model_from_path: "model_path, input_repr, embedding_size, frontend='kapre'",
    models.load_image_embedding_model_from_path: "model_path, embedding_size",
    models.get_audio_embedding_model_path: "input_repr, content_type",
    models.get_image_embedding_model_path: "input_repr, content_type",
    cli.run: """modality, inputs, output_dir=None, suffix=None, input_repr='mel256', content_type='music',
        audio_embedding_size=6144, audio_center=True, audio_hop_size=0.1, audio_batch_size=32,
        image_embedding_size=8192, image_batch_size=32, audio_frontend='kapre', overwrite=False, verbose=False""",
    cli.get_file_list: "input_list",
    cli.positive_int: "value",
    cli.positive_float: "value",
}


@pytest.mark.parametrize(("function", "expected"), SIGNATURES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_signatures_are_openl3s_but_for_keywords_of_our_own(function, expected):
    parameters = inspect.signature(function).parameters.values()
    theirs = [item.replace(annotation=item.empty) for item in parameters if item.kind != item.KEYWORD_ONLY]
    assert str(inspect.Signature(theirs)) == f"({' '.join(expected.split())})"


def test_the_package_exports_what_openl3_does():
    names = """__version__ OpenL3Error get_audio_embedding get_image_embedding get_output_path process_audio_file
        process_image_file process_video_file preprocess_audio"""
    assert all(hasattr(openl3, name) for name in names.split())
    assert openl3.openl3_exceptions.OpenL3Error.__bases__ == (Exception,)
    assert openl3.openl3_warnings.OpenL3Warning.__bases__ == (Warning,)


def test_the_name_that_users_import_and_the_place_of_the_code_are_one():
    assert openl3.__all__ == interface.__all__
    for name in interface.__all__:  # functions, exceptions and warnings
        assert vars(openl3)[name] is vars(interface)[name]
    submodules = {module.name for module in pkgutil.iter_modules(interface.__path__)} - {"__main__"}
    assert submodules >= {"models", "cli", "core", "openl3_exceptions", "openl3_warnings"}
    for name in submodules:
        ours = importlib.import_module(f"openavc.interfaces.openl3.{name}")
        assert importlib.import_module(f"openavc.compat.openl3.{name}") is ours
        assert vars(openl3)[name] is ours


def test_submodules_can_be_imported_first():
    line = "import openavc.compat.openl3.models as m; from openavc.interfaces.openl3 import models; assert m is models"
    subprocess.run([sys.executable, "-c", line], timeout=60, check=True)


@pytest.mark.parametrize(
    ("path", "suffix", "output_dir", "expected"),
    [
        ("a/clip.wav", ".npz", None, "a/clip.npz"),
        ("a/clip.wav", "x.npz", None, "a/clip_x.npz"),
        ("y.z.wav", ".npz", None, "y.z.npz"),
        ("a/clip.wav", "x.npz", "out", "out/clip_x.npz"),
    ],
)
def test_results_are_named_as_by_openl3(path, suffix, output_dir, expected):
    assert openl3.get_output_path(path, suffix, output_dir) == os.path.normpath(expected)


@pytest.mark.parametrize(
    ("seconds", "center", "frames"), [(2, True, 16), (1, True, 6), (5, True, 46), (2, False, 11), (0.5, False, 1)]
)
@pytest.mark.filterwarnings("ignore:.*shorter than one window")
def test_sound_is_framed_as_by_openl3(recorder, seconds, center, frames):
    sound = np.resize(NOISE, int(seconds * RATE))
    embedding, timestamps = openl3.get_audio_embedding(sound, RATE, center=center)
    assert (embedding.shape, embedding.dtype, timestamps.dtype) == ((frames, 2), np.float32, np.float64)
    np.testing.assert_array_equal(timestamps, np.arange(frames) * 0.1)
    start = np.concatenate([np.zeros(24_000 if center else 0), sound, np.zeros(RATE)])[:RATE]
    np.testing.assert_array_equal(recorder.seen[0], start)
    assert (recorder.seen.shape, recorder.seen.dtype) == ((frames, RATE), np.float64)


def test_preprocessing_gives_windows_or_spectrograms_in_openl3s_order():
    windows = openl3.preprocess_audio(NOISE, RATE)
    assert (windows.shape, windows.dtype) == ((16, 1, RATE), np.float64)
    np.testing.assert_array_equal(windows[7, 0, :5], NOISE[7 * 4800 - 24_000 :][:5])
    for input_repr, shape in (("linear", (257, 197)), ("mel128", (128, 199)), ("mel256", (256, 199))):
        spectrograms = openl3.preprocess_audio(NOISE, RATE, 0.5, input_repr, frontend="librosa")
        assert spectrograms.shape == (4, *shape, 1)
        expected = openl3_frontend(input_repr, "librosa")(torch.from_numpy(windows[::5, 0]))
        np.testing.assert_allclose(spectrograms[..., 0], expected, atol=1e-5)


def small_network(**options) -> OpenL3Towers:
    torch.manual_seed(0)
    network = OpenL3Towers(widths=(2, 2, 2, 512), modalities=["audio"], **options).eval().requires_grad_(False)
    network.architecture = options
    return network


def run_the_call_of_the_docs(model) -> tuple[str, dict]:
    """Return the block of docs/migration.md that preprocesses and embeds a second, and what it defines."""
    [call] = [
        block for block in re.findall(r"```python\n(.*?)```", MIGRATION, re.DOTALL) if "preprocess_audio" in block
    ]
    names = {"openl3": openl3, "model": model, "audio": SECOND, "sr": RATE}
    exec(call, names)
    return call, names


@pytest.mark.parametrize("input_repr", ["linear", "mel128", "mel256"])
@pytest.mark.parametrize("frontend", VARIANTS)
def test_the_call_of_the_docs_embeds_what_preprocessing_gives(input_repr, frontend):
    """The spectrograms are those of the model that is passed, and the numbers those of `get_audio_embedding`."""
    model = small_network(input_repr=input_repr, frontend=frontend)
    expected, _ = openl3.get_audio_embedding(SECOND, RATE, model)
    assert expected.std() > 0.1
    np.testing.assert_allclose(run_the_call_of_the_docs(model)[1]["embedding"], expected, atol=1e-5)


def test_the_call_of_the_docs_gives_the_shapes_that_stand_beside_it():
    call, names = run_the_call_of_the_docs(small_network(input_repr="mel256", frontend="kapre-0.3.5"))
    shown = re.findall(r"^(\w+) = .*# (\(T, [\d, ]+\))", call, re.MULTILINE)
    assert [(name, str(names[name].shape[1:])) for name, _ in shown] == [
        ("spectrograms", "(256, 199, 1)"),
        ("inputs", "torch.Size([1, 256, 199])"),
        ("embedding", "(6144,)"),
    ]
    assert [shape for _, shape in shown] == ["(T, 256, 199, 1)", "(T, 1, 256, 199)", "(T, 6144)"]


def test_preprocessing_without_a_model_takes_the_default_of_models_and_says_so():
    default = inspect.signature(models.load_audio_embedding_model).parameters["frontend"].default
    with pytest.warns(openl3.OpenL3Warning, match="frontend 'kapre'.* of 'librosa': pass model="):
        spectrograms = openl3.preprocess_audio(NOISE, RATE, input_repr="mel256")
    np.testing.assert_array_equal(
        spectrograms, openl3.preprocess_audio(NOISE, RATE, input_repr="mel256", frontend=default)
    )
    model = small_network(input_repr="mel256", frontend="kapre-0.3.5")
    np.testing.assert_array_equal(spectrograms, openl3.preprocess_audio(NOISE, RATE, model=model))


@pytest.mark.parametrize(
    "call", [{"input_repr": "linear"}, {"input_repr": "mel128", "frontend": "kapre"}, {"input_repr": None}]
)
@pytest.mark.filterwarnings("error")
def test_preprocessing_says_nothing_where_nothing_is_open(call):
    openl3.preprocess_audio(NOISE, RATE, **call)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_repr": "mel128"}, "loaded with input_repr 'mel256', not 'mel128': leave input_repr out"),
        ({"frontend": "kapre"}, "loaded with frontend 'librosa', not 'kapre': leave frontend out"),
        ({"model": "librosa"}, "load_audio_embedding_model returned, got str"),
        ({"frontend": "torch"}, "got 'torch'"),
        ({"window": 1}, "no option 'window'"),
    ],
)
def test_preprocessing_refuses_what_contradicts_the_model(options, said):
    model = small_network(input_repr="mel256", frontend="librosa")
    agreed = openl3.preprocess_audio(NOISE, RATE, input_repr="mel256", frontend="librosa", model=model)
    assert agreed.shape == (16, 256, 199, 1)
    with pytest.raises(openl3.OpenL3Error, match=said):
        openl3.preprocess_audio(NOISE, RATE, **({"model": model} | options))


def test_what_keras_alone_has_is_absent_and_the_docs_say_so():
    [item] = [item for item in re.split(r"\n- ", MIGRATION) if item.startswith("The model is a PyTorch module")]
    model = small_network()
    for name in ("layers", "input_shape", "output_shape", "predict"):
        assert f"`{name}`" in item
        assert not hasattr(model, name)


def test_models_are_asked_for_by_openl3s_options(recorder, monkeypatch):
    monkeypatch.setattr(weights, "modalities_of", lambda path: ["audio", "image"])
    monkeypatch.setattr(weights, "locate", lambda path: (path, path))
    assert models.load_audio_embedding_model("mel128", "env", 512) is recorder
    models.load_audio_embedding_model("linear", "music", 6144, frontend="librosa")
    models.load_audio_embedding_model("linear", "music", 6144, frontend="kapre-0.1.4")
    models.load_image_embedding_model("mel256", "music", 8192)
    models.load_audio_embedding_model_from_path("weights.h5", "linear", 512, frontend="kapre")
    models.load_image_embedding_model_from_path("weights.h5", 512)
    assert recorder.loads == [
        ("openl3-mel128-env", {"embedding_size": 512, "frontend": "kapre-0.3.5"}),
        ("openl3-linear-music", {"embedding_size": 6144, "frontend": "librosa"}),
        ("openl3-linear-music", {"embedding_size": 6144, "frontend": "kapre-0.1.4"}),
        ("openl3-mel256-music", {"embedding_size": 8192}),
        ("weights.h5", {"input_repr": "linear", "embedding_size": 512, "frontend": "kapre-0.3.5"}),
        ("weights.h5", {"embedding_size": 512}),
    ]


def test_a_file_of_the_other_kind_is_refused_by_its_name(tmp_path):
    audio, image = (write_zeros(tmp_path / f"{channels}.h5", channels) for channels in (1, 3))
    converted = tmp_path / "image.safetensors"
    convert(image, target=converted)
    with pytest.raises(openl3.OpenL3Error, match=f"{audio} holds a tower of audio, not of pictures"):
        models.load_image_embedding_model_from_path(audio, 512)
    for path in (image, converted):
        with pytest.raises(openl3.OpenL3Error, match=f"{path} holds a tower of pictures, not of audio"):
            models.load_audio_embedding_model_from_path(path, "mel256", 6144)


def test_paths_of_weights_are_of_the_same_names(monkeypatch):
    monkeypatch.setattr(weights, "fetch", lambda name: f"cache/{name}")
    assert models.get_audio_embedding_model_path("mel128", "env") == "cache/openl3-mel128-env"
    assert models.get_image_embedding_model_path("linear", "music") == "cache/openl3-linear-music"
    with pytest.raises(openl3.OpenL3Error, match="got 'mel64'"):
        models.get_audio_embedding_model_path("mel64", "env")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"audio": np.zeros(0)}, "empty"),
        ({"audio": np.full(RATE, np.nan)}, "NaN"),
        ({"audio": np.ones((2, RATE))}, "audio.T"),
        ({"audio": np.ones((2, 2, 2))}, "shape"),
        ({"audio": (NOISE, NOISE)}, "tuple"),
        ({"audio": []}, "empty"),
        ({"audio": [NOISE, NOISE], "sr": [RATE]}, "1 sample rates"),
        ({"audio": np.ma.masked_less(NOISE, 9)}, f"{len(NOISE)} masked values"),
        ({"audio": io.BytesIO(b"RIFF")}, "not BytesIO"),
        ({"sr": 0}, "got 0"),
        ({"sr": True}, "got True"),
        ({"sr": "48k"}, "48k"),
        ({"hop_size": 0}, "got 0"),
        ({"hop_size": 1e-6}, "at least one sample"),
        ({"center": 2}, "got 2"),
        ({"verbose": 2}, "got 2"),
        ({"batch_size": 0}, "got 0"),
        ({"input_repr": "mel64"}, "'mel128', 'mel256', got 'mel64'"),
        ({"content_type": "speech"}, "got 'speech'"),
        ({"embedding_size": 8192}, "embedding_size must be one of 6144, 512, got 8192"),
        ({"frontend": "torch"}, "got 'torch'"),
        ({"frontend": "librosa"}, "needs an input_repr"),
        (
            {"frontend": "librosa", "input_repr": "mel256", "model": Recorder()},
            "was loaded with frontend 'kapre-0.3.5', not 'librosa'",
        ),
        ({"model": "openl3"}, "got str"),
    ],
)
def test_sound_and_options_that_make_no_sense_are_openl3_errors(recorder, options, said):
    with pytest.raises(openl3.OpenL3Error, match=said):
        openl3.get_audio_embedding(**({"audio": NOISE, "sr": RATE} | options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": np.zeros((0, 224, 3), np.uint8)}, "empty"),
        ({"image": np.zeros((224, 224), np.uint8)}, "RGB"),
        ({"image": np.zeros((224, 224, 4), np.uint8)}, "RGB"),
        ({"image": grey(9, 223, 300)}, "at least 224"),
        ({"image": []}, "empty"),
        ({"image": np.ma.masked_equal(grey(9), 9)}, "150528 masked values"),
        ({"image": torch.zeros(224, 224, 3, device="meta")}, "meta tensor"),
        ({"image": io.BytesIO(b"RIFF")}, "got BytesIO"),
        ({"frame_rate": 0}, "got 0"),
        ({"frame_rate": [1, 2]}, "2 frame rates"),
        ({"embedding_size": 6144}, "8192, 512, got 6144"),
        ({"input_repr": None}, "got None"),
        ({"model": FakeModel(frames=None)}, "load_image_embedding_model returned, got FakeModel"),
    ],
)
def test_pictures_and_options_that_make_no_sense_are_openl3_errors(recorder, options, said):
    with pytest.raises(openl3.OpenL3Error, match=said):
        openl3.get_image_embedding(**({"image": grey(9)} | options))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: openl3.get_audio_embedding(0 * NOISE, RATE), "silent"),
        (lambda: openl3.get_audio_embedding(NOISE[:1], RATE), "shorter"),
        (lambda: openl3.get_image_embedding(grey(0)), "black"),
    ],
)
def test_silence_short_sound_and_black_pictures_are_embedded_with_a_warning(recorder, call, said):
    with pytest.warns(openl3.OpenL3Warning, match=said):
        call()
    assert len(recorder.seen)


def test_lists_give_lists_of_what_each_gives_alone(recorder):
    low = NOISE[:16_000]
    embeddings, timestamps = openl3.get_audio_embedding([NOISE, low], [RATE, 16_000])
    assert list(map(len, embeddings)) == list(map(len, timestamps)) == [16, 6]
    for sound, rate, embedding in ((NOISE, RATE, embeddings[0]), (low, 16_000, embeddings[1])):
        np.testing.assert_array_equal(openl3.get_audio_embedding(sound, rate)[0], embedding)
    pictures = [grey(9), np.stack([grey(1), grey(2)])]
    assert [embedding.shape for embedding in openl3.get_image_embedding(pictures)] == [(1, 2), (2, 2)]
    assert openl3.get_image_embedding(pictures[0]).shape == (1, 2)


# --------------------------------------------------------------------------------------------- OpenL3's ten defects


@pytest.mark.parametrize("kind", ["audio", "image", "video"])
@pytest.mark.filterwarnings("ignore:.*shorter than one window")
def test_1_results_before_a_file_that_is_done_are_written(recorder, tmp_path, kind):
    write = {
        "audio": lambda path: write_sound(path.with_suffix(".wav")),
        "image": lambda path: write_picture(path.with_suffix(".png"), grey(9)),
        "video": lambda path: str(write_video(path.with_suffix(".mkv"), [0, 0.1], sound=NOISE[:800], size=(224, 224))),
    }[kind]
    process = getattr(openl3, f"process_{kind}_file")
    paths = [write(tmp_path / name) for name in "123"]
    process(paths[2], verbose=False)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(done) == (2 if kind == "video" else 1)
    process(paths, verbose=False)
    ends = ["_audio.npz", "_image.npz"] if kind == "video" else [".npz"]
    assert {path.name for path in tmp_path.glob("*.npz")} == {f"{name}{end}" for name in "123" for end in ends}
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    process(paths, overwrite=True, verbose=False)
    assert all(path.stat().st_mtime_ns != time for path, time in done.items())


def test_2_each_clip_has_the_times_of_its_own_frame_rate(recorder):
    clip = np.stack([grey(value) for value in (1, 2, 3)])
    _, timestamps = openl3.get_image_embedding([clip, clip], frame_rate=[1, 2])
    np.testing.assert_array_equal(timestamps, [[0, 1, 2], [0, 0.5, 1]])


def test_2_frames_have_their_true_times(recorder, tmp_path):
    times = [k * 1001 / 30_000 for k in range(4)]
    path = write_video(tmp_path / "ntsc.mkv", times, clock=30_000, sound=NOISE[:8000], size=(224, 224))
    for strict, expected in ((False, times), (True, np.arange(4) / 25)):  # write_video declares 25
        openl3.process_video_file(path, tmp_path / str(strict), verbose=False, strict_openl3=strict)
        timestamps = np.load(tmp_path / str(strict) / "ntsc_image.npz")["timestamps"]
        np.testing.assert_allclose(timestamps, expected, atol=1e-3)  # Matroska keeps milliseconds


def test_3_pictures_are_scaled_as_in_training_whatever_their_size_dtype_and_neighbours(recorder):
    for picture in (
        grey(51),
        grey(51, 240, 250),
        grey(51, 300, 400),
        grey(51) / np.float32(255),
        grey(51).astype(np.uint16) * 257,
        np.stack([grey(51), grey(255)]),
        np.stack([grey(51, 250, 250), grey(102, 250, 250)]),
    ):
        recorder.batches.clear()
        openl3.get_image_embedding(picture)
        np.testing.assert_allclose(recorder.seen[0], 2 * 0.2 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("picture", "value"),
    [
        (grey(51), 2 * 0.2 - 1),
        (grey(51, 300, 400), 0.2),
        (np.stack([grey(51, 240, 250), grey(102, 240, 250)]), 0.5),
        (grey(51) / np.float32(255), 0.2),
    ],
)
def test_3_strict_scales_by_size_and_neighbours_as_openl3(recorder, picture, value):
    openl3.get_image_embedding(picture, strict_openl3=True)
    np.testing.assert_allclose(recorder.seen[0], value, atol=1e-6)


def test_3_strict_drops_transparency_of_files_as_openl3(recorder, tmp_path):
    clear = np.concatenate([grey(51), np.zeros((224, 224, 1), np.uint8)], axis=2)
    assert cv2.imwrite(str(tmp_path / "clear.png"), clear)
    assert cv2.imwrite(str(tmp_path / "flat.png"), grey(51)[..., 0])
    for name, strict, value in (("clear", False, 1), ("clear", True, -0.6), ("flat", False, -0.6)):
        path = tmp_path / f"{name}.png"
        openl3.process_image_file(path, overwrite=True, verbose=False, strict_openl3=strict)
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npz")["embedding"], [[value] * 2], atol=1e-6)
    with pytest.raises(openl3.OpenL3Error, match=r"flat.png .*three colours"):
        openl3.process_image_file(path, overwrite=True, verbose=False, strict_openl3=True)


def test_4_frames_of_videos_keep_their_shape(recorder, tmp_path):
    """The picture is a square of half the height, 112 pixels, in frames that are twice as wide as high."""
    frame = grey(0, 224, 448)
    frame[56:168, 168:280] = 255
    with av.open(str(tmp_path / "wide.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10, width=448, height=224, pix_fmt="bgr0")
        file.mux([*stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")), *stream.encode()])
    widths = {}
    for strict in (False, True):
        recorder.batches.clear()
        with pytest.warns(openl3.OpenL3Warning, match="no sound"):
            openl3.process_video_file(
                tmp_path / "wide.mkv", tmp_path / str(strict), verbose=False, strict_openl3=strict
            )
        white = recorder.seen[0, ..., 0] > recorder.seen[0, ..., 0].mean()
        widths[strict] = (white.any(axis=0).sum(), white.any(axis=1).sum())
    assert widths[False] == (112, 112)
    assert widths[True] == pytest.approx((64, 128), abs=2)  # 448 x 224 squashed to 256 x 256


def test_5_bad_files_are_named_and_the_others_written(recorder, tmp_path):
    good = [write_sound(tmp_path / name) for name in ("a.wav", "z.wav")]
    bad, empty = tmp_path / "bad.wav", write_sound(tmp_path / "empty.wav", NOISE[:0])
    bad.write_text("no sound")
    with pytest.raises(openl3.OpenL3Error, match=r"3 of 5 files failed; 2 others were embedded: .*bad.*empty.*missing"):
        openl3.process_audio_file([good[0], bad, empty, "missing.wav", good[1]], verbose=False)
    assert {path.name for path in tmp_path.glob("*.npz")} == {"a.npz", "z.npz"}
    pictures = [tmp_path / "bad.png", write_picture(tmp_path / "small.png", grey(9, 120, 110))]
    pictures[0].write_text("no picture")
    pictures.append(write_picture(tmp_path / "good.png", grey(9)))
    with pytest.raises(openl3.OpenL3Error, match="2 of 3 files failed"):
        openl3.process_image_file(pictures, verbose=False)
    assert (tmp_path / "good.npz").exists()


def test_6_the_folder_is_made_and_files_of_one_name_keep_apart(recorder, tmp_path):
    names = ["a/clip.wav", "b/clip.wav", "b/clip.flac", "b/other.wav"]
    paths = [write_sound(tmp_path / name) for name in names if name.endswith("wav")]
    soundfile.write(tmp_path / names[2], NOISE[: RATE // 2 * 3], RATE)
    output = tmp_path / "new" / "folder"
    openl3.process_audio_file([*paths, tmp_path / names[2], paths[0]], output, suffix="x", verbose=False)
    lengths = {str(path.relative_to(output)): len(np.load(path)["embedding"]) for path in output.rglob("*.npz")}
    assert lengths == {"a/clip_x.npz": 16, "b/clip.wav_x.npz": 16, "b/clip.flac_x.npz": 11, "other_x.npz": 16}


def test_7_a_model_is_loaded_once(recorder):
    for _ in range(3):
        openl3.get_audio_embedding(NOISE, RATE)
        openl3.get_image_embedding(grey(9))
    assert [name for name, _ in recorder.loads] == ["openl3-mel256-music"] * 2  # of sound, and of pictures
    openl3.get_audio_embedding(NOISE, RATE, content_type="env")
    assert len(recorder.loads) == 3


def test_8_memory_does_not_grow_with_the_windows(recorder):
    """Two minutes at hop 0.05 s: 2391 windows of 384 kB, 918 MB in all."""
    sound = np.resize(NOISE, 120 * RATE)
    recorder.prepare_audio = lambda samples: samples[:, :2]  # keeps nothing
    tracemalloc.start()
    embedding, _ = openl3.get_audio_embedding(sound, RATE, hop_size=0.05, batch_size=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(embedding) == 2391
    assert peak < 3 * sound.nbytes  # 138 MB


@pytest.mark.parametrize(("hop_size", "cut"), [(0.2718, 13_046), (0.29, 13_919)])  # 0.29 * 48000 is 13919.999...
def test_9_windows_begin_at_their_timestamps(recorder, hop_size, cut):
    ramp = np.arange(1.0, 40 * RATE + 1) / (40 * RATE)
    for strict, hop in ((False, hop_size * RATE), (True, cut)):
        recorder.batches.clear()
        _, timestamps = openl3.get_audio_embedding(ramp, RATE, center=False, hop_size=hop_size, strict_openl3=strict)
        starts = np.rint(recorder.seen[:, 0] * 40 * RATE - 1)
        np.testing.assert_array_equal(starts, np.rint(np.arange(len(starts)) * hop))
        if strict:
            np.testing.assert_array_equal(timestamps, np.arange(len(starts)) * hop_size)
        else:
            np.testing.assert_allclose(timestamps, starts / RATE, rtol=0, atol=1e-9)


def test_10_pictures_of_several_files_share_a_batch(recorder, tmp_path):
    paths = [write_picture(tmp_path / f"{value}.png", grey(value)) for value in (10, 20, 30, 40, 50)]
    openl3.process_image_file(paths, batch_size=2, verbose=False)
    assert [len(batch) for batch in recorder.batches] == [2, 2, 1]
    for value in (10, 50):
        with np.load(tmp_path / f"{value}.npz") as result:
            assert set(result) == {"embedding"}
            np.testing.assert_allclose(result["embedding"], [[2 * value / 255 - 1] * 2], atol=1e-6)


def test_10_a_video_without_sound_gives_its_pictures(recorder, tmp_path):
    path = write_video(tmp_path / "mute.mkv", [0, 0.1], size=(224, 224))
    with pytest.warns(openl3.OpenL3Warning, match=r"mute.mkv has no sound"):
        openl3.process_video_file(path, verbose=False)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["mute_image.npz"]


def test_a_bad_half_of_a_video_costs_the_other_nothing(recorder, tmp_path):
    small = write_video(tmp_path / "a.mkv", [0, 0.1], sound=np.resize(NOISE, 8000), size=(224, 224))
    recorder.embed_frames = lambda frames, embedding: 1 / 0
    with pytest.raises(openl3.OpenL3Error, match=r"a\.mkv: ZeroDivisionError"):
        openl3.process_video_file(small, verbose=False)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["a_audio.npz"]
    del recorder.embed_frames
    recorder.embed_audio = lambda sound, embedding: 1 / 0  # isn't called again: its result is there
    openl3.process_video_file(small, verbose=False)
    assert (tmp_path / "a_image.npz").exists()


@pytest.mark.parametrize("kind", [str, Path])
def test_videos_that_are_missing_or_damaged_are_told_plainly(recorder, tmp_path, kind):
    damaged = tmp_path / "damaged.mkv"
    damaged.write_text("no video")
    good = write_video(tmp_path / "good.mkv", [0, 0.1], sound=np.resize(NOISE, 8000), size=(224, 224))
    with pytest.raises(openl3.OpenL3Error, match="2 of 3 files failed; 1 others were embedded") as error:
        openl3.process_video_file([kind(tmp_path / "a.mkv"), kind(damaged), kind(good)], verbose=False)
    assert f"no file is called {tmp_path / 'a.mkv'}" in str(error.value)
    assert f"{damaged} (8 bytes) can't be decoded" in str(error.value)
    assert "Attribute" not in str(error.value)


def test_the_strict_hop_is_at_least_a_sample():
    assert truncated_hop(1 / RATE, FRAMING) == 1 / RATE
    assert truncated_hop(1.00000001e-4 / 4.8, FRAMING) == 1 / RATE


# ---------------------------------------------------------------------------------------------------- command line


def test_the_command_line_takes_files_and_folders_and_openl3s_flags(recorder, tmp_path, capsys):
    write_sound(tmp_path / "in" / "a.wav")
    write_sound(tmp_path / "in" / "below" / "b.wav")
    other = write_sound(tmp_path / "c.wav")
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    flags = "-x s -i linear -c env -as 512 -n -t 0.5 -ab 4 -af librosa -ow -q".split()
    cli.main(["audio", str(tmp_path / "in"), other, "-o", str(tmp_path / "out"), *flags])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_s.npz", "c_s.npz"]
    assert recorder.loads == [("openl3-linear-env", {"embedding_size": 512, "frontend": "librosa"})]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a_s.npz")["timestamps"], [0, 0.5, 1])
    assert capsys.readouterr().out == ""
    cli.main(["audio", other, "-o", str(tmp_path / "out"), "-x", "s"])
    assert "is skipped" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "number"), [(5, 5), ("1.3", 1.3), ("2", 2), (np.float32(0.5), 0.5)])
def test_positive_numbers_are_floats(value, number):
    assert cli.positive_float(value) == number
    assert type(cli.positive_float(value)) is float


@pytest.mark.parametrize(("value", "number"), [(5, 5), (5.0, 5), ("12", 12)])
def test_positive_whole_numbers_are_ints(value, number):
    assert cli.positive_int(value) == number
    assert type(cli.positive_int(value)) is int


@pytest.mark.parametrize("value", [0, -5, -1.0, None, "hello", "-3", float("nan"), [1]])
def test_other_values_are_no_positive_numbers(value):
    for kind, noun in ((cli.positive_float, "number"), (cli.positive_int, "whole number")):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(f"must be a positive {noun}, got {value!r}")):
            kind(value)
    with pytest.raises(argparse.ArgumentTypeError, match="got inf"):
        cli.positive_int(float("inf"))


def test_numbers_that_are_not_positive_are_told_on_the_command_line(capsys):
    for flag in ("-t", "-ab", "-ib"):
        with pytest.raises(SystemExit):
            cli.main(["audio", "a.wav", flag, "0"])
        assert "must be a positive" in capsys.readouterr().err


def test_a_list_of_files_holds_files_and_all_in_folders(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    paths = [write_sound(folder / name) for name in ("b.wav", "a.wav", "below/c.wav")]
    (folder / "notes.txt").write_text("no sound")
    inside = [str(folder / name) for name in ("a.wav", "b.wav", "notes.txt")]
    assert cli.get_file_list([str(folder)]) == inside
    assert cli.get_file_list((folder, paths[2])) == [*inside, paths[2]]
    monkeypatch.chdir(folder)
    assert cli.get_file_list(iter(["b.wav"])) == [paths[0]]
    assert cli.get_file_list([]) == []
    for wrong in (paths[0], folder, None, 5):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a list of paths, got"):
            cli.get_file_list(wrong)
    with pytest.raises(openl3.OpenL3Error, match=r"there is no file or folder missing\.wav"):
        cli.get_file_list([paths[0], "missing.wav"])


@pytest.mark.parametrize("kind", [str, Path, lambda path: [path], lambda path: iter([str(path)])])
def test_run_does_what_the_command_line_does(recorder, tmp_path, capsys, kind):
    write_sound(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    options = {"audio_embedding_size": 512, "audio_center": False, "audio_hop_size": 0.5, "audio_frontend": "librosa"}
    cli.run("audio", kind(tmp_path / "in"), tmp_path / "out", "x", "linear", "env", **options)
    assert capsys.readouterr().out == ""
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x.npz"]
    assert recorder.loads == [("openl3-linear-env", {"embedding_size": 512, "frontend": "librosa"})]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a_x.npz")["timestamps"], [0, 0.5, 1])
    cli.run("audio", kind(tmp_path / "in"), tmp_path / "out", "x", verbose=True)
    assert "is skipped" in (said := capsys.readouterr().out)
    assert said.endswith("openl3: Done!\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, None), "got None"),
        (("invalid", "a.wav"), "modality must be one of 'audio', 'image', 'video', got 'invalid'"),
        (("audio", None), "inputs must be a path or a list of paths, got None"),
        (("audio", 1.0), "got 1.0"),
        (("audio", "missing.wav"), "missing.wav"),
    ],
)
def test_run_refuses_what_is_no_input(recorder, arguments, said):
    with pytest.raises(openl3.OpenL3Error, match=said):
        cli.run(*arguments)


def test_run_ends_where_there_are_no_files(tmp_path, capsys):
    with pytest.raises(SystemExit) as nothing:
        cli.run("audio", [str(tmp_path)])
    assert nothing.value.code == -1
    assert capsys.readouterr().out == f"openl3: No files found in {[str(tmp_path)]}. Aborting.\n"


def test_a_missing_file_costs_the_others_nothing(recorder, tmp_path):
    good = write_sound(tmp_path / "good.wav")
    with pytest.raises(openl3.OpenL3Error, match=r"1 of 2 files failed; 1 others were embedded: .*missing"):
        cli.run("audio", ["missing.wav", good])
    assert (tmp_path / "good.npz").exists()


def test_the_command_line_tells_what_failed_by_its_status(recorder, tmp_path, capsys):
    with pytest.raises(SystemExit) as nothing:
        cli.main(["image", str(tmp_path)])
    assert nothing.value.code == -1
    good, bad = write_picture(tmp_path / "good.png", grey(9)), tmp_path / "bad.png"
    bad.write_text("no picture")
    with pytest.raises(SystemExit) as some:
        cli.main(["image", str(bad), good, "-is", "512", "-ib", "2", "-q"])
    assert some.value.code == 1
    assert "bad.png" in capsys.readouterr().err
    assert (tmp_path / "good.npz").exists()


def test_the_command_line_embeds_videos(recorder, tmp_path):
    write_video(tmp_path / "a.mkv", [0, 0.5, 1], sound=np.resize(NOISE, 12_000), size=(224, 224))
    flags = "-i linear -as 512 -is 512 -t 0.25 -n -ab 4 -ib 2 -af kapre-0.1.4 --strict-openl3 -q".split()
    cli.main(["video", str(tmp_path), "-o", str(tmp_path / "out"), *flags])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_audio.npz", "a_image.npz"]
    assert recorder.loads == [
        ("openl3-linear-music", {"embedding_size": 512, "frontend": "kapre-0.1.4"}),
        ("openl3-linear-music", {"embedding_size": 512}),
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a_audio.npz")["timestamps"], [0, 0.25, 0.5])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a_image.npz")["timestamps"], np.arange(3) / 25)


def test_the_names_that_openl3s_own_tests_import_are_there_and_its_script_reads_the_command_line(
    recorder, tmp_path, monkeypatch
):
    """As test_core, test_cli and test_regression of OpenL3 0.4.2 do, with the import line changed."""
    code = "from openavc.compat.openl3.{} import {}"
    exec(code.format("cli", "get_file_list, main, parse_args, positive_float, positive_int, run"))
    exec(code.format("openl3_exceptions", "OpenL3Error") + "; " + code.format("openl3_warnings", "OpenL3Warning"))
    monkeypatch.setattr(
        sys, "argv", ["openl3", "audio", write_sound(tmp_path / "a.wav"), "--output-dir", str(tmp_path)]
    )
    monkeypatch.delitem(sys.modules, "openavc.compat.openl3.__main__", raising=False)
    importlib.import_module("openavc.compat.openl3.__main__")
    assert (tmp_path / "a.npz").exists()


def test_the_command_line_computes_with_the_threads_it_is_given(recorder, tmp_path, monkeypatch, capsys, one_thread):
    sound, most = write_sound(tmp_path / "a.wav"), min(2, os.cpu_count())
    for number, flags, variable in ((most, ["--threads", str(most)], "1"), (1, [], "1"), (most, [], str(most))):
        monkeypatch.setenv("OPENAVC_THREADS", variable)
        cli.main(["audio", sound, "-ow", "-q", *flags])
        assert torch.get_num_threads() == number
    monkeypatch.setenv("OPENAVC_THREADS", "many")
    with pytest.raises(SystemExit):
        cli.main(["audio", sound])
    assert "OPENAVC_THREADS must be a number of threads such as 2, got 'many'" in capsys.readouterr().err


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "openavc.compat.openl3", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for flag in "-o -x -i -c -as -n -t -ab -is -ib -af -ow -q --threads".split():
        assert f" {flag}" in shown


# ------------------------------------------------------------------------------------- OpenL3's numbers and inputs


@pytest.mark.parametrize(("name", "atol"), [("chirp_stereo_22k", 2e-4), ("short_48k", 2e-4)])
@pytest.mark.filterwarnings("ignore:.*shorter than one window")
def test_channels_and_resampling_give_openl3s_numbers_from_end_to_end(reference, name, atol):
    path = reference / "openl3_audio_mel256_seeded-v0_4_0.h5.gz"
    model = models.load_audio_embedding_model_from_path(path, "mel256", 6144, frontend="librosa")
    inputs = np.load(reference / "openl3_inputs_audio.npz")
    expected = np.load(reference / "openl3_audio_mel256_expected.npz")
    sound, rate = inputs[name].astype(np.float64), inputs[f"{name}_sr"].item()
    options = {"input_repr": "mel256", "frontend": "librosa", "hop_size": 0.5}
    embedding, timestamps = openl3.get_audio_embedding(sound, rate, model, **options)
    np.testing.assert_allclose(embedding, expected[f"{name}|librosa|6144|0.5|True|emb"], rtol=0, atol=atol)
    np.testing.assert_array_equal(timestamps, expected[f"{name}|librosa|6144|0.5|True|ts"])


@pytest.mark.parametrize("name", ["square_224_u8", "photo_300x400_u8", "float_224x260", "video_4x256x320_u8"])
def test_strict_pictures_give_openl3s_numbers_from_end_to_end(reference, name):
    model = models.load_image_embedding_model_from_path(reference / "openl3_image_seeded-v0_4_0.h5.gz", 8192)
    image = np.load(reference / "openl3_inputs_image.npz")[name]
    expected = np.load(reference / "openl3_image_expected.npz")
    embedding, timestamps = openl3.get_image_embedding(image, 2.0, model, strict_openl3=True)
    np.testing.assert_allclose(embedding, expected[f"{name}|8192|emb"], rtol=0, atol=2e-4)
    if image.ndim == 4:
        np.testing.assert_array_equal(timestamps, expected[f"{name}|8192|ts"])


@pytest.fixture(scope="session")
def regression(shared):
    folder = shared / "data" / "openl3_regression"
    if not folder.is_dir():
        pytest.skip(f"OpenL3's regression data are not in {folder}")
    return folder


@pytest.fixture
def full_size(monkeypatch):
    """Make every name load a cheap network with random weights and embeddings of OpenL3's sizes."""

    def load_model(name, embedding_size, frontend="kapre-0.1.4"):
        pooling = {8192: 6144}.get(embedding_size, embedding_size)
        model = OpenL3Net(name.split("-")[1], pooling, (2, 2, 2, 512), frontend)
        for tower in (model.audio_tower, model.image_tower):
            tower.layers[-3] = nn.Conv2d(512, 512, 1, groups=512)  # a full conv4_2 is most of the work
        return model.eval().requires_grad_(False)

    monkeypatch.setattr(weights, "load_model", load_model)
    models.kept_audio_model.cache_clear()
    models.kept_image_model.cache_clear()
    yield
    models.kept_audio_model.cache_clear()
    models.kept_image_model.cache_clear()


LINEAR = {"input_repr": "linear", "content_type": "env"}
SOUND = LINEAR | {"embedding_size": 512, "center": False, "hop_size": 0.5}
CLIP = LINEAR | {
    "audio_embedding_size": 512,
    "audio_center": False,
    "audio_hop_size": 0.5,
    "image_embedding_size": 512,
}


def process_regression(folder, output, strict: bool) -> None:
    """Process OpenL3's regression inputs with the settings that its own results were made with."""
    chirp, daisy = str(folder / "audio" / "chirp_44k.wav"), str(folder / "image" / "daisy.jpg")
    bento = str(folder / "video" / "bento.mp4")
    options = {"output_dir": str(output), "verbose": False, "strict_openl3": strict}
    for frontend in ("kapre", "librosa"):
        openl3.process_audio_file(chirp, suffix=frontend, frontend=frontend, input_repr="mel256", **options)
        openl3.process_audio_file(chirp, suffix=f"{frontend}_linear", frontend=frontend, **SOUND, **options)
    openl3.process_audio_file(chirp, frontend="kapre-0.1.4", **options)
    openl3.process_image_file(daisy, **options)
    openl3.process_image_file(daisy, suffix="linear", embedding_size=512, **LINEAR, **options)
    openl3.process_video_file(bento, **options)
    openl3.process_video_file(bento, suffix="linear", **CLIP, **options)


REGRESSION = {  # result -> OpenL3's own, and how near it is with OpenL3's weights: atol, or cosine
    "chirp_44k_kapre": ("chirp_44k_kapre", {"cosine": 0.99}),
    "chirp_44k_librosa": ("chirp_44k_librosa", {"atol": 2e-3}),
    "chirp_44k_kapre_linear": ("chirp_44k_kapre_linear", {"cosine": 0.99}),
    "chirp_44k_librosa_linear": ("chirp_44k_librosa_linear", {"atol": 2e-3}),
    "chirp_44k": ("chirp_44k", {"cosine": 0.999}),
    "daisy": ("daisy", {"cosine": 0.999}),
    "daisy_linear": ("daisy_linear", {"cosine": 0.999}),
    "bento_audio": ("bento_audio_kapre", {"cosine": 0.98}),
    "bento_audio_linear": ("bento_audio_kapre_linear", {"cosine": 0.98}),
    "bento_image": ("bento_image_kapre", {"cosine": 0.98}),
    "bento_image_linear": ("bento_image_kapre_linear", {"cosine": 0.98}),
}


@pytest.mark.parametrize("strict", [False, True])
def test_openl3s_regression_inputs_give_its_names_keys_shapes_and_times(regression, full_size, tmp_path, strict):
    process_regression(regression, tmp_path, strict)
    assert {path.stem for path in tmp_path.iterdir()} == set(REGRESSION)
    for name, (theirs, _) in REGRESSION.items():
        ours, expected = np.load(tmp_path / f"{name}.npz"), np.load(regression / "regression" / f"{theirs}.npz")
        assert set(ours) == set(expected), name
        assert ours["embedding"].shape == expected["embedding"].shape, name
        assert ours["embedding"].dtype == np.float32
        if "timestamps" in expected:
            np.testing.assert_allclose(ours["timestamps"], expected["timestamps"], atol=1e-9, err_msg=name)


def test_openl3s_regression_inputs_give_its_values(regression, tmp_path):
    for name in ("openl3-mel256-music", "openl3-linear-env"):
        if name not in openavc.list_models() or weights.verify_local(name) is None:
            pytest.skip(f"OpenL3's weights aren't in the cache: run openavc download {name}")
    process_regression(regression, tmp_path, strict=True)
    for name, (theirs, tolerance) in REGRESSION.items():
        embedding = np.load(tmp_path / f"{name}.npz")["embedding"]
        expected = np.load(regression / "regression" / f"{theirs}.npz")["embedding"]
        if "atol" in tolerance:
            np.testing.assert_allclose(embedding, expected, rtol=0, atol=tolerance["atol"], err_msg=name)
        cosine = (embedding * expected).sum(1) / np.linalg.norm(embedding, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > tolerance.get("cosine", 0.9999), name


def test_other_networks_than_openl3s_are_refused():
    other = openavc.load_model()
    with pytest.raises(openl3.OpenL3Error, match="load_audio_embedding_model"):
        openl3.get_audio_embedding(np.zeros(48_000), 48_000, other, verbose=False)
    with pytest.raises(openl3.OpenL3Error, match="load_image_embedding_model"):
        openl3.get_image_embedding(np.zeros((224, 224, 3), np.uint8), model=other, verbose=False)
