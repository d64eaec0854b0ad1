"""Imports go one way: the layers of CONTRIBUTING.md, and nothing imports upwards."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minigpt"
# From the bottom up. A module may import from its own layer, without going in circles, and from those below.
LAYERS = [
    ["errors", "files", "glossary", "parallel", "ranges"],
    ["activations", "checks", "hooks"],
    ["parameters", "simple", "model", "fast", "backward", "tape"],
    ["tokenizer"],
    ["checkpoints"],
    ["sampling", "generation", "scoring"],
    ["inspection", "training"],
    ["cli", "page", "practice"],
    ["__main__"],
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}


def module_files() -> dict[str, Path]:
    """Every module of the package but its front door, which hands out names of all the others."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


FILES = module_files()


def imported(name: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in its file."""
    folder = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = folder.split(".")[: len(folder.split(".")) - node.level + 1] if folder else []
            base = ".".join([*above, *filter(None, [node.module])])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minigpt":
            base = (node.module or "").removeprefix("minigpt").removeprefix(".")
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("minigpt.") for alias in node.names}
            continue
        else:
            continue
        for alias in node.names:  # a module of the package, or a name of the module `base`
            module = f"{base}.{alias.name}".removeprefix(".")
            found.add(module if module in FILES else base)
    return found & set(FILES) - {name}


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name in FILES} == set(LEVELS)


@pytest.mark.parametrize("name", FILES)
def test_nothing_imports_upwards(name: str) -> None:
    level = LEVELS[name.split(".", maxsplit=1)[0]]
    upwards = {other for other in imported(name) if LEVELS[other.split(".")[0]] > level}
    assert not upwards


def test_nothing_imports_in_circles() -> None:
    graph = {name: imported(name) for name in FILES}
    while free := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in free}
    assert not graph


@pytest.mark.parametrize("heart", ["simple", "parameters", "model", "activations"])
def test_the_heart_knows_no_files_no_terminal_and_no_network(heart: str) -> None:
    known = {
        "__future__",
        "collections",
        "dataclasses",
        "functools",
        "jaxtyping",
        "math",
        "numpy",
        "re",
        "typing",
    }
    for node in ast.walk(ast.parse(FILES[heart].read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        assert {module.split(".")[0] for module in modules} <= known


def test_the_table_for_contributors_names_every_module() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in LEVELS:
        if name != "__main__":
            file = f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"
            assert f"`{file}`" in table, file
