"""One thread for each test process: a second one only waits for the cores that the other test processes use."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported
