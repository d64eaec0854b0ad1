"""Which checkpoint a name means, and where its files are.

A name is an official one (`gpt2`), a repository on the Hub (`owner/name`), a local folder or safetensors
file, or `tiny`, the small model that ships with minigpt. Nothing is read here but names of files.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, DownloadError, InputError, notice
from . import hub
from .hub import Notify
from .reading import quote
from .tensors import INDEX_FILE, OTHERS, SINGLE_FILE, read_index, shard_names

TINY_HINT = "`--model tiny` needs no download."
PACKAGE = Path(__file__).resolve().parents[1]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
WEB_ADDRESS = re.compile(
    r"(?:\w+://)?(?:www\.)?(?:huggingface|hf)\.co/([\w.-]+(?:/(?!resolve|tree|blob)[\w.-]+)?).*|\w+://.*",
    re.S,
)


@dataclass(frozen=True)
class Official:
    """A checkpoint of the official family, at the revision that minigpt is tested with."""

    repository: str
    revision: str
    weights_sha256: str
    config_sha256: str

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"Hub {self.repository} at {self.revision[:7]}"

    @property
    def sha256(self) -> dict[str, str]:
        """The files that make up the checkpoint, with their hashes; the last completes it."""
        return {SINGLE_FILE: self.weights_sha256, "config.json": self.config_sha256}


# Hashes as the Hub shows them on each file's page.
OFFICIAL = {
    "gpt2": Official(
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
    ),
    "gpt2-medium": Official(
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        "ef1a44d889ad1a0acc7731c78134f1b87d2d222f110e97dd10fd4117331caf22",
    ),
    "gpt2-large": Official(
        "openai-community/gpt2-large",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        "7fccdcfd6622055342a734c663ee0b61ff4fd697f42467595df0bf4448c8c170",
    ),
    "gpt2-xl": Official(
        "openai-community/gpt2-xl",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        "be48115d52314bc27327e160bf10197760db02ea689d10adb24db4102edf7a8a",
    ),
    "distilgpt2": Official(
        "distilbert/distilgpt2",
        "2290a62682d06624634c1f46a6ad5be0f47f38aa",
        "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",
        "4ec5947c1d59fee6212cdf3b0ec1a53eac02092554c5ff0a733488cbd2c64f3a",
    ),
}
LARGEST_OFFICIAL = 7 * 10**9  # bytes; gpt2-xl has 6.4, and a file with holes may claim to have any number


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
    the default falls back, when a folder has an official name, and before a download.
    """
    if isinstance(name, Source):
        return name  # found before
    if name is None:
        return _default(offline, notify)
    path = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(path, str):
        raise InputError(f"model {quote(name)}: expected a name, a Hub id owner/name, or a folder.")
    return _named(path, offline, notify) if isinstance(name, str) else _local(path)


def _named(name: str, offline: bool, notify: Notify) -> Source:
    if name in (*OFFICIAL, "tiny"):
        if _is_there(name):
            notify(f"`{name}` is the model of that name; for the folder here write `./{name}`.")
        return _tiny() if name == "tiny" else official_here(name) or _official(name, offline, notify)
    if not _is_there(name):
        if address := WEB_ADDRESS.fullmatch(name):
            way_out = f"the Hub id is {address[1]}" if address[1] else "give a Hub id owner/name"
            raise InputError(f"model {quote(name)}: a web address is no model's name; {way_out}.")
        if HUB_ID.fullmatch(name):
            return _on_hub(name, offline, notify)
        if "/" not in name and "\\" not in name:
            known = ", ".join([*OFFICIAL, "tiny"])
            raise InputError(
                f"model {name!r}: not known; give one of {known}, a Hub id owner/name, or a folder."
            )
    return _local(name)


def _default(offline: bool, notify: Notify) -> Source:
    if here := official_here("gpt2"):
        return here
    gpt2 = OFFICIAL["gpt2"]
    reason = "offline" if _is_offline(offline) else hub.why_unreachable(gpt2.repository, gpt2.revision)
    if reason is None:
        return _official("gpt2", offline, notify)
    notify(
        f"gpt2 is not on this machine and cannot be downloaded ({reason}): using `tiny`, the small model "
        f"that ships with minigpt. {_other_revision(gpt2.repository)}"
        "`minigpt download gpt2` gets the official weights."
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


def _official(name: str, offline: bool, notify: Notify) -> Source:
    official = OFFICIAL[name]
    if _is_offline(offline):
        raise CheckpointError(
            f"model {name!r}: not on this machine, and offline; run `minigpt download {name}` "
            f"where the Hub can be reached, or put its files into weights/{name}. "
            f"{_other_revision(official.repository)}{TINY_HINT}"
        )
    return Source(name, download(name, notify=notify), official.origin)


def _on_hub(repository: str, offline: bool, notify: Notify) -> Source:
    """A repository as it was when it was last downloaded; `minigpt download` brings a newer one."""
    folder = cached(repository)
    if folder is None and _is_offline(offline):
        raise CheckpointError(
            f"model {repository!r}: neither a folder here nor whole in the Hub's cache, and offline. "
            f"{_other_revision(repository)}{TINY_HINT}"
        )
    folder = folder or download(repository, notify=notify)
    return Source(repository, folder, f"Hub {repository} at {folder.name[:7]}")


def _local(name: str) -> Source:
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - which leaves `~nobody` as it is
    is_there = _is_there(str(path))
    if is_there and path.is_dir():
        return Source(name, path, f"local folder {path}")
    if is_there and path.suffix == ".safetensors":
        return Source(name, path, f"local file {path}")
    if path.suffix not in ("", ".safetensors"):
        for pattern, advice in OTHERS.items():
            if re.fullmatch(pattern, path.name):
                raise CheckpointError(f"{path}: {advice}")
    if is_there:
        raise InputError(
            f"{path}: expected a folder with config.json and safetensors, or a safetensors file."
        )
    raise InputError(f"{path}: there is no such file or folder.")


def _is_there(name: str) -> bool:
    return os.path.exists(name)  # noqa: PTH110 - Path.exists raises for what may not be looked at


def _is_offline(offline: bool) -> bool:
    return offline or bool(hub.client().constants.HF_HUB_OFFLINE)


# ------------------------------------------------------------------------------------ what is here already


def official_here(name: str) -> Source | None:
    """An official model that is on this machine already, in `weights/` or in the Hub's cache, or None.

    Its files were compared with their sha256 when they arrived; `minigpt verify` does it again.
    """
    official = OFFICIAL[name]
    for weights in (Path("weights"), PACKAGE.parent / "weights"):
        if is_complete(weights / name):
            return Source(name, weights / name, f"official weights in {weights / name}")
    # transformers files `gpt2` under the name by which it was asked for.
    for repository in (official.repository, name):
        if folder := cached(repository, official.revision):
            return Source(name, folder, official.origin)
    return None


def cached(repository: str, revision: str = "main") -> Path | None:
    """The folder of a whole checkpoint in the Hub's cache, or None.

    `revision` is a commit, `*` for any, or `main` as it was seen last: then it is only whole with a file of
    its tokenizer, or if the cache knows that there is none.
    """
    files = Path(hub.client().constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    try:
        if revision == "main":
            revision = (files / "refs" / "main").read_text(encoding="utf-8").strip()
            names = [path.name for path in (files / "snapshots" / revision).iterdir()]
            if not (
                hub.tokenizer_files(names) or (files / ".no_exist" / revision / hub.NO_TOKENIZER).exists()
            ):
                return None
        return next(filter(is_complete, sorted(files.glob(f"snapshots/{revision}"))), None)
    except (OSError, ValueError):  # what cannot be read is not there
        return None


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a config and all its weights, in files that can be looked at."""
    try:
        whole = (folder / SINGLE_FILE).is_file()
        shards = [] if whole else shard_names(read_index(folder / INDEX_FILE))
        return all((folder / name).is_file() for name in ("config.json", *shards))
    except (OSError, ValueError, CheckpointError):
        return False


def _other_revision(repository: str) -> str:
    folder = cached(repository, "*")
    return f"Of another revision, the cache has {folder}, which can be given as a folder. " if folder else ""


# ---------------------------------------------------------------------------------------- what is brought


def download(name: str, *, notify: Notify = notice, to: Path | None = None) -> Path:
    """Bring a checkpoint, official or any repository's, into the Hub's cache or a folder; returns its place.

    Raises `DownloadError` if it cannot be had, `ConfigError` or `CheckpointError` if it is none of GPT-2's.
    """
    try:
        if official := OFFICIAL.get(name):
            return hub.fetch(official.repository, notify, official.revision, official.sha256, to)
        return hub.fetch(name, notify, to=to)
    except DownloadError as error:
        raise DownloadError(f"{name}: {error} {TINY_HINT}") from error.__cause__


def check_official(folder: Path, name: str) -> None:
    """Raise `CheckpointError` unless the files in a folder are the official ones, by their sha256."""
    for filename, expected in OFFICIAL[name].sha256.items():
        try:
            size = (folder / filename).stat().st_size
            is_read = size < LARGEST_OFFICIAL
            found = hub.sha256_of(folder / filename) if is_read else f"not taken of {size:,} bytes"
        except OSError as error:
            raise CheckpointError(f"{folder / filename}: cannot be read: {error.strerror}.") from None
        if found != expected:
            raise CheckpointError(
                f"{folder / filename}: not the official {name}: sha256 {found}, expected {expected}; "
                "delete it to download it again, or give it another folder and name that."
            )
