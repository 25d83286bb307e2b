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

# A killed process leaves what it has written to the machine, which no test takes the power from; waiting for the disk
# was a fifth of a short run.
os.fsync = lambda descriptor: None

WAITING = ("test_processes.py", "test_wheel.py", "test_from_python.py")


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers of a whole suite start: what each of them would compile."""
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if whole and getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        compile_everything()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests mostly wait for processes come between the others, so that another worker has the core."""
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if path.parent.name == "tracking" or path.name in WAITING]
    others = [path for path in files if path not in waiting]
    stride = len(others) / max(1, len(waiting))
    place = {path: float(i) for i, path in enumerate(others)} | {path: i * stride for i, path in enumerate(waiting)}
    items.sort(key=lambda item: place[item.path])
