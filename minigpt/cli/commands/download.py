"""`minigpt download`: bring a checkpoint onto this machine."""

import argparse
from pathlib import Path

from ...errors import DownloadError, InputError, notice

HELP = "fetch a model from the Hugging Face Hub, for later or for a machine without a network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and where its files shall be."""
    parser.add_argument("name", nargs="?", default="gpt2", help="an official name or a Hub repository (gpt2)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="copy config.json and the weights into this folder; weights/NAME is where minigpt looks for "
        "official models (without it they stay in the Hub's cache)",
    )


def run(args: argparse.Namespace) -> None:
    """Download, verify, and say where the files are."""
    from ...checkpoints.download import copy_to, download_official, download_repository
    from ...checkpoints.find import HUB_ID
    from ...checkpoints.hub import OFFICIAL, check_official, is_offline

    if args.name not in OFFICIAL and not HUB_ID.fullmatch(args.name):
        known = ", ".join(OFFICIAL)
        raise InputError(f"{args.name!r}: expected one of {known}, or a Hub id owner/name.")
    if is_offline():
        raise DownloadError(f"{args.name}: HF_HUB_OFFLINE forbids the network; unset it to download.")
    download = download_official if args.name in OFFICIAL else download_repository
    folder = download(args.name, notice)
    if args.out is not None:
        copy_to(folder, args.out)
        folder = args.out
    if args.name in OFFICIAL:
        check_official(folder, args.name)
    print(folder)
