"""Printed numbers and parity hold on other CPUs too: OpenBLAS adds up in another order on each.

`OPENBLAS_CORETYPE` makes OpenBLAS use the kernels of another CPU. It is read once, when NumPy is imported, so
each kernel gets a process of its own.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {  # what a CPU must be able to do, as Linux calls it
    "Nehalem": {"sse4_2"},
    "Haswell": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
SUITE = [
    "tests/test_docs.py::test_the_blocks_are_up_to_date[README.md]",
    "tests/test_docs.py::test_the_blocks_are_up_to_date[docs/looking-inside.md]",
    "tests/test_docs.py::test_the_blocks_are_up_to_date[docs/lessons/en/01-what-is-a-logit.md]",
    "tests/test_docs.py::test_the_blocks_are_up_to_date[docs/lessons/en/04-attention.md]",
    "tests/test_fast.py",
    "tests/test_simple.py",
    "tests/inspection/test_ledger.py",
    "tests/parity/test_tiny_parity.py",
]
WHICH = """
import numpy, threadpoolctl
print(*(pool.get("architecture") for pool in threadpoolctl.threadpool_info()))
"""


def cpu_flags() -> set[str]:
    """What this CPU can do; nothing where Linux does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


@pytest.mark.parametrize("kernel", NEEDS)
def test_another_kernel_changes_no_result(kernel: str) -> None:
    missing = NEEDS[kernel] - cpu_flags()
    if missing:
        pytest.skip(f"this CPU ({platform.processor() or platform.machine()}) lacks {', '.join(missing)}")
    environment = os.environ | {"OPENBLAS_CORETYPE": kernel}
    which = subprocess.run(
        [sys.executable, "-c", WHICH], env=environment, capture_output=True, check=True, text=True
    ).stdout
    if kernel not in which.split():
        pytest.skip(f"NumPy's BLAS is not an OpenBLAS that can be told its kernel (found: {which.strip()})")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SUITE]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-3000:]
