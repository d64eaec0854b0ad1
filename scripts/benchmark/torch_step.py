"""The opponents of the training benchmark: a step of nanoGPT's model, and of `transformers`', in torch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigpt.parameters import Config


class NanoBlock(nn.Module):
    """A block as nanoGPT trains it on characters: no biases, fused attention, the exact GELU."""

    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd, bias=False), nn.LayerNorm(n_embd, bias=False)
        self.c_attn, self.attn_proj = linear(n_embd, 3 * n_embd), linear(n_embd, n_embd)
        self.c_fc, self.mlp_proj = linear(n_embd, 4 * n_embd), linear(4 * n_embd, n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then MLP."""
        parts = self.c_attn(self.ln_1(x)).split(x.shape[-1], dim=-1)
        q, k, v = (part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(mixed.transpose(1, 2).flatten(2))
        out: Tensor = self.mlp_proj(functional.gelu(self.c_fc(self.ln_2(x))))
        return x + out


def linear(n_in: int, n_out: int) -> nn.Linear:
    """Without a bias."""
    return nn.Linear(n_in, n_out, bias=False)


class NanoGPT(nn.Module):
    """A GPT of plain torch with nanoGPT's choices, and its initialisation; the head is the embedding."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(NanoBlock(config.n_embd, config.n_head) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                narrow = (2 * config.n_layer) ** -0.5 if "_proj" in name else 1.0
                nn.init.normal_(parameter, std=0.02 * narrow)

    def forward(self, ids: Tensor) -> Tensor:
        """The logits."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return functional.linear(self.ln_f(x), self.wte.weight)


def transformers_model(config: Config) -> nn.Module:
    """`GPT2LMHeadModel` without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel  # which NanoGPT's memory should not include

    sizes = {
        name: getattr(config, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    }
    return GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0))


def adamw(model: nn.Module, rate: float, betas: tuple[float, float], epsilon: float, decay: float) -> Any:
    """torch's AdamW, in which tables and matrices decay and nothing else does."""
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decays], "weight_decay": decay * decays}
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, rate, betas, epsilon)


def stepper(
    model: nn.Module, optimizer: Any, ids: Tensor, targets: Tensor, clip: float
) -> Callable[[], float]:
    """A function that takes one step, and returns the loss before it."""

    def step() -> float:
        answer = model(ids)
        logits = answer if isinstance(answer, Tensor) else answer.logits
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return float(loss.item())

    return step
