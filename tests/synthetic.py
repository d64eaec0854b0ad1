"""Random models for tests: small by default, with the magnitudes of trained weights."""

from pathlib import Path
from typing import Any

import numpy as np

from minigpt.fast import FastGPT2
from minigpt.model import GPT2
from minigpt.parameters import MLP, Attention, Block, Config, LayerNorm, Linear, Parameters
from scripts.benchmark.checkpoint import Tensors, random_tensors, write_checkpoint

SMALL = {"vocab_size": 307, "n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4}


def parameters_of(tensors: Tensors, config: Config) -> Parameters:
    """Arrange named tensors, independently of the loader in minigpt."""

    def pair(kind: Any, name: str) -> Any:
        return kind(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def block(h: str) -> Block:
        return Block(
            pair(LayerNorm, f"{h}.ln_1"),
            Attention(pair(Linear, f"{h}.attn.c_attn"), pair(Linear, f"{h}.attn.c_proj")),
            pair(LayerNorm, f"{h}.ln_2"),
            MLP(pair(Linear, f"{h}.mlp.c_fc"), pair(Linear, f"{h}.mlp.c_proj")),
        )

    wte = tensors["wte.weight"]
    blocks = tuple(block(f"h.{layer}") for layer in range(config.n_layer))
    head = tensors.get("lm_head.weight", wte)
    return Parameters(wte, tensors["wpe.weight"], blocks, pair(LayerNorm, "ln_f"), head)


def random_gpt2(seed: int = 0, dtype: Any = np.float32, **config: Any) -> GPT2:
    """A model with random parameters; config values not given are those of `SMALL`."""
    full = Config(**(SMALL | config))
    tensors = {name: array.astype(dtype) for name, array in random_tensors(full, seed).items()}
    return FastGPT2(full, parameters_of(tensors, full))


def save_checkpoint(folder: Path, seed: int = 0, prefix: str = "", **config: Any) -> Path:
    """The checkpoint of `random_gpt2` with the same seed and config, in the official layout."""
    full = Config(**(SMALL | config))
    return write_checkpoint(folder, full, random_tensors(full, seed), prefix)


def plain(model: GPT2) -> GPT2:
    """The same model, computed by model.py alone."""
    return GPT2(model.config, model.parameters, model.block)
