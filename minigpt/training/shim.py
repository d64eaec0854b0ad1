"""Until minigpt.save is there."""

import json
from dataclasses import asdict

from safetensors.numpy import save_file

from ..model import named_parameters


def save(folder, model, tokenizer, dtype="float32"):
    save_file(named_parameters(model), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], **asdict(model.config)))
    )
