"""The live page's server: what it answers, and what it refuses."""

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from minigpt.checkpoints.find import Source
from minigpt.errors import InputError, MiniGPTError
from minigpt.inspection import trace
from minigpt.inspection.attribution import attribute
from minigpt.model import GPT2
from minigpt.page import answers as answers_module
from minigpt.page.answers import Answers, BusyError, StaleError
from minigpt.page.build import Speaker
from minigpt.page.live import LONGEST_QUESTION, Server, open_server
from minigpt.page.numbers import VECTORS
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

TOKENIZER = Tokenizer()
SETTINGS = {"temperature": 1.0, "topK": 0, "topP": 1.0, "minP": 0.0}
EVIL = "</script><img src=x onerror=alert(1)><!--<script>\x1b[31m\u202e"


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(vocab_size=50257, n_positions=64)


@pytest.fixture(scope="module")
def speaker(model: GPT2) -> Speaker:
    return Speaker(Source("random", Path("nowhere"), "numbers drawn by chance"), model, TOKENIZER)


@pytest.fixture(scope="module")
def server(speaker: Speaker) -> Iterator[Server]:
    opened = open_server(speaker, "I love", SETTINGS, "en")
    thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield opened
    opened.shutdown()
    thread.join()
    opened.server_close()


@pytest.fixture
def answers(speaker: Speaker) -> Answers:
    return Answers(speaker)


def floats(encoded: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(encoded), "<f4")


def context(text: str = "I love", **more: Any) -> dict[str, Any]:
    return {"text": text, "drawn": [], "model": "random"} | more


def question(ask: str, **more: Any) -> dict[str, Any]:
    base = {"ask": ask, "page": "test", "number": 1, "model": "random", "context": context()}
    return base | ({"contexts": [context()], "layer": 0} if ask == "contexts" else {}) | more


# ------------------------------------------------------------------------------------------------ the answers


def test_numbers_are_those_of_the_model(answers: Answers, model: GPT2) -> None:
    ids = [*TOKENIZER.encode("I love my"), 3290]
    asked = [context("I love my", drawn=[3290]), context("I hate")]
    first, second = answers.answer(question("contexts", contexts=asked, layer=1))["contexts"]
    passed = trace(model, ids)
    assert first["tokens"] == ids
    assert first["prompt"] == "I love my dog"
    assert second["tokens"] == TOKENIZER.encode("I hate")
    np.testing.assert_allclose(floats(first["logits"]), passed["logits"][-1], rtol=1e-5, atol=1e-5)
    (block,) = first["blocks"]
    assert (block["layer"], block["position"], block["half"]) == (1, 3, False)
    vectors = floats(block["vectors"]).reshape(len(VECTORS), -1)
    for name, vector in zip(VECTORS, vectors, strict=True):
        np.testing.assert_allclose(vector, passed[f"h.1.{name}"][-1], rtol=1e-5, atol=1e-5)


def test_details_are_those_of_the_model(answers: Answers, model: GPT2) -> None:
    passed = trace(model, TOKENIZER.encode("I love"))
    block = answers.answer(question("block", layer=2, position=0))
    for name in "qkv":
        np.testing.assert_allclose(
            floats(block[name]), passed[f"h.2.attn.{name}"].ravel(), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(floats(block["units"]["all"]), passed["h.2.mlp.act"][0], rtol=1e-5, atol=1e-6)
    column = answers.answer(question("column", layer=1, name="mlp.c_fc", index=7))
    np.testing.assert_array_equal(floats(column["weights"]), model.parameters.h[1].mlp.c_fc.weight[:, 7])
    row = answers.answer(question("row", token=345))
    np.testing.assert_array_equal(floats(row["values"]), model.parameters.lm_head[345])
    parts = answers.answer(question("parts", token=345))
    logit = attribute(model, TOKENIZER.encode("I love"), 345).logit
    assert floats(parts["values"]).sum() == pytest.approx(logit, rel=1e-4, abs=1e-4)


def test_a_text_that_is_too_long_is_told_in_its_place(answers: Answers) -> None:
    asked = [context("word " * 100), context("I hate")]
    first, second = answers.answer(question("contexts", contexts=asked))["contexts"]
    assert "do not fit into this model's context of 64" in first["error"]
    assert "error" not in second


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ask": "secrets"}, "ask: found 'secrets'"),
        ({"ask": ["contexts"]}, "ask: found"),
        ({"ask": "contexts", "contexts": []}, "a list of 1 to 6"),
        ({"ask": "lens", "context": 1}, "context: expected an object"),
        ({"ask": "block", "layer": 3, "position": 0}, "layer is 3; it must be a whole number from 0 to 2"),
        ({"ask": "block", "layer": True, "position": 0}, "layer is True"),
        ({"ask": "block", "layer": 0, "position": -1}, "position is -1"),
        ({"ask": "block", "layer": 0, "position": 0, "context": context("a" * 20_001)}, "20,001 characters"),
        ({"ask": "lens", "context": context(drawn=[50257])}, "drawn is 50257"),
        ({"ask": "lens", "context": context(model="/etc/passwd")}, "model: '/etc/passwd' is not one of"),
        ({"ask": "lens", "pins": [0.5]}, "pin is 0.5"),
        ({"ask": "column", "layer": 0, "name": "ln_1", "index": 0}, "is no linear layer"),
        ({"ask": "column", "layer": 0, "name": "mlp.c_fc", "index": 9999}, "has fewer columns"),
        ({"ask": "row", "token": 10**9}, "token is 1000000000"),
        ({"ask": "row", "token": 1, "number": "1"}, "number is 1"),
        ({"ask": "row", "token": 1, "page": "p" * 65}, "page: found 65 characters"),
    ],
)
def test_questions_that_make_no_sense(answers: Answers, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        answers.answer(question(wrong["ask"] if isinstance(wrong["ask"], str) else "") | wrong)


def test_what_a_newer_question_has_overtaken_is_dropped(answers: Answers) -> None:
    answers.answer(question("contexts", number=5))
    with pytest.raises(StaleError):
        answers.answer(question("contexts", number=4))
    answers.answer(question("contexts", number=1, page="another"))


def test_a_forward_pass_ends_when_a_newer_question_comes(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, arrays = answers.check, iter(range(100))

    def check_and_ask(asked: dict[str, Any]) -> None:
        if next(arrays) == 5:
            answers.note(question("contexts", number=9))
        check(asked)

    monkeypatch.setattr(answers, "check", check_and_ask)
    with pytest.raises(StaleError):
        answers.answer(question("contexts", number=3))
    assert next(arrays) == 6  # no array was computed after it
    assert not answers.passes


def test_a_lens_ends_when_a_newer_question_comes(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.answer(question("contexts", number=3))
    unembed, depths = answers_module.numbers.unembed, iter(range(100))

    def unembed_and_ask(*arguments: Any) -> np.ndarray:
        if next(depths) == 1:
            answers.note(question("contexts", number=9))
        return unembed(*arguments)

    monkeypatch.setattr(answers_module.numbers, "unembed", unembed_and_ask)
    with pytest.raises(StaleError):
        answers.answer(question("lens", number=3))
    assert next(depths) == 2  # nothing was computed after it


def test_a_pass_that_takes_too_long_ends(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(answers_module.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(BusyError, match="more than 30 s"):
        answers.answer(question("contexts"))


def test_the_browser_keeps_a_core(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.most_threads = 4
    assert answers.threads() == 1  # the model is small
    monkeypatch.setattr(answers_module, "SMALL", 1000)
    assert answers.threads() == 3
    answers.most_threads = 1
    assert answers.threads() == 1


@contextmanager
def somebody_computes(answers: Answers) -> Iterator[ThreadPoolExecutor]:
    """Another question has the model meanwhile; threads to ask more from."""
    with (
        ThreadPoolExecutor(2 * answers_module.MOST_WAITING) as pool,
        answers.turn(question("row", page="other")),
    ):
        yield pool


def until_waiting(answers: Answers, number: int) -> None:
    while len(answers.waiting) != number:
        time.sleep(0.01)


def test_more_questions_than_may_wait_are_refused(answers: Answers) -> None:
    most = answers_module.MOST_WAITING
    with somebody_computes(answers) as pool:
        waiting = [pool.submit(answers.answer, question("row", token=1)) for _ in range(most)]
        until_waiting(answers, most)
        with pytest.raises(BusyError, match="more questions than it can answer"):
            answers.answer(question("row", token=1))
    assert all(future.result()["ids"] == [1] for future in waiting)


def test_a_question_that_waits_too_long_is_told(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "LONGEST_SECONDS", 0.05)
    with somebody_computes(answers), pytest.raises(BusyError, match="the model is busy"):
        answers.answer(question("row", token=1))
    assert answers.answer(question("row", token=1))["ids"] == [1]


def test_a_question_that_waits_ends_when_a_newer_one_comes(answers: Answers) -> None:
    """Whoever types fast asks more than may wait, but of one page only the last question does."""
    with somebody_computes(answers) as pool:
        *older, last = [
            pool.submit(answers.answer, question("row", token=1, number=number))
            for number in range(2 * answers_module.MOST_WAITING)
        ]
        for future in older:
            with pytest.raises(StaleError):
                future.result(timeout=20)
        until_waiting(answers, 1)
        assert not last.done()
    assert last.result()["ids"] == [1]


# ------------------------------------------------------------------------------------------------ the channel


def send(
    server: Server, method: str = "POST", body: bytes | None = None, path: str | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """One request as the page would send it, but for what is given."""
    address = urlsplit(server.address)
    own = f"http://{address.netloc}"
    sent = {"Host": address.netloc, "Origin": own, "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {k: v for k, v in sent.items() if v}
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as connection:
        connection.request(method, path or f"{address.path}ask", body, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers


def test_the_page_and_its_question_are_answered(server: Server) -> None:
    status, page, headers = send(server, "GET", path=urlsplit(server.address).path)
    assert status == 200
    assert b'"live":{"path":' in page
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    status, content, headers = send(server, body=json.dumps(question("row", token=3)).encode())
    assert (status, json.loads(content)["ids"]) == (200, [3])
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


BODY = json.dumps(question("row", token=3)).encode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example"}, 403),  # DNS rebinding: another name that points here
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": "rebound.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Content_Type": "text/plain"}, 403),  # what a form of another page may send without asking
        ({"Content_Length": "10000000000"}, 413),
        ({"Content_Length": "0" * 12 + "1"}, 413),
        ({"Content_Length": "9" * 5000}, 413),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "1e3"}, 411),
    ],
)
def test_requests_from_elsewhere_are_refused(server: Server, headers: dict[str, str], status: int) -> None:
    assert send(server, body=BODY, **headers)[0] == status


def test_another_name_gets_nothing_at_all(server: Server) -> None:
    assert send(server, "GET", path="/favicon.ico")[0] == 204
    assert send(server, "GET", path="/favicon.ico", Host="rebound.example")[0] == 403


@pytest.mark.parametrize("path", ["/", "/ask", "/../ask", "/AAAAAAAAAAAAAAAAAAAAAA/ask", "/%00", "//"])
def test_a_wrong_path_leads_nowhere(server: Server, path: str) -> None:
    for method, body in (("GET", None), ("POST", BODY)):
        status, content, _headers = send(server, method, body, path)
        assert (status, json.loads(content)) == (404, {"error": "there is nothing here."})


def test_the_path_of_the_page_alone_does_not_help_another_name(server: Server) -> None:
    status, content, _headers = send(
        server, "GET", path=urlsplit(server.address).path, Host="rebound.example"
    )
    assert (status, b"vocabularies" in content) == (403, False)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"ask": "contexts", "page": 1e999}']
)
def test_what_is_no_question_is_told(server: Server, body: bytes) -> None:
    status, content, _headers = send(server, body=body)
    assert (status, "error" in json.loads(content)) == (400, True)


def test_ten_megabytes_are_not_read(server: Server) -> None:
    host, port = server.server_address[:2]
    with socket.create_connection((str(host), port), timeout=20) as connection:
        own = f"{host}:{port}"
        lines = [f"POST {server.path}ask HTTP/1.1", f"Host: {own}", f"Origin: http://{own}"]
        lines += ["Content-Type: application/json", f"Content-Length: {10_000_000}"]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert b" 413 " in connection.recv(1000)
    assert LONGEST_QUESTION < 10_000_000
    assert send(server, body=BODY)[0] == 200


@pytest.mark.parametrize("begin", ["GET ", "POST {path} HTTP/1.1\r\nHost: {host}\r\nX: "])
def test_a_request_that_never_ends_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, begin: str
) -> None:
    monkeypatch.setattr("minigpt.page.live.LONGEST_READ", 0.3)
    host, port = server.server_address[:2]
    with socket.create_connection((str(host), port), timeout=20) as connection:
        connection.sendall(begin.format(path=f"{server.path}ask", host=f"{host}:{port}").encode())
        connection.settimeout(0.05)
        for _ in range(400):
            try:
                connection.sendall(b"a")
                if not connection.recv(1000):
                    break
            except TimeoutError:  # the server waits for more
                continue
            except OSError:  # it has ended the connection
                break
        else:
            pytest.fail("the server goes on reading")


def test_a_thousand_requests_at_once_leave_the_server_standing(server: Server) -> None:
    def attempt(_number: int) -> int | str:
        try:
            return send(server, body=BODY)[0]
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__  # a connection for which there was no slot is closed at once

    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(attempt, range(1000)))
    assert found.count(200) > 0
    assert {status for status in found if isinstance(status, int)} <= {200, 503}
    assert send(server, body=BODY)[0] == 200


def test_hostile_text_comes_back_as_harmless_json(server: Server) -> None:
    asked = question("contexts", contexts=[context(EVIL)], number=10**6)
    status, content, headers = send(server, body=json.dumps(asked).encode())
    (answer,) = json.loads(content)["contexts"]
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert answer["prompt"].endswith("\\x1b[31m\\u202e")


def test_a_port_in_use_is_told(server: Server, speaker: Speaker) -> None:
    port = server.server_address[1]
    with pytest.raises(MiniGPTError, match=f"port {port}: cannot be opened .*--port"):
        open_server(speaker, "I love", SETTINGS, "en", port)


def test_only_the_loopback_address_is_listened_on(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
