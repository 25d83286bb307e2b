"""What a compiled training loop works on: named tuples of arrays, one run's each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lop_sweeps.fused.vector import LANES

Array = Any

CROSS_ENTROPY, SQUARED_ERROR = 0, 1
SGD, MOMENTUM, ADAM, ADAMW, UPGD, ADAUPGD = range(6)
NO_NOISE, PER_STEP, LAZY = 0, 1, 2
BLOCK = 16  # rows whose lazy noise is drawn at a time: few enough to stay in the first cache


class Net(NamedTuple):
    """A fully connected network.

    w: all weights (see `rows`). layers: (layers, 4) of base, stride, inputs, units; a layer's bias is the row after
    its last input's, and rows of hidden units follow (see `unit_rows`): normed, whether there are a scale and a shift
    among them; fresh: (rows of units,) what a new unit has there. features: of a unit, which the next layer reads.
    units: (layers,) where a layer's units, or features, start in arrays over all of them, padded like the rows.
    """

    w: Array
    layers: Array
    units: Array
    activation: int
    options: Array
    features: int
    normed: bool
    fresh: Array
    dropout: float
    dropout_key: Any
    loss: int


class Stream(NamedTuple):
    """The examples of a stretch of one task, either dense or as images in compressed sparse rows.

    dense: (examples, inputs), or empty. Otherwise image `order[e]` has the pixels `columns[starts[image] :
    starts[image + 1]]` with grey values `bytes`; pixel p is input `place[shift[e] + p]` and grey value v is `grey[v]`.
    labels: (examples,), or targets: (examples, outputs). asked: the network's outputs that count, in the labels' order.
    """

    dense: Array
    starts: Array
    columns: Array
    bytes: Array
    order: Array
    shift: Array
    place: Array
    grey: Array
    labels: Array
    targets: Array
    asked: Array


class Gates(NamedTuple):
    """What UPGD has beside the options of `Optimizer`; for other rules nothing. See `gated`.

    utility; power: beta^t, per weight or one for all. corrected: whether gates are relative to the largest corrected
    utility; factor: of the step size. gradient, gate, noise: scratch space, like the weights; draws (parameters,), or
    single_draws in float32.
    """

    utility: Array
    power: Array
    beta: float
    noise_std: float
    key: Any
    corrected: bool
    factor: float
    protecting: bool
    gradient: Array
    gate: Array
    noise: Array
    draws: Array
    single_draws: Array


class Optimizer(NamedTuple):
    """A rule and its state, laid out like the weights; arrays that a rule does not use are empty.

    unit_step_size: for rows of units (see `unit_rows`), which a method may leave alone though it changes the other.
    beta1 is SGD's momentum; moment1 its buffer. power1, power2: beta^t, per weight or one for all. fresh: whether a
    replaced unit's part of the state is reset.
    """

    kind: int
    step_size: float
    unit_step_size: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    authors: bool
    fresh: bool
    moment1: Array
    moment2: Array
    power1: Array
    power2: Array
    gates: Gates


class Replacement(NamedTuple):
    """Continual backprop: options, and state over all units (age: int64; row n of `rates` etc. is hidden layer n).

    by_activity, centred, by_outgoing, by_incoming: the factors of the utility, as `ContinualBackprop` defines them;
    random: a fresh draw instead. bounds: of new incoming weights.
    """

    active: bool
    by_activity: bool
    centred: bool
    by_outgoing: bool
    by_incoming: bool
    random: bool
    bernoulli: bool
    transfer: bool
    decay: float
    threshold: int
    rates: Array
    bounds: Array
    rounding_keys: Array
    weight_keys: Array
    utility_keys: Array
    utility: Array
    mean: Array
    age: Array
    accumulated: Array
    replaced: Array


class Noise(NamedTuple):
    """Shrink and perturb's noise; `first`: whether it comes before continual backprop in a step."""

    kind: int
    std: float
    key: Any
    first: bool


class Methods(NamedTuple):
    """Methods that are compiled apart from the loop (see `methods`). addresses (methods, hooks): of their functions, 0
    for one that a method has not. words (methods, words): each one's memory.
    """

    addresses: Array
    words: Array


class Seen(NamedTuple):
    """What a step has made, for those that act after it; parts of `Work`, (batch, ...)."""

    h: Array
    slope: Array
    delta: Array
    rows: Array
    values: Array
    active: Array


class Work(NamedTuple):
    """Scratch space, all zeros at first.

    h, slope, delta (batch, all units): activations before dropout; d activation / d z; d loss / d z, with z the
    pre-activations. standard, below (batch, all units), by (batch, layers), of_rows (rows of units, batch, all units):
    see `unit_rows`. rows, values (batch, layers, width): the inputs of each layer that take part in an example, and
    active (batch, layers) how many they are. kept: a layer's activations after dropout. products: of rows with
    deltas. x (batch, width): inputs of a layer, zeros and all; of_row (batch,): the examples in which one of them is
    not 0. outgoing, incoming, unfilled (all units,): see `replacement`; unowned: sums of rows that no unit owns. due
    (layers, interval): units to replace at each step; chosen (layers, width): which. noise_draws, settled, all_draws:
    see `noise`. pulls: like net.w, what methods add to the gradient.
    """

    h: Array
    slope: Array
    delta: Array
    standard: Array
    below: Array
    by: Array
    of_rows: Array
    rows: Array
    values: Array
    active: Array
    kept: Array
    products: Array
    x: Array
    of_row: Array
    outgoing: Array
    incoming: Array
    unfilled: Array
    unowned: Array
    due: Array
    chosen: Array
    noise_draws: Array
    settled: Array
    all_draws: Array
    pulls: Array


def rooms(layers: Array, features: int, dtype: Any) -> Array:
    """(layers,): the room that each layer's units, or their features, take in arrays over all of them."""
    lanes, outputs = LANES[np.dtype(dtype).name], layers[:, 3].copy()
    outputs[:-1] *= features
    return -(-outputs // lanes) * lanes


def make_work(net: Net, noise: Noise, batch: int, interval: int, *, pulled: bool = False) -> Work:
    """Scratch space for training with mini-batches of `batch`. pulled: whether methods add to the gradient."""
    depth, dtype, strides, inputs = len(net.layers), net.w.dtype, net.layers[:, 1], net.layers[:, 2]
    room = rooms(net.layers, net.features, net.w.dtype)
    width, stride, units = max(inputs.max() + 1, room.max()), strides.max(), int(room.sum())
    own, lazy = len(net.fresh), noise.kind == LAZY
    weights = int(((inputs + 1) * net.layers[:, 3]).sum() + own * net.layers[:-1, 3].sum())
    return Work(
        h=np.zeros((batch, units), dtype),
        slope=np.zeros((batch, units), dtype),
        delta=np.zeros((batch, units), dtype),
        standard=np.zeros((batch, units if own else 0), dtype),
        below=np.zeros((batch, units if own else 0), dtype),
        by=np.ones((batch, depth)),
        of_rows=np.zeros((own, batch, units), dtype),
        rows=np.zeros((batch, depth, width), np.int32),
        values=np.zeros((batch, depth, width), dtype),
        active=np.zeros((batch, depth), np.int64),
        kept=np.zeros(room.max(), dtype),
        products=np.zeros(width, dtype),
        x=np.zeros((batch, width), dtype),
        of_row=np.zeros(batch, np.int64),
        outgoing=np.zeros(units, dtype),
        incoming=np.zeros(units, dtype),
        unfilled=np.ones(units, dtype),
        unowned=np.zeros(width, dtype),
        due=np.zeros((depth, interval), np.int64),
        chosen=np.zeros((depth, width), np.int64),
        noise_draws=np.zeros((2, BLOCK * stride if lazy else 0), np.float32),
        settled=np.zeros((depth, width if lazy else 0)),
        all_draws=np.zeros(weights if noise.kind == PER_STEP else 0),
        pulls=np.zeros(net.w.size if pulled else 0, dtype),
    )


def seen_of(work: Work) -> Seen:
    """What those that act after a step see of it."""
    return Seen(work.h, work.slope, work.delta, work.rows, work.values, work.active)


def aligned_zeros(size: int, dtype: Any) -> Array:
    """Zeros that begin where a cache line does. From numpy, since it asks the system for large pages, 20% faster."""
    item = np.dtype(dtype).itemsize
    array = np.zeros(size + 64 // item, dtype)
    offset = -array.ctypes.data % 64 // item
    return array[offset : offset + size]
