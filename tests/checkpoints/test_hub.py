"""Names to files: the Hub's cache, downloads that are cut and lie, and the decision for the default model."""

import hashlib
import io
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

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from minigpt.checkpoints import find as sources
from minigpt.checkpoints import hub
from minigpt.checkpoints.find import OFFICIAL, Official, find
from minigpt.checkpoints.load import load_model
from minigpt.cli.main import main
from minigpt.errors import CheckpointError, ConfigError, DownloadError, InputError
from minigpt.model import GPT2, named_parameters
from tests.hub_stub import COMMIT, Drop, Hang, HubStub, Redirect, Stall, Status, WrongBytes, WrongLength
from tests.synthetic import random_gpt2, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
Files = dict[str, bytes]


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """What HF_ENDPOINT does, which the client reads when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """A Hub of our own, an empty cache, no `weights/` at hand, and a client that does not dawdle."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "weights" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with HubStub() as hub_stub:
        use_endpoint(monkeypatch, hub_stub.endpoint)
        yield hub_stub


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A small checkpoint, as bytes by file name."""
    folder = save_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def gpt2(stub: HubStub, files: Files, monkeypatch: pytest.MonkeyPatch) -> Official:
    """The small checkpoint in the place of the official gpt2, on the stub."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    official = replace(OFFICIAL["gpt2"], weights_sha256=hashes[WEIGHTS], config_sha256=hashes[CONFIG])
    monkeypatch.setitem(OFFICIAL, "gpt2", official)
    stub.add(official.repository, files, official.revision)
    return official


def write_files(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def snapshot(repository: str, revision: str) -> Path:
    """Where the cache keeps a commit's files."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots" / revision


def assert_same_parameters(model: GPT2, expected: GPT2) -> None:
    named = named_parameters(expected)
    for name, array in named_parameters(model).items():
        assert np.array_equal(array, named.pop(name)), name
    assert not named


def cached_files(tmp_path: Path) -> list[str]:
    """The names of everything in the cache but locks."""
    blobs = (tmp_path / "hf" / "hub").glob("models--*/*/**/*")
    return sorted(path.name for path in blobs if not path.is_dir())


# ---------------------------------------------------------------------------------------------- downloads


def test_an_official_name_is_downloaded_once(stub: HubStub, gpt2: Official) -> None:
    told: list[str] = []
    source = find("gpt2", notify=told.append)
    assert (source.name, source.origin) == ("gpt2", "Hub openai-community/gpt2 at 607a30d")
    assert f"(0 MB) from {stub.endpoint}" in told[0]
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


def test_a_dropped_connection_is_tried_again(stub: HubStub, gpt2: Official, files: Files) -> None:
    stub.faults[f"GET {WEIGHTS}"] = [Drop(after=50_500), Drop(after=0)]
    folder = find("gpt2", notify=lambda line: None).path
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert len(stub.asked(WEIGHTS)) == 3


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("fault", [WrongLength(100), Drop(after=100)])
def test_half_a_file_is_never_kept(
    stub: HubStub, files: Files, tmp_path: Path, file: str, fault: WrongLength | Drop
) -> None:
    """Neither a body that is called complete too early nor one that is cut, time after time."""
    stub.add("owner/name", files)
    stub.faults[f"GET {file}"] = [fault] * 50
    with pytest.raises(DownloadError, match="owner/name: "):
        find("owner/name")
    assert file not in cached_files(tmp_path)
    stub.faults.clear()
    assert_same_parameters(load_model("owner/name"), random_gpt2())


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_a_wrong_hash_is_told_and_removed(
    stub: HubStub, gpt2: Official, files: Files, tmp_path: Path, file: str
) -> None:
    stub.faults[f"GET {file}"] = [WrongBytes()]
    wrong = hashlib.sha256(bytes(byte ^ 255 for byte in files[file])).hexdigest()
    with pytest.raises(DownloadError, match=f"{file} .*{wrong}, expected {gpt2.sha256[file]}; removed"):
        find("gpt2")
    assert file not in cached_files(tmp_path)
    assert find("gpt2").name == "gpt2"  # and the next attempt starts anew


def test_any_repository_is_held_to_the_hash_that_the_hub_gives(stub: HubStub, files: Files) -> None:
    stub.add("owner/name", files)
    stub.faults[f"GET {WEIGHTS}"] = [WrongBytes()]
    with pytest.raises(DownloadError, match=r"has arrived with .* and sha256"):
        find("owner/name")


@pytest.mark.parametrize("file", [CONFIG, "tokenizer.json", INDEX])
def test_a_small_file_that_is_too_large_is_not_fetched(stub: HubStub, files: Files, file: str) -> None:
    rest = files if file != INDEX else {CONFIG: files[CONFIG]}
    stub.add("owner/name", {file: b"{}"} | rest)
    stub.sizes[file] = 10**11
    with pytest.raises(DownloadError, match=f"{file} has 100,000,000,000 bytes"):
        find("owner/name")
    assert not stub.asked(f"/{file}")


def test_two_at_once_download_each_file_once(stub: HubStub, gpt2: Official) -> None:
    threads = [threading.Thread(target=find, args=("gpt2",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stub.asked(WEIGHTS)) == 1
    assert sources.is_complete(find("gpt2").path)


def authorized(stub: HubStub) -> list[bool]:
    """Of each request, whether it carried the token."""
    return [request.headers.get("authorization") == "Bearer hf_secret" for request in stub.requests]


def test_the_token_goes_to_the_hub_and_nowhere_else(
    stub: HubStub, gpt2: Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    find("gpt2")
    elsewhere = [request.path.startswith("/storage") for request in stub.requests]
    assert authorized(stub) == [not stored for stored in elsewhere]
    assert True in elsewhere


@pytest.mark.parametrize("redirected", ["the weights", "a small file", "the listing"])
def test_the_token_does_not_go_to_another_port(
    stub: HubStub, files: Files, monkeypatch: pytest.MonkeyPatch, redirected: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    stub.add("owner/name", files)
    with HubStub() as other:
        other.add("owner/name", files)
        if redirected == "the weights":
            stub.storage = f"{other.endpoint}/storage"
        elif redirected == "a small file":
            place = f"{other.endpoint}/owner/name/resolve/{COMMIT}/{CONFIG}"
            stub.faults[f"GET {CONFIG}"] = [Redirect(place)]
        else:
            stub.faults["GET listing"] = [Redirect(f"{other.endpoint}/api/models/owner/name/revision/main")]
        find("owner/name")
        assert any(authorized(stub))
        assert authorized(other)
        assert not any(authorized(other))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(401), "answered HTTP 401; check HF_TOKEN"),
        (Status(403, {"X-Error-Code": "GatedRepo"}), "is gated: accept its terms"),
        (Status(404, {"X-Error-Code": "RepoNotFound"}), "knows no such repository"),
        (Status(407), "the proxy asks for a password: set HTTPS_PROXY"),
        (Status(429), "answered HTTP 429; wait a little"),
        (Status(500), "answered HTTP 500; try later"),
        (Redirect(), "failed"),
        (Hang(), "failed"),
    ],
    ids=["401", "gated", "no repository", "proxy", "429", "500", "redirect loop", "hang"],
)
@pytest.mark.parametrize("name", ["gpt2", "owner/name"])
def test_what_was_asked_for_by_name_fails_with_the_reason(
    stub: HubStub, gpt2: Official, monkeypatch: pytest.MonkeyPatch, name: str, fault: object, reason: str
) -> None:
    monkeypatch.setattr(hub, "LISTING_SECONDS", 0.3)
    stub.faults["GET listing"] = [fault] * 10_000  # type: ignore[list-item]
    with pytest.raises(DownloadError, match=f"^{name}: .*{reason}.*--model tiny") as caught:
        find(name)
    assert str(caught.value).isprintable()


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
        ([Stall(after=50_500), *[Stall(after=0)] * 50], "failed"),
        ([Drop(after=50_500), *[Drop(after=0)] * 50], "failed"),
        ([Redirect()] * 1000, "failed"),
    ],
    ids=["401", "403", "404", "429", "500", "no answer", "no body", "half a body", "cut", "redirect loop"],
)
def test_a_body_that_does_not_come_is_told_once(
    stub: HubStub,
    gpt2: Official,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    faults: list[Any],
    reason: str,
) -> None:
    """The Hub has said what the file is; then its content fails. The client's attempts are not told."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    stub.faults[f"GET {WEIGHTS}"] = list(faults)
    with pytest.raises(DownloadError, match=f"^gpt2: .*{reason}.*--model tiny") as caught:
        find("gpt2", notify=lambda line: None)
    assert str(caught.value).isprintable()
    assert "thrown while" not in capfd.readouterr().err
    assert WEIGHTS not in cached_files(tmp_path)


def test_the_client_is_silenced_for_a_download_only(stub: HubStub, gpt2: Official) -> None:
    before = logging.getLogger("huggingface_hub").getEffectiveLevel()
    find("gpt2", notify=lambda line: None)
    assert logging.getLogger("huggingface_hub").getEffectiveLevel() == before <= logging.WARNING


def test_a_refused_connection_fails_with_the_reason(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match=r"gpt2-xl.*127\.0\.0\.1:1 failed.*--model tiny"):
        find("gpt2-xl")


def test_a_full_disk_is_told_before_it_is_filled(
    stub: HubStub, gpt2: Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DownloadError, match=r"cannot use .*bytes are needed.*HF_HOME"):
        find("gpt2")
    assert not stub.asked(WEIGHTS)


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A cache that cannot be used, in one of several ways; its path."""
    path = tmp_path / "a-file" / "hub"
    if request.param == "a file":
        path.parent.touch()
    else:
        path.mkdir(parents=True)
        monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != path)  # root may do anything
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    return str(path)


@pytest.mark.parametrize("no_cache", ["a file", "forbidden"], indirect=True)
def test_a_cache_that_cannot_be_used(stub: HubStub, gpt2: Official, no_cache: str) -> None:
    """Who asked for gpt2 gets an error that names the cache, who did not gets `tiny`, as offline."""
    with pytest.raises(DownloadError, match=rf"cannot use {no_cache} \(.*HF_HOME"):
        find("gpt2")
    told: list[str] = []
    assert find(None, notify=told.append).name == "tiny"
    assert f"cannot use {no_cache}" in told[0]
    assert not stub.asked(WEIGHTS)


def test_a_cache_that_may_not_be_read_is_empty(
    stub: HubStub, gpt2: Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    find("gpt2")
    for name in ("stat", "scandir", "listdir"):
        monkeypatch.setattr(os, name, forbidden)
    assert sources.official_here("gpt2") is None
    assert sources.cached("owner/name") is None


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
    with pytest.raises(CheckpointError, match="nor whole in the Hub's cache"):
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


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("pytorch_model.bin", r"only 'pytorch_model\.bin'\. That is a pickle.*save_pretrained"),
        ("tf_model.h5", r"only 'tf_model\.h5'\. That is another library's format"),
        ("model.fp16.safetensors", r"only 'model\.fp16\.safetensors'"),
        ("gpt2.Q4_K_M.gguf", r"only 'gpt2\.Q4_K_M\.gguf'\. That is llama\.cpp's format"),
        ("adapter_model.safetensors", r"only 'adapter_model\.safetensors'\. That is a PEFT adapter"),
        ("README.md", r"has no model\.safetensors \(or model\.safetensors\.index\.json\)\. "),
    ],
)
def test_what_a_repository_has_instead_of_weights_is_named(
    stub: HubStub, files: Files, other: str, words: str
) -> None:
    stub.add("owner/old", {CONFIG: files[CONFIG], other: b"other"})
    with pytest.raises(DownloadError, match=words):
        find("owner/old")
    assert not stub.asked(f"/{other}")


def test_a_repository_without_a_config_is_told(stub: HubStub, files: Files) -> None:
    stub.add("owner/name", {WEIGHTS: files[WEIGHTS]})
    with pytest.raises(DownloadError, match=r"has no config\.json"):
        find("owner/name")


@pytest.mark.parametrize("file", ["vocab.txt", "spiece.model", "tokenizer.json", "tokenizer_config.json"])
def test_what_tells_the_tokenizer_is_downloaded(stub: HubStub, files: Files, file: str) -> None:
    stub.add("owner/name", {**files, file: b"{}", "README.md": b"", "unrelated.bin": b""})
    assert {path.name for path in find("owner/name").path.iterdir()} == {*files, file}
    assert find("owner/name", offline=True).path.name == COMMIT


def test_without_its_tokenizer_a_cached_repository_is_not_whole(stub: HubStub, files: Files) -> None:
    """Another program fetched the weights alone: taking GPT-2's tokens for granted could be wrong."""
    stub.add("owner/name", {**files, "vocab.txt": b"[PAD]"})
    for file in files:
        huggingface_hub.hf_hub_download("owner/name", file)
    with pytest.raises(CheckpointError, match="nor whole in the Hub's cache"):
        find("owner/name", offline=True)
    told: list[str] = []
    folder = find("owner/name", notify=told.append).path
    assert (folder / "vocab.txt").read_bytes() == b"[PAD]"
    assert len([request for request in stub.asked(WEIGHTS) if "/storage/" in request.path]) == 1
    assert find("owner/name", offline=True).path == folder


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
    stub: HubStub, gpt2: Official, files: Files, tmp_path: Path, place: str
) -> None:
    folder = write_files(tmp_path / place, files)
    assert find(None).path.resolve() == folder.resolve()
    assert find("gpt2", offline=True).name == "gpt2"
    assert not stub.requests


def test_what_transformers_has_cached_is_found(stub: HubStub, gpt2: Official, files: Files) -> None:
    folder = write_files(snapshot("gpt2", gpt2.revision), files)
    assert find(None).path == folder
    assert not stub.requests


def test_another_revision_in_the_cache_is_named(stub: HubStub, gpt2: Official, files: Files) -> None:
    folder = write_files(snapshot(gpt2.repository, "1" * 40), files)
    told: list[str] = []
    assert find(None, offline=True, notify=told.append).name == "tiny"
    assert f"Of another revision, the cache has {folder}, which can be given as a folder." in told[0]
    with pytest.raises(CheckpointError, match=str(folder)):
        find("gpt2", offline=True)
    assert find(str(folder), offline=True).path == folder


@pytest.mark.parametrize("name", ["gpt2", "tiny"])
def test_a_folder_that_has_an_official_name_is_mentioned(
    stub: HubStub, gpt2: Official, files: Files, name: str
) -> None:
    write_files(Path(name), files)
    told: list[str] = []
    assert "local" not in find(name, notify=told.append).origin
    assert f"for the folder here write `./{name}`" in told[0]
    assert find(f"./{name}", notify=told.append).origin == f"local folder {name}"


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_verify_notices_what_is_not_the_official_file(
    stub: HubStub, gpt2: Official, capsys: pytest.CaptureFixture[str], files: Files, file: str
) -> None:
    wrong = files[file][:-1] + b" "
    write_files(Path("weights/gpt2"), files | {file: wrong})
    assert main(["verify", "--model", "gpt2"]) == 1
    told = capsys.readouterr().err
    assert f"{file}: not the official gpt2: sha256 {hashlib.sha256(wrong).hexdigest()}" in told
    assert f"expected {gpt2.sha256[file]}" in told


# ----------------------------------------------------------------------------------- names that mean nothing


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://huggingface.co/openai-community/gpt2", "the Hub id is openai-community/gpt2"),
        ("https://huggingface.co/owner/name/resolve/main/model.safetensors", "the Hub id is owner/name"),
        ("https://huggingface.co/gpt2/tree/main", "the Hub id is gpt2"),
        ("huggingface.co/owner/name", "the Hub id is owner/name"),
        ("hf.co/gpt2", "the Hub id is gpt2"),
        ("https://example.org/some/model", "give a Hub id owner/name"),
    ],
)
def test_a_web_address_is_no_name(stub: HubStub, name: str, words: str) -> None:
    with pytest.raises(InputError, match=f"a web address is no model's name; {words}\\."):
        find(name)
    assert not stub.requests


def test_what_is_no_text_is_no_name() -> None:
    """In a program of its own: here the types would be checked before."""
    code = (
        "import minigpt\n"
        "for name in (3, True, b'gpt2', ['gpt2'], 2.5, type('P', (), {'__fspath__': lambda self: b'x'})()):\n"
        "    try: minigpt.load(name)\n"
        "    except minigpt.InputError as error: print(error)"
    )
    said = run_python(code)
    assert said[0] == "model 3: expected a name, a Hub id owner/name, or a folder."
    assert len(said) == 6


# ---------------------------------------------------------------------------------------- the default model


def test_the_default_is_gpt2_where_the_hub_answers(stub: HubStub, gpt2: Official) -> None:
    told: list[str] = []
    assert find(None, notify=told.append).name == "gpt2"
    assert told[0].startswith("Downloading openai-community/gpt2 (")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(401), "HTTP 401"),
        (Status(404), "HTTP 404"),
        (Status(407), "the proxy asks for a password"),
        (Status(429), "HTTP 429"),
        (Status(500), "HTTP 500"),
        (Redirect(), "failed"),
        (Redirect("file:///etc/passwd"), "does not answer like the Hub"),
        (Hang(), "did not answer within"),
    ],
    ids=["401", "404", "proxy", "429", "500", "redirect loop", "redirect to a file", "hang"],
)
def test_the_default_falls_back_to_tiny(
    stub: HubStub, gpt2: Official, monkeypatch: pytest.MonkeyPatch, fault: object, reason: str
) -> None:
    seconds = 0.3 if isinstance(fault, Hang) else 60.0  # who answers is waited for
    monkeypatch.setattr(hub, "PROBE_SECONDS", seconds)
    stub.faults[f"HEAD {WEIGHTS}"] = [fault] * 100  # type: ignore[list-item]
    told: list[str] = []
    assert find(None, notify=told.append).name == "tiny"
    assert len(told) == 1
    assert reason in told[0]
    assert "download gpt2" in told[0]
    assert told[0].isprintable()


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1", "http://hub.invalid", "nonsense", "ftp://127.0.0.1", "/login?to="]
)
def test_an_unreachable_endpoint_means_tiny(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    use_endpoint(monkeypatch, stub.endpoint + endpoint if endpoint.startswith("/") else endpoint)
    assert find(None, notify=lambda line: None).name == "tiny"


@pytest.mark.parametrize("hangs", ["the Hub", "name resolution"])
def test_the_decision_waits_for_less_than_3_seconds(
    stub: HubStub, gpt2: Official, monkeypatch: pytest.MonkeyPatch, hangs: str
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
    use_endpoint(monkeypatch, "http://hub.invalid")
    told: list[str] = []
    assert find(None, notify=told.append).name == "tiny"
    assert "http://hub.invalid did not answer within 0.2 seconds" in told[0]
    released.set()


def test_after_the_decision_a_failure_is_an_error(stub: HubStub, gpt2: Official) -> None:
    stub.faults[f"GET {WEIGHTS}"] = [Status(500)] * 10
    with pytest.raises(DownloadError, match="--model tiny"):
        find(None, notify=lambda line: None)


@pytest.mark.parametrize("by", ["argument", "HF_HUB_OFFLINE"])
def test_offline_opens_no_socket(stub: HubStub, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    monkeypatch.setattr(threading.Thread, "start", no_socket)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", by == "HF_HUB_OFFLINE")
    told: list[str] = []
    assert find(None, offline=by == "argument", notify=told.append).name == "tiny"
    assert "offline" in told[0]
    for name in ("gpt2-xl", "owner/name"):
        with pytest.raises(CheckpointError, match=r"offline.*--model tiny"):
            find(name, offline=by == "argument")


def run_python(code: str, **environment: str) -> list[str]:
    """What a program prints, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.splitlines()


def test_the_program_ends_while_name_resolution_still_hangs(tmp_path: Path) -> None:
    code = (
        "import socket, time; socket.getaddrinfo = lambda *a, **k: time.sleep(60)\n"
        "from minigpt.checkpoints import hub; hub.PROBE_SECONDS = 0.1\n"
        "print(hub.why_unreachable('owner/name', 'main'))"
    )
    said = run_python(code, HF_ENDPOINT="http://hub.invalid", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    assert said == ["http://hub.invalid did not answer within 0.1 seconds"]


@pytest.mark.parametrize(
    ("name", "imported"),
    [("tiny", "set()"), ("weights/tiny", "set()"), (None, "{'huggingface_hub'}")],
)
def test_the_client_is_imported_only_where_it_is_needed(
    tmp_path: Path, name: str | None, imported: str
) -> None:
    """Of the Hub's cache only the place is asked for, which is quick."""
    code = (
        "import sys; from minigpt.checkpoints.find import find\n"
        f"find({name!r}, offline=True, notify=lambda line: None)\n"
        "print({'huggingface_hub', 'httpx2', 'httpx', 'requests', 'tqdm'} & {*sys.modules})"
    )
    assert run_python(code, HF_HOME=str(tmp_path)) == [imported]


# -------------------------------------------------------------------------------------------- the command


def test_download_makes_a_folder(
    stub: HubStub, gpt2: Official, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "weights" / "gpt2"
    assert main(["download", "gpt2", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    assert not (tmp_path / "hf").exists()  # the disk is not filled twice
    assert find(None, offline=True).path == Path("weights/gpt2")
    n_requests = len(stub.requests)
    assert main(["download", "gpt2", "--out", str(out)]) == 0  # what is there and right stays
    assert len(stub.requests) == n_requests


@pytest.mark.parametrize(
    ("name", "encoding", "printed"),
    [
        (b"\xc3\xbc\xec\x95\x88", "ascii", b"\\xfc\\uc548"),
        (b"\xc3\xbc\xec\x95\x88", "cp437", b"\x81\\uc548"),
        (b"\xff", "utf-8", b"\xff"),  # no text in any encoding, and what a shell passes on
    ],
)
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_a_path_that_cannot_be_printed_is_no_failure(
    stub: HubStub,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: bytes,
    encoding: str,
    printed: bytes,
) -> None:
    stub.add("owner/name", files)
    out = tmp_path / os.fsdecode(name)
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding))
    assert main(["download", "owner/name", "--out", str(out)]) == 0
    assert bytes_out.getvalue() == os.fsencode(tmp_path) + b"/" + printed + b"\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files


@pytest.mark.skipif(os.name == "nt", reason="Windows has no owners of links")
def test_download_follows_no_planted_link(
    stub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "out").lstat().st_uid + 1)
    assert main(["download", "owner/name", "--out", str(tmp_path / "out")]) == 1
    assert "out: is a link that somebody else made" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not stub.requests


@pytest.mark.parametrize("there", ["model.safetensors", "vocab.json", "notes.txt"])
def test_download_mixes_with_nothing(
    stub: HubStub, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str
) -> None:
    stub.add("owner/name", files)
    (tmp_path / there).write_bytes(b"older")
    assert main(["download", "owner/name", "--out", str(tmp_path)]) == 2
    assert "--out takes a new or an empty folder" in capsys.readouterr().err
    assert (tmp_path / there).read_bytes() == b"older"
    assert not stub.requests


def test_a_download_that_fails_leaves_the_folder_empty(
    stub: HubStub, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.add("owner/name", files)
    stub.faults[f"GET {WEIGHTS}"] = [Status(500)] * 10
    assert main(["download", "owner/name", "--out", str(tmp_path / "out")]) == 1
    assert "HTTP 500" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_is_named(
    stub: HubStub, gpt2: Official, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-file").touch()
    assert main(["download", "gpt2", "--out", str(tmp_path / "a-file")]) == 1
    assert "a-file: cannot be written" in capsys.readouterr().err


def test_download_brings_a_newer_commit(stub: HubStub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.add("owner/name", files)
    assert main(["download", "owner/name"]) == 0
    monkeypatch.setattr("tests.hub_stub.COMMIT", "6" * 40)
    stub.add("owner/name", files, "6" * 40)
    assert find("owner/name").path.name == COMMIT  # what is here is used, without a look at the network
    assert main(["download", "owner/name"]) == 0
    assert find("owner/name").path.name == "6" * 40


def test_a_newer_commit_counts_when_all_of_it_is_there(
    stub: HubStub, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.add("owner/name", files)
    find("owner/name")
    monkeypatch.setattr("tests.hub_stub.COMMIT", "6" * 40)
    newer = {CONFIG: files[CONFIG], WEIGHTS: files[WEIGHTS][:-1] + b"\1"}
    stub.add("owner/name", newer, "6" * 40)
    stub.faults[f"GET {WEIGHTS}"] = [Status(500)] * 10
    assert main(["download", "owner/name"]) == 1
    assert find("owner/name", offline=True).path.name == COMMIT


def test_what_the_environment_says_does_not_steer_the_terminal(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_endpoint(monkeypatch, "http://127.0.0.1:1/\x1b[31m")
    assert main(["download", "owner/name"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minigpt: owner/name: the download from http://127.0.0.1:1/\\x1b[31m failed")


@pytest.mark.parametrize("name", ["gpt3", "../gpt2", "a/b/c", ""])
def test_download_knows_what_a_name_is(stub: HubStub, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["download", name]) == 2
    assert "a Hub id owner/name" in capsys.readouterr().err


def test_download_does_not_go_online_where_it_must_not(stub: HubStub) -> None:
    """In a program of its own: the client reads the variable when it is imported."""
    code = (
        "import sys; from minigpt.cli.main import main; sys.stderr = sys.stdout\n"
        "print(main(['download', 'gpt2']))"
    )
    said, status = run_python(code, HF_HUB_OFFLINE="1", HF_ENDPOINT=stub.endpoint)
    assert "HF_HUB_OFFLINE" in said
    assert status == "1"
    assert not stub.requests


def test_a_file_that_claims_to_be_larger_than_any_official_one_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 42)  # of holes; to hash it would take an hour
    with pytest.raises(CheckpointError, match="not the official gpt2: sha256 not taken of 4,398,046,511,104"):
        sources.check_official(tmp_path, "gpt2")
