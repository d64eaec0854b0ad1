"""Which checkpoint a name means, and where its files are.

A name is an official one (`gpt2`), a repository on the Hub (`owner/name`), a local folder or safetensors
file, or `tiny`, the small model that ships with minigpt. Nothing is read here but names of files.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, InputError, notice
from . import download, hub
from .download import Notify
from .hub import OFFICIAL, TINY_HINT
from .tensors import CONVERT, pickled

PACKAGE = Path(__file__).resolve().parents[1]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine: what it was called, where it is, and how it came there."""

    name: str
    path: Path  # a folder, or one safetensors file
    origin: str  # in words, such as "Hub openai-community/gpt2 at 607a30d"


Name = str | os.PathLike[str] | Source | None


def find(name: Name = None, *, offline: bool = False, notify: Notify = notice) -> Source:
    """The checkpoint that a name means, downloaded if need be; None is `gpt2`, or else `tiny`.

    What was asked for by name is found, or an error is raised: `InputError` for a name that means nothing,
    `CheckpointError` or `DownloadError` for what is damaged or cannot be had. `notify` gets one line when
    the default falls back, and one before a download.
    """
    offline = offline or hub.is_offline()
    if isinstance(name, Source):
        return name  # found before
    if name is None:
        return _default(offline, notify)
    if isinstance(name, os.PathLike):
        return _local(os.fspath(name))
    return _named(name, offline, notify)


def _named(name: str, offline: bool, notify: Notify) -> Source:
    if name == "tiny":
        return _tiny()
    if name in OFFICIAL:
        return official_here(name) or _downloaded(name, offline, notify)
    if HUB_ID.fullmatch(name) and not _is_there(Path(name)):
        return _on_hub(name, offline, notify)
    if "/" in name or "\\" in name or (name and _is_there(Path(name))):
        return _local(name)
    known = ", ".join([*OFFICIAL, "tiny"])
    raise InputError(f"model {name!r}: not known; give one of {known}, a Hub id owner/name, or a folder.")


def _default(offline: bool, notify: Notify) -> Source:
    here = official_here("gpt2")
    if here is not None:
        return here
    reason = "offline" if offline else hub.why_unreachable(OFFICIAL["gpt2"])
    if reason is None:
        return _downloaded("gpt2", offline, notify)
    notify(
        f"gpt2 is not on this machine and cannot be downloaded ({reason}): using `tiny`, the small model "
        "that ships with minigpt. `python -m minigpt download gpt2` gets the official weights."
    )
    return _tiny()


def _tiny() -> Source:
    for folder, words in (
        (PACKAGE / "weights" / "tiny", "bundled with the package"),
        (PACKAGE.parent / "weights" / "tiny", "bundled weights/tiny"),
    ):
        if folder.is_dir():
            return Source("tiny", folder, words)
    raise CheckpointError(
        f"model 'tiny': {folder} is missing; this installation is damaged, install it again."
    )


def official_here(name: str) -> Source | None:
    """An official model that is on this machine already, in `weights/` or in the Hub's cache, or None.

    Raises `CheckpointError` if files of that name are there that are not the official ones.
    """
    official = OFFICIAL[name]
    for weights in (Path("weights"), PACKAGE.parent / "weights"):
        if hub.is_complete(weights / name):
            hub.check_official(weights / name, name)
            return Source(name, weights / name, f"official weights in {weights / name}")
    # transformers files `gpt2` under the name by which it was asked for.
    for repository in (official.repository, name):
        folder = hub.snapshot_folder(repository, official.revision)
        if hub.is_complete(folder):
            hub.check_official(folder, name)
            return Source(name, folder, official.origin)
    return None


def _downloaded(name: str, offline: bool, notify: Notify) -> Source:
    official = OFFICIAL[name]
    if offline:
        raise CheckpointError(
            f"model {name!r}: not on this machine, and offline; run `python -m minigpt download {name}` "
            f"where the Hub can be reached, or put its files into weights/{name}. {TINY_HINT}"
        )
    return Source(name, download.download_official(name, notify), official.origin)


def _on_hub(repository: str, offline: bool, notify: Notify) -> Source:
    """A repository as it was when it was last downloaded; `python -m minigpt download` brings a newer one."""
    folder = hub.cached_snapshot(repository)
    if folder is None and offline:
        raise CheckpointError(
            f"model {repository!r}: neither a folder here nor in the Hub's cache, and offline. {TINY_HINT}"
        )
    folder = folder or download.download_repository(repository, notify)
    return Source(repository, folder, f"Hub {repository} at {folder.name[:7]}")


def _local(name: str) -> Source:
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - which leaves `~nobody` as it is
    if pickled([path.name]):
        raise CheckpointError(f"{path}: {CONVERT}")
    if not _is_there(path):
        raise InputError(f"{path}: there is no such file or folder.")
    if path.is_dir():
        return Source(name, path, f"local folder {path}")
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path}: expected a folder with config.json and safetensors, or a safetensors file."
        )
    return Source(name, path, f"local file {path}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a file name, or with a NUL in it
        return False
