"""The full-size checkpoint of the parity suite, and the table it prints at the end."""

from pathlib import Path

import numpy as np
import pytest

from minigpt.parameters import Config
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint

REFEREE_ROWS: list[tuple[str, int, float, float, float, float]] = []


@pytest.fixture(scope="session")
def official_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 124M checkpoint in exactly the official layout and size, with seeded random weights."""
    folder = tmp_path_factory.mktemp("gpt2-random")
    config = Config()
    return write_checkpoint(folder, config, random_tensors(config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how far minigpt and torch, both in float32, are from torch in float64."""
    if not REFEREE_ROWS:
        return
    write = terminalreporter.write_line
    terminalreporter.section("referee: float32 logits against torch in float64 (124M parameters)")
    write(f"{'prompt':<28} {'tokens':>6} {'RMS minigpt':>12} {'RMS torch':>12} {'ratio':>6} {'max ratio':>9}")
    for prompt, tokens, rms, rms_torch, largest, largest_torch in REFEREE_ROWS:
        ratios = f"{rms / rms_torch:>6.2f} {largest / largest_torch:>9.2f}"
        write(f"{prompt:<28} {tokens:>6} {rms:>12.3e} {rms_torch:>12.3e} {ratios}")
    mean = np.exp(np.mean([np.log(rms / rms_torch) for _, _, rms, rms_torch, _, _ in REFEREE_ROWS]))
    write(f"geometric mean of the RMS ratios: {mean:.3f}")
