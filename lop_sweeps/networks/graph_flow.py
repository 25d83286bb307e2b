"""Do the rows of a unit graph make their units, and the columns read them? By gradients of a network with weights.

Identities that hold for all units at once find what is suspicious; a second look at a few units, with weights set to 0,
decides. So a network is refused only for what was seen: units that their rows do not make, a column that does not read
its feature, outputs that follow a layer past all its readers. A normalisation that mixes units disturbs the identities
alone. What cannot be followed passes: activations that are copies, and readers of a layer that a shortcut carries on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer

TOLERANCE = 1e-3  # of the sum of magnitudes, in float32
UNITS, FEATURES = 8, 3  # that get a second look


def check_flow(
    network: Network, graph: Sequence[UnitLayer], x: Tensor, outputs: Tensor, activations: Sequence[Tensor]
) -> None:
    """Raise `ConfigError` unless rows and columns are those of their units.

    outputs, activations: those of x; the network's weights are not 0, and are so again when this returns.
    """
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    for i, activation in enumerate(activations):
        if activation.requires_grad:
            _check_rows(i, graph[i], activation, parameters)
    direction = _random(outputs)
    followed = [i for i, activation in enumerate(activations) if activation.requires_grad and not graph[i].residual]
    names = sorted({reader.weight for i in followed for reader in graph[i].readers})
    of = [activations[i] for i in followed] + [parameters[name] for name in names]
    if not followed or not outputs.requires_grad:
        return
    gradients = torch.autograd.grad(outputs, of, direction, allow_unused=True)
    of_weights: dict[str, Tensor | None] = dict(zip(names, gradients[len(followed) :], strict=True))
    for i, gradient in zip(followed, gradients, strict=False):
        if gradient is not None and (features := _suspects(graph[i], activations[i], gradient, parameters, of_weights)):
            _Readers(network, i, graph[i], x, direction).check(features)


def _random(like: Tensor) -> Tensor:
    """Numbers of magnitude 1 to 2 and either sign."""
    values = 2.0 * torch.rand(like.shape, generator=torch.Generator().manual_seed(like.numel())) - 1.0
    return values + values.sign()


# Rows


def _check_rows(i: int, layer: UnitLayer, activation: Tensor, parameters: dict[str, Tensor]) -> None:
    """Weigh the units, and the gradients of their rows must be weighed alike."""
    owners = torch.zeros(layer.num_features, dtype=torch.int64)
    for unit, own in enumerate(layer.features_of_units()):
        owners[list(own)] = unit
    cotangent, factors = _random(activation), _random(owners.new_zeros(layer.units).float())

    def gradient(weight: Tensor, of_units: Tensor) -> Tensor | None:
        """Of the activations, weighted by unit, with respect to the rows of a weight: (rows, weights of a row)."""
        along = cotangent * of_units[owners].view(-1, *[1] * (activation.dim() - 2))
        (found,) = torch.autograd.grad(activation, [weight], along, retain_graph=True, allow_unused=True)
        return None if found is None else found.flatten(1)

    for k, rows in enumerate(layer.incoming):
        weight, places = parameters[rows.weight], layer.rows_of_units(rows)
        plain, weighted = gradient(weight, torch.ones(layer.units)), gradient(weight, factors)
        if plain is None or weighted is None:
            continue
        expected = torch.zeros(len(weight))
        for unit, mine in enumerate(places):
            expected[list(mine)] = factors[unit]
        off = (weighted - expected.unsqueeze(1) * plain).abs().amax(1) > TOLERANCE * plain.abs().amax(1)
        if not off.any():
            continue
        suspects = [unit for unit, mine in enumerate(places) if off[list(mine)].any()] or range(layer.units)
        wrong, right = [], 0
        for unit in suspects[:UNITS]:
            only = gradient(weight, F.one_hot(torch.tensor(unit), layer.units).float())
            makers = [] if only is None else only.abs().amax(1).nonzero().flatten().tolist()
            if set(makers) - set(places[unit]):
                wrong += [(unit, makers)] if set(places[unit]) - set(makers) else []
                right += set(places[unit]) <= set(makers)
        # A unit that is silent on all examples may look wrong behind a normalisation that mixes it with others.
        if wrong and not right:
            unit, makers = wrong[0]
            path = f"unit_graph()[{i}].weight" if layer.in_short else f"unit_graph()[{i}].incoming[{k}].rows"
            must, do = _list("row", places[unit]), _list("row", makers)
            allowed = f"{must} must make unit {unit} of layer {i}; it is made by {do}"
            raise ConfigError(path, rows.weight, allowed)


# Columns


def _suspects(
    layer: UnitLayer,
    activation: Tensor,
    gradient: Tensor,
    parameters: dict[str, Tensor],
    of_weights: dict[str, Tensor | None],
) -> list[int]:
    """Features for which sum(h * gradient of h) is not sum(w * gradient of w) over the columns that read them.

    The two are equal where what lies between is linear, or even where it is not but f(a h) = a f(h) for a > 0.
    """
    terms = (activation * gradient).detach().transpose(0, 1).flatten(1)
    left, size = terms.sum(1), terms.abs().sum(1)
    for reader in layer.readers:
        weight, slope = parameters[reader.weight].detach(), of_weights[reader.weight]
        if slope is None:
            continue
        terms = (weight * slope).transpose(0, 1).flatten(1)
        columns = torch.tensor(layer.columns_of_features(reader))
        left, size = left - terms.sum(1)[columns].sum(1), size + terms.abs().sum(1)[columns].sum(1)
    off = left.abs() - TOLERANCE * size
    return [int(j) for j in off.argsort(descending=True)[:FEATURES] if off[j] > 0]


class _Readers:
    """A second look at what reads layer i."""

    def __init__(self, network: Network, i: int, layer: UnitLayer, x: Tensor, direction: Tensor) -> None:
        self.network, self.i, self.layer, self.x, self.direction = network, i, layer, x, direction
        self.parameters: dict[str, Tensor] = dict(network.named_parameters())
        self.weights = {reader.weight: self.parameters[reader.weight] for reader in layer.readers}
        self.columns = [layer.columns_of_features(reader) for reader in layer.readers]
        self.what = "unit" if layer.each == 1 else "feature"

    def check(self, features: Sequence[int]) -> None:
        """features: those that have to be looked at."""
        with self._without():
            if self._follow()[0].any():
                self._refuse_missing()
        self._check_other_columns()
        for j in features:
            for k, columns in enumerate(self.columns):
                for p in sorted({0, len(columns[j]) - 1}):
                    self._check_column(j, k, p)

    def _follow(self, *weights: Tensor) -> list[Tensor]:
        """Gradients of the outputs along `direction` with respect to the layer's activations, and to weights."""
        outputs, activations = self.network(self.x)
        of = [activations[self.i], *weights]
        found = torch.autograd.grad(outputs, of, self.direction, allow_unused=True)
        return [torch.zeros_like(t) if gradient is None else gradient for t, gradient in zip(of, found, strict=True)]

    @contextmanager
    def _without(self, keep: Mapping[str, Sequence[int]] | None = None) -> Iterator[None]:
        """The readers' weights are 0, but for the columns to keep of them."""
        before = {name: weight.detach().clone() for name, weight in self.weights.items()}
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.zero_()
                columns = list((keep or {}).get(name, []))
                weight[:, columns] = before[name][:, columns]
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(before[name])

    def _refuse_missing(self) -> NoReturn:
        outputs, activations = self.network(self.x)
        made = [activation.grad_fn for activation in activations]
        near = [sources(node, made) for node in [*made, outputs.grad_fn]]
        ids = {id(parameter) for parameters, layers in near if self.i in layers for parameter in parameters}
        others = [
            name
            for name, weight in self.parameters.items()
            if id(weight) in ids and name not in self.weights and weight.dim() > 1
            if weight.shape[1] >= self.layer.num_features
        ]
        where = f"unit_graph()[{self.i}].{'next_weight' if self.layer.in_short else 'readers'}"
        allowed = f"must be all that reads layer {self.i}: with these weights at 0 the outputs still follow it; "
        allowed += f"perhaps {' or '.join(others[:3])} reads it, or " if others else ""
        raise ConfigError(where, ", ".join(self.weights), allowed + "a shortcut carries it on (residual=True)")

    def _check_other_columns(self) -> None:
        """Columns that the graph gives to nobody read something else."""
        named: dict[str, set[int]] = {name: set() for name in self.weights}
        for reader, columns in zip(self.layer.readers, self.columns, strict=True):
            named[reader.weight] |= {column for own in columns for column in own}
        for name, weight in self.weights.items():
            others = [column for column in range(weight.shape[1]) if column not in named[name]]
            if not others:
                continue
            with self._without({name: others}):
                read = _nonzero(self._follow()[0])
            if read:
                k = [reader.weight for reader in self.layer.readers].index(name)
                allowed = f"must have all columns that read layer {self.i}; others than these read {self._list(read)}"
                raise ConfigError(self._path(k), name, allowed)

    def _check_column(self, j: int, k: int, p: int) -> None:
        """Column p of feature j in reader k reads that feature: alone, it lets the outputs follow it."""
        reader, column = self.layer.readers[k], self.columns[k][j][p]
        weight = self.weights[reader.weight]
        with self._without({reader.weight: [column]}):
            gradient, of_weight = self._follow(weight)
        follows, what = gradient[:, j], f"{self.what} {j}"
        if reader.spread > 1 and gradient[0, 0].numel() == reader.spread:
            follows, what = follows.flatten(1)[:, p], f"position {p} of {what}"
        if of_weight[:, column].any() and not follows.any():
            allowed = f"column {column} must read {what} of layer {self.i}; it reads {self._list(_nonzero(gradient))}"
            raise ConfigError(self._path(k), reader.weight, allowed)

    def _path(self, k: int) -> str:
        where = f"unit_graph()[{self.i}]"
        return f"{where}.next_weight" if self.layer.in_short else f"{where}.readers[{k}].columns"

    def _list(self, features: Sequence[int]) -> str:
        return _list(self.what, features) if features else f"no {self.what} of it"


def _nonzero(gradient: Tensor) -> list[int]:
    """The features of a layer, (batch, features, *positions), that have any."""
    found: list[int] = gradient.transpose(0, 1).flatten(1).abs().amax(1).nonzero().flatten().tolist()
    return found


def _list(what: str, numbers: Sequence[int]) -> str:
    """`row 3`, `rows 3, 5, 7, ...`"""
    plural = "s" if len(numbers) > 1 else ""
    return f"{what}{plural} {', '.join(map(str, numbers[:3]))}{', ...' if len(numbers) > 3 else ''}"


def sources(node: Any, cuts: Sequence[Any]) -> tuple[list[Tensor], set[int]]:
    """The parameters and the activations (by number) that a tensor is made of, without what those are made of.

    node: what autograd has noted for the tensor; cuts: for the activations.
    """
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
