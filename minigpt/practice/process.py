"""A learner's file runs in a process of its own: it may loop for ever, print, raise, or end Python."""

import ast
import contextlib
import importlib.util
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from ..errors import InputError
from ..files import MEBIBYTE, read_file
from .checker import FirstCharacters, examine
from .exercises import EXERCISES
from .report import Report, Test

START = 60.0  # seconds for Python to start and import
LIMIT = 10.0  # seconds for one test
LONGEST_FILE = MEBIBYTE


def check_file(path: Path) -> Iterator[Report]:
    """Check the functions of a file, one after the other.

    A file that has the name of an exercise is checked for that one; any other for all that it defines.
    Raises `InputError` for a file that holds none, and `OSError` for one that cannot be read.
    """
    names = exercises_in(path)
    for name in [path.stem] if path.stem in names else names:
        yield examine_apart(path, name)


def exercises_in(path: Path) -> list[str]:
    """The exercises whose functions a file defines, in their order; nothing of the file runs."""
    try:
        tree = ast.parse(read_file(path, LONGEST_FILE), str(path))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; `minigpt practice NAME` writes the file of an exercise."
        ) from None
    except InputError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"line {line}: " if line else ""
        raise InputError(f"{path}: {where}this is not Python: {getattr(error, 'msg', error)}.") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names = [name for name in EXERCISES if name in defined]
    if not names:
        raise InputError(
            f"{path}: it defines none of the functions of the exercises; `minigpt practice` lists them, and "
            "`minigpt practice softmax` writes a file to begin with."
        )
    return names


def examine_apart(path: Path, name: str) -> Report:
    """Examine a function of a file in a process of its own, and end that when a test takes too long."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=examine_here, args=(writer, str(path.resolve()), name), daemon=True)
    process.start()
    writer.close()
    try:
        return last_message(reader, name)
    except EOFError:
        process.join(1)
        raise_or_end = f"it ended Python (exit status {process.exitcode})."
        return Report(name, (Test("the file", "", raise_or_end),))
    finally:
        process.kill()
        process.join()
        reader.close()


def last_message(reader: Connection, name: str) -> Report:
    """The report; or one that says in which test nothing came for too long."""
    doing, limit = "starting Python", START
    while reader.poll(limit):
        message = reader.recv()
        if isinstance(message, Report):
            return message
        doing, limit = message, LIMIT
    problem = (
        f"it was not finished in {limit:.0f} seconds, so it is not judged: is the machine busy, or is there "
        "a loop that never ends?"
    )
    return Report(name, (Test(doing, "", problem),), is_judged=False)


def examine_here(writer: Connection, path: str, name: str) -> None:
    """What the other process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who waits
    EXERCISES[name].tests()  # which loads the model, before the first time limit counts
    writer.send("reading the file")
    try:
        with contextlib.redirect_stdout(FirstCharacters()):
            module = import_file(Path(path))
    except (Exception, SystemExit) as error:
        problem = f"it stopped while it was read: {type(error).__name__}: {error}."
        writer.send(Report(name, (Test("reading the file", "", problem),)))
        return
    writer.send(examine(EXERCISES[name], getattr(module, name), writer.send))


def import_file(path: Path) -> ModuleType:
    """The file as a module; it may import others that lie beside it."""
    sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise InputError(f"{path}: a file of Python has a name that ends in .py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
