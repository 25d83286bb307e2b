"""Policy and value networks on a CPU with their passes written out, for any number of runs side by side.

Automatic differentiation of two small MLPs takes half as long again as their matrix products, and a call of PyTorch
for every environment step twice as long as the policy itself. So here are the forward and the backward pass as matrix
products into memory that is there already, and acting as a compiled loop. Networks with dropout, normalisation or
an activation that is not compiled take the ordinary way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.compiling import njit
from lop_sweeps.fused.activations import CODES, ELEMENTWISE, activate, options_of
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network

Array = NDArray[Any]


def applies(network: Network, device: torch.device) -> bool:
    """Whether this can be done with a network, at all."""
    return (
        type(network) is ActorCritic
        and device.type == "cpu"
        and network.policy.norm == "none"
        and network.policy.dropout == 0.0
        and network.policy.kind.name in ELEMENTWISE
        and len(network.policy.hidden) > 0
        and network.policy.injection is None
    )


class ExplicitMLP:
    """One MLP of each run. weights, biases: of its layers, (runs, ...), and where their gradients go."""

    def __init__(
        self, mlp: MLP, weights: list[Tensor], biases: list[Tensor], gradients: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        self.weights, self.biases = weights, biases
        self.weight_gradients, self.bias_gradients = gradients
        self.code, self.options = CODES[mlp.activation], options_of(mlp.kind)
        self.inputs = torch.empty(0)
        self.hidden: list[Tensor] = []
        self.slopes: list[Tensor] = []
        self.passed: list[Tensor] = []  # gradients with respect to the hidden layers

    def forward(self, x: Tensor) -> Tensor:
        """x (runs, batch, inputs) -> (runs, batch, outputs); `hidden` are the activations until the next call."""
        if not self.hidden or self.hidden[0].shape[1] != x.shape[1]:
            shapes = [(len(x), x.shape[1], weight.shape[1]) for weight in self.weights[:-1]]
            self.hidden, self.slopes, self.passed = ([x.new_empty(shape) for shape in shapes] for _ in range(3))
        self.inputs = x
        for weight, bias, h, slope in zip(self.weights, self.biases, self.hidden, self.slopes, strict=False):
            torch.baddbmm(bias.unsqueeze(1), x, weight.mT, out=h)
            activate(self.code, self.options, h.numel(), h.view(-1).numpy(), slope.view(-1).numpy())
            x = h
        return torch.baddbmm(self.biases[-1].unsqueeze(1), x, self.weights[-1].mT)

    def backward(self, gradient: Tensor) -> None:
        """Fill the gradients of weights and biases from that with respect to the outputs of the last forward pass."""
        for i in range(len(self.weights) - 1, -1, -1):
            below = self.hidden[i - 1] if i else self.inputs
            torch.bmm(gradient.mT, below, out=self.weight_gradients[i])
            torch.sum(gradient, 1, out=self.bias_gradients[i])
            if i:
                gradient = torch.bmm(gradient, self.weights[i], out=self.passed[i - 1]).mul_(self.slopes[i - 1])


class ExplicitActorCritic:
    """The networks of a pack. view: a named parameter's share of a tensor (runs, parameters), as in `TorchLearner`."""

    def __init__(self, network: ActorCritic, parameters: Tensor, view: Any) -> None:
        self.gradient = torch.zeros_like(parameters)
        self.parameters = parameters
        self.log_std = None if network.discrete else view(parameters, "log_std")
        self.log_std_gradient = None if network.discrete else view(self.gradient, "log_std")
        self.parts = []
        for name, mlp in (("policy", network.policy), ("value", network.value)):
            weights = [f"{name}.{weight}" for weight in mlp.weights()]
            biases = [weight.removesuffix("weight") + "bias" for weight in weights]
            own, gradients = (
                [[view(t, n) for n in names] for names in (weights, biases)] for t in (parameters, self.gradient)
            )
            self.parts.append(ExplicitMLP(mlp, own[0], own[1], (gradients[0], gradients[1])))
        policy = self.parts[0]
        places = [
            (w.storage_offset(), b.storage_offset(), *w.shape[1:])
            for w, b in zip(policy.weights, policy.biases, strict=True)
        ]
        self.actions = int(policy.biases[-1].shape[1])
        self.layers = np.array(places)  # of the policy: where its weights and biases begin, outputs, inputs
        self.code, self.options, widest = policy.code, policy.options, max(network.policy.hidden)
        self.room = np.empty((3, max(widest, self.layers[0, 3], self.layers[-1, 2])), parameters.numpy().dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the network's own forward pass gives, for x (runs, batch, inputs)."""
        mean, value = (part.forward(x) for part in self.parts)
        log_std = () if self.log_std is None else (self.log_std.unsqueeze(1).expand_as(mean),)
        output = torch.cat((mean, *log_std, value), -1)
        return output, [h for part in self.parts for h in part.hidden]

    def backward(self, gradient: Tensor) -> Tensor:
        """The gradient (runs, parameters) from that with respect to the outputs of the last forward pass."""
        actions = self.actions
        self.parts[0].backward(gradient[..., :actions])
        self.parts[1].backward(gradient[..., -1:])
        if self.log_std_gradient is not None:
            torch.sum(gradient[..., actions : 2 * actions], 1, out=self.log_std_gradient)
        return self.gradient

    def act(self, x: Tensor) -> Tensor:
        """Mean actions, or logits, (runs, batch, actions) in states x (runs, batch, inputs)."""
        out = torch.empty(*x.shape[:2], self.actions, dtype=x.dtype)
        _act(self.parameters.numpy(), self.layers, self.code, self.options, x.numpy(), out.numpy(), self.room)
        return out


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _act(
    parameters: Array, layers: NDArray[np.int64], code: int, options: Array, x: Array, out: Array, room: Array
) -> None:
    """Policies' outputs (runs, batch, actions). layers: rows of `ExplicitActorCritic.layers`; room (3, widest)."""
    below, above, slope = room[0], room[1], room[2]
    for run in range(x.shape[0]):
        p = parameters[run]
        for sample in range(x.shape[1]):
            for i in range(x.shape[2]):
                below[i] = x[run, sample, i]
            for layer in range(len(layers)):
                at, bias, outputs, inputs = layers[layer]
                for unit in range(outputs):
                    total = p.dtype.type(0)
                    row = p[at + unit * inputs : at + (unit + 1) * inputs]
                    for i in range(inputs):
                        total += row[i] * below[i]
                    above[unit] = total + p[bias + unit]
                if layer < len(layers) - 1:
                    activate(code, options, outputs, above, slope)
                below, above = above, below
            for i in range(out.shape[2]):
                out[run, sample, i] = below[i]
