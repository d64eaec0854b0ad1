"""Settings of the whole suite."""

import os
import re
import signal
from pathlib import Path

import hypothesis
import jaxtyping
import threadpoolctl

PACKAGE = Path(__file__).parent.parent / "minigpt"

# Before transformers is imported anywhere: nothing here may look for a hub, whatever the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# With `pytest -n` there is a process for each core already, whose threads would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threadpoolctl.threadpool_limits(1, "blas")  # NumPy is loaded by now, and has read its settings

# A shell's job in the background ignores Ctrl-C, and so would the runs that tests end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("patient", deadline=None)  # no test measures time
hypothesis.settings.load_profile("patient")


def modules_with_shapes() -> list[str]:
    """Those whose signatures take names of shapes from jaxtyping, or from the model."""
    takes_shapes = re.compile(r"^from (jaxtyping|\.+model) import", re.MULTILINE)
    files = [file for file in PACKAGE.rglob("*.py") if takes_shapes.search(file.read_text("utf-8"))]
    return sorted(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files)


# Every array that passes through such a signature is checked against it, from the first import on. The other
# modules speak of texts and files: mypy has read their types, and to check each token's text again would take
# most of the suite's time.
jaxtyping.install_import_hook(modules_with_shapes(), "beartype.beartype")
