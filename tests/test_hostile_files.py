"""Files that claim far more than any machine has cost themselves alone: no memory, no time, and not the others."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import soundfile
from hostile_files import PICTURES, RESULTS, SOUNDS, VIDEOS
from joint_results import vectors, write
from PIL import Image
from videos import noise, write_video

ROOT = Path(__file__).parents[1]
MEMORY = 2_000_000_000  # bytes, of all processes of a command together
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")
PATIENCE = 10  # seconds without progress, in which a file would have failed as one that hangs
TIME = 240  # seconds for a whole folder, of which most take less than 0.1

GOOD = {
    "audio": ("good.wav", lambda path: soundfile.write(path, noise(8000), 8000)),
    "image": ("good.png", lambda path: Image.new("RGB", (8, 8), (200, 0, 0)).save(path)),
    "video": ("good.mkv", lambda path: write_video(path, [0, 0.5], sound=noise(8000))),
}
HOSTILE = {"audio": SOUNDS, "image": PICTURES, "video": VIDEOS}
# What failures of these files must say; the others may fail for any reason, or be read.
SAID = {
    r"rate\d+\.(wav|mka|au)|rate_of_(2|1e9\.(caf|sph|ogg|mkv)|1_hertz|1e300\.caf).*": "OPENAVC_HIGHEST_RATE",
    r"rates_within\.aac": "one a second is taken",
    r"rate_of_100_hertz\.flac": "unpacks 1142 bytes to more than 828 s",
    r"(many_gaps|gaps_among_pictures|sound_gap)\..*": "gaps add up to .*OPENAVC_LONGEST_GAP",
    r"(concat.*|session)\..*": "points to other files",
    r"(canvas|side16000|bomb\.|giant|strip\.|tiles|icon|deep_giant|floats_rgba|multiplied).*": "OPENAVC_MAX_PIXELS",
    r"scans\.jpg": "more than 100 scans",
    r"(side30000|png16000|png_bombs|pictures_of_gif)\.mkv": "not one picture .* 67,108,864|the limit is 67,108,864",
}


def memory_of_tree(process):
    """Return the resident size of a process and all below it, in bytes."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    family = {process}
    while below := {child for child, parent in parents.items() if parent in family} - family:
        family |= below
    total = 0
    for member in family:
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def run(*arguments, **variables):
    """Run a command; return its status, what it said, and the most memory that its processes took."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENAVC_PATIENCE": str(PATIENCE)} | variables
    command = [sys.executable, "-m", "openavc", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes)
    peak, ended = [0], threading.Event()

    def watch():
        while not ended.wait(0.05):
            peak[0] = max(peak[0], memory_of_tree(process.pid))
            if peak[0] > 2 * MEMORY:
                process.kill()  # for the machine's sake

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = process.communicate(timeout=TIME)
    finally:
        process.kill()
        ended.set()
        watcher.join()
    return process.returncode, out, err, peak[0]


def failures(err):
    """Return what was said of each file that failed, by its name."""
    found = [re.match(r"failed: .*?/in/(\S+?)[:,]?( .*|$)", line) for line in err.splitlines()]
    return {match[1]: match[2] for match in found if match}


def special_files(folder):
    """Add what isn't a regular file, and return the paths."""
    os.mkfifo(folder / "pipe.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "round").symlink_to(folder)
    return [folder / name for name in ("pipe.wav", "device.wav", "loop.wav")]


@needs_linux
@pytest.mark.parametrize("command", ["audio", "image", "video"])
def test_hostile_files_cost_themselves_alone(command, tmp_path):
    folder, others = tmp_path / "in", []
    folder.mkdir()
    for name, content in HOSTILE[command].items():
        (folder / name).write_bytes(content())
    name, write_good = GOOD[command]
    for prefix in ("a_", "m_", "z_"):
        write_good(folder / (prefix + name))
    if command == "audio":
        others = special_files(folder)
    status, out, err, peak = run(command, folder, *others, "--output", tmp_path / "out")
    assert status == 1
    assert "hung" not in err and "killed" not in err and "Traceback" not in err
    assert peak < MEMORY
    failed, done = failures(err), {path.name for path in (tmp_path / "out").rglob("*.npz")}
    total = len(HOSTILE[command]) + 3 + len(others)
    assert f"{total - len(failed)} done, 0 skipped, {len(failed)} failed" in out
    assert len(done) == total - len(failed)
    for prefix in ("a_", "m_", "z_"):
        assert f"{prefix}{name}.npz" in done or f"{prefix}{Path(name).stem}.npz" in done
    for path in others:
        assert path.name in failed
    for pattern, reason in SAID.items():
        for hostile in filter(re.compile(pattern).fullmatch, HOSTILE[command]):
            assert re.search(reason, failed[hostile]), hostile


def test_there_are_enough_hostile_files():
    assert sum(map(len, (SOUNDS, PICTURES, VIDEOS, RESULTS))) > 100


@needs_linux
def test_results_that_unpack_to_gigabytes_are_named_by_index(tmp_path):
    pytest.importorskip("lancedb", reason="a library needs LanceDB, of the extra [search]")
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in RESULTS.items():
        (folder / name).write_bytes(content())
    write(folder / "good.npz", vectors(0))
    os.mkfifo(folder / "pipe.npz")
    status, out, err, peak = run("index", folder, folder / "pipe.npz", "--db", tmp_path / "db")
    assert status == 1 and peak < MEMORY
    assert f"1 added, 0 skipped, {len(RESULTS) + 1} failed" in out
    failed = failures(err)
    assert set(failed) == {*RESULTS, "pipe.npz"}
    for name in ("bomb.npz", "bomb_of_metadata.npz", "moments.npz"):
        assert "bytes, the limit is" in failed[name]


@needs_linux
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "good.wav", "giant.jpg"], "OPENAVC_MAX_PIXELS"),
        (["localize", "good.png", "--audio", "rate1000000000.wav", "--output", "map.png"], "OPENAVC_HIGHEST_RATE"),
        (["localize", "sound_gap.mkv", "--output", "map.mp4"], "OPENAVC_LONGEST_GAP"),
    ],
)
def test_commands_of_one_file_name_a_hostile_one(arguments, said, tmp_path):
    every = SOUNDS | PICTURES | VIDEOS
    for name in filter(every.__contains__, arguments):
        (tmp_path / name).write_bytes(every[name]())
    for name, write_good in GOOD.values():
        write_good(tmp_path / name)
    named = [str(tmp_path / argument) if "." in argument else argument for argument in arguments]
    status, _, err, peak = run(*named)
    assert status == 1 and peak < MEMORY
    [line] = err.splitlines()
    assert said in line
    assert not list(tmp_path.glob("map*"))
