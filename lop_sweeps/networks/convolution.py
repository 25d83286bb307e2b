"""Convolutions, and images as their input.

Maps of stacked runs lie side by side, as groups of channels: (batch, runs * channels, height, width). So a pack is one
grouped convolution after the other and nothing is moved in between.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Module):
    """x (batch, inputs, height, width) -> maps (batch, outputs, ...); square kernels, with a bias.

    With parameters stacked over runs: (batch, runs * inputs, ...) -> (batch, runs * outputs, ...).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride
        if stride > 1 and self.weight.shape[-1] == 1 and not x.is_cuda:
            # oneDNN's backward pass of this writes past its memory where there are few channels (seen on AMD's Zen).
            x, stride = x[..., ::stride, ::stride], 1
        if self.weight.dim() == 4:
            return F.conv2d(x, self.weight, self.bias, stride, self.padding)
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        return F.conv2d(x, weight, bias, stride, self.padding, groups=len(self.weight))


def as_maps(x: Tensor, shape: tuple[int, ...], *, channels_last: bool) -> Tensor:
    """Flat inputs (batch, inputs) as images (batch, *shape), those of stacked runs (runs, batch, inputs) side by side.

    channels_last: in the layout that CPUs are fastest on.
    """
    if x.dim() == 3:
        return x.view(*x.shape[:2], *shape).transpose(0, 1).flatten(1, 2)
    maps = x.view(-1, *shape)
    return maps.contiguous(memory_format=torch.channels_last) if channels_last else maps


def beside(x: Tensor, runs: int | None) -> Tensor:
    """(runs, batch, channels, ...) side by side: (batch, runs * channels, ...); what is of one run (None) as it is."""
    return x if runs is None else x.transpose(0, 1).flatten(1, 2)


def apart(x: Tensor, runs: int | None) -> Tensor:
    """What lies side by side, (batch, runs * channels, ...), by run: (runs, batch, channels, ...); shares memory."""
    return x if runs is None else x.unflatten(1, (runs, -1)).transpose(0, 1)
