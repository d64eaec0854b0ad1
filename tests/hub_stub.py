"""A small Hugging Face Hub on this machine, for tests: it serves files by the Hub's protocol, and misbehaves.

    with HubStub() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": weights})
        hub.faults["model.safetensors"] = [Drop(after=1000)]

What it speaks is what the Hub answers to `huggingface_hub`: `/api/models/{repository}/revision/{revision}`,
which lists the files (for faults it is called "listing"), and HEAD and GET of
`/{repository}/resolve/{revision}/{file}` with `ETag`, `X-Repo-Commit`, `X-Linked-Etag` and `X-Linked-Size`.
Weights are stored elsewhere: their answer is a redirect to `/storage/...` under another host name, as with
the Hub's own storage, and the token must not go there. Every request is kept in `hub.requests`.
"""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

COMMIT = "5" * 40


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Status:
    """Answer with an error, as the Hub words it."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """Cut the connection after so many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Send so many bytes of the body and nothing more, but keep the connection."""

    after: int


@dataclass(frozen=True)
class WrongLength:
    """Send fewer bytes than promised before, and say that this is all."""

    length: int


@dataclass(frozen=True)
class Hang:
    """Take the request and say nothing."""

    seconds: float = 30.0


@dataclass(frozen=True)
class Redirect:
    """Send the client elsewhere; without a place, in circles."""

    to: str | None = None


@dataclass(frozen=True)
class WrongBytes:
    """Send other content of the same length."""


Fault = Status | Drop | Stall | WrongLength | Hang | Redirect | WrongBytes


class HubStub:
    """Serves until the `with` block ends. `endpoint` is what goes into HF_ENDPOINT."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}  # (repository, revision, file) -> content
        self.faults: dict[str, list[Fault]] = {}  # file, or "HEAD file" -> faults of the next requests
        self.sizes: dict[str, int] = {}  # file -> a size that is not the content's
        self.etags: dict[str, str] = {}  # file -> an etag that is not the content's
        self.requests: list[Request] = []
        self.stalled = threading.Event()  # a `Stall` has sent its bytes
        self._closing = threading.Event()
        handler: Callable[..., BaseHTTPRequestHandler] = lambda *args: _Handler(self, *args)  # noqa: E731
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.storage = f"http://localhost:{self.port}/storage"

    def add(self, repository: str, files: dict[str, bytes], revision: str = COMMIT) -> None:
        """Publish files as the commit `revision`, which is also `main`."""
        for name, content in files.items():
            self.files[repository, revision, name] = content
            self.files[repository, "main", name] = content

    def asked(self, file: str, method: str = "GET") -> list[Request]:
        """The requests of one method for one file."""
        return [request for request in self.requests if request.method == method and file in request.path]

    def next_fault(self, method: str, file: str) -> Fault | None:
        for key in (f"{method} {file}", file):
            if self.faults.get(key):
                return self.faults[key].pop(0)
        return None

    def wait(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: HubStub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def _answer(self) -> None:
        self.path = re.sub(r"^http://[^/]+", "", self.path)  # what is before it, a proxy is told
        self.hub.requests.append(Request(self.command, self.path, dict(self.headers)))
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/storage/(.+)/resolve/([^/]+)/([^/]+)", path):
            return self._serve(*match.groups(), stored=True)
        if match := re.fullmatch(r"/(.+)/resolve/([^/]+)/([^/]+)", path):
            return self._serve(*match.groups(), stored=False)
        if match := re.fullmatch(r"/api/models/(.+)/revision/([^/]+)", path):
            return self._list(*match.groups())
        return self._error(404, {"X-Error-Code": "RepoNotFound"})

    def _list(self, repository: str, revision: str) -> None:
        if self._misbehave(self.hub.next_fault(self.command, "listing")):
            return None
        files = {
            key[2]: content for key, content in self.hub.files.items() if key[:2] == (repository, revision)
        }
        if not files:
            return self._error(404, {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": file, **self._about(file, content)} for file, content in files.items()]
        commit = COMMIT if revision == "main" else revision
        body = json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()
        return self._send(200, {"Content-Type": "application/json"}, body)

    def _about(self, file: str, content: bytes) -> dict[str, Any]:
        size, sha256 = (
            self.hub.sizes.get(file, len(content)),
            self.hub.etags.get(file) or _etag(file, content),
        )
        lfs = {"size": size, "sha256": sha256, "pointerSize": 134}
        return {"size": size, "blobId": "0" * 40} | ({"lfs": lfs} if file.endswith(".safetensors") else {})

    def _serve(self, repository: str, revision: str, file: str, stored: bool) -> None:
        fault = self.hub.next_fault(self.command, file)
        if self._misbehave(fault):
            return None
        content = self.hub.files.get((repository, revision, file))
        if content is None:
            if not any(repository == key[0] for key in self.hub.files):
                return self._error(404, {"X-Error-Code": "RepoNotFound"})
            return self._error(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision})
        headers = {"X-Repo-Commit": COMMIT if revision == "main" else revision, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{self.hub.etags.get(file) or _etag(file, content)}"'
        if file.endswith(".safetensors") and not stored:
            size = self.hub.sizes.get(file, len(content))
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(size)}
            headers["Location"] = f"{self.hub.storage}{self.path}"
            return self._send(302, headers, b"")
        if isinstance(fault, WrongBytes):
            content = bytes(byte ^ 255 for byte in content)
        return self._send_content(content, headers, fault)

    def _send_content(self, content: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        status, start = 200, 0
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if isinstance(fault, WrongLength):
            body = body[: fault.length]
        sent = body[: fault.after] if isinstance(fault, Drop | Stall) else body
        self._send(status, headers, sent, len(body))
        if isinstance(fault, Stall):
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.wait(30)
        if isinstance(fault, Drop | Stall):
            self._hang_up()

    def _misbehave(self, fault: Fault | None) -> bool:
        if isinstance(fault, Status):
            self._error(fault.code, fault.headers)
        elif isinstance(fault, Hang):
            self.hub.wait(fault.seconds)
            self._hang_up()
        elif isinstance(fault, Redirect):
            self._send(307, {"Location": fault.to or f"{self.path}?again"}, b"")
        else:
            return False
        return True

    def _error(self, code: int, headers: dict[str, str]) -> None:
        self._send(code, headers, b"")

    def _send(self, code: int, headers: dict[str, str], body: bytes, length: int | None = None) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def _etag(file: str, content: bytes) -> str:
    """As on the Hub: sha256 for what is stored elsewhere, git's own hash for small files."""
    if file.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
