"""Passes written out by hand against autograd on plain tensors; acting; what a learner does with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps.fused.activations import ELEMENTWISE
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import per_run
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import explicit
from lop_sweeps.training.learner import TorchLearner

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
INPUTS, ACTIONS = 5, 3
OUTPUTS = 2 * ACTIONS + 1
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "swish": F.silu,
    "identity": lambda z: z,
    "gelu": F.gelu,
    "smooth_leaky": lambda z: 0.1 * z + 0.9 * z * torch.sigmoid(5 / 3 * z),
}


class Watch:
    """An intervention that keeps what it sees after each update."""

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset()
    resets_units: ClassVar[bool] = False

    def pack(self, peers: Any, learner: Any) -> Watch:
        self.learner, self.seen = learner, [[torch.empty(0)]]
        return self

    def plan(self, step: int, steps: int) -> None: ...

    def after_update(self, step: int) -> None:
        assert not any(h.requires_grad for h in self.learner.activations)
        self.seen.append([h.clone() for h in self.learner.activations])

    def state(self) -> dict[str, Tensor]:
        return {}


def make(
    runs: int = 3,
    hidden: Sequence[int] = (7, 6),
    optimizers: Any = None,
    interventions: Any = (),
    dtype: torch.dtype = torch.float64,
    sizes: tuple[int, int] = (INPUTS, ACTIONS),
    **options: Any,
) -> TorchLearner:
    """A pack whose parameters are all different from zero, also those that start there."""
    learner = TorchLearner(
        lambda: ActorCritic(*sizes, hidden, **options),
        optimizers or [SGD(1.0)] * runs,
        [[one] * runs for one in interventions],
        list(range(runs)),
        "none",
        dtype,
    )
    learner.parameters.add_(normal(*learner.parameters.shape, seed=17).to(dtype), alpha=0.3)
    learner.plan(0, 10)
    return learner


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng([5, seed]).normal(size=shape))


def reference(learner: TorchLearner, x: Tensor, gradient: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """Outputs, hidden activations and parameters' gradients, run by run in plain PyTorch."""
    network = learner.network
    assert isinstance(network, ActorCritic)
    function, layers = FUNCTIONS[network.policy.activation], len(network.policy.hidden) + 1
    outputs, hidden, gradients = [], [], []
    for run in range(len(x)):
        own = {n: learner.view(learner.parameters, n)[run].clone() for n in learner.parameter_names}
        leaves = {name: value.requires_grad_() for name, value in own.items()}
        ends, seen = [], []
        for part in ("policy", "value"):
            h = x[run]
            for i in range(layers):
                h = F.linear(h, leaves[f"{part}.layers.{i}.weight"], leaves[f"{part}.layers.{i}.bias"])
                if i < layers - 1:
                    h = function(h)
                    seen.append(h.detach())
            ends.append(h)
        output = torch.cat([ends[0], leaves["log_std"].expand(len(ends[0]), -1), ends[1]], 1)
        found = torch.autograd.grad(output, list(leaves.values()), gradient[run])
        outputs.append(output.detach())
        hidden.append(seen)
        gradients.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(outputs), [torch.stack(each) for each in zip(*hidden, strict=True)], torch.stack(gradients)


def case(runs: int, batch: int, seed: int, sizes: tuple[int, int] = (INPUTS, ACTIONS)) -> tuple[Tensor, Tensor]:
    return normal(runs, batch, sizes[0], seed=seed), normal(runs, batch, 2 * sizes[1] + 1, seed=seed + 100)


# The passes


@pytest.mark.parametrize("hidden", [(6,), (7, 4), (4, 9, 6)])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_equals_autograd(activation: str, runs: int, hidden: tuple[int, ...]) -> None:
    """Outputs, activations and gradients, though batches change their size and buffers hold the call before."""
    learner = make(runs, hidden, activation=activation)
    assert learner._explicit is not None
    for call, batch in enumerate((4, 4, 9, 1, 4)):
        x, gradient = case(runs, batch, call)
        expected, activations, gradients = reference(learner, x, gradient)
        output, seen = learner._explicit.forward(x)
        torch.testing.assert_close(output, expected, **EXACT)
        assert len(seen) == 2 * len(hidden)
        for mine, theirs in zip(seen, activations, strict=True):
            torch.testing.assert_close(mine, theirs, **EXACT)
        torch.testing.assert_close(learner._explicit.backward(gradient), gradients, **EXACT)
        torch.testing.assert_close(learner._explicit.act(x), expected[..., : gradient.shape[2] // 2], **EXACT)
        learner.parameters.add_(normal(*learner.parameters.shape, seed=call), alpha=0.1)  # it must read the new ones


@pytest.mark.parametrize("slope", [0.1, 0.01])
@pytest.mark.parametrize("runs", [1, 3])
def test_numbered_actions_and_another_slope_equal_autograd(runs: int, slope: float) -> None:
    learner = make(runs, (7, 4), activation="leaky_relu", leaky_slope=slope, discrete=True)
    assert learner._explicit is not None
    x, gradient = normal(runs, 6, INPUTS), normal(runs, 6, ACTIONS + 1, seed=3)
    expected, activations = learner._forward(x, None)
    output, seen = learner._explicit.forward(x)
    torch.testing.assert_close(output, expected, **EXACT)
    for mine, theirs in zip(seen, activations, strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)
    slopes = learner._gradient(expected, gradient)
    torch.testing.assert_close(learner._explicit.backward(gradient), slopes, **EXACT)
    torch.testing.assert_close(learner._explicit.act(x), expected[..., :ACTIONS].detach(), **EXACT)


def test_every_activation_is_tried() -> None:
    assert set(FUNCTIONS) == set(ELEMENTWISE)


@pytest.mark.parametrize("runs", [1, 3])
def test_strided_inputs_and_gradients(runs: int) -> None:
    """Mini-batches are slices of a shuffled rollout; a gradient may be a slice, too."""
    learner = make(runs)
    assert learner._explicit is not None
    x, gradient = normal(runs, 12, INPUTS + 2)[:, 2:11:2, 1:-1], normal(OUTPUTS, runs, 5).permute(1, 2, 0)
    assert not x.is_contiguous()
    assert not gradient.is_contiguous()
    expected, _, gradients = reference(learner, x, gradient)
    torch.testing.assert_close(learner._explicit.forward(x)[0], expected, **EXACT)
    torch.testing.assert_close(learner._explicit.backward(gradient), gradients, **EXACT)
    torch.testing.assert_close(learner._explicit.act(x), expected[..., :ACTIONS], **EXACT)


def test_an_output_is_not_overwritten_by_the_next_pass() -> None:
    """Nor does a forward pass without learning in between spoil the gradient of the last `predict`."""
    learner = make()
    x, gradient = case(3, 4, 1)
    first = learner.predict(x, 0)
    kept = first.clone()
    _, _, gradients = reference(learner, x, gradient)
    before = learner.parameters.clone()
    with torch.no_grad():
        learner.forward(normal(3, 4, INPUTS, seed=3))
    learner.act(normal(3, 4, INPUTS, seed=4))
    learner.learn_from(first, gradient, 0)
    torch.testing.assert_close(before - learner.parameters, gradients, **EXACT)
    learner.predict(normal(3, 4, INPUTS, seed=5), 1)
    assert torch.equal(first, kept)


def test_float32() -> None:
    learner = make(dtype=torch.float32, activation="tanh")
    x, gradient = (each.float() for each in case(3, 6, 0))
    expected, _, gradients = reference(learner, x, gradient)
    assert learner._explicit is not None
    output, _ = learner._explicit.forward(x)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(learner._explicit.backward(gradient), gradients, rtol=1e-5, atol=1e-5)
    assert learner.act(x).dtype == torch.float32
    torch.testing.assert_close(learner.act(x), expected[..., :ACTIONS], rtol=1e-5, atol=1e-5)


def test_nan_in_one_run_stays_there() -> None:
    learner = make(optimizers=[Adam(0.1, weight_decay=0.1)] * 3)
    x, gradient = case(3, 4, 0)
    whole = make(optimizers=[Adam(0.1, weight_decay=0.1)] * 3)
    learner.parameters[1, 3] = torch.nan
    for one in (learner, whole):
        for step in range(3):
            one.learn_from(one.predict(x, step), gradient, step, per_run([1.0, 1.0, 1e9], x))
    assert torch.equal(learner.parameters[[0, 2]], whole.parameters[[0, 2]])
    assert bool(learner.parameters[1].isnan().any())


# Acting


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(
    ("sizes", "hidden"),
    [
        ((5, 3), (7, 6)),
        ((12, 3), (7,)),  # more inputs than units
        ((2, 3), (3, 9, 4)),
        ((1, 1), (1,)),
        ((3, 9), (4, 20)),
        ((3, 4), ()),
    ],
)
@pytest.mark.parametrize("batch", [1, 5])
def test_acts_on_the_networks_mean(runs: int, sizes: tuple[int, int], hidden: tuple[int, ...], batch: int) -> None:
    learner = make(runs, hidden, sizes=sizes, activation="tanh")
    x, gradient = case(runs, batch, 0, sizes)
    expected = reference(learner, x, gradient)[0][..., : sizes[1]]
    with torch.no_grad():
        action = learner.act(x)
        torch.testing.assert_close(action, expected, **EXACT)
        if runs == 1:
            torch.testing.assert_close(action[0], learner.network.mean(x[0]), **EXACT)  # type: ignore[operator]
        else:
            torch.testing.assert_close(action, learner.network.mean(x), **EXACT)  # type: ignore[operator]
    assert action.shape == (runs, batch, sizes[1])
    other = learner.act(x + 1)
    torch.testing.assert_close(action, expected, **EXACT)  # not overwritten
    assert not torch.equal(other, action)


@pytest.mark.parametrize("hidden", [(4,), (4, 3, 4)])
def test_more_actions_than_units_and_inputs(hidden: tuple[int, ...]) -> None:
    """The last layer is the widest there: what acting needs is room for it, too."""
    learner = make(1, hidden, sizes=(2, 7), activation="tanh")
    x, gradient = case(1, 3, 0, (2, 7))
    expected = reference(learner, x, gradient)[0][..., :7]
    torch.testing.assert_close(learner.act(x), expected, **EXACT)


def test_a_pack_acts_bit_for_bit_as_each_run() -> None:
    """The environments would otherwise drift apart from those of a run alone."""
    together, x = make(3, activation="tanh"), normal(3, 2, INPUTS)
    actions = together.act(x)
    for run in range(3):
        alone = make(1, activation="tanh")
        alone.parameters[0] = together.parameters[run]
        assert torch.equal(alone.act(x[run : run + 1])[0], actions[run])


# The learner


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_one_update_is_the_gradient_step(runs: int, norm: str) -> None:
    """By hand or by autograd; against a learner that takes the same loss the ordinary way."""
    learner, other = make(runs, norm=norm), make(runs, norm=norm)
    assert (learner._explicit is not None) == (norm == "none")
    for step, batch in enumerate((4, 6, 1)):
        x, gradient = case(runs, batch, step)
        output = learner.predict(x, step)
        learner.learn_from(output, gradient * 0.1, step)
        theirs, _ = other._forward(x, None)
        torch.testing.assert_close(output.detach(), theirs.detach(), **EXACT)
        gradients = torch.autograd.grad((theirs * gradient * 0.1).sum(), other._leaves)
        other.parameters.sub_(torch.cat([g.reshape(runs, -1) for g in gradients], 1))
        torch.testing.assert_close(learner.parameters, other.parameters, **EXACT)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("runs", [1, 3])
def test_max_norm_cuts_each_runs_gradient_by_itself(runs: int, norm: str) -> None:
    """To its own length, in its own direction; shorter ones are left alone, and so is one of length 0."""
    longest = [0.5, 1e9, 2.0][:runs]
    learner, whole = make(runs, norm=norm), make(runs, norm=norm)
    for step in range(3):
        x, gradient = case(runs, 4, step)
        if runs > 1:
            gradient[2] *= 1e-4 if step == 1 else 1.0
            gradient[2] *= 0.0 if step == 2 else 1.0
        whole.parameters.copy_(learner.parameters)
        before = learner.parameters.clone()
        learner.learn_from(learner.predict(x, step), gradient, step, per_run(longest, gradient))
        whole.learn_from(whole.predict(x, step), gradient, step)
        for run in range(runs):
            own, uncut = before[run] - learner.parameters[run], before[run] - whole.parameters[run]
            length = float(uncut.norm())
            if length > longest[run]:
                uncut = uncut * (longest[run] / length)
            assert (length > longest[run]) == ((run == 0) or (run == 2 and step == 0))
            torch.testing.assert_close(own, uncut, rtol=1e-10, atol=1e-12)


def test_max_norm_comes_before_weight_decay() -> None:
    """As the authors' clipping does: the L2 term is the optimiser's and is not cut."""
    learner = make(1, optimizers=[SGD(1.0, weight_decay=0.25)])
    x, gradient = case(1, 4, 0)
    _, _, gradients = reference(learner, x, gradient)
    before = learner.parameters.clone()
    learner.learn_from(learner.predict(x, 0), gradient, 0, per_run([0.01], gradient))
    step = gradients * (0.01 / gradients.norm()) + 0.25 * before
    torch.testing.assert_close(before - learner.parameters, step, **EXACT)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("runs", [1, 3])
def test_interventions_see_the_activations_of_the_current_step(runs: int, norm: str) -> None:
    """Those that led to the update: not of the step before, nor with the weights after it."""
    watch = Watch()
    learner = make(runs, interventions=[watch], norm=norm)
    other = make(runs, norm=norm)
    for step, batch in enumerate((4, 4, 7)):
        x, gradient = case(runs, batch, step)
        other.parameters.copy_(learner.parameters)
        with torch.no_grad():
            expected = other._forward(x, None)[1]
        learner.learn_from(learner.predict(x, step), gradient * 0.1, step)
        assert not torch.equal(learner.parameters, other.parameters)
        assert len(watch.seen) == step + 2
        for mine, theirs in zip(watch.seen[-1], expected, strict=True):
            torch.testing.assert_close(mine, theirs, **EXACT)


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.2}, {"norm": "layer"}, {"norm": "batch"}, {"norm": "layer", "norm_after": True}, {"hidden": ()}, {}],
    ids=str,
)
@pytest.mark.parametrize("runs", [1, 2])
def test_learns(runs: int, options: dict[str, Any]) -> None:
    """A value and an action that depend on the state, whichever way its network takes."""
    learner = make(runs, optimizers=[Adam(0.01)] * runs, **{"hidden": (16, 16), **options})
    assert (learner._explicit is None) == bool(options)
    losses = []
    for step in range(150):
        x = normal(runs, 32, INPUTS, seed=step % 10)
        target = torch.stack([x[..., 0], x[..., 1] - 1, x[..., 2] + x[..., 3], x[..., 4] * 2], 2)
        output = learner.predict(x, step)
        error = output.detach()[..., [0, 1, 2, -1]] - target
        gradient = torch.zeros_like(output)
        gradient[..., [0, 1, 2, -1]] = error / 32
        learner.learn_from(output, gradient, step)
        losses.append(error.square().mean((1, 2)))
    assert bool((torch.stack(losses[-10:]).mean(0) < 0.35 * torch.stack(losses[:10]).mean(0)).all())
    learner.network.eval()
    x = normal(runs, 8, INPUTS, seed=99)
    with torch.no_grad():
        action, output = learner.act(x), learner.forward(x)[0]
    torch.testing.assert_close(action, output[..., :ACTIONS], **EXACT)
    error = action[..., 0] - x[..., 0]
    assert float(error.square().mean()) < 0.6 * float(x[..., 0].square().mean())


@pytest.mark.parametrize("runs", [1, 3])
def test_dropout_of_a_step_is_that_of_its_draws(runs: int) -> None:
    """`predict` uses the draws of the step it is told; acting drops nothing."""
    learner = make(runs, dropout=0.5)
    x = normal(runs, 4, INPUTS)
    first, again, other = (learner.predict(x, step).detach() for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    expected, _ = learner._forward(x, learner._draw(3, 4))
    assert torch.equal(first, expected.detach())


class Derived(ActorCritic):
    """A user's own: its forward pass may be another one."""


@pytest.mark.parametrize(
    ("network", "device", "answer"),
    [
        (ActorCritic(4, 2, [3]), "cpu", True),
        (ActorCritic(4, 2, [3]), "cuda", False),
        (ActorCritic(4, 2, [3]), "meta", False),
        (ActorCritic(4, 2, []), "cpu", False),
        (ActorCritic(4, 2, [3], dropout=0.1), "cpu", False),
        (ActorCritic(4, 2, [3], norm="online"), "cpu", False),
        (Derived(4, 2, [3]), "cpu", False),
        (MLP(4, 2, [3]), "cpu", False),
    ],
)
def test_where_it_applies(network: Network, device: str, answer: bool) -> None:
    assert explicit.applies(network, torch.device(device)) == answer


def test_restored_state_is_what_is_acted_and_learned_with() -> None:
    """Views must be of the learner's own parameters: a load copies into these."""
    first, second = make(2), make(2)
    first.parameters.add_(0.5)
    for run in (0, 1):
        second.load(run, {name: value[run].clone() for name, value in first.state().items()})
    x, gradient = case(2, 4, 0)
    assert torch.equal(first.act(x), second.act(x))
    for learner in (first, second):
        learner.learn_from(learner.predict(x, 0), gradient, 0)
    assert torch.equal(first.parameters, second.parameters)
