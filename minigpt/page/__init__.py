"""The page that `--html` writes: what it holds (Python), and how it looks (HTML, CSS, JavaScript)."""

from .build import write_page as write_page
