"""Is a network's unit graph true? Names and shapes, and who feeds and reads whom, from one forward pass.

Continual backprop, resets and diagnostics believe the graph. A wrong one fails inside a step, in words about tensors;
or not at all, and the wrong weights are reset.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.build import call, suggest
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.graph_gradients import Sources, Terms, matrices, random, sources
from lop_sweeps.networks.graph_readers import ReadersCheck
from lop_sweeps.networks.graph_rows import RowsCheck
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import Arrangement, Reader, Rows, UnitLayer

BATCH = 3  # examples; a number that is unlikely to be one of units


def check_graph(network: Network, inputs: int, outputs: int) -> None:
    """Raise `ConfigError`, naming layer and parameter, unless the graph describes `network`.

    network: one to throw away; its parameters must be there, and are filled anew. inputs, outputs: numbers that an
    example has, and that the benchmark asks for.
    """
    graph = call("", network.unit_graph)
    named: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for method in ("weights", "heads"):
        for name in call("", getattr(network, method)):
            _parameter(named, f"{method}()", name)
    for i, layer in enumerate(graph):
        _check_shapes(f"unit_graph()[{i}]", layer, named)
    x = torch.from_numpy(streams.generator(0, "inputs of a graph check").random((BATCH, inputs))).float()
    with torch.random.fork_rng(devices=[]):
        _fill(network)
        given, activations = call("", network.eval().forward, x)
    if isinstance(network, ActorCritic):
        outputs = (1 if network.discrete else 2) * outputs + 1
    if tuple(given.shape) != (BATCH, outputs):
        raise ConfigError(
            "forward()", list(given.shape), f"must give outputs (batch, {outputs}), here ({BATCH}, {outputs})"
        )
    if len(activations) != len(graph):
        allowed = f"must give the activations of the {len(graph)} layers of unit_graph(), in their order"
        raise ConfigError("forward()", len(activations), allowed)
    for i, (layer, activation) in enumerate(zip(graph, activations, strict=True)):
        if tuple(activation.shape[:2]) != (BATCH, layer.num_features):
            what = "units" if layer.each == 1 else f"features of {layer.units} units"
            allowed = (
                f"must give activations (batch, {layer.num_features} {what}, ...) for layer {i}, here ({BATCH}, ...)"
            )
            raise ConfigError("forward()", list(activation.shape), allowed)
    made = [activation.grad_fn for activation in activations]
    # Of each layer's activations and then of the outputs. Those that are not on the way to the outputs (copies, say)
    # cannot be followed.
    made_of = [sources(node, made) for node in [*made, given.grad_fn]] if all(made) else []
    if made_of:
        _check_neighbours(graph, dict(network.named_parameters()), made_of)
    _check_flow(network, graph, x, given, activations, made_of)


def _fill(network: Network) -> None:
    """Initial parameters and buffers, with weights and biases that are not 0, so that all that is connected shows."""
    call("", network.initialize, lambda i: streams.generator(i, "initial weights of a graph check"))
    generator = streams.generator(0, "weights of a graph check")
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.from_numpy(np.asarray(generator.standard_normal(tuple(parameter.shape)))).to(parameter.dtype)
            if parameter.dim() > 1:
                parameter.copy_(noise / max(1.0, parameter.numel() / len(parameter)) ** 0.5)
            else:
                parameter.add_(0.1 * noise)


def _check_shapes(where: str, layer: UnitLayer, named: dict[str, Tensor]) -> None:
    units, features = layer.units, layer.num_features
    if layer.features is not None:
        _check_places(f"{where}.features", layer.features, (units, "unit"), (features, "features"))
    for k, rows in enumerate(layer.incoming):
        key = where if layer.in_short else f"{where}.incoming[{k}]"
        _check_rows(key, rows, units, named, short=layer.in_short)
    for k, reader in enumerate(layer.readers):
        key = f"{where}.next_" if layer.in_short else f"{where}.readers[{k}]."
        _check_reader(key, reader, layer, named)
    for name, _ in layer.norm:
        norm = _parameter(named, f"{where}.norm", name)
        shape = f"({units} units)" if layer.each == 1 else f"({units} units) or ({features} features)"
        _must(f"{where}.norm", name, norm, tuple(norm.shape) in ((units,), (features,)), shape)


def _check_rows(where: str, rows: Rows, units: int, named: dict[str, Tensor], *, short: bool) -> None:
    weight = _parameter(named, f"{where}.weight", rows.weight)
    if rows.rows is None:
        right = weight.dim() > 1 and len(weight) == units
        _must(f"{where}.weight", rows.weight, weight, right, f"({units} units, inputs, ...)")
    else:
        _check_places(f"{where}.rows", rows.rows, (units, "unit"), (len(weight), f"rows of {rows.weight}"))
    if rows.bias is not None:
        bias = _parameter(named, f"{where}.bias", rows.bias)
        shape = f"({units} units)" if rows.rows is None else f"({len(weight)} rows)"
        _must(f"{where}.bias", rows.bias, bias, tuple(bias.shape) == (len(weight),), shape)
    if rows.std is None and not rows.bound and not short:
        raise ConfigError(f"{where}.bound", rows.bound, "must be above 0, or std be given: new weights need a law")
    if rows.fan_in != weight[0].numel():
        allowed = f"must be the weights that a unit has in {rows.weight}: {weight[0].numel()}"
        raise ConfigError(f"{where}.fan_in", rows.fan_in, allowed)


def _check_reader(where: str, reader: Reader, layer: UnitLayer, named: dict[str, Tensor]) -> None:
    weight = _parameter(named, f"{where}weight", reader.weight)
    read = layer.num_features * reader.spread
    if reader.columns is None:
        right = weight.dim() > 1 and weight.shape[1] == read
        _must(f"{where}weight", reader.weight, weight, right, f"(next units, {read} that it reads, ...)")
    else:
        of = (weight.shape[1] if weight.dim() > 1 else 0, f"columns of {reader.weight}")
        _check_places(f"{where}columns", reader.columns, (layer.num_features, "feature"), of)
        if reader.spread not in (1, reader.each):
            allowed = f"must be 1 or the columns of a feature ({reader.each})"
            raise ConfigError(f"{where}spread", reader.spread, allowed)
    if reader.bias is not None:
        bias = _parameter(named, f"{where}bias", reader.bias)
        right = tuple(bias.shape) == (len(weight),)
        _must(f"{where}bias", reader.bias, bias, right, f"({len(weight)} next units)")


def _check_places(where: str, places: Arrangement, owner: tuple[int, str], of: tuple[int, str]) -> None:
    """An arrangement gives each owner (how many, what) as many as the others of those there are (how many, what)."""
    (number, one), (there, what) = owner, of
    owned = [tuple(own) if isinstance(own, Sequence) else (own,) for own in places]
    if len(owned) != number:
        raise ConfigError(where, len(owned), f"must be {number} lists, one for each {one}")
    seen: dict[int, int] = {}
    for i, own in enumerate(owned):
        if not own or len(own) != len(owned[0]):
            raise ConfigError(f"{where}[{i}]", list(own), f"must name as many as {one} 0 has ({len(owned[0])})")
        for place in own:
            if not 0 <= place < there:
                raise ConfigError(f"{where}[{i}]", place, f"must be one of the {there} {what}, from 0")
            if place in seen:
                raise ConfigError(f"{where}[{i}]", place, f"belongs to {one} {seen[place]} already")
            seen[place] = i


def _check_neighbours(graph: Sequence[UnitLayer], parameters: dict[str, Tensor], made_of: Sequence[Sources]) -> None:
    """Each layer's weights make its activations, and its readers come after them."""
    for i, layer in enumerate(graph):
        where, (weights, _) = f"unit_graph()[{i}]", made_of[i]
        for k, rows in enumerate(layer.incoming):
            for key, name in (("weight", rows.weight), ("bias", rows.bias)):
                if name is not None and not any(one is parameters[name] for one in weights):
                    path = f"{where}.{key}" if layer.in_short else f"{where}.incoming[{k}].{key}"
                    raise ConfigError(path, name, f"does not make the activations of layer {i}")
        for k, reader in enumerate(layer.readers):
            readers = [read for weights, read in made_of if any(one is parameters[reader.weight] for one in weights)]
            read = {k for layers in readers for k in layers}
            if i not in read and any(i in layers for _, layers in made_of):
                what = f"reads {', '.join(f'layer {k}' for k in sorted(read))}" if read else "reads no layer"
                path = f"{where}.next_weight" if layer.in_short else f"{where}.readers[{k}].weight"
                raise ConfigError(path, reader.weight, f"must read layer {i}; it {what}")


def _check_flow(
    network: Network,
    graph: Sequence[UnitLayer],
    x: Tensor,
    outputs: Tensor,
    activations: Sequence[Tensor],
    made_of: Sequence[Sources],
) -> None:
    """Rows and columns are those of their units. outputs, activations: those of x, by weights that are not 0."""
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    for i, activation in enumerate(activations):
        if activation.requires_grad:
            RowsCheck(i, graph[i], activation, parameters).check()
    direction = random(outputs)
    followed = [i for i, activation in enumerate(activations) if activation.requires_grad and not graph[i].residual]
    if not followed or not outputs.requires_grad:
        return
    names = [name for name, parameter in parameters.items() if parameter.dim() > 1]
    of = [activations[i] for i in followed] + [parameters[name] for name in names]
    gradients = torch.autograd.grad(outputs, of, direction, allow_unused=True)
    of_weights = zip(names, gradients[len(followed) :], strict=True)
    terms = {name: Terms(parameters[name], gradient) for name, gradient in of_weights if gradient is not None}
    for i, gradient in zip(followed, gradients, strict=False):
        if gradient is None:
            continue
        near = [one for weights, layers in made_of if i in layers for one in weights]
        readers = ReadersCheck(network, i, graph[i], x, direction)
        readers.check(Terms(activations[i], gradient), terms, matrices(near, parameters))


def _parameter(named: dict[str, Tensor], where: str, name: str) -> Tensor:
    if name not in named:
        raise ConfigError(where, name, f"is no parameter of the network{suggest(str(name), named)}")
    return named[name]


def _must(where: str, name: str, tensor: Tensor, right: bool, shape: str) -> None:
    if not right:
        raise ConfigError(where, name, f"must have the shape {shape}, but has {tuple(tensor.shape)}")
