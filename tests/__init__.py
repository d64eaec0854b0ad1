"""The suite. It checks every array that passes through a signature with shapes in it against them.

That is what jaxtyping's import hook does, for the modules in which such shapes stand. The others speak of
texts and files: mypy has read their types, and checking each token's text again would take most of the time.
"""

import re
from pathlib import Path

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parent.parent / "minigpt"


def modules_with_shapes() -> list[str]:
    """Those that take names of shapes from jaxtyping, or from the model."""
    takes_shapes = re.compile(r"^from (jaxtyping|\.+model) import", re.MULTILINE)
    files = [file for file in PACKAGE.rglob("*.py") if takes_shapes.search(file.read_text("utf-8"))]
    return sorted(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files)


install_import_hook(modules_with_shapes(), "beartype.beartype")  # before anything is imported from them
