"""What a hidden unit that starts anew gets: the part that all methods which replace units have in common.

Where the parameters of a layer's units lie, whatever the arrangement (`networks/unit_graph.py`); what the units do,
from the activations and weights of their features; and how a unit is made new.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lop_sweeps.algorithms.intervention import Learner
from lop_sweeps.counter_random import Keys
from lop_sweeps.networks.unit_graph import Places, Rows, UnitLayer, contiguous


class Part(NamedTuple):
    """What belongs to the units of a layer along one dimension of a tensor (runs, ...), and the value of a new one.

    places: (units,) or (units, each), which indices of the dimension are a unit's; None: unit i has index i.
    """

    tensor: Tensor
    dimension: int
    fresh: float
    places: Tensor | None = None

    def reset(self, run: int, units: Tensor) -> None:
        """Make units (n,) of a run new; nothing waits for a GPU."""
        indices = units if self.places is None else self.places[units].flatten()
        self.tensor[run].index_fill_(self.dimension - 1, indices, self.fresh)

    def reset_where(self, mask: Tensor) -> None:
        """Make the units new for which mask (runs, units) is true."""
        self.tensor.masked_fill_(self._wide(mask), self.fresh)

    def take_where(self, mask: Tensor, values: Tensor) -> None:
        """Give the units for which mask (runs, units) is true what is theirs of values, of the tensor's shape."""
        self.tensor.copy_(torch.where(self._wide(mask), values, self.tensor))

    def _wide(self, mask: Tensor) -> Tensor:
        if self.places is not None:
            of_units, mask = mask, mask.new_zeros(len(mask), self.tensor.shape[self.dimension])
            mask[:, self.places.flatten()] = of_units.repeat_interleave(self.places[0].numel(), 1)
        return along(mask, self.tensor, self.dimension)


class HiddenUnits:
    """The units of one hidden layer of a pack.

    A unit's *parts* are what its readers read by columns of their own: its features, and of each its positions if
    there is a reader that reads them one by one. Tensors (runs, ..., units) are of units with one part, those with
    several have one dimension more, for the parts: feature by feature, of each in the order of positions.
    """

    def __init__(self, learner: Learner, layer: UnitLayer) -> None:
        self.learner, self.layer = learner, layer
        self.each, self.spread = layer.each, layer.spread
        self.one_reader = len(layer.readers) == 1 and layer.readers[0].each == self.spread
        self.features = self._index(layer.features_of_units())
        self.rows = [self._index(layer.rows_of_units(rows)) for rows in layer.incoming]
        self.columns = [self._index(layer.columns_of_units(reader)) for reader in layer.readers]
        self.one_row = len(layer.incoming) == 1 and self.rows[0] is None
        self.incoming = [learner.view(learner.parameters, rows.weight) for rows in layer.incoming]
        self.outgoing = [learner.view(learner.parameters, reader.weight) for reader in layer.readers]

    def _index(self, places: Places) -> Tensor | None:
        """(units,), or (units, each) where a unit has several; None where unit i has i."""
        if places == contiguous(self.layer.units, 1):
            return None
        index = torch.tensor(places, device=self.learner.parameters.device)
        return index.squeeze(1) if index.shape[1] == 1 else index

    def by_unit(self, activation: Tensor) -> Tensor:
        """Activations (runs, batch, features, *positions) as (runs, samples, units[, parts]).

        Positions are samples like examples, unless some reader reads them one by one.
        """
        if self.spread == 1:
            if activation.dim() > 3:
                activation = activation.movedim(2, -1).flatten(1, -2)
            return activation if self.features is None else activation[..., self.features]
        positions = activation.flatten(3) if activation.dim() > 3 else activation.unsqueeze(3)
        if self.features is None:
            return positions
        return positions.expand(-1, -1, -1, self.spread)[:, :, self.features].flatten(3)

    def by_feature(self, values: Tensor) -> Tensor:
        """Means over positions, (runs, units[, features of a unit]), of values (runs, units[, parts])."""
        if self.spread == 1:
            return values
        return values.mean(2) if self.each == 1 else values.unflatten(2, (self.each, -1)).mean(3)

    def like_parts(self, values: Tensor, activation: Tensor) -> Tensor:
        """What `by_feature` gave, to broadcast with what `by_unit` gave."""
        if self.each > 1 and self.spread > 1:
            values = values.repeat_interleave(self.spread, 2)
        return values.view(*values.shape, *[1] * (activation.dim() - values.dim() - 1)).unsqueeze(1)

    def of_units(self, values: Tensor) -> Tensor:
        """Means over the features of a unit, (runs, units), of values (runs, features)."""
        if self.features is not None:
            values = values[:, self.features]
        return values if values.dim() == 2 else values.mean(2)

    def incoming_magnitude(self, of: Tensor | None = None) -> Tensor:
        """Mean |incoming weight| of each unit, (runs, units).

        of: of this tensor (runs, parameters), such as a gradient, instead of the weights.
        """
        view = self.learner.view
        incoming = self.incoming if of is None else [view(of, rows.weight) for rows in self.layer.incoming]
        if self.one_row:
            return _mean_magnitude(incoming[0].flatten(2), 2)
        found = []
        for rows, weight, places in zip(self.layer.incoming, incoming, self.rows, strict=True):
            magnitude = _mean_magnitude(weight.flatten(2), 2)
            of_rows = magnitude if places is None else magnitude[:, places]
            found.append(of_rows.reshape(len(weight), self.layer.units, -1).sum(2) * rows.fan_in)
        return torch.stack(found).sum(0) / self.layer.fan_in

    def outgoing_magnitude(self) -> Tensor:
        """Mean |outgoing weight| of each unit, or of each of its parts, (runs, units[, parts]).

        Of all weights of all readers, so one with more weights counts more; one that reads all positions of a feature
        counts for each of them.
        """
        if self.one_reader:
            return self._magnitude(0)
        sizes = [
            weight[0, :, 0].numel() * reader.each
            for weight, reader in zip(self.outgoing, self.layer.readers, strict=True)
        ]
        found = []
        for i, (reader, size) in enumerate(zip(self.layer.readers, sizes, strict=True)):
            magnitude = self._magnitude(i)
            magnitude = magnitude.reshape(*magnitude.shape[:2], self.each, reader.each) * (size / sum(sizes))
            found.append(
                magnitude if reader.spread > 1 else magnitude.mean(3, keepdim=True).expand(-1, -1, -1, self.spread)
            )
        total = torch.stack(found).sum(0).flatten(2)
        return total if self.each * self.spread > 1 else total[:, :, 0]

    def _magnitude(self, i: int) -> Tensor:
        """Mean |w| of the columns of reader i, (runs, units[, columns of a unit])."""
        magnitude, places = _mean_magnitude(self.outgoing[i], 1), self.columns[i]
        if magnitude.dim() > 2:
            magnitude = magnitude.mean(tuple(range(2, magnitude.dim())))
        return magnitude if places is None else magnitude[:, places]

    def transfer(self, run: int, units: Tensor, mean: Tensor) -> None:
        """Add to the readers' biases what units (n,) give on average; mean (n[, features of a unit])."""
        parameters, view = self.learner.parameters, self.learner.view
        for reader, weight, places in zip(self.layer.readers, self.outgoing, self.columns, strict=True):
            assert reader.bias is not None
            reads = weight[run][:, units if places is None else places[units].flatten()]
            if reads.dim() > 2 or reader.each > 1:
                reads = reads.unflatten(1, (mean.numel(), reader.each)).flatten(2).sum(2)
            view(parameters, reader.bias)[run] += reads @ mean.flatten()

    def set_incoming(self, run: int, units: Tensor, drawn: Tensor) -> None:
        """Give units (n,) of a run new incoming weights, as `draw_incoming` draws them: (n, fan_in)."""
        for weight, places, new in zip(self.incoming, self.rows, self._apart(drawn), strict=True):
            indices = units if places is None else places[units].flatten()
            weight[run].index_copy_(0, indices, new.to(weight.dtype).reshape(len(indices), *weight.shape[2:]))

    def set_incoming_where(self, mask: Tensor, drawn: Tensor) -> None:
        """The same where mask (runs, units) is true; drawn (runs, units, fan_in)."""
        for weight, places, new in zip(self.incoming, self.rows, self._apart(drawn), strict=True):
            new = new.to(weight.dtype)
            if places is None:
                weight.copy_(torch.where(along(mask, weight, 1), new.reshape(weight.shape), weight))
                continue
            indices = places.flatten()
            old = weight[:, indices]
            chosen = along(mask.repeat_interleave(places[0].numel(), 1), old, 1)
            weight[:, indices] = torch.where(chosen, new.reshape(old.shape), old)

    def mix_incoming(self, share: Tensor, drawn: Tensor) -> None:
        """(1 - share) of the old incoming weights and share of drawn (runs, units, fan_in); share (runs, units)."""
        for weight, places, new in zip(self.incoming, self.rows, self._apart(drawn), strict=True):
            new = new.to(weight.dtype)
            if places is None:
                part = along(share, weight, 1)
                weight.copy_((1 - part) * weight + part * new.reshape(weight.shape))
                continue
            indices = places.flatten()
            old = weight[:, indices]
            part = along(share.repeat_interleave(places[0].numel(), 1), old, 1)
            weight[:, indices] = (1 - part) * old + part * new.reshape(old.shape)

    def scale_outgoing(self, factor: Tensor) -> None:
        """Multiply the weights that read each unit by its factor (runs, units)."""
        for weight, places in zip(self.outgoing, self.columns, strict=True):
            if places is None:
                weight.mul_(along(factor, weight, 2))
                continue
            indices = places.flatten()
            old = weight[:, :, indices]
            weight[:, :, indices] = old * along(factor.repeat_interleave(places[0].numel(), 1), old, 2)

    def _apart(self, drawn: Tensor) -> tuple[Tensor, ...]:
        """(..., fan_in) as the share of each of `layer.incoming`."""
        if len(self.incoming) == 1:
            return (drawn,)
        found: tuple[Tensor, ...] = drawn.split([rows.fan_in * rows.each for rows in self.layer.incoming], -1)
        return found

    def biases(self) -> list[tuple[str, Part]]:
        """The biases of the units, by name."""
        view, parameters = self.learner.view, self.learner.parameters
        pairs = zip(self.layer.incoming, self.rows, strict=True)
        return [(r.bias, Part(view(parameters, r.bias), 1, 0.0, places)) for r, places in pairs if r.bias is not None]

    def reading(self) -> list[tuple[str, Part]]:
        """The weights that read the units, by name."""
        pairs = zip(self.layer.readers, self.outgoing, self.columns, strict=True)
        return [(reader.weight, Part(weight, 2, 0.0, places)) for reader, weight, places in pairs]

    def owned(self, *, optimizer: bool, counts: bool = True) -> list[Part]:
        """Everything of the units but their incoming weights; optimizer: the optimiser's state of them, too.

        counts: also its step counts.
        """
        learner, layer = self.learner, self.layer
        view, parameters = learner.view, learner.parameters
        found = [part for _, part in (*self.biases(), *self.reading())]
        own = [
            (name, places)
            for rows, places in zip(layer.incoming, self.rows, strict=True)
            for name in (rows.weight, rows.bias)
            if name is not None
        ]
        for name, value in layer.norm:
            owner = learner.buffers[name] if name in learner.buffers else view(parameters, name)
            places = self.features if owner.shape[1] == layer.num_features else None
            found.append(Part(owner, 1, value, places))
            if name not in learner.buffers:
                own.append((name, places))
        if optimizer:
            state = learner.optimizer.state()
            for key, value in learner.optimizer.fresh().items():
                if key in learner.optimizer.counts and not counts:
                    continue
                found += [Part(view(state[key], name), 1, value, places) for name, places in own]
                for reader, places in zip(layer.readers, self.columns, strict=True):
                    found.append(Part(view(state[key], reader.weight), 2, value, places))
        return found


def draw_incoming(keys: Keys, step: int, layer: UnitLayer, units: Tensor) -> Tensor:
    """For each key, new incoming weights (keys, len(units), fan_in) from the network's initial law; a draw belongs to
    its unit.

    Of each of `layer.incoming` those of all its rows, one after the other.
    """
    sizes = [rows.fan_in * rows.each * (1 if rows.std is None else 2) for rows in layer.incoming]
    uniforms = keys.uniforms_of_rows(step, units, sum(sizes))
    if len(sizes) == 1:
        return _by_law(layer.incoming[0], uniforms)
    shares = zip(layer.incoming, uniforms.split(sizes, -1), strict=True)
    return torch.cat([_by_law(rows, share) for rows, share in shares], -1)


def _by_law(rows: Rows, uniforms: Tensor) -> Tensor:
    """New weights of some rows; a normal one takes two uniform numbers (Box & Muller's method)."""
    if rows.std is None:
        return uniforms.mul_(2).sub_(1).mul_(rows.bound)
    radius = (-2 * torch.log1p(-uniforms[..., ::2])).sqrt()
    return rows.std * radius * torch.cos(2 * math.pi * uniforms[..., 1::2])


def along(mask: Tensor, like: Tensor, dimension: int) -> Tensor:
    """mask (runs, units) with the units along `dimension` of a tensor, to broadcast with it."""
    return mask.view(len(mask), *[1] * (dimension - 1), -1, *[1] * (like.dim() - dimension - 1))


def _mean_magnitude(weights: Tensor, dimension: int) -> Tensor:
    """Mean |w| along a dimension; on a GPU in one pass over memory instead of three."""
    if weights.is_cuda:
        total: Tensor = torch.linalg.vector_norm(weights, 1, dimension)
        return total / weights.shape[dimension]
    return weights.abs().mean(dimension)
