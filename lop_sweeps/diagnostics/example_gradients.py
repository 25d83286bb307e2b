"""Gradients of a network's outputs for single examples of the probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import View
from lop_sweeps.networks.network import Network


def example_gradients(
    run: View, network: Network, stop: int, start: int = 0, outputs: int | None = None
) -> Iterator[Sequence[Tensor]]:
    """For each of the probe's examples `start` ... `stop - 1` that there are, the gradients of all parameters.

    Of the sum of the network's outputs, or of the first `outputs` of them; in evaluation mode.
    """
    parameters = list(network.parameters())
    for example in run.inputs[start:stop].split(1):
        with torch.enable_grad():
            total = run.answers(network, example)[:, :outputs].sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        yield [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
