"""The live page: served on the loopback address to one browser, and to no other page's script.

Whoever may connect to a port of this machine is not yet who may ask: the address holds a random path, the
`Host` must be this very address (a foreign name that was made to point here is refused: DNS rebinding), and a
question must come from the page itself (`Origin`). Sizes, times and the number of connections are bounded.
"""

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..errors import InputError, MiniGPTError
from ..ranges import Number
from .answers import Answers, BusyError, StaleError
from .build import Speaker, followed, frame, token_texts
from .document import policy, render, script, style

LOOPBACK = "127.0.0.1"
LONGEST_QUESTION = 200_000  # bytes
LONGEST_READ = 10.0  # seconds for a request to arrive
MOST_CONNECTIONS = 32


def serve(
    speaker: Speaker,
    prompt: str,
    *,
    settings: dict[str, Number],
    language: str,
    port: int = 0,
    ready: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve the page until Ctrl-C; `ready` gets its address. Raises `MiniGPTError` for a port in use."""
    with open_server(speaker, prompt, settings, language, port) as server:
        ready(server.address)
        server.serve_forever(poll_interval=0.2)


def open_server(
    speaker: Speaker, prompt: str, settings: dict[str, Number], language: str, port: int = 0
) -> "Server":
    """The server, listening; `serve_forever` answers. Raises `MiniGPTError` for a port in use."""
    answers = Answers(speaker)
    path = f"/{secrets.token_urlsafe(16)}/"
    page = live_document(answers, prompt, settings, language, path)
    try:
        return Server((LOOPBACK, port), answers, path, page)
    except OSError as error:
        raise MiniGPTError(
            f"port {port}: cannot be opened ({error.strerror}); give another --port, or leave it out."
        ) from None


def live_document(
    answers: Answers, prompt: str, settings: dict[str, Number], language: str, path: str
) -> bytes:
    """The page with the first answer in it, so that it shows something at once."""
    first = answers.first
    asked = {"text": prompt, "drawn": [], "model": first.source.name}
    question = {"ask": "contexts", "page": "first", "number": 0, "layer": 0, "contexts": [asked]}
    (context,) = answers.answer(question)["contexts"]
    if "error" in context:
        raise InputError(context["error"])
    (passed,) = answers.passes.values()
    pins, notes = followed(first.tokenizer, (), [passed])
    data = {
        **frame([first], [token_texts(first)], settings, language),
        "rows": 10,
        "pins": pins,
        "notes": notes,
        "steps": [],
        "changes": [],
        "live": {"path": f"{path}ask", "models": answers.names, "text": prompt},
        "contexts": [context],
    }
    return render(data, prompt, live=True).encode()


class Server(ThreadingHTTPServer):
    """Answers on the loopback address, a bounded number of connections at once."""

    daemon_threads = True
    allow_reuse_address = False  # a port that another program listens on is told, not shared
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], answers: Answers, path: str, page: bytes) -> None:
        self.answers, self.path, self.page = answers, path, page
        self.slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, Handler)
        port = self.server_address[1]
        self.hosts = {f"{name}:{port}" for name in (LOOPBACK, "localhost")}
        self.address = f"http://{LOOPBACK}:{port}{path}"

    def server_bind(self) -> None:
        """Bind without looking up this machine's name, which may take seconds."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection if there is a slot for it; else end it at once."""
        if self.slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A browser that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One request: the page itself, or a question."""

    server: Server
    timeout = LONGEST_READ
    server_version, sys_version = "minigpt", ""

    def setup(self) -> None:
        """Give the request so long to arrive as a whole; `timeout` begins anew with each of its bytes."""
        super().setup()
        self.end = threading.Timer(LONGEST_READ, self.stop_reading)
        self.end.daemon = True
        self.end.start()

    def stop_reading(self) -> None:
        """Take what has come for all."""
        with suppress(OSError):  # the connection is closed by now
            self.connection.shutdown(socket.SHUT_RD)

    def finish(self) -> None:
        """The request is answered."""
        self.end.cancel()
        super().finish()

    def do_GET(self) -> None:
        """Send the page."""
        if not self.is_allowed():
            return
        if self.path == "/favicon.ico":  # every browser asks, and would report that there is none
            self.send(HTTPStatus.NO_CONTENT, b"", "image/x-icon")
        elif self.is_at(""):
            self.send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """Answer a question."""
        if not (self.is_allowed() and self.is_from_the_page() and self.is_at("ask")):
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "the length of the question is missing.")
        elif len(length) > 12 or int(length) > LONGEST_QUESTION:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LONGEST_QUESTION:,} bytes are read.")
        else:
            self.send_answer(self.rfile.read(int(length)))

    def send_answer(self, body: bytes) -> None:
        """Ask the model, and say what went wrong if something did."""
        try:
            question = json.loads(body)
            if not isinstance(question, dict):
                raise InputError("expected a JSON object.")
            answer = self.server.answers.answer(question)
        except StaleError as error:
            self.refuse(HTTPStatus.CONFLICT, str(error))
        except BusyError as error:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except (ValueError, RecursionError) as error:  # an InputError, or no JSON
            self.refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (MiniGPTError, MemoryError) as error:
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error) or "there is not enough memory.")
        else:
            document = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
            self.send(HTTPStatus.OK, document, "application/json")

    # --------------------------------------------------------------------------------------- who may ask

    def is_allowed(self) -> bool:
        """Whether the browser means this address, and not a name that was made to point here."""
        is_here = self.headers.get("Host", "") in self.server.hosts
        return is_here or self.refuse(HTTPStatus.FORBIDDEN, "this is not the address of the page.")

    def is_from_the_page(self) -> bool:
        """Whether it is the page itself that asks: another page cannot leave its own `Origin` out."""
        origin, kind = self.headers.get("Origin", ""), self.headers.get("Content-Type", "")
        own = origin in {f"http://{host}" for host in self.server.hosts} and kind == "application/json"
        return own or self.refuse(HTTPStatus.FORBIDDEN, "only the page itself may ask.")

    def is_at(self, place: str) -> bool:
        """Whether the path is the random one."""
        right = hmac.compare_digest(self.path.encode(), (self.server.path + place).encode())
        return right or self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here.")

    # ------------------------------------------------------------------------------------------ what is sent

    def refuse(self, status: HTTPStatus, words: str) -> bool:
        """Say why not; returns False."""
        self.close_connection = True
        self.send(status, json.dumps({"error": words}).encode(), "application/json")
        return False

    def send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        """Send a document that no other page may frame or read."""
        self.send_response(status)
        own = policy(style(), script(), live=True) if kind.startswith("text/html") else "default-src 'none'"
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{own}; frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the address in the log would be a key to the page."""
