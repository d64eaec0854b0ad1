"""Settings of the whole suite."""

import os

# Before transformers is imported anywhere: nothing here may look for a hub, whatever the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
