"""The story of one forward pass, told in a terminal: text, tokens, vectors, logits, probabilities.

Every step names the function that did the work, its file and its line, looked up in the code that runs. The
numbers are those of the forward pass itself, recorded by its hook.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.bar import Bar
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..checkpoints.find import Source
from ..generation import generate_text
from ..inspection import Trace, trace
from ..inspection.tracing import definition, file_name
from ..model import GPT2, n_parameters
from ..sampling import Sampling, probabilities
from ..scoring import NextToken, candidates, next_tokens, rank
from ..tokenizer import Tokenizer
from .document import Context, prompt_ids, read_context, start_generation
from .terminal import WIDEST, console, cut, harmless, sparkline, table, visible

SHORTEST_BAR, LONGEST_BAR = 8, 40
BARS = ""  # the name of the column of bars
STYLES = {"token": "bold", "candidate": "bold", BARS: ""}

Vector = Float[np.ndarray, " n"]
Columns = Mapping[str, Sequence[str | Bar]]


def tell(source: Source, model: GPT2, tokenizer: Tokenizer, args: argparse.Namespace) -> None:
    """Print the story of `args.prompt`, what else was asked for, and what the model goes on to write."""
    out = console()
    out.width = min(out.width, WIDEST)
    ids = prompt_ids(model, tokenizer, args.prompt)
    passed = trace(model, ids, names=shown(model), logits_to_keep=1)
    context = Context(args.prompt, ids, passed.logits[-1])
    others = [read_context(model, tokenizer, prompt) for prompt in args.compare]
    tokens = [token_label(tokenizer, token_id) for token_id in ids]

    tell_title(out, source, model)
    tell_tokens(out, context, tokens)
    tell_embedding(out, passed, tokens)
    tell_blocks(out, passed, tokens)
    tell_logits(out, passed, context)
    tell_probabilities(out, context, tokenizer, args)
    if not (args.candidates or args.compare or args.max_new_tokens or args.html):
        hint = 'Next: -n 40 writes on, --compare "I hate" compares, --help has the rest.'
        say(out, Text(hint, "dim"))
    if args.candidates:
        tell_candidates(out, model, tokenizer, context, args)
    if others:
        tell_comparison(out, tokenizer, [context, *others], args)
    if args.max_new_tokens:
        for prompt in (args.prompt, *args.compare):
            tell_continuation(out, model, tokenizer, prompt, args)


def shown(model: GPT2) -> tuple[str, ...]:
    """The intermediates that the story shows."""
    last = model.config.n_layer - 1
    return "wte", "wpe", "h.0.resid_pre", "h.*.resid_post", f"h.{last}.attn.weights", "logits"


# ---------------------------------------------------------------------------------------------- the steps


def tell_title(out: Console, source: Source, model: GPT2) -> None:
    """Which model speaks, and how large it is."""
    config, millions = model.config, n_parameters(model) / 1e6
    size = f"{millions:,.1f} million parameters, {config.n_layer} blocks, {config.n_head} heads"
    heading(out, harmless(f"{Path(source.name).name or source.name}: {size}"), harmless(source.origin))


def tell_tokens(out: Console, context: Context, tokens: list[str]) -> None:
    """Step 1: the tokens and their ids."""
    step(out, "1", "Text becomes tokens", where(Tokenizer.encode))
    if context.prompt:
        say(out, "An id is a token's place in a list of 50,257 pieces of text; ␣ is a space.")
    else:
        say(out, "The prompt is empty: the model starts from <|endoftext|>, the sign between texts.")
    lines = {
        "position": [str(position) for position in range(len(tokens))],
        "token": tokens,
        "id": [str(token_id) for token_id in context.ids],
    }
    say(out, *side_by_side(lines, room(out)))


def tell_embedding(out: Console, passed: Trace, tokens: list[str]) -> None:
    """Step 2: the last token's vector, and what it is the sum of."""
    n_embd = passed.model.config.n_embd
    step(out, "2", f"Tokens become vectors of {n_embd} numbers", made(passed, "wte"))
    say(out, "A row of the table of tokens, plus a row of the table of positions.")
    parts = {
        f"  {tokens[-1]}": passed["wte"][-1],
        f"+ position {len(tokens) - 1}": passed["wpe"][-1],
        "= vector": passed["h.0.resid_pre"][-1],
    }
    left = room(out) - max(map(cell_len, parts)) - len("   ...  length 100.00")
    count = min(max(left // 8, 1), n_embd)
    facts(out, *(
        (name, " ".join(f"{x:7.3f}" for x in vector[:count]) + " ...", f"length {length(vector):.2f}")
        for name, vector in parts.items()
    ))  # fmt: skip


def length(vector: Vector) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(vector.astype(np.float64)))


def tell_blocks(out: Console, passed: Trace, tokens: list[str]) -> None:
    """Step 3: how the residual stream grows, and what the last token attends to."""
    n_layer, token = passed.model.config.n_layer, tokens[-1]
    step(out, "3", f"The vectors pass through {n_layer} blocks", made(passed, "h.0.resid_post"))
    say(out, "Attention brings what earlier tokens hold; a small network (MLP) reworks it.")
    stream = [passed["h.0.resid_pre"], *passed.select("h.*.resid_post").values()]
    lengths = [length(x[-1]) for x in stream]
    name = f"h.{n_layer - 1}.attn.weights"
    growth = f"{lengths[0]:.1f} {sparkline(lengths)} {lengths[-1]:.1f}"
    weights = passed[name][:, -1]  # (n_head, tokens): of the last token as the query
    mean = weights.mean(axis=0)
    most = np.argsort(-mean, kind="stable")[:3]
    head, key = np.unravel_index(weights.argmax(), weights.shape)
    facts(
        out,
        (f"length of {token}", growth, "after each block"),
        (f"{token} attends to", "  ".join(f"{tokens[t]} {percent(mean[t])}" for t in most),
         f"last block, mean of {len(weights)} heads"),
        (f"head {head} alone", f"{tokens[key]} {percent(weights[head, key])}", made(passed, name)),
    )  # fmt: skip


def tell_logits(out: Console, passed: Trace, context: Context) -> None:
    """Step 3-1: one score for each token of the vocabulary."""
    logits = context.logits
    step(out, "3-1", "Logits: a score for every token", made(passed, "logits"))
    say(out, "The last vector, normalised, times each token's row of step 2's table.")
    counts, _ = np.histogram(logits, bins=max(8, min(40, out.width - 50)))
    spread = f"{logits.min():.2f} {sparkline(counts.tolist())} {logits.max():.2f}"
    facts(out, (f"all {len(logits):,}", spread, "height: how many"))
    negative, total = np.count_nonzero(logits < 0), logits.sum(dtype=np.float64)
    say(out, f"Scores, not probabilities: {negative:,} are negative, and the sum is {total:,.0f}.")


def tell_probabilities(
    out: Console, context: Context, tokenizer: Tokenizer, args: argparse.Namespace
) -> None:
    """Step 3-2: the likeliest next tokens, and what they would be at other temperatures."""
    step(out, "3-2", "Softmax makes them probabilities", where(probabilities))
    t = args.temperature
    if t == 0:
        say(out, "Temperature T = 0 is the limit: the largest logit takes everything.")
    else:
        say(out, f"e^(logit/T), divided by the sum of them all. The temperature T is {t:g}.")
    found = next_tokens(context.logits, tokenizer, args.top, t)
    columns = next_token_columns(context.logits, tokenizer, found, args)
    order = dict.fromkeys(["token", f"T={t:g}", "kept", "logit", "rank", BARS, *columns])
    say(out, filled(columns, [name for name in order if name in columns], room(out)))
    say(out, "A lower T sharpens, a higher T flattens; the order stays the same.")
    if "kept" in columns:
        say(out, "kept: what --top-k, --top-p and --min-p leave to draw the next token from.")
    best = found[0].id
    before = context.prompt if len(context.prompt) <= 40 else f"…{context.prompt[-39:]}"
    label, piece = (
        (token_label(tokenizer, best), "bold green"),
        (harmless(tokenizer.decode([best])), "bold green"),
    )
    out.print()
    say(out, Text.assemble("The likeliest next token is ", label, f":  {harmless(before)}", piece))


def next_token_columns(
    logits: Vector, tokenizer: Tokenizer, found: list[NextToken], args: argparse.Namespace
) -> dict[str, list[str | Bar]]:
    """Rank, token, logit, probability, bar, and the probabilities in other circumstances."""
    ids = [row.id for row in found]
    labels = (token_label(tokenizer, token_id) for token_id in ids)
    (chosen, p), *others = distributions(logits, args).items()

    def column(p: Vector) -> list[str | Bar]:
        return [*map(percent, p[ids]), percent(np.delete(p, ids).sum())]

    return {
        "rank": [*(str(row.rank) for row in found), ""],
        "token": [*labels, f"{len(logits) - len(ids):,} others"],
        "logit": [*(f"{row.logit:.2f}" for row in found), ""],
        chosen: column(p),
        BARS: [*(Bar(1.0, 0.0, row.probability / found[0].probability, color="green") for row in found), ""],
        **{
            name: ["cut" if name == "kept" and cell == "0%" else cell for cell in column(p)]
            for name, p in others
        },
    }


def distributions(logits: Vector, args: argparse.Namespace) -> dict[str, Vector]:
    """Probabilities at the temperature asked for, what is left of them by cuts, and at two other ones."""
    t = args.temperature
    result = {f"T={t:g}": probabilities(logits, t)}
    sampling = Sampling(t, args.top_k, args.top_p, args.min_p)
    kept = sampling.cut(sampling.rescale(logits, []))
    if t > 0 and np.isneginf(kept).any():
        result["kept"] = probabilities(kept)
    for other in (0.5, 1.0) if t == 0 else (t / 2, min(2 * t, sys.float_info.max)):
        result[f"T={other:g}"] = probabilities(logits, other)
    return result


# --------------------------------------------------------------------------------------- what else was asked


def tell_candidates(
    out: Console, model: GPT2, tokenizer: Tokenizer, context: Context, args: argparse.Namespace
) -> None:
    """The logits of continuations of the reader's choice."""
    step(out, "", "The candidates", where(candidates))
    found = candidates(model, tokenizer, context.ids, context.logits, args.candidates, args.temperature)
    chosen = f"T={args.temperature:g}"
    columns = {
        "candidate": [visible(row.text) for row in found],
        "logit": [f"{row.logit:.2f}" for row in found],
        chosen: [f"{100 * row.probability:.3g}%" for row in found],
        "rank": [f"{row.rank:,}" for row in found],
        "log-probability": [f"{row.logprob:.3f}" for row in found],
    }
    say(out, filled(columns, ["candidate", chosen, "logit", "rank", "log-probability"], room(out)))
    if any(len(row.ids) > 1 for row in found):
        say(out, "The log-probability (T=1) is of all its tokens, the rest of the first one.")
    if context.prompt[-1:].isalpha() and (glued := [row.text for row in found if row.text[0].isalpha()]):
        say(
            out,
            harmless(
                f'"{glued[0]}" goes on with the last word; the next word is " {glued[0]}", with its space.'
            ),
        )


def tell_comparison(
    out: Console, tokenizer: Tokenizer, contexts: Sequence[Context], args: argparse.Namespace
) -> None:
    """The same tokens after several prompts, as many beside each other as there is room for."""
    step(out, "", "The same tokens after other prompts", where(next_tokens))
    ids = compared_ids(tokenizer, contexts, args)
    tokens = [token_label(tokenizer, token_id) for token_id in ids]
    left = room(out) - max(map(cell_len, ["token", *tokens])) - 2
    width = FIELD * max(1, min(left // FIELD, 3))
    at_once = max(1, (left + 2) // (width + 2))
    for start in range(0, len(contexts), at_once):
        result = table("token")
        result.columns[0].style = STYLES["token"]
        columns = [tokens]
        for context in contexts[start : start + at_once]:
            header, *cells = (line[:width] for line in context_column(context, ids, args.temperature))
            result.add_column(f"{cut(context_name(context), width):>{width}}\n{header}", no_wrap=True)
            columns.append(cells)
        for row in zip(*columns, strict=True):
            result.add_row(*row)
        say(out, result)
    say(out, "The model is the same, only the context is another: logits are never fixed.")


FIELD = 8  # columns for each number of a comparison


def context_column(context: Context, ids: list[int], temperature: float) -> Iterator[str]:
    """What a context makes of some tokens: logit, probability, rank, and first of all their headings."""
    yield f"{'logit':>{FIELD}}{f'T={temperature:g}':>{FIELD}}{'rank':>{FIELD}}"
    p = probabilities(context.logits, temperature)
    for token_id in ids:
        place = f"{rank(context.logits, token_id):,}"
        yield f"{context.logits[token_id]:{FIELD}.2f}{percent(p[token_id]):>{FIELD}}{place:>{FIELD}}"


def context_name(context: Context) -> str:
    """A prompt as a heading."""
    return visible(context.prompt).replace("␣", " ") or "<|endoftext|>"


def compared_ids(tokenizer: Tokenizer, contexts: Sequence[Context], args: argparse.Namespace) -> list[int]:
    """The first tokens of the candidates, or else all that are likely in one of the contexts."""
    if args.candidates:
        found = [tokenizer.encode(text)[0] for text in args.candidates]
    else:
        found = [row.id for context in contexts for row in next_tokens(context.logits, tokenizer, args.top)]
    return list(dict.fromkeys(found))


ENDINGS = {
    "max_new_tokens": "as many as were asked for",
    "stop_id": "the last is <|endoftext|>, with which the model ends a text",
    "stop_text": "the text to stop at came next",
    "context_full": "the context is full",
}


def tell_continuation(
    out: Console, model: GPT2, tokenizer: Tokenizer, prompt: str, args: argparse.Namespace
) -> None:
    """What the model writes, while it writes it."""
    step(out, "", "The model goes on, token after token", where(generate_text))
    generation = start_generation(model, tokenizer, prompt, args)
    out.print(Text(harmless(prompt), "dim"), end="", soft_wrap=True)
    for piece in generation:
        out.print(harmless(piece), end="", soft_wrap=True)
    out.print()
    say(out, Text(f"({len(generation.ids)} tokens: {ENDINGS[str(generation.stop_reason)]})", "dim"))


# ------------------------------------------------------------------------------------------------- layout


def step(out: Console, number: str, title: str, aside: str) -> None:
    """Begin a step of the story."""
    out.print()
    heading(out, title, aside, f"{number:<4}" if number else "")


def heading(out: Console, title: str, aside: str, number: str = "") -> None:
    """A title; the aside, such as where it is in the code, stands at the right, or else below."""
    left = Text.assemble((number, "bold cyan"), (title, "bold"))
    gap = out.width - left.cell_len - cell_len(aside)
    if gap >= 2:
        out.print(Text.assemble(left, " " * gap, (aside, "dim")))
    else:
        out.print(left)
        say(out, Text(aside, "dim"))


def say(out: Console, *content: str | Text | Table) -> None:
    """Print under a heading, each on lines of its own."""
    for each in content:
        out.print(Padding(each, (0, 0, 0, out.width - room(out)), expand=False))


def room(out: Console) -> int:
    """How many columns there are under a heading: all, if they are few."""
    return out.width - 4 if out.width >= 40 else out.width


def facts(out: Console, *lines: tuple[str, str, str]) -> None:
    """Labels, what there is to say of them, and remarks: in columns if these fit, else as sentences."""
    if sum(max(map(cell_len, column)) + 2 for column in zip(*lines, strict=True)) <= room(out) + 2:
        result = table("", "", "")
        result.show_header = False
        for line in lines:
            result.add_row(*line)
        say(out, result)
    else:
        say(out, *(f"{label}: {content}; {remark}" for label, content, remark in lines))


def filled(columns: Columns, order: Sequence[str], width: int) -> Table:
    """A table of as many of these columns as fit, the first of `order` before the others."""
    widths = {
        name: SHORTEST_BAR + 2 if name == BARS else max(cell_len(str(cell)) for cell in (name, *cells)) + 2
        for name, cells in columns.items()
    }
    names = order[: fitting([widths[name] for name in order], width + 2)]
    shown = {name: cells for name, cells in columns.items() if name in names}
    result = table(*shown, right=[name for name in shown if name not in STYLES])
    for name, column in zip(shown, result.columns, strict=True):
        column.style = STYLES.get(name, "")
        if name == BARS:  # takes what the others leave
            column.no_wrap, column.max_width = False, LONGEST_BAR
        else:
            column.width = widths[name] - 2  # known: rich would render every cell to measure it
    for row in zip(*shown.values(), strict=True):
        result.add_row(*row)
    return result


def side_by_side(lines: Columns, width: int) -> Iterator[Text]:
    """Labelled lines of columns, on two levels if need be; of what is longer, the beginning and the end."""
    columns = list(zip(*lines.values(), strict=True))
    widths = [max(map(cell_len, column)) + 2 for column in columns]
    label = max(map(len, lines)) + 2
    first = fitting(widths, width - label)
    rest = fitting(widths[first:], width - label)
    if first + rest < len(columns):
        rest = fitting(widths[::-1], width - label)
    for group in (range(first), range(len(columns) - rest, len(columns))):
        if group and group.start > first:
            yield Text(f"... {group.start - first:,} more ...", "dim")
        for row, name in enumerate(lines) if group else ():
            line = Text(f"{name:<{label}}", "dim")
            for index in group:
                line.append(set_cell_size(columns[index][row], widths[index]), STYLES.get(name, "none"))
            line.rstrip()
            yield line


def fitting(widths: Sequence[int], width: int) -> int:
    """How many columns from the left fit; one always does."""
    n = len(list(takewhile(lambda used: used <= width, accumulate(widths))))
    return max(n, min(1, len(widths)))


def token_label(tokenizer: Tokenizer, token_id: int) -> str:
    """A token for the eye; half a character shows as its bytes."""
    return cut(visible(tokenizer.token_bytes(token_id)), 24)


def percent(probability: float | np.floating[Any]) -> str:
    """A probability to compare at a glance; what is not 0 does not look like it."""
    if probability == 0:
        return "0%"
    return "<0.1%" if probability < 0.0005 else f"{100 * probability:.1f}%"


def where(function: Callable[..., Any]) -> str:
    """A function's name, file and line."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_qualname}  {file_name(code.co_filename)}:{definition(function)[1]}"


def made(passed: Trace, name: str) -> str:
    """The function that computed an intermediate, and the line that did it."""
    found = passed.intermediates[name]
    return f"{found.function}  {file_name(found.path)}:{found.line}"
