"""Losses of outputs, of a pack or of a single run, their slopes, and accuracies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("cross_entropy", "squared_error")


def score(
    loss: str, output: Tensor, y: Tensor, outputs: Tensor | None = None, *, in_one_kernel: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Mean loss (runs,) and accuracy (runs,), None in regression, of outputs (runs, batch, outputs).

    outputs: which of them count, (runs, classes); label k is the k-th of these. in_one_kernel: of the only run.
    """
    if outputs is not None:
        output = output.gather(2, outputs.unsqueeze(1).expand(-1, output.shape[1], -1))
    if loss == "squared_error":
        return (output - y).square().mean((1, 2)), None
    with torch.no_grad():
        accuracy = (output.argmax(2) == y).mean(1, dtype=torch.float64)
    if in_one_kernel:
        return F.cross_entropy(output[0], y[0]).unsqueeze(0), accuracy
    each = F.cross_entropy(output.flatten(0, 1), y.flatten(), reduction="none")
    return each.view(y.shape).mean(1), accuracy


def slope(loss: str, output: Tensor, y: Tensor, outputs: Tensor | None = None) -> Tensor:
    """Gradient of the mean loss with respect to outputs (runs, batch, outputs), of the same shape."""
    leaf = output.detach().requires_grad_()
    with torch.enable_grad():
        losses, _ = score(loss, leaf, y, outputs)
    (found,) = torch.autograd.grad(losses.sum(), leaf)
    return found


def mean_loss(loss: str, output: Tensor, targets: Tensor) -> Tensor:
    """Mean over n examples; loss: cross_entropy or squared_error; outputs (n, outputs); labels (n,) or targets."""
    return example_losses(loss, output, targets).mean()


def example_losses(loss: str, output: Tensor, targets: Tensor) -> Tensor:
    """Of each example: outputs (..., outputs), labels (...) or targets (..., outputs) -> (...)."""
    if loss == "squared_error":
        return (output - targets.to(output.dtype)).square().mean(-1)
    flat = F.cross_entropy(output.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)
