"""What acts between tasks, held to the numbers of FIRE's repository: FIRE, DASH, shrink and perturb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lop_sweeps.algorithms.dash import DASH
from lop_sweeps.algorithms.fire import FIRE, isometric, orthogonal
from lop_sweeps.algorithms.fresh_parameters import FreshParameters
from lop_sweeps.algorithms.intervention import Intervention
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.losses import slope
from tests.field.golden import PACKS, Golden, assert_final, needs_field

pytestmark = needs_field
OF_FIRE, OF_DASH, OF_MIXING = Golden("fire"), Golden("dash"), Golden("sp_boundary")


def close(found: Tensor, expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


def packed(make: Callable[[], Network], intervention: Intervention, pack: int) -> TorchLearner:
    return TorchLearner(make, [SGD()] * pack, [[intervention] * pack], range(pack), "cross_entropy", torch.float64)


@torch.no_grad()
def before_task(make: Callable[[], Network], intervention: Intervention, pack: int, source: Any = None) -> TorchLearner:
    """A pack of runs, of which the one in the middle has come to its next task."""
    learner = packed(make, intervention, pack)
    learner.source = source
    learner.interventions[0].before_task(pack // 2, 1)
    return learner


def test_fire_on_matrices_and_kernels() -> None:
    """Square, tall, wide, ill-conditioned, of low rank, large; convolutions."""
    for name in OF_FIRE.meta["names"]:
        weight = torch.from_numpy(OF_FIRE[f"in_{name}"])
        for iterations in OF_FIRE.meta["iterations"]:
            close(isometric(weight, iterations), OF_FIRE[f"out_{name}_it{iterations}"])


def test_fire_on_the_parts_of_a_fused_weight() -> None:
    """Queries, keys and values in one matrix are three matrices."""
    parts = torch.stack(torch.from_numpy(OF_FIRE["in_qkv"]).chunk(3))
    close(orthogonal(parts, 5).flatten(0, 1), OF_FIRE["out_qkv_it5"])


@pytest.mark.parametrize("pack", PACKS)
def test_fire_acts_on_every_weight_of_its_run_and_on_nothing_else(pack: int) -> None:
    def make() -> Network:
        return MLP(9, 4, [24, 6], norm="layer")

    before = before_task(make, FIRE(iterations=0), pack)
    after = before_task(make, FIRE(iterations=5), pack)
    for name in before.parameter_names:
        one, other = (learner.view(learner.parameters, name) for learner in (before, after))
        for run in range(pack):
            acted = run == pack // 2 and name in before.weight_names
            close(other[run], isometric(one[run], 5).numpy() if acted else one[run].numpy())


class OfDASH(Network):
    """The file's network: convolutions 3x3 and 2x2, the latter without bias; two fully connected layers."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("c1", "c2", "f1", "f2"):
            shape = OF_DASH[f"in_{name}.weight"].shape
            bias = f"in_{name}.bias" in OF_DASH.arrays
            layer = (
                nn.Linear(shape[1], shape[0], bias)
                if len(shape) == 2
                else nn.Conv2d(shape[1], shape[0], shape[2:], bias=bias)
            )
            self.add_module(name, layer)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        h = x.unflatten(-1, OF_DASH["x"].shape[2:])
        for name in ("c1", "c2"):
            h = torch.relu(self.get_submodule(name)(h))
        h = torch.relu(self.get_submodule("f1")(h.flatten(1)))
        return self.get_submodule("f2")(h), []

    def weights(self) -> tuple[str, ...]:
        return "c1.weight", "c2.weight", "f1.weight", "f2.weight"

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.from_numpy(OF_DASH[f"in_{name}"]))


class Chunk:
    """The file's chunk of data."""

    task = 1

    def task_data(self, run: int, samples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in zip(OF_DASH["x"], OF_DASH["y"], strict=True):
            yield torch.from_numpy(x).flatten(1), torch.from_numpy(y)

    def slope(self, output: Tensor, y: Tensor, run: int | None) -> Tensor:
        return slope("cross_entropy", output, y)


@pytest.mark.parametrize("pack", PACKS)
def test_dash(pack: int) -> None:
    options = DASH(OF_DASH.meta["dash_alpha"], OF_DASH.meta["dash_lambda"])
    learner = before_task(OfDASH, options, pack, Chunk())
    for name in learner.parameter_names:
        parameter = learner.view(learner.parameters, name)
        close(parameter[pack // 2], OF_DASH[f"out_{name}"])
        for run in set(range(pack)) - {pack // 2}:
            close(parameter[run], OF_DASH[f"in_{name}"])


class OfMixing(Network):
    """The file's network: affine, normalisation, affine; its initial parameters are those that it is mixed with."""

    def __init__(self) -> None:
        super().__init__()
        for key, value in OF_MIXING.arrays.items():
            if key.startswith("anchor_"):
                layer, _, name = key.removeprefix("anchor_").partition(".")
                if layer not in dict(self.named_children()):
                    self.add_module(layer, nn.Module())
                self.get_submodule(layer).register_parameter(name, nn.Parameter(torch.from_numpy(value.copy())))

    def weights(self) -> tuple[str, ...]:
        return ()

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        return


@torch.no_grad()
@pytest.mark.parametrize("pack", PACKS)
def test_mixing_with_initial_weights(pack: int) -> None:
    options = ShrinkAndPerturb(when="task", law="initial", shrink=OF_MIXING.meta["shrink_coef"])
    learner = packed(OfMixing, options, pack)
    for name in learner.parameter_names:
        learner.view(learner.parameters, name).copy_(torch.from_numpy(OF_MIXING[f"in_{name}"]))
    learner.interventions[0].before_task(pack // 2, 1)
    for name in learner.parameter_names:
        for run in range(pack):
            expected = OF_MIXING[f"{'out' if run == pack // 2 else 'in'}_{name}"]
            close(learner.view(learner.parameters, name)[run], expected)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", ["sp_fresh_sgd", "sp_fresh_adam"])
def test_mixing_with_fresh_weights_at_every_step(name: str, pack: int, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Golden(name)
    meta, pool = golden.meta, golden.parameters("fresh_")

    def drawn(self: FreshParameters, step: int) -> Tensor:
        row = [torch.from_numpy(pool[name][step % meta["pool"]]).flatten() for name in learner.parameter_names]
        return torch.cat(row).expand(pack, -1)

    monkeypatch.setattr(FreshParameters, "draw", drawn)
    optimizer = SGD(meta["lr"]) if meta["optimizer"] == "SGD" else Adam(meta["lr"], *meta["betas"], meta["eps"])
    options = ShrinkAndPerturb(law="fresh", shrink=meta["shrink"], perturb_scale=meta["perturb_scale"])
    learner = golden.learner(optimizer, [options], pack)
    losses = golden.replay(learner)
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-10)
    assert_final(golden, learner)
