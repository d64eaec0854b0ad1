"""The story of one forward pass, told in a terminal: text, tokens, vectors, logits, probabilities.

Every step names the function that did the work, its file and its line, looked up in the code that runs. The
numbers are those of the forward pass itself, recorded by its hook.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..generation import generate_text
from ..hooks import Hook
from ..inspection.lens import unembed
from ..inspection.tracing import Trace, definition, file_name, trace
from ..model import GPT2, n_parameters
from ..sampling import Sampling, probabilities
from ..scoring import NextToken, candidates, never_seen, never_seen_note, next_tokens
from ..tokenizer import text_of
from .comparison import comparison_columns, comparison_notes
from .document import choose_seed, read_candidates, save_page, start_generation, tell_page
from .options import PromptOptions
from .passes import Context, Reading, check_finite, look, model_name, open_prompts, run_pass
from .tables import WIDEST, Column, chunks, console, cut, print_table
from .terminal import for_stdout, harmless, percent, sparkline, visible

LONGEST_LABEL = 24  # columns for a token
Vector = Float[np.ndarray, " n"]


def run(options: PromptOptions) -> None:
    """The main road for a person: write the page, tell the story, or print the text alone."""
    readings, seed = open_prompts(options), choose_seed(options)
    page = save_page(readings, options, seed)
    if options.text:
        for reading in readings:
            print_text(reading, options, seed)
    else:
        tell(readings, options, seed)
    tell_page(page)


def print_text(reading: Reading, options: PromptOptions, seed: int) -> None:
    """What the model writes and nothing else, exactly as it is unless a terminal would obey it."""
    for piece in start_generation(reading, options, seed):
        print(for_stdout(piece), end="", flush=True)
    print()


def tell(readings: Sequence[Reading], options: PromptOptions, seed: int) -> None:
    """The story of the first prompt, what else was asked for, and what the model goes on to write."""
    out = console()
    out.width = min(out.width, WIDEST)
    reading = readings[0]
    passed = look(lambda hook: trace_of(reading, hook), reading.changes)
    context = Context(reading, passed.logits[-1])
    others = [run_pass(other) for other in readings[1:]]

    tell_title(out, reading)
    tell_tokens(out, reading)
    tell_embedding(out, passed, reading)
    tell_blocks(out, passed, reading)
    tell_lens(out, passed, context)
    tell_logits(out, passed, context)
    tell_probabilities(out, context, options)
    if options.candidates:
        tell_candidates(out, context, options)
    if others:
        tell_comparison(out, [context, *others], options)
    for each in readings if options.max_new_tokens else ():
        is_another = each.checkpoint is not reading.checkpoint
        who = model_name(each.checkpoint.source) if is_another else "The model"
        tell_continuation(out, each, options, who, seed)


def trace_of(reading: Reading, hook: Hook | None) -> Trace:
    """The forward pass with the intermediates that the story shows."""
    model = reading.checkpoint.model
    names = ("wte", "wpe", "h.0.resid_pre", "h.*.resid_post", f"{last_block(model)}.attn.weights", "logits")
    # A hook gets the logits of all tokens, as it would in model(ids, hook=hook).
    passed = trace(model, reading.ids, names=names, hook=hook, logits_to_keep=hook is None)
    check_finite(passed.logits[-1])
    return passed


def last_block(model: GPT2) -> str:
    """The name of the last block."""
    return f"h.{model.config.n_layer - 1}"


# ---------------------------------------------------------------------------------------------- the steps


def tell_title(out: Console, reading: Reading) -> None:
    """Which model speaks, how large it is, and what is changed in it."""
    source, model = reading.checkpoint.source, reading.checkpoint.model
    config, millions = model.config, n_parameters(model) / 1e6
    size = f"{millions:,.1f} million parameters, {config.n_layer} blocks, {config.n_head} heads"
    heading(out, f"{model_name(source)}: {size}", harmless(source.origin))
    for change in reading.changes.words:
        out.print(f"changed: {change}")


def tell_tokens(out: Console, reading: Reading) -> None:
    """Step 1: the tokens and their ids."""
    tokenizer, tokens = reading.checkpoint.tokenizer, labels(reading)
    step(out, "1", "Text becomes tokens", where(type(tokenizer).encode))
    if reading.prompt:
        say(out, f"An id is a token's place in a list of {tokenizer.n_vocab:,} pieces of text; ␣ is a space.")
    else:
        say(out, f"The prompt is empty: the model starts from {tokens[0]}, the sign between texts.")
    names = Column("", ["position", "token", "id"], style="dim")
    columns = [
        Column("", [str(position), Text(token, "bold"), str(token_id)])
        for position, (token, token_id) in enumerate(zip(tokens, reading.ids, strict=True))
    ]
    width = room(out) - names.widths[0] - 2
    first = chunks(columns, width)[0]
    rest = columns[len(first) :]
    last = chunks(rest[::-1], width)[0][::-1] if rest else []
    print_table(out, [names, *first], narrow="continue", indent=indent(out))
    if len(rest) > len(last):
        say(out, Text(f"... {len(rest) - len(last):,} more ...", "dim"))
    if last:
        print_table(out, [names, *last], narrow="continue", indent=indent(out))
    if unseen := never_seen(reading.checkpoint.model, reading.ids):
        say(out, never_seen_note(len(unseen), len(tokens)))


def tell_embedding(out: Console, passed: Trace, reading: Reading) -> None:
    """Step 2: the last token's vector, and what it is the sum of."""
    n_embd = passed.model.config.n_embd
    step(out, "2", f"Embedding: tokens become vectors of {n_embd} numbers", line_of(passed, "wte"))
    say(out, "A row of the table of tokens, plus a row of the table of positions.")
    parts = {
        f"  {labels(reading)[-1]}": passed["wte"][-1],
        f"+ position {len(reading.ids) - 1}": passed["wpe"][-1],
        "= vector": passed["h.0.resid_pre"][-1],
    }
    left = room(out) - max(map(cell_len, parts)) - len("   ...  length 100.00")
    count = min(max(left // 8, 1), n_embd)
    print_facts(out, *(
        (name, " ".join(f"{x:7.3f}" for x in vector[:count]) + " ...", f"length {length(vector):.2f}")
        for name, vector in parts.items()
    ))  # fmt: skip


def length(vector: Vector) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(vector.astype(np.float64)))


def tell_blocks(out: Console, passed: Trace, reading: Reading) -> None:
    """Step 3: how the residual stream grows, and what the last token attends to."""
    tokens, n_layer = labels(reading), passed.model.config.n_layer
    step(out, "3", f"The vectors pass through {n_layer} blocks", line_of(passed, "h.0.resid_post"))
    say(out, "Attention brings what earlier tokens hold; a small network (MLP) reworks it.")
    stream = [passed["h.0.resid_pre"], *passed.select("h.*.resid_post").values()]
    lengths = [length(x[-1]) for x in stream]
    name = f"{last_block(passed.model)}.attn.weights"
    growth = f"{lengths[0]:.1f} {sparkline(lengths)} {lengths[-1]:.1f}"
    weights = passed[name][:, -1]  # (n_head, tokens): of the last token as the query
    mean = weights.mean(axis=0)
    most = np.argsort(-mean, kind="stable")[:3]
    head, key = np.unravel_index(weights.argmax(), weights.shape)
    print_facts(
        out,
        (f"length of {tokens[-1]}", growth, "after each block"),
        (f"{tokens[-1]} attends to", "  ".join(f"{tokens[t]} {percent(mean[t])}" for t in most),
         f"last block, mean of {len(weights)} heads"),
        (f"head {head} of block {n_layer - 1}", f"{tokens[key]} {percent(weights[head, key])}",
         f"its largest weight; {line_of(passed, name).split()[-1].rpartition('/')[2]}"),
    )  # fmt: skip


def tell_lens(out: Console, passed: Trace, context: Context) -> None:
    """Step 4: the likeliest next token if each block were the last."""
    step(out, "4", "Logit lens: each block as the last one", where(unembed))
    stream = [passed["h.0.resid_pre"], *passed.select("h.*.resid_post").values()]
    best = [int(unembed(passed.model, x[-1:])[0].argmax()) for x in stream[:-1]]
    best.append(int(context.logits.argmax()))
    say(out, Text(" → ".join(cut(context.checkpoint.label(token_id), 12) for token_id in best)))


def tell_logits(out: Console, passed: Trace, context: Context) -> None:
    """Step 5: one score for each token of the vocabulary."""
    logits = context.logits.astype(np.float64)  # in float32, nearly equal ones leave no room for columns
    step(out, "5", "Logits: a score for every token", line_of(passed, "logits"))
    say(out, "The last vector has seen every token: it is multiplied with each row of wte.")
    counts, _ = np.histogram(logits, bins=max(8, min(40, out.width - 50)))
    spread = f"{logits.min():.2f} {sparkline(counts.tolist())} {logits.max():.2f}"
    print_facts(out, (f"all {len(logits):,}", spread, "height: how many"))
    values, shared = np.unique(logits, return_counts=True)
    if shared.max() > len(logits) // 100:  # tokens that training never met have one row between them
        lone = f"{shared.max():,} tokens, the lone bar, share {values[shared.argmax()]:.2f}"
        say(out, f"{lone}: training never met them.")
    negative = np.count_nonzero(logits < 0)
    say(out, f"Scores, not probabilities: {negative:,} are negative, and the sum is {logits.sum():,.0f}.")
    say(out, "In Python: model(ids)[-1], which transformers calls outputs.logits[0, -1].")


def tell_probabilities(out: Console, context: Context, options: PromptOptions) -> None:
    """Step 6: the likeliest next tokens, and what they would be at other temperatures."""
    checkpoint, t = context.checkpoint, options.temperature
    step(out, "6", "Softmax makes them probabilities", where(probabilities))
    if t == 0:
        say(out, "Temperature T = 0 is the limit: the largest logit takes everything.")
    else:
        say(out, f"e^(logit/T), divided by the sum of them all. The temperature T is {t:g}.")
    rows = next_tokens(context.logits, checkpoint.tokenizer, options.top, t)
    columns = next_token_columns(context, rows, options)
    by_importance = [columns[name] for name in ("bar", "rank", "logit", "kept") if name in columns]
    others = [column for name, column in columns.items() if name.startswith("T=")]
    print_table(
        out, list(columns.values()), drop=[*others[:0:-1], *by_importance, others[0]], indent=indent(out)
    )
    if t > 0 and abs(rows[0].logit) < 100 * t:  # what fits on a line
        powers = np.exp(context.logits.astype(np.float64) / t)
        logit = digits_for_exp(rows[0].logit, t)
        exponent = logit if t == 1 else f"({logit}/{t:g})"
        shares = f"{powers.max():,.0f} of {powers.sum():,.0f} = {percent(rows[0].probability)}"
        say(out, f"The first: e^{exponent} = {shares}.")
    say(out, "A lower T sharpens, a higher T flattens; the order stays the same.")
    if "kept" in columns:
        say(out, "kept: what the options, such as --top-k, leave to draw the next token from.")
    best, prompt = rows[0].id, context.reading.prompt
    before = prompt if len(prompt) <= 40 else f"…{prompt[-39:]}"
    label = Text(cut(checkpoint.label(best), LONGEST_LABEL), "bold green")
    piece = Text(harmless(text_of(checkpoint.tokenizer, [best])), "bold green")
    say(out, Text.assemble("The likeliest next token is ", label, f":  {harmless(before)}", piece))
    if not (options.candidates or options.compare or options.max_new_tokens or options.html):
        hint = 'Next: -n 40 writes on, --compare "I hate" compares, --help has the rest.'
        say(out, Text(hint, "dim"))


def digits_for_exp(logit: float, t: float) -> str:
    """A logit with as many digits as a pocket calculator needs for the same e^(logit/T)."""
    expected = f"{np.exp(logit / t):,.0f}"
    written = [f"{logit:.{digits}f}" for digits in range(2, 8)]
    return next((text for text in written if f"{np.exp(float(text) / t):,.0f}" == expected), written[-1])


def next_token_columns(
    context: Context, rows: Sequence[NextToken], options: PromptOptions
) -> dict[str, Column]:
    """Rank, token, logit, probability, bar, and the probabilities in other circumstances."""
    ids, n_vocab = [row.id for row in rows], len(context.logits)
    tokens = [cut(context.checkpoint.label(token_id), LONGEST_LABEL) for token_id in ids]
    (chosen, p), *others = distributions(context, options).items()

    def shares(name: str, p: Vector) -> Column:
        cells = [*map(percent, p[ids]), percent(np.delete(p, ids).sum())]
        return Column(
            name, ["cut" if name == "kept" and cell == "0%" else cell for cell in cells], right=True
        )

    bars = [row.probability / rows[0].probability for row in rows]
    return {
        "rank": Column("rank", [*(str(row.rank) for row in rows), ""], right=True),
        "token": Column("token", [*tokens, f"{n_vocab - len(ids):,} others"], style="bold"),
        "logit": Column("logit", [*(f"{row.logit:.2f}" for row in rows), ""], right=True),
        chosen: shares(chosen, p),
        "bar": Column("", [*bars, 0.0], flexible="bar"),
        **{name: shares(name, p) for name, p in others},
    }


def distributions(context: Context, options: PromptOptions) -> dict[str, Vector]:
    """Probabilities at the temperature asked for, what is left to draw from, and two other temperatures."""
    t, logits = options.temperature, context.logits
    result = {f"T={t:g}": probabilities(logits, t)}
    kept = Sampling(**options.sampling).process(logits, context.reading.ids)
    if t > 0 and (np.isneginf(kept).any() or options.repetition_penalty != 1):
        result["kept"] = probabilities(kept)
    for other in (0.5, 1.0) if t == 0 else (t / 2, min(2 * t, sys.float_info.max)):
        result[f"T={other:g}"] = probabilities(logits, other)
    return result


# --------------------------------------------------------------------------------------- what else was asked


def tell_candidates(out: Console, context: Context, options: PromptOptions) -> None:
    """The logits of continuations of the reader's choice."""
    step(out, "", "The candidates", where(candidates))
    rows, prompt = read_candidates(context, options), context.reading.prompt
    logprob = Column("log-probability", [f"{row.logprob:.3f}" for row in rows], right=True)
    joined = Column("joined", [number(row.joined_logprob) for row in rows], right=True)
    place = Column("rank", [f"{row.rank:,}" for row in rows], right=True)
    logit = Column("logit", [f"{row.logit:.2f}" for row in rows], right=True)
    columns = [
        Column("candidate", [visible(row.text) for row in rows], style="bold"),
        logit,
        Column(f"T={options.temperature:g}", [f"{100 * r.probability:.3g}%" for r in rows], right=True),
        place,
        logprob,
        *([joined] if any(joined.cells) else []),
    ]
    print_table(out, columns, drop=[logprob, place, logit], indent=indent(out))
    if any(len(row.ids) > 1 for row in rows):
        say(out, "The log-probability (T=1) is of all its tokens, the rest of the first one.")
    if any(joined.cells):
        say(out, "The prompt ends in a space, which belongs to the next word's token: joined is the "
                 "log-probability when both are encoded as one text.")  # fmt: skip
    if prompt[-1:].isalpha() and (glued := [row.text for row in rows if row.text[0].isalpha()]):
        word = harmless(glued[0])
        say(out, f'"{word}" goes on with the last word; the next word is " {word}", with its space.')


def tell_comparison(out: Console, contexts: Sequence[Context], options: PromptOptions) -> None:
    """The same tokens in several contexts, as many beside each other as there is room for."""
    step(out, "", "The same tokens, compared", where(next_tokens))
    columns = comparison_columns(contexts, options)
    print_table(out, columns, narrow="continue", indent=indent(out))
    for note in comparison_notes(contexts, options):
        say(out, note)


def number(value: float | None) -> str:
    """A log-probability, or nothing."""
    return "" if value is None else f"{value:.3f}"


ENDINGS = {
    "max_new_tokens": "as many as were asked for",
    "stop_id": "the last is {}, with which the model ends a text",
    "stop_text": "the text to stop at came next",
    "context_full": "the context is full",
}


def tell_continuation(out: Console, reading: Reading, options: PromptOptions, who: str, seed: int) -> None:
    """What the model writes, while it writes it."""
    step(out, "", f"{who} goes on, token after token", where(generate_text))
    generation = start_generation(reading, options, seed)
    out.print(Text(harmless(reading.prompt), "dim"), end="", soft_wrap=True)
    for piece in generation:
        out.print(harmless(piece), end="", soft_wrap=True)
    out.print()
    end = cut(reading.checkpoint.label(generation.ids[-1]), LONGEST_LABEL) if generation.ids else ""
    reason = ENDINGS[str(generation.stop_reason)].format(end)
    again = f"; --seed {seed} draws them again" if options.temperature > 0 and options.seed is None else ""
    say(out, Text(f"({len(generation.ids)} tokens: {reason}{again})", "dim"))


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


def say(out: Console, content: str | Text) -> None:
    """Print a paragraph under a heading."""
    out.print(Padding(content, (0, 0, 0, indent(out)), expand=False))


def print_facts(out: Console, *lines: tuple[str, str, str]) -> None:
    """Labels, what there is to say of them, and remarks."""
    print_table(out, [Column("", cells) for cells in zip(*lines, strict=True)], indent=indent(out))


def indent(out: Console) -> int:
    """How far to the right a step's content stands: not at all, if there are few columns."""
    return 4 if out.width >= 40 else 0


def room(out: Console) -> int:
    """How many columns there are under a heading."""
    return out.width - indent(out)


def labels(reading: Reading) -> list[str]:
    """The prompt's tokens, none of them very long."""
    return [cut(token, LONGEST_LABEL) for token in reading.tokens]


def where(function: Callable[..., Any]) -> str:
    """A function's name, file and line."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_qualname}  {file_name(code.co_filename)}:{definition(function)[1]}"


def line_of(passed: Trace, name: str) -> str:
    """The function that computed an intermediate, and the line that did it."""
    maker = passed.intermediates[name]
    return f"{maker.function}  {file_name(maker.path)}:{maker.line}"
