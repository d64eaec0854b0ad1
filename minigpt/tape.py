"""The gradients of a model: run it forward while a hook records (the *tape*), and walk back along that."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .backward import LOGIT_ROWS, PerToken, Piece, Table, Tape, backward, head_backward, scatter_add
from .checks import checked_classes, checked_ids
from .errors import HookError, InputError
from .fast import changes
from .hooks import Hook, as_it_is, check_hook
from .model import GPT2, Call, Ids, Residual, Vectors

Look = Callable[[str, np.ndarray], np.ndarray | None]  # a hook that only looks


class DifferentiableBlock(Protocol):
    """A block of your own that can be trained: a function like `model.block` that knows its way back.

    Its parameters (an item of `Parameters.h`) are any dataclass of arrays and dataclasses. `backward` gets
    everything that the block gave to its hook; it returns the gradient of x and one of its parameters' class.
    """

    def __call__(self, x: Residual, p: Any, layer: int, call: Call) -> Residual:
        """As `model.block`; what comes out is given to the hook as `resid_post`."""

    def backward(self, dx: Residual, tape: Tape, p: Any, layer: int, call: Call) -> tuple[Residual, Any]:
        """As `block_backward`."""


TAPE = {f"{ln}{what}" for ln in ("ln_1", "ln_2") for what in ("", ".scale")}
TAPE |= {"resid_pre", "resid_mid", "resid_post", "mlp.pre", "mlp.act"}
TAPE |= {f"attn.{name}" for name in ("q", "k", "v", "weights", "mixed")}


def record(model: GPT2, ids: Ids) -> Tape:
    """Run the model forward and keep what the way back needs; of a block of your own, everything."""
    tape: Tape = {}

    def keep(name: str, array: np.ndarray) -> np.ndarray:
        if model.block or name.startswith("ln_f") or name.split(".", 2)[-1] in TAPE:
            tape[name] = array
        return array

    model(ids, hook=keep, logits_to_keep=1)
    return tape


def target_logprobs(x: Vectors, head: Table, targets: Ids) -> PerToken:
    """The targets' log-probabilities alone, given the last vectors (`ln_f`)."""
    rows, row_targets = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    logprobs = np.empty(len(rows), x.dtype)
    for start in range(0, len(rows), LOGIT_ROWS):
        part = slice(start, start + LOGIT_ROWS)
        logits = rows[part] @ head.T
        logits -= logits.max(axis=-1, keepdims=True)
        logprobs[part] = np.take_along_axis(logits, row_targets[part, None], -1)[:, 0]
        logprobs[part] -= np.log(np.exp(logits, out=logits).sum(axis=-1))
    return logprobs.reshape(targets.shape)


def add(total: dict[str, np.ndarray], pieces: Iterator[Piece]) -> None:
    """Add pieces to what is there: those of other parts of a batch, or of the other use of a tied table."""
    for name, gradient, ids in pieces:
        if ids is not None:
            scatter_add(total[name], ids, gradient)
        elif name in total:
            total[name] += gradient
        else:
            total[name] = gradient


def check_differentiable(model: GPT2) -> None:
    """Raise `InputError` unless the way back through every function that the model runs is known."""
    brings_its_own = callable(getattr(model.block, "backward", None))
    changed = [what for what in changes(model) if not (what == "this model's block" and brings_its_own)]
    if changed:
        raise InputError(
            f"model: {', '.join(changed)} differs from what backward.py leads back through; its gradients "
            "would be wrong. Undo the change, or make it in a block that has a backward of its own, as "
            "minigpt.tape.DifferentiableBlock describes it."
        )


def pieces_of(
    model: GPT2,
    ids: Ids,
    targets: Ids,
    weights: PerToken | Callable[[PerToken], PerToken],
    see: Hook | None = None,
) -> tuple[PerToken, Iterator[Piece]]:
    """The targets' log-probabilities, and the gradients of Σ w (−log p), one parameter after the other.

    Weights that depend on the log-probabilities, as those of preferences do, make the logits twice.
    """
    p, tape = model.parameters, record(model, ids)
    if callable(weights):
        weights = weights(target_logprobs(tape["ln_f"], p.lm_head, targets))
    logprobs, d_ln_f, d_head = head_backward(tape["ln_f"], p.lm_head, targets, weights, see)
    tied = p.lm_head is p.wte  # then the table learns from both of its uses: as the head and as the embedding

    def pieces() -> Iterator[Piece]:
        yield ("wte.weight" if tied else "lm_head.weight"), d_head, None
        if not tied:
            yield "wte.weight", np.zeros_like(p.wte), None
        yield from backward(model, ids, tape, d_ln_f, see or as_it_is)

    return logprobs, pieces()


@checked_classes
@np.errstate(all="ignore")  # as in the forward pass: numbers that overflow become inf or nan, and show
def gradients(
    model: GPT2,
    ids: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    hook: Look | None = None,
) -> tuple[float, dict[str, np.ndarray]]:
    """The loss Σ w (−log p), and its gradient for every parameter by checkpoint name.

    `targets` are the ids that should follow each token, in the shape of `ids`: (tokens,) or (batch, tokens).
    `weights` are the coefficients of the positions: None is 1/N, the mean; 0 leaves a position out. `hook`
    sees the gradient of each activation under the activation's name; it only looks.
    Raises `InputError` for impossible ids, targets or weights, and for a model without a way back.
    """
    check_differentiable(model)
    ids = checked_ids(ids, model.config)
    targets, weights = checked_targets(targets, weights, ids, model)
    logprobs, pieces = pieces_of(model, ids, targets, weights, None if hook is None else only_looking(hook))
    found: dict[str, np.ndarray] = {}
    add(found, pieces)
    return -float((weights * logprobs).sum(dtype=np.float64)), found


def only_looking(hook: Look) -> Hook:
    """The hook, refusing a result that differs from what it was given: nothing would come of it."""
    check_hook(hook)

    def see(name: str, gradient: np.ndarray) -> np.ndarray:
        result = hook(name, gradient)
        if result is not None and result is not gradient:
            raise HookError(f"hook: returned another array for {name}; for gradients a hook only looks.")
        return gradient

    return see


def checked_targets(
    targets: ArrayLike, weights: ArrayLike | None, ids: Ids, model: GPT2
) -> tuple[Ids, PerToken]:
    """Targets and weights as arrays of the shape of `ids`."""
    wanted, dtype = checked_ids(targets, model.config), model.parameters.wte.dtype
    if wanted.shape != ids.shape:
        raise InputError(f"targets: found shape {wanted.shape}; expected that of ids, {ids.shape}.")
    if weights is None:
        return wanted, np.full(ids.shape, 1.0 / ids.size, dtype)
    try:
        given = np.asarray(weights)
    except ValueError:  # rows of different lengths
        given = np.asarray(None)
    if given.shape != ids.shape or not np.can_cast(given.dtype, np.float64) or not np.isfinite(given).all():
        raise InputError(
            f"weights: found {given.dtype} of shape {given.shape}; expected finite numbers, {ids.shape}."
        )
    return wanted, given.astype(dtype)
