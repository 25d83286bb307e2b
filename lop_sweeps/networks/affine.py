"""One fully connected layer, of one run or of runs side by side."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Slot:
    """Where the gradient of one parameter goes, (runs, *shape): a layer that finds one on its parameter, as `slot`,
    writes there in the backward pass, which spares the gradient a copy. written: since the latest step began.
    """

    def __init__(self, into: Tensor) -> None:
        self.into, self.written = into, False


class Affine(nn.Module):
    """x (..., batch, inputs) -> x weight^T + bias, for parameters of one run or stacked over runs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        if (slots := [getattr(parameter, "slot", None) for parameter in (self.weight, self.bias)])[0] is not None:
            result: Tensor = _WritingAffine.apply(x, self.weight, self.bias, *slots)
            return result
        return _stacked(x, self.weight, self.bias)


class LinearMap(nn.Module):
    """x (..., batch, inputs) -> x weight^T, without a bias, for parameters of one run or stacked over runs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) if self.weight.dim() == 2 else torch.bmm(self.weight, x.mT).mT


def _stacked(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (runs, batch, inputs) -> (runs, batch, outputs)."""
    # In this order the gradient of the weights comes out contiguous.
    return torch.baddbmm(bias.unsqueeze(2), weight, x.mT).mT


class _WritingAffine(torch.autograd.Function):
    """`_stacked`, its gradients of weight and bias in their slots; a second use in one step adds to the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, of_weight: Slot, of_bias: Slot) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.slots = of_weight, of_bias
        return _stacked(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight), (of_weight, of_bias) = grads, ctx.saved_tensors, ctx.slots
        if of_weight.written:
            of_weight.into.add_(torch.bmm(gradient.mT, x))
            of_bias.into.add_(gradient.sum(1))
        else:
            torch.bmm(gradient.mT, x, out=of_weight.into)
            torch.sum(gradient, 1, out=of_bias.into)
        of_weight.written = of_bias.written = True
        return torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None, None, None, None, None
