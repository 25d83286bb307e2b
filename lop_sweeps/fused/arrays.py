"""What a compiled training loop works on: named tuples of arrays, one run's each."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any

CROSS_ENTROPY, SQUARED_ERROR = 0, 1
SGD, MOMENTUM, ADAM, ADAMW = 0, 1, 2, 3
NO_NOISE, PER_STEP, LAZY = 0, 1, 2


class Net(NamedTuple):
    """A fully connected network.

    w: all weights (see `rows`). layers: (layers, 4) of base, stride, inputs, units; a layer's bias is the row after
    its last input's. units: (layers,) where a layer's units start in arrays over all units, padded like the rows.
    """

    w: Array
    layers: Array
    units: Array
    activation: int
    dropout: float
    dropout_key: Any
    loss: int


class Stream(NamedTuple):
    """The examples of a stretch of one task, either dense or as images in compressed sparse rows.

    dense: (examples, inputs), or empty. Otherwise image `order[e]` has the pixels `columns[starts[image] :
    starts[image + 1]]` with grey values `bytes`; pixel p is input `place[p]` and grey value v is `grey[v]`.
    labels: (examples,), or targets: (examples, outputs).
    """

    dense: Array
    starts: Array
    columns: Array
    bytes: Array
    order: Array
    place: Array
    grey: Array
    labels: Array
    targets: Array


class Optimizer(NamedTuple):
    """A rule and its state, laid out like the weights; arrays that a rule does not use are empty.

    beta1 is SGD's momentum; moment1 its buffer. power1, power2: beta^t, per weight or one for all. fresh: whether a
    replaced unit's part of the state is reset.
    """

    kind: int
    step_size: float
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
