"""Make a GPT-2 checkpoint with seeded random weights, in exactly the layout of the official files.

    python -m scripts.benchmark.checkpoint random-gpt2    # the size of the official gpt2
    python -m scripts.benchmark.checkpoint random-small --n_layer 2 --n_embd 64 --n_head 4

It answers nonsense, but at the official size and with the magnitudes of trained weights, outlier
channels included, so that logits are tens and rounding errors show as they do with the real model. The
parity tests and the benchmark run on it where the official weights are out of reach.

What the layout keeps of the official `gpt2` file: tensor names without a prefix, a causal mask of
n_positions x n_positions in every block (`h.*.attn.bias`, not a parameter), no `lm_head.weight`, tensors
that are not sorted by name, and a header of 14,283 bytes, which leaves the data unaligned.
"""

import argparse
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.parameters import Config

Tensors = dict[str, np.ndarray]
OFFICIAL_HEADER_BYTES = 14_283
DTYPE_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "uint16": "BF16",
}  # bfloat16 travels as its bits


def random_tensors(config: Config, seed: int = 0) -> Tensors:
    """Seeded float32 parameters by checkpoint name, with the magnitudes of trained ones.

    Standard deviations are those of the official 124M weights, rescaled for other widths; three channels
    are outliers, as in the real residual stream, where a few entries are a hundred times the others.
    """
    rng, n_embd = np.random.default_rng(seed), config.n_embd
    outliers = rng.choice(n_embd, size=min(3, n_embd), replace=False)

    def normal(*shape: int, std: float, mean: float = 0.0) -> np.ndarray:
        array = rng.standard_normal(shape, dtype=np.float32)
        array *= np.float32(std)
        return array + np.float32(mean)

    def linear(name: str, n_in: int, n_out: int, std: float) -> Tensors:
        weight = normal(n_in, n_out, std=std * np.sqrt(768 / n_embd))
        return {f"{name}.weight": weight, f"{name}.bias": normal(n_out, std=0.1)}

    def layer_norm(name: str, mean: float) -> Tensors:
        weight = normal(n_embd, std=0.1 * mean, mean=mean)
        return {f"{name}.weight": weight, f"{name}.bias": normal(n_embd, std=0.05)}

    tensors = {
        "wte.weight": normal(config.vocab_size, n_embd, std=0.14),
        "wpe.weight": normal(config.n_positions, n_embd, std=0.05),
        **layer_norm("ln_f", mean=1.4),
    }
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        tensors |= layer_norm(f"{h}.ln_1", mean=0.3) | layer_norm(f"{h}.ln_2", mean=0.3)
        tensors |= linear(f"{h}.attn.c_attn", n_embd, 3 * n_embd, std=0.2)
        tensors |= linear(f"{h}.attn.c_proj", n_embd, n_embd, std=0.13)
        tensors |= linear(f"{h}.mlp.c_fc", n_embd, config.mlp_width, std=0.13)
        tensors |= linear(f"{h}.mlp.c_proj", config.mlp_width, n_embd, std=0.09)
    tensors["h.0.mlp.c_proj.bias"][outliers] += np.array([60, -40, 150], np.float32)[: len(outliers)]
    tensors["wte.weight"][:, outliers] -= np.float32(0.25)  # shifts all logits down by tens
    tensors["ln_f.weight"][outliers[:1]] *= np.float32(5.0)
    if not config.tie_word_embeddings:
        tensors["lm_head.weight"] = normal(config.vocab_size, n_embd, std=0.14)
    return tensors


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], order: Iterable[str] | None = None, header_bytes: int = 0
) -> None:
    """Write tensors in the given order, unaligned; spaces fill the header up to `header_bytes`.

    The format: 8 bytes of header length, a JSON header, then the data (huggingface/safetensors, README).
    An array of uint16 is written as bfloat16.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    names, offset = list(tensors if order is None else order), 0
    for name in names:
        array = tensors[name]
        header[name] = {
            "dtype": DTYPE_NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    if len(encoded) % 4 == 0:
        encoded += b" "  # an odd length, so that no reader may rely on alignment
    encoded = encoded.ljust(header_bytes)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in names:
            file.write(np.ascontiguousarray(tensors[name]).data)


def config_json(config: Config) -> dict[str, Any]:
    """The config as `transformers` writes it."""
    fixed = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    tokens = {"bos_token_id": config.vocab_size - 1, "eos_token_id": config.vocab_size - 1}
    return {**fixed, **asdict(config), **tokens}


def write_checkpoint(folder: Path, config: Config, tensors: Tensors, prefix: str = "") -> Path:
    """Write `config.json` and `model.safetensors` as the official repositories hold them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(config), indent=2), encoding="utf-8")
    mask = np.tri(config.n_positions, dtype=np.float32)[None, None]
    masks = {f"h.{layer}.attn.bias": mask for layer in range(config.n_layer)}
    named = {
        name if name == "lm_head.weight" else prefix + name: array
        for name, array in (tensors | masks).items()
    }
    order = sorted(named, key=lambda name: name[::-1])  # some order that is not the alphabet's
    header_bytes = 0 if prefix else OFFICIAL_HEADER_BYTES if config == Config() else 0
    write_safetensors(folder / "model.safetensors", named, order, header_bytes)
    return folder


def main() -> None:
    """Write one checkpoint into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="where config.json and model.safetensors are written")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights (0)")
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
        default = getattr(Config(), name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"as in config.json ({default})")
    arguments = vars(parser.parse_args())
    folder, seed = arguments.pop("folder"), arguments.pop("seed")
    config = Config(**arguments)
    write_checkpoint(folder, config, random_tensors(config, seed))


if __name__ == "__main__":
    main()
