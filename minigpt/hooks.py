"""Looking inside and intervening: the one mechanism, a function that sees every intermediate array.

The model calls `hook(name, array)` at each point of its forward pass and goes on with what comes back. A
hook that returns its argument only looks; one that returns another array of the same shape intervenes.
Recording, logit lens, attribution, ablation and patching (`minigpt.inspection`) are all built on it.
"""

import inspect
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from .errors import HookError, InputError

Hook = Callable[[str, np.ndarray], np.ndarray]


def as_it_is(_name: str, array: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The hook that changes nothing."""
    return array


def within(part: str, hook: Hook) -> Hook:
    """The same hook for one part of the model, which need not know where it stands."""
    return lambda name, array: hook(f"{part}.{name}", array)


def check_hook(hook: object) -> None:
    """Raise `InputError` for a hook that cannot be called."""
    takes_two = callable(hook)
    try:
        if callable(hook):
            inspect.signature(hook).bind("wte", np.zeros(1))
    except TypeError:
        takes_two = False
    except ValueError:  # a function of C that Python knows too little about
        pass
    if not takes_two:
        raise InputError(f"hook: found {type(hook).__name__}; expected a function of a name and an array.")


def checked_hook(hook: Hook | None) -> Hook:
    """The hook, refusing results that the model could not go on with; for None, one that does nothing."""
    if hook is None:
        return as_it_is
    check_hook(hook)

    def checked(name: str, array: np.ndarray) -> np.ndarray:
        result = hook(name, array)
        if type(result) is not np.ndarray or result.shape != array.shape:  # a matrix multiplies otherwise
            found = f"shape {result.shape}" if type(result) is np.ndarray else type(result).__name__
            raise HookError(f"hook: {name} must stay an array of shape {array.shape}; it returned {found}.")
        if not np.can_cast(result.dtype, array.dtype, "same_kind"):  # what is complex, text, an object
            raise HookError(f"hook: {name} must stay real numbers; it returned {result.dtype} values.")
        return result.astype(array.dtype, copy=False)

    return checked
