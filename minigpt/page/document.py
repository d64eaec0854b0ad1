"""From data to one HTML document: the script and the style are joined, and the policy lets nothing else run.

A prompt or a token may look like markup. Inside the document every `<` of the data is written as an escape,
the script makes text nodes of it and never HTML, and a Content-Security-Policy lets nothing run but this
script, by its hash.

The script is written as modules, which browsers load from files of their own. A page is one file, so the
modules are joined: in the order in which they need each other, each as a function that is called once, takes
what it imports from those before it, and returns what it exports.
"""

import base64
import functools
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..cli.terminal import visible

FOLDER = Path(__file__).resolve().parent
STYLES = ("colours", "frame", "pieces", "sections", "screens")
IMPORT = re.compile(r'^import (?:(\{[^}]*\}) from )?"\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?:const|function) ([\w$]+)", re.MULTILINE)


def render(data: dict[str, Any], prompt: str, *, live: bool = False) -> str:
    """The HTML document. A live page may also ask the server that it came from."""
    document = json.dumps(
        data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=np.generic.item
    )
    parts = {
        # What could end or confuse a script element (`</script>`, `<!--`, `<script`) begins with `<`.
        "data": document.replace("<", "\\u003c"),
        "title": html.escape(f"{visible(prompt[-60:]).replace('␣', ' ') or 'an empty prompt'} · minigpt"),
        "language": data["language"],
        "policy": policy(style(), script(), live),
        "version": __version__,
        "style": style(),
        "script": script(),
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], asset("page.html"))


def asset(name: str) -> str:
    """A file of the page, with the line ends that an HTML parser makes of any, for which the hashes are."""
    return (FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def style() -> str:
    """The style sheets, one after the other."""
    return "\n".join(asset(f"style/{name}.css") for name in STYLES)


@functools.cache
def script() -> str:
    """All modules that `main` needs, each behind those that it imports."""
    joined = "\n".join(as_function(name) for name in order("main"))
    return f'"use strict";\n(() => {{\nconst modules = {{}};\n\n{joined}}})();\n'


def order(name: str, above: tuple[str, ...] = (), before: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What comes `before`, then a module's imports, then itself. Raises `ValueError` for a circle."""
    if name in above:
        raise ValueError(f"modules of the page need each other: {' -> '.join([*above, name])}")
    for _names, needed in IMPORT.findall(asset(f"script/{name}.js")):
        before = order(needed, (*above, name), before)
    return before if name in before else (*before, name)


def as_function(name: str) -> str:
    """A module as a function that is called where it stands."""
    text = asset(f"script/{name}.js")
    body = IMPORT.sub(lambda found: f"const {found[1]} = modules.{found[2]};\n" if found[1] else "", text)
    exported = ", ".join(EXPORT.findall(text))
    body = re.sub(r"^export ", "", body, flags=re.MULTILINE)
    return f"modules.{name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def policy(style_text: str, script_text: str, live: bool = False) -> str:
    """A Content-Security-Policy that loads nothing and runs nothing but this very script and style."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script_text)}; style-src {digest(style_text)}; "
        f"{'connect-src ' + chr(39) + 'self' + chr(39) + '; ' if live else ''}"
        "base-uri 'none'; form-action 'none'"
    )
