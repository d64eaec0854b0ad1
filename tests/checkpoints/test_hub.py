"""Names to files: the Hub's cache, downloads that are cut and lie, and the decision for the default model."""

import argparse
import errno
import hashlib
import json
import logging
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from minigpt.checkpoints import download, hub
from minigpt.checkpoints import find as sources
from minigpt.checkpoints.find import find
from minigpt.checkpoints.load import load_model
from minigpt.cli.commands import download as download_command
from minigpt.errors import CheckpointError, ConfigError, DownloadError, InputError
from minigpt.model import GPT2, named_parameters
from tests.hub_stub import COMMIT, Drop, Hang, HubStub, Redirect, Stall, Status, WrongBytes
from tests.synthetic import random_gpt2, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG, WEIGHTS = "config.json", "model.safetensors"
Files = dict[str, bytes]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """A Hub of our own, an empty cache, no `weights/` at hand, and a client that does not dawdle."""
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "weights" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    with HubStub() as hub_stub:
        monkeypatch.setenv("HF_ENDPOINT", hub_stub.endpoint)
        yield hub_stub


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A small checkpoint, as bytes by file name."""
    folder = save_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def gpt2(stub: HubStub, files: Files, monkeypatch: pytest.MonkeyPatch) -> hub.Official:
    """The small checkpoint in the place of the official gpt2, on the stub."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    official = replace(hub.OFFICIAL["gpt2"], weights_sha256=hashes[WEIGHTS], config_sha256=hashes[CONFIG])
    monkeypatch.setitem(hub.OFFICIAL, "gpt2", official)
    stub.add(official.repository, files, official.revision)
    return official


def assert_same_parameters(model: GPT2, expected: GPT2) -> None:
    named = named_parameters(expected)
    for name, array in named_parameters(model).items():
        assert np.array_equal(array, named.pop(name)), name
    assert not named


def cached_files(tmp_path: Path) -> list[str]:
    """The names of everything in the cache but locks and notes."""
    blobs = (tmp_path / "hf" / "hub").glob("models--*/*/**/*")
    return sorted(path.name for path in blobs if not path.is_dir())


# ---------------------------------------------------------------------------------------------- downloads


def test_an_official_name_is_downloaded_once(stub: HubStub, gpt2: hub.Official) -> None:
    told: list[str] = []
    source = find("gpt2", notify=told.append)
    assert (source.name, source.origin) == ("gpt2", "Hub openai-community/gpt2 at 607a30d")
    assert "548 MB" in told[0]
    assert "--model tiny" in told[0]
    n_requests = len(stub.requests)
    assert find("gpt2", notify=told.append) == source
    assert find(None, offline=True, notify=told.append) == source  # what is here needs no network
    assert len(stub.requests) == n_requests
    assert len(told) == 1


def test_a_download_is_a_model(stub: HubStub, files: Files) -> None:
    stub.add("owner/name", files)
    assert_same_parameters(load_model("owner/name"), random_gpt2())
    assert find("owner/name", offline=True).origin == f"Hub owner/name at {COMMIT[:7]}"


def test_a_dropped_connection_is_continued(stub: HubStub, gpt2: hub.Official, files: Files) -> None:
    stub.faults[f"GET {WEIGHTS}"] = [Drop(after=50_500)]
    folder = find("gpt2").path
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    first, second = stub.asked(WEIGHTS)
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=50000-"


def test_the_next_run_continues_what_this_one_could_not_finish(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path
) -> None:
    stub.faults[f"GET {WEIGHTS}"] = [Drop(after=50_500), *[Status(500)] * 10]
    with pytest.raises(DownloadError, match=r"the next attempt continues.*--model tiny"):
        find("gpt2")
    assert f"{gpt2.weights_sha256}.incomplete" in cached_files(tmp_path)
    assert WEIGHTS not in cached_files(tmp_path)
    stub.faults.clear()
    folder = find("gpt2").path
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert stub.asked(WEIGHTS)[-1].headers["Range"] == "bytes=50000-"
    assert not [name for name in cached_files(tmp_path) if name.endswith(".incomplete")]


def test_ctrl_c_leaves_what_has_arrived(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(url: str, file: object, **_: object) -> None:
        file.write(files[WEIGHTS][:50_000])  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    config = hub.snapshot_folder(gpt2.repository, gpt2.revision) / CONFIG
    config.parent.mkdir(parents=True)
    config.write_bytes(files[CONFIG])
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", interrupted)
        with pytest.raises(KeyboardInterrupt):
            find("gpt2")
    assert find("gpt2").path.joinpath(WEIGHTS).read_bytes() == files[WEIGHTS]
    assert stub.asked(WEIGHTS)[-1].headers["Range"] == "bytes=50000-"


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_a_wrong_hash_is_told_and_removed(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path, file: str
) -> None:
    stub.faults[f"GET {file}"] = [WrongBytes()]
    wrong = hashlib.sha256(bytes(byte ^ 255 for byte in files[file])).hexdigest()
    with pytest.raises(DownloadError, match=f"{wrong}, expected {gpt2.sha256[file]}"):
        find("gpt2")
    assert file not in cached_files(tmp_path)
    assert not [name for name in cached_files(tmp_path) if "incomplete" in name]
    assert find("gpt2").name == "gpt2"  # and the next attempt starts anew


def test_another_file_in_the_official_place_is_refused_before_it_is_fetched(
    stub: HubStub, gpt2: hub.Official
) -> None:
    stub.etags[WEIGHTS] = "a" * 64
    with pytest.raises(DownloadError, match=f"sha256 {'a' * 64}, expected {gpt2.weights_sha256}"):
        find("gpt2")
    assert not stub.asked(WEIGHTS)


def test_any_repository_is_held_to_the_hash_that_the_hub_gives(stub: HubStub, files: Files) -> None:
    stub.add("owner/name", files)
    stub.faults[f"GET {WEIGHTS}"] = [WrongBytes()]
    with pytest.raises(DownloadError, match="has sha256"):
        find("owner/name")


def test_a_partial_file_that_is_too_long_starts_anew(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path
) -> None:
    blobs = hub.repository_folder(gpt2.repository) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{gpt2.weights_sha256}.incomplete").write_bytes(files[WEIGHTS] + b"more")
    assert (find("gpt2").path / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_two_at_once_download_each_file_once(stub: HubStub, gpt2: hub.Official) -> None:
    threads = [threading.Thread(target=find, args=("gpt2",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stub.asked(WEIGHTS)) == 1
    assert hub.is_complete(find("gpt2").path)


def test_without_symbolic_links_the_file_itself_is_moved(
    stub: HubStub, gpt2: hub.Official, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", forbidden)
    assert (find("gpt2").path / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert not (find("gpt2").path / WEIGHTS).is_symlink()


def test_the_token_goes_to_the_hub_and_nowhere_else(
    stub: HubStub, gpt2: hub.Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    find("gpt2")
    at_hub = [request for request in stub.requests if not request.path.startswith("/storage")]
    elsewhere = [request for request in stub.requests if request.path.startswith("/storage")]
    assert at_hub
    assert elsewhere
    assert {request.headers.get("authorization") for request in at_hub} == {"Bearer hf_secret"}
    assert not any("authorization" in map(str.lower, request.headers) for request in elsewhere)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(401), "answered HTTP 401; check HF_TOKEN"),
        (Status(403, {"X-Error-Code": "GatedRepo"}), "is gated: accept its terms"),
        (Status(404, {"X-Error-Code": "RepoNotFound"}), "knows no such repository"),
        (Status(404, {"X-Error-Code": "EntryNotFound"}), "has no config.json"),
        (Status(429), "answered HTTP 429; wait a little"),
        (Status(500), "answered HTTP 500; try later"),
        (Redirect(), "failed"),
        (Hang(), "failed"),
    ],
    ids=["401", "gated", "no repository", "no file", "429", "500", "redirect loop", "hang"],
)
@pytest.mark.parametrize("name", ["gpt2", "owner/name"])
def test_what_was_asked_for_by_name_fails_with_the_reason(
    stub: HubStub, gpt2: hub.Official, monkeypatch: pytest.MonkeyPatch, name: str, fault: object, reason: str
) -> None:
    monkeypatch.setattr(download, "METADATA_SECONDS", 0.3)
    stub.faults[f"HEAD {CONFIG}"] = [fault] * 10_000  # type: ignore[list-item]
    with pytest.raises(DownloadError, match=reason) as caught:
        find(name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the Hub client says on standard error."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger("huggingface_hub").addHandler(listener)
    yield said
    logging.getLogger("huggingface_hub").removeHandler(listener)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([Status(401)] * 50, "answered HTTP 401; check HF_TOKEN"),
        ([Status(403)] * 50, "answered HTTP 403; check HF_TOKEN"),
        ([Status(404)] * 50, "answered HTTP 404; try later"),
        ([Status(429)] * 50, "answered HTTP 429; wait a little"),
        ([Status(500)] * 50, "answered HTTP 500; try later"),
        ([Hang()] * 50, "failed"),
        ([Stall(after=0)] * 50, "failed"),
        ([Stall(after=50_500), *[Stall(after=0)] * 50], "failed.*the next attempt continues"),
        ([Drop(after=50_500), *[Drop(after=0)] * 50], "failed.*the next attempt continues"),
        ([Redirect()] * 1000, "(failed|answered HTTP 307)"),
    ],
    ids=["401", "403", "404", "429", "500", "no answer", "no body", "half a body", "cut", "redirect loop"],
)
def test_a_body_that_does_not_come_is_told_once(
    stub: HubStub,
    gpt2: hub.Official,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    logged: list[str],
    faults: list[Any],
    reason: str,
) -> None:
    """The Hub has said what the file is; then its content fails. The client's attempts are not told."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    stub.faults[f"GET {WEIGHTS}"] = list(faults)
    with pytest.raises(DownloadError, match=f"gpt2: .*{reason}.*--model tiny") as caught:
        find("gpt2", notify=lambda line: None)
    assert str(caught.value).isprintable()
    assert ("is kept" in str(caught.value)) == ("continues" in reason)
    assert not logged
    assert capfd.readouterr() == ("", "")


def test_the_client_is_silenced_for_a_download_only(
    stub: HubStub, gpt2: hub.Official, logged: list[str]
) -> None:
    find("gpt2", notify=lambda line: None)
    logging.getLogger("huggingface_hub.file_download").warning("heard")
    assert logged == ["heard"]


def test_a_refused_connection_fails_with_the_reason(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match=r"gpt2-xl.*127\.0\.0\.1:1 failed.*--model tiny"):
        find("gpt2-xl")


def test_a_full_disk_is_told_before_it_is_filled(
    stub: HubStub, gpt2: hub.Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DownloadError, match=r"cannot write .*bytes are needed.*HF_HOME"):
        find("gpt2")
    assert not stub.asked(WEIGHTS)


def test_a_cache_that_cannot_be_written_is_named(
    stub: HubStub, gpt2: hub.Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "a-file"))
    with pytest.raises(DownloadError, match=r"cannot write .*a-file.*set HF_HOME"):
        find("gpt2")


# --------------------------------------------------------------------------------- repositories on the Hub


def shards(files: Files) -> Files:
    """The checkpoint cut into two files with an index."""
    from safetensors.numpy import load, save

    tensors = load(files[WEIGHTS])
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    cut = {file: save({name: tensors[name] for name in part}) for file, part in parts.items()}
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    return {CONFIG: files[CONFIG], "model.safetensors.index.json": json.dumps(index).encode(), **cut}


def test_shards_are_downloaded_and_loaded(stub: HubStub, files: Files) -> None:
    stub.add("owner/sharded", shards(files))
    assert_same_parameters(load_model("owner/sharded"), random_gpt2())


def test_a_missing_shard_is_named(stub: HubStub, files: Files) -> None:
    cut = shards(files)
    del cut["model-00002-of-00002.safetensors"]
    stub.add("owner/sharded", cut)
    with pytest.raises(DownloadError, match="has no model-00002-of-00002"):
        find("owner/sharded")
    with pytest.raises(CheckpointError, match="nor in the Hub's cache"):
        find("owner/sharded", offline=True)


def test_an_index_cannot_name_files_elsewhere(stub: HubStub, files: Files) -> None:
    index = {"weight_map": {"wte.weight": "../../other/model.safetensors"}}
    stub.add(
        "owner/evil", {CONFIG: files[CONFIG], "model.safetensors.index.json": json.dumps(index).encode()}
    )
    with pytest.raises(CheckpointError, match="in the same folder"):
        find("owner/evil")


def test_another_architecture_is_refused_before_its_weights_are_fetched(stub: HubStub, files: Files) -> None:
    stub.add("owner/bert", {CONFIG: b'{"model_type": "bert"}', WEIGHTS: files[WEIGHTS]})
    with pytest.raises(ConfigError, match="model_type is 'bert'"):
        find("owner/bert")
    assert not stub.asked(WEIGHTS)


def test_pickles_are_not_downloaded(stub: HubStub, files: Files) -> None:
    stub.add("owner/old", {CONFIG: files[CONFIG], "pytorch_model.bin": b"pickle"})
    with pytest.raises(DownloadError, match=r"only pytorch_model\.bin.*save_pretrained"):
        find("owner/old")
    assert not stub.asked("pytorch_model.bin")


def test_a_server_that_is_not_the_hub_cannot_name_folders(
    stub: HubStub, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hub_stub.COMMIT", "../../escaped")
    stub.add("owner/name", files, "main")
    with pytest.raises(DownloadError, match="does not answer like the Hub"):
        find("owner/name")


# --------------------------------------------------------------------------------- the official family, here


@pytest.mark.parametrize("place", ["weights/gpt2", "package/../weights/gpt2"])
def test_official_weights_in_a_folder_are_found(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert find(None).path.resolve() == folder.resolve()
    assert find("gpt2", offline=True).name == "gpt2"
    assert not stub.requests


def test_what_transformers_has_cached_is_found(stub: HubStub, gpt2: hub.Official, files: Files) -> None:
    folder = hub.snapshot_folder("gpt2", gpt2.revision)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert find(None).path == folder
    assert not stub.requests


def test_an_official_name_is_always_the_official_model(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights" / "gpt2"
    folder.mkdir(parents=True)
    (folder / CONFIG).write_bytes(files[CONFIG])
    (folder / WEIGHTS).write_bytes(files[WEIGHTS])
    hashed: list[Path] = []
    sha256_of = hub.sha256_of
    monkeypatch.setattr(hub, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    find("gpt2")
    find("gpt2")
    assert [path.name for path in hashed] == [CONFIG, WEIGHTS]  # once each, then remembered
    (folder / WEIGHTS).write_bytes(files[WEIGHTS][:-4] + b"\0\0\0\0")
    os.utime(folder / WEIGHTS, ns=(0, 0))
    for name in ("gpt2", None):
        with pytest.raises(CheckpointError, match=f"not the official gpt2.*{gpt2.weights_sha256}"):
            find(name)
    assert find(str(folder)).origin == f"local folder {folder}"  # as a folder it may be anything


# ---------------------------------------------------------------------------------------- the default model


def test_the_default_is_gpt2_where_the_hub_answers(stub: HubStub, gpt2: hub.Official) -> None:
    told: list[str] = []
    assert find(None, notify=told.append).name == "gpt2"
    assert told[0].startswith("Downloading gpt2 (548 MB)")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(401), "HTTP 401"),
        (Status(404), "HTTP 404"),
        (Status(429), "HTTP 429"),
        (Status(500), "HTTP 500"),
        (Redirect(), "in circles"),
        (Redirect("file:///etc/passwd"), "not an address on the web"),
        (Hang(), "did not answer within"),
    ],
    ids=["401", "404", "429", "500", "redirect loop", "redirect to a file", "hang"],
)
def test_the_default_falls_back_to_tiny(
    stub: HubStub, gpt2: hub.Official, monkeypatch: pytest.MonkeyPatch, fault: object, reason: str
) -> None:
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3 if isinstance(fault, Hang) else 2.5)
    stub.faults[f"HEAD {WEIGHTS}"] = [fault] * 10  # type: ignore[list-item]
    told: list[str] = []
    assert find(None, notify=told.append).name == "tiny"
    assert len(told) == 1
    assert reason in told[0]
    assert "download gpt2" in told[0]
    assert "\n" not in told[0]


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1", "http://hub.invalid", "nonsense", "ftp://127.0.0.1"]
)
def test_an_unreachable_endpoint_means_tiny(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert find(None, notify=lambda line: None).name == "tiny"


def test_a_server_that_is_not_the_hub_means_tiny(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{stub.endpoint}/login?to=")
    assert find(None, notify=lambda line: None).name == "tiny"


@pytest.mark.parametrize("hangs", ["the Hub", "name resolution"])
def test_the_decision_waits_for_less_than_3_seconds(
    stub: HubStub, gpt2: hub.Official, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    """No clock is read here: what it may wait for, all together, is what it passes as deadlines."""
    released, waited = threading.Event(), list[float | None]()

    class Impatient(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            waited.append(timeout)
            raise queue.Empty  # as if that time had passed

    def no_wait(*_: Any, **__: Any) -> None:
        raise AssertionError("waits elsewhere, too")

    if hangs == "the Hub":
        stub.faults[f"HEAD {WEIGHTS}"] = [Hang()] * 10
    else:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    monkeypatch.setattr(queue, "SimpleQueue", Impatient)
    monkeypatch.setattr(time, "sleep", no_wait)
    monkeypatch.setattr(threading.Thread, "join", no_wait)
    told: list[str] = []
    assert find(None, notify=told.append).name == "tiny"
    assert waited == [hub.PROBE_SECONDS]
    assert hub.PROBE_SECONDS < 3
    assert f"did not answer within {hub.PROBE_SECONDS} seconds" in told[0]
    released.set()


def test_name_resolution_that_hangs_does_not_hold_anything_up(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    told: list[str] = []
    assert find(None, notify=told.append).name == "tiny"
    assert "did not answer within 0.2 seconds" in told[0]
    released.set()


def test_after_the_decision_a_failure_is_an_error(stub: HubStub, gpt2: hub.Official) -> None:
    stub.faults[f"GET {WEIGHTS}"] = [Status(500)] * 10
    with pytest.raises(DownloadError, match="--model tiny"):
        find(None, notify=lambda line: None)


@pytest.mark.parametrize("by", ["argument", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_opens_no_socket(stub: HubStub, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    monkeypatch.setattr(threading.Thread, "start", no_socket)
    if by != "argument":
        monkeypatch.setenv(by, "1")
    told: list[str] = []
    assert find(None, offline=by == "argument", notify=told.append).name == "tiny"
    assert "offline" in told[0]
    for name in ("gpt2-xl", "owner/name"):
        with pytest.raises(CheckpointError, match=r"offline.*--model tiny"):
            find(name, offline=by == "argument")


def test_the_program_ends_while_name_resolution_still_hangs(tmp_path: Path) -> None:
    code = (
        "import socket, time; socket.getaddrinfo = lambda *a, **k: time.sleep(60)\n"
        "import sys; from minigpt.checkpoints import load, hub; hub.PROBE_SECONDS = 0.1\n"
        "print(hub.why_unreachable(hub.OFFICIAL['gpt2']))\n"
        "print({'huggingface_hub', 'tiktoken', 'rich', 'tqdm'} & set(sys.modules))"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://hub.invalid", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    reason, imported = done.stdout.splitlines()
    assert reason == "hub.invalid did not answer within 0.1 seconds"
    assert imported == "set()"  # none of what takes long to import
    assert not done.stderr


# -------------------------------------------------------------------------------------------- the command


def run_download(*words: str) -> None:
    parser = argparse.ArgumentParser()
    download_command.add_arguments(parser)
    download_command.run(parser.parse_args(words))


def test_download_makes_a_folder(
    stub: HubStub, gpt2: hub.Official, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_download("gpt2", "--out", str(tmp_path / "weights" / "gpt2"))
    assert capsys.readouterr().out.strip() == str(tmp_path / "weights" / "gpt2")
    found = {path.name: path.read_bytes() for path in (tmp_path / "weights" / "gpt2").iterdir()}
    assert found == files
    shutil.rmtree(tmp_path / "hf")
    assert find(None, offline=True).path == Path("weights/gpt2")


def test_a_folder_that_cannot_be_written_is_named(stub: HubStub, gpt2: hub.Official, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(DownloadError, match="a-file: cannot be written"):
        run_download("gpt2", "--out", str(tmp_path / "a-file"))


def test_a_disk_that_fills_up_meanwhile_is_told(
    stub: HubStub, gpt2: hub.Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(DownloadError, match=r"cannot write .*hub \(No space left on device\)"):
        find("gpt2")


def test_download_brings_a_newer_commit(
    stub: HubStub, files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.add("owner/name", files)
    run_download("owner/name")
    monkeypatch.setattr("tests.hub_stub.COMMIT", "6" * 40)
    stub.add("owner/name", files, "6" * 40)
    assert find("owner/name").path.name == COMMIT  # what is here is used, without a look at the network
    run_download("owner/name")
    assert find("owner/name").path.name == "6" * 40


def test_what_find_says_does_not_steer_the_terminal(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/\x1b[31m")
    with pytest.raises(DownloadError):
        find("owner/name")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minigpt: Downloading owner/name from http://127.0.0.1:1/\\x1b[31m into ")


def test_a_cache_of_nobody_is_a_folder_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "~nobody-of-this-name/hf")
    assert hub.cache_folder() == Path("~nobody-of-this-name/hf/hub")


@pytest.mark.parametrize("name", ["gpt3", "../gpt2", "a/b/c", ""])
def test_download_knows_what_a_name_is(stub: HubStub, name: str) -> None:
    with pytest.raises(InputError, match="a Hub id owner/name"):
        run_download(name)


def test_environment_and_script_end_to_end(stub: HubStub, files: Files, tmp_path: Path) -> None:
    stub.add("owner/name", files)
    environment = {**os.environ, "HF_ENDPOINT": stub.endpoint, "HF_HOME": str(tmp_path / "other")}
    script = str(ROOT / "scripts" / "download_weights.py")
    command = [sys.executable, script, "owner/name", "--out", str(tmp_path / "copy")]
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "copy")), done.stderr
    assert (tmp_path / "copy" / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert (tmp_path / "other" / "hub" / "models--owner--name").is_dir()
