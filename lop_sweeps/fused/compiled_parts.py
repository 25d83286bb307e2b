"""What an optimiser and interventions are to the compiled loop: their options and state as arrays, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import PackedContinualBackprop
from lop_sweeps.algorithms.shrink_and_perturb import PackedShrinkAndPerturb
from lop_sweeps.fused import arrays
from lop_sweeps.networks.unit_graph import UnitLayer
from lop_sweeps.optimizers.adam import PackedAdam
from lop_sweeps.optimizers.adaupgd import PackedAdaUPGD
from lop_sweeps.optimizers.optimizer import PackedOptimizer
from lop_sweeps.optimizers.sgd import PackedSGD
from lop_sweeps.optimizers.upgd import DRAWS, PackedUPGD


def gates_of(packed: PackedOptimizer, dtype: Any, parameters: int, seed: int) -> arrays.Gates:
    """UPGD's gates, and its state on the same memory; or none. parameters: how many there are, padding left out."""
    empty, draws, single = np.zeros(0, dtype), np.zeros(0), np.zeros(0, np.float32)
    if not isinstance(packed, PackedUPGD):
        nothing = (empty, empty, 0.0, 0.0, np.uint64(0), False, 0.0, False)
        return arrays.Gates(*nothing, empty, empty, empty, draws, single)
    utility, std = numpy_of(packed.utility), _number(packed.noise_std)
    if std and dtype == np.float32:
        single = np.zeros(parameters, np.float32)
    elif std:
        draws = np.zeros(parameters)
    return arrays.Gates(
        utility, numpy_of(packed.power), _number(packed.beta_utility), std, streams.counter_key(seed, DRAWS),
        packed.of_corrected, packed.factor, packed.protecting,
        np.zeros_like(utility), np.zeros_like(utility), np.zeros_like(utility), draws, single,
    )  # fmt: skip


def rule_of(packed: PackedOptimizer, dtype: Any, parameters: int, seed: int) -> arrays.Optimizer:
    """An optimiser's rule, and its state on the same memory. parameters: how many there are, padding left out."""
    empty, gates = np.zeros(0, dtype), gates_of(packed, dtype, parameters, seed)
    fresh = bool(packed.fresh())
    if isinstance(packed, PackedUPGD):
        size, decay = _number(packed.step_size), _number(packed.weight_decay)
        options = (arrays.UPGD, size, size, decay, 0.0, 0.0, 0.0, False, fresh)
        rule = arrays.Optimizer(*options, empty, empty, empty, empty, gates)
        if isinstance(packed, PackedAdaUPGD):
            rule = rule._replace(
                kind=arrays.ADAUPGD, beta1=_number(packed.beta1), beta2=_number(packed.beta2), eps=_number(packed.eps),
                moment1=numpy_of(packed.moment1), moment2=numpy_of(packed.moment2),
                power1=numpy_of(packed.power1), power2=numpy_of(packed.power2),
            )  # fmt: skip
        return rule
    if isinstance(packed, PackedSGD):
        kind = arrays.SGD if packed.buffer is None else arrays.MOMENTUM
        buffer = empty if packed.buffer is None else numpy_of(packed.buffer)
        size = -_number(packed.negative_step_size)
        return arrays.Optimizer(
            kind, size, size, _number(packed.weight_decay), _number(packed.momentum),
            0.0, 0.0, False, fresh, buffer, empty, empty, empty, gates,
        )  # fmt: skip
    assert isinstance(packed, PackedAdam)
    return arrays.Optimizer(
        arrays.ADAMW if packed.decoupled else arrays.ADAM, _number(packed.step_size), _number(packed.step_size),
        _number(packed.weight_decay), _number(packed.beta1), _number(packed.beta2), _number(packed.eps),
        packed.correction == "authors", fresh, numpy_of(packed.moment1), numpy_of(packed.moment2),
        numpy_of(packed.power1), numpy_of(packed.power2), gates,
    )  # fmt: skip


def _find(interventions: Sequence[Any], kind: type) -> tuple[int, Any]:
    """The place in the order of interventions of the one of this kind, and it; or -1 and None."""
    found = [(i, one) for i, one in enumerate(interventions) if isinstance(one, kind)]
    return found[0] if found else (-1, None)


def noise_of(interventions: Sequence[Any]) -> arrays.Noise:
    """Shrink and perturb among a run's interventions, or no noise."""
    at, packed = _find(interventions, PackedShrinkAndPerturb)
    if packed is None or not packed.options[0].noise_std:
        return arrays.Noise(arrays.NO_NOISE, 0.0, np.uint64(0), False)
    options = packed.options[0]
    kind = arrays.LAZY if options.noise == "lazy" else arrays.PER_STEP
    after, _ = _find(interventions, PackedContinualBackprop)
    return arrays.Noise(kind, float(options.noise_std), packed.keys[0], at < after)


def replacement_of(
    interventions: Sequence[Any], graph: Sequence[UnitLayer], units: NDArray[np.int64], all_units: int, dtype: Any
) -> arrays.Replacement:
    """Continual backprop among a run's interventions, its state copied, or none.

    units (layers,): where those of a layer start in arrays over `all_units`.
    """
    _, packed = _find(interventions, PackedContinualBackprop)
    hidden = len(graph)
    nothing = np.zeros(0, np.uint64)
    state = [np.zeros(all_units, dtype), np.zeros(all_units, dtype), np.zeros(all_units, np.int64)]
    accumulated, replaced = np.zeros(hidden), np.zeros(hidden, np.int64)
    if packed is None:
        flags = (False,) * 8
        none = np.zeros(0)
        return arrays.Replacement(*flags, 0.0, 0, none, none, nothing, nothing, nothing, *state, accumulated, replaced)
    for i, (layer, first) in enumerate(zip(packed.layers, units, strict=False)):
        for array, tensor in zip(state, (layer.utility, layer.mean_activation, layer.age), strict=True):
            array[first : first + tensor.shape[1]] = tensor[0].numpy()
        accumulated[i], replaced[i] = float(layer.accumulated[0]), int(layer.replaced[0])
    options, kind = packed.options[0], packed.kind
    return arrays.Replacement(
        active=True,
        by_activity=kind in ("contribution", "zero_contribution", "adaptable_contribution", "feature_by_input"),
        centred=kind in ("zero_contribution", "adaptable_contribution", "feature_by_input"),
        by_outgoing=kind in ("weight", "contribution", "zero_contribution", "adaptable_contribution"),
        by_incoming=kind in ("adaptation", "adaptable_contribution", "feature_by_input"),
        random=kind == "random",
        bernoulli=options.fractional == "bernoulli",
        transfer=options.bias_transfer,
        decay=float(options.decay_rate),
        threshold=int(options.maturity_threshold),
        rates=packed.rates[0],
        bounds=np.array([layer.bound for layer in graph]),
        rounding_keys=np.array(packed.rounding_keys),
        weight_keys=np.array(packed.weight_keys),
        utility_keys=np.array(packed.utility_keys),
        utility=state[0],
        mean=state[1],
        age=state[2],
        accumulated=accumulated,
        replaced=replaced,
    )


def take_back(replacement: arrays.Replacement, interventions: Sequence[Any], units: NDArray[np.int64]) -> None:
    """What continual backprop has changed, as the tensors that everybody else sees."""
    _, packed = _find(interventions, PackedContinualBackprop)
    if packed is None:
        return
    state = (replacement.utility, replacement.mean, replacement.age)
    for i, (layer, first) in enumerate(zip(packed.layers, units, strict=False)):
        for array, tensor in zip(state, (layer.utility, layer.mean_activation, layer.age), strict=True):
            tensor[0] = torch.from_numpy(array[first : first + tensor.shape[1]])
        layer.accumulated[0], layer.replaced[0] = replacement.accumulated[i], int(replacement.replaced[i])


def numpy_of(flat: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = flat[0].numpy()
    return array


def _number(column: Tensor) -> float:
    return float(column[0, 0])
