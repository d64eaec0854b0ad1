"""From text to tokens, and from logits to a token: what happens before the model and after it."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ...tokenizer import split
from ..exercise import Cases, Exercise, Function, Mistake
from ..whole_model import PROMPT, in_model, real, tiny, words_after

Array = Float[np.ndarray, "..."]
Ranks = dict[tuple[bytes, bytes], int]

# ------------------------------------------------------------------------------------------------- merge


def merge(parts: list[bytes], ranks: Ranks) -> list[bytes]:
    """One step of byte pair encoding: of all neighbours, join the pair that ranks first.

    parts    the pieces of a word so far, in order: a list of bytes
    ranks    a dict from pairs (left, right) to a number; the lowest goes first, and a pair that is not in it
             is never joined
    returns  (parts,) a new list, in which the pair is one part wherever it stands, from left to right

    The list stays as it is if no two neighbours are a pair of `ranks`. A tokenizer begins with single bytes
    and repeats this step until nothing changes.

    On paper: "lo" and "ov" may both be joined, and "ov" has the lower number, so it goes first.

    >>> merge([b"l", b"o", b"v", b"e"], {(b"l", b"o"): 7, (b"o", b"v"): 3})
    [b'l', b'ov', b'e']
    """
    pairs = [pair for pair in pairwise(parts) if pair in ranks]
    if not pairs:
        return list(parts)
    left, right = min(pairs, key=ranks.__getitem__)
    joined: list[bytes] = []
    for part in parts:
        if part == right and joined and joined[-1] == left:
            joined[-1] = left + right
        else:
            joined.append(part)
    return joined


def merge_cases(rng: np.random.Generator) -> Cases:
    ranks = {(b"l", b"o"): 7, (b"o", b"v"): 3, (b"a", b"a"): 5, (b"an", b"an"): 2, (b"a", b"n"): 9}
    letters = [bytes([letter]) for letter in rng.choice(list(b"abc"), 40)]
    orders = rng.permutation(9).tolist()
    drawn = dict(zip([(bytes([a]), bytes([b])) for a in b"abc" for b in b"abc"], orders, strict=True))
    return {
        "the example": ([b"l", b"o", b"v", b"e"], {(b"l", b"o"): 7, (b"o", b"v"): 3}),
        "a pair that occurs twice": ([b"b", b"a", b"n", b"a", b"n", b"a"], ranks),
        "aaa": ([b"a", b"a", b"a"], ranks),
        "two pairs, the first of which ranks last": ([b"a", b"n", b"l", b"o", b"v"], ranks),
        "a frequent pair, and one that ranks before it": ([*[b"a", b"n"] * 3, b"o", b"v", b"a", b"a"], ranks),
        "a merged part and its parts": ([b"an", b"a", b"n", b"a", b"n"], {(b"a", b"n"): 1}),
        "nothing to join": ([b"x", b"y"], ranks),
        "a single part": ([b"love"], ranks),
        "40 letters": (letters, drawn),
    }


def in_tokenizer(mine: Function) -> str:
    """Let the step cut the prompt, and the model go on."""
    model, tokenizer = tiny()
    ids = []
    for piece in split(PROMPT):
        parts = [bytes([byte]) for byte in piece.encode()]
        while (fewer := mine(parts, dict(tokenizer.ranks))) != parts:
            parts = fewer
        ids += [tokenizer.ids[part] for part in parts]
    return (
        f'With your step "{PROMPT}" becomes the ids {ids}. By the whole model, {words_after(model(ids)[-1])}'
    )


MERGE = Exercise(
    merge,
    cases=merge_cases,
    real=None,
    hints=(
        "Two questions, one after the other: which pair goes first, and where does it stand? Answer "
        "the first "
        "with all neighbours, pairwise(parts), of which you keep those in ranks.",
        "The pair that goes first is min(pairs, key=...): the one with the lowest number in ranks.",
        "For the second, walk through the parts and build a new list. When the part is the right one and the "
        "last of the new list is the left one, they become one part there.",
    ),
    mistakes=(
        Mistake(
            "The first pair from the left is joined, whatever its rank.",
            {"min(pairs, key=ranks.__getitem__)": "pairs[0]"},
            "Training found the pairs in an order; a text is cut as in training only if they go in "
            "that order.",
        ),
        Mistake(
            "The pair with the highest number is joined.",
            {"min(": "max("},
            "The number is a place in a list: pair 0 was found first, and goes first.",
        ),
        Mistake(
            "The pair that is most frequent in this word is joined.",
            {"min(pairs, key=ranks.__getitem__)": "max(pairs, key=pairs.count)"},
            "Counting is how training finds its list of pairs; when a text is cut, the list alone decides.",
        ),
        Mistake(
            "Only the first place is joined where the pair stands.",
            {"joined[-1] == left:": "joined[-1] == left and joined == parts[: len(joined)]:"},
            "One step joins the pair everywhere in the word.",
        ),
        Mistake(
            "The pair is looked for from right to left.",
            {
                "in parts:": "in parts[::-1]:",
                "part == right": "part == left",
                "joined[-1] == left": "joined[-1] == right",
                "return joined": "return joined[::-1]",
            },
            "In aaa it is the first two that become one part.",
        ),
        Mistake(
            "Every pair of ranks is joined on the way, not just the one that goes first.",
            {
                "part == right and joined and joined[-1] == left": "joined and (joined[-1], part) in ranks",
                "left + right": "joined[-1] + part",
            },
            "What one pair makes of the word decides which neighbours there are for the next.",
        ),
        Mistake(
            "The step is repeated until nothing changes.",
            {"return joined": "return merge(joined, ranks)"},
            "That is the whole of the tokenizer; here only one step is asked for.",
        ),
    ),
    use=in_tokenizer,
)

# ------------------------------------------------------------------------------------------------ softmax


def softmax(scores: Array) -> Array:
    """Scores become shares of 1: exp of each, divided by the sum of all.

    scores   (..., n) any numbers; one that is -inf gets the share 0
    returns  (..., n) shares above 0 that sum to 1 along the last axis

    The scores may be as large as 1000, where exp alone overflows.

    On paper: exp(0) is 1 and exp(ln 3) is 3; together 4.

    >>> softmax(np.array([[0.0, np.log(3.0)], [5.0, 5.0]]))
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def softmax_cases(rng: np.random.Generator) -> Cases:
    far_apart = rng.standard_normal((2, 3)) + np.array([[-2000.0], [0.0]])
    masked = np.where(np.tril(np.ones((4, 4), bool)), rng.standard_normal((4, 4)), -np.inf)
    return {
        "the example": (np.array([[0.0, np.log(3.0)], [5.0, 5.0]]),),
        "a row of 5": (rng.standard_normal(5),),
        "a single score": (rng.standard_normal((2, 1)),),
        "3 rows of 4": (2 * rng.standard_normal((3, 4)),),
        "a batch, (2, 3, 5)": (2 * rng.standard_normal((2, 3, 5)),),
        "a batch, (3, 2, 2, 3)": (2 * rng.standard_normal((3, 2, 2, 3)),),
        "scores of -inf": (masked,),
        "scores around 1000": (1000 + rng.standard_normal((2, 3)),),
        "rows around -2000 and 0": (far_apart,),
    }


SOFTMAX = Exercise(
    softmax,
    cases=softmax_cases,
    real=lambda: (real("h.2.attn.masked_scores"),),
    hints=(
        "exp makes every number positive; dividing by their sum makes them shares.",
        "keepdims=True keeps the summed axis as one of length 1, so that each row is divided by its own sum.",
        "Taking the same number off all scores of a row changes nothing, because it cancels in the fraction. "
        "Take off the largest: then no exponent is above 0.",
    ),
    mistakes=(
        Mistake(
            "All numbers of the array are divided by one sum.",
            {"exponentials.sum(axis=-1, keepdims=True)": "exponentials.sum()"},
            "Each row is a distribution of its own: sum(axis=-1, keepdims=True).",
        ),
        Mistake(
            "The sum runs along the first axis.",
            {"exponentials.sum(axis=-1": "exponentials.sum(axis=0"},
            "The last axis holds the choices; the others only count rows.",
        ),
        Mistake(
            "The sum runs along the last axis but one.",
            {"exponentials.sum(axis=-1": "exponentials.sum(axis=-2"},
            "The last axis holds the choices; the others only count rows.",
        ),
        Mistake(
            "Nothing is taken off before exp, which overflows for large scores: inf / inf is nan.",
            {" - scores.max(axis=-1, keepdims=True)": ""},
            "Taking the largest of its row off each score changes no share.",
        ),
        Mistake(
            "What is taken off is the largest score of all rows, so that a row far below it "
            "underflows to 0 / 0.",
            {"scores.max(axis=-1, keepdims=True)": "scores.max()"},
            "Take off each row's own largest: max(axis=-1, keepdims=True).",
        ),
        Mistake(
            "The scores are divided by their sum without exp.",
            {"np.exp(scores - scores.max(axis=-1, keepdims=True))": "scores"},
            "A score may be negative; exp makes a share of it that is not.",
        ),
        Mistake(
            "The sum loses its axis, so that it is not a row but a column that is divided by it.",
            {"exponentials.sum(axis=-1, keepdims=True)": "exponentials.sum(axis=-1)"},
            "keepdims=True keeps the summed axis as one of length 1, and each row is divided by its own sum.",
        ),
        Mistake(
            "The powers are those of 2 instead of e.",
            {"np.exp(": "np.exp2("},
            "It is a softmax all the same, at the temperature 1.44.",
        ),
        Mistake(
            "The exponents have the wrong sign, so the lowest score gets the most.",
            {"np.exp(scores - scores.max(axis=-1": "np.exp(-scores - (-scores).max(axis=-1"},
        ),
        Mistake(
            "The logarithms of the shares are returned.",
            {"return ": "return np.log(", "sum(axis=-1, keepdims=True)": "sum(axis=-1, keepdims=True))"},
            "That is log_softmax, which losses need; attention mixes with the shares themselves.",
        ),
        Mistake(
            "Each score goes through the logistic function by itself.",
            {"return exponentials": "return 1 / (1 + np.exp(-scores))\n    exponentials"},
            "Shares compete: when one grows, the others shrink.",
        ),
    ),
    use=in_model(lambda mine: {"softmax": mine}),
)

# -------------------------------------------------------------------------------------------- temperature


def temperature(logits: Array, temperature: float | int) -> Array:
    """Logits become probabilities at a temperature: below 1 sharper, above 1 flatter.

    logits       (..., vocab) one score for each token
    temperature  a number, 0 or above
    returns      (..., vocab) probabilities

    They are the softmax of logits / temperature. At 0 there is nothing to divide by: it is the limit, where
    the largest logit has probability 1 and all others 0. Of equal largest ones the first counts.

    On paper: at temperature 2, ln 9 becomes ln 3, and exp(ln 3) is 3.

    >>> temperature(np.array([0.0, np.log(9.0)]), 2.0)
    array([0.25, 0.75])
    >>> temperature(np.array([1.0, 4.0, 4.0]), 0)
    array([0., 1., 0.])
    """
    if temperature == 0:
        largest = logits.argmax(axis=-1, keepdims=True)
        return (np.arange(logits.shape[-1]) == largest).astype(logits.dtype)
    return softmax(logits / temperature)


def temperature_cases(rng: np.random.Generator) -> Cases:
    row = 3 * rng.standard_normal(5)
    return {
        "the example": (np.array([0.0, np.log(9.0)]), 2.0),
        "temperature 1": (row, 1.0),
        "temperature 0.5": (row, 0.5),
        "temperature 3, a batch (2, 3, 4)": (3 * rng.standard_normal((2, 3, 4)), 3.0),
        "temperature 0.001": (row, 0.001),
        "temperature 0": (row, 0),
        "temperature 0, 3 rows of 4": (rng.standard_normal((3, 4)), 0.0),
        "temperature 0, two that are equal": (np.array([1.0, 4.0, 4.0]), 0),
    }


TEMPERATURE = Exercise(
    temperature,
    cases=temperature_cases,
    real=lambda: (real("logits"), 0.7),
    hints=(
        "Divide first, then softmax. You may use your own of the exercise before.",
        "For temperature 0 you need a row of zeros with a single 1, at the place of the largest: "
        "argmax(axis=-1).",
        "np.arange(n) == argmax(axis=-1, keepdims=True) is True at that place of each row, and False "
        "elsewhere.",
    ),
    mistakes=(
        Mistake(
            "The logits are multiplied by the temperature.",
            {"logits / temperature": "logits * temperature"},
            "Heat makes the choice freer: dividing by a large number brings the logits together.",
        ),
        Mistake("The temperature is ignored.", {"logits / temperature": "logits"}),
        Mistake(
            "The probabilities are divided by the temperature.",
            {"softmax(logits / temperature)": "softmax(logits) / temperature"},
            "Then they no longer sum to 1, and their ratios stay as they were; it is the logits that "
            "are divided.",
        ),
        Mistake(
            "The probabilities are raised to 1 / temperature and not brought back to a sum of 1.",
            {"softmax(logits / temperature)": "softmax(logits) ** (1 / temperature)"},
            "The ratios are right; divide by the sum.",
        ),
        Mistake(
            "Temperature 0 divides by 0.",
            {"if temperature == 0:": "if False:"},
            "Greedy choice is a case of its own: probability 1 for the largest.",
        ),
        Mistake(
            "Temperature 0 counts as 1.",
            {"return (np.arange": "return softmax(logits)\n        (np.arange"},
            "It is the limit of ever smaller ones: probability 1 for the largest.",
        ),
        Mistake(
            "At temperature 0 the smallest logit wins.",
            {"argmax": "argmin"},
        ),
        Mistake(
            "At temperature 0 all that equal the largest logit get probability 1.",
            {"argmax": "max", "np.arange(logits.shape[-1]) == largest": "logits == largest"},
            "Then they sum to more than 1; the first of them counts.",
        ),
    ),
    use=lambda mine: with_probabilities(lambda logits: mine(logits, 0.7), "at your temperature 0.7 "),
)


def with_probabilities(choose: Function, what: str) -> str:
    """The next words by the learner's own probabilities."""
    model, tokenizer = tiny()
    p = choose(model(tokenizer.encode(PROMPT))[-1])
    words = [
        f'"{tokenizer.token_text(int(i))}" {p[i]:.1%}' for i in np.argsort(-p, kind="stable")[:5] if p[i] > 0
    ]
    return f'The whole model, and your probabilities: {what}after "{PROMPT}" comes {", ".join(words)}.'


# ---------------------------------------------------------------------------------------------------- top-p


def top_p(logits: Array, p: float) -> Array:
    """Rule out the unlikely tokens: keep the likeliest, as few as have a probability of p together.

    logits   (..., vocab) one score for each token; no two are equal
    p        a number above 0, at most 1
    returns  (..., vocab) the same logits, with -inf in the place of those ruled out

    The token with which the sum reaches p stays, so there is always one.

    On paper: the probabilities are 1/4, 1/2, 1/8 and 1/8. The likeliest has 0.5, which is less than 0.6; with
    the next it is 0.75, so these two stay.

    >>> top_p(np.log([0.25, 0.5, 0.13, 0.12]), 0.6).round(3)
    array([-1.386, -0.693,   -inf,   -inf])
    """
    order = np.argsort(-logits, axis=-1)
    descending = np.take_along_axis(softmax(logits), order, axis=-1)
    before = np.cumsum(descending, axis=-1) - descending  # what the likelier ones have together
    kept = np.zeros(logits.shape, bool)
    np.put_along_axis(kept, order, before < p, axis=-1)
    return np.where(kept, logits, -np.inf).astype(logits.dtype)


def top_p_cases(rng: np.random.Generator) -> Cases:
    row = 2 * rng.permutation(np.linspace(-1, 1, 7)) + rng.uniform(0, 0.1, 7)
    batch = np.stack([rng.permutation(np.linspace(-3, 3, 5)) for _ in range(6)]) + rng.uniform(0, 0.1, (6, 5))
    return {
        "the example": (np.log([0.25, 0.5, 0.13, 0.12]), 0.6),
        "7 tokens": (row, 0.8),
        "7 tokens, p = 0.3": (row, 0.3),
        "a p that one token has by itself": (np.log([0.02, 0.9, 0.08]), 0.5),
        "6 rows of 5": (batch, 0.95),
        "a batch, (2, 3, 5)": (batch.reshape(2, 3, 5), 0.7),
        "p = 1": (row, 1.0),
    }


TOP_P = Exercise(
    top_p,
    cases=top_p_cases,
    real=lambda: (real("logits")[1:3], 0.3),
    hints=(
        "Sort the tokens by probability, the likeliest first, and add up: np.argsort, np.cumsum.",
        "A token stays if those before it have less than p together. That is the running sum without "
        "its own.",
        "Whether each stays is now known in the sorted order. np.put_along_axis(kept, order, ..., axis=-1) "
        "brings it back to the order of the tokens.",
    ),
    mistakes=(
        Mistake(
            "The token with which the sum reaches p is ruled out.",
            {"- descending  # what": "# what"},
            "It stays: without it those kept have less than p, and a token that has p by itself would"
            " go too.",
        ),
        Mistake(
            "The sum begins with the unlikeliest token.",
            {"argsort(-logits": "argsort(logits"},
            "np.argsort sorts upwards; sort -logits.",
        ),
        Mistake(
            "What stays is known in the sorted order, and never brought back to the order of the tokens.",
            {"np.put_along_axis(kept, order, before < p, axis=-1)": "kept = before < p"},
        ),
        Mistake(
            "What stays is sorted once more instead of being brought back to the order of the tokens.",
            {"np.put_along_axis(kept, order, before < p": "kept = np.take_along_axis(before < p, order"},
            "order[i] says where the token of place i comes from; reading with it sorts, writing with"
            " it undoes.",
        ),
        Mistake(
            "A token stays if it has p by itself.",
            {"np.put_along_axis(kept, order, before < p, axis=-1)": "kept = softmax(logits) >= p"},
            "It is the sum of the likeliest that reaches p.",
        ),
        Mistake(
            "What is ruled out gets the logit 0.",
            {"-np.inf": "0.0"},
            "A logit of 0 is one like any other, and exp(0) is 1; exp(-inf) is 0.",
        ),
        Mistake(
            "Probabilities are returned instead of logits.",
            {"np.where(kept, logits, -np.inf)": "np.where(kept, softmax(logits), 0.0)"},
            "What comes after, be it another cut or softmax, takes logits.",
        ),
        Mistake(
            "The likeliest are kept until they have 1 - p.",
            {"before < p": "before < 1 - p"},
            "That much is what is ruled out, at most.",
        ),
        Mistake(
            "The logits are added up instead of the probabilities.",
            {"softmax(logits), order": "logits, order"},
        ),
    ),
    use=lambda mine: with_probabilities(lambda logits: softmax(mine(logits, 0.5)), "cut at p = 0.5, "),
)
