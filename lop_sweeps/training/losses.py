"""Losses of a single run's outputs, for those who look at copies of a network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mean_loss(loss: str, output: Tensor, targets: Tensor) -> Tensor:
    """Mean over n examples; loss: cross_entropy or squared_error; outputs (n, outputs); labels (n,) or targets."""
    return example_losses(loss, output, targets).mean()


def example_losses(loss: str, output: Tensor, targets: Tensor) -> Tensor:
    """Of each example: outputs (..., outputs), labels (...) or targets (..., outputs) -> (...)."""
    if loss == "squared_error":
        return (output - targets.to(output.dtype)).square().mean(-1)
    flat = F.cross_entropy(output.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)
