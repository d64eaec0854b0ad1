"""Download a checkpoint into `weights/NAME`, from where it can be carried to a machine without a network.

    python scripts/download_weights.py                       # gpt2, into weights/gpt2
    python scripts/download_weights.py gpt2-medium --out /mnt/stick/gpt2-medium

The same as `python -m minigpt download NAME --out FOLDER`.
"""

import sys
from pathlib import Path

from minigpt.cli.main import main

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def with_folder(words: list[str]) -> list[str]:
    """The words with `--out weights/NAME`, unless they name a folder or ask for help."""
    if any(word.startswith(("--out", "-h", "--help")) for word in words):
        return words
    name = next((word for word in words if not word.startswith("-")), "gpt2")
    return [*words, "--out", str(WEIGHTS / name.split("/")[-1])]


if __name__ == "__main__":
    sys.exit(main(["download", *with_folder(sys.argv[1:])]))
