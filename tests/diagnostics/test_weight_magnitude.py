"""Weight magnitude: means of |w| by matrix, that add up to the paper's average over all weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lop_sweeps.diagnostics.measure import measure_weights
from lop_sweeps.diagnostics.weight_magnitude import weight_magnitude
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner


def test_mean_of_absolute_values_per_run() -> None:
    weight = torch.tensor([[[1.0, -2.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, -8.0]]])
    assert weight_magnitude(weight).tolist() == [1.5, 2.0]
    assert weight_magnitude(torch.zeros(3, 2, 2)).tolist() == [0.0] * 3
    assert weight_magnitude(torch.ones(2, 4, 3, 5, 5)).tolist() == [1.0, 1.0]  # convolutions too


def test_float32_weights_are_averaged_in_float64() -> None:
    weight = torch.full((1, 3_000, 2_000), 0.1)
    assert weight_magnitude(weight).dtype == torch.float64
    assert float(weight_magnitude(weight)) == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)


def test_matrices_from_input_to_output_without_biases_and_normalisation() -> None:
    learner = TorchLearner(
        lambda: MLP(6, 3, [5, 4], norm="layer"), [SGD()] * 2, [], [0, 1], "cross_entropy", torch.float64
    )
    for name, value in (("weight", 1.0), ("bias", 100.0)):
        for i in range(3):
            learner.view(learner.parameters, f"layers.{i}.{name}").fill_(value * (i + 1))
    found = measure_weights([learner.view(learner.parameters, name) for name in learner.weight_names])
    assert found.tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_weighted_by_size_it_is_the_papers_average() -> None:
    """Sum of |w| over all matrices, divided by the number of weights (spec/metrics.md 4)."""
    generator = np.random.default_rng(0)
    matrices = [torch.from_numpy(generator.normal(size=(2, *shape))) for shape in ((100, 784), (100, 100), (10, 100))]
    sizes = torch.tensor([matrix[0].numel() for matrix in matrices], dtype=torch.float64)
    papers = sum(matrix.abs().flatten(1).sum(1) for matrix in matrices) / sizes.sum()
    ours = (measure_weights(matrices) * sizes[:, None]).sum(0) / sizes.sum()
    torch.testing.assert_close(ours, papers, rtol=1e-12, atol=0)
