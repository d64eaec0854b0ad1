"""Train the small GPT-2 that ships as weights/tiny with minigpt alone, on a CPU, from a folder of books.

    python -m scripts.tiny.train --books FOLDER --run FOLDER

The model, its way back and AdamW are the package's. Three things that only a run of hours needs are here:

- the softmax covers the tokens that occur in the books (`windows.Vocabulary`), and for most of the run
  only a sample of them (`sampled_softmax`);
- Muon, not AdamW, moves the matrices of the blocks (`muon`);
- half of the windows begin where a prompt would (`windows.Windows`).

Ctrl-C ends the run after its last save, which is some minutes old at most; the same command goes on from
there. The model is in RUN/model, in float16, whenever the run was saved.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

import minigpt
from minigpt.parallel import Threads, available_cores
from minigpt.parameters import Config, arrays_by_name, build, initial_values, transform
from minigpt.training.evaluation import mean_loss, windows_of
from minigpt.training.flat import FlatModel, flatten
from minigpt.training.optimizer import AdamW, clip_factor, gradient_norm
from minigpt.training.state import STATE, State, load_state, save_state
from scripts.tiny.books import HELD_OUT, VOCAB_SIZE, Book, read_books
from scripts.tiny.muon import Muon
from scripts.tiny.sampled_softmax import (
    Columns,
    Ids,
    add_sampled_gradients,
    all_columns,
    draw_columns,
    inclusion_probabilities,
)
from scripts.tiny.windows import Vocabulary, Windows, opening_positions

SAVE_SECONDS = 300.0
HELD_OUT_WINDOWS = 32  # of each held-out book that a test on the way reads
LN_F_BIAS = 0.1
TOGETHER = 2  # windows that go forward and back at once: their arrays stay in a core's own cache


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the books and the number of threads."""

    steps: int = 7200
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 192
    n_positions: int = 256
    batch: int = 16  # windows per step
    matrix_rate: float = 7e-3  # the learning rate of Muon, at its peak, for the blocks' matrices
    other_rate: float = 5e-3  # that of AdamW, for embeddings, biases and layer norms
    weight_decay: float = 0.05
    warmup: float = 0.01  # share of the run over which the learning rates rise from zero
    full_softmax: float = 0.05  # share of the run, at its end, with the whole vocabulary in the softmax
    n_columns: int = 6144  # before that: so many tokens, drawn anew for each step
    seed: int = 0


# ------------------------------------------------------------------------------------------- the run


def new_model(recipe: Recipe, n_vocab: int) -> FlatModel:
    """A model as it is before it has learnt anything.

    The bias of `ln_f` is 0.1 and stays so. That costs nothing, since each row of the embedding can learn its
    token's bias along it, and `full_embedding` relies on it.
    """
    config = Config(
        vocab_size=n_vocab,
        n_positions=recipe.n_positions,
        n_embd=recipe.n_embd,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
    )
    flat = flatten(minigpt.GPT2(config, build(config, initial_values(config, recipe.seed))))
    flat.model.parameters.ln_f.bias[:] = LN_F_BIAS
    return flat


def part_of(flat: FlatModel, start: int, end: int, n_matrix: int) -> FlatModel:
    """A stretch of a flat model that an optimizer takes for the whole of it."""
    places = {
        name: slice(place.start - start, place.stop - start)
        for name, place in flat.places.items()
        if start <= place.start and place.stop <= end
    }
    return FlatModel(flat.model, flat.buffer[start:end], places, n_matrix)


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's factor at a share of the run: linear up, then a half cosine down to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class Run:
    """A model that learns, and everything that its next steps depend on."""

    def __init__(self, recipe: Recipe, counts: np.ndarray) -> None:
        """counts: how often each token occurs in the training books, by compact id."""
        self.recipe, self.step = recipe, 0
        self.flat = new_model(recipe, len(counts))
        self.probabilities = inclusion_probabilities(counts, recipe.n_columns)
        arrays = arrays_by_name(self.flat.model.parameters)
        in_blocks = {name: a for name, a in arrays.items() if name.startswith("h.") and a.ndim == 2}
        self.muon = Muon(in_blocks, recipe.weight_decay)
        n_tables, n_matrix = arrays["wte.weight"].size + arrays["wpe.weight"].size, self.flat.n_matrix
        tables = part_of(self.flat, 0, n_tables, n_tables)
        vectors = part_of(self.flat, n_matrix, self.flat.buffer.size, 0)
        self.adamws = [AdamW(part, 0.9, 0.98, 1e-8, recipe.weight_decay) for part in (tables, vectors)]

    def learn(self, windows: Windows, threads: Threads) -> float:
        """Take one step; returns the batch's loss in nats per token."""
        # Half a step ahead, so that the first step is not wasted on a learning rate of zero.
        progress = (self.step + 0.5) / self.recipe.steps
        ids, targets = windows.at(self.step)
        loss, gradients = batch_gradients(self.flat.model, ids, targets, self.columns(targets), threads)
        gradients["ln_f.bias"][:] = 0
        norm = gradient_norm(gradients, threads)
        if not math.isfinite(norm):
            raise SystemExit(f"the gradient of step {self.step + 1} is {norm}: lower the learning rates")
        factor, rate = clip_factor(norm, 1.0), schedule(progress, self.recipe.warmup)
        self.muon.step(gradients, rate * self.recipe.matrix_rate, factor, threads)
        for adamw in self.adamws:
            adamw.step(gradients, rate * self.recipe.other_rate, factor, threads)
        self.step += 1
        return loss

    def columns(self, targets: Ids) -> Columns:
        """The tokens in this step's softmax."""
        if self.step >= self.recipe.steps * (1 - self.recipe.full_softmax):
            return all_columns(len(self.probabilities))
        random = np.random.default_rng((self.recipe.seed, 1, self.step))
        return draw_columns(self.probabilities, targets, random)

    def arrays(self) -> dict[str, np.ndarray]:
        """What changes from step to step."""
        means = {f"muon.{name}": mean for name, mean in self.muon.means.items()}
        moments = {
            f"adamw.{number}.{name}": getattr(adamw, name)
            for number, adamw in enumerate(self.adamws)
            for name in ("first", "second")
        }
        return {"parameters": self.flat.buffer} | means | moments

    def save(self, folder: Path) -> None:
        """Write the state, whole or not at all."""
        save_state(folder, State(self.arrays(), {"recipe": asdict(self.recipe), "step": self.step}))

    def check(self, state: State) -> None:
        """End the program for another recipe's state; raise `KeyError` or `ValueError` for a broken one."""
        if state.facts["recipe"] != asdict(self.recipe):
            raise SystemExit(f"--run: the folder holds a run with another recipe: {state.facts['recipe']}")
        if {name: array.shape for name, array in state.arrays.items()} != {
            name: array.shape for name, array in self.arrays().items()
        }:
            raise ValueError("arrays")

    def restore(self, folder: Path) -> None:
        """Go on where `save` left off."""
        state = load_state(folder, self.check)
        for name, array in self.arrays().items():
            array[...] = state.arrays[name]
        self.step = state.facts["step"]
        for adamw in self.adamws:
            adamw.steps = self.step


@np.errstate(all="ignore")  # what overflows shows in the gradient's length
def batch_gradients(
    model: minigpt.GPT2, ids: Ids, targets: Ids, columns: Columns, threads: Threads
) -> tuple[float, dict[str, np.ndarray]]:
    """The mean loss of a batch and its gradients: each thread takes a part, and they are added in order."""

    def work(rows: Sequence[int]) -> tuple[float, dict[str, np.ndarray]]:
        loss, total = 0.0, dict[str, np.ndarray]()
        for start in range(rows[0], rows[-1] + 1, TOGETHER):
            part = slice(start, min(start + TOGETHER, rows[-1] + 1))
            loss += add_sampled_gradients(total, model, ids[part], targets[part], columns, targets.size)
        return loss, total

    (loss, total), *others = threads.map(work, threads.split(range(len(ids))))
    for more, gradients in others:
        loss += more
        for name, gradient in gradients.items():
            total[name] += gradient
    return loss, total


# ------------------------------------------------------------------------------------ what comes out


def held_out_loss(model: minigpt.GPT2, books: list[Book], vocabulary: Vocabulary, threads: Threads) -> float:
    """Mean loss in nats per token on the first windows of each held-out book."""
    n_tokens = HELD_OUT_WINDOWS * model.config.n_positions + 1
    parts = [vocabulary.compact(book.ids[:n_tokens]) for book in books]
    windows = [window for ids in parts for window in windows_of(ids, model.config.n_positions)]
    return mean_loss(model, windows, threads)


def full_embedding(
    parameters: minigpt.parameters.Parameters, token_ids: np.ndarray, hidden: Float[np.ndarray, "rows n_embd"]
) -> Float[np.ndarray, "vocab n_embd"]:
    """The (50257, n_embd) embedding: trained rows, and one row for all tokens that never occurred.

    That row must give a low logit in *every* context, and there is one that does so exactly. The
    final layer norm makes a vector z that sums to zero and returns hidden = weight * z + bias; so
    (1 / weight) . hidden = sum(z) + sum(bias / weight) is the same number for every token. A multiple
    of 1 / weight puts the logit 25 nats below the smallest log-normalizer seen in `hidden`:
    all the 15,000 tokens together then have a probability below 1e-6.
    """
    direction = 1 / parameters.ln_f.weight
    constant = (direction * parameters.ln_f.bias).sum()
    logits = hidden @ parameters.wte.T
    highest = logits.max(axis=-1)
    normalizers = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=-1))
    embedding = np.tile(direction * ((normalizers.min() - 25) / constant), (VOCAB_SIZE, 1))
    embedding[token_ids] = parameters.wte
    return embedding


def exported(model: minigpt.GPT2, vocabulary: Vocabulary, sample: Ids) -> minigpt.GPT2:
    """The model with GPT-2's whole vocabulary; sample: ids on which `full_embedding` measures."""
    hidden: dict[str, np.ndarray] = {}
    model(sample, hook=lambda name, array: hidden.setdefault(name, array) if name == "ln_f" else array)
    rows = hidden["ln_f"].reshape(-1, model.config.n_embd)
    embedding = full_embedding(model.parameters, vocabulary.token_ids, rows)
    parameters = transform(
        model.parameters, lambda name, array: embedding if name == "wte.weight" else array.copy()
    )
    return minigpt.GPT2(replace(model.config, vocab_size=VOCAB_SIZE), parameters)


# -------------------------------------------------------------------------------------- command line


def train(run: Run, windows: Windows, threads: Threads) -> Iterator[float]:
    """Take the steps that are left, and yield the loss of each."""
    while run.step < run.recipe.steps:
        yield run.learn(windows, threads)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; every field of `Recipe` is an option of the same name."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--books", type=Path, required=True, help="folder of .txt books")
    parser.add_argument("--run", type=Path, required=True, help="folder for the state and the model")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, metavar="NAME")
    parser.add_argument("--threads", type=int, default=available_cores())
    for name, value in asdict(Recipe()).items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(value), default=value, help=f"default {value}")
    return parser.parse_args(arguments)


def prepare(options: argparse.Namespace) -> tuple[Run, Windows, list[Book], Vocabulary]:
    """Read the books, and the state of the run if there is one."""
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    training, held_out = read_books(options.books, options.held_out)
    vocabulary = Vocabulary(training + held_out)
    ids = np.concatenate([book.ids for book in training])
    compact = vocabulary.compact(ids)
    windows = Windows(compact, opening_positions(ids), recipe.batch, recipe.n_positions, recipe.seed)
    run = Run(recipe, np.bincount(compact, minlength=len(vocabulary)))
    options.run.mkdir(parents=True, exist_ok=True)
    if (options.run / STATE).exists():
        run.restore(options.run)
    print(f"{len(ids):,} training tokens, {len(vocabulary):,} different; {recipe}", flush=True)
    return run, windows, held_out, vocabulary


def main(arguments: list[str] | None = None) -> None:
    """Train; print how it goes, and save now and then."""
    options = parse_arguments(arguments)
    run, windows, held_out, vocabulary = prepare(options)

    def report(loss: float, seconds: float) -> None:
        tested = held_out_loss(run.flat.model, held_out, vocabulary, threads)
        tokens = run.recipe.batch * run.recipe.n_positions
        print(
            f"step {run.step:,} of {run.recipe.steps:,}: loss {loss:.3f}, held out {tested:.3f} nats; "
            f"{tokens / seconds:,.0f} tokens/s",
            flush=True,
        )

    def save() -> None:
        model = exported(run.flat.model, vocabulary, windows.at(0)[0])
        minigpt.save(options.run / "model", model, minigpt.Tokenizer(), "float16", overwrite=True)
        run.save(options.run)

    with Threads(options.threads) as threads:
        start = saved = time.monotonic()
        first, losses = run.step, list[float]()
        for loss in train(run, windows, threads):
            losses.append(loss)
            if run.step % 100 == 0 or run.step == run.recipe.steps:
                report(sum(losses) / len(losses), (time.monotonic() - start) / (run.step - first))
                losses.clear()
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
        save()


if __name__ == "__main__":
    main()
