"""The Hugging Face Hub: whether it answers, and what is brought from there.

Requests, cache, locks, tokens and proxies are `huggingface_hub`'s, through its public functions, so that
`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the proxies mean what they mean there. What is
ours: which files are asked for, whether what arrives is what was promised, how long the default model
waits for an answer, and the sentences.
"""

import errno
import hashlib
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from logging import Filter
from pathlib import Path
from typing import Any

from ..errors import DownloadError, MiniGPTError
from .config import read_config
from .tensors import INDEX_FILE, SINGLE_FILE, instead_among, read_index, shard_names
from .tokenizer_files import LONGEST, TOKENIZER_FILES

Notify = Callable[[str], None]
Hashes = Mapping[str, str] | None  # by the name of the file
PROBE_SECONDS = 2.5  # the default model is decided within 3 seconds
LISTING_SECONDS = 10.0  # who asked for a model by name waits longer
NO_TOKENIZER = "vocab.txt"  # asked for where no tokenizer is listed, so that the cache notes its absence


def client() -> Any:
    """The Hub's client, with its telemetry off; its parts are imported when they are first used."""
    import huggingface_hub.constants  # noqa: PLC0415  most runs download nothing

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_files(names: Collection[str]) -> list[str]:
    """Those of the names that say which tokenizer a checkpoint has."""
    return [name for name in TOKENIZER_FILES if name in names]


# -------------------------------------------------------------------------------------- is the Hub in reach


def why_unreachable(repository: str, revision: str) -> str | None:
    """None if the Hub answers the metadata request for a checkpoint in time, else why not, in words.

    Name resolution cannot be given a time-out, so the question is asked in a thread that is left behind
    when it takes too long; being a daemon, it does not keep the program from ending.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    url = client().hf_hub_url(repository, SINGLE_FILE, revision=revision)

    def ask() -> None:
        try:
            with _explained():
                _make_room(SINGLE_FILE, 0, None)
                _check_commit(client().get_hf_file_metadata(url, timeout=LISTING_SECONDS).commit_hash)
            answers.put(None)
        except DownloadError as error:
            answers.put(str(error).rstrip("."))

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return f"{client().constants.ENDPOINT} did not answer within {PROBE_SECONDS} seconds"


# ---------------------------------------------------------------------------------------------- downloads


def fetch(
    repository: str, notify: Notify, revision: str = "main", sha256: Hashes = None, to: Path | None = None
) -> Path:
    """Bring a checkpoint into the Hub's cache, or into the folder `to`; returns the folder that it is in.

    `sha256` names the files of an official checkpoint; without it they are chosen from what is there. Raises
    `DownloadError` if it cannot be had, `ConfigError` or `CheckpointError` if it is none of GPT-2's.
    """
    with _explained():
        api = client().HfApi(library_name="minigpt")
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=LISTING_SECONDS)
        commit, siblings = _check_commit(info.sha), info.siblings or []
        files = {file.rfilename: file for file in siblings if re.fullmatch(r"[\w.-]+", file.rfilename)}

        def is_here(name: str) -> bool:
            found = client().try_to_load_from_cache(repository, name, revision=commit)
            return to is None and isinstance(found, str)

        def get(name: str) -> Path:
            if name not in files:
                raise DownloadError(f"the repository has no {name}.")
            if not is_here(name):
                _make_room(name, _size(files[name]), to)
            path = Path(api.hf_hub_download(repository, name, revision=commit, local_dir=to))
            _check(path, files[name], (sha256 or {}).get(name))
            return path

        weights = list(sha256 or _choose(files, get))
        megabytes = sum(_size(files[name]) for name in weights if name in files) / 1e6
        source = f"{repository} ({megabytes:,.0f} MB) from {client().constants.ENDPOINT}"
        if not all(map(is_here, weights)):
            notify(f"Downloading {source}; meanwhile `--model tiny` answers at once.")
        folder = [get(name) for name in weights][-1].parent
        if revision == "main" and to is None:
            with suppress(client().errors.EntryNotFoundError):
                if not tokenizer_files(files):
                    api.hf_hub_download(repository, NO_TOKENIZER, revision=commit)
            api.hf_hub_download(repository, "config.json")  # now that all is there, it is the cache's `main`
    return folder


def _check_commit(commit: str | None) -> str:
    if commit is None or not re.fullmatch(r"[0-9a-f]{40}", commit):  # it becomes the name of a folder
        raise DownloadError(f"{client().constants.ENDPOINT} does not answer like the Hub.")
    return commit


def _choose(names: Collection[str], get: Callable[[str], Path]) -> list[str]:
    """The weights of a repository; what may tell that it is not GPT-2 is fetched, and refused, first."""
    read_config(get("config.json").parent)
    for name in tokenizer_files(names):
        get(name)
    if SINGLE_FILE in names:
        return [SINGLE_FILE]
    if INDEX_FILE in names:
        return shard_names(read_index(get(INDEX_FILE)))
    raise DownloadError(f"the repository has no {SINGLE_FILE} (or {INDEX_FILE}){instead_among(names)}")


def _make_room(name: str, size: int, to: Path | None) -> None:
    """Raise, before it is fetched, for a file that is not what its name says or has no place on the disk."""
    if size > LONGEST and not name.endswith(".safetensors"):
        raise DownloadError(f"{name} has {size:,} bytes, which no file of this kind has.")
    place = to or Path(client().constants.HF_HUB_CACHE)
    place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "it cannot be written", str(place))
    if shutil.disk_usage(place).free < size:
        raise OSError(errno.ENOSPC, f"{size:,} bytes are needed", str(place))


def _size(file: Any) -> int:
    return (file.lfs or file).size or 0  # in bytes; 0 where the Hub does not say


def _check(path: Path, file: Any, sha256: str | None) -> None:
    """Remove what is not the promised content, and raise `DownloadError`."""
    size, found = path.stat().st_size, sha256_of(path)
    expected = sha256 or (file.lfs.sha256 if file.lfs else found)
    if (size, found) != (_size(file) or size, expected):
        for name in (path.resolve(), path):  # in the cache, the content and the link to it
            name.unlink(missing_ok=True)
        problem = f"{size:,} of {_size(file):,} bytes and sha256 {found}, expected {expected}"
        raise DownloadError(f"{path.name} has arrived with {problem}; removed, try again.")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever the client raises into a `DownloadError` that says why; what it logs is not shown."""
    from huggingface_hub.utils import logging  # noqa: PLC0415  as in `client`

    mute, handlers = Filter("minigpt"), list(logging.get_logger().handlers)  # others' records do not pass
    for handler in handlers:
        handler.addFilter(mute)
    try:
        yield
    except MiniGPTError:
        raise
    except Exception as error:  # of the client, of its HTTP library (which differs by version), of the disk
        raise DownloadError(f"{_reason(error)}.") from error
    finally:
        for handler in handlers:
            handler.removeFilter(mute)


def _reason(error: BaseException) -> str:
    errors, endpoint = client().errors, client().constants.ENDPOINT
    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__
    if isinstance(error, errors.GatedRepoError):
        return "the repository is gated: accept its terms on its page, then set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{endpoint} knows no such repository (a private one needs HF_TOKEN)"
    if re.search(r"\b407\b", str(error)):
        return "the proxy asks for a password: set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT"
    if status := getattr(getattr(error, "response", None), "status_code", None):
        advice = {401: "check HF_TOKEN", 403: "check HF_TOKEN", 429: "wait a little"}.get(status, "try later")
        return f"{endpoint} answered HTTP {status}; {advice}"
    if isinstance(error, OSError) and error.errno is not None:  # of the disk; those of the network have none
        return f"cannot use {error.filename} ({error.strerror}); give a place with room (HF_HOME, or --out)"
    first_line = str(error).strip().split("\n")[0].rstrip(".")
    return f"the download from {endpoint} failed ({first_line or type(error).__name__})"
