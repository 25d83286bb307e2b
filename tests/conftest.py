"""Test processes have one thread each: a second one only waits for the cores that the others use."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `pytest &`; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.dont_write_bytecode:  # then every process that a test starts would compile all modules of torch and Hydra again
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": sys.pycache_prefix}
