"""`make demo`: a small real sweep, then its figures and table. Further arguments go to `lop`."""

from __future__ import annotations

import subprocess
import sys
import time

from lop_sweeps.sweep.progress import duration


def main() -> int:
    began = time.monotonic()
    command = [sys.executable, "-m", "lop_sweeps", "experiment=demo", *sys.argv[1:]]
    print("$ lop", " ".join(command[3:]), flush=True)
    if code := subprocess.run(command).returncode:
        return code
    from lop_sweeps.analysis.__main__ import main as figures

    print("\n$ lop-figures sweeps/demo", flush=True)
    code = figures(["sweeps/demo"])
    print(f"\n{duration(time.monotonic() - began)} in all")
    return code


if __name__ == "__main__":
    sys.exit(main())
