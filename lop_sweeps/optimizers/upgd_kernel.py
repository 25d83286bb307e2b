"""UPGD's update with global gates in two passes over memory, compiled for CPUs, without large temporaries."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from lop_sweeps.compiling import njit

Array = NDArray[Any]


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def follow_utility(u: Array, g: Array, p: Array, power: Array, keep: Any, out: Array) -> None:
    """`follow_utilities` of one run: arrays (parameters,), power (parameters,) or (1,), keep: beta, of their dtype."""
    one = u.dtype.type(1)
    add = one - keep
    if power.size == 1:
        power[0] *= keep
        rest = one / (one - power[0])
        for i in range(u.size):
            u[i] = keep * u[i] - add * g[i] * p[i]
            out[i] = u[i] * rest
    else:
        for i in range(u.size):
            power[i] *= keep
            u[i] = keep * u[i] - add * g[i] * p[i]
            out[i] = u[i] / (one - power[i])


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def follow_utilities(
    utility: Array, gradient: Array, parameters: Array, power: Array, beta: Array, corrected: Array
) -> None:
    """One step of the running average of -g theta, and U^ into `corrected`; the rule is that of `PackedUPGD`.

    utility, gradient, parameters, corrected: (runs, parameters). power: beta^t, (runs, parameters) or (runs, 1). beta:
    (runs, 1). All are of one dtype.
    """
    for run in range(utility.shape[0]):
        follow_utility(utility[run], gradient[run], parameters[run], power[run], beta[run, 0], corrected[run])


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def step(
    parameters: Array, direction: Array, noise: Array, gate: Array, rate: Array, shrink: Array, protecting: bool
) -> None:
    """theta <- shrink theta - rate (direction and noise, both behind the gate, or if not protecting, the noise alone).

    noise: (runs, parameters), or (runs, 0) for none. rate, shrink: (runs, 1).
    """
    for run in range(parameters.shape[0]):
        p, d, n, open_ = parameters[run], direction[run], noise[run], gate[run]
        by, keep = rate[run, 0], shrink[run, 0]
        if n.size == 0:
            for i in range(p.size):
                p[i] = keep * p[i] - by * (d[i] * open_[i] if protecting else d[i])
        elif protecting:
            for i in range(p.size):
                p[i] = keep * p[i] - by * ((d[i] + n[i]) * open_[i])
        else:
            for i in range(p.size):
                p[i] = keep * p[i] - by * (d[i] + n[i] * open_[i])
