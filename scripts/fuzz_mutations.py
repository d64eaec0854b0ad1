"""The damages that `fuzz_checkpoints.py` does: seeded mutations of small valid checkpoints.

A `Case` is the files of a checkpoint in memory. A mutation changes them and notes what its victim is called
(`culprits`), so that the refusal can be held to name it, and whether the result is valid: True, False, or
None where that depends on the bytes.
"""

import functools
import json
import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.parameters import Config
from scripts.make_checkpoint import random_tensors, write_checkpoint

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
LONGEST_NAME = 60  # characters of a name that are looked for: messages cut what is longer
SMALL = Config(vocab_size=13, n_positions=6, n_embd=8, n_layer=2, n_head=2)
# What a careless or hostile writer may put in the place of any value.
ODD_VALUES: list[Any] = [
    None, True, False, "", "x", "8", "\x1b[31mred", "../../x", "é\ud800", [], [[]], {}, {"a": 1}, 0, -1, 1,
    3, 1.0, 1.5, -0.0, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63), 10**30, 1e308, 1e-300,
    float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
Files = dict[str, bytes]
Header = dict[str, Any]


@dataclass
class Case:
    """The files of a checkpoint and what has been done to them."""

    files: Files
    links: dict[str, str] = field(default_factory=dict)  # symbolic links: name -> target
    others: dict[str, str] = field(default_factory=dict)  # "folder" or "pipe" in the place of a file
    steps: list[str] = field(default_factory=list)
    culprits: set[str] = field(default_factory=set)
    family: str = "intact"
    valid: bool | None = True
    with_tokenizer: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def weights(self, rng: np.random.Generator) -> str:
        """The name of one of the safetensors files."""
        return str(rng.choice([name for name in self.files if name.endswith(".safetensors")] or [WEIGHTS]))

    def write(self, folder: Path) -> None:
        """Put the files into `folder` and nothing else; a whole checkpoint stands outside, as a bait."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, content in (intact(0) | intact(3)).items():
            if not (folder.parent / name).exists():
                (folder.parent / name).write_bytes(content)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        for name, target in self.links.items():
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(target)
        for name, kind in self.others.items():
            (folder / name).unlink(missing_ok=True)
            (folder / name).mkdir() if kind == "folder" else os.mkfifo(folder / name)


def make_case(seed: int, number: int, intact_only: bool = False) -> Case:
    """Case `number` of a seed: one mutation, or a few; what several leave valid is not known."""
    rng = np.random.default_rng([seed, number])
    family = list(MUTATIONS)[int(rng.integers(len(MUTATIONS)))]
    if family == "tokenizer files" and rng.random() < 0.85:  # they are large: fewer of them
        family = "bytes anywhere"
    case = Case(dict(intact(TOKENIZER if family == "tokenizer files" else int(rng.integers(TOKENIZER)))))
    if intact_only:
        return case
    case.family, case.with_tokenizer = family, family == "tokenizer files"
    mutate(case, family, rng)
    for _ in range(int(rng.integers(3)) if rng.random() < 0.3 else 0):
        valid = case.valid
        mutate(case, str(rng.choice([name for name in MUTATIONS if name != "tokenizer files"])), rng)
        case.valid = True if valid and case.valid else None
    return case


def mutate(case: Case, family: str, rng: np.random.Generator) -> None:
    """Apply one mutation of a family; where an earlier one left nothing to mutate, none."""
    before = Case(dict(case.files), dict(case.links), dict(case.others))
    case.valid = None
    try:
        what = MUTATIONS[family](case, rng)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        case.files, case.links, case.others = before.files, before.links, before.others
        what, case.valid = "nothing to mutate any more", None
    case.steps.append(f"{family}: {what}")


# ---------------------------------------------------------------------------------- what mutations start from


TOKENIZER = 9  # the variant that has GPT-2's vocabulary, and its tokenizer files


@functools.cache
def intact(variant: int) -> Files:
    """One of the valid checkpoints: tied or not, prefixed, sharded, narrow, with other settings."""
    config = {
        2: replace(SMALL, tie_word_embeddings=False),
        7: replace(SMALL, n_inner=5, activation_function="gelu", scale_attn_by_inverse_layer_idx=True),
        TOKENIZER: Config(n_positions=4, n_embd=4, n_layer=1, n_head=1),
    }.get(variant, SMALL)
    tensors = random_tensors(config, variant)
    if variant in (5, 6):
        tensors = {
            name: narrow(array, ["float16", "bfloat16"][variant - 5]) for name, array in tensors.items()
        }
    if variant == 8:
        tensors["lm_head.weight"] = tensors["wte.weight"]
    with tempfile.TemporaryDirectory() as home:
        folder = write_checkpoint(
            Path(home), config, tensors, prefix="transformer." if variant in (1, 4) else ""
        )
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if variant in (3, 4):
        files |= cut_into_shards(files.pop(WEIGHTS), variant - 1)
    return files | gpt2_tokenizer() if variant == TOKENIZER else files


def narrow(array: np.ndarray, dtype: str) -> np.ndarray:
    """float32 as float16, or as the upper halves that are bfloat16."""
    if dtype == "float16":
        return array.astype(np.float16)
    return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16)


def cut_into_shards(content: bytes, n_shards: int) -> Files:
    """The same tensors in several files with an index."""
    header, data = split(content)
    header.pop("__metadata__")
    files, weight_map = dict[str, bytes](), dict[str, str]()
    for n in range(n_shards):
        shard, names = f"model-{n + 1:05}-of-{n_shards:05}.safetensors", list(header)[n::n_shards]
        files[shard] = pack({name: (header[name], data) for name in names})
        weight_map |= dict.fromkeys(names, shard)
    return files | {INDEX: json.dumps({"metadata": {}, "weight_map": weight_map}).encode()}


def pack(tensors: dict[str, tuple[dict[str, Any], bytes]]) -> bytes:
    """A safetensors file of entries, each with the data that its offsets refer to."""
    header, body = {}, b""
    for name, (entry, data) in tensors.items():
        piece = data[slice(*entry["data_offsets"])]
        header[name] = {**entry, "data_offsets": [len(body), len(body) + len(piece)]}
        body += piece
    return join(header, body)


@functools.cache
def gpt2_tokenizer() -> Files:
    """GPT-2's tokenizer as `transformers` saves it."""
    import minigpt
    from minigpt.tokenizer import vocabulary

    merges = (Path(minigpt.__file__).parent / "data" / "vocab.bpe").read_text(encoding="utf-8")
    vocab = {name: token_id for token_id, name in enumerate(vocabulary())}
    tokenizer = {
        "added_tokens": [{"id": 50256, "content": "<|endoftext|>", "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges.split("\n")[1:-1]},
    }
    return {
        "merges.txt": merges.encode(),
        "vocab.json": json.dumps(vocab).encode(),
        "tokenizer.json": json.dumps(tokenizer).encode(),
    }


def split(content: bytes) -> tuple[Header, bytes]:
    """Header and data of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("not an object")
    return header, content[8 + length :]


def join(header: Header | bytes, data: bytes) -> bytes:
    """The inverse of `split`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: an object whose keys are all different."""
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def pick(rng: np.random.Generator, options: Any) -> Any:
    """One of a list, of any types."""
    options = list(options)
    return options[int(rng.integers(len(options)))]


def blame(case: Case, *names: str) -> None:
    """Names of which the refusal has to give one; escaped and cut as messages show them."""
    for name in names:
        case.culprits.add(repr(name)[1:-1][:LONGEST_NAME])
        case.culprits.add(repr(name.removeprefix("transformer."))[1:-1][:LONGEST_NAME])


# ------------------------------------------------------------------------------------------ safetensors files


def header_length(case: Case, rng: np.random.Generator) -> str:
    """The first eight bytes."""
    file = case.weights(rng)
    content = case.files[file]
    length = int.from_bytes(content[:8], "little")
    near = [0, 1, 2, 7, 8, length - 1, length + 1, 2 * length, *(len(content) - n for n in (0, 7, 8))]
    far = [2**20, 2**31 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 100_000_001, int(rng.integers(2**62))]
    claimed = pick(rng, [value for value in near + far if value != length and value >= 0])
    case.files[file] = struct.pack("<Q", claimed) + content[8:]
    blame(case, file)
    case.valid = False
    return f"{file}: {claimed:,} instead of {length:,}"


NOTHING = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


def header_text(case: Case, rng: np.random.Generator) -> str:
    """JSON that is broken, doubled, nested or enormous."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    text = json.dumps(header).encode()
    name = pick(rng, [name for name in header if name != "__metadata__"])
    entry = json.dumps(header[name]).encode()
    large = rng.random() < 0.05
    n = 200_000 if large else 2_000
    made = pick(rng, [
        b"", b"{}", b"[]", b"null", b"3", b'"x"', b"nan", b"\xff\xfe" + text, b"\xef\xbb\xbf" + text,
        b" " + text, text[:-1], text + b"}", text + b"x", text.replace(b"{", b"[", 1),
        text.decode().encode("utf-16"),
        text[:-1] + b', "' + name.encode() + b'": ' + entry + b"}",
        b'{"__metadata__": {"a": "1", "a": "2"}, ' + text[1:], text[:-1] + b', "__metadata__": 3}',
        text[:-1] + b',"x": ' + b"[" * n, b"[" * n, b'{"a":' * n, text.replace(b"0", b"0" * 500, 1),
        b'{"a": ' + b"9" * 5000 + b"}", text[:-1] + b', "\\ud800": ' + entry + b"}",
        b"{" + b",".join(b'"%d":%b' % (i, NOTHING) for i in range(n // 8)) + b"}",
        text + b" " * (10 * n), text + b"\0",
    ])  # fmt: skip
    if made.rstrip(b" ") == text:
        case.valid = case.valid if len(made) < 2 << 20 else False
    case.files[file] = join(made, data)
    blame(case, file, next(key for key in header if "0" in key))  # whose number may now be another
    return f"{file}: header {made[:60]!r}… of {len(made):,} bytes"


def offsets(case: Case, rng: np.random.Generator) -> str:
    """Where a tensor begins and ends."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    name, other = (pick(rng, [name for name in header if name != "__metadata__"]) for _ in range(2))
    start, end = header[name]["data_offsets"]
    shift = int(pick(rng, [1, 2, 4, 8, 32, -1, -4, -32, 2**31, 2**63, 2**64 - 1, -(2**63), 10**30]))
    span = end - start
    header[name]["data_offsets"] = pick(rng, [
        [start + shift, end + shift], [start, end + shift], [start + shift, end], [end, start],
        [start, start], [-span, 0], [-1, -1], [len(data), len(data) + span], [0, len(data)],
        header[other]["data_offsets"],
        [2**64 - span, 2**64], [start], [], [start, end, end], {"0": start}, None, [float(start), float(end)],
        [str(start), str(end)], [start, pick(rng, ODD_VALUES)], [pick(rng, ODD_VALUES), end],
        [[start], [end]], [start, end + 2**64],
    ])  # fmt: skip
    case.files[file] = join(header, data)
    blame(case, file)
    changed = header[name]["data_offsets"] != [start, end]
    case.valid = False if changed else None
    return f"{file}: {name} at {header[name]['data_offsets']} instead of {[start, end]}"


DTYPES = [
    "F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "U16", "BOOL", "C64",
]  # fmt: skip


def dtypes(case: Case, rng: np.random.Generator) -> str:
    """Another type, with or without the bytes to match."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    name = pick(rng, parameter_names(header))
    blame(case, file)
    if rng.random() < 0.5:
        return claim_dtype(case, rng, file, name)
    dtype = pick(rng, ["F32", "F16", "BF16", "F64", "I32", "I16", "U8"])
    raw = stored_as(dtype, np.nan_to_num(tensor_bytes(header[name], data)))
    entries = {key: (value, data) for key, value in header.items() if key not in (name, "__metadata__")}
    entry = {**header[name], "dtype": dtype, "data_offsets": [0, len(raw)]}
    case.files[file] = pack(entries | {name: (entry, raw)})
    case.valid = dtype in ("F32", "F16", "BF16")
    blame(case, name)
    return f"{file}: {name} stored as {dtype}"


def claim_dtype(case: Case, rng: np.random.Generator, file: str, name: str) -> str:
    """Another type in the header for the same bytes."""
    header, data = split(case.files[file])
    stored = header[name]["dtype"]
    claims = [*DTYPES, "f32", "F32 ", "float32", "", "F4", "F128", *ODD_VALUES]
    header[name]["dtype"] = pick(rng, [value for value in claims if value != stored])
    same_width = {stored, str(header[name]["dtype"])} == {"F16", "BF16"}
    case.files[file], case.valid = join(header, data), None if same_width else False
    return f"{file}: {name} is {header[name]['dtype']!r} instead of {stored}"


def stored_as(dtype: str, array: np.ndarray) -> bytes:
    """The bytes of an array in a type of safetensors; what it cannot hold is clipped."""
    if dtype == "BF16":
        return narrow(array.astype("<f4"), "bfloat16").tobytes()
    low, high = {"I16": (-99, 99), "U8": (0, 255)}.get(dtype, (-6e4, 6e4))
    stored = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I16": "<i2", "U8": "u1"}[dtype]
    return array.clip(low, high).astype(stored).tobytes()


def parameter_names(header: Header) -> list[str]:
    """Without metadata and masks."""
    return [name for name in header if name != "__metadata__" and not name.endswith(".attn.bias")]


def tensor_bytes(entry: dict[str, Any], data: bytes) -> np.ndarray:
    """The numbers of an entry as float32."""
    raw = data[slice(*entry["data_offsets"])]
    if entry["dtype"] == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype(np.float32)


def shapes(case: Case, rng: np.random.Generator) -> str:
    """Another shape, of the same bytes or of others."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    name = pick(rng, parameter_names(header))
    shape = header[name]["shape"]
    n = int(np.prod(shape))
    header[name]["shape"] = pick(rng, [
        shape[::-1], [n], [1, n], [n, 1], [*shape, 1], [1, *shape], [*shape, 0], [0], [], [-n], [-1, -n],
        [n, 1, 1, 1], [2**32, 2**32], [2**62, 4], [2**64, 1], [0, 2**63], [2**31], [n + 1], [n - 1],
        [n / 1], [str(n)],
        None, n, "x", {"0": n}, [True] * 2, [shape], [*shape[:-1], pick(rng, ODD_VALUES)],
        [pick(rng, ODD_VALUES)], [1] * 300 + [n],
    ])  # fmt: skip
    case.files[file] = join(header, data)
    blame(case, file, name)
    case.valid = False if header[name]["shape"] != shape else None
    if repr(header[name]["shape"]) != repr(shape) and header[name]["shape"] == shape:
        case.valid = None  # 1.0 and True equal 1
    return f"{file}: {name} has shape {str(header[name]['shape'])[:80]} instead of {shape}"


ODD_NAMES = [
    "", "x", "\x1b[31m", "a\nb", "é", "\u202e", "x" * 5000, "wte.weight", "WTE.weight", "wte.weight ",
    "h.0.attn.bias", "h.9.attn.masked_bias", "h.00.ln_1.weight", "h.-1.ln_1.weight", "h.2.ln_1.weight",
    "h.999999999.ln_1.weight", "h." + "9" * 50 + ".ln_1.weight", "h.٣.ln_1.weight", "h.0.ln_1.gamma",
    "transformer.wte.weight", "transformer.", "transformer.transformer.wte.weight", "lm_head.weight",
    "lm_head.bias", "score.weight", "model.layers.0.weight", "h.0.attn.c_attn.weight.lora_A", "../../x",
    "__metadata__", "\ud800",
]  # fmt: skip


def names(case: Case, rng: np.random.Generator) -> str:
    """Tensors that are renamed, removed, added, exchanged."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    name = pick(rng, parameter_names(header))
    entries = {key: (value, data) for key, value in header.items() if key != "__metadata__"}
    what = pick(rng, ["rename", "remove", "add", "exchange", "prefix"])
    new = pick(rng, [*ODD_NAMES, name.upper(), name + ".", name[:-1], "transformer." + name])
    blame(case, file, name, new, "n_layer", "'transformer.'", "wte.weight")
    if what == "exchange":
        entry, _ = entries[name]
        new = pick(rng, [key for key in parameter_names(header) if header[key]["shape"] == entry["shape"]])
        entries[name], entries[new] = entries[new], entries[name]
        case.valid = True
    elif what == "prefix":
        entries["transformer." + name] = entries.pop(name)
    elif what == "add":
        entries[new] = entries[name]
    else:
        value = entries.pop(name)
        if what == "rename":
            entries[new] = value
        elif INDEX in case.files or name != "wte.weight":
            case.valid = None if name == "lm_head.weight" else False
    packed = pack({key: value for key, value in entries.items() if key != "__metadata__"})
    header, data = split(packed)
    if "__metadata__" in entries:
        header["__metadata__"] = entries["__metadata__"][0]
    case.files[file] = join(header, data)
    return f"{file}: {what} {name} {new[:60]!r}"


def truncation(case: Case, rng: np.random.Generator) -> str:
    """A file that ends early, at a boundary or within a tensor, or goes on."""
    file = pick(rng, case.files)
    content = case.files[file]
    blame(case, file)
    if rng.random() < 0.2:
        more = bytes(rng.integers(256, size=int(pick(rng, [1, 4, 8, 1000])), dtype=np.uint8))
        case.files[file] = content + more
        case.valid = False if file.endswith(".safetensors") else None  # it may be white space
        return f"{file}: {len(more)} bytes more"
    cuts = [0, 1, 7, 8, 9, len(content) - 1, len(content) // 2, int(rng.integers(max(1, len(content))))]
    if file.endswith(".safetensors"):
        header, data = split(content)
        ends = {
            end for key, value in header.items() if key != "__metadata__" for end in value["data_offsets"]
        }
        cuts += [len(content) - len(data) + end for end in sorted(ends) if end < len(data)]
    cut = min(int(pick(rng, cuts)), max(0, len(content) - 1))
    case.files[file] = content[:cut]
    case.valid = False
    return f"{file}: cut after {cut} of {len(content)} bytes"


def numbers(case: Case, rng: np.random.Generator) -> str:
    """Weights that are not finite, or near the end of what float32 holds."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    name = pick(rng, parameter_names(header))
    entry = header[name]
    bits = {"F32": "<u4", "F16": "<u2", "BF16": "<u2"}[entry["dtype"]]
    kinds = {
        "F32": [
            0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7E967699, 1, 1 << 31,
        ],
        "F16": [0x7C00, 0xFC00, 0x7E00, 0x7C01, 0x7BFF, 0xFBFF, 0x0001, 0x8000],
        "BF16": [0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0x7F7F, 0xFF7F, 0x7E96, 0x0001, 0x8000],
    }[entry["dtype"]]  # fmt: skip
    value = int(pick(rng, [*kinds, int(rng.integers(2 ** (8 * np.dtype(bits).itemsize)))]))
    array = np.frombuffer(data[slice(*entry["data_offsets"])], bits).copy()
    where = pick(
        rng, [slice(None), slice(0, 1), slice(-1, None), slice(None, None, 7), rng.integers(array.size)]
    )
    array[where] = value
    start, end = entry["data_offsets"]
    case.files[file] = join(header, data[:start] + array.tobytes() + data[end:])
    blame(case, file)
    case.valid = bool(np.isfinite(tensor_bytes(entry, data[:start] + array.tobytes() + data[end:])).all())
    return f"{file}: {name}[{where}] = bits {value:#x}"


# --------------------------------------------------------------------------------- index, config, file system


def index(case: Case, rng: np.random.Generator) -> str:
    """The index of a sharded checkpoint: where it points, and what the shards hold."""
    if INDEX not in case.files:
        case.files |= cut_into_shards(case.files.pop(WEIGHTS), 2)
    content = json.loads(case.files[INDEX])
    weight_map = content["weight_map"]
    shards = sorted(set(weight_map.values()))
    name, shard = pick(rng, weight_map), pick(rng, shards)
    blame(case, INDEX, name, *shards)
    what = pick(rng, ["point", "point", "all", "forget", "promise", "junk", "delete", "copy", "odd"])
    case.valid = None if what in ("forget", "promise", "odd") else False
    if what in ("point", "all"):
        target = pick(rng, [*places(shard), *ODD_VALUES])
        blame(case, str(target))
        weight_map |= dict.fromkeys(weight_map, target) if what == "all" else {name: target}
    elif what == "forget":
        del weight_map[name]
    elif what == "promise":
        weight_map[pick(rng, ODD_NAMES)] = shard
    elif what == "junk":
        junk = [[], {}, 3, None, {"weight_map": {}}, {"weight_map": []}, {"weight_map": shard}, "x"]
        content = pick(rng, junk)
    elif what == "delete":
        del case.files[shard]
    elif what == "copy":
        case.files[shards[0]] = case.files[shards[-1]]
    else:
        content[pick(rng, ["metadata", "weight_map"])] = pick(rng, ODD_VALUES)
    case.files[INDEX] = json.dumps(content).encode()
    if rng.random() < 0.05:  # the same key twice
        case.files[INDEX] = case.files[INDEX].replace(b'{"metadata"', b'{"weight_map": {}, "metadata"', 1)
    return f"{what}: {case.files[INDEX][:80]!r}"


def places(shard: str) -> list[str]:
    """Where an index may say that a shard is, and it must not be looked for."""
    outside = os.fspath(Path(tempfile.gettempdir()) / "x" / shard)
    return [
        f"../{shard}", f"./{shard}", f"a/../{shard}", outside, f"C:\\{shard}", f"..\\{shard}", f"{shard}\0",
        "",
        ".", "..", "../model.safetensors", "/etc/passwd", "/dev/zero", "model.bin", f"file://{shard}",
        f"{shard} ", f" {shard}", "model-9.safetensors", CONFIG, INDEX, "x" * 5000 + ".safetensors",
        "é.safetensors", "~/x.safetensors", "\x1b[31m.safetensors",
    ]  # fmt: skip


SETTINGS = [
    "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function",
    "layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "tie_word_embeddings",
    "hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings", "model_type",
    "architectures", "add_cross_attention", "auto_map", "is_encoder_decoder", "pruned_heads",
    "quantization_config",
]  # fmt: skip


def config(case: Case, rng: np.random.Generator) -> str:
    """Settings that are absent, negative, enormous, of the wrong type, or merely different."""
    content = json.loads(case.files[CONFIG])
    key = pick(rng, SETTINGS)
    blame(case, CONFIG, key, *ALL_NAMES)
    if key in ("n_embd", "hidden_size"):
        blame(case, "n_embd", "hidden_size", "n_head")
    what = pick(rng, ["odd", "odd", "near", "absent", "twice", "fine", "junk"])
    if what == "odd":
        content[key] = pick(rng, ODD_VALUES)
    elif what == "near" and isinstance(content.get(key), int):
        content[key] = content[key] + int(pick(rng, [-1, 1, 2, -content[key], -2 * content[key]]))
    elif what == "absent":
        content.pop(key, None)
    elif what == "fine":
        content |= other_settings(rng, content)
        case.valid = True
    text = json.dumps(content)
    if what == "twice":
        text = text.replace("{", f'{{"{key}": {json.dumps(content.get(key))}, ', 1)
    elif what == "junk":
        junk = [
            "",
            "[]",
            "null",
            "3",
            "{",
            text[1:],
            text + ",",
            f"[{text}]",
            "\ufeff" + text,
            "\0",
            "[" * 3000,
        ]
        text = pick(rng, junk)
        case.valid = False
    case.files[CONFIG] = text.encode()
    return f"{what} {key}: {text[:80]!r}"


def other_settings(rng: np.random.Generator, content: dict[str, Any]) -> Any:
    """Settings of another model for which the same tensors fit."""
    return pick(rng, [
        {"layer_norm_epsilon": float(10 ** rng.uniform(-30, 0))}, {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True}, {"n_head": 1}, {"n_head": 4}, {"n_head": 8},
        {"activation_function": pick(rng, ["gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh"])},
        {"model_type": "gpt2"}, {"architectures": None}, {"n_inner": 32 if not content["n_inner"] else 5},
    ])  # fmt: skip


def file_system(case: Case, rng: np.random.Generator) -> str:
    """Links, pipes and folders in the place of files."""
    file = pick(rng, case.files)
    outside = pick(
        rng, [f"../{file}", "../config.json", "../model.safetensors", "/etc/passwd", "/dev/zero", "/", ".."]
    )
    what = pick(
        rng, ["outside", "outside", "inside", "nowhere", "itself", "folder", "pipe", "empty", "missing"]
    )
    blame(case, file, "model.safetensors", "model.safetensors.index.json")
    case.valid = False
    if what == "outside":
        case.links[file] = outside
    elif what == "inside":
        case.files["elsewhere"], case.links[file], case.valid = case.files[file], "elsewhere", True
    elif what == "nowhere":
        case.links[file] = "nowhere"
    elif what == "itself":
        case.links[file] = file
    elif what in ("folder", "pipe"):
        case.others[file] = what if hasattr(os, "mkfifo") else "folder"
    elif what == "empty":
        case.files[file] = b""
    else:
        del case.files[file]
    return f"{file}: {what} {case.links.get(file, '')}"


def anywhere(case: Case, rng: np.random.Generator) -> str:
    """Bytes that are changed, inserted, removed or exchanged, in any file."""
    file = pick(rng, case.files)
    content = bytearray(case.files[file])
    blame(case, file)
    for _ in range(int(rng.integers(1, 5))):
        end = min(len(content), int(pick(rng, [16, 600, 3000, len(content)])))
        start = int(rng.integers(max(1, end)))
        length = int(rng.integers(5))
        new = bytes(rng.integers(256, size=int(rng.integers(5)), dtype=np.uint8))
        kind = int(rng.integers(4))
        if kind == 0 and content:
            content[min(start, len(content) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            content[start : start + length] = new
        elif kind == 2:
            other = int(rng.integers(max(1, end)))
            content[start : start + length] = content[other : other + length]
        else:
            content[start:start] = pick(
                rng, [b"0", b"-", b'"', b"}", b"]", b",", b"9" * 20, b"\\ud800", b"\x1b"]
            )
    case.files[file] = bytes(content)
    if file.endswith("json") or file.endswith("safetensors"):
        blame_everything(case)
    return f"{file}: bytes"


def blame_everything(case: Case) -> None:
    """Where bytes change anywhere, any tensor or setting may be the one that the refusal is about."""
    blame(case, *SETTINGS, *ALL_NAMES, "'transformer.'")


ALL_NAMES = list(random_tensors(replace(SMALL, tie_word_embeddings=False)))


def same_meaning(case: Case, rng: np.random.Generator) -> str:
    """Files written otherwise that mean the same, and tensors with other numbers."""
    file = case.weights(rng)
    header, data = split(case.files[file])
    metadata = header.pop("__metadata__", None)
    what = pick(rng, ["spaces", "order", "metadata", "indent", "noise", "masks", "escapes"])
    entries = [(name, (header[name], data)) for name in header]
    if what == "order":
        rng.shuffle(entries)
        case.files[file] = pack(dict(entries))
    elif what == "metadata":
        case.files[file] = join({"__metadata__": {"format": "pt", "é": "x" * 100}, **header}, data)
    elif what == "indent":
        more = {"attn_pdrop": 0.3, "n_ctx": 7, "é": [None], "use_cache": False}
        content = json.dumps({**json.loads(case.files[CONFIG]), **more}, indent=int(rng.integers(9)))
        case.files[CONFIG] = b"\n " + content.encode() + b"\r\n\t"
    elif what == "noise":
        entry = header[pick(rng, parameter_names(header))]
        start, end = entry["data_offsets"]
        noise = rng.normal(size=int(np.prod(entry["shape"])))
        case.files[file] = join(header, data[:start] + stored_as(entry["dtype"], noise) + data[end:])
    elif what == "masks":
        mask = {"dtype": "BOOL", "shape": [1, 1, 2], "data_offsets": [0, 2]}
        prefix = "transformer." if any(name.startswith("transformer.") for name in header) else ""
        case.files[file] = pack(dict(entries) | {f"{prefix}h.1.attn.masked_bias": (mask, b"\0\1")})
    else:
        text = json.dumps({"__metadata__": metadata or {}, **header})
        text = text.replace("wte", "\\u0077te") if what == "escapes" else text + " " * int(rng.integers(500))
        case.files[file] = join(text.encode(), data)
    case.valid = True
    return f"{file}: {what}"


# -------------------------------------------------------------------------------------------- tokenizer files


def tokenizer_files(case: Case, rng: np.random.Generator) -> str:
    """The tokenizer beside the checkpoint: GPT-2's in another spelling, or not GPT-2's."""
    file = pick(rng, ["merges.txt", "vocab.json", "tokenizer.json"])
    text = case.files[file].decode()
    at = int(rng.integers(1000, 40000))
    what = pick(rng, ["same", "absent", "line", "exchange", "bytes", "odd", "junk", "foreign"])
    case.valid = what in ("same", "absent")
    if what == "foreign":
        file, text = (
            pick(rng, ["vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"]),
            "",
        )
    elif what == "bytes":
        raw = bytearray(text.encode())
        raw[at] ^= 1 << int(rng.integers(8))
        text, case.valid = raw.decode("utf-8", "surrogateescape"), None
    elif what == "odd" and file == "tokenizer.json":
        content = json.loads(text)
        key = pick(rng, ["added_tokens", "normalizer", "pre_tokenizer", "model"])
        content[key] = pick(rng, [value for value in ODD_VALUES if value is not None])
        case.valid = None if content[key] == [] else False
        text = json.dumps(content)
    else:
        text = respelled(text, file, what, at, rng)
    blame(case, file)
    case.files[file] = text.encode("utf-8", "surrogateescape")
    if what == "absent":
        del case.files[file]
    return f"{file}: {what} at {at}"


def respelled(text: str, file: str, what: str, at: int, rng: np.random.Generator) -> str:
    """A tokenizer file in another spelling, or with one line less, two exchanged, or none that is right."""
    separator = "\n" if file == "merges.txt" else ", "
    parts = text.split(separator)
    if what == "same":
        return text.replace("\n", "\r\n") if file == "merges.txt" else json.dumps(json.loads(text), indent=1)
    if what == "absent":
        return text
    if what == "line":
        return separator.join(parts[:at] + parts[at + 1 :])
    if what == "exchange" and file == "merges.txt":
        return separator.join([*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]])
    return str(
        pick(rng, ["", "[]", "{}", "null", "[" * 3000, text[: at + 1], "\0", "NaN", '"x"', "9" * 5000])
    )


MUTATIONS: dict[str, Callable[[Case, np.random.Generator], str]] = {
    "header length": header_length,
    "header text": header_text,
    "offsets": offsets,
    "dtypes": dtypes,
    "shapes": shapes,
    "tensor names": names,
    "truncation": truncation,
    "weights": numbers,
    "index and shards": index,
    "config": config,
    "links, pipes, folders": file_system,
    "bytes anywhere": anywhere,
    "other spelling": same_meaning,
    "tokenizer files": tokenizer_files,
}
