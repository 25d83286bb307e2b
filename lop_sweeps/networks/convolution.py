"""Convolutions, and images as their input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Module):
    """x (batch, inputs, height, width) -> maps (batch, outputs, ...); square kernels, with a bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


def as_maps(x: Tensor, shape: tuple[int, ...], *, channels_last: bool) -> Tensor:
    """Flat inputs (batch, inputs) as images (batch, *shape); channels_last: in the layout that CPUs are fastest on."""
    maps = x.view(-1, *shape)
    return maps.contiguous(memory_format=torch.channels_last) if channels_last else maps
