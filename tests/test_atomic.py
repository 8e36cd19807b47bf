"""Files are written completely or not at all."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from openavc.atomic import write_atomically, write_bytes


@pytest.fixture(params=[None, b"before"], ids=["new", "replaced"])
def target(request, tmp_path):
    """Return the path of a file that doesn't exist yet, or of one that does."""
    path = tmp_path / "file.bin"
    if request.param is not None:
        path.write_bytes(request.param)
    return path


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_what_is_written_takes_the_name_at_the_end(target):
    before = target.read_bytes() if target.exists() else None
    with write_atomically(target) as partial:
        partial.write_bytes(b"after")
        assert (target.read_bytes() if target.exists() else None) == before
        assert partial.parent == target.parent and partial.name.startswith(".")
    assert target.read_bytes() == b"after"
    assert names(target.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_what_was_there_and_nothing_else(target, error):
    before = names(target.parent)
    with pytest.raises(error), write_atomically(target) as partial:
        partial.write_bytes(b"half")
        raise error
    assert names(target.parent) == before
    assert not target.exists() or target.read_bytes() == b"before"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_the_folder_is_made(tmp_path):
    write_bytes(str(tmp_path / "new/folder/file"), b"content")
    assert (tmp_path / "new/folder/file").read_bytes() == b"content"
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_bytes(tmp_path / "file" / "inside", b"")


def test_a_killed_writer_leaves_what_was_there(target):
    before = target.read_bytes() if target.exists() else None
    code = (
        "import os, signal, sys\nfrom openavc.atomic import write_atomically\n"
        "with write_atomically(sys.argv[1]) as partial:\n"
        "    partial.write_bytes(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (target.read_bytes() if target.exists() else None) == before
    write_bytes(target, b"after")
    assert target.read_bytes() == b"after"


KILLED_HALFWAY = """
import os, sys
from openavc.atomic import write_atomically
with write_atomically(sys.argv[1]) as partial:
    partial.write_bytes(b"half")
    os._exit(9)
"""


def test_the_next_writer_takes_over_what_killed_ones_left(tmp_path):
    target = tmp_path / "checkpoint.pt"
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", KILLED_HALFWAY, target]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    with write_atomically(target) as partial:
        partial.write_bytes(b"all")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert target.read_bytes() == b"all"


def test_what_killed_writers_of_other_files_left_is_removed(tmp_path):
    write_bytes(tmp_path / "kept", b"")
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", KILLED_HALFWAY, tmp_path / name])
    assert names(tmp_path) == [".b.openavc-partial", "kept"]  # the second one has removed what the first one left
    code = "import sys\nfrom openavc.atomic import write_bytes\nwrite_bytes(sys.argv[1], b'')"
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "c"]).returncode == 0
    assert names(tmp_path) == ["c", "kept"]


def test_what_a_living_writer_has_begun_is_not_removed(tmp_path):
    code = "import sys\nfrom openavc.atomic import write_bytes\nwrite_bytes(sys.argv[1], b'')"
    with write_atomically(tmp_path / "slow") as partial:
        partial.write_bytes(b"half")
        assert subprocess.run([sys.executable, "-c", code, tmp_path / "quick"]).returncode == 0
        assert partial.read_bytes() == b"half"
    assert names(tmp_path) == ["quick", "slow"]


def test_the_longest_name_that_a_file_system_takes_can_be_written(tmp_path):
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_bytes(tmp_path / name, b"content")
    assert names(tmp_path) == [name]


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(OSError, match="that no file can take the place of"):
            write_bytes(tmp_path / name, b"")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert names(tmp_path) == ["folder", "link", "pipe"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("far/away")
    for content in (b"before", b"after"):
        write_bytes(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "far/away").read_bytes() == content
    assert names(tmp_path / "far") == ["away"]


WRITE_SLOWLY = """
import sys, time
from openavc.atomic import write_atomically
with write_atomically(sys.argv[1]) as partial, open(partial, "wb") as file:
    for _ in range(20):
        file.write(sys.argv[2].encode() * 1000)
        file.flush()
        time.sleep(0.01)
"""


def test_processes_that_write_one_file_at_once_write_it_whole(tmp_path):
    target = tmp_path / "file"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_SLOWLY, target, letter]) for letter in "abcd"]
    assert [writer.wait() for writer in writers] == [0] * 4
    content = target.read_bytes()
    assert len(content) == 20_000
    assert len(set(content)) == 1
    assert names(tmp_path) == ["file"]


def test_an_empty_file_can_be_written(tmp_path):
    write_bytes(tmp_path / "file", b"")
    assert (tmp_path / "file").read_bytes() == b""


def test_a_file_system_without_locks_will_do(target, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="this system has no locks in the first place")

    def refused(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    with write_atomically(target) as partial:
        partial.write_bytes(b"after")
        assert str(os.getpid()) in partial.name
    assert target.read_bytes() == b"after"
    assert names(target.parent) == ["file.bin"]
