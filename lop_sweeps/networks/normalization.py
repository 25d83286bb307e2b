"""Normalisation layers for hidden units, written so that parameters may carry a leading run dimension.

PyTorch's own layers cannot be stacked over runs without a mapping, and refuse batches of one; these are the same
formulas (tested against them) on tensors (..., batch, units) with parameters (..., units).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalization(nn.Module):
    """Scale `weight` (units,) and shift `bias` (units,) after a normalisation; subclasses add their statistics."""

    fresh: ClassVar[dict[str, float]] = {"weight": 1.0, "bias": 0.0}
    weight: Tensor
    bias: Tensor

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units))
        self.bias = nn.Parameter(torch.empty(units))
        for name in self.fresh:
            if name not in ("weight", "bias"):
                self.register_buffer(name, torch.empty(units))

    def initialize(self) -> None:
        with torch.no_grad():
            for name, value in self.fresh.items():
                getattr(self, name).fill_(value)

    def affine(self, y: Tensor) -> Tensor:
        return y * self.weight.unsqueeze(-2) + self.bias.unsqueeze(-2)


class LayerNorm(Normalization):
    """Ba, Kiros & Hinton 2016 (arXiv 1607.06450): over the units of one example."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return self.affine(centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5))


class BatchNorm(Normalization):
    """Ioffe & Szegedy 2015 (arXiv 1502.03167): over the mini-batch; running averages (momentum 0.1) in evaluation."""

    fresh: ClassVar[dict[str, float]] = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            mean, var = self.running_mean.unsqueeze(-2), self.running_var.unsqueeze(-2)
            return self.affine((x - mean) * torch.rsqrt(var + 1e-5))
        mean = x.mean(-2, keepdim=True)
        centred = x - mean
        var = (centred * centred).mean(-2, keepdim=True)
        with torch.no_grad():
            batch = x.shape[-2]
            unbiased = var.squeeze(-2) * (batch / (batch - 1))  # as in PyTorch
            self.running_mean.add_(mean.squeeze(-2) - self.running_mean, alpha=0.1)
            self.running_var.add_(unbiased - self.running_var, alpha=0.1)
        return self.affine(centred * torch.rsqrt(var + 1e-5))


class ImageBatchNorm(BatchNorm):
    """Batch normalisation of maps (batch, units, height, width), over mini-batch and positions.

    With parameters stacked over runs, of their maps side by side, (batch, runs * units, height, width).
    """

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean.view(-1), self.running_var.view(-1)  # written to
        weight, bias = self.weight.flatten(), self.bias.flatten()
        return F.batch_norm(x, mean, var, weight, bias, self.training, momentum=0.1, eps=1e-5)


class _OnlineStandardize(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps), with the backward pass of Chiley et al. 2019, Eqs. 10-11.

    The two control variables keep the gradient orthogonal to y and to 1 on average over time; they are updated in
    place by each backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, control_y: Tensor, control_1: Tensor, decay: float
    ) -> Tensor:
        scale = torch.rsqrt(var + 1e-5)
        y = (x - mean) * scale
        ctx.save_for_backward(y, scale)
        ctx.control_y, ctx.control_1, ctx.decay = control_y, control_1, decay
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, scale = ctx.saved_tensors
        along = grads[0] - (1 - ctx.decay) * ctx.control_y * y
        ctx.control_y.add_(along * y)
        result = along * scale - (1 - ctx.decay) * ctx.control_1
        ctx.control_1.add_(result)
        return result, None, None, None, None, None


class OnlineNorm(Normalization):
    """Online normalisation for batches of one: Chiley et al. 2019 (arXiv 1905.05894), with layer scaling.

    Each unit is standardised with running statistics of *earlier* examples (decay 0.999; backward control 0.99;
    Dohare et al. do not publish their rates), then scaled and shifted, then the layer is divided by its root mean
    square (the paper's layer scaling, which bounds the growth that running statistics allow).
    """

    FORWARD_DECAY: ClassVar[float] = 0.999
    BACKWARD_DECAY: ClassVar[float] = 0.99
    fresh: ClassVar[dict[str, float]] = {
        "weight": 1.0,
        "bias": 0.0,
        "running_mean": 0.0,
        "running_var": 1.0,
        "control_y": 0.0,
        "control_1": 0.0,
    }
    running_mean: Tensor
    running_var: Tensor
    control_y: Tensor
    control_1: Tensor

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean.unsqueeze(-2), self.running_var.unsqueeze(-2)
        if self.training:
            control_y, control_1 = self.control_y.unsqueeze(-2), self.control_1.unsqueeze(-2)
            y = _OnlineStandardize.apply(x, mean, var, control_y, control_1, self.BACKWARD_DECAY)
            with torch.no_grad():
                decay, deviation = self.FORWARD_DECAY, x - mean
                var.mul_(decay).addcmul_(deviation, deviation, value=decay * (1 - decay))
                mean.add_(deviation, alpha=1 - decay)
        else:
            y = (x - mean) * torch.rsqrt(var + 1e-5)
        z = self.affine(y)
        return z * torch.rsqrt((z * z).mean(-1, keepdim=True) + 1e-5)


NORMALIZATIONS: dict[str, type[Normalization]] = {"layer": LayerNorm, "batch": BatchNorm, "online": OnlineNorm}
