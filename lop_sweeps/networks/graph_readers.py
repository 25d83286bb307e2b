"""Are the readers that a unit graph names all that reads a layer, and do they read it by the columns that it says?

An identity that holds for all features at once finds what is suspicious; a second look at a few of them, with weights
set to 0, decides. So a graph is refused only for what was seen. What cannot be followed passes: activations that are
copies, and the readers of layers that a shortcut carries on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations

import torch
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.graph_gradients import TOLERANCE, Terms, listed, nonzero
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer, contiguous

FEATURES = 3  # that get a second look


class ReadersCheck:
    """What reads layer i."""

    def __init__(self, network: Network, i: int, layer: UnitLayer, x: Tensor, direction: Tensor) -> None:
        self.network, self.i, self.layer, self.x, self.direction = network, i, layer, x, direction
        self.parameters: dict[str, Tensor] = dict(network.named_parameters())
        self.weights = {reader.weight: self.parameters[reader.weight] for reader in layer.readers}
        self.columns = [layer.columns_of_features(reader) for reader in layer.readers]
        self.what = "unit" if layer.each == 1 else "feature"

    def check(self, mine: Terms, terms: Mapping[str, Terms], near: Sequence[str]) -> None:
        """mine: of the activations; terms: of every matrix; near: the matrices that may read the layer."""
        left = mine
        for reader, columns in zip(self.layer.readers, self.columns, strict=True):
            if reader.weight in terms:
                left = left.without(terms[reader.weight], columns)
        off = left.excess()
        if bool((off > 0).any()):
            with self._without():
                follows = bool(self._follow()[0].any())
            others = [name for name in near if name not in self.weights and name in terms]
            self._check_others(left, {name: terms[name] for name in others}, follows)
            self._check_other_columns()
        elif self.layer.spread > 1:  # sums over positions say nothing of their order
            off = mine.sizes
        # What moves nothing is silent, or alone in front of a normalisation.
        moving = mine.sizes > TOLERANCE * left.sizes
        suspects = [int(j) for j in off.argsort(descending=True) if off[j] > 0]
        for j in {*suspects[:FEATURES], *[j for j in suspects if moving[j]][:1]}:
            for k, columns in enumerate(self.columns):
                for p in sorted({0, len(columns[j]) - 1}):
                    self._check_column(j, k, p, moving=bool(moving[j]))

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

    def _check_others(self, mine: Terms, others: Mapping[str, Terms], follows: bool) -> None:
        """Refuse a graph in which readers are missing.

        mine: what the readers of the graph leave of the layer's sums; others: those of matrices that may read it;
        follows: whether the outputs follow the layer without the readers. (They need not if a reader is missing:
        where gates multiply what two have read, one is enough to stop them.)
        """
        found: tuple[str, ...] = ()
        features = self.layer.num_features
        fitting = [name for name, one in others.items() if len(one.sums) % features == 0 and features > 1]
        for names in (some for number in (1, 2, 3) for some in combinations(fitting, number)):
            left = mine
            for name in names:
                left = left.without(others[name], contiguous(features, len(others[name].sums) // features))
            if not found and bool((left.excess() <= 0).all()):
                found = names
        if not found and not follows:
            return
        where = f"unit_graph()[{self.i}].{'next_weight' if self.layer.in_short else 'readers'}"
        allowed = f"must be all that reads layer {self.i}; "
        if found:
            allowed += f"{' and '.join(found)} {'does' if len(found) == 1 else 'do'}, too"
        else:
            wide = [name for name, one in others.items() if len(one.sums) >= features]
            allowed += "with these weights at 0 the outputs still follow it: perhaps "
            allowed += f"{' or '.join(wide[:3])} reads it, or " if wide else ""
            allowed += "a shortcut carries it on (residual=True)"
        raise ConfigError(where, ", ".join(self.weights), allowed)

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
                read = nonzero(self._follow()[0].transpose(0, 1))
            if read:
                k = [reader.weight for reader in self.layer.readers].index(name)
                allowed = f"must have all columns that read layer {self.i}; others than these read {self._list(read)}"
                raise ConfigError(self._path(k), name, allowed)

    def _check_column(self, j: int, k: int, p: int, *, moving: bool) -> None:
        """Column p of feature j in reader k reads that feature: alone, it lets the outputs follow it.

        moving: whether the outputs follow the feature at all.
        """
        reader, column = self.layer.readers[k], self.columns[k][j][p]
        weight = self.weights[reader.weight]
        with self._without({reader.weight: [column]}):
            gradient, of_weight = self._follow(weight)
        follows, what = gradient[:, j], f"{self.what} {j}"
        others = nonzero(gradient.transpose(0, 1))
        read = self._list(others)
        if reader.spread > 1 and gradient[0, 0].numel() == reader.spread:
            if positions := nonzero(follows.flatten(1).T):
                read = listed("position", positions)
            follows, what = follows.flatten(1)[:, p], f"position {p} of {what}"
        if of_weight[:, column].any() and not follows.any() and (others or moving):
            allowed = f"column {column} must read {what} of layer {self.i}; it reads {read}"
            raise ConfigError(self._path(k), reader.weight, allowed)

    def _path(self, k: int) -> str:
        where = f"unit_graph()[{self.i}]"
        return f"{where}.next_weight" if self.layer.in_short else f"{where}.readers[{k}].columns"

    def _list(self, features: Sequence[int]) -> str:
        return listed(self.what, features) if features else f"no {self.what} of it"
