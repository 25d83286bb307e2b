"""Adam's update in one pass over memory, compiled for CPUs: four times faster than a dozen tensor operations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.compiling import njit

Array = NDArray[Any]


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def update(
    parameters: Array,
    gradient: Array,
    moments: tuple[Array, Array],
    powers: tuple[Array, Array],
    step_size: Array,
    betas: tuple[Array, Array],
    eps: Array,
    weight_decay: Array,
    decoupled: bool,
    authors: bool,
) -> None:
    """One step, in place; the rule is that of `PackedAdam`.

    parameters, gradient, moments: (runs, parameters). powers: beta^t, (runs, parameters) or (runs, 1). The others are
    columns (runs, 1), all of one dtype.
    """
    one = parameters.dtype.type(1)
    for run in range(parameters.shape[0]):
        p, g, m, v = parameters[run], gradient[run], moments[0][run], moments[1][run]
        power1, power2 = powers[0][run], powers[1][run]
        rate, beta1, beta2, tiny, decay = (
            step_size[run, 0],
            betas[0][run, 0],
            betas[1][run, 0],
            eps[run, 0],
            weight_decay[run, 0],
        )
        fill1, fill2, shrink = one - beta1, one - beta2, one
        if decoupled:
            shrink, decay = one - rate * decay, decay - decay
        if power1.size > 1:
            for i in range(p.size):
                power1[i] *= beta1
                power2[i] *= beta2
                grad = g[i] + decay * p[i]
                m[i] = beta1 * m[i] + fill1 * grad
                v[i] = beta2 * v[i] + fill2 * (grad * grad)
                if authors:
                    change = rate * (one - power2[i]) * m[i] / (np.sqrt(v[i]) + tiny)
                else:
                    fill = one / (one - power2[i])  # as below, so that both ways round alike
                    change = rate / (one - power1[i]) * m[i] / (np.sqrt(v[i] * fill) + tiny)
                p[i] = shrink * p[i] - change
            continue
        power1[0] *= beta1
        power2[0] *= beta2
        scale = rate * (one - power2[0]) if authors else rate / (one - power1[0])
        fill = one if authors else one / (one - power2[0])
        for i in range(p.size):
            grad = g[i] + decay * p[i]
            m[i] = beta1 * m[i] + fill1 * grad
            v[i] = beta2 * v[i] + fill2 * (grad * grad)
            p[i] = shrink * p[i] - scale * m[i] / (np.sqrt(v[i] * fill) + tiny)
