"""What a benchmark says of the machine that it ran on."""

import os
import platform
from pathlib import Path

import numpy  # noqa: F401 - its BLAS is what is asked for
from threadpoolctl import threadpool_info


def cpu() -> str:
    """The CPU's name, and the kernel that NumPy's BLAS runs on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    kernels = {str(pool.get("architecture")) for pool in threadpool_info() if pool["user_api"] == "blas"}
    name = ", ".join(names) or platform.processor()
    return f"{name}, {os.cpu_count()} cores, BLAS kernel {', '.join(kernels)}"
