"""Optimisers that move every weight at every step, whether or not its input was zero: momentum, Adam, AdamW.

One pass over the weights and the optimiser's state; the gradient, a sum of one outer product for each example, is
made in registers on the way. The rules are those of `lop_sweeps.optimizers`.
"""

from __future__ import annotations

import numba as nb

from lop_sweeps.fused.arrays import ADAM, ADAMW, MOMENTUM, Array, Net, Optimizer
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.vector import fma, lanes, load, root, splat, store


@nb.njit(**OPTIONS)
def update_layer(
    net: Net, rule: Optimizer, layer: int, batch: int, x: Array, delta: Array, more: Array, sources: Array
) -> None:
    """x (batch, inputs + 1), the last for the bias; delta (batch, stride), the loss's gradient before activations.

    more: a gradient like net.w that is added, or nothing. sources (batch,): scratch space.
    """
    base, stride, rows = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2] + 1
    update_rows(net, rule, base, stride, rows, batch, x, delta, more, sources)


@nb.njit(**OPTIONS)
def update_rows(
    net: Net,
    rule: Optimizer,
    base: int,
    stride: int,
    rows: int,
    batch: int,
    x: Array,
    delta: Array,
    more: Array,
    sources: Array,
) -> None:
    """`rows` of them from `base` on; row r has the gradient sum over b of x[b, r] * delta[b].

    Most inputs are 0 in most examples (dark pixels, silent units), which are left out of the sum.
    """
    w, m, v = net.w, rule.moment1, rule.moment2
    kind = w.dtype.type
    each, added = rule.power1.size > 1, more.size > 0
    step, decay = splat(w, kind(-rule.step_size)), splat(w, kind(rule.weight_decay))
    beta1, beta2 = splat(w, kind(rule.beta1)), splat(w, kind(rule.beta2))
    fill1, fill2 = splat(w, kind(1) - kind(rule.beta1)), splat(w, kind(1) - kind(rule.beta2))
    shrink = splat(w, kind(1) - kind(rule.step_size) * kind(rule.weight_decay))
    eps, one = splat(w, kind(rule.eps)), splat(w, kind(1))
    scale1, scale2 = one, one
    if rule.kind != MOMENTUM and not each:
        if rule.authors:
            scale1 = splat(w, -kind(rule.step_size) * (kind(1) - rule.power2[0]))
        else:
            scale1 = splat(w, -kind(rule.step_size) / (kind(1) - rule.power1[0]))
            scale2 = splat(w, kind(1) / (kind(1) - rule.power2[0]))
    for r in range(rows):
        start, count = base + r * stride, 0
        for b in range(batch):
            sources[count] = b
            count += x[b, r] != 0
        for j in range(0, stride, lanes(w)):
            i = start + j
            g = load(more, i) if added else splat(w, kind(0))
            for k in range(count):
                b = sources[k]
                g = fma(splat(w, x[b, r]), load(delta[b], j), g)
            weight = load(w, i)
            if rule.kind == ADAMW:
                weight = weight * shrink
            else:
                g = fma(weight, decay, g)
            if rule.kind == MOMENTUM:
                g = fma(load(m, i), beta1, g)
                store(m, i, g)
                store(w, i, fma(g, step, weight))
                continue
            first = fma(g, fill1, load(m, i) * beta1)
            second = fma(g * g, fill2, load(v, i) * beta2)
            store(m, i, first)
            store(v, i, second)
            if each:
                p1, p2 = load(rule.power1, i) * beta1, load(rule.power2, i) * beta2
                store(rule.power1, i, p1)
                store(rule.power2, i, p2)
                if rule.authors:
                    scale1 = step * (one - p2)
                else:
                    scale1, scale2 = step / (one - p1), one / (one - p2)
            store(w, i, weight + scale1 * first / (root(second * scale2) + eps))


@nb.njit(**OPTIONS)
def count_step(rule: Optimizer) -> None:
    """One more step of Adam, where one count serves all weights."""
    if (rule.kind == ADAM or rule.kind == ADAMW) and rule.power1.size == 1:
        rule.power1[0] *= rule.power1.dtype.type(rule.beta1)
        rule.power2[0] *= rule.power2.dtype.type(rule.beta2)


@nb.njit(**OPTIONS)
def tidy(rule: Optimizer) -> None:
    """1 - beta^t is exactly 1 long before this; denormal numbers would only make the products slow."""
    for power in (rule.power1, rule.power2, rule.gates.power):
        for i in range(power.size):
            if power[i] < 1e-20:
                power[i] = 0
