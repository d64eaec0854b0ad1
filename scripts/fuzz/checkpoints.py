"""Damage checkpoints in every way we could think of, and see that minigpt survives each one.

    python -m scripts.fuzz.checkpoints --examples 100000 --seed 1     # a table of what was tried and survived

A case is a small valid checkpoint with one to three damages. It survives if minigpt refuses it with a
`MiniGPTError`, in one printable line that names a file of it; or if it loads it, and config and parameters
are those that a second reader finds in the same files: the safetensors library and a few lines of NumPy. It
fails if anything else is raised (warnings included), if it takes over 5 seconds, if it needs more memory than
the parameters and 200 MB, or if a file outside of the checkpoint's folder is opened. What fails is shrunk and
printed by hypothesis.
"""

import argparse
import functools
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from safetensors import deserialize
from safetensors.numpy import save

import minigpt
from minigpt.parameters import Config, arrays_by_name

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SECONDS, MEMORY = 5.0, 200 << 20
ALIASES = {
    "n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}  # fmt: skip
Draw = Callable[[st.SearchStrategy[Any]], Any]
Files = dict[str, Any]  # the bytes of each file, or the path that a link leads to, or PIPE or FOLDER
PIPE, FOLDER = "pipe", "folder"


# -------------------------------------------------------------------------------- what damages start from


@functools.cache
def intact() -> tuple[Files, ...]:
    """Valid checkpoints: tied or not, with the prefix or without, in other types, in shards, with masks."""
    config = Config(vocab_size=260, n_positions=6, n_embd=8, n_layer=2, n_head=2)
    model, untied = (
        minigpt.GPT2.random(config),
        minigpt.GPT2.random(replace(config, tie_word_embeddings=False)),
    )
    tokenizer = minigpt.Tokenizer.train(["na na na"], vocab_size=258)
    cases = []
    for gpt2, dtype in ((model, "float32"), (untied, "float32"), (model, "float16")):
        with tempfile.TemporaryDirectory() as home:
            minigpt.save(Path(home) / "x", gpt2, tokenizer, dtype)
            cases.append({path.name: path.read_bytes() for path in (Path(home) / "x").iterdir()})
    arrays = minigpt.named_parameters(model)
    mask = {"h.0.attn.bias": np.tri(6, dtype=bool)[None, None]}
    unbiased = {name: array for name, array in arrays.items() if not name.endswith(".bias")}
    for changed in (arrays | mask, {k: a.astype(np.float64) for k, a in arrays.items()}, unbiased):
        cases.append(cases[0] | {WEIGHTS: save(changed)})
    names = list(arrays)
    shards = {f"m{n}.safetensors": {name: arrays[name] for name in names[n::2]} for n in range(2)}
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    sharded = (
        cases[0] | {file: save(part) for file, part in shards.items()} | {INDEX: json.dumps(index).encode()}
    )
    return (*cases, {name: content for name, content in sharded.items() if name != WEIGHTS})


# --------------------------------------------------------------------------------------------- the damages

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9),
    st.lists(st.integers(), max_size=3),
    st.sampled_from([2**31, 2**63, 2**64, 10**30, "x" * 5000, "../../x", "\x1b[31m", {"a": []}, [[1]]]),
)  # fmt: skip
NAMES = st.sampled_from([
    "", "wte.weight", "transformer.wte.weight", "lm_head.weight", "h.9.ln_1.weight", "h.-1.x",
    "h.999999999.x", "h.0.attn.bias", "v_head.summary.weight", "score.weight", "h.0.attn.c_attn.lora_A",
    "\x1b[31m", "a\nb", "x" * 5000, "bert.x", "__metadata__", "h.٣.ln_1.weight",
])  # fmt: skip


def pick_file(draw: Draw, files: Files, ending: str = "") -> str:
    """The name of a file that still has content."""
    names = [name for name, content in files.items() if isinstance(content, bytes) and name.endswith(ending)]
    return str(draw(st.sampled_from(sorted(names))))


def change_bytes(draw: Draw, files: Files) -> None:
    """Overwrite, insert, remove a few bytes anywhere, mostly where a file begins."""
    name = pick_file(draw, files)
    content = files[name]
    end = min(len(content), draw(st.sampled_from([16, 600, 1 << 30])))
    start = draw(st.integers(0, end))
    files[name] = content[:start] + draw(st.binary(max_size=4)) + content[start + draw(st.integers(0, 4)) :]


def cut(draw: Draw, files: Files) -> None:
    """End a file early."""
    name = pick_file(draw, files)
    files[name] = files[name][: draw(st.integers(0, len(files[name])))]


def change_length(draw: Draw, files: Files) -> None:
    """Claim another length of a header."""
    name = pick_file(draw, files, ".safetensors")
    files[name] = draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + files[name][8:]


def change_entry(draw: Draw, files: Files) -> None:
    """Describe a tensor otherwise: its type, its shape, its place, or all of it."""
    name, header, data = open_header(draw, files)
    tensor = draw(st.sampled_from(sorted(header)))
    entry = dict(header[tensor])
    key = draw(st.sampled_from(["dtype", "shape", "data_offsets", None, "list"]))
    types = st.sampled_from(["F64", "F32", "F16", "BF16", "I32", "U8", "F8_E4M3", "F33"])
    if key in entry:
        numbers = st.lists(st.integers(-1, 2**65) | st.integers(-1, 300), max_size=3)
        entry[key] = draw(types if key == "dtype" else numbers) if draw(st.booleans()) else draw(ODD)
    header[tensor] = list(entry.values()) if key == "list" else entry if key else draw(ODD)
    files[name] = close_header(header, data)


def rename(draw: Draw, files: Files) -> None:
    """Call a tensor otherwise, or leave it out of the header."""
    name, header, data = open_header(draw, files)
    entry = header.pop(draw(st.sampled_from(sorted(header))))
    if draw(st.booleans()):
        header[draw(NAMES)] = entry
    files[name] = close_header(header, data)


def add_or_remove(draw: Draw, files: Files) -> None:
    """A tensor more or less, in a file that is valid otherwise."""
    name, header, data = open_header(draw, files)
    tensors = {key: (entry, data[slice(*entry["data_offsets"])]) for key, entry in header.items()}
    kept = tensors.pop(draw(st.sampled_from(sorted(tensors))))
    if draw(st.booleans()):
        tensors |= {draw(NAMES): kept, draw(NAMES): kept}
    moved, body = {}, b""
    for key, (entry, piece) in tensors.items():
        moved[key] = {**entry, "data_offsets": [len(body), len(body) + len(piece)]}
        body += piece
    files[name] = close_header(moved, body)


def change_numbers(draw: Draw, files: Files) -> None:
    """Weights that are no numbers, or as large as can be."""
    name, header, data = open_header(draw, files)
    start, end = header[draw(st.sampled_from(sorted(header)))]["data_offsets"]
    pattern = draw(
        st.sampled_from([b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\xff\xff\x7f\x7f", b"\xff\x7b", b"\1\0"])
    )
    count = draw(st.sampled_from([1, 3, 1000]))
    part = (pattern * count)[: end - start]
    files[name] = close_header(header, data[:start] + part + data[start + len(part) :])


def change_json(draw: Draw, files: Files) -> None:
    """Another value in a JSON file, one less, or JSON that is something else altogether."""
    name = pick_file(draw, files, ".json")
    content = json.loads(files[name])
    if name == INDEX and draw(st.booleans()):
        places = [
            "../m0.safetensors",
            "/dev/zero",
            "m0.safetensors",
            "m9.safetensors",
            "a/b",
            "x.bin",
            ".",
            "",
        ]
        content["weight_map"][draw(st.sampled_from(sorted(content["weight_map"])))] = draw(
            st.sampled_from(places) | ODD
        )
    elif draw(st.integers(0, 9)) == 0:
        content = draw(ODD)
    elif draw(st.booleans()):
        content.pop(draw(st.sampled_from(sorted(content))))
    else:
        content[
            draw(st.sampled_from([*sorted(content), *ALIASES.values(), "auto_map", "add_cross_attention"]))
        ] = draw(ODD | st.integers(0, 9))
    files[name] = json.dumps(content).encode()


def change_kind(draw: Draw, files: Files) -> None:
    """A link, a pipe, a folder or nothing in the place of a file."""
    name = pick_file(draw, files)
    outside = [
        f"../{name}",
        "../config.json",
        "../model.safetensors",
        "/etc/passwd",
        "/dev/zero",
        "..",
        "nowhere",
        name,
    ]
    kind = draw(st.sampled_from([PIPE, FOLDER, None, *map(Path, outside)]))
    if kind is None:
        del files[name]
    else:
        files[name] = kind


def respell(draw: Draw, files: Files) -> None:
    """Write a header otherwise, so that it means the same: order, spaces, escapes, metadata, a prefix."""
    name, header, data = open_header(draw, files)
    order = draw(st.permutations(sorted(header)))
    header = {key: header[key] for key in order}
    if draw(st.booleans()):
        header = {"__metadata__": {"format": "pt", "é": "x"}, **header}
    text = json.dumps(header, indent=draw(st.integers(0, 3))).replace("wte", "\\u0077te")
    files[name] = close_header(text.encode() + b" " * draw(st.integers(0, 99)), data)


def open_header(draw: Draw, files: Files) -> tuple[str, dict[str, Any], bytes]:
    """One of the safetensors files: its name, header and numbers."""
    name = pick_file(draw, files, ".safetensors")
    content = files[name]
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return name, header, content[start:]


def close_header(header: Any, data: bytes) -> bytes:
    """The inverse of `open_header`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


DAMAGES = (
    change_bytes, cut, change_length, change_entry, rename, add_or_remove, change_numbers, change_json,
    change_kind, respell,
)  # fmt: skip


class Case:
    """The files of a damaged checkpoint, and what was done to them."""

    def __init__(self, steps: list[str], files: Files) -> None:
        self.steps, self.files = steps, files

    def __repr__(self) -> str:
        beginnings = {
            name: content[:300] if isinstance(content, bytes) else content
            for name, content in self.files.items()
        }
        return f"{' + '.join(self.steps)}: {beginnings}"


@st.composite
def checkpoints(draw: Draw) -> Case:
    """A checkpoint with one to three damages."""
    files, done = dict(draw(st.sampled_from(intact()))), []
    for damage in draw(st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=3)):
        try:
            damage(draw, files)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            continue  # an earlier damage left nothing to damage in this way
        done.append(damage.__name__.replace("_", " "))
    return Case(done or ["none"], files)


# --------------------------------------------------------------------------------- does minigpt survive it


def write(folder: Path, files: Files) -> None:
    """Put the files into `folder`, and a whole checkpoint outside of it as a bait."""
    folder.mkdir(parents=True)
    for name, content in intact()[0].items():
        (folder.parent / name).write_bytes(content)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif isinstance(content, Path):
            (folder / name).symlink_to(content)
        else:
            (folder / name).mkdir() if content == FOLDER else os.mkfifo(folder / name)


def survive(files: Files) -> str:
    """Load a checkpoint: "refused" or "loaded". Raises `AssertionError` if that is not how it should be."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home).resolve() / "checkpoint"
        write(folder, files)
        size = 2 * sum(len(content) for content in files.values() if isinstance(content, bytes))
        with limits(size), opened_outside(folder) as outside, warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                model, _ = minigpt.load(folder)
            except minigpt.MiniGPTError as refusal:
                check_refusal(str(refusal), folder)
                return "refused"
            finally:
                assert not outside, f"opened {outside}"
        check_model(model, folder)
        return "loaded"


def check_refusal(message: str, folder: Path) -> None:
    """A refusal is one line that anybody can read, and names the folder or a file in it."""
    assert message.isprintable(), message
    assert len(message) < 700 + len(str(folder)), message
    assert message.startswith(str(folder)), message


def check_model(model: minigpt.GPT2, folder: Path) -> None:
    """The model is what a second reader finds in the files."""
    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for name, value in asdict(model.config).items():
        if name != "tie_word_embeddings":
            found = content.get(name, content.get(ALIASES.get(name, name), getattr(Config(), name)))
            assert found == value, f"{name} is {found} in the file"
    stored = read_tensors(folder)
    stored.setdefault("wte.weight", stored.get("lm_head.weight", np.empty(0)))
    for name, array in arrays_by_name(model.parameters).items():
        assert not array.flags.writeable, f"{name} can be written to"
        expected = stored.get(name, np.zeros_like(array) if name.endswith(".bias") else np.empty(0))
        assert np.array_equal(array, expected), f"{name} is something else in the file"


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint, as the safetensors library reads them, in float32."""
    names = {WEIGHTS}
    if not (folder / WEIGHTS).exists():
        names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    tensors = {}
    for file in names:
        for name, entry in deserialize((folder / file).read_bytes()):
            stored = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(entry["dtype"], "u1")
            array = np.frombuffer(entry["data"], stored)
            if entry["dtype"] == "BF16":
                array = (array.astype(np.uint32) << 16).view(np.float32)
            if stored != "u1":  # a mask of another type
                array = array.astype(np.float32).reshape(entry["shape"])
            tensors[name.removeprefix("transformer.")] = array
    return tensors


@functools.cache  # a hook cannot be taken away again
def watch() -> dict[str, Any]:
    """The one watch of this process over the files that are opened, and the folder that it watches."""
    state: dict[str, Any] = {"folder": None, "seen": []}
    own = (os.path.realpath(Path(minigpt.__file__).parent), "/proc/self/")

    def note(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and state["folder"] and isinstance(args[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(args[0]))
            if not path.startswith((state["folder"], *own)):
                state["seen"].append(path)

    sys.addaudithook(note)
    return state


@contextmanager
def opened_outside(folder: Path) -> Iterator[list[str]]:
    """What is opened outside of `folder` in the meantime."""
    seen: list[str] = []
    watch().update(folder=str(folder), seen=seen)
    try:
        yield seen
    finally:
        watch()["folder"] = None


def expire(*_: object) -> None:
    """What the alarm calls when the time is up."""
    raise TimeoutError(f"not done after {SECONDS} s")


@contextmanager
def limits(size: int) -> Iterator[None]:
    """Time and memory as promised: beyond them `TimeoutError` and `MemoryError` (where the system can)."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere the limit would not be kept anyway
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + size + MEMORY, before[1]))
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)


# ---------------------------------------------------------------------------------------------- a long run


def run(examples: int, number: int) -> Counter[tuple[str, str]]:
    """How many cases of a seed ended how, by their first damage. Raises what a case that fails raises."""
    counts: Counter[tuple[str, str]] = Counter()
    survive(intact()[0])  # what any use imports and allocates is not counted in a case

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(checkpoints())
    def each(case: Case) -> None:
        counts[case.steps[0], survive(case.files)] += 1

    each()
    return counts


def main() -> None:
    """Run cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--examples", type=int, default=1000, help="how many cases (1000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases (0)")
    args = parser.parse_args()
    started, counts = time.perf_counter(), Counter[tuple[str, str]]()
    for start in range(0, args.examples, 2000):  # hypothesis remembers each case of a run
        counts += run(min(2000, args.examples - start), args.seed * 1_000_000 + start)
    print(f"seed {args.seed}, {counts.total():,} cases, {time.perf_counter() - started:.0f} s\n")
    print("| damage | cases | refused | loaded, as in the files |\n|---|---:|---:|---:|")
    for damage in sorted({damage for damage, _ in counts}):
        refused, loaded = (counts[damage, kind] for kind in ("refused", "loaded"))
        print(f"| {damage} | {refused + loaded:,} | {refused:,} | {loaded:,} |")


if __name__ == "__main__":
    main()
