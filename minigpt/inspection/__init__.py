"""Looking inside a forward pass, and changing it. Everything here is built on the model's hooks alone.

- `tracing`: every intermediate array by name, with the line of code that made it
- `attention`: who looks at whom
- `lens`: what each block would predict if it were the last
- `attribution`: one logit as a sum of what each part contributed
- `intervention`: ablate a head, patch an activation from another text
- `gallery`: the classic mistakes, and what each does to the logits
- `map`: the names of the paper, the checkpoint, the hooks, `transformers` and `model.py` side by side
- `ledger`, `facts`: this machine's numbers against torch's, and against published ones
- `plots`: figures for notebooks and papers (needs matplotlib)
"""

from .attention import attention_weights, for_bertviz, for_circuitsvis
from .attribution import Attribution, attribute
from .facts import Fact, FactResult, check_fact, official_facts
from .gallery import MISTAKES, Mistake
from .intervention import ablate, chain, intervene, patch
from .lens import Lens, lens_logits, logit_lens, unembed
from .plots import plot_attention, plot_logit_lens, plot_next_tokens, plot_pushes
from .tracing import Intermediate, Trace, trace

__all__ = [
    "MISTAKES", "Attribution", "Fact", "FactResult", "Intermediate", "Lens", "Mistake", "Trace", "ablate",
    "attention_weights", "attribute", "chain", "check_fact", "for_bertviz", "for_circuitsvis", "intervene",
    "lens_logits", "logit_lens", "official_facts", "patch", "plot_attention", "plot_logit_lens",
    "plot_next_tokens", "plot_pushes", "trace", "unembed",
]  # fmt: skip
