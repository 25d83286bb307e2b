"""The fused engine, compiled before workers start that would each compile it.

python -m tests.compiling float32|float64
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRECISIONS = ("float32", "float64")


def compile_everything() -> None:
    """In as many processes as there are precisions; nothing is compiled twice."""
    command = [sys.executable, "-m", "tests.compiling"]
    root = Path(__file__).parents[1]
    for process in [subprocess.Popen([*command, precision], cwd=root) for precision in PRECISIONS]:
        process.wait()


def main(precision: str) -> None:
    import torch

    from lop_sweeps.optimizers.sgd import SGD
    from tests.fused.engines import fused, image_task
    from tests.fused.looking import Looking

    for interventions in ((), (Looking(period=5),)):
        learner = fused("cross_entropy", SGD(0.01), interventions, dtype=getattr(torch, precision))
        learner.run([image_task(0)], 1, 0, 0, 10, 10)
        learner.probe([image_task(0)], 10)


if __name__ == "__main__":
    main(sys.argv[1])
