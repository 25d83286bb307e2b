"""Each diagnostic on numbers made by hand, or against loops in numpy."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.diagnostics.cloned_units import ClonedUnits, cloned_fraction
from lop_sweeps.diagnostics.deaths import Deaths
from lop_sweeps.diagnostics.gradient_coverage import coverage
from lop_sweeps.diagnostics.gradient_dormancy import GradientDormancy, gradient_scores, incoming_gradient
from lop_sweeps.diagnostics.gradient_norms import GradientNorms
from lop_sweeps.diagnostics.initial_distance import InitialDistance
from lop_sweeps.diagnostics.isometry import isometry_deviation
from lop_sweeps.diagnostics.neural_tangent_kernel import condition, kernel
from lop_sweeps.diagnostics.plasticity_probe import PlasticityProbe
from lop_sweeps.diagnostics.sample_plasticity import sample_plasticity
from lop_sweeps.diagnostics.sign_entropy import SignEntropy, binary_entropy
from lop_sweeps.diagnostics.units import statistics
from lop_sweeps.diagnostics.weight_norms import WeightNorms
from lop_sweeps.diagnostics.weight_rank import WeightRank
from lop_sweeps.diagnostics.zero_gradients import ZeroGradients
from lop_sweeps.networks.activations import ACTIVATIONS
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer


def run_with(**known: Any) -> Any:
    """As much of a run as a diagnostic asks for."""
    return SimpleNamespace(**known)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- weights ---


def test_distance_is_a_root_mean_square_and_a_share_of_where_it_began() -> None:
    first = [torch.tensor([[3.0, 4.0]]), torch.zeros(2, 2, 1, 1)]
    now = [first[0] + torch.tensor([[0.0, 1.0]]), torch.full((2, 2, 1, 1), 2.0)]
    found: Any = InitialDistance().measure(run_with(weights=now, initial_weights=first))
    assert found["initial_distance"] == pytest.approx([math.sqrt(1 / 2), 2.0])
    assert found["initial_distance_relative"][0] == pytest.approx(1 / 5)
    assert math.isnan(found["initial_distance_relative"][1])


def test_norms_and_ranks_of_weights_are_those_of_their_singular_values() -> None:
    weights = [drawn(6, 4), drawn(5, 3, 2, 2, seed=1)]
    weights[0][:, 3] = weights[0][:, 2]
    matrices = [weight.flatten(1).numpy() for weight in weights]
    sigmas = [np.linalg.svd(matrix, compute_uv=False) for matrix in matrices]
    run = run_with(weights=weights, singular_values=[torch.from_numpy(sigma) for sigma in sigmas])
    norms: Any = WeightNorms().measure(run)
    assert norms["weight_norm"] == pytest.approx([np.linalg.norm(matrix) for matrix in matrices])
    assert norms["weight_sigma_max"] == [sigma[0] for sigma in sigmas]
    assert norms["weight_sigma_min"] == [sigma[-1] for sigma in sigmas]
    assert norms["weight_condition"] == [sigma[0] / sigma[-1] for sigma in sigmas]
    ranks: Any = WeightRank().measure(run)
    assert ranks["weight_numerical_rank"] == [3.0, 5.0]
    assert ranks["weight_stable_rank_fro"] == pytest.approx([(s**2).sum() / s[0] ** 2 for s in sigmas])
    shares = [s / s.sum() for s in sigmas]
    entropies = [-sum(p * math.log(p) for p in share if p > 1e-15) for share in shares]
    assert ranks["weight_effective_rank"] == pytest.approx([math.exp(entropy) for entropy in entropies])


def test_a_singular_weight_matrix_has_no_condition_number() -> None:
    run = run_with(weights=[torch.zeros(2, 2)], singular_values=[torch.zeros(2)])
    assert WeightNorms().measure(run)["weight_condition"] == [math.inf]  # logged as null


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8)], ids=str)
def test_what_fire_makes_is_an_isometry(shape: tuple[int, int]) -> None:
    """An orthogonal matrix times sqrt(outputs / inputs); twice as large, each of its values is 2, and 4 - 1 = 3."""
    outputs, inputs = shape
    u, _, v = torch.linalg.svd(drawn(*shape), full_matrices=False)
    weight = u @ v * math.sqrt(outputs / inputs)
    assert isometry_deviation(weight) == pytest.approx(0.0, abs=1e-20)
    assert isometry_deviation(2.0 * weight) == pytest.approx(9.0 * min(shape))


def test_a_kernel_is_an_isometry_at_each_of_its_positions() -> None:
    kernel_of_six = drawn(4, 4, 2, 3)
    for i in range(2):
        for j in range(3):
            u, _, v = torch.linalg.svd(kernel_of_six[:, :, i, j])
            kernel_of_six[:, :, i, j] = u @ v / 6.0
    assert isometry_deviation(kernel_of_six) == pytest.approx(0.0, abs=1e-20)
    kernel_of_six[:, :, 0, 0] *= 2.0
    assert isometry_deviation(kernel_of_six) == pytest.approx(9.0 * 4 / 6)


# --- gradients ---


def test_norms_and_zeros_of_gradients() -> None:
    run = run_with(
        weight_names=("a", "b"), gradients={"a": torch.tensor([[3.0, -4.0, 0.0, 0.0]]), "b": torch.ones(2, 2)}
    )
    assert GradientNorms().measure(run) == {"gradient_norm": [5.0, 2.0], "gradient_norm_l1": [7.0, 4.0]}
    assert ZeroGradients().measure(run) == {"zero_gradient_fraction": [0.5, 0.0]}


def test_a_unit_is_dormant_by_its_gradient_relative_to_the_layers() -> None:
    gradient = torch.tensor([[4.0, -4.0], [0.0, 0.0], [0.02, 0.02], [4.0, 3.96]])  # means 4, 0, 0.02, 3.98 of 2
    assert gradient_scores(gradient).tolist() == pytest.approx([2.0, 0.0, 0.01, 1.99], rel=1e-6)
    layer = UnitLayer("w", "b", "v", "c", units=4, fan_in=2, bound=1.0)
    run = run_with(graph=(layer,), gradients={"w": gradient})
    found = GradientDormancy(thresholds=[0.011, 0]).measure(run)
    assert found == {"gradient_dormant_fraction_tau0.011": [0.5], "gradient_dormant_fraction_tau0": [0.25]}
    assert [value.name for value in GradientDormancy(thresholds=[1e-5]).values] == [
        "gradient_dormant_fraction_tau0.00001"
    ]


def test_units_are_scored_over_all_rows_that_feed_them() -> None:
    """Rows 2 and 3 of one matrix, and of a second one two for each."""
    gradients = {"qkv": torch.arange(8.0).view(4, 2), "gate": torch.arange(4.0).view(4, 1)}
    incoming = [
        Rows("qkv.weight", None, fan_in=2, rows=range(2, 4)),
        Rows("gate.weight", None, fan_in=1, rows=[(0, 2), (1, 3)]),
    ]
    layer = UnitLayer(units=2, incoming=incoming, readers=[Reader("out.weight", None)])
    named = {f"{name}.weight": gradient for name, gradient in gradients.items()}
    assert incoming_gradient(layer, named).tolist() == [[4.0, 5.0, 0.0, 2.0], [6.0, 7.0, 1.0, 3.0]]


def test_dead_units_get_no_gradient() -> None:
    """Of a ReLU network without normalisation: units that are dormant at threshold 0 are so by their gradient, too."""
    network = MLP(6, 3, [8, 8]).double()
    network.initialize(lambda i: np.random.default_rng(i))
    with torch.no_grad():
        network.layers[0].bias[:3] = -100.0
        network.layers[1].bias[5] = -100.0
    output, hidden = network(drawn(50, 6))
    output.square().mean().backward()
    for layer, h, count in zip(network.unit_graph(), hidden, (3, 1), strict=True):
        gradient = network.get_parameter(layer.weight).grad
        assert gradient is not None
        dead = (h == 0).all(0)
        assert int(dead.sum()) >= count
        assert bool((gradient_scores(gradient)[dead] == 0).all())


def test_coverage_counts_silent_columns_and_repeated_rows() -> None:
    gradients = torch.tensor([[1.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 4.0], [0.0, 0.0, 3.0, 0.0]], dtype=torch.float64)
    assert coverage(gradients) == (1 / 4, 1 / 3)
    assert coverage(torch.eye(3, dtype=torch.float64)) == (0.0, 0.0)


def test_the_kernel_of_a_linear_network_is_that_of_its_inputs() -> None:
    """d(sum of outputs)/dW is x in every row: K = outputs (X X^T + 1)."""
    network, x = MLP(5, 3, []).double(), drawn(7, 5)
    run = run_with(inputs=x, network=lambda: network, answers=lambda one, given: one(given)[0])
    torch.testing.assert_close(kernel(run, 7), 3.0 * (x @ x.T + 1.0), rtol=1e-12, atol=1e-12)
    assert condition(torch.tensor([8.0, 2.0, 1e-13])) == 4.0
    assert math.isnan(condition(torch.zeros(2)))


# --- units ---


def test_units_that_vary_alike_are_cloned() -> None:
    h = drawn(200, 6)
    h[:, 1] = 3.0 * h[:, 0] + 1.0  # as correlated as can be
    h[:, 2] = -h[:, 0]  # the opposite is no clone
    h[:, 5] = 2.0  # does not vary
    assert cloned_fraction(h, 0.95) == 2 / 5
    h[:, 4] = h[:, 3] + 0.5 * h[:, 4]  # correlation about 0.9
    assert cloned_fraction(h, 0.95) == 2 / 5
    assert cloned_fraction(h, 0.8) == 4 / 5
    assert cloned_fraction(torch.ones(5, 3), 0.95) == 0.0
    assert cloned_fraction(drawn(5, 1), 0.95) == 0.0
    assert ClonedUnits().measure(run_with(activations=[h])) == {"cloned_fraction": [2 / 5]}


def test_entropy_of_a_sign() -> None:
    assert binary_entropy(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.0, math.log(2), 0.0])


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"identity", "fourier", "rational"}))
def test_sign_entropy_is_of_what_goes_into_the_activation(activation: str) -> None:
    network = MLP(5, 2, [40], activation=activation).double()
    network.initialize(lambda i: np.random.default_rng(i))
    x = drawn(600, 5)  # more than a chunk
    z = x @ network.layers[0].weight.T + network.layers[0].bias
    p = (z > 0).double().mean(0)
    expected = float(binary_entropy(p).mean())
    found = SignEntropy().measure(run_with(inputs=x, network=lambda: network))
    assert found == {"sign_entropy": [pytest.approx(expected)]}
    assert 0.1 < expected < math.log(2)


def test_sign_entropy_of_a_channel_is_over_positions() -> None:
    h = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, 0.0]]]])  # half of eight
    network = run_with(at_zero=0.0)
    run = run_with(inputs=torch.zeros(2, 4), network=lambda: _Returning(h, network.at_zero))
    assert SignEntropy().measure(run) == {"sign_entropy": [pytest.approx(math.log(2))]}


class _Returning:
    """A network of given activations."""

    def __init__(self, h: Tensor, at_zero: float) -> None:
        self.h, self.at_zero = h, at_zero

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return x, [self.h]


def test_deaths_and_revivals_are_counted_from_one_look_to_the_next() -> None:
    """Nothing at the first; and what is remembered is the latest."""
    memory: dict[str, Tensor] = {}

    def look(*dead: list[int]) -> Any:
        layers = [statistics(torch.tensor([[0.0 if unit in found else 1.0 for unit in range(4)]])) for found in dead]
        return Deaths().measure(run_with(statistics=layers, memory=memory))

    assert look([0, 1], []) == {}
    assert look([0, 2, 3], [1]) == {"died_units": [2, 1], "revived_units": [1, 0]}
    assert look([0, 2, 3], [2]) == {"died_units": [0, 1], "revived_units": [0, 1]}
    assert Deaths().measure(run_with(statistics=[], memory={})) == {}  # without hidden layers, ever


# --- learning ---


def test_sample_plasticity_is_the_share_of_the_loss_that_is_gone() -> None:
    before = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    after = torch.tensor([[0.5, 3.0], [1.0, 0.0]])  # half; none, it grew; three quarters; all of nothing
    assert sample_plasticity(before, after).tolist() == [0.25, (0.75 + 1.0) / 2]


def test_the_probe_compares_a_copy_with_a_fresh_network() -> None:
    copies, fresh = torch.full((60, 2), 2.0), torch.full((60, 2), 4.0)
    copies[-50:, 0], fresh[:, 1] = 1.0, 0.0
    pack: Any = SimpleNamespace(trial=lambda updates: (copies[:updates], fresh[:updates]))
    first, second = PlasticityProbe().measure_pack(pack)
    assert first == {
        "probe_loss_ratio": pytest.approx((10 * 2 + 50 * 1) / 60 / 4),
        "probe_loss": pytest.approx(70 / 60),
        "probe_loss_fresh": 4.0,
        "probe_final_loss": 1.0,
        "probe_final_loss_fresh": 4.0,
    }
    assert math.isnan(second["probe_loss_ratio"])  # type: ignore[arg-type]
