"""Settings of the whole suite."""

import os

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

hypothesis.settings.register_profile("patient", deadline=None)  # no test measures time
hypothesis.settings.load_profile("patient")
