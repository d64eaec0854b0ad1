"""The commands, one module each: `Options`, `add_options(parser)` and `run(options)`; see `cli/main.py`."""
