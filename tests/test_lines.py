"""Messages of every command on damaged, cut, silent, short, spliced, unreadable, empty and oddly named files.

Each command runs in a process of its own, whose standard error holds what native libraries would write, too. Every line
there is a warning or an error that names a file.
"""

import gzip
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from safetensors.torch import save_file
from videos import noise, tone, write_sound, write_video

import openavc
from openavc import cli
from openavc.lines import naming, one_line
from openavc.models import AVENet
from openavc.weights import build_model
from training.checkpoint import save_weights

ROOT = Path(__file__).parents[1]
NETWORK = {"architecture": "ave", "widths": [2, 2, 2, 2], "frontend": "mel64", "image_size": 16, "joint_size": 4}


def damaged(content: bytes, seed: int) -> bytes:
    """Change twenty bytes behind the first hundred."""
    generator, changed = np.random.default_rng(seed), bytearray(content)
    for at in generator.integers(100, len(content), 20):
        changed[at] = generator.integers(256)
    return bytes(changed)


def write_odd_versions(path: Path) -> None:
    """Write beside a file versions that are cut, damaged, spliced and empty, some with names that break lines."""
    content, half = path.read_bytes(), path.stat().st_size // 2
    versions = {"cut\n": content[:half], "spliced": content[:half] + b"\xff\xfb" * 999 + content, "empty": b""}
    versions |= {f"damaged{seed}": damaged(content, seed) for seed in range(4)}
    for name, odd in versions.items():
        (path.parent / f"{name}-{path.name}").write_bytes(odd)


def write_junk(folder: Path, ending: str) -> None:
    names = [b"junk", b"line\nbreak", b"\x1b[31mred", "next\x85\u2028\u202e".encode(), b"100%d{x}"]
    names += [b"not-utf8-\xff"] if sys.platform == "linux" else []
    for name in names:
        (folder / os.fsdecode(name + ending.encode())).write_bytes(b"junk")
    (folder / f"unreadable{ending}").write_bytes(b"junk")
    (folder / f"unreadable{ending}").chmod(0)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / f"fifo{ending}")


def write_sounds(folder: Path) -> None:
    folder.mkdir()
    waveform = noise(32_000)
    for ending in ("wav", "flac", "ogg", "mp3", "aiff"):
        soundfile.write(folder / f"good.{ending}", waveform, 16_000)
    for ending, codec, container in (("aac", "aac", "adts"), ("m4a", "aac", None), ("mp2", "mp2", None)):
        write_sound(folder / f"good.{ending}", tone(440, 2, 16_000), 16_000, codec, container=container)
    for path in sorted(folder.iterdir()):
        write_odd_versions(path)
    for name, samples in {"silent\n": 0 * waveform, "short\n": waveform[:100], "one": waveform[:1]}.items():
        soundfile.write(folder / f"{name}.wav", samples, 16_000)
    for name, value in {"nan": np.nan, "infinite": np.inf, "loud": 1e30}.items():
        soundfile.write(folder / f"{name}.wav", np.append(waveform, value), 16_000, subtype="DOUBLE")
    write_junk(folder, ".wav")
    write_junk(folder, ".mp3")


def write_pictures(folder: Path) -> None:
    folder.mkdir()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "webp", "gif", "bmp", "jp2", "tif"):
        options = {"compression": "tiff_lzw"} if ending == "tif" else {}
        picture.save(folder / f"good.{ending}", **options)
    deep = np.asarray(picture).astype(np.uint16) * 257
    import cv2

    assert cv2.imwrite(str(folder / "deep.png"), deep) and cv2.imwrite(str(folder / "deep.tif"), deep)
    for path in sorted(folder.iterdir()):
        write_odd_versions(path)
    picture.save(folder / "profile\n.png", icc_profile=b"no profile")
    picture.save(folder / "exif\n.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(folder / "nan.tif")
    write_junk(folder, ".png")


def write_videos(folder: Path) -> None:
    folder.mkdir()
    times, sound = np.arange(20) / 10, noise(16_000)
    for name, codec in {"good.mkv": "ffv1", "good.avi": "mpeg4", "good.mp4": "mpeg4", "good.mov": "png"}.items():
        pixels = "rgb24" if codec == "png" else "yuv420p"
        write_odd_versions(write_video(folder / name, times, codec, 10, sound, pixels=pixels))
    write_video(folder / "silent\n.mkv", [0, 0.1], sound=0 * sound)
    write_video(folder / "short\n.mkv", [0, 0.1], sound=sound[:100])
    write_video(folder / "jump\n.mkv", [0, 0.1, 2000, 2000.1], sound=sound)
    write_video(folder / "mute\n.mkv", [0, 0.1])
    write_sound(folder / "blind\n.mkv", noise(8000), 8000, "pcm_s16le")
    write_junk(folder, ".mp4")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Write all kinds of odd files, and weights that compute fast."""
    folder = tmp_path_factory.mktemp("odd")
    write_sounds(folder / "sounds")
    write_pictures(folder / "pictures")
    write_videos(folder / "videos")
    metadata = {"architecture": json.dumps(NETWORK)}
    options = {key: value for key, value in NETWORK.items() if key != "architecture"}
    save_file(AVENet(**options).state_dict(), folder / "tiny.safetensors", metadata)
    packed = folder / "cut\n.h5.gz"
    packed.write_bytes(gzip.compress(os.urandom(2000))[:1000])
    own = folder / "home" / "models"
    own.mkdir(parents=True)
    (own / "broken\n.json").write_text("{")
    return folder


@pytest.fixture
def run(odd):
    """Return a function that runs a command and returns its status and output, after it has looked at every line."""

    def run(*arguments, status):
        command = [sys.executable, "-m", "openavc", *map(os.fspath, arguments)]
        settings = {"PYTHONPATH": str(ROOT), "OPENAVC_HOME": str(odd / "home"), "PYTHONWARNINGS": "default"}
        environment = os.environ | settings
        done = subprocess.run(command, cwd=odd, env=environment, capture_output=True, timeout=300)
        output, errors = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == status, errors
        names = [one_line(Path(path).name) for path in (*odd.rglob("*"), *arguments)]
        for line in errors.splitlines():
            assert line.isprintable() and line.startswith(("warning: ", "failed: ", "Error: ")), line
            assert any(name in line for name in names), line
            assert len(line) < 500, line
        assert output == "" or output[:-1].replace("\n", "").isprintable()
        return output, errors

    return run


COMMANDS = {
    "audio": ["sounds", "--hop-size", "1"],
    "image": ["pictures"],
    "video": ["videos", "--embedding", "joint"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_files_embedded_one_after_the_other_are_told_of_in_a_line_each(run, odd, command):
    named = [path for path in sorted((odd / COMMANDS[command][0]).iterdir()) if path.name.startswith("fifo")]
    options = [*COMMANDS[command], *named, "missing\n.wav", "--model", odd / "tiny.safetensors"]
    output, errors = run(command, *options, "--output", odd / f"results\n-{command}", status=1)
    [last] = output.splitlines()
    failed = int(last.split(" failed")[0].split()[-1])
    assert failed == sum(line.startswith("failed: ") for line in errors.splitlines()) > 10
    assert int(last.split(" done")[0]) > 10
    assert r"missing\n.wav" in errors and r"line\nbreak" in errors and r"\x1b[31mred" in errors


SINGLE = [
    ("score", "videos/cut\n-good.mp4"),
    ("score", "sounds/damaged1-good.mp3", "pictures/damaged1-good.png"),
    ("score", "sounds/silent\n.wav", "pictures/\x1b[31mred.png"),
    ("localize", "videos/line\nbreak.mp4", "--output", "map\n.mp4"),
    ("localize", "pictures/profile\n.png", "--audio", "sounds/line\nbreak.wav", "--output", "map\n.png"),
    ("localize", "videos/good.mkv", "--output", "map\n-good.mkv"),
    ("import-openl3", "cut\n.h5.gz", "--input-repr", "linear"),
    ("import-openl3", "sounds/line\nbreak.wav"),
    ("download", "broken\n"),
    ("verify", "broken\n"),
    ("export", "broken\n", "--output", "onnx"),
    ("plot", "sounds/line\nbreak.wav", "--output", "drawn\n.png"),
]


@pytest.mark.parametrize("arguments", SINGLE, ids=lambda arguments: " ".join(map(one_line, arguments)))
def test_a_file_that_cannot_be_used_is_an_error_of_one_line(run, odd, arguments):
    usage = arguments[0] in ("download", "verify", "export") or "map\n-good.mkv" in arguments
    _, errors = run(*arguments, status=2 if usage else 1)
    assert errors.splitlines()[-1].startswith("Error: ")


INPUTS = {"image_size": 16, "frames": 8, "frame_rate": 25.0, "sample_rate": 8000}
FUSING = {
    "sync.safetensors": {"architecture": "multisensory", "widths": [2, 2, 2, 2], **INPUTS},
    "separate.safetensors": {
        "architecture": "separation",
        "widths": [2, 2, 2, 2],
        "sync_widths": [2, 2, 2, 2],
        "window": 256,
        "hop": 64,
        "fft_size": 256,
        **INPUTS,
    },
}


@pytest.mark.parametrize("arguments", [("sync", "--max-offset", "1"), ("separate", "--output", "separated\n")])
def test_videos_that_cannot_be_fused_are_told_of_in_a_line_each(run, odd, arguments):
    command, *options = arguments
    weights = odd / f"{command}.safetensors"
    save_weights(weights, build_model(FUSING[weights.name]), FUSING[weights.name])
    videos = [odd / "videos" / name for name in ("mute\n.mkv", "blind\n.mkv", "empty-good.mp4", "damaged1-good.mp4")]
    _, errors = run(command, *videos, *options, "--model", weights, status=1)
    failed = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert len(failed) >= 3
    for name in (r"mute\n.mkv", r"blind\n.mkv", "empty-good.mp4"):
        assert any(name in line for line in failed)


def test_silent_and_short_files_are_warned_of_in_a_line_each(run, odd):
    model = ("--model", odd / "tiny.safetensors")
    _, errors = run("score", "videos/silent\n.mkv", *model, status=0)
    assert r"silent\n.mkv is silent" in errors
    _, errors = run("score", "sounds/short\n.wav", "pictures/profile\n.png", *model, status=0)
    assert r"short\n.wav is 0.00625 s long" in errors and r"profile\n.png: its ICC profile" in errors


def test_a_library_names_what_it_cannot_take(run, odd):
    model = ("--model", odd / "tiny.safetensors")
    good = [path for path in (odd / "sounds").iterdir() if path.name.startswith(("good.", "silent"))]
    run("audio", *good, "--embedding", "joint", *model, "--output", odd / "joint", status=0)
    content = next((odd / "joint").glob("good.*npz")).read_bytes()
    for name, changed in {"cut\n": content[:900], "damaged": damaged(content, 0), "empty": b""}.items():
        (odd / "joint" / f"{name}.npz").write_bytes(changed)
    _, errors = run("index", "joint", "--db", "library", status=1)
    assert r"cut\n.npz can't be read" in errors and r"silent\n.npz is left out" in errors
    output, _ = run(
        "search", "--db", "library", "--audio", "sounds/good.wav", "--html", "page\n.html", *model, status=0
    )
    assert "good." in output.splitlines()[0]
    run("search", "--db", "library", "--audio", "sounds/silent\n.wav", *model, status=1)
    run("search", "--db", "missing\n", "--image", "pictures/good.png", status=1)


def test_a_model_of_ones_own_that_is_broken_is_warned_of_by_its_name(run):
    _, errors = run("models", status=0)
    assert r"broken\n.json is left out of the models" in errors


def test_every_command_is_tried():
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(f'run("{name}"' in here or f'("{name}", "' in here or name in COMMANDS for name in cli.main.commands)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J\x9b\x00", r"\x1b[2J\x9b\x00"),
        ("\x85\u2028\u202e", r"\x85\u2028\u202e"),
        ("\udcff", r"\udcff"),
        ("Grüße, 犬.wav \\n", "Grüße, 犬.wav \\n"),
    ],
)
def test_a_line_holds_what_a_terminal_prints_and_escapes_of_the_rest(text, line):
    assert one_line(text) == line
    assert one_line(Path(text.replace("\x00", ""))) == line.replace(r"\x00", "")


def test_warnings_that_name_no_file_get_a_name(recwarn):
    with warnings.catch_warnings(), naming("a.wav", "b.png"):
        warnings.simplefilter("always")
        for text in ("overflow", "b.png: odd"):
            warnings.warn(text, RuntimeWarning, stacklevel=1)
    assert [str(one.message) for one in recwarn] == ["a.wav: overflow", "b.png: odd"]


def test_letters_that_the_output_cannot_hold_are_escaped(capfd):
    code = "from openavc.lines import *; print_any_letter(); say('é犬'); tell('é犬')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert capfd.readouterr() == ("\\xe9\\u72ac\n", "\\xe9\\u72ac\n")


def test_a_warning_has_the_place_of_the_call_of_the_user(tmp_path):
    array = np.zeros(48_000, dtype=np.float32)
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture, icc_profile=b"none at all")
    for call in (lambda: openavc.get_audio_embedding(array, 48_000), lambda: openavc.get_image_embedding(picture)):
        with pytest.warns(UserWarning) as given:
            call()
        assert {Path(one.filename) for one in given} == {Path(__file__)}
