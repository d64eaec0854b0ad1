"""`python -m minigpt`, and the command `minigpt`."""

import sys


def main() -> int:
    """Run the command line; also Ctrl-C while it is still being imported ends without a traceback."""
    try:
        from .cli.main import main as command_line  # noqa: PLC0415

        return command_line()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
