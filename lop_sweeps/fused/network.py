"""The network of one run on memory that the compiled loop understands, and what PyTorch computes of it there.

Weights lie as [inputs, units] and padded; `view` shows them to everybody else in PyTorch's orientation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps.diagnostics.measure import measure_weights
from lop_sweeps.fused import arrays
from lop_sweeps.fused.vector import LANES
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network, draw_network, named_state, output_parameters


class FusedNetwork:
    """A pack of one run: parameters (1, size), in this engine's layout. The interface is that of `PackedNetwork`."""

    def __init__(self, make_network: Callable[[], Network], seed: int, dtype: torch.dtype) -> None:
        self.seeds: Sequence[int] = (seed,)
        self.dtype, self.device = dtype, torch.device("cpu")
        self._dtype = np.float32 if dtype == torch.float32 else np.float64
        self._make_network = make_network
        network = draw_network(make_network, dtype, seed, "initial weights")
        assert isinstance(network, MLP)
        self._mlp, self.network = network, cast(Network, network)
        self.graph, self.weight_names = network.unit_graph(), network.weights()
        self.parameter_names = tuple(name for name, _ in network.named_parameters())
        self.buffers: dict[str, Tensor] = {}
        self._lay_out()

    def _lay_out(self) -> None:
        """Move the parameters to one array: of each layer its weights, a row of its units' for each input; its bias;
        what else its units have (see `unit_rows`).
        """
        lanes, at = LANES[np.dtype(self._dtype).name], 0
        layers = []
        places: dict[str, tuple[int, int, tuple[int, ...]]] = {}  # name -> start, stride, shape
        for i, layer in enumerate(self._mlp.layers):
            outputs, inputs = cast(Tensor, layer.weight).shape
            stride = -(-outputs // lanes) * lanes
            layers.append((at, stride, inputs, outputs))
            places[f"layers.{i}.weight"] = at, stride, (outputs, inputs)
            own = self.graph[i].norm if i < len(self.graph) else ()
            for row, name in enumerate((f"layers.{i}.bias", *(name for name, _ in own))):
                places[name] = at + (inputs + row) * stride, stride, (outputs,)
            at += (inputs + 1 + len(own)) * stride
        self._places = {name: places[name] for name in self.parameter_names}  # in the order of the torch engine
        self._layers = np.array(layers)
        self._fresh = np.array([value for _, value in (self.graph[0].norm if self.graph else ())], self._dtype)
        room = arrays.rooms(self._layers, self._mlp.kind.features, self._dtype)
        self._units, self._all_units = np.cumsum(room) - room, int(room.sum())
        self.parameters = torch.from_numpy(arrays.aligned_zeros(at, self._dtype)[None])
        with torch.no_grad():
            for name, parameter in list(self.network.named_parameters()):
                place = self.view(self.parameters, name)[0]
                place.copy_(parameter)
                path, _, leaf = name.rpartition(".")
                setattr(self.network.get_submodule(path), leaf, nn.Parameter(place, requires_grad=False))

    def view(self, flat: Tensor, name: str) -> Tensor:
        """The share of parameter `name` in a tensor of the parameters' layout, as (1, *shape); it shares memory."""
        start, stride, shape = self._places[name]
        if len(shape) == 1:
            return flat[:, start : start + shape[0]]
        outputs, inputs = shape
        return flat[:, start : start + inputs * stride].view(1, inputs, stride)[:, :, :outputs].mT

    def redraw(self, run: int, purpose: str, *position: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Fresh parameters (and buffers: none) by name, as `TorchLearner.redraw` gives them."""
        return named_state(draw_network(self._make_network, self.dtype, self.seeds[run], purpose, *position))

    def network_of(self, run: int) -> Network:
        """The run's network, on the same memory."""
        return self.network

    def outputs_of(self, x: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Outputs (1, batch, outputs) of x (1, batch, inputs), without dropout."""
        with torch.no_grad():
            if parameters is None:
                return self.network(x[0], None)[0][None]
            named = {name: self.view(parameters, name)[0] for name in self.parameter_names}
            output: Tensor = torch.func.functional_call(self.network, named, (x[0], None))[0]
            return output[None]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs (1, batch, outputs) and hidden activations of x (1, batch, inputs), without dropout."""
        output, activations = self.network(x[0], None)
        return output[None], [h[None] for h in activations]

    @contextmanager
    def looking(self, *, batch_statistics: bool = False) -> Iterator[None]:
        """While the network is looked at; none that this engine takes has anything that would change."""
        yield

    def zero_outputs(self, *more: Tensor) -> None:
        """Set the output layer to zero, also in further parameters (1, size)."""
        for flat in (self.parameters, *more):
            for name in output_parameters(self.network):
                self.view(flat, name).zero_()

    def differentiate(self, of: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        named = {name: p.detach().requires_grad_() for name, p in self.network.named_parameters()}
        with torch.enable_grad():
            value = of(torch.func.functional_call(self.network, named, (x[0], None))[0][None])
            gradients = torch.autograd.grad(value.sum(), list(named.values()), allow_unused=True)
        found = torch.zeros_like(self.parameters)
        for name, gradient in zip(named, gradients, strict=True):
            if gradient is not None:
                self.view(found, name)[0] = gradient
        return value.detach(), found

    def magnitudes(self) -> Tensor:
        """Weight magnitude (1, weight matrices)."""
        return measure_weights([self.view(self.parameters, name) for name in self.weight_names]).T

    def _export(self, flat: Tensor) -> Tensor:
        if flat.shape != self.parameters.shape:
            return flat.clone()
        return torch.cat([self.view(flat, name).reshape(1, -1) for name in self._places], dim=1)

    def _import(self, flat: Tensor, saved: Tensor) -> None:
        if flat.shape != self.parameters.shape:
            flat[0] = saved
            return
        sizes = [int(np.prod(shape)) for _, _, shape in self._places.values()]
        for name, part in zip(self._places, saved.split(sizes), strict=True):
            place = self.view(flat, name)[0]
            place.copy_(part.view(place.shape))
