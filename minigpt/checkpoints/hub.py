"""The Hugging Face Hub: the official checkpoints, its cache on this machine, and whether it is in reach.

Files are looked for where `huggingface_hub` and `transformers` keep theirs: `snapshots/<commit>/<file>` in
`<cache>/models--<owner>--<name>` (huggingface.co/docs/huggingface_hub, "Understand caching"). The environment
variables `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean there.

Nothing here imports the Hub client, which takes longer than to find a model that is on this machine;
`download.py` does.
"""

import hashlib
import os
import queue
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..errors import CheckpointError
from ..files import write_whole
from .tensors import INDEX_FILE, SINGLE_FILE, read_index, shard_names

TINY_HINT = "`--model tiny` needs no download."
PLAIN_NAME = re.compile(r"\w{6,64}", re.ASCII)  # commits and etags become names of files
PROBE_SECONDS = 2.5  # the default model is decided within 3 seconds


@dataclass(frozen=True)
class Official:
    """A checkpoint of the official family, at the revision that minigpt is tested with."""

    repository: str
    revision: str
    size: str
    weights_sha256: str
    config_sha256: str

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"Hub {self.repository} at {self.revision[:7]}"

    @property
    def sha256(self) -> dict[str, str]:
        """The files that make up the checkpoint, with their hashes."""
        return {"config.json": self.config_sha256, SINGLE_FILE: self.weights_sha256}


# Hashes as the Hub shows them on each file's page.
OFFICIAL = {
    "gpt2": Official(
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "548 MB",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
    ),
    "gpt2-medium": Official(
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "1.5 GB",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        "ef1a44d889ad1a0acc7731c78134f1b87d2d222f110e97dd10fd4117331caf22",
    ),
    "gpt2-large": Official(
        "openai-community/gpt2-large",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        "3.2 GB",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        "7fccdcfd6622055342a734c663ee0b61ff4fd697f42467595df0bf4448c8c170",
    ),
    "gpt2-xl": Official(
        "openai-community/gpt2-xl",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "6.4 GB",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        "be48115d52314bc27327e160bf10197760db02ea689d10adb24db4102edf7a8a",
    ),
    "distilgpt2": Official(
        "distilbert/distilgpt2",
        "2290a62682d06624634c1f46a6ad5be0f47f38aa",
        "353 MB",
        "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",
        "4ec5947c1d59fee6212cdf3b0ec1a53eac02092554c5ff0a733488cbd2c64f3a",
    ),
}


# -------------------------------------------------------------------------------------------- environment
# Read at each call: `huggingface_hub` reads them once, when it is imported.


def is_offline() -> bool:
    """Whether the environment forbids the network, as `HF_HUB_OFFLINE=1` does."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The Hub's address."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _hub_home() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expanded(os.environ.get("HF_HOME") or f"{caches}/huggingface")


def cache_folder() -> Path:
    """The Hub's cache on this machine."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return _expanded(own) if own else _hub_home() / "hub"


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path)))  # noqa: PTH111 - leaves `~nobody` as it is


def _token() -> str | None:
    """The token that the Hub client would send."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if token is None:
        path = _expanded(os.environ.get("HF_TOKEN_PATH") or str(_hub_home() / "token"))
        token = path.read_text(encoding="utf-8") if path.is_file() else ""
    return token.strip() or None


# ------------------------------------------------------------------------------------ what is here already


def snapshot_folder(repository: str, revision: str) -> Path:
    """Where the cache holds the files of a repository at a commit, if it holds them."""
    return repository_folder(repository) / "snapshots" / revision


def cached_snapshot(repository: str) -> Path | None:
    """The complete snapshot of a repository that was downloaded last, or None."""
    commit = _text_of(repository_folder(repository) / "refs" / "main").strip()
    if not PLAIN_NAME.fullmatch(commit):
        return None
    folder = snapshot_folder(repository, commit)
    return folder if is_complete(folder) else None


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a config and all its weights."""
    if not (folder / "config.json").is_file():
        return False
    if (folder / SINGLE_FILE).is_file() or not (folder / INDEX_FILE).is_file():
        return (folder / SINGLE_FILE).is_file()
    return all((folder / shard).is_file() for shard in shard_names(read_index(folder / INDEX_FILE)))


def check_official(folder: Path, name: str) -> None:
    """Raise `CheckpointError` unless the files in a folder are the official ones, by their sha256."""
    for filename, expected in OFFICIAL[name].sha256.items():
        try:
            found = _remembered_sha256(folder / filename)
        except OSError as error:
            raise CheckpointError(f"{folder / filename}: cannot be read: {error.strerror}.") from None
        if found != expected:
            raise CheckpointError(
                f"{folder / filename}: not the official {name}: sha256 {found}, expected {expected}; "
                "delete it to download it again, or give it another folder and name that."
            )


def _remembered_sha256(path: Path) -> str:
    """The sha256 of a file, noted until its size or time of change differs: half a gigabyte takes a second.

    The notes are in the Hub's folder for other programs, `assets`.
    """
    path = path.resolve()
    status = path.stat()
    key = f"{path} {status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    note = _hub_home() / "assets" / "minigpt" / "sha256" / digest
    if not (known := _text_of(note)):
        known = sha256_of(path)
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            write_whole(note, known)
        except OSError:  # on a read-only disk the file is hashed each time
            pass
    return known


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def repository_folder(repository: str) -> Path:
    """Where the cache keeps everything about a repository."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


# -------------------------------------------------------------------------------------- is the Hub in reach


def why_unreachable(official: Official) -> str | None:
    """None if the Hub answers the metadata request for a checkpoint in time, else why not, in words.

    Name resolution cannot be given a time-out, so the question is asked in a thread that is left behind
    when it takes too long; being a daemon, it does not keep the program from ending.
    """
    url = f"{endpoint()}/{official.repository}/resolve/{official.revision}/{SINGLE_FILE}"
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_ask(url))
        except Exception as error:  # whatever goes wrong in there: the Hub is not in reach
            reason = getattr(error, "reason", error)
            answers.put(getattr(reason, "strerror", None) or str(reason) or type(error).__name__)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return f"{urlsplit(url).hostname} did not answer within {PROBE_SECONDS} seconds"


def _ask(url: str) -> str | None:
    """Send HEAD requests, following redirects until an answer is signed with a commit, as the Hub's are."""
    from urllib import request
    from urllib.error import HTTPError

    class Stay(request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            """Do not follow: the Hub's own answer is a redirect, to where the weights are stored."""

    opener = request.build_opener(Stay, request.HTTPSHandler(context=_tls()))
    host, token = urlsplit(url).hostname, _token()
    for _ in range(5):
        if urlsplit(url).scheme not in {"http", "https"}:
            return f"{url} is not an address on the web"
        head = request.Request(url, method="HEAD")
        if token and urlsplit(url).hostname == host:
            head.add_header("Authorization", f"Bearer {token}")
        try:
            with opener.open(head, timeout=PROBE_SECONDS) as response:
                status, headers = response.status, response.headers
        except HTTPError as error:
            status, headers = error.code, error.headers
            error.close()
        if status < 400 and "X-Repo-Commit" in headers:
            return None
        if not (300 <= status < 400 and "Location" in headers):
            return (
                f"{host} answered HTTP {status}" if status >= 400 else f"{host} does not answer like the Hub"
            )
        url = urljoin(url, headers["Location"])
    return f"{host} redirects in circles"


def _tls() -> Any:
    import ssl

    context = ssl.create_default_context()
    try:
        import certifi  # the certificates that the Hub client trusts; a Python on macOS may have none

        context.load_verify_locations(certifi.where())
    except (ImportError, OSError):
        pass
    return context
