"""Slippery Ant: an Ant whose friction changes again and again (Nature 632, Fig. 3; first in arXiv 2108.06325)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.ant import Ant
from lop_sweeps.errors import ConfigError


class SlipperyAnt(Ant):
    """The friction of all geoms is drawn log-uniformly between the ends of `frictions`, from the seed.

    change_every: at the first end of an episode more than so many steps after the last change, the friction changes.
    """

    def __init__(
        self,
        num_steps: int,
        log_every: int = 20_480,
        max_episode_steps: int = 1_000,
        physics: str = "v5",
        change_every: int = 2_000_000,
        frictions: Sequence[float] = (0.02, 2.0),
    ) -> None:
        super().__init__(num_steps, log_every, max_episode_steps, physics)
        self.change_every = checks.integer("change_every", change_every, 1)
        if not isinstance(frictions, Sequence) or isinstance(frictions, str) or len(frictions) != 2:
            raise ConfigError("frictions", frictions, "must be two numbers, the lowest and the highest: [0.02,2.0]")
        self.low = checks.number("frictions[0]", frictions[0], 0.0, above=True)
        self.high = checks.number("frictions[1]", frictions[1], self.low)

    def friction(self, seed: int, change: int) -> float:
        share = streams.generator(seed, "friction", change).uniform()
        return math.exp(math.log(self.low) + share * math.log(self.high / self.low))

    def change_due(self, steps: int) -> bool:
        return steps > self.change_every
