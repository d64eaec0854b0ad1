"""Train the small GPT-2 that ships as weights/tiny, on a CPU, from a folder of plain-text books.

    python -m scripts.tiny.train --books FOLDER --run FOLDER --out weights/tiny --minutes 100

Read it from top to bottom: books -> windows of ids -> model -> loss -> optimizers -> loop -> export.
Four things make it quick enough for two CPU cores; each is explained where it happens:

- the softmax covers only the tokens that occur in the books (`Vocabulary`), and for the first part of
  the run only a sample of the rare ones (`sampled_columns`);
- the head and the loss are one operation that never keeps the logits (`HeadCrossEntropy`);
- Muon, not AdamW, updates the matrices of the blocks (`make_optimizers`).
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.tiny.books import END_OF_TEXT, HELD_OUT, VOCAB_SIZE, Book, read_books

# Threads that wait for each other should sleep, not spin: on a machine that does other work as well,
# spinning made this script three times slower. The setting is read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    import torch
    from safetensors.torch import save_file
    from torch import Tensor, nn
    from torch.nn import functional
    from tqdm import tqdm
except ImportError as error:
    raise SystemExit(f"train_tiny needs torch, safetensors and tqdm: {error}") from None


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the books and the length of the run."""

    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 192
    n_positions: int = 256
    batch: int = 16  # windows per step
    matrix_lr: float = 7e-3  # Muon, for the blocks' matrices
    other_lr: float = 5e-3  # AdamW, for embeddings, biases and layer norms
    weight_decay: float = 0.05
    warmup: float = 0.01  # share of the run over which the learning rates rise from zero
    full_softmax: float = 0.1  # share of the run, at its end, with the whole vocabulary in the softmax
    n_frequent: int = 8192  # before that: this many frequent tokens, always,
    n_sampled: int = 2048  # and this many of the others, drawn anew for each step
    seed: int = 0


# ---------------------------------------------------------------------------------------------- data


class Vocabulary:
    """A compact numbering of the tokens that occur in the books, the most frequent first.

    Some 15,000 of GPT-2's 50,257 tokens (code, other scripts, modern names) never occur in them.
    Leaving those out of the softmax saves a third of the work, which is mostly softmax.
    """

    def __init__(self, books: list[Book]) -> None:
        counts = np.zeros(VOCAB_SIZE, dtype=np.int64)
        for book in books:
            counts += np.bincount(book.ids, minlength=VOCAB_SIZE)
        by_frequency = np.argsort(-counts, kind="stable")
        self.token_ids = by_frequency[: np.count_nonzero(counts)]  # compact id -> GPT-2 id
        self._compact_ids = np.full(VOCAB_SIZE, -1)
        self._compact_ids[self.token_ids] = np.arange(len(self.token_ids))

    def __len__(self) -> int:
        return len(self.token_ids)

    def compact(self, ids: np.ndarray) -> np.ndarray:
        """GPT-2 ids -> compact ids."""
        compact: np.ndarray = self._compact_ids[ids]
        return compact


def opening_positions(ids: np.ndarray) -> np.ndarray:
    """Positions where a paragraph or a speech opens: the places at which a prompt would start.

    They are the word-like tokens without a leading space after a line break or a quotation mark.
    """
    from minigpt.tokenizer import Tokenizer

    tokenizer = Tokenizer()
    texts = [tokenizer.decode([token_id]) for token_id in range(VOCAB_SIZE)]
    breaks = np.array([text.endswith(("\n", '"')) for text in texts])
    words = np.array([text[:1].isupper() for text in texts])
    return np.flatnonzero(breaks[ids[:-1]] & words[ids[1:]]) + 1


class Windows:
    """Training windows as a pure function of the step, so that a resumed run sees what it would have.

    Each epoch cuts the stream of ids into consecutive windows at a new offset and shuffles them. Half
    of them then slide back to the nearest opening (see `opening_positions`): without that, position 0
    would almost always be the middle of a sentence, and the model would be lost on a bare prompt.
    """

    def __init__(self, ids: np.ndarray, openings: np.ndarray, recipe: Recipe) -> None:
        self.ids = torch.from_numpy(ids)
        self.openings = np.concatenate([[0], openings])
        self.length = recipe.n_positions
        self.batch = recipe.batch
        self.seed = recipe.seed
        self.steps_per_epoch = (len(ids) - 2 * self.length) // (self.length * self.batch)
        if self.steps_per_epoch < 1:
            raise SystemExit(f"the books hold {len(ids)} tokens: too few for one batch")
        self._epoch = (-1, np.empty(0, dtype=np.int64))

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The inputs and the targets of a step, both (batch, tokens)."""
        epoch, batch_number = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._starts(epoch))
        starts = self._epoch[1][batch_number * self.batch :][: self.batch]
        positions = torch.from_numpy(starts)[:, None] + torch.arange(self.length + 1)
        windows = self.ids[positions]
        return windows[:, :-1], windows[:, 1:]

    def _starts(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, epoch))
        count = self.steps_per_epoch * self.batch
        starts = random.integers(self.length) + self.length * np.arange(count)
        slid = self.openings[np.searchsorted(self.openings, starts, side="right") - 1]
        starts = np.where(random.random(count) < 0.5, slid, starts)
        return random.permutation(starts)


# --------------------------------------------------------------------------------------------- model


class Block(nn.Module):
    """One transformer block. Parameters have the names and shapes of GPT-2's checkpoint."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        width = recipe.n_embd
        residual_std = 0.02 / math.sqrt(2 * recipe.n_layer)
        self.n_head = recipe.n_head
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": Linear(width, 3 * width)})
        self.attn["c_proj"] = Linear(width, width, std=residual_std)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": Linear(width, 4 * width)})
        self.mlp["c_proj"] = Linear(4 * width, width, std=residual_std)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, n_embd) -> the same shape."""
        x = x + self._attention(self.ln_1(x))
        hidden = functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        update: Tensor = self.mlp["c_proj"](hidden)
        return x + update

    def _attention(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.attn["c_attn"](x).view(batch, tokens, 3, self.n_head, width // self.n_head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.attn["c_proj"](mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class Linear(nn.Module):
    """A linear layer whose weight is stored (in, out), as GPT-2's checkpoint stores it."""

    def __init__(self, n_in: int, n_out: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) * std)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return functional.linear(x, self.weight.T, self.bias)


class GPT2(nn.Module):
    """GPT-2 up to the final layer norm; the head is in the loss."""

    def __init__(self, recipe: Recipe, n_vocab: int) -> None:
        super().__init__()
        self.wte = nn.Parameter(torch.randn(n_vocab, recipe.n_embd) * 0.02)
        self.wpe = nn.Parameter(torch.randn(recipe.n_positions, recipe.n_embd) * 0.01)
        self.h = nn.ModuleList(Block(recipe) for _ in range(recipe.n_layer))
        self.ln_f = nn.LayerNorm(recipe.n_embd)
        # A fixed bias costs nothing (each row of wte can still learn its token's bias along it), and
        # `full_embedding` relies on it.
        nn.init.constant_(self.ln_f.bias, 0.1).requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, tokens) -> the final hidden states, (batch, tokens, n_embd), in float32."""
        with torch.autocast("cpu", torch.bfloat16):  # products in bfloat16, sums in float32
            x = functional.embedding(ids, self.wte) + self.wpe[: ids.shape[1]]
            for block in self.h:
                x = block(x)
        hidden: Tensor = self.ln_f(x.float())
        return hidden


# ---------------------------------------------------------------------------------------------- loss


class HeadCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `softmax(hidden @ wte.T)`, with the gradients found in the forward pass.

    The logits of one batch would fill more than half a gigabyte and cross the memory bus many times.
    Here a few hundred rows at a time go through one bfloat16 buffer. With e = exp(logits) and
    s = e.sum(), softmax is e / s, and the division can wait until after the products, where it
    touches n_embd numbers per row instead of the whole vocabulary:

        loss     = log(s) - logit[target]
        d hidden = (e @ wte) / s        - wte[target]
        d wte    = e.T @ (hidden / s)   - hidden added to row [target]

    No maximum is subtracted before exp: bfloat16 has float32's range, good for logits up to 88, and
    those of a model this small stay below 40. Past it the loss is infinite, and training stops.

    The columns from `n_exact` on are a sample: each stands for `weight` columns (`sampled_columns`).
    """

    ROWS = 384

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, wte: Tensor, targets: Tensor, n_exact: int, weight: float
    ) -> Tensor:
        """hidden (tokens, n_embd), wte (columns, n_embd), targets (tokens,) -> loss () in nats."""
        n_tokens = len(hidden)
        rows_hidden, head = hidden.bfloat16(), wte.bfloat16()
        d_hidden, d_wte = torch.empty_like(hidden), torch.zeros_like(wte)
        target_logits = (rows_hidden.float() * head[targets].float()).sum(-1)
        buffer = torch.empty(HeadCrossEntropy.ROWS, len(wte), dtype=torch.bfloat16)
        loss = torch.zeros(())
        for start in range(0, n_tokens, HeadCrossEntropy.ROWS):
            rows = slice(start, start + HeadCrossEntropy.ROWS)
            h = rows_hidden[rows]
            e = torch.mm(h, head.T, out=buffer[: len(h)]).exp_()
            e[:, n_exact:] *= weight
            s = row_sums(e)
            d_hidden[rows] = (e @ head).float() / s
            d_wte += e.T @ (h.float() / s).bfloat16()
            loss += (s.squeeze(-1).log() - target_logits[rows]).sum()
        d_hidden -= head[targets].float()
        d_wte.index_add_(0, targets, rows_hidden.float(), alpha=-1)
        ctx.save_for_backward(d_hidden.div_(n_tokens), d_wte.div_(n_tokens))
        return loss / n_tokens

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Scale the gradients that forward has found."""
        d_hidden, d_wte = ctx.saved_tensors
        return d_hidden * grad_outputs[0], d_wte * grad_outputs[0], None, None, None


def row_sums(e: Tensor) -> Tensor:
    """(rows, vocab) bfloat16 -> (rows, 1) float32, in pieces so that their rounding averages out."""
    whole = e.shape[1] // 256 * 256
    pieces = e[:, :whole].view(len(e), -1, 256).sum(-1).float()
    remainder = e[:, whole:].sum(-1, keepdim=True).float()
    return pieces.sum(-1, keepdim=True) + remainder


def cross_entropy(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """Ids (batch, tokens) and the ids that follow each -> their mean loss (), in nats per token."""
    hidden, n_vocab = model(inputs).flatten(0, 1), len(model.wte)
    loss: Tensor = HeadCrossEntropy.apply(hidden, model.wte, targets.flatten(), n_vocab, 1.0)
    return loss


def sampled_cross_entropy(
    model: GPT2, inputs: Tensor, targets: Tensor, recipe: Recipe, random: np.random.Generator
) -> Tensor:
    """An estimate of `cross_entropy` from a third of the vocabulary, 1.7 times as fast to train with.

    Early in a run its gradients had a cosine of 0.997 or more with the exact ones.
    """
    columns, n_exact, weight = sampled_columns(targets, len(model.wte), recipe, random)
    column_of = torch.empty(len(model.wte), dtype=torch.int64)
    column_of[columns] = torch.arange(len(columns))
    hidden, wte = model(inputs).flatten(0, 1), model.wte[columns]
    loss: Tensor = HeadCrossEntropy.apply(hidden, wte, column_of[targets.flatten()], n_exact, weight)
    return loss


def sampled_columns(
    targets: Tensor, n_vocab: int, recipe: Recipe, random: np.random.Generator
) -> tuple[Tensor, int, float]:
    """Choose the columns of an estimated softmax: (columns,), how many are exact, the others' weight.

    The frequent tokens and this batch's targets are all there; the remaining tokens, some 27,000 that
    share a few percent of the probability, are represented by a random draw. Weighted by how many
    each of them stands for, they make the softmax's denominator right on average.
    """
    chosen = np.arange(n_vocab) < recipe.n_frequent
    chosen[targets.numpy()] = True
    exact, others = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    drawn = random.permutation(others)[: recipe.n_sampled]
    weight = len(others) / max(1, len(drawn))
    return torch.from_numpy(np.concatenate([exact, drawn])), len(exact), weight


@torch.no_grad()
def held_out_loss(model: GPT2, books: list[Book], vocabulary: Vocabulary, max_windows: int) -> float:
    """Mean loss in nats per token on the first windows of each held-out book."""
    length = len(model.wpe)
    losses = []
    for book in books:
        ids = torch.from_numpy(vocabulary.compact(book.ids))
        count = min(max_windows, (len(ids) - 1) // length)
        inputs = ids[: count * length].view(count, length)
        targets = ids[1 : count * length + 1]
        losses.append(cross_entropy(model, inputs, targets).item())
    return sum(losses) / len(losses)


# ------------------------------------------------------------------------------------------ training


def make_optimizers(model: GPT2, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest; `lr` is the peak learning rate.

    Muon makes each update's singular values equal before it is applied, so that every direction of a
    matrix learns at the same pace: that is worth about 5 % of the loss here.
    """
    matrices = [p for p in model.h.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1 and p.requires_grad]
    decay = recipe.weight_decay
    muon = torch.optim.Muon(matrices, lr=recipe.matrix_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    groups: list[dict[str, Any]] = [
        {"params": [model.wte, model.wpe], "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe.other_lr, betas=(0.9, 0.98), fused=True)
    optimizers: list[torch.optim.Optimizer] = [muon, adamw]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's factor at a share of the run: linear up, then a half cosine down to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


class Budget:
    """How long to train: a number of steps, or minutes of wall clock (resumed runs add up)."""

    def __init__(self, steps: int | None, minutes: float | None, seconds_before: float) -> None:
        self.steps = steps
        self.minutes = minutes
        self._started = time.monotonic() - seconds_before

    def seconds(self) -> float:
        """Seconds trained so far, earlier runs included."""
        return time.monotonic() - self._started

    def progress(self, step: int) -> float:
        """The share of the budget that is used up at a step, 0 to 1."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None
        return min(1.0, self.seconds() / (60 * self.minutes))


class Run:
    """The state of a run: model, optimizers, step and seconds; saved and restored as one file."""

    def __init__(self, recipe: Recipe, n_vocab: int, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = GPT2(recipe, n_vocab)
        self.optimizers = make_optimizers(self.model, recipe)
        self.step = 0
        self.seconds = 0.0
        self._path = folder / "state.pt"

    def save(self) -> None:
        """Write the state beside its final name, then rename: a crash leaves the previous one."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self._path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._path)

    def restore(self) -> None:
        """Continue where `save` left off."""
        if not self._path.exists():
            raise SystemExit(f"--resume: there is no {self._path}")
        state = torch.load(self._path, weights_only=True)  # numbers, and no code
        if state["recipe"] != asdict(self.recipe):
            raise SystemExit(f"--resume: {self._path} has another recipe: {state['recipe']}")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]


def train_step(run: Run, windows: Windows, progress: float) -> float:
    """One update at a share of the run; returns the batch's loss in nats per token."""
    inputs, targets = windows.at(run.step)
    if progress < 1 - run.recipe.full_softmax:
        random = np.random.default_rng((run.recipe.seed, 1, run.step))
        loss = sampled_cross_entropy(run.model, inputs, targets, run.recipe, random)
    else:
        loss = cross_entropy(run.model, inputs, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0, error_if_nonfinite=True)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * schedule(progress, run.recipe.warmup)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def train(run: Run, windows: Windows, budget: Budget, save_every: float) -> Iterator[float]:
    """Train until the budget is used up, yielding the loss of each step."""
    next_save = time.monotonic() + save_every
    while (progress := budget.progress(run.step)) < 1:
        # Half a step ahead, so that the first step is not wasted on a learning rate of zero.
        if budget.steps is not None:
            progress += 0.5 / budget.steps
        loss = train_step(run, windows, progress)
        run.step += 1
        run.seconds = budget.seconds()
        if time.monotonic() > next_save:
            run.save()
            next_save = time.monotonic() + save_every
        yield loss
    run.save()


# -------------------------------------------------------------------------------------------- export


def full_embedding(model: GPT2, vocabulary: Vocabulary, hidden: Tensor) -> Tensor:
    """The (50257, n_embd) embedding: trained rows, and one row for all tokens that never occurred.

    That row must give a low logit in *every* context, and there is one that does so exactly. The
    final layer norm makes a vector z that sums to zero and returns hidden = weight * z + bias; so
    (1 / weight) . hidden = sum(z) + sum(bias / weight) is the same number for every token. A multiple
    of 1 / weight puts the logit 25 nats below the smallest log-normalizer seen in `hidden` (tokens,
    n_embd): all the 15,000 tokens together then have a probability below 1e-6.
    """
    direction = 1 / model.ln_f.weight
    constant = (direction * model.ln_f.bias).sum()
    low_logit = (hidden @ model.wte.T).logsumexp(-1).min() - 25
    embedding: Tensor = (direction * (low_logit / constant)).repeat(VOCAB_SIZE, 1)
    embedding[torch.from_numpy(vocabulary.token_ids)] = model.wte
    return embedding


@torch.no_grad()
def export(model: GPT2, vocabulary: Vocabulary, recipe: Recipe, sample: Tensor, folder: Path) -> None:
    """Write `config.json` and a float16 `model.safetensors` that transformers' GPT2LMHeadModel loads.

    sample: (batch, tokens) compact ids, on which `full_embedding` measures the log-normalizers.
    """
    tensors = {f"transformer.{name}": tensor for name, tensor in model.state_dict().items()}
    del tensors["transformer.wpe"], tensors["transformer.wte"]
    hidden = model(sample).flatten(0, 1)
    tensors["transformer.wte.weight"] = full_embedding(model, vocabulary, hidden)
    tensors["transformer.wpe.weight"] = model.wpe
    half = {name: tensor.detach().half().contiguous() for name, tensor in sorted(tensors.items())}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "model.safetensors.partial"
    save_file(half, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes files that only their owner may read
    partial.replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(recipe), indent=2) + "\n", encoding="utf-8")


def config(recipe: Recipe) -> dict[str, Any]:
    """GPT-2's own config.json, with this model's sizes and without dropout."""
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": END_OF_TEXT,
        "embd_pdrop": 0.0,
        "eos_token_id": END_OF_TEXT,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_ctx": recipe.n_positions,
        "n_embd": recipe.n_embd,
        "n_head": recipe.n_head,
        "n_inner": None,
        "n_layer": recipe.n_layer,
        "n_positions": recipe.n_positions,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": VOCAB_SIZE,
    }


# -------------------------------------------------------------------------------------- command line


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; every field of `Recipe` is an option of the same name."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--books", type=Path, required=True, help="folder of .txt books")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exported model")
    parser.add_argument("--run", type=Path, required=True, help="folder for the resumable state")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run")
    parser.add_argument("--save-every", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--threads", type=int, default=2)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="train for this long by the clock")
    length.add_argument("--steps", type=int, help="train for this many steps (reproducible)")
    for name, value in asdict(Recipe()).items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(value), default=value, help=f"default {value}")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train, print the held-out loss now and then, and export."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    options.run.mkdir(parents=True, exist_ok=True)

    training, held_out = read_books(options.books, options.held_out)
    vocabulary = Vocabulary(training + held_out)
    ids = np.concatenate([book.ids for book in training])
    windows = Windows(vocabulary.compact(ids), opening_positions(ids), recipe)
    run = Run(recipe, len(vocabulary), options.run)
    if options.resume:
        run.restore()
    budget = Budget(options.steps, options.minutes, run.seconds)
    tokens_per_step = recipe.batch * recipe.n_positions
    print(f"{len(ids):,} training tokens, {len(vocabulary):,} different; {recipe}", flush=True)

    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        for loss in train(run, windows, budget, options.save_every):
            speed = run.step * tokens_per_step / run.seconds
            bar.n = round(100 * budget.progress(run.step), 2)
            bar.set_postfix_str(f"step {run.step}, loss {loss:.3f}, {speed:,.0f} tokens/s")
            if run.step % 500 == 0:
                measured = held_out_loss(run.model, held_out, vocabulary, max_windows=32)
                bar.write(f"step {run.step}: held-out loss {measured:.4f}")
                export(run.model, vocabulary, recipe, windows.at(0)[0], options.out)

    measured = held_out_loss(run.model, held_out, vocabulary, max_windows=100_000)
    print(f"{run.step * tokens_per_step:,} tokens in {run.seconds / 60:.1f} minutes")
    print(f"held-out loss {measured:.4f} nats per token")
    export(run.model, vocabulary, recipe, windows.at(0)[0], options.out)


if __name__ == "__main__":
    main()
