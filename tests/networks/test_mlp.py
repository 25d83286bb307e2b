"""The fully connected network: forward pass and gradients, stacked and mapped over runs, dropout, unit graph."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.counter_random import uniforms
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner
from tests.tasks import GivenTask

CLOSE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}
MODULES: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "swish": nn.SiLU(),
    "identity": nn.Identity(),
    "gelu": nn.GELU(),
}


class MappedMLP(MLP):
    """As a user's network would be: one run at a time, mapped over the pack by `torch.vmap`."""

    stackable: ClassVar[bool] = False


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def initialized(network: MLP, seed: int = 0) -> MLP:
    network = network.double()
    network.initialize(lambda i: streams.generator(seed, "initial weights", i))
    return network


@pytest.mark.parametrize("activation", MODULES)
def test_forward_and_gradients_are_pytorchs(activation: str) -> None:
    ours = initialized(MLP(6, 3, [5, 4], activation))
    a, b, c = (nn.Linear(*sizes).double() for sizes in ((6, 5), (5, 4), (4, 3)))
    for mine, theirs in zip(ours.layers, (a, b, c), strict=True):
        with torch.no_grad():
            mine.bias.copy_(normal(*mine.bias.shape, seed=9))
        theirs.load_state_dict(mine.state_dict())
    x, f = normal(7, 6), MODULES[activation]
    output, hidden = ours(x)
    first = f(a(x))
    second = f(b(first))
    expected = c(second)
    for mine, theirs in zip([output, *hidden], [expected, first, second], strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)
    gradients = torch.autograd.grad(output.square().sum(), list(ours.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), [*a.parameters(), *b.parameters(), *c.parameters()])
    for mine, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(mine, other, **CLOSE)


def test_no_hidden_layer_is_a_linear_network() -> None:
    network = initialized(Linear(6, 3))
    x = normal(4, 6)
    output, hidden = network(x)
    torch.testing.assert_close(output, x @ network.layers[0].weight.T + network.layers[0].bias, **CLOSE)
    assert hidden == []
    assert network.unit_graph() == ()
    assert network.weights() == ("layers.0.weight",)
    assert network.draws(1) == ()


@pytest.mark.parametrize(
    ("sizes", "hidden", "weights", "everything"),
    [
        ((784, 10), [100] * 3, 99_400, 99_710),
        ((784, 10), [1000] * 3, 2_794_000, 2_797_010),
        ((784, 10), [2000] * 3, 9_588_000, 9_594_010),
        ((20, 1), [5], 105, 111),
        ((111, 1), [256, 256], 94_208, 94_721),
    ],
)
def test_number_of_parameters_of_the_papers_networks(
    sizes: tuple[int, int], hidden: list[int], weights: int, everything: int
) -> None:
    with torch.device("meta"):
        network = MLP(*sizes, hidden)
    named = dict(network.named_parameters())
    assert sum(named[name].numel() for name in network.weights()) == weights
    assert sum(parameter.numel() for parameter in named.values()) == everything


@pytest.mark.parametrize("norm_after", [False, True])
@pytest.mark.parametrize("norm", ["none", "layer", "batch", "online"])
def test_unit_graph_names_parameters_that_exist_and_fit(norm: str, norm_after: bool) -> None:
    network = MLP(6, 3, [5, 4], norm=norm, norm_after=norm_after)
    named = dict(network.named_parameters()) | dict(network.named_buffers())
    sizes = [6, 5, 4, 3]
    graph = network.unit_graph()
    assert [layer.units for layer in graph] == [5, 4]
    mentioned = set()
    for i, layer in enumerate(graph):
        assert named[layer.weight].shape == (layer.units, layer.fan_in) == (sizes[i + 1], sizes[i])
        assert named[layer.bias].shape == (layer.units,)
        assert named[layer.next_weight].shape == (sizes[i + 2], layer.units)
        assert named[layer.next_bias].shape == (sizes[i + 2],)
        assert layer.norm_after == (norm_after and norm != "none")
        for name, _ in layer.norm:
            assert named[name].shape == (layer.units,)
        mentioned |= {layer.weight, layer.bias, layer.next_weight, layer.next_bias, *(name for name, _ in layer.norm)}
    assert mentioned == set(named)  # nothing of a unit is forgotten
    assert network.weights() == tuple(f"layers.{i}.weight" for i in range(3))


def test_norm_is_before_or_after_the_activation() -> None:
    x = normal(8, 6)
    for after in (False, True):
        network = initialized(MLP(6, 3, [5], "tanh", norm="layer", norm_after=after))
        z = x @ network.layers[0].weight.T
        h = F.layer_norm(torch.tanh(z), (5,)) if after else torch.tanh(F.layer_norm(z, (5,)))
        output, hidden = network(x)
        torch.testing.assert_close(output, h @ network.layers[1].weight.T, **CLOSE)
        torch.testing.assert_close(hidden[0], torch.tanh(z) if after else h, **CLOSE)  # activations, not what follows


def test_dropout_scales_what_it_keeps_and_leaves_reported_activations_alone() -> None:
    network = initialized(MLP(6, 3, [50, 40], dropout=0.3))
    x = normal(4, 6)
    draws = [torch.from_numpy(np.random.default_rng(i).random(shape)) for i, shape in enumerate(network.draws(4))]
    assert [tuple(draw.shape) for draw in draws] == [(4, 50), (4, 40)]
    output, hidden = network(x, draws)
    h = torch.relu(x @ network.layers[0].weight.T)
    torch.testing.assert_close(hidden[0], h, **CLOSE)
    kept = h * (draws[0] >= 0.3) / 0.7
    h = torch.relu(kept @ network.layers[1].weight.T)
    torch.testing.assert_close(hidden[1], h, **CLOSE)
    kept = h * (draws[1] >= 0.3) / 0.7
    torch.testing.assert_close(output, kept @ network.layers[2].weight.T, **CLOSE)
    evaluated, _ = network(x)
    torch.testing.assert_close(evaluated, initialized(MLP(6, 3, [50, 40]))(x)[0], **CLOSE)


def test_dropout_of_a_uniform_at_its_edge() -> None:
    """Uniforms are on [0, 1): 0.25 is kept at dropout 0.25, so that exactly that share is dropped."""
    network = initialized(MLP(2, 1, [4], "identity", dropout=0.25))
    with torch.no_grad():
        network.layers[0].bias.fill_(1.0)
        network.layers[1].weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    edges = torch.tensor([[0.0, 0.25 - 2.0**-53, 0.25, 1.0 - 2.0**-53]], dtype=torch.float64)
    output, _ = network(torch.zeros(1, 2, dtype=torch.float64), [edges])
    assert output.item() == pytest.approx(1100 / 0.75)


def learner(
    network: type[MLP], seeds: list[int], options: dict[str, Any], dtype: torch.dtype = torch.float64
) -> TorchLearner:
    # A bias before a batch norm has no gradient but rounding errors, which a small eps would blow up.
    optimizers = [Adam(0.01 * (i + 1), eps=1e-4) for i in range(len(seeds))]
    cbp = [ContinualBackprop(0.05, 5, utility="contribution") for _ in seeds]
    interventions = [cbp] if options.get("replace", True) else []
    options = {key: value for key, value in options.items() if key != "replace"}
    return TorchLearner(
        lambda: network(6, 3, [8, 7], **options), optimizers, interventions, seeds, "cross_entropy", dtype
    )


def data(step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng([step, seed])
    return torch.from_numpy(generator.normal(size=(batch, 6))), torch.from_numpy(generator.integers(0, 3, batch))


def train(made: TorchLearner, steps: int, batch: int) -> Tensor:
    losses = []
    for step in range(steps):
        if step % 20 == 0:
            made.plan(step, 20)
        pairs = [data(step, seed, batch) for seed in made.seeds]
        x, y = torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
        losses.append(made.learn(x, y, step)[0])
    return torch.stack(losses)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.2},
    "layer": {"norm": "layer"},
    "layer_after": {"norm": "layer", "norm_after": True},
    "batch": {"norm": "batch"},
    "batch_dropout": {"norm": "batch", "norm_after": True, "dropout": 0.1, "activation": "tanh"},
    "online": {"norm": "online"},
}


def assert_same_state(one: TorchLearner, other: TorchLearner, runs: list[int] | None = None) -> None:
    state = other.state()
    for name, value in one.state().items():
        expected = state[name] if runs is None else state[name][runs]
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "online"])
def test_mapped_over_runs_equals_stacked_over_runs(variant: str) -> None:
    """`stackable = False` sends a network through torch.vmap; buffers and replacements must agree, too."""
    stacked, mapped = (learner(kind, [3, 8, 5], VARIANTS[variant]) for kind in (MLP, MappedMLP))
    torch.testing.assert_close(train(stacked, 40, 4), train(mapped, 40, 4), rtol=1e-9, atol=1e-10)
    assert_same_state(stacked, mapped)
    replaced = [layer.replaced for layer in stacked.interventions[0].layers]  # type: ignore[attr-defined]
    assert all(bool(count.all()) for count in replaced)  # the comparison included replacements
    tasks = [GivenTask(*(part.numpy() for part in data(99, seed, 5))) for seed in stacked.seeds]
    for a, b in zip(stacked.probe(tasks, 5), mapped.probe(tasks, 5), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_online_norm_refuses_to_be_mapped() -> None:
    """Its backward pass has state, which torch.vmap does not see; alone, and stacked, such a network works."""
    train(learner(MappedMLP, [3], VARIANTS["online"]), 1, 1)
    with pytest.raises(RuntimeError, match="vmap"):
        train(learner(MappedMLP, [3, 8], VARIANTS["online"]), 1, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stacked_over_runs_equals_each_run_alone(variant: str) -> None:
    batch = 1 if variant == "online" else 4
    together = learner(MLP, [3, 8], VARIANTS[variant])
    losses = train(together, 40, batch)
    for run, seed in enumerate(together.seeds):
        alone = learner(MLP, [seed], VARIANTS[variant])
        if run == 1:  # the second run has its own step size
            second = Adam(0.02, eps=1e-4)
            alone.optimizer = second.pack([second], alone.parameters, resets_units=True)
        torch.testing.assert_close(train(alone, 40, batch)[:, 0], losses[:, run], rtol=1e-9, atol=1e-10)
        assert_same_state(alone, together, [run])


def test_probe_neither_drops_nor_changes_anything() -> None:
    made = learner(MLP, [1, 2], {"norm": "batch", "dropout": 0.5})
    train(made, 10, 4)
    before = {name: value.clone() for name, value in made.state().items()}
    x = normal(2, 9, 6)
    tasks = [GivenTask(one.numpy(), np.zeros(9, np.int64)) for one in x]
    first = made.probe(tasks, 9)
    assert all(torch.equal(value, before[name]) for name, value in made.state().items())
    assert all(torch.equal(a, b) for a, b in zip(first, made.probe(tasks, 9), strict=True))
    twin = learner(MLP, [1, 2], {"norm": "batch", "dropout": 0.5})
    assert torch.equal(train(twin, 40, 4)[20:], _continued(made, 20, 40))


def _continued(made: TorchLearner, start: int, stop: int) -> Tensor:
    """Steps 10 ... start - 1 unrecorded, then the losses of start ... stop - 1."""
    losses = []
    for step in range(10, stop):
        if step % 20 == 0:
            made.plan(step, 20)
        if step == 10:
            made.network.train()
        pairs = [data(step, seed, 4) for seed in made.seeds]
        loss, _ = made.learn(torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs]), step)
        losses.append(loss)
    return torch.stack(losses[start - 10 :])


def test_dropout_masks_come_from_the_runs_own_stream() -> None:
    """The mask of a run depends on its seed and the step, not on the pack; layers take consecutive draws."""
    options = {"dropout": 0.4, "replace": False}
    for step in (0, 123):
        draws = learner(MLP, [7, 4], options)._draw(step, 3)
        assert draws is not None
        assert [tuple(part.shape) for part in draws] == [(2, 3, 8), (2, 3, 7)]
        for run, seed in enumerate([7, 4]):
            expected = np.empty(3 * 8 + 3 * 7)
            uniforms(streams.counter_key(seed, "dropout"), step, 0, expected)
            np.testing.assert_array_equal(torch.cat([part[run].flatten() for part in draws]), expected)
    assert learner(MLP, [7], {"replace": False})._draw(0, 3) is None


def test_dropout_drops_the_wanted_share() -> None:
    made = TorchLearner(lambda: MLP(6, 3, [200, 200], dropout=0.1), [Adam()], [], [0], "cross_entropy", torch.float32)
    dropped = [part < 0.1 for step in range(50) for part in made._draw(step, 5) or ()]
    share = torch.stack(dropped).double().mean()
    assert abs(float(share) - 0.1) < 4 * (0.09 / (50 * 2 * 1000)) ** 0.5


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"hidden": [10, 0]}, "hidden[1]"),
        ({"hidden": 10}, "hidden"),
        ({"hidden": [1.5]}, "hidden[0]"),
        ({"activation": "rleu"}, "activation"),
        ({"init": "orthogonal"}, "init"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"norm": "group"}, "norm"),
        ({"norm_after": 1}, "norm_after"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MLP(6, 3, **options)
    assert caught.value.key == key


def test_normalisations_refuse_batch_sizes_they_cannot_learn_from() -> None:
    MLP(6, 3, [4], norm="online").check(1)
    MLP(6, 3, [4], norm="batch").check(2)
    MLP(6, 3, [4], norm="layer").check(1)
    with pytest.raises(ConfigError, match="batch_size = 1"):
        MLP(6, 3, [4], norm="online").check(2)
    with pytest.raises(ConfigError, match="online"):
        MLP(6, 3, [4], norm="batch").check(1)
