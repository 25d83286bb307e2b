"""Parseval regularisation against FIRE's code for it: a convolution, a normalisation, two fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lop_sweeps.algorithms.parseval import Parseval
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.field.golden import PACKS, Golden, needs_field


class Parts(Network):
    """A network for parity only: the file's parameters, whatever they compute."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        self.values = {name: golden[f"param_{name}"] for name in golden.meta["params"]}
        for name in dict.fromkeys(name.partition(".")[0] for name in self.values):
            shape = self.values[f"{name}.weight"].shape
            module: nn.Module
            if len(shape) == 1:
                module = nn.LayerNorm(shape)
            else:
                module = nn.Conv2d(shape[1], shape[0], shape[2]) if len(shape) == 4 else nn.Linear(shape[1], shape[0])
            self.add_module(name, module)

    def initialize(self, draw: object) -> None:
        with torch.no_grad():
            for name, value in self.values.items():
                self.get_parameter(name).copy_(torch.from_numpy(value))

    def weights(self) -> tuple[str, ...]:
        return tuple(name for name, value in self.values.items() if value.ndim > 1)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        return 0.0 * sum(parameter.sum() for parameter in self.parameters()) + x, []


@needs_field
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("effective", [False, True])
def test_the_authors_gradients(effective: bool, pack: int) -> None:
    """What it adds to a gradient of zeros; biases get nothing."""
    golden = Golden("parseval")
    for scale in golden.meta["scales"]:
        method = Parseval(golden.meta["coef"], scale, output=True, norm_scales=True, effective=effective)
        learner = TorchLearner(
            lambda: Parts(golden), [SGD(1.0)] * pack, [[method] * pack], range(pack), "squared_error", torch.float64
        )
        gradient = torch.zeros_like(learner.parameters)
        learner.interventions[0].before_update(gradient, 0)
        for name in golden.meta["params"]:
            key = f"grad_s{scale}{'_effective' if effective else ''}_{name}"
            expected = golden.arrays.get(key, np.zeros_like(golden[f"param_{name}"]))
            assert (key in golden.arrays) == (not name.endswith("bias"))
            for ours in learner.view(gradient, name):
                np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-10)
