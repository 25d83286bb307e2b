"""Every random draw has an address: the run's seed, a purpose, and a position.

No generator lives across steps, so there is nothing to save in a checkpoint and nothing that one purpose can take
from another: the same seed gives the same tasks and the same initial weights to every algorithm. Draws that belong
to a task or to the start of a run use numpy's generators (`generator`); draws inside a training step use a
counter-based hash (`counter_key` with `lop_sweeps.counter_random`), because making a numpy generator per step costs
more than a small network's whole update.
"""

from __future__ import annotations

import hashlib

import numpy as np

_POSITIONS = 2**32


def _words(purpose: str) -> tuple[int, ...]:
    """A purpose as two 32-bit words; numpy mixes them into the seed as a spawn key."""
    digest = hashlib.sha256(purpose.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def _sequence(seed: int, purpose: str, position: tuple[int, ...]) -> np.random.SeedSequence:
    """A negative position is one that no stream comes to: -1, say, for a task that is never shown."""
    words = (at % _POSITIONS if at < 0 else at for at in position)
    return np.random.SeedSequence(entropy=seed, spawn_key=(*_words(purpose), *words))


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """A fresh numpy generator for one (seed, purpose, position); calling twice gives the same draws."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, position)))


def counter_key(seed: int, purpose: str, *position: int) -> np.uint64:
    """The 64-bit key of a counter-based stream (see `lop_sweeps.counter_random`)."""
    return np.uint64(_sequence(seed, purpose, position).generate_state(1, np.uint64)[0])
