"""The fixtures of the inspection tests, for the commands that look inside."""

from tests.inspection.conftest import checkpoint, speaking, tokenizer, unchecked

__all__ = ["checkpoint", "speaking", "tokenizer", "unchecked"]
