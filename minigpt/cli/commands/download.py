"""`minigpt download`: bring a checkpoint onto this machine."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from ...checkpoints.download import copy_to, download_official, download_repository
from ...checkpoints.find import HUB_ID
from ...checkpoints.hub import OFFICIAL, check_official, is_offline
from ...errors import DownloadError, InputError, notice


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is fetched, and where its files shall be."""

    name: str
    out: Path | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, and where its files shall be."""
    parser.add_argument("name", nargs="?", default="gpt2", help="an official name or a Hub repository (gpt2)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="copy config.json and the weights into this folder; weights/NAME is where minigpt looks for "
        "official models (without it they stay in the Hub's cache)",
    )


def run(options: Options) -> None:
    """Download, verify, and say where the files are."""
    if options.name not in OFFICIAL and not HUB_ID.fullmatch(options.name):
        known = ", ".join(OFFICIAL)
        raise InputError(f"{options.name!r}: expected one of {known}, or a Hub id owner/name.")
    if is_offline():
        raise DownloadError(f"{options.name}: HF_HUB_OFFLINE forbids the network; unset it to download.")
    download = download_official if options.name in OFFICIAL else download_repository
    folder = download(options.name, notice)
    if options.out is not None:
        copy_to(folder, options.out)
        folder = options.out
    if options.name in OFFICIAL:
        check_official(folder, options.name)
    print(folder)
