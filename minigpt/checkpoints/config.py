"""Reads `config.json`: what kind of GPT-2 a checkpoint is, or why it is none.

Names, defaults and aliases are those of `transformers.GPT2Config`.
"""

import os
from pathlib import Path
from typing import Any, get_type_hints

from ..checks import check_setting
from ..errors import CheckpointError, ConfigError
from ..parameters import Config
from .reading import folder_of, present, quote, read_json
from .tensors import instead

ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
# GPT2Model is the same network saved without its head, which is the token embedding; GPT2DoubleHeadsModel has
# a second head, for choosing between texts.
ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel")
# What would change the logits and is not computed here. Everything else that a config may hold (dropout,
# initialisation, summaries, generation defaults) changes nothing when the model runs, and
# `reorder_and_upcast_attn` changes nothing in float32.
NOT_COMPUTED = (
    "add_cross_attention",
    "auto_map",
    "is_encoder_decoder",
    "pruned_heads",
    "quantization_config",
)


def read_config(path: str | os.PathLike[str]) -> Config:
    """The config of a checkpoint: `config.json` in the folder, or beside the safetensors file.

    Absent values are those of `transformers.GPT2Config`. Raises `ConfigError` for what is not GPT-2, for
    what is not computed here, and for values of the wrong type or out of range.
    """
    folder = folder_of(Path(path))
    if not present(folder / "config.json"):
        lack = "no config.json, which stands beside the weights in every checkpoint"
        raise CheckpointError(f"{folder}: {lack}{instead(folder)}")
    file = folder / "config.json"
    content = read_json(file)
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: found {quote(content)}; expected an object with GPT-2's settings.")
    _refuse_other_models(content, file)
    try:
        return Config(**_config_values(content))
    except ConfigError as error:
        raise ConfigError(f"{file}: {str(error).removeprefix('config: ')}") from None


def _refuse_other_models(content: dict[str, Any], file: Path) -> None:
    model_type, architectures = content.get("model_type", "gpt2"), content.get("architectures")
    if model_type != "gpt2":
        raise ConfigError(f"{file}: model_type is {quote(model_type)}; minigpt computes 'gpt2' only.")
    known = isinstance(architectures, list) and any(name in ARCHITECTURES for name in architectures)
    if architectures and not known:
        raise ConfigError(f"{file}: architectures is {quote(architectures)}; expected 'GPT2LMHeadModel'.")
    for name in NOT_COMPUTED:
        if content.get(name):
            raise ConfigError(
                f"{file}: {name} is {quote(content[name])}; it would change the logits and is not computed."
            )


def _config_values(content: dict[str, Any]) -> dict[str, Any]:
    kinds, values = get_type_hints(Config), dict[str, Any]()
    for key, value in content.items():
        name = ALIASES.get(key, key)
        if name not in kinds:
            continue
        check_setting(key, value, kinds[name])
        if values.setdefault(name, value) != value:
            raise ConfigError(f"config: {name} is {quote(values[name])} and, as {key}, {quote(value)}.")
    return values
