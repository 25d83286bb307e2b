"""Is a network's unit graph true? Names and shapes, and who feeds and reads whom, from one forward pass.

Continual backprop, resets and diagnostics believe the graph. A wrong one fails inside a step, in words about tensors;
or not at all, and the wrong weights are reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lop_sweeps.build import call, suggest
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer

BATCH = 3  # examples; a number that is unlikely to be one of units


def check_graph(network: Network, inputs: int, outputs: int) -> None:
    """Raise `ConfigError`, naming layer and parameter, unless the graph describes `network`.

    Its weights may be anything, but there: PyTorch loads 900 modules for the first operation on `meta`.
    inputs, outputs: numbers that an example has, and that the benchmark asks for.
    """
    graph = call("", network.unit_graph)
    named: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for method in ("weights", "heads"):
        for name in call("", getattr(network, method)):
            _parameter(named, f"{method}()", name)
    for i, layer in enumerate(graph):
        _check_shapes(f"unit_graph()[{i}]", layer, named)
    network.eval()
    given, activations = call("", network.forward, torch.zeros(BATCH, inputs))
    if isinstance(network, ActorCritic):
        outputs = 2 * outputs + 1
    if tuple(given.shape) != (BATCH, outputs):
        raise ConfigError(
            "forward()", list(given.shape), f"must give outputs (batch, {outputs}), here ({BATCH}, {outputs})"
        )
    if len(activations) != len(graph):
        allowed = f"must give the activations of the {len(graph)} layers of unit_graph(), in their order"
        raise ConfigError("forward()", len(activations), allowed)
    for i, (layer, activation) in enumerate(zip(graph, activations, strict=True)):
        if tuple(activation.shape[:2]) != (BATCH, layer.units):
            allowed = f"must give activations (batch, {layer.units} units, ...) for layer {i}, here ({BATCH}, ...)"
            raise ConfigError("forward()", list(activation.shape), allowed)
    _check_readers(graph, dict(network.named_parameters()), activations, given)


def _check_shapes(where: str, layer: UnitLayer, named: dict[str, Tensor]) -> None:
    units = layer.units
    weight = _parameter(named, f"{where}.weight", layer.weight)
    _must(f"{where}.weight", layer.weight, weight, len(weight) == units, f"({units} units, inputs, ...)")
    bias = _parameter(named, f"{where}.bias", layer.bias)
    _must(f"{where}.bias", layer.bias, bias, tuple(bias.shape) == (units,), f"({units} units)")
    reader = _parameter(named, f"{where}.next_weight", layer.next_weight)
    read = units * layer.spread
    right = reader.dim() > 1 and reader.shape[1] == read
    _must(f"{where}.next_weight", layer.next_weight, reader, right, f"(next units, {read} that it reads, ...)")
    bias = _parameter(named, f"{where}.next_bias", layer.next_bias)
    right = tuple(bias.shape) == (len(reader),)
    _must(f"{where}.next_bias", layer.next_bias, bias, right, f"({len(reader)} next units)")
    for name, _ in layer.norm:
        norm = _parameter(named, f"{where}.norm", name)
        _must(f"{where}.norm", name, norm, tuple(norm.shape) == (units,), f"({units} units)")
    if layer.fan_in != weight[0].numel():
        allowed = f"must be the weights that a unit has in {layer.weight}: {weight[0].numel()}"
        raise ConfigError(f"{where}.fan_in", layer.fan_in, allowed)


def _check_readers(
    graph: Sequence[UnitLayer], parameters: dict[str, Tensor], activations: Sequence[Tensor], outputs: Tensor
) -> None:
    """Each layer's weights make its activations, and what reads them is `next_weight`.

    By the graph that autograd has noted, cut at the activations. A layer whose activations are not on the way to the
    outputs (copies, say) cannot be followed, and passes.
    """
    made = [activation.grad_fn for activation in activations]
    if not all(made):
        return
    sources = [_sources(node, made) for node in [*made, outputs.grad_fn]]
    for i, layer in enumerate(graph):
        weights, _ = sources[i]
        for key in ("weight", "bias"):
            name = getattr(layer, key)
            if not any(one is parameters[name] for one in weights):
                raise ConfigError(f"unit_graph()[{i}].{key}", name, f"does not make the activations of layer {i}")
        readers = [read for weights, read in sources if any(one is parameters[layer.next_weight] for one in weights)]
        read = {k for layers in readers for k in layers}
        if i not in read and any(i in layers for _, layers in sources):
            what = f"reads {', '.join(f'layer {k}' for k in sorted(read))}" if read else "reads no layer"
            raise ConfigError(f"unit_graph()[{i}].next_weight", layer.next_weight, f"must read layer {i}; it {what}")


def _sources(node: Any, cuts: Sequence[Any]) -> tuple[list[Tensor], set[int]]:
    """The parameters and the activations (by number) that a tensor is made of, without what those are made of."""
    parameters: list[Tensor] = []
    layers: set[int] = set()
    seen, waiting = {node}, [node]
    while waiting:
        for source, _ in getattr(waiting.pop(), "next_functions", ()):
            if source is None or source in seen:
                continue
            seen.add(source)
            if source in cuts:
                layers.add(list(cuts).index(source))
            elif hasattr(source, "variable"):
                parameters.append(source.variable)
            else:
                waiting.append(source)
    return parameters, layers


def _parameter(named: dict[str, Tensor], where: str, name: str) -> Tensor:
    if name not in named:
        raise ConfigError(where, name, f"is no parameter of the network{suggest(str(name), named)}")
    return named[name]


def _must(where: str, name: str, tensor: Tensor, right: bool, shape: str) -> None:
    if not right:
        raise ConfigError(where, name, f"must have the shape {shape}, but has {tuple(tensor.shape)}")
