"""The law from which a network draws its parameters, for methods that draw whole networks at every step.

Drawing one as at the start of a run takes a millisecond and generators of the host. So one initialisation is listened
to: of each parameter, from which uniform or normal law its numbers were asked, or that it is always the same. A network
that does otherwise (one law for half of a tensor, say, or arithmetic on what was drawn) has no such law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.networks.network import Network

_FIRST_MARK = 2.0**40  # what no parameter is


@dataclass(frozen=True)
class InitialLaw:
    """Of all parameters in their order, flat: value = constant + half_width * U(-1, 1) + std * N(0, 1).

    Each is (parameters,) float64.
    """

    constant: Tensor
    half_width: Tensor
    std: Tensor


class _UnknownLaw(Exception):
    """It is asked for numbers that are not described by an `InitialLaw`."""


class _Listener:
    """A generator that notes what it is asked for, and gives a mark in its place."""

    def __init__(self) -> None:
        self.laws: list[tuple[float, float, float]] = []  # centre, half width, deviation

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> NDArray[np.float64]:
        low, high = _numbers(low, high)
        return self._note(((low + high) / 2, (high - low) / 2, 0.0), size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> NDArray[np.float64]:
        loc, scale = _numbers(loc, scale)
        return self._note((loc, 0.0, scale), size)

    def standard_normal(self, size: Any = None) -> NDArray[np.float64]:
        return self.normal(size=size)

    def random(self, size: Any = None) -> NDArray[np.float64]:
        return self.uniform(size=size)

    def _note(self, law: tuple[float, float, float], size: Any) -> NDArray[np.float64]:
        self.laws.append(law)
        return np.full(() if size is None else size, _FIRST_MARK + len(self.laws) - 1)

    def __getattr__(self, name: str) -> Any:
        raise _UnknownLaw(name)


def _numbers(*given: Any) -> tuple[float, ...]:
    if any(np.ndim(one) for one in given):
        raise _UnknownLaw("a law for each element")
    return tuple(float(one) for one in given)


@torch.no_grad()
def initial_law(make_network: Callable[[], Network]) -> InitialLaw | None:
    """The law of a network's parameters; None if it has none that can be told by listening."""
    network, listener = make_network().to(torch.float64), _Listener()
    try:
        network.initialize(lambda i: cast(np.random.Generator, listener))
    except _UnknownLaw:
        return None
    unused = dict(enumerate(listener.laws))
    parts = []
    for parameter in network.parameters():
        values = parameter.detach().flatten()
        nothing = torch.zeros_like(values)
        if bool((values.abs() < _FIRST_MARK / 2).all()):
            parts.append((values, nothing, nothing))
            continue
        law = unused.pop(int(values[0] - _FIRST_MARK), None)
        if law is None or bool((values != values[0]).any()):
            return None
        parts.append((nothing + law[0], nothing + law[1], nothing + law[2]))
    # What was drawn and is nowhere to be found went into what looks like a constant.
    return None if unused else InitialLaw(*(torch.cat(each) for each in zip(*parts, strict=True)))
