"""The fused training loop: `steps` reads from top to bottom as what happens to one run.

Forward and backward pass, update and intervention of a step work on the rows of weights that the step concerns, in
place. Weight decay under plain SGD is a scale: the weights are `scale` times what `net.w` holds, and shrinking them
all is one multiplication. At the end of an interval everything that was postponed is done, so that the arrays are then
exactly the state of the run; intervals begin at fixed steps, so nothing depends on how a run is cut into calls. Where
somebody who is not compiled acts at a step, `steps` stops there and goes on, and what is postponed stays postponed.

Precision: weights, activations and their sums are of the run's precision; the softmax, losses and the scale are
float64.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from lop_sweeps.algorithms.replacement_schedule import plan_replacements
from lop_sweeps.compiling import njit
from lop_sweeps.counter_random import step_key, uniform
from lop_sweeps.fused import dense, gated
from lop_sweeps.fused.activations import PRELU, activate, exponential
from lop_sweeps.fused.arrays import (
    ADAUPGD,
    CROSS_ENTROPY,
    LAZY,
    PER_STEP,
    SGD,
    UPGD,
    Array,
    Methods,
    Net,
    Noise,
    Optimizer,
    Replacement,
    Seen,
    Stream,
    Work,
)
from lop_sweeps.fused.methods import AFTER, BEGIN, END, PULL, READ, after_update, any_has, at_boundary, before_rows
from lop_sweeps.fused.methods import before_update as add_pulls
from lop_sweeps.fused.noise import add_to_all, settle
from lop_sweeps.fused.replacement import choose, replace, start_interval, update_utility
from lop_sweeps.fused.rows import OPTIONS, dots, gather, sum_magnitudes, update, update_row
from lop_sweeps.fused.unit_rows import behind_rows, row_of_units, with_rows
from lop_sweeps.fused.vector import borrowed, lanes, load, lowest_bit, magnitude, not_zero, splat, store, total

SMALLEST_SCALE = 1e-3  # a smaller scale is multiplied into the weights
# Parts of a step, in their order; TIDY: of the scale. ADD_UP: first add up |w| anew, for somebody has changed weights.
STEP, FIRST_NOISE, REPLACEMENT, LAST_NOISE, TIDY, ADD_UP = 1, 2, 4, 8, 16, 32
EVERYTHING = STEP | FIRST_NOISE | REPLACEMENT | LAST_NOISE | TIDY


@nb.njit(**OPTIONS)
def read_example(stream: Stream, example: int, rows: Array, values: Array) -> int:
    """The inputs of an example that are not 0: their numbers and values; returns how many."""
    n = 0
    if stream.dense.size > 0:
        x = stream.dense[example]
        for i in range(x.size):
            rows[n], values[n] = i, x[i]
            n += x[i] != 0
        return n
    image, shift = stream.order[example], stream.shift[example]
    for i in range(stream.starts[image], stream.starts[image + 1]):
        rows[n], values[n] = stream.place[shift + stream.columns[i]], stream.grey[stream.bytes[i]]
        n += 1
    return n


@nb.njit(**OPTIONS)
def score(
    stream: Stream, loss: int, batch: int, example: int, outputs: int, h: Array, delta: Array
) -> tuple[float, bool]:
    """Loss of an example, whether it is classified correctly; delta: d (mean loss of the batch) / d outputs."""
    kind = h.dtype.type
    if loss == CROSS_ENTROPY:
        asked = stream.asked
        label, best = asked[stream.labels[example]], asked[0]
        for j in asked:
            if h[j] > h[best]:
                best = j
        highest, sum_of = np.float64(h[best]), 0.0
        if len(asked) < outputs:
            delta[:outputs] = 0
        for j in asked:
            e = exponential(np.float64(h[j]) - highest)
            delta[j] = kind(e)
            sum_of += e
        for j in asked:
            delta[j] *= kind(1.0 / (sum_of * batch))
        delta[label] -= kind(1.0 / batch)
        return math.log(sum_of) + highest - h[label], best == label
    result = 0.0
    for j in range(outputs):
        error = np.float64(h[j]) - np.float64(stream.targets[example, j])
        result += error * error / outputs
        delta[j] = kind(2.0 * error / (outputs * batch))
    return result, False


@nb.njit(**OPTIONS)
def pre_activations(
    w: Array, base: int, stride: int, inputs: int, rows: Array, values: Array, n: int, scale: float, z: Array
) -> None:
    """z (stride,) = bias + inputs times weights of one layer; the weights are `scale` times those in w."""
    factor, bias = splat(w, w.dtype.type(scale)), base + inputs * stride
    for j in range(0, stride, lanes(w)):
        store(z, j, load(w, bias + j) * factor)
    gather(w, base, stride, rows, values, n, scale, z)


@nb.njit(**OPTIONS)
def row_sums_of(net: Net, layer: int, outgoing: Array, unowned: Array) -> Array:
    """Where the sums of |w| of a layer's rows are: they are the outgoing weights of the hidden layer before it."""
    return outgoing[net.units[layer - 1] :] if layer > 0 else unowned


@nb.njit(**OPTIONS)
def sum_layer(net: Net, layer: int, outgoing: Array, incoming: Array, unowned: Array) -> None:
    """The sums of |w| of a layer's rows and columns, from scratch."""
    base, stride, inputs = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2]
    row_sums = row_sums_of(net, layer, outgoing, unowned)
    sum_magnitudes(net.w, base, stride, inputs, row_sums, incoming[net.units[layer] :])


@nb.njit(**OPTIONS)
def is_measured(net: Net, rep: Replacement) -> Array:
    """(layers,): whether continual backprop needs the sums of |w| of a layer."""
    depth = len(net.layers)
    measured = np.zeros(depth, np.bool_)
    for i in range(depth - 1):
        if rep.active and rep.rates[i] > 0:
            measured[i] |= rep.by_incoming
            measured[i + 1] |= rep.by_outgoing
    return measured


@nb.njit(**OPTIONS)
def add_up(net: Net, rep: Replacement, work: Work) -> None:
    """The sums of |w| that are needed, from scratch."""
    measured = is_measured(net, rep)
    for i in range(len(net.layers)):
        if measured[i]:
            sum_layer(net, i, work.outgoing, work.incoming, work.unowned)


@nb.njit(**OPTIONS)
def settle_all(net: Net, noise: Noise, step: int, now: float, settled: Array, draws: Array) -> None:
    """Draw the lazy noise that is still due on any row, and begin to count anew."""
    for i in range(len(net.layers)):
        rows = np.arange(net.layers[i, 2] + 1)
        key = step_key(step_key(noise.key, step), i)
        settle(net.w, net.layers[i], rows, len(rows), now, settled[i], key, draws)
    settled[:] = 0.0


@nb.njit(**OPTIONS)
def multiply(w: Array, scale: float) -> None:
    """w *= scale."""
    factor = splat(w, w.dtype.type(scale))
    for i in range(0, w.size, lanes(w)):
        store(w, i, load(w, i) * factor)


@nb.njit(**OPTIONS)
def mean_magnitude(net: Net, layer: int) -> float:
    """Mean |w| of a weight matrix, without its bias."""
    base, stride, inputs, units = net.layers[layer]
    result = 0.0
    for r in range(inputs):
        m = splat(net.w, net.w.dtype.type(0))
        for j in range(0, stride, lanes(net.w)):
            m = m + magnitude(load(net.w, base + r * stride + j))
        result += total(m)
    return result / (inputs * units)


@nb.njit(**OPTIONS)
def drop_out(
    net: Net, layer: int, step: int, batch: int, b: int, h: Array, slope: Array, below: Array, kept: Array
) -> None:
    """kept (features,): activations h of hidden layer `layer` in example b after dropout; slope and below likewise."""
    features = net.layers[layer, 3] * net.features
    at = b * features  # of the step's draws, which come layer by layer
    for i in range(layer):
        at += batch * net.layers[i, 3] * net.features
    draws, factor = step_key(net.dropout_key, step), h.dtype.type(1.0 / (1.0 - net.dropout))
    for i in range(features):
        keep = factor if uniform(draws, at + i) >= net.dropout else h.dtype.type(0)
        kept[i] = h[i] * keep
        slope[i] *= keep
        if net.activation == PRELU:
            below[i] *= keep


@nb.njit(**OPTIONS)
def active_units(units: int, all_of_them: bool, h: Array, slope: Array, rows: Array, values: Array) -> int:
    """The units that take part in the next layer, and their activations; returns how many. (Or features, if several.)

    A unit does if its activation is not 0, so that its outgoing weights matter, or its slope, so that its delta does;
    where slopes are learned, all do.
    """
    active = 0
    every = (np.uint64(1) << np.uint64(lanes(h))) - np.uint64(1) if all_of_them else np.uint64(0)
    for j in range(0, units, lanes(h)):
        bits = not_zero(load(h, j)) | not_zero(load(slope, j)) | every
        if units - j < lanes(h):  # what is left in the padding does not count
            bits &= (np.uint64(1) << np.uint64(units - j)) - np.uint64(1)
        while bits != 0:
            i = j + lowest_bit(bits)
            rows[active], values[active] = i, h[i]
            active += 1
            bits &= bits - np.uint64(1)
    return active


@nb.njit(**OPTIONS)
def borrow_net(net: Net) -> Net:
    """The same, without reference counts (see `vector.borrowed`); so are the next two."""
    w, layers, units, options = borrowed(net.w), borrowed(net.layers), borrowed(net.units), borrowed(net.options)
    code, features, normed, fresh = net.activation, net.features, net.normed, borrowed(net.fresh)
    return Net(w, layers, units, code, options, features, normed, fresh, net.dropout, net.dropout_key, net.loss)


@nb.njit(**OPTIONS)
def borrow_stream(stream: Stream) -> Stream:
    return Stream(
        borrowed(stream.dense),
        borrowed(stream.starts),
        borrowed(stream.columns),
        borrowed(stream.bytes),
        borrowed(stream.order),
        borrowed(stream.shift),
        borrowed(stream.place),
        borrowed(stream.grey),
        borrowed(stream.labels),
        borrowed(stream.targets),
        borrowed(stream.asked),
    )


@nb.njit(**OPTIONS)
def borrow_replacement(rep: Replacement) -> Replacement:
    return Replacement(
        rep.active,
        rep.by_activity,
        rep.centred,
        rep.by_outgoing,
        rep.by_incoming,
        rep.random,
        rep.bernoulli,
        rep.transfer,
        rep.decay,
        rep.threshold,
        borrowed(rep.rates),
        borrowed(rep.bounds),
        borrowed(rep.rounding_keys),
        borrowed(rep.weight_keys),
        borrowed(rep.utility_keys),
        borrowed(rep.utility),
        borrowed(rep.mean),
        borrowed(rep.age),
        borrowed(rep.accumulated),
        borrowed(rep.replaced),
    )


@nb.njit(**OPTIONS)
def borrow_methods(methods: Methods) -> Methods:
    return Methods(borrowed(methods.addresses), borrowed(methods.words))


class Compiled(NamedTuple):
    """What Python calls. train: whole intervals; the others: their pieces, where somebody acts in between."""

    train: Any
    activations: Any
    begin_interval: Any
    steps: Any
    end_interval: Any
    gradient: Any


def _compile(sources: str) -> Compiled:
    """What Python calls, compiled.

    Numba finds what it has compiled before by a function's own text and closure, and does not see when a function
    that it calls has changed; `sources`, a digest of all of them, makes it see that.
    """

    @njit(nogil=True, error_model="numpy")
    def activations(net: Net, stream: Stream, work: Work, h: Array) -> None:
        """Activations of all hidden units on the first examples of a stream: h (examples, all units), zeros before."""
        net, stream, h = borrow_net(net), borrow_stream(stream), borrowed(h)
        rows, values, slope = borrowed(work.rows)[0, 0], borrowed(work.values)[0, 0], borrowed(work.slope)[0]
        standard, below = borrowed(work.standard)[0], borrowed(work.below)[0]
        w, depth, bases, strides = net.w, len(net.layers), net.layers[:, 0], net.layers[:, 1]
        inputs, units, own = net.layers[:, 2], net.layers[:, 3], len(net.fresh) > 0
        assert sources
        for example in range(len(h)):
            n = read_example(stream, example, rows, values)
            for i in range(depth - 1):
                z = h[example, net.units[i] :]
                pre_activations(w, bases[i], strides[i], inputs[i], rows, values, n, 1.0, z)
                if own:
                    with_rows(net, i, 1.0, z, slope, standard, below)
                else:
                    activate(net.activation, net.options, units[i], z, slope)
                n = active_units(units[i] * net.features, net.activation == PRELU, z, slope, rows, values)

    @njit(nogil=True, error_model="numpy")
    def gradient(
        net: Net,
        stream: Stream,
        work: Work,
        scale: float,
        step: int,
        first_example: int,
        batch: int,
        out: Array,
        slopes_of_units: Array,
    ) -> None:
        """The gradient of the mean loss on a mini-batch, like net.w, into `out`; nothing is updated.

        The weights are `scale` times those in net.w. slopes_of_units (batch, all units), or nothing: the gradient with
        respect to activations.
        """
        net, stream = borrow_net(net), borrow_stream(stream)
        w, kind, depth = net.w, net.w.dtype.type, len(net.layers) if sources else 0
        hidden, bases, strides, inputs = depth - 1, net.layers[:, 0], net.layers[:, 1], net.layers[:, 2]
        outputs, output = net.layers[hidden, 3], net.units[hidden]
        h, slope, delta, kept = borrowed(work.h), borrowed(work.slope), borrowed(work.delta), borrowed(work.kept)
        rows, values, active = borrowed(work.rows), borrowed(work.values), borrowed(work.active)
        standard, below, by = borrowed(work.standard), borrowed(work.below), borrowed(work.by)
        of_rows, products, out = borrowed(work.of_rows), borrowed(work.products), borrowed(out)
        own = len(net.fresh) > 0
        every, all_of_them = np.arange(len(products)), slopes_of_units.size > 0
        out[:] = 0
        for b in range(batch):
            example = first_example + b
            active[b, 0] = read_example(stream, example, rows[b, 0], values[b, 0])
            for i in range(depth):
                n, first = active[b, i], net.units[i]
                z = h[b, first:]
                pre_activations(w, bases[i], strides[i], inputs[i], rows[b, i], values[b, i], n, scale, z)
                if i < hidden:
                    slopes, negative = slope[b, first:], below[b, first:]
                    if own:
                        by[b, i] = with_rows(net, i, scale, z, slopes, standard[b, first:], negative)
                    else:
                        activate(net.activation, net.options, net.layers[i, 3], z, slopes)
                    if all_of_them:
                        slopes_of_units[b, first : first + inputs[i + 1]] = 1  # times what dropout makes of it
                        if net.dropout > 0:
                            drop_out(net, i, step, batch, b, z, slopes_of_units[b, first:], kept, kept)
                    if net.dropout > 0:
                        drop_out(net, i, step, batch, b, z, slopes, negative, kept)
                        z = kept
                    features, every_one = inputs[i + 1], net.activation == PRELU
                    active[b, i + 1] = active_units(features, every_one, z, slopes, rows[b, i + 1], values[b, i + 1])
            score(stream, net.loss, batch, example, outputs, h[b, output:], delta[b, output:])
            for i in range(hidden, -1, -1):
                n, d = active[b, i], delta[b, net.units[i] :]
                for k in range(n):
                    update_row(out, bases[i] + rows[b, i, k] * strides[i], strides[i], values[b, i, k], d)
                update_row(out, bases[i] + inputs[i] * strides[i], strides[i], 1.0, d)
                for number in range(len(of_rows) if i < hidden else 0):
                    update_row(out, row_of_units(net, i, number), strides[i], 1.0, of_rows[number, b, net.units[i] :])
                if i > 0:
                    first = net.units[i - 1]
                    dots(w, bases[i], strides[i], rows[b, i], n, d, products)
                    delta[b, first : first + strides[i - 1]] = 0
                    units = net.layers[i - 1, 3]
                    for k in range(n):
                        f = rows[b, i, k]
                        u = f if f < units else f - units  # of which it is a feature
                        delta[b, first + u] += kind(scale) * products[k] * slope[b, first + f]
                    if own:
                        behind_rows(net, i - 1, b, scale, rows[b, i], n, products, below, standard, by, delta, of_rows)
                    if all_of_them:
                        dots(w, bases[i], strides[i], every, inputs[i], d, products)
                        for u in range(inputs[i]):
                            slopes_of_units[b, first + u] *= kind(scale) * products[u]

    @njit(nogil=True, error_model="numpy")
    def begin_interval(
        net: Net,
        rule: Optimizer,
        rep: Replacement,
        methods: Methods,
        work: Work,
        carried: Array,
        first_step: int,
        length: int,
    ) -> None:
        """What an interval of `length` steps begins with: schedules, sums; carried: what `steps` postpones."""
        net, rep, methods = borrow_net(net), borrow_replacement(rep), borrow_methods(methods)
        assert sources
        at_boundary(methods, BEGIN, net, first_step)
        carried[0], carried[1] = 1.0, 0.0  # scale of the weights; variance of lazy noise so far, in units of net.w
        dense.tidy(rule)
        if rep.active:
            start_interval(rep, work.unfilled)
        add_up(net, rep, work)
        for i in range(len(net.layers) - 1):
            if rep.active and rep.rates[i] > 0:
                rep.accumulated[i] = plan_replacements(
                    rep.age[net.units[i] : net.units[i] + net.layers[i, 3]],
                    rep.threshold,
                    rep.rates[i],
                    rep.bernoulli,
                    rep.accumulated[i],
                    rep.rounding_keys[i],
                    first_step,
                    work.due[i, :length],
                )

    @njit(nogil=True, error_model="numpy")
    def end_interval(
        net: Net,
        rep: Replacement,
        noise: Noise,
        methods: Methods,
        work: Work,
        carried: Array,
        end: int,
        length: int,
        magnitudes: Array,
    ) -> bool:
        """Do everything that was postponed; magnitudes (layers,): mean |w| of each; whether they are finite.

        end: the step after the interval's last one.
        """
        assert sources
        if noise.kind == LAZY:
            settle_all(net, noise, end, carried[1], work.settled, work.noise_draws)
        if carried[0] != 1.0:
            multiply(net.w, carried[0])
        at_boundary(borrow_methods(methods), END, borrow_net(net), end)
        if rep.active:
            for i in range(len(net.layers) - 1):
                if rep.rates[i] > 0:
                    rep.age[net.units[i] : net.units[i] + net.layers[i, 3]] += length
        finite = True
        for i in range(len(net.layers)):
            magnitudes[i] = mean_magnitude(net, i)
            finite = finite and math.isfinite(magnitudes[i])
        return finite

    @njit(nogil=True, error_model="numpy")
    def steps(
        net: Net,
        stream: Stream,
        rule: Optimizer,
        rep: Replacement,
        noise: Noise,
        methods: Methods,
        work: Work,
        carried: Array,
        more: Array,
        parts: int,
        first_step: int,
        first_example: int,
        batch: int,
        start: int,
        stop: int,
        losses: Array,
        correct: Array,
    ) -> None:
        """Steps `start` ... `stop - 1` of an interval whose first step is number `first_step`.

        first_example: of the interval, in the stream. losses, correct (steps of the interval,): mean loss and accuracy
        before each update. parts: which parts of the steps (`EVERYTHING`, but where somebody else acts in between).
        more: a gradient like net.w that is added to the loss's, or nothing.
        """
        net, stream, rep = borrow_net(net), borrow_stream(stream), borrow_replacement(rep)
        w, kind, depth = net.w, net.w.dtype.type, len(net.layers) if sources else 0
        hidden, bases, strides, inputs = depth - 1, net.layers[:, 0], net.layers[:, 1], net.layers[:, 2]
        outputs, output = net.layers[hidden, 3], net.units[hidden]
        h, slope, delta, kept = borrowed(work.h), borrowed(work.slope), borrowed(work.delta), borrowed(work.kept)
        rows, values, active = borrowed(work.rows), borrowed(work.values), borrowed(work.active)
        products, x, by = borrowed(work.products), borrowed(work.x), borrowed(work.by)
        of_row = borrowed(work.of_row)
        standard, below, of_rows = borrowed(work.standard), borrowed(work.below), borrowed(work.of_rows)
        outgoing, incoming, unowned = borrowed(work.outgoing), borrowed(work.incoming), borrowed(work.unowned)
        unfilled, due, chosen = borrowed(work.unfilled), borrowed(work.due), borrowed(work.chosen)
        noise_draws, settled, all_draws = borrowed(work.noise_draws), borrowed(work.settled), borrowed(work.all_draws)
        methods, pulls = borrow_methods(methods), borrowed(work.pulls)
        reading, pulling, after = any_has(methods, READ), any_has(methods, PULL), any_has(methods, AFTER)
        seen = Seen(h, slope, delta, rows, values, active)

        own, every_unit = len(net.fresh) > 0, net.activation == PRELU
        in_gates = rule.kind == UPGD or rule.kind == ADAUPGD
        at_once = rule.kind == SGD and batch == 1  # update each layer while its delta is propagated
        # Where all weights may move, their magnitudes are added up at every step.
        anew = rule.kind != SGD or noise.kind == PER_STEP or after
        measured = is_measured(net, rep)  # layers whose sums of |w| are needed
        moved = np.zeros(depth, np.bool_)  # layers in which units have just been replaced
        scale, variance = carried[0], carried[1]
        if parts & ADD_UP:
            add_up(net, rep, work)

        for t in range(start, stop):
            step = first_step + t

            if parts & STEP:
                # Forward, one example after another.
                loss, right = 0.0, 0
                for b in range(batch):
                    example = first_example + t * batch + b
                    active[b, 0] = read_example(stream, example, rows[b, 0], values[b, 0])
                    for i in range(depth):
                        n, first = active[b, i], net.units[i]
                        if noise.kind == LAZY:
                            key = step_key(step_key(noise.key, step), i)
                            rows[b, i, n] = inputs[i]  # the bias, after the inputs that take part
                            settle(w, net.layers[i], rows[b, i], n + 1, variance, settled[i], key, noise_draws)
                        if reading:
                            rows[b, i, n] = inputs[i]
                            before_rows(methods, net, i, rows[b, i], n + 1, step)
                        z = h[b, first:]
                        pre_activations(w, bases[i], strides[i], inputs[i], rows[b, i], values[b, i], n, scale, z)
                        if i < hidden:
                            slopes, negative = slope[b, first:], below[b, first:]
                            if own:
                                by[b, i] = with_rows(net, i, scale, z, slopes, standard[b, first:], negative)
                            else:
                                activate(net.activation, net.options, net.layers[i, 3], z, slopes)
                            if net.dropout > 0:
                                drop_out(net, i, step, batch, b, z, slopes, negative, kept)
                                z = kept
                            features, into, of = inputs[i + 1], rows[b, i + 1], values[b, i + 1]
                            active[b, i + 1] = active_units(features, every_unit, z, slopes, into, of)
                    lost, hit = score(stream, net.loss, batch, example, outputs, h[b, output:], delta[b, output:])
                    loss += lost
                    right += hit
                losses[t], correct[t] = loss / batch, right / batch

                # Backward; under plain SGD and batches of one, each row is updated while it is read.
                shrunk = scale * (1.0 - rule.step_size * rule.weight_decay) if rule.kind == SGD else 1.0
                for b in range(batch):
                    for i in range(hidden, -1, -1):
                        n, d = active[b, i], delta[b, net.units[i] :]
                        if at_once:
                            move, out = -rule.step_size / shrunk, products
                            if measured[i]:
                                row_sums = row_sums_of(net, i, outgoing, unowned)
                                update(
                                    w, bases[i], strides[i], rows[b, i], values[b, i], n, move, d,
                                    out, row_sums, incoming[net.units[i] :],
                                )  # fmt: skip
                            elif i > 0:
                                update(w, bases[i], strides[i], rows[b, i], values[b, i], n, move, d, out, None, None)
                            else:
                                update(w, bases[i], strides[i], rows[b, i], values[b, i], n, move, d, None, None, None)
                            update_row(w, bases[i] + inputs[i] * strides[i], strides[i], move, d)
                            if own and i < hidden:
                                shorter = -rule.unit_step_size / shrunk
                                for number in range(len(of_rows)):
                                    gradients = of_rows[number, b, net.units[i] :]
                                    update_row(w, row_of_units(net, i, number), strides[i], shorter, gradients)
                        elif i > 0:
                            dots(w, bases[i], strides[i], rows[b, i], n, d, products)
                        if i > 0:
                            first, units = net.units[i - 1], net.layers[i - 1, 3]
                            delta[b, first : first + strides[i - 1]] = 0
                            for k in range(n):
                                f = rows[b, i, k]
                                u = f if f < units else f - units  # of which it is a feature
                                delta[b, first + u] += kind(scale) * products[k] * slope[b, first + f]
                            if own:
                                behind_rows(
                                    net, i - 1, b, scale, rows[b, i], n, products, below, standard, by, delta, of_rows
                                )
                scale = shrunk

                # The update, where it has not happened yet.
                if rule.kind == SGD and not at_once:
                    move = -rule.step_size / scale
                    for i in range(depth):
                        for b in range(batch):
                            d = delta[b, net.units[i] :]
                            if measured[i]:
                                row_sums = row_sums_of(net, i, outgoing, unowned)
                                update(
                                    w, bases[i], strides[i], rows[b, i], values[b, i], active[b, i], move, d,
                                    None, row_sums, incoming[net.units[i] :],
                                )  # fmt: skip
                            else:
                                update(
                                    w, bases[i], strides[i], rows[b, i], values[b, i], active[b, i], move, d,
                                    None, None, None,
                                )  # fmt: skip
                            update_row(w, bases[i] + inputs[i] * strides[i], strides[i], move, d)
                            if own and i < hidden:
                                shorter = -rule.unit_step_size / scale
                                for number in range(len(of_rows)):
                                    gradients = of_rows[number, b, net.units[i] :]
                                    update_row(w, row_of_units(net, i, number), strides[i], shorter, gradients)
                elif rule.kind != SGD:
                    dense.count_step(rule)
                    if pulling:
                        pulls[:] = 0
                        for i in range(more.size):
                            pulls[i] = more[i]
                        add_pulls(methods, net, pulls, step)
                    for i in range(depth):
                        for b in range(batch):
                            x[b, : inputs[i]] = 0
                            for k in range(active[b, i]):
                                x[b, rows[b, i, k]] = values[b, i, k]
                            x[b, inputs[i]] = 1
                        extra, deltas = pulls if pulling else more, delta[:, net.units[i] :]
                        if in_gates:
                            gated.write_gradient(rule, bases[i], strides[i], inputs[i] + 1, batch, x, deltas, extra)
                        else:
                            dense.update_layer(net, rule, i, batch, x, deltas, extra, of_row)
                        x[:, 0] = 1
                        for number in range(len(of_rows) if i < hidden else 0):
                            row, of_units = row_of_units(net, i, number), of_rows[number][:, net.units[i] :]
                            if in_gates:
                                gated.write_gradient(rule, row, strides[i], 1, batch, x, of_units, extra)
                            else:
                                dense.update_rows(net, rule, row, strides[i], 1, batch, x, of_units, extra, of_row)
                    if in_gates:
                        gated.update(net, rule, step)
                if rule.kind == SGD and more.size > 0:
                    for i in range(more.size):
                        w[i] += kind(-rule.step_size / scale) * more[i]
                    add_up(net, rep, work)
                if noise.kind == LAZY:
                    variance += (noise.std / scale) ** 2

                if after:
                    after_update(methods, net, seen, scale, step, t)

            # Interventions.
            if parts & FIRST_NOISE and noise.kind == PER_STEP and noise.first:
                add_to_all(net, noise, step, scale, all_draws)
            if parts & REPLACEMENT and rep.active:
                for i in range(depth):
                    if measured[i] and anew:
                        sum_layer(net, i, outgoing, incoming, unowned)
                for i in range(hidden):
                    if rep.rates[i] > 0:
                        update_utility(net, rep, i, batch, h, scale, unfilled, outgoing, incoming)
                        if due[i, t] > 0:
                            choose(net, rep, i, step, t, due[i, t], unfilled, chosen[i])
                for i in range(hidden):  # only now: a choice sees no replacement of its own step
                    if rep.rates[i] > 0 and due[i, t] > 0:
                        replace(net, rule, rep, i, step, t, chosen[i], due[i, t], scale, unfilled)
                        moved[i] = moved[i + 1] = True
                for i in range(depth):
                    if moved[i] and measured[i]:
                        sum_layer(net, i, outgoing, incoming, unowned)
                    moved[i] = False
            if parts & LAST_NOISE and noise.kind == PER_STEP and not noise.first:
                add_to_all(net, noise, step, scale, all_draws)
            if parts & TIDY and abs(scale) < SMALLEST_SCALE:
                if noise.kind == LAZY:
                    settle_all(net, noise, step + 1, variance, settled, noise_draws)
                    variance = 0.0
                multiply(w, scale)
                for i in range(len(outgoing)):
                    outgoing[i] *= kind(scale)
                    incoming[i] *= kind(scale)
                scale = 1.0
        carried[0], carried[1] = scale, variance

    @njit(nogil=True, error_model="numpy")
    def train(
        net: Net,
        stream: Stream,
        rule: Optimizer,
        rep: Replacement,
        noise: Noise,
        methods: Methods,
        work: Work,
        first_step: int,
        batch: int,
        count: int,
        interval: int,
        losses: Array,
        correct: Array,
        magnitudes: Array,
    ) -> int:
        """Learn from `count` mini-batches; returns how many, which is fewer if the network is no longer finite.

        losses, correct (count,): mean loss and accuracy before each update. magnitudes (intervals, layers): mean |w|
        at the end of each interval.
        """
        carried, nothing = np.empty(2), net.w[:0]
        start, everything = np.int64(0), np.int64(EVERYTHING)  # numba would compile `steps` anew for literals
        begin, number = 0, 0
        while begin < count:
            length = min(interval, count - begin)
            first, of_interval = first_step + begin, slice(begin, begin + length)
            begin_interval(net, rule, rep, methods, work, carried, first, length)
            steps(
                net, stream, rule, rep, noise, methods, work, carried, nothing, everything, first, begin * batch, batch,
                start, length, losses[of_interval], correct[of_interval],
            )  # fmt: skip
            end = first + length
            finite = end_interval(net, rep, noise, methods, work, carried, end, length, magnitudes[number])
            finite = finite and math.isfinite(losses[of_interval].sum())
            begin, number = begin + length, number + 1
            if not finite:
                break
        return begin

    return Compiled(train, activations, begin_interval, steps, end_interval, gradient)


def _digest() -> str:
    """Of every file whose text ends up in the compiled loop."""
    package = Path(__file__).parents[1]
    others = [package / "algorithms" / f"{name}.py" for name in ("replacement_schedule", "continual_backprop")]
    others += [package / "counter_random.py", package / "optimizers" / "upgd_kernel.py"]
    files = [*sorted((package / "fused").glob("*.py")), *others]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


compiled = _compile(_digest())
