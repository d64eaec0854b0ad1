"""Where text goes: what the encoding of a stream lacks becomes a stand-in, instead of a failure.

Nothing here imports NumPy: the command line prepares its streams before anything else.
"""

import codecs
from typing import Any

# One column each, for encodings that lack a character: an ASCII locale, the code pages of Windows.
STAND_INS = str.maketrans(
    "␣…·×─━│→←↑↓⏎≈≤≥–—’‘“”•█▉▊▋▌▍▎▏▁▂▃▄▅▆▇░▒▓�",
    "_~.x--|><^v/~<>--''\"\"*####    .,:-=+*.:%?",
)
Stream = Any  # anything to write text to; typing.TextIO is more than a StringIO can do


def accept_any_character(stream: Stream) -> None:
    """Make a stream replace what its encoding cannot show, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="minigpt.stand_in")


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # a byte of a path, which a program gets as it is
        return bytes([ord(character) - 0xDC00]), end
    return character.translate(STAND_INS).encode("ascii", errors="backslashreplace").decode("ascii"), end


codecs.register_error("minigpt.stand_in", _stand_in)
