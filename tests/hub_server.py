"""A Hub of one file on 127.0.0.1 that answers what huggingface_hub asks, well or badly, and notes what was asked."""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO, REVISION, FILENAME = "openavc/tiny", "0123456789abcdef0123456789abcdef01234567", "tiny.safetensors"
PATH = f"/{REPO}/resolve/{REVISION}/{FILENAME}"


class FakeHub(ThreadingHTTPServer):
    """Serves `content` at PATH in the manner of `behaviour`, which a test may change at any time.

    "good"; "missing": 404; "overloaded": 503; "swapped": other bytes, as many; "shorter": the first half, as if it were
    all; "short body": the first half, though HEAD told the whole size; "cut": the first half of a body announced whole,
    then the connection closes, every time; "dies once": the same, once; "stalls": the same, kept open until `go_on`
    is set; "together": HEAD is answered when two have asked.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.behaviour = content, "good"
        self.requests: list[tuple[str, int]] = []  # (method, first byte asked for)
        self.half_sent, self.go_on, self.two = threading.Event(), threading.Event(), threading.Barrier(2)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.shutdown()
        self.server_close()

    def served(self) -> bytes:
        """What this Hub says the file is."""
        if self.behaviour == "swapped":
            return self.content[::-1]
        return self.content[: len(self.content) // 2] if self.behaviour == "shorter" else self.content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.server.requests.append(("HEAD", 0))
        if self.server.behaviour == "together":
            self.server.two.wait(timeout=60)
        if self._found():
            self._head(200, len(self.server.served()))

    def do_GET(self):
        hub, start = self.server, int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        hub.requests.append(("GET", start))
        if not self._found():
            return
        body, half = hub.served()[start:], len(hub.served()) // 2
        self._head(206 if start else 200, half if hub.behaviour == "short body" else len(body), start)
        with contextlib.suppress(ConnectionError):  # a client that was killed
            if hub.behaviour not in ("cut", "dies once", "stalls", "short body"):
                self.wfile.write(body)
                return
            self.wfile.write(body[: max(0, half - start)])
            self.close_connection = True
            if hub.behaviour == "dies once":
                hub.behaviour = "good"
            if hub.behaviour == "stalls":
                hub.half_sent.set()
                hub.go_on.wait(60)

    def _found(self) -> bool:
        if self.server.behaviour == "overloaded":
            self._head(503, 0)
        elif self.server.behaviour == "missing" or self.path != PATH:
            self._head(404, 0)
        else:
            return True
        return False

    def _head(self, status: int, length: int, start: int = 0):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Repo-Commit", REVISION)
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        if status in (200, 206):
            self.send_header("ETag", f'"{hashlib.sha256(self.server.content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            size = len(self.server.served())
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()

    def log_message(self, *_):
        """Silence."""
