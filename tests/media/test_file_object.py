"""File objects of every kind are copied from where they stand, told by their names, and leave nothing behind."""

# ruff: noqa: SIM115 (tests close what these functions open)

import bz2
import contextlib
import functools
import gzip
import http.server
import io
import lzma
import mmap
import os
import resource
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import tracemalloc
import urllib.request
import zipfile

import numpy as np
import pytest

from openavc.media.file_object import as_path, is_file, name_of

DATA = np.random.default_rng(0).bytes(3_000_001)  # some chunks
HALF = len(DATA) // 2


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Give temporary files a folder of their own, which is empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


# -------------------------------------------------------------------------------------------- what gives the bytes


class OnlyReads:
    """The least that a file object can do; it gives fewer bytes than it is asked for."""

    def __init__(self):
        self._rest = DATA

    def read(self, size):
        part, self._rest = self._rest[: min(size, 70_000)], self._rest[min(size, 70_000) :]
        return bytearray(part)


class WithPath(io.BytesIO):
    """An open file that also has a path, as local files of fsspec do."""

    def __fspath__(self):
        return "not to be read"


def written(folder):
    (folder / "data").write_bytes(DATA)
    return folder / "data"


@contextlib.contextmanager
def fed(write_end):
    """Write the data in the background."""

    def feed():
        with write_end:
            write_end.write(DATA)

    thread = threading.Thread(target=feed)
    thread.start()
    yield
    thread.join()


@contextlib.contextmanager
def pipe(_):
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as file, fed(open(write_end, "wb")):
        yield file


@contextlib.contextmanager
def connection(_):
    ours, theirs = socket.socketpair()
    write_end = theirs.makefile("wb")
    theirs.close()
    with ours, ours.makefile("rb") as file, fed(write_end):
        yield file


@contextlib.contextmanager
def process(folder):
    copy = "import shutil, sys; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"
    with subprocess.Popen([sys.executable, "-c", copy, written(folder)], stdout=subprocess.PIPE) as running:
        yield running.stdout


@contextlib.contextmanager
def serving(handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextlib.contextmanager
def response(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    written(folder)
    handler = functools.partial(Quiet, directory=folder)
    with serving(handler) as address, urllib.request.urlopen(f"{address}/data") as file:
        yield file


@contextlib.contextmanager
def in_tar(folder):
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        archive.add(written(folder), "inside/data")
    with tarfile.open(folder / "a.tar.gz") as archive:
        yield archive.extractfile("inside/data")


@contextlib.contextmanager
def in_zip(folder):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(written(folder), "inside/data")
    with zipfile.ZipFile(folder / "a.zip") as archive, archive.open("inside/data") as file:
        yield file


def spooled(_):
    file = tempfile.SpooledTemporaryFile()
    file.write(DATA)
    file.seek(0)
    return file


def named_temporary(folder):
    file = tempfile.NamedTemporaryFile(dir=folder)
    file.write(DATA)
    file.seek(0)
    return file


def mapped(folder):
    with open(written(folder), "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


OBJECTS = {
    "BytesIO": lambda _: io.BytesIO(DATA),
    "BufferedReader": lambda folder: open(written(folder), "rb"),
    "FileIO": lambda folder: open(written(folder), "rb", buffering=0),
    "read and write": lambda folder: open(written(folder), "r+b"),
    "least": lambda _: contextlib.nullcontext(OnlyReads()),
    "with a path": lambda _: WithPath(DATA),
    "gzip": lambda _: gzip.open(io.BytesIO(gzip.compress(DATA, 1))),
    "bz2": lambda _: bz2.open(io.BytesIO(bz2.compress(DATA))),
    "lzma": lambda _: lzma.open(io.BytesIO(lzma.compress(DATA, preset=0))),
    "tar": in_tar,
    "zip": in_zip,
    "spooled": spooled,
    "temporary": named_temporary,
    "mmap": mapped,
    "pipe": pipe,
    "socket": connection,
    "process": process,
    "response": response,
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_kind_of_file_object_gives_its_bytes_and_stays_open(kind, tmp_path):
    with OBJECTS[kind](tmp_path) as file:
        assert is_file(file)
        with as_path(file) as path:
            assert path.read_bytes() == DATA
        assert not getattr(file, "closed", False)
        assert not file.read(1)  # it stands at its end


@pytest.mark.parametrize("kind", ["BytesIO", "BufferedReader", "FileIO", "gzip", "zip", "tar", "mmap", "pipe"])
def test_a_file_object_is_read_from_where_it_stands(kind, tmp_path):
    with OBJECTS[kind](tmp_path) as file:
        before = b""
        while len(before) < HALF:  # a pipe gives less at once
            before += file.read(HALF - len(before))
        with as_path(file) as path:
            assert path.read_bytes() == DATA[HALF:]


def test_files_of_other_file_systems_are_read():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/data", DATA)
    with memory.open("/data") as file, as_path(file) as path:
        assert path.read_bytes() == DATA
    memory.rm("/data")


def test_copying_takes_the_memory_of_a_chunk(tmp_path):
    with open(tmp_path / "zeros", "wb") as file:
        file.truncate(200_000_000)
    with open(tmp_path / "zeros", "rb") as file:
        tracemalloc.start()
        with as_path(file) as path:
            assert path.stat().st_size == 200_000_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4_000_000


# ------------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("given", "name", "suffix"),
    [
        ("clips/bark.mp3", "clips/bark.mp3", ".mp3"),
        ("bark.wav/", "bark.wav/", ""),
        ("a.b/c", "a.b/c", ""),
        ("odd\0.\0", "odd\0.\0", ""),
        ("x" * 5000 + ".wav", "x" * 5000 + ".wav", ".wav"),
        ("bark." + "w" * 500, "bark." + "w" * 500, ""),
        ("", "<BytesIO>", ""),
        (7, "<BytesIO>", ""),  # the number of a descriptor
        (b"bark.wav", "<BytesIO>", ""),
        (None, "<BytesIO>", ""),
    ],
)
def test_a_copy_is_told_by_the_name_of_its_object_and_keeps_its_ending(given, name, suffix):
    file = io.BytesIO(b"data")
    file.name = given
    assert name_of(file) == name
    with as_path(file) as path:
        assert (str(path), name_of(path), path.suffix) == (name, name, suffix)
        assert os.path.exists(path)


def test_paths_are_passed_on_and_told_as_they_are(tmp_path):
    for path in ("a/b.wav", tmp_path / "b.wav"):
        with as_path(path) as same:
            assert same is path
        assert name_of(path) == str(path)
    (tmp_path / "b.wav").touch()
    for folder in (tmp_path, os.fsencode(tmp_path)):
        with os.scandir(folder) as entries:
            [entry] = [entry for entry in entries if os.fsdecode(entry.name) == "b.wav"]
        assert name_of(entry) == str(tmp_path / "b.wav")


# ---------------------------------------------------------------------------------------------------------- refused


def test_a_response_that_ends_early_is_not_read_in_part():
    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", len(DATA) + 7)
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_):
            pass

    with (
        serving(Short) as address,
        urllib.request.urlopen(address) as file,
        pytest.raises(OSError, match="<HTTPResponse> can't be read: the connection ended 7 bytes early"),
        as_path(file),
    ):
        pass


class Gives:
    """Its read() gives, or raises, what it is told to."""

    def __init__(self, given):
        self.given = given

    def read(self, size):
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given


def closed():
    file = io.BytesIO(DATA)
    file.close()
    return file


def at_its_end():
    file = io.BytesIO(DATA)
    file.read()
    return file


def cut_gzip():
    return gzip.open(io.BytesIO(gzip.compress(DATA)[:-100]))


def damaged_zip():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.wav", DATA)
    damaged = bytearray(data.getvalue())
    damaged[1000] ^= 1
    return zipfile.ZipFile(io.BytesIO(damaged)).open("a.wav")


REFUSED = {
    "text": (lambda: io.StringIO("RIFF"), TypeError, r"<StringIO> gives text, not bytes: open it with .*'rb'"),
    "a text file": (lambda: open(__file__), TypeError, r"test_file_object\.py gives text.*open\(\.\.\., 'rb'\)"),
    "a temporary text file": (lambda: tempfile.NamedTemporaryFile("w+"), TypeError, "gives text"),
    "no text file by its looks": (lambda: Gives("RIFF"), TypeError, r"<Gives> isn't a binary file: .* gives str"),
    "arrays": (lambda: Gives(np.zeros(3)), TypeError, "gives ndarray, not bytes"),
    "empty": (io.BytesIO, OSError, r"<BytesIO> gave no bytes: it is empty, or stands at its end \(seek\(0\)"),
    "at its end": (at_its_end, OSError, r"stands at its end \(seek\(0\)"),
    "closed": (closed, ValueError, "<BytesIO> is closed"),
    "write only": (lambda: tempfile.TemporaryFile("wb"), OSError, "can't be read: UnsupportedOperation: read"),
    "a device": (lambda: open("/dev/zero", "rb"), OSError, "/dev/zero is a device"),
    "a device, unbuffered": (lambda: open("/dev/zero", "rb", buffering=0), OSError, "/dev/zero is a device"),
    "a cut archive": (cut_gzip, OSError, "<GzipFile> can't be read: EOFError: Compressed file ended"),
    "a damaged archive": (damaged_zip, OSError, r"a\.wav can't be read: BadZipFile: Bad CRC-32"),
    "a broken connection": (lambda: Gives(ConnectionResetError("reset")), OSError, "<Gives> can't be read: .*reset"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_gives_no_bytes_is_refused_by_name(kind):
    make, error, said = REFUSED[kind]
    file = make()
    with pytest.raises(error, match=said) as caught, as_path(file):
        pass
    assert caught.type is error
    with contextlib.suppress(AttributeError):
        file.close()


def test_a_pipe_that_does_not_wait_is_no_end():
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    refused = pytest.raises(OSError, match=r"doesn't wait for data .*io\.BytesIO")
    with open(read_end, "rb", buffering=0) as file, open(write_end, "wb"), refused, as_path(file):
        pass


def test_a_disk_that_is_full_is_told_with_another_folder_as_the_way_out(temporary):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    told = rf"<BytesIO> can't be copied to {temporary} \(TMPDIR .*: File too large"
    try:
        with pytest.raises(OSError, match=told), as_path(io.BytesIO(DATA)):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("item", [None, 3, b"a.wav", [], io.BytesIO, np.zeros(3), {"read": 1}])
def test_other_things_are_no_files(item):
    assert not is_file(item)


def test_the_end_of_a_process_removes_what_is_still_being_read(temporary):
    code = """
import io, os, tempfile
from openavc.media.file_object import as_path
reading = as_path(io.BytesIO(b"1"))
reading.__enter__()
print(os.listdir(tempfile.gettempdir()))
"""
    environment = os.environ | {"TMPDIR": str(temporary)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert b"openavc-" in said


def test_paths_beside_a_copy_are_ordinary_ones():
    with as_path(io.BytesIO(b"content")) as path:
        assert str(path) == "<BytesIO>"
        for derived in (path.parent, path.with_suffix(".x"), path.resolve()):
            assert str(derived) == os.fspath(derived)
