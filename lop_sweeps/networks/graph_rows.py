"""Do the rows that a unit graph names make its units, and they alone?

An identity that holds for all units at once finds what is suspicious, a second look at a few of them decides. So a
graph is refused only for what was seen; a normalisation that mixes units disturbs the identity alone. Weights that are
not named at all may be so on purpose: those of shortcuts make units, too, and none of them new.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.graph_gradients import TOLERANCE, listed, nonzero, random
from lop_sweeps.networks.unit_graph import UnitLayer

UNITS = 8  # that get a second look


class RowsCheck:
    """What makes layer i. The units are weighed, and then the gradient of a unit's rows must weigh as much."""

    def __init__(self, i: int, layer: UnitLayer, activation: Tensor, parameters: Mapping[str, Tensor]) -> None:
        self.i, self.layer, self.activation, self.parameters = i, layer, activation, parameters
        self.owners = torch.zeros(layer.num_features, dtype=torch.int64)
        for unit, own in enumerate(layer.features_of_units()):
            self.owners[list(own)] = unit
        self.cotangent, self.factors = random(activation), random(torch.zeros(layer.units))

    def check(self) -> None:
        for k, rows in enumerate(self.layer.incoming):
            self._check_own(k)
            sibling = f"{rows.weight.removesuffix('weight')}bias"
            if rows.bias is None and rows.weight.endswith("weight") and sibling in self.parameters:
                path = f"unit_graph()[{self.i}].incoming[{k}].bias"
                raise ConfigError(path, "None", f"must be {sibling}, which the network has")

    def _gradient(self, name: str, of_units: Tensor) -> Tensor:
        """Of the activations, weighed by unit, with respect to a weight: (rows, weights of a row)."""
        weight = self.parameters[name]
        along = self.cotangent * of_units[self.owners].view(-1, *[1] * (self.activation.dim() - 2))
        (found,) = torch.autograd.grad(self.activation, [weight], along, retain_graph=True, allow_unused=True)
        return torch.zeros_like(weight).flatten(1) if found is None else found.flatten(1)

    def _owner(self, plain: Tensor, weighted: Tensor) -> int | None:
        """The unit that a row makes alone, by the row's gradients; None if there is no such unit."""
        unit = int((self.factors - plain @ weighted / (plain @ plain)).abs().argmin())
        off = (weighted - self.factors[unit] * plain).abs().max()
        return unit if off <= TOLERANCE * plain.abs().max() else None

    def _check_own(self, k: int) -> None:
        rows = self.layer.incoming[k]
        places = self.layer.rows_of_units(rows)
        plain, weighted = (self._gradient(rows.weight, f) for f in (torch.ones(self.layer.units), self.factors))
        path = f"unit_graph()[{self.i}].{'weight' if self.layer.in_short else f'incoming[{k}].rows'}"
        expected = torch.full((len(plain),), torch.nan)
        for unit, mine in enumerate(places):
            expected[list(mine)] = self.factors[unit]
        off = (weighted - expected.unsqueeze(1) * plain).abs().amax(1) > TOLERANCE * plain.abs().amax(1)
        nobodys = [row for row in nonzero(plain) if expected[row].isnan()]
        suspects = [unit for unit, mine in enumerate(places) if off[list(mine)].any()]
        wrong, right = [], 0
        for unit in (suspects or range(self.layer.units))[:UNITS] if suspects or nobodys else ():
            makers = nonzero(self._gradient(rows.weight, F.one_hot(torch.tensor(unit), self.layer.units).float()))
            if set(makers) - set(places[unit]):
                wrong += [(unit, makers)] if set(places[unit]) - set(makers) else []
                right += set(places[unit]) <= set(makers)
        # A unit that is silent on all examples may look wrong behind a normalisation that mixes it with others.
        if wrong and not right:
            unit, makers = wrong[0]
            must, do = listed("row", places[unit]), listed("row", makers)
            raise ConfigError(path, rows.weight, f"{must} must make {self._named(unit)}; it is made by {do}")
        for row in nobodys if self.layer.units > 1 else ():
            if (owner := self._owner(plain[row], weighted[row])) is not None:
                allowed = f"must have all rows that make {self._named(owner)}; row {row} does, too"
                raise ConfigError(path, rows.weight, allowed)

    def _named(self, unit: int) -> str:
        own = f" ({listed('feature', self.layer.features_of_units()[unit])})" if self.layer.features else ""
        return f"unit {unit}{own} of layer {self.i}"
