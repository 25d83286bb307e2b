"""Where packs are trained: on this machine's GPUs if it has any, and how many runs fit there.

Memory is measured, not estimated: what one step of a pack of two takes more than one of a pack of one is what a run
takes. A pack that runs out of memory all the same is split (`sweeps/execute.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache

import torch

from lop_sweeps.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
SHARE = 0.8  # of the free memory that packs may take: fragments, and what a later task needs more


@lru_cache(maxsize=1)
def count() -> int:
    """How many GPUs there are; asks the driver, so that processes may still be forked."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve(asked: str) -> str:
    """`cpu` or `cuda` for what was asked (one of `DEVICES`)."""
    if asked == "cuda" and not count():
        raise ConfigError("device", "cuda", "cannot be had: PyTorch finds no GPU here")
    return "cuda" if asked != "cpu" and count() else "cpu"


def choose(asked: str, engine: str, *, control: bool) -> tuple[str, str]:
    """The device for what was asked, and why, in words that follow "because" (none where there is no choice).

    control: whether the run acts in an environment.
    """
    device = resolve(asked)
    if not count():
        return device, ""
    if engine == "fused":
        return "cpu", "on CPU cores a network of this size learns faster than on a GPU"
    if asked != "auto":
        return device, "it was asked for"
    return ("cpu", "its environments are stepped there") if control else (device, "one is here")


def use_tf32(on: bool) -> None:
    """Whether a GPU's matrix products and convolutions of float32 numbers round them to TF32 (10 bits) first."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def runs_that_fit(step: Callable[[int], None]) -> int:
    """How many runs a pack may have on the current GPU; `step(runs)` trains a pack of this size for one step."""
    peaks = []
    for runs in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step(runs)
        peaks.append(torch.cuda.max_memory_allocated())
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return fitting(peaks[0], peaks[1], free)


def fitting(one: int, two: int, free: int) -> int:
    """Runs whose memory is within `SHARE` of `free` bytes, if packs of one and two take `one` and `two` bytes."""
    each = max(two - one, 1)
    return max(1, int((SHARE * free - (one - each)) // each))
