"""`make demo`: two small real sweeps, then their figures and tables. Further arguments go to `lop`."""

from __future__ import annotations

import sys
import time

from lop_sweeps import child_process
from lop_sweeps.sweeps.progress import duration

EXPERIMENTS = ("demo_digits", "demo_regression")


def main() -> int:
    began = time.monotonic()
    for experiment in EXPERIMENTS:
        arguments = [f"experiment={experiment}", *sys.argv[1:]]
        print("$ lop", " ".join(arguments), flush=True)
        if code := child_process.run("lop_sweeps", *arguments):
            return code
    from lop_sweeps.analysis.__main__ import main as figures

    for experiment in EXPERIMENTS:
        print(f"\n$ lop-figures sweeps/{experiment}", flush=True)
        if code := figures([f"sweeps/{experiment}"]):
            return code
    print(f"\n{duration(time.monotonic() - began)} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
