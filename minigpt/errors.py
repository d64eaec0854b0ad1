"""What can go wrong, as exceptions whose messages are written for the person who reads them.

Every failure that a user can cause is a `MiniGPTError`. Its message is one sentence or two: the thing
that is wrong, what was found, what was expected, and the way out. The subclasses exist so that a caller
can tell the kinds apart.
"""


class MiniGPTError(Exception):
    """Base class of every error that minigpt raises on purpose."""


class InputError(MiniGPTError, ValueError):
    """An argument is out of range: token ids, text, temperature."""


class ContextLengthError(InputError):
    """More tokens than the model has positions for."""


class HookError(MiniGPTError, ValueError):
    """A hook returned something other than an array of the shape it was given."""


class ConfigError(MiniGPTError, ValueError):
    """A config names something that GPT-2 is not, or that this implementation does not compute."""


class NumericsError(MiniGPTError):
    """The model's numbers overflowed or were never numbers, so that nothing can be said about a token."""


class CheckpointError(MiniGPTError):
    """A checkpoint is missing, broken, or does not hold the tensors its config asks for."""


class DownloadError(MiniGPTError):
    """The Hub could not be reached, refused, or sent something else than it promised."""
