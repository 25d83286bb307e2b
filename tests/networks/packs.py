"""A pack of networks against each of them alone: outputs, hidden activations, gradients, running statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lop_sweeps.networks.network import Network
from lop_sweeps.training.packed_network import PackedNetwork

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SEEDS = (0, 3, 4)


def assert_pack_is_each_run_alone(make: Callable[[], Network], inputs: int, batch: int = 4) -> None:
    """In float64, in training and in evaluation."""
    rng = np.random.default_rng(0)
    together = PackedNetwork(make, SEEDS, torch.float64)
    x = torch.from_numpy(rng.normal(size=(len(SEEDS), batch, inputs)))
    drawn = [torch.from_numpy(rng.random((len(SEEDS), *shape))) for shape in make().draws(batch)]
    for training in (True, False):
        together.network.train(training)
        given = drawn if training and drawn else None
        outputs, activations = together._forward(x, given)
        gradient = together._gradient(outputs, outputs.detach())
        for run, seed in enumerate(SEEDS):
            alone = PackedNetwork(make, [seed], torch.float64)
            if not training:
                alone.parameters.copy_(together.parameters[run : run + 1])
                for name, buffer in alone.buffers.items():
                    buffer.copy_(together.buffers[name][run : run + 1])
            alone.network.train(training)
            mine = slice(run, run + 1)
            output, hidden = alone._forward(x[mine], None if given is None else [u[mine] for u in given])
            torch.testing.assert_close(outputs[mine], output, **CLOSE)
            for ours, theirs in zip(activations, hidden, strict=True):
                torch.testing.assert_close(ours[mine], theirs, **CLOSE)
            torch.testing.assert_close(gradient[mine], alone._gradient(output, output.detach()), **CLOSE)
            if training:
                for name, buffer in alone.buffers.items():
                    torch.testing.assert_close(together.buffers[name][mine], buffer, **CLOSE)
