"""From a number for each weight to one for each hidden unit, and back: which weights a unit owns, and which read it."""

from __future__ import annotations

import torch
from torch import Tensor

from lop_sweeps.networks.unit_graph import Places, contiguous
from lop_sweeps.optimizers.optimizer import Layout


class UnitGates:
    """The hidden units of all layers, one after another, as columns.

    gated: (parameters,), 1 for what belongs to a hidden unit: weights and biases that feed it and what is its own of a
    normalisation; 0 for the rest.
    """

    def __init__(self, layout: Layout, like: Tensor) -> None:
        self.layout, self.graph = layout, layout.network.unit_graph()
        total = sum(layer.units for layer in self.graph)
        owner = torch.full((1, like.shape[1]), total)  # the column after the last is nobody's
        first = 0
        for layer in self.graph:
            units = torch.arange(first, first + layer.units)
            for rows in layer.incoming:
                for name in (rows.weight, rows.bias):
                    if name is not None:
                        self._own(owner, name, units, layer.rows_of_units(rows))
            names = {name for name, _ in layout.network.named_parameters()}
            for name in (name for name, _ in layer.norm if name in names):
                one_each = layout.view(owner, name).shape[1] == layer.units
                self._own(owner, name, units, contiguous(layer.units, 1) if one_each else layer.features_of_units())
            first += layer.units
        self.owner = owner[0].to(like.device)
        self.gated = (self.owner < total).to(like.dtype)
        self.columns = [
            [self._index(layer.columns_of_units(reader), like.device) for reader in layer.readers]
            for layer in self.graph
        ]

    def _own(self, owner: Tensor, name: str, units: Tensor, places: Places) -> None:
        owned = self.layout.view(owner, name)[0]
        for unit, rows in zip(units.tolist(), places, strict=True):
            owned[list(rows)] = unit

    def _index(self, places: Places, device: torch.device) -> Tensor | None:
        """(units, columns of each); None where unit i has column i."""
        return None if places == contiguous(len(places), 1) else torch.tensor(places, device=device)

    def sums(self, values: Tensor) -> Tensor:
        """(runs, units): of values (runs, parameters), the sum over the weights that read a unit."""
        found = []
        for layer, columns in zip(self.graph, self.columns, strict=True):
            of_readers = []
            for reader, places in zip(layer.readers, columns, strict=True):
                weight = self.layout.view(values, reader.weight)
                of_columns = weight.sum(dim=[1, *range(3, weight.dim())])
                of_readers.append(of_columns if places is None else of_columns[:, places].sum(2))
            found.append(of_readers[0] if len(of_readers) == 1 else torch.stack(of_readers).sum(0))
        return torch.cat(found, 1)

    def spread(self, gates: Tensor) -> Tensor:
        """(runs, parameters): to each parameter the gate of its unit, of gates (runs, units); 1 to the rest."""
        return torch.cat((gates, gates.new_ones(len(gates), 1)), 1).index_select(1, self.owner)
