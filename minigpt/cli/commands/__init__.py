"""The commands: one module each, found by being here. `minigpt score` is `minigpt/cli/commands/score.py`.

A module has `HELP` (one line), `add_arguments(parser)` and `run(args)`, which returns the exit status
or None for 0. A name that Python reserves has an underscore at its end: `break_.py` is `minigpt break`.
"""
