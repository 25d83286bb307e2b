"""What regularisers add to the gradient, against autograd on their penalties; on every kind of network, in a pack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.fresh_parameters import FreshParameters
from lop_sweeps.algorithms.intervention import Intervention
from lop_sweeps.algorithms.isometry import Isometry
from lop_sweeps.algorithms.l2_init import L2Init
from lop_sweeps.algorithms.parseval import Parseval
from lop_sweeps.algorithms.spectral import PackedSpectral, Spectral
from lop_sweeps.algorithms.wasserstein import Wasserstein
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network, fill_uniform
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner

NETWORKS: dict[str, Callable[[], Network]] = {
    "mlp": lambda: MLP(6, 3, [8, 5], init="default", norm="layer"),
    "conv_net": lambda: ConvNet((2, 10, 10), 3, [3], [3], [4], norm="batch"),
    "resnet18": lambda: ResNet18((2, 8, 8), 3, width=2),
    "actor_critic": lambda: ActorCritic(5, 2, [6], init="default"),
}
STRENGTHS = (0.3, 0.7)
DRAWS = 60
on_networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
Named = dict[str, Tensor]


def learner_of(network: Callable[[], Network], *options: Intervention, spread: float = 0.5) -> TorchLearner:
    """Two runs that have moved from where they began."""
    learner = TorchLearner(
        network, [SGD(0.1)] * 2, [options] if options else [], (0, 1), "cross_entropy", torch.float64
    )
    random = torch.Generator().manual_seed(3)
    learner.parameters += spread * torch.randn(learner.parameters.shape, generator=random, dtype=torch.float64)
    return learner


def named(learner: TorchLearner, flat: Tensor, run: int) -> Named:
    return {name: learner.view(flat, name)[run] for name in learner.parameter_names}


def biases(learner: TorchLearner) -> list[str]:
    return [name.removesuffix("weight") + "bias" for name in learner.weight_names]


def scales(learner: TorchLearner) -> list[str]:
    return [name for name in learner.parameter_names if "norm" in name and name.endswith("weight")]


def wasserstein(learner: TorchLearner, now: Named, initial: Named, run: int) -> Tensor:
    names = [*learner.weight_names, *biases(learner)]
    terms = [(now[n].flatten().sort()[0] - initial[n].flatten().sort()[0]).square().sum() for n in names]
    return torch.stack(terms).sum()


def spectral(k: float, exponent: float) -> Any:
    def penalty(learner: TorchLearner, now: Named, initial: Named, run: int) -> Tensor:
        largest = [torch.linalg.matrix_norm(now[name].flatten(1), 2) for name in learner.weight_names]
        terms = [(sigma**k - 1).square() for sigma in largest]
        terms += [now[name].norm() ** exponent for name in biases(learner)]
        terms += [(now[name] - 1).square().sum() for name in scales(learner)]
        return torch.stack(terms).sum()

    return penalty


def parseval(scale: float, effective: bool) -> Any:
    def penalty(learner: TorchLearner, now: Named, initial: Named, run: int) -> Tensor:
        heads = learner.network.heads()
        rows = [now[name].flatten(1) for name in learner.weight_names if name not in heads]
        rows = [v / v.norm(dim=1, keepdim=True) for v in rows] if effective else rows
        return torch.stack([(v @ v.T - scale * torch.eye(len(v))).square().sum() for v in rows]).sum()

    return penalty


def huber(learner: TorchLearner, now: Named, initial: Named, run: int) -> Tensor:
    names = [*learner.weight_names, *biases(learner)]
    terms = [torch.nn.functional.huber_loss(now[n], initial[n], reduction="sum") for n in names]
    return torch.stack(terms).sum()


PENALTIES: dict[str, tuple[Callable[[float], Intervention], Any]] = {
    "huber_init": (lambda strength: L2Init(strength, penalty="huber"), huber),
    "wasserstein": (lambda strength: Wasserstein(strength, biases=True), wasserstein),
    "spectral": (lambda strength: Spectral(strength), spectral(2.0, 4.0)),
    "spectral_k3": (lambda strength: Spectral(strength, 3.0, 2, 1.0), spectral(3.0, 1.0)),
    "parseval": (lambda strength: Parseval(strength, 2.0), parseval(2.0, False)),
    "parseval_effective": (lambda strength: Parseval(strength, effective=True), parseval(1.0, True)),
}


@on_networks
@pytest.mark.parametrize(("method", "penalty"), PENALTIES.values(), ids=PENALTIES)
def test_the_gradient_is_that_of_the_penalty(method: Any, penalty: Any, network: Callable[[], Network]) -> None:
    initial = learner_of(network, spread=0.0).parameters
    learner = learner_of(network, *map(method, STRENGTHS))
    packed = learner.interventions[0]
    if isinstance(packed, PackedSpectral):  # as if the power iteration had gone on for long
        for name, left in zip(packed.names, packed.left, strict=True):
            left.copy_(torch.linalg.svd(learner.view(learner.parameters, name).flatten(2))[0][:, :, 0])
    gradient = torch.ones_like(learner.parameters)
    packed.before_update(gradient, 0)
    for run, strength in enumerate(STRENGTHS):
        now = {name: value.clone().requires_grad_() for name, value in named(learner, learner.parameters, run).items()}
        value = strength * penalty(learner, now, named(learner, initial, run), run)
        found = torch.autograd.grad(value, list(now.values()), allow_unused=True)
        for (name, leaf), slope in zip(now.items(), found, strict=True):
            expected = torch.zeros_like(leaf) if slope is None else slope
            ours = learner.view(gradient, name)[run] - 1
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_the_power_iteration_goes_on_from_step_to_step() -> None:
    learner = learner_of(NETWORKS["conv_net"], Spectral(), Spectral())
    packed = learner.interventions[0]
    assert isinstance(packed, PackedSpectral)
    began = [left.clone() for left in packed.left]
    for step in range(200):
        packed.before_update(torch.zeros_like(learner.parameters), step)
    for name, left, first in zip(packed.names, packed.left, began, strict=True):
        matrix = learner.view(learner.parameters, name).flatten(2)
        largest = torch.linalg.matrix_norm(matrix, 2)
        torch.testing.assert_close((left.unsqueeze(1) @ matrix).norm(dim=2)[:, 0], largest, rtol=1e-3, atol=0)
        assert left.shape[1] == 1 or not torch.equal(left, first)


def test_a_matrix_of_zeros_is_not_pulled_and_its_vectors_stay() -> None:
    """An output layer may begin at zero; it must be able to leave it."""
    learner = learner_of(NETWORKS["mlp"], Spectral(), Spectral())
    learner.parameters.zero_()
    packed, gradient = learner.interventions[0], torch.zeros_like(learner.parameters)
    assert isinstance(packed, PackedSpectral)
    began = [left.clone() for left in packed.left]
    packed.before_update(gradient, 0)
    assert all(torch.equal(left, first) for left, first in zip(packed.left, began, strict=True))
    for name in learner.parameter_names:
        pulled = name.startswith("norms") and name.endswith("weight")
        assert bool(learner.view(gradient, name).any()) == pulled


@on_networks
@pytest.mark.parametrize("output", [True, False])
def test_the_isometry_pull_starts_where_the_step_began(network: Callable[[], Network], output: bool) -> None:
    """theta <- theta - step size * strength * slope at the parameters that the optimiser was given."""
    learner = learner_of(network, *(Isometry(strength, output=output) for strength in STRENGTHS))
    before = learner.parameters.clone().requires_grad_()
    learner.parameters.mul_(0.9)
    after = learner.parameters.clone()
    learner.interventions[0].after_optimizer(before.detach(), 0)
    heads = () if output else learner.network.heads()
    defects = []
    for name in learner.weight_names:
        matrix = learner.view(before, name).flatten(2)
        wide = matrix.shape[1] < matrix.shape[2]
        gram = matrix @ matrix.mT if wide else matrix.mT @ matrix
        if name not in heads:
            defects.append((gram - torch.eye(gram.shape[1])).square().sum((1, 2)))
    strength = torch.tensor(STRENGTHS, dtype=torch.float64)
    (slope,) = torch.autograd.grad((strength * torch.stack(defects).sum(0)).sum(), before)
    torch.testing.assert_close(learner.parameters, after - 0.1 * slope, rtol=1e-9, atol=1e-9)


@on_networks
def test_a_resampled_anchor_is_drawn_from_the_initial_law(network: Callable[[], Network]) -> None:
    """Entry by entry of the mean and the spread that `initialize` draws with; of a run's own seed and of each step."""
    learner = learner_of(network, spread=0.0)
    fresh = FreshParameters(learner, "a purpose")
    ours = torch.stack([fresh.draw(step) for step in range(DRAWS)])
    numpys = torch.stack(
        [
            torch.cat([value.flatten() for value in learner.redraw(0, "another", step)[0].values()])
            for step in range(DRAWS)
        ]
    )
    assert torch.equal(fresh.draw(5), ours[5])
    drawn = numpys.std(0) > 0
    assert not torch.equal(ours[0, 0, drawn], ours[0, 1, drawn])
    assert torch.equal(ours[:, :, ~drawn], numpys[:, None, ~drawn].expand(-1, 2, -1))
    names = [name for name in learner.parameter_names if bool(named(learner, drawn[None], 0)[name].any())]
    for name in names:
        mine, theirs = learner.view(ours.flatten(0, 1), name), learner.view(numpys, name)
        size = theirs[0].numel()
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=5 / (2 * DRAWS * size) ** 0.5)
        assert abs(mine.mean()) < 5 * theirs.std() / (2 * DRAWS * size) ** 0.5
        if name.endswith("weight") and not isinstance(learner.network, ResNet18):  # uniform: within bounds
            assert mine.abs().max() <= theirs.abs().max() * (1 + 10 / (DRAWS * size))


def test_a_law_that_is_not_known_is_refused_in_words() -> None:
    class Odd(MLP):
        def initialize(self, draw: Any) -> None:
            super().initialize(draw)
            fill_uniform(self.layers[0].weight, float(draw(0).exponential()), draw(0))

    with pytest.raises(ConfigError, match="draws by `exponential`"):
        learner_of(lambda: Odd(4, 2, [3]), L2Init(anchor="resampled"), L2Init(anchor="resampled"))


def test_of_equal_weights_the_first_is_the_smaller() -> None:
    learner = learner_of(lambda: MLP(2, 2, []), Wasserstein(1.0), Wasserstein(1.0))
    learner.parameters.zero_()
    gradient = torch.zeros_like(learner.parameters)
    learner.interventions[0].before_update(gradient, 0)
    initial = learner_of(lambda: MLP(2, 2, []), spread=0.0)
    ordered = initial.view(initial.parameters, "layers.0.weight").flatten(1).sort(1)[0]
    torch.testing.assert_close(learner.view(gradient, "layers.0.weight").flatten(1), -2 * ordered)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: L2Init(-1.0), "strength"),
        (lambda: L2Init(penalty="l3"), "penalty"),
        (lambda: Spectral(k=0.5), "k"),
        (lambda: Spectral(bias_exponent=0.5), "bias_exponent"),
        (lambda: Parseval(scale=0.0), "scale"),
        (lambda: Parseval().check(MLP(4, 2, [])), "leaves out the output layer"),
        (lambda: Isometry(step_size=0.0), "step_size"),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
