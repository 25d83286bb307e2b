"""Tasks made of given examples, for tests that drive a learner themselves."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


class GivenTask:
    """x (examples, inputs); y (examples,) labels or (examples, outputs) targets."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y

    def examples(self, start: int, stop: int) -> tuple[Array, Array]:
        return self.x[start:stop], self.y[start:stop]
