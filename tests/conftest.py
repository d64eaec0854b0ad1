"""Settings of the whole suite."""

import os
import signal

import hypothesis
import threadpoolctl

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
