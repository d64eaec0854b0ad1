"""The page that `--html` writes and `minigpt live` serves: what it holds, and how it looks."""

from .build import show as show
from .build import write_page as write_page
