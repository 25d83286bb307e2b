"""The mirror's process: `python -m lop_sweeps.tracking.process SECONDS`, started by `sweep.mirroring`.

On standard input come the folders of runs, a line each, then an empty line. A further line, or the end of the input,
says that nobody trains any more: what is left is sent, for SECONDS at most or as many as that line says, and how
far it came is the one line of output, in JSON. What the user should know goes to standard error.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lop_sweeps.dot_env import load_dot_env
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.mirror import POLL, Mirror, Mirrored


def main() -> int:
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the client says things that nobody asked
    load_dot_env()

    def say(text: str) -> None:
        terminal.write(f"\nlop: Weights & Biases: {text}\n")

    try:
        return mirror(float(sys.argv[1]), say)
    except Exception as error:  # the runs go on without it
        say(f"the mirror has ended: {traceback.format_exception_only(error)[-1].strip()}")
        return 1


def mirror(patience: float, say: Callable[[str], None]) -> int:
    folders = itertools.takewhile(str.strip, iter(sys.stdin.readline, ""))
    found = Mirror([Mirrored(RunDirectory(Path(line.rstrip("\n")))) for line in folders], say=say)
    over = threading.Event()
    ends: list[float] = []

    def wait_for_the_end() -> None:
        line = sys.stdin.readline().strip()
        ends.append(time.monotonic() + (float(line) if line else patience))
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not over.wait(POLL):
        found.look()
    found.hurry()
    while (left := found.look(over=True)) and time.monotonic() < ends[0] and not found.hopeless:
        time.sleep(0.2)
    print(json.dumps({"runs": len(found.runs), "left": left, "url": found.url}), flush=True)
    os._exit(0)  # threads may still wait for a server that does not answer


if __name__ == "__main__":
    sys.exit(main())
