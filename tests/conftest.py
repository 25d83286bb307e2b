"""Test processes have one thread each: a second one only waits for the cores that the others use."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.compiling import compile_everything

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `pytest &`; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.dont_write_bytecode:  # then every process that a test starts would compile all modules of torch and Hydra again
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": sys.pycache_prefix}


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers of a whole suite start: what each of them would compile."""
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if whole and getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        compile_everything()
