"""Do the rows that a unit graph names make its units?

The units are weighed, and then the gradient of a row that makes one unit alone must weigh as much. A row that makes
several, as in front of a normalisation that mixes units, tells nothing and passes. So do weights that are not named at
all, perhaps on purpose: those of shortcuts make units, too, and none of them new.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.graph_gradients import TOLERANCE, listed, nonzero, random
from lop_sweeps.networks.unit_graph import Places, UnitLayer

LOOKS = 8  # at rows that seem to make another unit


class RowsCheck:
    """What makes layer i."""

    def __init__(self, i: int, layer: UnitLayer, activation: Tensor, parameters: Mapping[str, Tensor]) -> None:
        self.i, self.layer, self.activation, self.parameters = i, layer, activation, parameters
        self.owners = torch.zeros(layer.num_features, dtype=torch.int64)
        for unit, own in enumerate(layer.features_of_units()):
            self.owners[list(own)] = unit
        self.cotangent, self.factors = random(activation), random(torch.zeros(layer.units))

    def check(self) -> None:
        for k, rows in enumerate(self.layer.incoming):
            if self.layer.units > 1:
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

    def _check_own(self, k: int) -> None:
        name, places = self.layer.incoming[k].weight, self.layer.rows_of_units(self.layer.incoming[k])
        owners = {row: unit for unit, own in enumerate(places) for row in own}
        plain, weighted = (self._gradient(name, f) for f in (torch.ones(self.layer.units), self.factors))
        looks = 0
        for row in nonzero(plain):
            weight = plain[row] @ weighted[row] / (plain[row] @ plain[row])
            unit, owner = int((self.factors - weight).abs().argmin()), owners.get(row)
            if unit == owner or not _close(weighted[row], self.factors[unit] * plain[row]):
                continue
            looks += 1
            if looks <= LOOKS and self._makes(name, row, plain[row], unit, owner, places):
                self._refuse(k, row, unit, owner)

    def _makes(self, name: str, row: int, plain: Tensor, unit: int, owner: int | None, places: Places) -> bool:
        """Whether a row makes this unit alone, not its owner, and not in addition to the unit's own rows.

        (Behind a normalisation the unit may be the only one that is not silent.)
        """
        of_unit = self._gradient(name, F.one_hot(torch.tensor(unit), self.layer.units).float())
        if owner is None or not _close(of_unit[row], plain):
            return _close(of_unit[row], plain)
        of_owner = self._gradient(name, F.one_hot(torch.tensor(owner), self.layer.units).float())
        return not of_owner[row].any() and not of_unit[list(places[unit])].any(1).all()

    def _refuse(self, k: int, row: int, unit: int, owner: int | None) -> None:
        path = f"unit_graph()[{self.i}].{'weight' if self.layer.in_short else f'incoming[{k}].rows'}"
        if owner is None:
            allowed = f"must have all rows that make {self._named(unit)}; row {row} does, too"
        else:
            allowed = f"row {row} must make {self._named(owner)}; it makes {self._named(unit)}"
        raise ConfigError(path, self.layer.incoming[k].weight, allowed)

    def _named(self, unit: int) -> str:
        own = f" ({listed('feature', self.layer.features_of_units()[unit])})" if self.layer.features else ""
        return f"unit {unit}{own} of layer {self.i}"


def _close(values: Tensor, others: Tensor) -> bool:
    return bool((values - others).abs().max() <= TOLERANCE * others.abs().max())
