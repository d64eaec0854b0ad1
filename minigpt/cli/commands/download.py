"""`minigpt download`: bring a checkpoint onto this machine."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...checkpoints.find import HUB_ID, OFFICIAL, check_official, download, is_complete
from ...errors import DownloadError, InputError
from ...files import follow_own_link
from ..options import file_name
from ..terminal import for_stdout


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is fetched, and where its files shall be."""

    name: str
    out: str | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model, and where its files shall be."""
    parser.add_argument("name", nargs="?", default="gpt2", help="an official name or a Hub repository (gpt2)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=file_name,
        help="a new or empty folder for the files; weights/NAME is where minigpt looks for official models "
        "(without it they are in the Hub's cache)",
    )


def run(options: Options) -> None:
    """Download, verify, and say where the files are."""
    if options.name not in OFFICIAL and not HUB_ID.fullmatch(options.name):
        known = ", ".join(OFFICIAL)
        raise InputError(f"{options.name!r}: expected one of {known}, or a Hub id owner/name.")
    here = options.out
    folder = download(options.name) if here is None else download_into(Path(here), options.name)
    print(for_stdout(str(folder)))


def download_into(out: Path, name: str) -> Path:
    """Download into a folder where nothing has its name before all of it is there; returns the folder."""
    if name in OFFICIAL and is_complete(out):
        check_official(out, name)
        return out
    follow_own_link(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if others := [path.name for path in out.iterdir() if not path.name.startswith(".")]:
            raise InputError(f"{out}: holds {min(others)!r} already; --out takes a new or an empty folder.")
        with TemporaryDirectory(prefix=".download-", dir=out, ignore_cleanup_errors=True) as partial:
            arrived = [path for path in download(name, to=Path(partial)).iterdir() if path.is_file()]
            for path in sorted(arrived, key=lambda path: path.name == "config.json"):  # which completes it
                path.replace(out / path.name)
    except OSError as error:
        raise DownloadError(f"{out}: cannot be written ({error.strerror}); give another --out.") from None
    return out
