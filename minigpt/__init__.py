"""minigpt: GPT-2 written from scratch in NumPy, to be read, run and checked.

    import minigpt

    model, tokenizer = minigpt.load("gpt2")
    ids = tokenizer.encode("I love")
    logits = model(ids)  # (tokens, vocabulary)
    minigpt.probabilities(logits[-1], temperature=0.7)

Each public name is imported when it is first used, so that `import minigpt` costs nothing.
"""

import os
import sys

# Under -m, Python looks for modules in the working folder first, where somebody's numpy.py may lie. A program
# is called "-m" while Python still looks for it; `import minigpt` anywhere else leaves the path alone.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != __file__.rsplit(os.sep, 2)[0]:
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers and editors, which do not run `__getattr__`
    from .checkpoints.load import load as load
    from .checkpoints.load import load_model as load_model
    from .checkpoints.saving import save as save
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import ContextLengthError as ContextLengthError
    from .errors import DownloadError as DownloadError
    from .errors import HookError as HookError
    from .errors import InputError as InputError
    from .errors import MiniGPTError as MiniGPTError
    from .errors import NumericsError as NumericsError
    from .generation import beam_search as beam_search
    from .generation import generate as generate
    from .generation import generate_batch as generate_batch
    from .generation import generate_text as generate_text
    from .inspection import trace as trace
    from .model import GPT2 as GPT2
    from .model import KVCache as KVCache
    from .model import named_parameters as named_parameters
    from .parameters import Config as Config
    from .sampling import probabilities as probabilities
    from .scoring import continuation_logprob as continuation_logprob
    from .scoring import perplexity as perplexity
    from .scoring import token_logprobs as token_logprobs
    from .tape import gradients as gradients
    from .tokenizer import Tokenizer as Tokenizer
    from .training.data import read_corpus as read_corpus
    from .training.loop import resume as resume
    from .training.loop import train as train
    from .training.pairs import Pair as Pair
    from .training.pairs import read_pairs as read_pairs
    from .training.prefer import PreferenceSettings as PreferenceSettings
    from .training.prefer import prefer as prefer
    from .training.pushes import pushes as pushes
    from .training.settings import TrainingSettings as TrainingSettings

_HOME = {
    "load": "checkpoints.load",
    "load_model": "checkpoints.load",
    "save": "checkpoints.saving",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "ContextLengthError": "errors",
    "DownloadError": "errors",
    "HookError": "errors",
    "InputError": "errors",
    "MiniGPTError": "errors",
    "NumericsError": "errors",
    "beam_search": "generation",
    "generate": "generation",
    "generate_batch": "generation",
    "generate_text": "generation",
    "trace": "inspection",
    "Config": "parameters",
    "GPT2": "model",
    "KVCache": "model",
    "named_parameters": "model",
    "probabilities": "sampling",
    "continuation_logprob": "scoring",
    "perplexity": "scoring",
    "token_logprobs": "scoring",
    "gradients": "tape",
    "Tokenizer": "tokenizer",
    "read_corpus": "training.data",
    "resume": "training.loop",
    "train": "training.loop",
    "Pair": "training.pairs",
    "read_pairs": "training.pairs",
    "PreferenceSettings": "training.prefer",
    "prefer": "training.prefer",
    "pushes": "training.pushes",
    "TrainingSettings": "training.settings",
}
__all__ = list(_HOME)
# What is used by its own name, as in `minigpt.practice.check` and `minigpt.page.show`.
_MODULES = ("backward", "inspection", "model", "page", "practice", "simple", "training")


if not TYPE_CHECKING:  # which would take it to mean that any name exists

    def __getattr__(name: str) -> object:
        """Import a public name from the module that it lives in (PEP 562)."""
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value  # from now on without this detour
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
