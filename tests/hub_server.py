"""A Hub on 127.0.0.1 that answers the requests of huggingface_hub, well or badly, and records them.

It has one file from the start, and accepts pushes as the Hub does: small files in the commit, large ones before it,
through git-LFS.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

REPO, REVISION, FILENAME = "openavc/tiny", "0123456789abcdef0123456789abcdef01234567", "tiny.safetensors"
PATH = f"/{REPO}/resolve/{REVISION}/{FILENAME}"
LICENSES = ["apache-2.0", "mit", "other", "unknown"]  # some of those that the Hub knows
WRITER, READER = "hf_writer", "hf_reader"  # the tokens that this Hub knows


class FakeHub(ThreadingHTTPServer):
    """Serves `content` at PATH, and pushed files, according to `behaviour`, which a test may change at any time.

    "good"; "missing": 404; "overloaded": 503; "swapped": the same number of other bytes; "shorter": the first half, as
    if it were all; "short body": the first half, although HEAD announced the full size; "cut": the first half of a body
    announced in full, then the connection closes, every time; "dies once": the same, only once; "stalls": the same,
    with the connection kept open until `go_on` is set; "together": HEAD is answered only when two have asked; "dies":
    goes away in the middle of an upload.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.behaviour = content, "good"
        self.requests: list[tuple[str, int]] = []  # (method, first byte asked for)
        self.repos: dict[str, list[tuple[str, dict[str, bytes]]]] = {}  # commits: (hash, all files)
        self.large: dict[str, bytes] = {}  # by SHA-256, uploaded but perhaps not committed
        self.half_sent, self.go_on, self.two = threading.Event(), threading.Event(), threading.Barrier(2)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.shutdown()
        self.server_close()

    def stored(self, path: str) -> tuple[str, bytes] | None:
        """Return revision and content of the file at a URL's path, or None if there is none."""
        if path == PATH:
            return REVISION, self.content
        for repo, commits in self.repos.items():
            for k, (revision, files) in enumerate(commits, start=1):
                for name, content in files.items():
                    names = (revision, "main") if k == len(commits) else (revision,)
                    if path in [f"/{repo}/resolve/{it}/{name}" for it in names]:
                        return revision, content
        return None

    def served(self, path: str = PATH) -> bytes:
        """Return what this Hub claims to be the content of the file."""
        _, content = self.stored(path)
        if self.behaviour == "swapped":
            return content[::-1]
        return content[: len(content) // 2] if self.behaviour == "shorter" else content

    def files(self, repo: str) -> dict[str, bytes]:
        """Return the files of the last commit."""
        return self.repos[repo][-1][1] if self.repos.get(repo) else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.server.requests.append(("HEAD", 0))
        if self.server.behaviour == "together":
            self.server.two.wait(timeout=60)
        if self._found():
            self._head(200, len(self.server.served(self.path)))

    def do_GET(self):
        hub, start = self.server, int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        hub.requests.append(("GET", start))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/?]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path):
            return self._describe(match[1], match[2] or "main")
        if not self._found():
            return
        body, half = hub.served(self.path)[start:], len(hub.served(self.path)) // 2
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
        elif self.server.behaviour == "missing" or self.server.stored(self.path) is None:
            self._head(404, 0)
        else:
            return True
        return False

    def _head(self, status: int, length: int, start: int = 0):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        revision, content = self.server.stored(self.path) or (REVISION, b"")
        self.send_header("X-Repo-Commit", revision)
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        if status in (200, 206):
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            size = len(self.server.served(self.path))
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()

    # --- pushes ---

    def do_POST(self):
        self.server.requests.append(("POST", 0))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for pattern, answer, needs_token in _POSTS:
            if match := re.fullmatch(pattern, self.path):
                if not needs_token or self._may_write():
                    answer(self, body, *match.groups())
                return
        self._json(404, {"error": f"no such address: {self.path}"})

    def do_PUT(self):
        """Receive a large file at its address, which is secret and needs no token."""
        self.server.requests.append(("PUT", 0))
        size = int(self.headers["Content-Length"])
        if self.server.behaviour == "dies":
            self.rfile.read(size // 2)
            self.server.shutdown()
            self.server.server_close()
            self.close_connection = True  # what is left of the body is no next request
            return
        content = self.rfile.read(size)
        good = hashlib.sha256(content).hexdigest() == self.path.removeprefix("/storage/")
        if good:
            self.server.large[self.path.removeprefix("/storage/")] = content
        self._json(200 if good else 400, {})

    def _may_write(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (WRITER, READER):
            self._json(401, {"error": "Invalid username or password."})
        elif token == READER:
            self._json(403, {"error": "You don't have the rights to write here"})
        return token == WRITER

    def _create(self, body: bytes):
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        exists = repo in self.server.repos
        self.server.repos.setdefault(repo, [])
        self._json(409 if exists else 200, {"url": f"{self.server.url}/{repo}", "name": repo})

    def _describe(self, repo: str, revision: str):
        """Tell the commit of a revision, and size and digest of its files as when they are asked for."""
        if self.server.behaviour == "overloaded":
            return self._json(503, {})
        if not self.server.repos.get(repo):
            return self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        commits = dict(self.server.repos[repo])
        commit = self.server.repos[repo][-1][0] if revision == "main" else revision
        if commit not in commits:
            return self._json(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        files = [_about(name, content) for name, content in commits[commit].items()]
        return self._json(200, {"id": repo, "sha": commit, "siblings": files})

    def _validate(self, body: bytes):
        found = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
        wrong = [] if found["license"] in LICENSES else [{"message": f'"license" must be one of {LICENSES}'}]
        self._json(400 if wrong else 200, {"errors": wrong, "warnings": []})

    def _preupload(self, body: bytes, repo: str):
        """Answer how each file must be sent, and its digest if there is one of this name."""
        files = []
        for name in (file["path"] for file in json.loads(body)["files"]):
            mode, content = "lfs" if name.endswith(".safetensors") else "regular", self.server.files(repo).get(name)
            known = {} if content is None else {"oid": _digest(content, mode)}
            files.append({"path": name, "uploadMode": mode, "shouldIgnore": False, **known})
        self._json(200, {"files": files})

    def _batch(self, body: bytes, repo: str):
        objects = []
        for asked in json.loads(body)["objects"]:
            upload = {"href": f"{self.server.url}/storage/{asked['oid']}"}
            verify = {"href": f"{self.server.url}/{repo}.git/info/lfs/objects/verify"}
            actions = {} if asked["oid"] in self.server.large else {"actions": {"upload": upload, "verify": verify}}
            objects.append(asked | actions)
        self._json(200, {"transfer": "basic", "objects": objects})

    def _verify(self, body: bytes, repo: str):
        asked = json.loads(body)
        good = len(self.server.large.get(asked["oid"], b"")) == asked["size"]
        self._json(200 if good else 404, {})

    def _commit(self, body: bytes, repo: str):
        """Make a commit from a line for the message and one for each file; large files are named by their digest."""
        header, *lines = map(json.loads, body.splitlines())
        files = dict(self.server.files(repo))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif value["oid"] in self.server.large:
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                return self._json(400, {"error": f"{value['path']} was not uploaded"})
        revision = hashlib.sha1(body + str(len(self.server.repos[repo])).encode()).hexdigest()
        self.server.repos[repo].append((revision, files))
        url = f"{self.server.url}/{repo}/commit/{revision}"
        return self._json(200, {"success": header["key"] == "header", "commitOid": revision, "commitUrl": url})

    def _json(self, status: int, answer: dict, headers: dict | None = None):
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Log nothing."""


def _about(name: str, content: bytes) -> dict:
    """Return what the Hub tells of a file; of a large one, its SHA-256 too."""
    about = {"rfilename": name, "size": len(content), "blobId": _digest(content, "regular")}
    if not name.endswith(".safetensors"):
        return about
    return about | {"lfs": {"sha256": _digest(content, "lfs"), "size": len(content), "pointerSize": 134}}


def _digest(content: bytes, mode: str) -> str:
    """Return the digest that identifies a file on the Hub: SHA-256 for large files, git's SHA-1 for others."""
    if mode == "lfs":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


_POSTS = [  # address, what answers, whether it takes a token that may write
    ("/api/repos/create", _Handler._create, True),
    ("/api/validate-yaml", _Handler._validate, False),
    ("/api/models/([^/]+/[^/]+)/preupload/main", _Handler._preupload, True),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch, True),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/verify", _Handler._verify, True),
    ("/api/models/([^/]+/[^/]+)/commit/main", _Handler._commit, True),
]
