"""Brings checkpoints from the Hugging Face Hub into its cache on this machine.

A file is `blobs/<etag>.incomplete` until it is whole and its sha256 is right, and the next attempt continues
it; only then it gets its name and `snapshots/<commit>/<file>` links to it. So whatever has a name in the
cache is good, for us and for every other program that uses the cache.

The requests are the Hub client's: its `http_get` and not its `hf_hub_download`, which in recent versions
begins anew what an earlier run left unfinished. It is plain HTTP; the Xet transfer is not used.
"""

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import DownloadError, MiniGPTError
from ..files import write_whole
from .config import read_config
from .hub import (
    OFFICIAL,
    PLAIN_NAME,
    TINY_HINT,
    cache_folder,
    check_official,
    endpoint,
    is_complete,
    repository_folder,
    sha256_of,
    snapshot_folder,
)
from .tensors import CONVERT, INDEX_FILE, SINGLE_FILE, read_index, shard_names
from .tokenizer_files import TOKENIZER_FILES

Notify = Callable[[str], None]
METADATA_SECONDS = 10.0  # how long the Hub may take to say what a file is


def download_official(name: str, notify: Notify) -> Path:
    """Bring an official checkpoint into the Hub's cache; returns its folder. Raises `DownloadError`."""
    official = OFFICIAL[name]
    folder = snapshot_folder(official.repository, official.revision)
    if not is_complete(folder):
        notify(
            f"Downloading {name} ({official.size}) from {endpoint()} into {cache_folder()}; "
            "meanwhile `--model tiny` answers at once."
        )
    with _explained(name, official.repository):
        for filename, sha256 in official.sha256.items():
            if _fetch(official.repository, official.revision, filename, sha256) is None:
                raise DownloadError(
                    f"{name}: {endpoint()} has no {filename} of {official.origin}. {TINY_HINT}"
                )
    check_official(folder, name)  # another program may have put some of the files there
    return folder


def download_repository(repository: str, notify: Notify) -> Path:
    """Bring the newest checkpoint of any repository into the Hub's cache; returns its folder.

    The config is read before the weights are fetched: another architecture is refused at once. Raises
    `DownloadError`, `ConfigError` or `CheckpointError`.
    """
    notify(f"Downloading {repository} from {endpoint()} into {cache_folder()}.")
    with _explained(repository, repository):
        commit = _newest_commit(repository)
        folder = snapshot_folder(repository, commit)
        for filename in ("config.json", *TOKENIZER_FILES):
            _fetch(repository, commit, filename)
        read_config(folder)
        if _fetch(repository, commit, SINGLE_FILE) is None:
            _fetch_shards(repository, commit)
        reference = repository_folder(repository) / "refs" / "main"
        reference.parent.mkdir(exist_ok=True)
        write_whole(reference, commit)  # last: a commit is named only when it is complete
    return folder


def copy_to(snapshot: Path, folder: Path) -> None:
    """Copy a checkpoint out of the cache, for a machine without a network; the weights come last."""
    wanted = [path for path in snapshot.iterdir() if path.suffix in {".json", ".txt", ".safetensors"}]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(wanted, key=lambda path: path.suffix == ".safetensors"):
            incomplete = folder / f"{path.name}.incomplete"
            shutil.copyfile(path, incomplete)
            incomplete.replace(folder / path.name)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be written ({error.strerror}); give another --out.") from None


def _newest_commit(repository: str) -> str:
    metadata = _metadata(repository, "main", "config.json")
    if metadata is None:
        raise DownloadError(f"{repository}: the repository has no config.json; it is not a GPT-2 checkpoint.")
    commit = metadata.commit_hash
    if not PLAIN_NAME.fullmatch(commit or ""):
        raise DownloadError(f"{repository}: {endpoint()} does not answer like the Hub. {TINY_HINT}")
    return str(commit)


def _fetch_shards(repository: str, commit: str) -> None:
    index = _fetch(repository, commit, INDEX_FILE)
    if index is None:
        pickle = _metadata(repository, commit, "pytorch_model.bin")
        only = f", only pytorch_model.bin. {CONVERT}" if pickle else "."
        raise DownloadError(f"{repository}: the repository has no {SINGLE_FILE}{only}")
    for shard in shard_names(read_index(index)):
        if _fetch(repository, commit, shard) is None:
            raise DownloadError(f"{repository}: the repository has no {shard}, which its index names.")


def _metadata(repository: str, revision: str, filename: str) -> Any:
    """The Hub's `HfFileMetadata` (commit_hash, etag, size, location), or None if there is no such file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    url = hf_hub_url(repository, filename, revision=revision, endpoint=endpoint())
    try:
        return get_hf_file_metadata(url, library_name="minigpt", timeout=METADATA_SECONDS)
    except EntryNotFoundError:
        return None


def _fetch(repository: str, revision: str, filename: str, sha256: str | None = None) -> Path | None:
    """One file of a repository, in the cache; None if the repository has none of that name.

    `sha256` is what the content must be; without it, what the Hub says it is, if it says so.
    """
    pointer = snapshot_folder(repository, revision) / filename
    if pointer.is_file():
        return pointer
    metadata = _metadata(repository, revision, filename)
    if metadata is None:
        return None
    promised = metadata.etag if re.fullmatch(r"[0-9a-f]{64}", metadata.etag or "") else None
    if sha256 and promised and sha256 != promised:
        raise DownloadError(
            f"{repository}: the Hub's {filename} has sha256 {promised}, expected {sha256}. {TINY_HINT}"
        )
    name = metadata.etag if PLAIN_NAME.fullmatch(metadata.etag or "") else sha256
    if name is None:
        raise DownloadError(f"{repository}: {endpoint()} does not answer like the Hub. {TINY_HINT}")
    _store(pointer, repository_folder(repository) / "blobs" / name, metadata, sha256 or promised)
    return pointer


def _store(pointer: Path, blob: Path, metadata: Any, sha256: str | None) -> None:
    """Download a blob and link to it; of several processes one does it, and the others wait."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    lock = cache_folder() / ".locks" / blob.parents[1].name / f"{blob.name}.lock"
    for path in (pointer, blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if pointer.is_file():
            return
        if not blob.is_file():
            incomplete = blob.with_name(f"{blob.name}.incomplete")
            _continue(incomplete, metadata, pointer.name)
            _verify(incomplete, sha256, pointer.name)
            incomplete.replace(blob)
        _link(pointer, blob)


def _continue(incomplete: Path, metadata: Any, filename: str) -> None:
    """Fetch what is missing, as long as every attempt brings something."""
    size = metadata.size
    if size is not None and _size(incomplete) > size:
        incomplete.unlink()
    needed = 0 if size is None else size - _size(incomplete)
    if shutil.disk_usage(incomplete.parent).free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed", str(incomplete.parent))
    while True:
        before = _size(incomplete)
        try:
            return _append(incomplete, metadata, filename)
        except Exception as error:  # the Hub client tries again after some of them, depending on its version
            on_disk = isinstance(error, OSError) and error.errno is not None
            if on_disk or size is None or not before < _size(incomplete) <= size:
                raise


def _append(incomplete: Path, metadata: Any, filename: str) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    at_hub = urlsplit(metadata.location).netloc == urlsplit(endpoint()).netloc
    token = None if at_hub else False  # None is the user's own, if there is one
    headers = build_hf_headers(token=token, library_name="minigpt")
    headers["Accept-Encoding"] = "identity"
    with incomplete.open("ab") as file:
        http_get(
            metadata.location,
            file,
            resume_size=_size(incomplete),
            headers=headers,
            expected_size=metadata.size,
            displayed_filename=filename,
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _verify(incomplete: Path, sha256: str | None, filename: str) -> None:
    """Remove what is not the promised content, before anybody can take it for the real thing."""
    if sha256 is not None and (found := sha256_of(incomplete)) != sha256:
        incomplete.unlink()
        raise DownloadError(
            f"{filename}: the download has sha256 {found}, expected {sha256}; removed, try again. {TINY_HINT}"
        )


def _link(pointer: Path, blob: Path) -> None:
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # Windows allows links to developers only; there the Hub's client moves the file, too
        blob.replace(pointer)


@contextmanager
def _explained(what: str, repository: str) -> Iterator[None]:
    """Turn whatever the Hub client raises into a `DownloadError` that says why, and what to do."""
    try:
        with _silent_client():
            yield
    except MiniGPTError:
        raise
    # Of the Hub client, of its HTTP library (which differs by version), of the disk.
    except Exception as error:
        partial = any(map(_size, (repository_folder(repository) / "blobs").glob("*.incomplete")))
        kept = " What has arrived is kept, the next attempt continues." if partial else ""
        raise DownloadError(f"{what}: {_reason(error)}{kept} {TINY_HINT}") from error


@contextmanager
def _silent_client() -> Iterator[None]:
    """Keep what the Hub client logs of its attempts from standard error; the last one is the reason given."""

    def drop(record: logging.LogRecord) -> bool:  # its own for each call: others may be under way
        return record.levelno < logging.WARNING

    loggers = [logging.getLogger(f"huggingface_hub.{name}") for name in ("file_download", "utils._http")]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return "the repository is gated: accept its terms on its page, then set HF_TOKEN."
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint()} knows no such repository (or it is private: then set HF_TOKEN)."
    if status is not None:
        advice = {401: "check HF_TOKEN", 403: "check HF_TOKEN", 429: "wait a little"}.get(status, "try later")
        return f"{endpoint()} answered HTTP {status}; {advice}."
    if isinstance(error, OSError) and error.errno is not None:  # of the disk; those of the network have none
        place = error.filename or cache_folder()
        return f"cannot write {place} ({error.strerror}); set HF_HOME to a folder with room for it."
    first_line = str(error).strip().split("\n")[0]
    return f"the download from {endpoint()} failed ({first_line or type(error).__name__})."
